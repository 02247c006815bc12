"""Lingo-Judge: whether a reply to a question about driving says what a reference says.

A local checkpoint for sequence classification with one label, such as a copy of wayveai/Lingo-Judge
(Marcu et al. 2023, LingoQA), reads question, reference and reply and gives a logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from mmneurons.console import progress

COLUMNS = ["sample_id", "reply", "reference", "logit", "score"]
MAX_LENGTH = 128
"""Tokens that the official scorer reads; it cuts off the end, which is the reply's."""


def judge_replies(
    questions: pd.DataFrame,
    answers: pd.DataFrame,
    checkpoint: str | Path,
    batch_size: int = 64,
    device: str = "cpu",
    threads: int | None = None,
) -> pd.DataFrame:
    """A row per different reply to a question and reference, with the columns COLUMNS.

    questions: sample_id, question, answers (references), metric; those with the metric
    "lingo_judge" are judged. answers: sample_id, reply. `logit` is the official scorer's, of the
    first MAX_LENGTH tokens. `score` is what the released code of MMNeuron reads, the sigmoid that
    transformers' text classification gives of all tokens (here of as many as the model has
    positions). Both are float64, sorted by sample, reply and reference. Empty replies and
    references have no row.

    `checkpoint` is a local directory. `threads` sets torch's number of threads, on which sums
    depend in their last digits; None leaves it. Raises ValueError for a directory without a
    checkpoint, for one that has not exactly one label, and for one whose tokenizer knows no word.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    judge = LingoJudge(checkpoint, device)
    asked = questions.loc[
        questions["metric"] == "lingo_judge", ["sample_id", "question", "answers"]
    ]
    pairs = answers[["sample_id", "reply"]].drop_duplicates().merge(asked, on="sample_id")
    rows = pairs.explode("answers").rename(columns={"answers": "reference"})
    filled = [
        isinstance(reference, str) and bool(reference.strip()) and bool(reply.strip())
        for reference, reply in zip(rows["reference"], rows["reply"], strict=True)
    ]
    rows = rows[np.array(filled, dtype=bool)].drop_duplicates()
    rows = rows.sort_values(["sample_id", "reply", "reference"], ignore_index=True)
    texts = (rows["question"], rows["reference"], rows["reply"])
    logit, score = judge.judge(*(text.tolist() for text in texts), batch_size)
    return rows.assign(logit=logit, score=score)[COLUMNS]


class LingoJudge:
    """A checkpoint and its tokenizer."""

    def __init__(self, checkpoint: str | Path, device: str = "cpu"):
        if not (Path(checkpoint) / "config.json").is_file():
            raise ValueError(f"no Lingo-Judge checkpoint in {checkpoint} (it has no config.json)")
        self.device = device
        self.model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, dtype=torch.float32, local_files_only=True
        )
        self.model.to(device).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
        if self.model.config.num_labels != 1:
            raise ValueError(
                f"the checkpoint in {checkpoint} has {self.model.config.num_labels} labels, "
                "but Lingo-Judge has one"
            )
        # transformers 5 may make a tokenizer without words of a checkpoint, and say nothing.
        words = self.tokenizer("Question Answer Student", add_special_tokens=False).input_ids
        if not set(words) - {self.tokenizer.unk_token_id}:
            raise ValueError(
                f"the tokenizer in {checkpoint} knows no word; are its files complete?"
            )
        positions = getattr(self.model.config, "max_position_embeddings", MAX_LENGTH)
        self.positions = min(positions, self.tokenizer.model_max_length)

    def judge(
        self,
        questions: Sequence[str],
        references: Sequence[str],
        replies: Sequence[str],
        batch_size: int = 64,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Official logits and released scores, two float arrays (rows,)."""
        rows = list(zip(questions, references, replies, strict=True))
        official = self._encode(rows, self.tokenizer.cls_token, MAX_LENGTH)
        released = self._encode(rows, "[CLS]", self.positions)
        logits = self._logits(official, batch_size)
        # Most texts are short, and then both scorers read the same tokens.
        longer = [i for i in range(len(rows)) if official[i] != released[i]]
        whole = logits.copy()
        if longer:
            whole[longer] = self._logits([released[i] for i in longer], batch_size)
        return logits, np.exp(-np.logaddexp(0, -whole))

    def _encode(self, rows: list[tuple[str, str, str]], start: str, length: int) -> list[dict]:
        # Both scorers write the token that the tokenizer puts before any text: it is there twice.
        texts = [f"{start}\nQuestion: {q}\nAnswer: {a}\nStudent: {s}" for q, a, s in rows]
        length = min(length, self.positions)
        return [dict(self.tokenizer(text, truncation=True, max_length=length)) for text in texts]

    @torch.inference_mode()
    def _logits(self, encoded: list[dict], batch_size: int) -> np.ndarray:
        logits = np.zeros(len(encoded))
        # Texts of about one length together, so that little is padded.
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]["input_ids"]))
        for start in progress(range(0, len(order), batch_size), description="Lingo-Judge"):
            places = order[start : start + batch_size]
            batch = self.tokenizer.pad([encoded[i] for i in places], return_tensors="pt")
            output = self.model(**batch.to(self.device))
            logits[places] = output.logits.flatten().double().cpu().numpy()
        return logits
