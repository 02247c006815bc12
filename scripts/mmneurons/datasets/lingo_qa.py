"""LingoQA as published: questions on drives, five frames each, two answers in the evaluation part.

Read are `train/scenery.parquet` and `train/action.parquet` or `val/val.parquet`, and the frames,
whose paths in the tables start at the table's folder, under one root.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmneurons.datasets.question_files import annotation_files
from mmneurons.datasets.questions import Excluded, Question, Questions, annotations

SOURCE = "https://github.com/wayveai/LingoQA"
FRAMES = 5
_COLUMNS = ["question_id", "question", "answer", "images"]


def read(root: str | Path, split: str) -> Questions:
    """The questions of "train" or "val"; rows with one question_id are answers to one question.

    The reply aimed at is the first answer. Unlike elsewhere, every question on the same frames
    counts, as in the released code of Huo et al. 2024. `kind` is the table, scenery or action.
    """
    tables, kinds = [], []
    for file in annotation_files("lingo_qa", root, split):
        with annotations(file, "table of LingoQA's questions", SOURCE) as path:
            table = pq.read_table(path)
            tables.append(table.select(_COLUMNS))
        kinds += [path.stem if split == "train" else ""] * len(table)
    table = pa.concat_tables(tables, promote_options="permissive")
    rows: dict[str, list[int]] = {}
    for row, number in enumerate(table["question_id"].to_pylist()):
        rows.setdefault(str(number), []).append(row)
    ids = list(rows)

    def question(place: int) -> Question:
        own = [table.slice(row, 1).to_pylist()[0] for row in rows[ids[place]]]
        answers = [row["answer"] for row in own if row["answer"] and row["answer"].strip()]
        files = [f"{split}/{path}" for path in own[0]["images"] or ()]
        if 0 < len(files) < FRAMES:
            raise Excluded("missing-frame", f"{len(files)} of {FRAMES} frames are named")
        kind = kinds[rows[ids[place]][0]]
        return Question(own[0]["question"] or "", files, (answers or [""])[0], answers, kind=kind)

    return Questions(
        ids=ids,
        pictures=ids,
        read=question,
        metric="lingo_judge",
        folder=Path(root) / split / "images",
        page=SOURCE,
    )
