"""VQAv2 as published: questions on everyday scenes, ten answers each.

Read are `v2_OpenEnded_mscoco_{split}_questions.json`, `v2_mscoco_{split}_annotations.json` and the
picture files `{split}/COCO_{split}_%012d.jpg` of COCO 2014 under one root.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mmneurons.datasets.question_files import annotation_files
from mmneurons.datasets.questions import Question, Questions, annotations

SOURCE = "https://visualqa.org/download.html"


def read(root: str | Path, split: str) -> Questions:
    """The questions of "train2014" or "val2014".

    The reply aimed at is the most frequent answer, as the annotations have it; `kind` is the type
    of the answer (yes/no, number, other). A question without annotation has no answer.
    """
    asked_file, told_file = annotation_files("vqav2", root, split)
    with annotations(asked_file, "list of VQAv2's questions", SOURCE) as path:
        asked = [
            (int(entry["question_id"]), int(entry["image_id"]), entry["question"] or "")
            for entry in _load(path)["questions"]
        ]
    with annotations(told_file, "list of VQAv2's answers", SOURCE) as path:
        told = {
            int(entry["question_id"]): (
                entry["multiple_choice_answer"],
                [answer for answer, _ in entry["answers"]],
                [confidence for _, confidence in entry["answers"]],
                entry["answer_type"],
            )
            for entry in _load(path)["annotations"]
        }

    def question(place: int) -> Question:
        number, image, text = asked[place]
        answer, answers, confidence, kind = told.get(number, ("", [], [], ""))
        file = f"{split}/COCO_{split}_{image:012d}.jpg"
        return Question(text, [file], answer, answers, confidence=confidence, kind=kind)

    return Questions(
        ids=[str(number) for number, _, _ in asked],
        pictures=[str(image) for _, image, _ in asked],
        read=question,
        metric="vqa",
        folder=Path(root) / split,
        page=SOURCE,
    )


def _load(path: Path) -> dict:
    with open(path, encoding="utf-8") as file:
        return json.load(file, object_hook=_compact)


def _compact(entry: dict) -> dict | tuple[str, str]:
    """An answer as a pair: as dicts of their own strings, four million take 2 GB, so half of it."""
    if "answer" in entry:
        return sys.intern(entry["answer"]), sys.intern(entry["answer_confidence"])
    return entry
