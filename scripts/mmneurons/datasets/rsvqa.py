"""RSVQA-HR as published: questions on aerial pictures, one answer each.

Read are `USGS_split_{split}_questions.json`, `USGS_split_{split}_answers.json` and the picture
files `Data/{id}.tif`, or `Data/{id}.png` with the same, under one root.
"""

from __future__ import annotations

import json
from pathlib import Path

from mmneurons.datasets.question_files import annotation_files
from mmneurons.datasets.questions import Question, Questions, annotations

SOURCE = "https://zenodo.org/records/6344367"


def read(root: str | Path, split: str) -> Questions:
    """The active questions of "train", "val", "test" or "test_phili".

    The files list the questions of all splits; those of others are not active. `kind` is the type
    (presence, count, comp, area). The answer is the first of a question's; one that is not there,
    or says that it belongs to another question, is none.
    """
    root = Path(root)
    asked_file, told_file = annotation_files("rsvqa", root, split)
    with annotations(asked_file, "list of RSVQA's questions", SOURCE) as path:
        asked = [
            tuple(entry[name] for name in ("id", "img_id", "question", "answers_ids", "type"))
            for entry in json.loads(path.read_bytes())["questions"]
            if entry["active"]
        ]
    with annotations(told_file, "list of RSVQA's answers", SOURCE) as path:
        told = [
            (entry["question_id"], str(entry["answer"])) if entry["active"] else (None, "")
            for entry in json.loads(path.read_bytes())["answers"]
        ]

    def question(place: int) -> Question:
        number, image, text, answers, kind = asked[place]
        files = [f"Data/{image}.{ending}" for ending in ("tif", "png")]
        file = next((file for file in files if (root / file).is_file()), files[0])
        answer = _answer(number, answers)
        return Question(text or "", [file], answer, [answer], kind=kind)

    def _answer(number: int, answers: list[int]) -> str:
        index = answers[0] if answers else len(told)
        of, answer = told[index] if index < len(told) else (None, "")
        return answer if of == number else ""

    return Questions(
        ids=[str(number) for number, _, _, _, _ in asked],
        pictures=[str(image) for _, image, _, _, _ in asked],
        read=question,
        metric="exact",
        folder=root / "Data",
        page=SOURCE,
    )
