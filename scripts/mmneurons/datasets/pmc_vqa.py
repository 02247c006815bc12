"""PMC-VQA as published: medical figures, each question with four choices.

Read are `{split}.csv` and the picture files in `figures/` or `images/` under one root.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from mmneurons.datasets.question_files import annotation_files
from mmneurons.datasets.questions import Excluded, Question, Questions, annotations

SOURCE = "https://huggingface.co/datasets/RadGenome/PMC-VQA"
FOLDERS = ("figures", "images")
LETTERS = ("A", "B", "C", "D")


def read(root: str | Path, split: str) -> Questions:
    """The questions of a table such as "train" or "test", named by table and row, from 0.

    Choices are written "A: text" whatever the table has ("A:text", " A: text"). The reply aimed at
    is the letter in `Answer_label`, or in `Answer` where the label is none, as in the second
    version of the dataset, which has no `Answer_label`. A row is excluded as "label-is-no-option"
    where neither is the letter of a choice with a text.
    """
    root = Path(root)
    (file,) = annotation_files("pmc_vqa", root, split)
    with annotations(file, "table of PMC-VQA's questions", SOURCE) as path:
        table = pd.read_csv(path, dtype="str", keep_default_na=False)
        names = ["Figure_path", "Question", "Answer", *(f"Choice {c}" for c in LETTERS)]
        rows = table[[*names, *({"Answer_label"} & set(table))]].to_dict("records")
    folders = [folder for folder in FOLDERS if (root / folder).is_dir()]
    # Where the archive of this version belongs that has the pictures.
    own = FOLDERS[0] if split.endswith("_2") else FOLDERS[1]

    def question(place: int) -> Question:
        row = rows[place]
        options = {letter: _choice(row[f"Choice {letter}"], letter) for letter in LETTERS}
        options = {letter: text for letter, text in options.items() if text}
        labels = row.get("Answer_label", "").strip(), row["Answer"].strip()
        label = labels[0] if labels[0] in LETTERS else labels[1]
        if label not in options:
            detail = f"label {labels[0]!r}, answer {labels[1]!r}, choices {', '.join(options)}"
            raise Excluded("label-is-no-option", detail)
        written = [f"{letter}: {text}" for letter, text in options.items()]
        return Question(row["Question"], _files(row["Figure_path"]), label, [label], written)

    def _files(name: str) -> list[str]:
        paths = [f"{folder}/{name}" for folder in folders]
        found = (path for path in paths if (root / path).is_file())
        return [next(found, f"{own}/{name}")] if name else []

    return Questions(
        ids=[f"{split}-{place}" for place in range(len(rows))],
        pictures=[row["Figure_path"] for row in rows],
        read=question,
        metric="multiple_choice",
        folder=root / (folders or FOLDERS)[0],
        page=SOURCE,
    )


def _choice(text: str, letter: str) -> str:
    """The text of a choice without its letter."""
    return re.sub(rf"^\s*{letter}\s*:", "", text).strip()
