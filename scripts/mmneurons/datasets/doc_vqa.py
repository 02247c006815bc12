"""DocVQA in the layout in which pixparse publishes it: pages of documents, several answers each.

Read are `data/{split}-{number}-of-{all}.parquet` under one root. Pictures are in the tables, so
those of the questions that are taken are extracted.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow.parquet as pq

from mmneurons.artifacts.files import atomic
from mmneurons.console import progress
from mmneurons.datasets.question_files import annotation_files, questions_file
from mmneurons.datasets.questions import Question, Questions, annotations
from mmneurons.downloads.archives import inside
from mmneurons.downloads.hub_tables import ORIGIN
from mmneurons.downloads.space import require_space

SOURCE = "https://huggingface.co/datasets/pixparse/docvqa-single-page-questions"
WHAT = "table of DocVQA's questions"
_COLUMNS = ["question_id", "question", "answers", "other_metadata.image"]
PAGE = 500_000
"""Bytes of a page with room to spare: the tables, 12.4 GB, have 50,000 of them."""
_BATCH = 16
"""Rows whose pictures are in memory at once."""


def read(
    root: str | Path,
    split: str,
    open_piece: Callable[[str], AbstractContextManager[BinaryIO]] | None = None,
) -> Questions:
    """The questions of "train" or "validation".

    The reply aimed at is the first answer. Pictures stay in the tables until they are extracted:
    only row groups with one that is wanted are read then, each once, and `{question_id}.png` gets
    the bytes that the table has.

    open_piece: opens a table by its name in the repository it was published in; used where the
    questions were fetched without their pictures (`{split}.questions.parquet`). What is fetched so
    stays below the root, in `pictures/`, so that a job that is tried again fetches the rest only.
    """
    files = annotation_files("doc_vqa", root, split, fetched=open_piece is not None)
    fetched = files == [f"{root}/{questions_file(split)}"]
    rows: list[tuple[str, str, list[str], str]] = []
    origins: list[tuple[str, int, int]] = []  # the file, the row group in it, the row in that
    if not fetched:
        _require_all(files)
    for file in files:
        with annotations(file, WHAT, SOURCE) as path, pq.ParquetFile(path) as parquet:
            columns = [*_COLUMNS, *(ORIGIN if fetched else ())]
            read_rows = parquet.read(columns=columns).to_pylist()
            rows += map(_row, read_rows)
            if fetched:
                origins += (tuple(row[name] for name in ORIGIN) for row in read_rows)
                continue
            for group in range(parquet.num_row_groups):
                length = parquet.metadata.row_group(group).num_rows
                origins += ((file, group, row) for row in range(length))
    opened = open_piece if fetched else _open_file

    def question(place: int) -> Question:
        number, text, answers, _ = rows[place]
        return Question(text, [f"{number}.png"], (answers or [""])[0], answers)

    def extract(places: Sequence[int], folder: Path) -> None:
        home = Path(root) / "pictures" if fetched else folder
        pages = [inside(home, f"{rows[place][0]}.png", origins[place][0]) for place in places]
        wanted: dict[str, dict[int, dict[int, Path]]] = defaultdict(lambda: defaultdict(dict))
        for place, path in zip(places, pages, strict=True):
            file, group, row = origins[place]
            if not (fetched and path.exists()):
                wanted[file][group][row] = path
        if fetched and wanted:
            number = sum(len(each) for groups in wanted.values() for each in groups.values())
            require_space(home, number * PAGE, f"{number} pages of documents")
        for file, groups in progress(sorted(wanted.items()), description="Tables with pictures"):
            with opened(file) as stream, pq.ParquetFile(stream) as parquet:
                for group, paths in sorted(groups.items()):
                    for row, picture in _pictures(parquet, group, paths):
                        with atomic(paths[row]) as temporary:
                            temporary.write_bytes(picture)
        if fetched:
            for path in filter(Path.exists, pages):
                with atomic(folder / path.name) as temporary:
                    shutil.copyfile(path, temporary)

    return Questions(
        ids=[number for number, _, _, _ in rows],
        pictures=[picture for _, _, _, picture in rows],
        read=question,
        metric="anls",
        extract=extract,
    )


@contextmanager
def _open_file(file: str) -> Iterator[Path]:
    """A table on disk, to be read by its path."""
    with annotations(file, WHAT, SOURCE) as path:
        yield path


def _row(row: dict) -> tuple[str, str, list[str], str]:
    answers = [answer for answer in row["answers"] or () if answer and answer.strip()]
    picture = (row["other_metadata"] or {})["image"]
    return str(row["question_id"]), row["question"] or "", answers, picture or ""


def _pictures(
    parquet: pq.ParquetFile, group: int, wanted: Container[int]
) -> Iterator[tuple[int, bytes]]:
    """The rows of a row group that are wanted and have a picture, with its bytes."""
    first = 0
    for batch in parquet.iter_batches(_BATCH, row_groups=[group], columns=["image.bytes"]):
        pictures = batch.column("image")
        for row in range(first, first + len(batch)):
            picture = pictures[row - first].as_py() if row in wanted else None
            if picture and picture["bytes"]:
                yield row, picture["bytes"]
        first += len(batch)


def _require_all(files: Sequence[str]) -> None:
    """Raise FileNotFoundError where pieces of the table are missing, as the names tell."""
    said = int(re.search(r"-of-(\d+)", Path(files[0]).name)[1])
    if len(files) != said:
        raise FileNotFoundError(
            f"{len(files)} of {said} pieces like {files[0]} are there; get the others from {SOURCE}"
        )
