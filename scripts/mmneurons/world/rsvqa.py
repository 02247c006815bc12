"""Land seen from above, in the file formats of RSVQA's high-resolution part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mmneurons.world import grammar
from mmneurons.world.canvas import with_grain
from mmneurons.world.grammar import LAND_COVER
from mmneurons.world.writing import check_number, choose, fresh_folder, picture_rng

SPLITS = ("train", "val", "test")
FOLDER = "Data"
SIZE = 128
CELL = 32
QUESTIONS = {"presence": 2, "count": 2, "comp": 2, "area": 1}
"""How many questions of each type are kept of a picture; a pixel is one square metre."""

# Width and height of a footprint in metres.
_LOTS = {
    "residential building": ((12, 10),),
    "commercial building": ((22, 18),),
    "water area": ((20, 20), (20, 10), (10, 10)),
    "grass area": ((20, 20), (20, 10), (10, 10)),
    "parking": ((20, 20), (20, 10)),
    "tree": ((12, 12),),
}
_BUILDINGS = ("residential building", "commercial building")
_WITH_AREA = ("water area", "grass area", "parking")


@dataclass(frozen=True)
class Land:
    """A picture, how many of each of LAND_COVER it shows, and the ground covered in m2."""

    picture: Image.Image
    counts: Mapping[str, int]
    areas: Mapping[str, int]


def write_rsvqa(folder: str | Path, n: int, seed: int) -> None:
    """Draw `n` pictures a split under `folder`, as RSVQA-HR unpacks.

    `USGS_split_{split}_{questions,answers,images}.json`, and `Data/{id}.tif` with the same as
    `Data/{id}.png`. As published, every file lists all splits, an entry stands at the place of its
    id, and those of other splits are bare and not `active`. What stood there before is replaced
    when everything is written.
    """
    check_number(n, 9_999_999)
    tables: dict[str, list[tuple[str, dict]]] = {"images": [], "questions": [], "answers": []}
    with fresh_folder(folder) as partial:
        (partial / FOLDER).mkdir()
        for number_of_split, split in enumerate(SPLITS):
            for number in range(n):
                rng = picture_rng(seed, "rsvqa", number, number_of_split)
                land = draw_rsvqa(rng)
                image_id = len(tables["images"])
                for ending in ("tif", "png"):
                    land.picture.save(partial / FOLDER / f"{image_id}.{ending}")
                _list_questions(tables, split, image_id, questions_about(land, rng))
        for split in SPLITS:
            for name, entries in tables.items():
                kept = [
                    entry if of == split else {"id": entry["id"], "active": False}
                    for of, entry in entries
                ]
                text = json.dumps({name: kept})
                (partial / f"USGS_split_{split}_{name}.json").write_text(text, encoding="utf-8")


def draw_rsvqa(rng: np.random.Generator) -> Land:
    """One picture, SIZE pixels square: lots on a grid of cells, roads between them."""
    ground = np.array((196, 180, 140)) + rng.integers(-14, 15, 3)
    picture = Image.new("RGB", (SIZE, SIZE), tuple(int(v) for v in ground))
    draw = ImageDraw.Draw(picture)
    counts = dict.fromkeys(LAND_COVER, 0)
    areas = dict.fromkeys(_WITH_AREA, 0)
    counts["road"] = int(rng.integers(0, 3))
    for line in rng.permutation(6)[: counts["road"]]:
        _road(draw, int(line))
    cells = [int(cell) for cell in rng.permutation((SIZE // CELL) ** 2)]
    for name in choose(rng, list(_LOTS), int(rng.integers(2, 5))):
        for _ in range(int(rng.integers(1, 5))):
            if not cells:
                break
            width, height = _LOTS[name][rng.integers(len(_LOTS[name]))]
            _lot(draw, name, cells.pop(), width, height)
            counts[name] += 1
            if name in areas:
                areas[name] += width * height
    counts["building"] = sum(counts[name] for name in _BUILDINGS)
    return Land(with_grain(picture, rng, 6), counts, areas)


def questions_about(land: Land, rng: np.random.Generator) -> list[grammar.Question]:
    """Some questions of every type on three kinds of land cover, one of them not there if any.

    Without the last, most questions about presence would be answered by one word.
    """
    there = [name for name, count in land.counts.items() if count]
    absent = [name for name, count in land.counts.items() if not count]
    names = choose(rng, there, 2) + choose(rng, absent, 1)
    asked = grammar.rsvqa_questions(
        {name: land.counts[name] for name in names},
        {name: land.areas[name] for name in names if name in land.areas},
    )
    return [
        question
        for kind, n in QUESTIONS.items()
        for question in choose(rng, [q for q in asked if q.kind == kind], n)
    ]


def _list_questions(tables: dict, split: str, image_id: int, asked: list) -> None:
    first = len(tables["questions"])
    for place, question in enumerate(asked, start=first):
        shared = {"people_id": 0, "active": True}
        entry = {"id": place, "img_id": image_id, "type": question.kind}
        entry |= {"question": question.question, "answers_ids": [place]}
        tables["questions"].append((split, entry | shared))
        answer = {"id": place, "question_id": place, "answer": question.answer}
        tables["answers"].append((split, answer | shared))
    image = {
        "id": image_id,
        "people_id": 0,
        "original_name": f"{image_id}.tif",
        "questions_ids": list(range(first, first + len(asked))),
        "active": True,
    }
    tables["images"].append((split, image))


def _road(draw: ImageDraw.ImageDraw, line: int) -> None:
    """One of three roads from side to side or of three from top to bottom, between the cells."""
    place = (line % 3 + 1) * CELL
    across = line < 3
    asphalt, paint = (84, 84, 90), (236, 226, 160)
    for half, colour in ((4, asphalt), (0, paint)):
        low, high = place - half, place + half
        box = (0, low, SIZE, high) if across else (low, 0, high, SIZE)
        draw.rectangle(box, fill=colour)


def _lot(
    draw: ImageDraw.ImageDraw,
    name: str,
    cell: int,
    width: int,
    height: int,
) -> None:
    rows, columns = divmod(cell, SIZE // CELL)
    left, top = columns * CELL + (CELL - width) // 2, rows * CELL + (CELL - height) // 2
    box = (left, top, left + width - 1, top + height - 1)
    shadow = tuple(side + 2 for side in box)
    if name == "residential building":
        draw.rectangle(shadow, fill=(70, 60, 50))
        draw.rectangle(box, fill=(190, 70, 46))
        draw.rectangle((left, top, left + width - 1, top + height // 2), fill=(224, 104, 70))
    elif name == "commercial building":
        draw.rectangle(shadow, fill=(70, 70, 70))
        draw.rectangle(box, fill=(240, 240, 244))
        for x in (left + 4, left + 13):
            draw.rectangle((x, top + 5, x + 4, top + 9), fill=(130, 140, 150))
    elif name == "water area":
        draw.rectangle(box, fill=(40, 110, 200), outline=(150, 200, 230))
    elif name == "grass area":
        draw.rectangle(box, fill=(130, 210, 80), outline=(96, 170, 60))
    elif name == "parking":
        draw.rectangle(box, fill=(50, 50, 54))
        for x in range(left + 2, left + width, 5):
            draw.line((x, top + 1, x, top + height - 2), fill=(240, 240, 240))
    else:
        draw.ellipse(shadow, fill=(80, 80, 60))
        draw.ellipse(box, fill=(20, 90, 40))
        draw.ellipse((left + 3, top + 2, left + 7, top + 6), fill=(50, 130, 60))
