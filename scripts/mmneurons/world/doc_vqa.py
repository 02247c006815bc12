"""Documents of the world, in the parquet layout in which pixparse publishes DocVQA."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from mmneurons.world import grammar
from mmneurons.world.canvas import RGB, fitted_text, with_grain
from mmneurons.world.grammar import COMPANIES
from mmneurons.world.writing import check_number, choose, fresh_folder, picture_rng

SPLITS = ("train", "validation")
FOLDER = "data"
SIZE = (160, 192)
FIELDS = 2
"""Fields under the letterhead; the glyphs are to stay legible on a picture of 64 pixels."""
QUESTIONS = 3

_INK: RGB = (30, 30, 36)
_LOGO_COLOURS: tuple[RGB, ...] = (
    (176, 60, 50),
    (36, 100, 190),
    (60, 140, 70),
    (220, 150, 30),
    (120, 60, 160),
    (30, 150, 160),
)
_WORD = pa.struct([("bounding_box", pa.list_(pa.int64())), ("text", pa.string())])
_LINE = pa.struct([*_WORD, ("words", pa.list_(_WORD))])
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("question_id", pa.int64()),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("data_split", pa.string()),
        (
            "ocr_results",
            pa.struct(
                [
                    ("page", pa.int64()),
                    ("clockwise_orientation", pa.float64()),
                    ("width", pa.int64()),
                    ("height", pa.int64()),
                    ("unit", pa.string()),
                    ("lines", pa.list_(_LINE)),
                ]
            ),
        ),
        (
            "other_metadata",
            pa.struct(
                [
                    ("ucsf_document_id", pa.string()),
                    ("ucsf_document_page_no", pa.string()),
                    ("doc_id", pa.int64()),
                    ("image", pa.string()),
                ]
            ),
        ),
    ]
)


@dataclass(frozen=True)
class Document:
    """A page, its fields (label to text as printed), and what is printed where.

    `lines` are (text, box) with boxes left, top, right, bottom in pixels, from top to bottom.
    """

    picture: Image.Image
    fields: Mapping[str, str]
    lines: list[tuple[str, tuple[int, int, int, int]]]


def write_doc_vqa(folder: str | Path, n: int, seed: int) -> None:
    """Draw `n` documents a split: `data/{split}-00000-of-00001.parquet` under `folder`.

    One row a question, with the picture's bytes, as published; a document is asked about QUESTIONS
    times. What stood there before is replaced when everything is written.
    """
    check_number(n, 99_999)
    with fresh_folder(folder) as partial:
        (partial / FOLDER).mkdir()
        for number_of_split, split in enumerate(SPLITS):
            rows = []
            for number in range(n):
                rng = picture_rng(seed, "doc_vqa", number, number_of_split)
                document = draw_doc_vqa(rng)
                asked = choose(rng, grammar.docvqa_questions(document.fields), QUESTIONS)
                first = (number_of_split * 100_000 + number) * QUESTIONS
                rows += _rows(document, asked, first, split, rng)
            table = pa.Table.from_pylist(rows, schema=SCHEMA)
            pq.write_table(table, partial / FOLDER / f"{split}-00000-of-00001.parquet")


def draw_doc_vqa(rng: np.random.Generator) -> Document:
    """One page: a company's letterhead and FIELDS of a form's fields under it."""
    fields = grammar.document_fields(rng)
    labels = ["company", *choose(rng, [label for label in fields if label != "company"], FIELDS)]
    fields = {label: fields[label] for label in labels}
    width, height = SIZE
    picture = Image.new("RGB", SIZE, tuple(int(v) for v in rng.integers(236, 254, 3)))
    draw = ImageDraw.Draw(picture)
    _logo(draw, COMPANIES.index(fields["company"]))
    box = fitted_text(draw, (48, 18), fields["company"], 26, width - 54, _INK)
    lines = [(fields["company"], box)]
    draw.line((6, 52, width - 6, 52), fill=(120, 120, 124), width=2)
    step = (height - 56) // FIELDS
    for place, (label, text) in enumerate(list(fields.items())[1:]):
        top = 60 + place * step + int(rng.integers(0, 6))
        label = f"{label.capitalize()}:"
        lines.append((label, fitted_text(draw, (8, top), label, 15, width - 16, (90, 90, 96))))
        lines.append((text, fitted_text(draw, (8, top + 21), text, 34, width - 14, _INK)))
    return Document(with_grain(picture, rng, 3), fields, lines)


def _logo(draw: ImageDraw.ImageDraw, company: int) -> None:
    """Each company's sign in its own colour, in a square of 36 pixels."""
    colour = _LOGO_COLOURS[company]
    draw.rectangle((6, 8, 42, 44), fill=colour)
    signs = (
        [[(24, 12), (36, 40), (12, 40)]],
        [[(10, 22), (38, 16), (38, 24), (10, 30)], [(10, 34), (38, 28), (38, 36), (10, 42)]],
        [[(8, 40), (18, 18), (26, 32), (32, 22), (40, 40)]],
        [[(10, 12), (20, 12), (20, 32), (38, 32), (38, 40), (10, 40)]],
        [[(24, 10), (29, 26), (40, 26), (31, 33), (35, 43), (24, 36), (13, 43), (17, 33), (8, 26)]],
        [[(14, 10), (34, 10), (28, 26), (28, 38), (34, 42), (14, 42), (20, 38), (20, 26)]],
    )
    for sign in signs[company]:
        draw.polygon(sign, fill=(250, 250, 246))


def _rows(
    document: Document,
    asked: list[grammar.Question],
    first_id: int,
    split: str,
    rng: np.random.Generator,
) -> list[dict]:
    buffer = io.BytesIO()
    document.picture.save(buffer, "PNG")
    name = "".join("bcdfghjklmnpqrstvwxyz"[i] for i in rng.integers(0, 21, 4)) + "0227"
    path = f"documents/{name}_1.png"
    width, height = document.picture.size
    recognised = {
        "page": 1,
        "clockwise_orientation": 0.0,
        "width": width,
        "height": height,
        "unit": "pixel",
        "lines": [
            # One word a line would be wrong, but words' boxes are not known apart from the line's.
            {"bounding_box": _corners(box), "text": text, "words": []}
            for text, box in document.lines
        ],
    }
    return [
        {
            "image": {"bytes": buffer.getvalue(), "path": path},
            "question_id": first_id + place,
            "question": question.question,
            "answers": [question.answer],
            "data_split": split,
            "ocr_results": recognised,
            "other_metadata": {
                "ucsf_document_id": name,
                "ucsf_document_page_no": "1",
                "doc_id": first_id // QUESTIONS,
                "image": path,
            },
        }
        for place, question in enumerate(asked)
    ]


def _corners(box: tuple[int, int, int, int]) -> list[int]:
    """Eight numbers, clockwise from the left top, as DocVQA's text recognition gives."""
    left, top, right, bottom = box
    return [left, top, right, top, right, bottom, left, bottom]
