"""The world's scenes with questions, in the file formats of VQAv2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mmneurons.world import grammar
from mmneurons.world.scene import Scene, draw_scene
from mmneurons.world.vocabulary import CATEGORIES
from mmneurons.world.writing import (
    JPEG_QUALITY,
    check_number,
    choose,
    fresh_folder,
    picture_rng,
)

SPLITS = ("train2014", "val2014")
IDS_PER_SPLIT = 100_000
QUESTIONS = 4
ANNOTATORS = 10


def write_vqav2(folder: str | Path, n: int, seed: int) -> None:
    """Draw `n` pictures a split under `folder`, as VQAv2 and COCO 2014 unpack.

    `{split}/COCO_{split}_%012d.jpg`, `v2_OpenEnded_mscoco_{split}_questions.json` and
    `v2_mscoco_{split}_annotations.json` with ten answers a question, of which up to two are wrong
    and less than sure. What stood there before is replaced when everything is written.
    """
    check_number(n, IDS_PER_SPLIT)
    with fresh_folder(folder) as partial:
        for number_of_split, split in enumerate(SPLITS):
            (partial / split).mkdir()
            questions, annotations = [], []
            for number in range(n):
                rng = picture_rng(seed, "vqav2", number, number_of_split)
                image_id = number_of_split * IDS_PER_SPLIT + number + 1
                scene, asked = draw_vqav2(rng)
                name = f"COCO_{split}_{image_id:012d}.jpg"
                scene.picture.save(partial / split / name, quality=JPEG_QUALITY)
                for place, question in enumerate(asked):
                    shared = {"image_id": image_id, "question_id": image_id * 1000 + place}
                    questions.append(shared | {"question": question.question})
                    annotations.append(shared | _annotation(question, rng))
            subtype = {"data_type": "mscoco", "data_subtype": split}
            _write(
                partial / f"v2_OpenEnded_mscoco_{split}_questions.json",
                subtype | {"task_type": "Open-Ended", "questions": questions},
            )
            _write(
                partial / f"v2_mscoco_{split}_annotations.json",
                subtype | {"annotations": annotations},
            )


def draw_vqav2(rng: np.random.Generator) -> tuple[Scene, list[grammar.Question]]:
    """A scene and QUESTIONS different questions about it, of all answer types by chance."""
    scene = draw_scene(rng)
    there = {thing.category for thing in scene.objects}
    absent = choose(rng, [c.name for c in CATEGORIES if c not in there], len(there))
    return scene, choose(rng, grammar.vqa_questions(scene, absent), QUESTIONS)


def _annotation(question: grammar.Question, rng: np.random.Generator) -> dict:
    wrong = int(rng.integers(0, 3))
    answers = []
    for number in range(ANNOTATORS):
        right = number >= wrong
        answers.append(
            {
                "answer": question.answer if right else _another(question),
                "answer_confidence": "yes" if right else "maybe",
                "answer_id": number + 1,
            }
        )
    return {
        "question_type": " ".join(question.question.lower().split()[:2]),
        "multiple_choice_answer": question.answer,
        "answers": answers,
        "answer_type": question.kind,
    }


def _another(question: grammar.Question) -> str:
    """A wrong answer of the same type."""
    if question.kind == "yes/no":
        return "no" if question.answer == "yes" else "yes"
    if question.kind == "number":
        return str(int(question.answer) + 1)
    return "nothing"


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
