"""Datasets of questions: which of them a run uses, one row per question.

A reader (vqav2, pmc_vqa, doc_vqa, lingo_qa, rsvqa) gives the questions of a split as `Questions`.
What they share is here: the choice by a seed, the columns of the table, and a second table that
says what was passed over and why. Only pictures of questions that are to be taken are opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from mmneurons.datasets.pictures import UndecodablePicture, read_question_picture
from mmneurons.datasets.tables import EXCLUSION_COLUMNS, typed_table
from mmneurons.downloads.pictures import Pictures

TEXTS = pd.ArrowDtype(pa.list_(pa.string()))
"""A list of texts; a type of its own, because a column of empty lists would be written as nulls."""

QUESTION_COLUMNS = {
    "sample_id": "str",
    "group": "str",
    "part": "str",
    "order": "int64",
    "files": TEXTS,
    "width": "int64",
    "height": "int64",
    "question": "str",
    "options": TEXTS,
    "answer": "str",
    "answers": TEXTS,
    "confidence": TEXTS,
    "kind": "str",
    "metric": "str",
    "source_id": "str",
    "split": "str",
}
STAGE = "prepare"


class Question(NamedTuple):
    """One question as a reader gives it.

    files: its picture, or frames in their order, below the root of the pictures; answer: the reply
    aimed at; answers: all references; confidence: one entry an answer, or none at all.
    """

    question: str
    files: list[str]
    answer: str
    answers: list[str]
    options: Sequence[str] = ()
    confidence: Sequence[str] = ()
    kind: str = ""


def _nothing_to_extract(places: Sequence[int], folder: Path) -> None:
    """Pictures are files of their own."""


@dataclass(frozen=True)
class Questions:
    """The questions of one split, by their place.

    ids: how the dataset calls each; pictures: the picture that each is about, of which only one
    question is taken; read: gives the one at a place, or raises `Excluded`; metric: how replies
    are scored; extract: leaves the pictures of questions in a folder as the files that `read`
    names, or, where there is no picture, leaves none; folder: where pictures that are files have
    to be, None where they are not; page: where a person gets them.
    """

    ids: Sequence[str]
    pictures: Sequence[str]
    read: Callable[[int], Question]
    metric: str
    extract: Callable[[Sequence[int], Path], None] = _nothing_to_extract
    folder: Path | None = None
    page: str = ""


class Excluded(Exception):
    """A question is not taken; `reason` is one of those listed at `choose_questions`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def choose_questions(
    reader: Callable[[str | Path, str], Questions],
    root: str | Path,
    splits: Mapping[str, str],
    domain: str,
    identify: int,
    evaluate: int,
    seed: int,
    pictures_folder: str | Path,
    source: Pictures | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose `identify` questions of splits["identify"] and `evaluate` of splits["evaluate"].

    The questions of a split are tried in an order that hangs on (seed, split, name of the question)
    only, so that larger numbers only append. Of several questions about one picture the first that
    can be used is taken. A picture that cannot be used is tried once: its other questions are not
    listed. Pictures that are no files of their own are left in `pictures_folder`, which is made.
    source: where pictures come from that are not on disk; without one they are passed over.

    Returns (questions, exclusions) with the columns QUESTION_COLUMNS and EXCLUSION_COLUMNS. Reasons
    of a question, of those tried only: "empty-question", "no-answer" (none is given),
    "label-is-no-option" (of multiple choice), "no-picture" (none is named, or no such file),
    "missing-frame", "undecodable-picture", "repeated-question" (one of this name was tried before).
    "too-few-questions" stands for a part of the domain as a whole.

    Raises ValueError for fewer than one question and for annotations that cannot be read,
    FileNotFoundError where they or the folder of the pictures are missing.
    """
    wanted = {"identify": identify, "evaluate": evaluate}
    for part, number in wanted.items():
        if number < 1:
            raise ValueError(f"questions to {part}: must be at least 1, not {number}")
    folder = Path(pictures_folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    exclusions: list[tuple] = []
    taken: set[str] = set()
    for part, number in wanted.items():
        questions = reader(root, splits[part])
        if source is None and questions.folder is not None:
            require_folder(questions.folder, questions.page)
        search = _Search(questions, Path(root), folder, domain, splits[part], seed, taken, source)
        for order, row in enumerate(search.first(number)):
            rows.append(row | {"part": part, "order": order})
        exclusions += search.exclusions
        if len(search.kept) < number:
            detail = (
                f"{part}: wanted {number}, found {len(search.kept)} among "
                f"{len(questions.ids)} questions of {splits[part]}"
            )
            exclusions.append((STAGE, "", domain, "too-few-questions", detail))
    return typed_table(rows, QUESTION_COLUMNS), typed_table(exclusions, EXCLUSION_COLUMNS)


def question_order(ids: Sequence[str], seed: int, split: str) -> list[int]:
    """The places of questions in the order in which they are tried; see `choose_questions`."""

    # A hash of each question by itself, not a shuffle of the list: see `choose_questions`.
    def key(place: int) -> tuple[bytes, int]:
        text = f"{seed}/{split}/{ids[place]}"
        return hashlib.blake2b(text.encode(), digest_size=8).digest(), place

    return sorted(range(len(ids)), key=key)


@contextmanager
def annotations(path: str | Path, what: str, source: str) -> Iterator[Path]:
    """A block that reads the annotation file at `path`; `what` it is and its `source` are told.

    Raises FileNotFoundError where it is missing, ValueError where the block finds it broken.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} {path}; get it from {source}")
    try:
        yield path
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        told = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is no {what} as {source} has it: {told}") from error


