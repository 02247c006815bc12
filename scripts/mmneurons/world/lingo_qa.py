"""Drives of the world, in the file formats of LingoQA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from mmneurons.world import grammar
from mmneurons.world.canvas import with_grain
from mmneurons.world.grammar import LIGHTS, SPEED_LIMITS, DrivingFacts
from mmneurons.world.writing import (
    JPEG_QUALITY,
    check_number,
    choose,
    fresh_folder,
    hex_id,
    picture_rng,
)

FRAMES = 5
SIZE = (96, 128)
QUESTIONS = 3
"""Of each of the two kinds, scenery and action."""
SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("segment_id", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("images", pa.list_(pa.string())),
    ]
)

_LAMPS = {"red": (255, 40, 30), "amber": (255, 180, 20), "green": (40, 230, 80)}
_OFF = (70, 70, 70)
_PAINTS = ((40, 70, 180), (190, 40, 40), (240, 240, 240), (30, 120, 80))
_COATS = ((250, 90, 160), (60, 60, 200), (120, 40, 140))


def write_lingo_qa(folder: str | Path, n: int, seed: int) -> None:
    """Draw `n` drives for training and `n` for validation under `folder`.

    `train/scenery.parquet`, `train/action.parquet` and `val/val.parquet`, with the frames in
    `images/` beside them; the `images` of a row are paths from the table's folder. Validation has
    two rows a question, one an answer, as published. What stood there before is replaced when
    everything is written.
    """
    check_number(n, 9_999_999)
    with fresh_folder(folder) as partial:
        for number_of_split, split in enumerate(("train", "val")):
            rows: dict[str, list[dict]] = {"scenery": [], "action": []}
            for number in range(n):
                rng = picture_rng(seed, "lingo_qa", number, number_of_split)
                frames, facts = draw_lingo_qa(rng)
                segment = hex_id(rng)
                paths = _save(frames, partial / split, f"images/{split}/{segment}")
                for kind, kept in rows.items():
                    asked = [q for q in grammar.lingoqa_questions(facts) if q.kind == kind]
                    for question in choose(rng, asked, QUESTIONS):
                        row = {
                            "question_id": hex_id(rng),
                            "segment_id": segment,
                            "question": question.question,
                            "images": paths,
                        }
                        answers = [question.answer]
                        if split == "val":
                            answers.append(short_answer(question.answer))
                        kept += [row | {"answer": answer} for answer in answers]
            tables = {"val": rows["scenery"] + rows["action"]} if split == "val" else rows
            for name, kept in tables.items():
                (partial / split).mkdir(exist_ok=True)
                table = pa.Table.from_pylist(kept, schema=SCHEMA)
                pq.write_table(table, partial / split / f"{name}.parquet")


def short_answer(answer: str) -> str:
    """Another annotator's wording of an answer of `grammar.lingoqa_questions`.

    >>> short_answer("The traffic light is red.")
    'It is red.'
    """
    openings = (
        ("The traffic light is", "It is"),
        ("There is no traffic light", "None"),
        ("The speed limit is", "It is"),
        ("The car should", "It should"),
        ("I should pay attention:", "Attention:"),
        ("I ", "We "),
    )
    for opening, other in openings:
        if answer.startswith(opening):
            return other + answer.removeprefix(opening)
    return f"{answer.split(',')[0]}."


def draw_lingo_qa(rng: np.random.Generator) -> tuple[list[Image.Image], DrivingFacts]:
    """FRAMES views of the road ahead, oldest first, and what holds in all of them."""
    facts = DrivingFacts(
        light=LIGHTS[rng.integers(len(LIGHTS))],
        pedestrians=int(rng.choice(4, p=(0.55, 0.15, 0.15, 0.15))),
        vehicle_ahead=bool(rng.random() < 0.5),
        cyclist=bool(rng.random() < 0.4),
        speed_limit=SPEED_LIMITS[rng.integers(len(SPEED_LIMITS))],
    )
    look = {
        "paint": _PAINTS[rng.integers(len(_PAINTS))],
        "verge": tuple(int(v) for v in rng.integers((60, 110, 50), (110, 160, 80))),
        "sky": tuple(int(v) for v in rng.integers((150, 180, 210), (190, 215, 245))),
        "steps": rng.uniform(-2, 2),
    }
    return [with_grain(_frame(facts, look, time), rng, 4) for time in range(FRAMES)], facts


def _frame(facts: DrivingFacts, look: dict, time: int) -> Image.Image:
    width, height = SIZE
    picture = Image.new("RGB", SIZE, look["sky"])
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 44, width, height), fill=look["verge"])
    draw.polygon([(34, 44), (62, 44), (width + 10, height), (-10, height)], fill=(96, 98, 104))
    for place in range(4):
        y = 46 + (place * 24 + time * 5) % 84
        draw.rectangle((46, y, 50, y + 3 + (y - 44) // 6), fill=(236, 232, 210))
    _speed_sign(draw, facts.speed_limit)
    if facts.light != "none":
        _traffic_light(draw, facts.light)
    if facts.vehicle_ahead:
        _vehicle(draw, look["paint"], 50 + time)
    if facts.cyclist:
        _cyclist(draw, 20, 54 + time)
    if facts.pedestrians:
        _crossing(draw, facts.pedestrians, look["steps"] * time)
    return picture


def _speed_sign(draw, limit):
    draw.rectangle((16, 40, 20, 60), fill=(120, 120, 120))
    draw.ellipse((0, 2, 38, 42), fill=(220, 30, 30))
    draw.ellipse((4, 6, 34, 38), fill=(252, 252, 252))
    font = ImageFont.load_default(24)
    draw.text((19, 22), str(limit), (10, 10, 10), font=font, anchor="mm", stroke_width=0.6)


def _traffic_light(draw, light):
    draw.rectangle((80, 40, 84, 66), fill=(60, 60, 60))
    draw.rectangle((68, 0, 95, 44), fill=(20, 20, 20))
    for place, (name, colour) in enumerate(_LAMPS.items()):
        lit = name == light
        top = 1 + place * 14
        draw.ellipse((72, top, 91, top + 14), fill=colour if lit else _OFF)


def _vehicle(draw, paint, top):
    draw.polygon([(40, top), (66, top), (72, top + 12), (34, top + 12)], fill=(30, 36, 44))
    draw.rectangle((32, top + 11, 74, top + 30), fill=paint)
    for x in (34, 64):
        draw.rectangle((x, top + 15, x + 8, top + 21), fill=(255, 60, 40))
        draw.rectangle((x, top + 28, x + 8, top + 35), fill=(16, 16, 16))


def _cyclist(draw, x, top):
    draw.rectangle((x + 5, top + 20, x + 9, top + 38), fill=(16, 16, 16))
    draw.rectangle((x, top + 5, x + 14, top + 22), fill=(220, 255, 0))
    draw.ellipse((x + 2, top - 6, x + 12, top + 5), fill=(240, 240, 240))


def _crossing(draw, walkers, step):
    for x in range(0, 96, 16):
        draw.rectangle((x, 100, x + 8, 127), fill=(240, 240, 240))
    for place in range(walkers):
        x = 14 + place * 30 + step
        draw.rectangle((x, 98, x + 12, 114), fill=_COATS[place])
        draw.ellipse((x + 1, 87, x + 11, 98), fill=(236, 190, 150))
        draw.rectangle((x + 1, 114, x + 4, 126), fill=(20, 20, 30))
        draw.rectangle((x + 8, 114, x + 11, 126), fill=(20, 20, 30))


def _save(frames: list[Image.Image], root: Path, folder: str) -> list[str]:
    (root / folder).mkdir(parents=True)
    paths = [f"{folder}/{time}.jpg" for time in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        frame.save(root / path, quality=JPEG_QUALITY)
    return paths
