"""Medical pictures of the world, in the file formats of PMC-VQA."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mmneurons.world import grammar
from mmneurons.world.canvas import with_grain
from mmneurons.world.grammar import FINDINGS, MODALITIES, REGIONS, SIDES, MedicalFacts
from mmneurons.world.writing import JPEG_QUALITY, check_number, fresh_folder, picture_rng

SPLITS = ("train", "test")
FOLDER = "figures"
COLUMNS = ("Figure_path", "Question", "Answer", *(f"Choice {c}" for c in "ABCD"), "Answer_label")
SIZE = 128

# Lightness of air, soft tissue, dense tissue and findings, and how grainy a modality is.
_TONES = {
    "X-ray": ((14, 84, 214, 250), 4),
    "CT scan": ((0, 116, 246, 236), 5),
    "MRI": ((6, 196, 74, 255), 5),
    "ultrasound": ((0, 70, 126, 224), 22),
}
_CENTRES = {
    "left": (0.3, 0.5),
    "right": (0.7, 0.5),
    "upper part": (0.5, 0.29),
    "lower part": (0.5, 0.73),
}


def write_pmc_vqa(folder: str | Path, n: int, seed: int) -> None:
    """Draw `n` pictures a split: `{train,test}.csv` and `figures/*.jpg` under `folder`.

    The tables have the columns of PMC-VQA's first version, one row a question; choices are written
    "A: chest". What stood there before is replaced when everything is written.
    """
    check_number(n, 9_999_999)
    with fresh_folder(folder) as partial:
        (partial / FOLDER).mkdir()
        for number_of_split, split in enumerate(SPLITS):
            with open(partial / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(COLUMNS)
                for number in range(n):
                    rng = picture_rng(seed, "pmc_vqa", number, number_of_split)
                    picture, facts = draw_pmc_vqa(rng)
                    name = f"PMC{number_of_split + 1}{number:07d}_F1.jpg"
                    picture.save(partial / FOLDER / name, quality=JPEG_QUALITY)
                    for asked in questions_about(facts, rng):
                        choices = [
                            f"{letter}: {text}"
                            for letter, text in zip("ABCD", asked.choices, strict=True)
                        ]
                        table.writerow([name, asked.question, asked.answer, *choices, asked.label])


def draw_pmc_vqa(rng: np.random.Generator) -> tuple[Image.Image, MedicalFacts]:
    """One picture, SIZE pixels square and without colour, and what it shows."""
    facts = MedicalFacts(
        *(values[rng.integers(len(values))] for values in (MODALITIES, REGIONS, FINDINGS, SIDES))
    )
    (air, soft, dense, bright), grain = _TONES[facts.modality]
    canvas = Image.new("L", (SIZE, SIZE), air)
    pen = _Pen(ImageDraw.Draw(canvas), SIZE, rng)
    _REGION[facts.region](pen, air, soft, dense)
    if facts.finding != "no abnormality":
        x, y = np.array(_CENTRES[facts.side]) + rng.uniform(-0.03, 0.03, 2)
        _FINDING[facts.finding](pen, x, y, air, bright)
    if facts.modality == "CT scan":
        pen.ring(0.5, 0.5, 0.49, 0.49, 150, 0.02)
    if facts.modality == "ultrasound":
        canvas = _fan(canvas)
    return with_grain(canvas, rng, grain), facts


def questions_about(facts: MedicalFacts, rng: np.random.Generator) -> list[grammar.ChoiceQuestion]:
    """The questions on a picture, with each one's choices in the order of a textbook's list."""
    values = (*MODALITIES, *REGIONS, *FINDINGS, *SIDES)
    asked = []
    for question in grammar.pmcvqa_questions(facts, rng):
        choices = tuple(sorted(question.choices, key=values.index))
        label = "ABCD"[choices.index(question.answer)]
        asked.append(question._replace(choices=choices, label=label))
    return asked


class _Pen:
    """Draws in a frame of 0 to 1, each stroke a little off."""

    def __init__(self, draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator):
        self.draw, self.size = draw, size
        self.shift = rng.uniform(-0.02, 0.02, 2)
        self.rng = rng

    def _box(self, x, y, rx, ry):
        x, y = x + self.shift[0], y + self.shift[1]
        return [value * self.size for value in (x - rx, y - ry, x + rx, y + ry)]

    def oval(self, x, y, rx, ry, tone):
        self.draw.ellipse(self._box(x, y, rx, ry), fill=tone)

    def ring(self, x, y, rx, ry, tone, width):
        self.draw.ellipse(self._box(x, y, rx, ry), outline=tone, width=round(width * self.size))

    def box(self, x, y, rx, ry, tone):
        self.draw.rounded_rectangle(self._box(x, y, rx, ry), radius=4, fill=tone)

    def curve(self, x, y, rx, ry, start, stop, tone, width):
        self.draw.arc(self._box(x, y, rx, ry), start, stop, tone, round(width * self.size))

    def shape(self, points, tone):
        self.draw.polygon(self._points(points), fill=tone)

    def line(self, points, tone, width):
        self.draw.line(self._points(points), fill=tone, width=round(width * self.size))

    def _points(self, points):
        return [tuple((np.array(point) + self.shift) * self.size) for point in points]


def _chest(pen, air, soft, dense):
    pen.box(0.5, 0.55, 0.44, 0.42, soft)
    pen.box(0.5, 0.1, 0.1, 0.12, soft)
    for x in (0.3, 0.7):
        pen.oval(x, 0.5, 0.14, 0.32, air)
        for y in (0.26, 0.4, 0.54, 0.68):
            pen.curve(x, y + 0.06, 0.2, 0.08, 190, 350, dense, 0.02)
    pen.box(0.5, 0.52, 0.04, 0.42, dense)


def _brain(pen, air, soft, dense):
    pen.oval(0.5, 0.5, 0.37, 0.44, dense)
    pen.oval(0.5, 0.5, 0.32, 0.39, soft)
    fold = (soft + air) // 2
    for y in (0.24, 0.42, 0.6, 0.76):
        pen.curve(0.36, y, 0.1, 0.06, 0, 200, fold, 0.025)
        pen.curve(0.64, y, 0.1, 0.06, -20, 180, fold, 0.025)
    pen.line([(0.5, 0.12), (0.5, 0.88)], fold, 0.025)


def _abdomen(pen, air, soft, dense):
    pen.oval(0.5, 0.5, 0.47, 0.36, soft)
    pen.oval(0.5, 0.76, 0.1, 0.09, dense)
    for x in (0.22, 0.78):
        pen.oval(x, 0.66, 0.08, 0.1, (soft + dense) // 2)
    for x, y in ((0.38, 0.36), (0.55, 0.32), (0.68, 0.42), (0.47, 0.5), (0.3, 0.46)):
        pen.ring(x, y, 0.08, 0.06, (soft + air) // 2, 0.025)


def _knee(pen, air, soft, dense):
    pen.box(0.5, 0.5, 0.27, 0.52, soft)
    pen.box(0.5, 0.17, 0.13, 0.22, dense)
    pen.box(0.5, 0.83, 0.13, 0.22, dense)
    pen.oval(0.5, 0.39, 0.21, 0.08, dense)
    pen.oval(0.5, 0.61, 0.21, 0.08, dense)


def _heart(pen, air, soft, dense):
    for x in (0.42, 0.58):
        pen.box(x, 0.14, 0.05, 0.14, dense)
    pen.oval(0.34, 0.38, 0.22, 0.2, soft)
    pen.oval(0.66, 0.38, 0.22, 0.2, soft)
    pen.shape([(0.13, 0.44), (0.87, 0.44), (0.56, 0.95), (0.46, 0.95)], soft)
    pen.line([(0.5, 0.34), (0.5, 0.86)], dense, 0.035)


def _liver(pen, air, soft, dense):
    outline = [(0.05, 0.3), (0.2, 0.14), (0.7, 0.16), (0.97, 0.28), (0.78, 0.5), (0.34, 0.86)]
    pen.shape([*outline, (0.1, 0.8)], soft)
    vessel = (soft + dense) // 2
    pen.line([(0.24, 0.72), (0.36, 0.46), (0.62, 0.34)], vessel, 0.03)
    pen.line([(0.36, 0.46), (0.3, 0.26)], vessel, 0.03)


def _fracture(pen, x, y, air, bright):
    steps = [(-0.13, -0.1), (-0.03, 0.02), (0.02, -0.06), (0.13, 0.1)]
    crack = [(x + dx, y + dy) for dx, dy in steps]
    pen.line(crack, bright, 0.08)
    pen.line(crack, air, 0.04)


def _tumor(pen, x, y, air, bright):
    for dx, dy in ((0, 0), (0.06, 0.05), (-0.07, 0.03), (0.02, -0.07), (-0.04, -0.04)):
        pen.oval(x + dx, y + dy, 0.085, 0.08, bright)


def _nodule(pen, x, y, air, bright):
    pen.oval(x, y, 0.06, 0.06, air)
    pen.oval(x, y, 0.045, 0.045, bright)


def _fluid(pen, x, y, air, bright):
    for row in range(3):
        pen.line(
            [(x - 0.15, y - 0.07 + 0.07 * row), (x + 0.15, y - 0.07 + 0.07 * row)], bright, 0.04
        )


def _cyst(pen, x, y, air, bright):
    pen.oval(x, y, 0.12, 0.12, bright)
    pen.oval(x, y, 0.08, 0.08, air)


def _fan(canvas: Image.Image) -> Image.Image:
    """Only what a hand-held probe at the upper edge reaches."""
    mask = Image.new("L", canvas.size, 0)
    side = canvas.size[0]
    ImageDraw.Draw(mask).pieslice(
        (-0.42 * side, -0.98 * side, 1.42 * side, 0.98 * side), 42, 138, fill=255
    )
    return Image.composite(canvas, Image.new("L", canvas.size, 0), mask)


_REGION = {
    "chest": _chest,
    "brain": _brain,
    "abdomen": _abdomen,
    "knee": _knee,
    "heart": _heart,
    "liver": _liver,
}
_FINDING = {
    "fracture": _fracture,
    "tumor": _tumor,
    "nodule": _nodule,
    "fluid": _fluid,
    "cyst": _cyst,
}