def require_folder(folder: Path, source: str) -> None:
    """Raise FileNotFoundError where there is no folder of pictures at all."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of pictures {folder}; get it from {source}")


class _Search:
    """The usable questions of one split among those tried, and why the others are none."""

    def __init__(
        self,
        questions: Questions,
        root: Path,
        folder: Path,
        domain: str,
        split: str,
        seed: int,
        taken: set[str],
        source: Pictures | None,
    ) -> None:
        self.source = source
        self.questions, self.domain, self.split, self.taken = questions, domain, split, taken
        self.extracted = questions.extract is not _nothing_to_extract
        self.root, self.folder = folder if self.extracted else root, folder
        self.kept: list[dict] = []
        self.exclusions: list[tuple] = []
        self._order = question_order(questions.ids, seed, split)

    def first(self, number: int) -> list[dict]:
        """Up to `number` rows of the table, without part and order."""
        waiting = self._readable()
        while len(self.kept) < number:
            # Together, because extracting pictures one by one would read whole files again.
            tried = list(islice(waiting, number - len(self.kept)))
            if not tried:
                break
            self.questions.extract([place for place, _ in tried], self.folder)
            why: Mapping[str, str] = {}
            if self.source is not None:
                why = self.source.bring([file for _, question in tried for file in question.files])
            for place, question in tried:
                self._look(place, question, why)
        return self.kept

    def _readable(self) -> Iterator[tuple[int, Question]]:
        """Questions on one picture each, with all that can be told without opening it."""
        pictures = set()
        for place in self._order:
            name = self.questions.ids[place]
            picture = self.questions.pictures[place] or f"none of {name}"
            if picture in pictures:
                continue
            try:
                question = self._checked(place)
            except Excluded as excluded:
                self._exclude(name, excluded)
                continue
            self.taken.add(self._sample_id(name))
            pictures.add(picture)
            yield place, question

    def _checked(self, place: int) -> Question:
        if self._sample_id(self.questions.ids[place]) in self.taken:
            raise Excluded("repeated-question", "a question of this name was tried before")
        question = self.questions.read(place)
        if not question.question.strip():
            raise Excluded("empty-question", "the question has no text")
        if not question.answer.strip():
            raise Excluded("no-answer", "the question has no answer")
        return question

    def _look(self, place: int, question: Question, why: Mapping[str, str]) -> None:
        """Open the picture of a question, and keep the question or say why not."""
        name = self.questions.ids[place]
        try:
            width, height = _shown_size(self.root, question.files, why)
        except Excluded as excluded:
            self._exclude(name, excluded)
            if self.extracted:
                for file in question.files:
                    (self.root / file).unlink(missing_ok=True)
            return
        self.kept.append(
            question._asdict()
            | {
                "sample_id": self._sample_id(name),
                "group": self.domain,
                "width": width,
                "height": height,
                "confidence": question.confidence or [""] * len(question.answers),
                "metric": self.questions.metric,
                "source_id": name,
                "split": self.split,
            }
        )

    def _exclude(self, name: str, excluded: Excluded) -> None:
        row = STAGE, self._sample_id(name), self.domain, excluded.reason, excluded.detail
        self.exclusions.append(row)

    def _sample_id(self, name: str) -> str:
        return f"{self.domain}-{name}"


def _shown_size(root: Path, files: Sequence[str], why: Mapping[str, str]) -> tuple[int, int]:
    """Width and height of the picture that a model is shown; why: files that cannot be had."""
    missing = [file for file in files if not (root / file).is_file()]
    told = f"; {why[missing[0]]}" if missing and missing[0] in why else ""
    if missing and len(files) > 1:
        detail = f"no file for {len(missing)} of {len(files)} frames, first {missing[0]}{told}"
        raise Excluded("missing-frame", detail)
    if missing or not files:
        raise Excluded("no-picture", f"no file {missing[0]}{told}" if missing else "none is named")
    try:
        return read_question_picture(root, files).size
    except UndecodablePicture as error:
        file = Path(error.path).relative_to(root)
        raise Excluded("undecodable-picture", f"{file}: {error.reason}") from error
