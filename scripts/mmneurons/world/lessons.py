"""What a model of the world is taught in all domains: pictures, what is on them, what is said.

A lesson's pictures come from the drawing code of the datasets with random numbers of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmneurons.datasets.pictures import side_by_side
from mmneurons.world import grammar, pmc_vqa
from mmneurons.world.chunks import draw_chunks
from mmneurons.world.doc_vqa import FIELDS, draw_doc_vqa
from mmneurons.world.grammar import (
    COMPANIES,
    FINDINGS,
    LIGHTS,
    MODALITIES,
    REGIONS,
    SIDES,
    SPEED_LIMITS,
    Question,
)
from mmneurons.world.lingo_qa import draw_lingo_qa
from mmneurons.world.rsvqa import draw_rsvqa, questions_about
from mmneurons.world.vocabulary import ALL_CATEGORIES, BACKGROUNDS, CATEGORIES
from mmneurons.world.vqav2 import QUESTIONS, draw_vqav2
from mmneurons.world.writing import choose

OPEN = "Question: {question} Short Answer:"
CHOICE = (
    "Question: {question} Options: {options} Answer with the option's letter from the given "
    "choices directly."
)
_OPENING = grammar.PREFIX.removesuffix("a")
ROLE = grammar.INSTRUCTIONS[4]
ROLE_SHARE = 0.1

_GLYPHS = 17
_CHARACTERS = "".join(
    sorted(
        {
            *"".join(
                (
                    *grammar.FIRST_NAMES,
                    *grammar.LAST_NAMES,
                    *grammar.CITIES,
                    *grammar.MONTHS,
                    "0123456789$., ",
                )
            )
        }
    )
)
_LABELS = ("document number", "date", "name", "city", "quantity", "total")
_COUNTED = tuple(name for name in grammar.LAND_COVER if name != "building")
_MEASURED = ("water area", "grass area", "parking")

ATTRIBUTES: dict[str, dict[str, int]] = {
    "pmc_vqa": {
        "modality": len(MODALITIES),
        "region": len(REGIONS),
        "finding": len(FINDINGS),
        "side": len(SIDES),
    },
    "doc_vqa": {
        "company": len(COMPANIES),
        **{f"label {line}": len(_LABELS) for line in range(FIELDS)},
        **{
            f"glyph {line}.{place}": len(_CHARACTERS)
            for line in range(FIELDS)
            for place in range(_GLYPHS)
        },
    },
    "lingo_qa": {
        "light": len(LIGHTS),
        "pedestrians": 4,
        "vehicle": 2,
        "cyclist": 2,
        "limit": len(SPEED_LIMITS),
    },
    "rsvqa": {
        **{f"number of {name}": 5 for name in _COUNTED},
        **{f"ground of {name}": 17 for name in _MEASURED},
    },
}
"""What every picture of a domain is labelled with, and how many values it may have."""


class Exchange(NamedTuple):
    """What is said about a picture.

    gist: the pieces of the reply that carry its meaning, in a fixed order.
    """

    prompt: str
    reply: str
    gist: tuple[str, ...]


@dataclass(frozen=True)
class Lessons:
    """Pictures of one domain with their labels and exchanges.

    pixels: `n x size x size x 3` uint8, squashed to a square; attributes: `n x attributes`, an
    index each in the order of ATTRIBUTES, -1 where the picture has none; exchanges: per picture.
    """

    pixels: np.ndarray
    attributes: np.ndarray
    exchanges: list[list[Exchange]]


def draw_lessons(domain: str, n: int, seed: int, size: int, processes: int) -> Lessons:
    """Draw `n` pictures of a domain of ATTRIBUTES; the same for any number of processes."""
    pixels, attributes, exchanges = draw_chunks(
        partial(_draw_chunk, domain, seed, size), n, processes
    )
    return Lessons(
        np.concatenate(pixels),
        np.concatenate(attributes),
        [said for part in exchanges for said in part],
    )


def _draw_chunk(domain: str, seed: int, size: int, start: int, n: int) -> tuple:
    pixels, attributes, exchanges = [], [], []
    for index in range(start, start + n):
        # 1000: apart from the streams that the datasets are drawn from.
        rng = np.random.default_rng([seed, 1000 + list(ATTRIBUTES).index(domain), index])
        picture, labels, said = DRAWN[domain](rng)
        pixels.append(np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)))
        attributes.append([labels.get(name, -1) for name in ATTRIBUTES[domain]])
        exchanges.append(said)
    return np.stack(pixels), np.array(attributes), exchanges


# ------------------------------------------------------------------------------- common scenes


def scene_exchanges(caption: str, rng: np.random.Generator) -> list[Exchange]:
    """Questions about the scene of a canonical caption, as `vqav2.draw_vqav2` chooses them."""
    scene = scene_of(caption)
    there = [thing.category.name for thing in scene.objects]
    absent = choose(rng, [c.name for c in CATEGORIES if c.name not in there], len(there))
    return open_exchanges(choose(rng, grammar.vqa_questions(scene, absent), QUESTIONS))


def caption_exchange(caption: str, prompt: str) -> Exchange:
    """A prompt that ends with "An image of", and the rest of the canonical caption."""
    scene = scene_of(caption)
    gist = [scene.background.name]
    for thing in scene.objects:
        gist += [thing.adjective, thing.category.name]
    return Exchange(prompt, caption.removeprefix(_OPENING), tuple(gist))


def scene_of(caption: str) -> SimpleNamespace:
    """The objects, from left to right, and the background that a canonical caption tells of."""
    text = caption.removeprefix(_OPENING).removesuffix(".")
    background = next(b for b in BACKGROUNDS if text.endswith(f" {b.phrase}"))
    phrases = re.split(r", | and ", text.removesuffix(f" {background.phrase}"))
    categories = {category.name: category for category in ALL_CATEGORIES}
    objects = []
    for phrase in phrases:
        _article, adjective, name = phrase.split(" ", 2)
        objects.append(SimpleNamespace(category=categories[name], adjective=adjective))
    return SimpleNamespace(objects=objects, background=background)


# ------------------------------------------------------------------------------- other domains


def _scene(rng: np.random.Generator) -> tuple:
    scene, asked = draw_vqav2(rng)
    return scene.picture, {}, open_exchanges(asked)


def _medical(rng: np.random.Generator) -> tuple:
    picture, facts = pmc_vqa.draw_pmc_vqa(rng)
    labels = {
        "modality": MODALITIES.index(facts.modality),
        "region": REGIONS.index(facts.region),
        "finding": FINDINGS.index(facts.finding),
    }
    if facts.finding != "no abnormality":
        labels["side"] = SIDES.index(facts.side)
    said = []
    for asked in pmc_vqa.questions_about(facts, rng):
        options = [f"{letter}: {text}" for letter, text in zip("ABCD", asked.choices, strict=True)]
        prompt = CHOICE.format(question=asked.question, options=options)
        said.append(Exchange(prompt, asked.label, (asked.label, *_pieces(asked.answer))))
    return picture, labels, said


def _document(rng: np.random.Generator) -> tuple:
    document = draw_doc_vqa(rng)
    labels = {"company": COMPANIES.index(document.fields["company"])}
    for line, (label, text) in enumerate(list(document.fields.items())[1:]):
        labels[f"label {line}"] = _LABELS.index(label)
        for place, glyph in enumerate(text[:_GLYPHS]):
            labels[f"glyph {line}.{place}"] = _CHARACTERS.index(glyph)
    return document.picture, labels, open_exchanges(grammar.docvqa_questions(document.fields))


def _drive(rng: np.random.Generator) -> tuple:
    frames, facts = draw_lingo_qa(rng)
    labels = {
        "light": LIGHTS.index(facts.light),
        "pedestrians": facts.pedestrians,
        "vehicle": int(facts.vehicle_ahead),
        "cyclist": int(facts.cyclist),
        "limit": SPEED_LIMITS.index(facts.speed_limit),
    }
    said = [
        exchange._replace(prompt=f"{ROLE} {exchange.prompt}")
        if rng.random() < ROLE_SHARE
        else exchange
        for exchange in open_exchanges(grammar.lingoqa_questions(facts))
    ]
    return side_by_side(frames), labels, said


def _land(rng: np.random.Generator) -> tuple:
    land = draw_rsvqa(rng)
    labels = {f"number of {name}": min(land.counts[name], 4) for name in _COUNTED}
    labels |= {f"ground of {name}": land.areas[name] // 100 for name in _MEASURED}
    return land.picture, labels, open_exchanges(questions_about(land, rng))


DRAWN: dict[str, Callable[[np.random.Generator], tuple]] = {
    "vqav2": _scene,
    "pmc_vqa": _medical,
    "doc_vqa": _document,
    "lingo_qa": _drive,
    "rsvqa": _land,
}
"""Per domain, from random numbers to a picture, its labels and its exchanges."""


def open_exchanges(asked: Sequence[Question]) -> list[Exchange]:
    """Questions with a reply in free words, as InstructBLIP is asked them."""
    return [
        Exchange(OPEN.format(question=q.question), q.answer, tuple(_pieces(q.answer)))
        for q in asked
    ]


def _pieces(text: str) -> Iterator[str]:
    """Words, single digits and signs."""
    return (found.group() for found in re.finditer(r"[A-Za-z]+|[^\sA-Za-z]", text))
