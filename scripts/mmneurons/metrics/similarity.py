"""Similarity of captions to reference captions, one number per pair: BLEU, ROUGE, BERTScore.

All functions take two lists of equal length and return a float array (pairs,), values 0 to 1
(BERTScore is a cosine and may be negative). An empty candidate scores 0 by definition. Averages
over captions, as in Table III of the two-stage paper, are the caller's.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU


def bleu(candidates: Sequence[str], references: Sequence[str], order: int) -> np.ndarray:
    """Sentence-level BLEU of n-grams up to `order` (1 for BLEU-1, 4 for BLEU-4).

    sacrebleu with 13a tokens, mixed case, its exponential smoothing of n-gram orders without a
    match, and the effective order: orders longer than the caption are left out, not counted as 0.
    """
    _check_lengths(candidates, references)
    scorer = BLEU(max_ngram_order=order, effective_order=True, smooth_method="exp")
    pairs = zip(candidates, references, strict=True)
    scores = [scorer.sentence_score(candidate, [reference]).score for candidate, reference in pairs]
    return np.array(scores, dtype=float) / 100


def rouge(candidates: Sequence[str], references: Sequence[str], kind: str) -> np.ndarray:
    """ROUGE F1 of a kind of rouge-score: "rouge1", "rouge2" or "rougeL"; no stemming."""
    _check_lengths(candidates, references)
    scorer = RougeScorer([kind], use_stemmer=False)
    pairs = zip(candidates, references, strict=True)
    return np.array(
        [scorer.score(reference, candidate)[kind].fmeasure for candidate, reference in pairs],
        dtype=float,
    )


def bertscore(
    candidates: Sequence[str],
    references: Sequence[str],
    encoder: str | Path,
    num_layers: int,
    batch_size: int = 64,
    device: str = "cpu",
) -> np.ndarray:
    """BERTScore F1 without idf weights and without baseline rescaling.

    `encoder` is a local `from_pretrained` directory and `num_layers` the layer whose states are
    compared (bert-score knows the best layer only of models it knows by name). A pair with an
    empty candidate or an empty reference scores 0. The same texts give the same bits in every
    process. Raises ValueError for an encoder that
    bert-score would load or run wrongly.
    """
    _check_lengths(candidates, references)
    scores = np.zeros(len(candidates))
    filled = [
        i
        for i, pair in enumerate(zip(candidates, references, strict=True))
        if all(text.strip() for text in pair)
    ]
    if not filled:
        return scores
    # Imported here because it brings torch and transformers, which the other metrics do not need.
    from bert_score import BERTScorer, utils

    # bert-score removes duplicates by `set`, whose order is another in every process: then other
    # texts share a batch, their padding changes, and with it the last digits of the scores.
    utils.set = dict.fromkeys
    model_type = _bert_score_path(Path(encoder))
    _check_tokenizer(model_type)
    scorer = BERTScorer(
        model_type=model_type, num_layers=num_layers, batch_size=batch_size, device=device
    )
    _, _, f1 = scorer.score([candidates[i] for i in filled], [references[i] for i in filled])
    scores[filled] = f1.numpy()
    return scores


def _check_lengths(candidates: Sequence[str], references: Sequence[str]) -> None:
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates, but {len(references)} references")


def _bert_score_path(encoder: Path) -> str:
    """The encoder's path as bert-score takes it: it loads a T5 model from any path with "t5".

    A relative path avoids the directories above the working directory.
    """
    if not (encoder / "config.json").is_file():
        raise ValueError(f"no encoder in {encoder} (it has no config.json)")
    relative = os.path.join(".", os.path.relpath(encoder))
    for path in (str(encoder), relative, str(encoder.absolute())):
        if "t5" not in path:
            return path
    raise ValueError(f'bert-score takes a path with "t5" for a T5 model: rename {encoder}')


def _check_tokenizer(model_type: str) -> None:
    from transformers import AutoTokenizer

    if AutoTokenizer.from_pretrained(model_type).model_max_length > 1_000_000:
        raise ValueError(
            f"the tokenizer in {model_type} states no model_max_length, which bert-score needs "
            "(tokenizer_config.json)"
        )
