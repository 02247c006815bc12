"""BLEURT of candidates and references, by bleurt-pytorch in an environment of its own.

bleurt-pytorch needs transformers 4 (envs/bleurt.yaml): under transformers 5 the tokenizers of the
BLEURT-20 checkpoints load without an error and cut texts wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

ENVIRONMENT = "envs/bleurt.yaml"


def bleurt(
    candidates: Sequence[str],
    references: Sequence[str],
    checkpoint: str | Path,
    batch_size: int = 64,
    device: str = "cpu",
    threads: int | None = None,
) -> np.ndarray:
    """BLEURT of each pair, float array (pairs,), about 0 (unlike) to 1 (alike), not bounded.

    `checkpoint` is a local directory, such as a copy of lucadiliello/BLEURT-20. An empty candidate
    or reference scores 0 by definition. `threads` sets torch's number of threads, on which sums
    depend in their last digits; None leaves it. Raises ValueError for a directory without a
    checkpoint and ImportError outside the environment that bleurt-pytorch needs.
    """
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates, but {len(references)} references")
    if not (Path(checkpoint) / "config.json").is_file():
        raise ValueError(f"no BLEURT checkpoint in {checkpoint} (it has no config.json)")
    model, tokenizer = _load(str(checkpoint), device)
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    scores = np.zeros(len(candidates))
    pairs = list(zip(candidates, references, strict=True))
    filled = [i for i, pair in enumerate(pairs) if all(text.strip() for text in pair)]
    for start in range(0, len(filled), batch_size):
        places = filled[start : start + batch_size]
        batch = tokenizer(
            [references[i] for i in places],
            [candidates[i] for i in places],
            padding="longest",
            truncation=True,
            max_length=model.config.max_position_embeddings,
            return_tensors="pt",
        ).to(device)
        with torch.inference_mode():
            scores[places] = model(**batch).logits.flatten().float().cpu().numpy()
    return scores


def _load(checkpoint: str, device: str) -> tuple:
    try:
        import transformers
        from bleurt_pytorch import BleurtForSequenceClassification, BleurtTokenizer
    except ImportError as error:
        raise ImportError(f"BLEURT runs in the environment of {ENVIRONMENT}: {error}") from error
    if int(transformers.__version__.partition(".")[0]) != 4:
        raise ImportError(
            f"BLEURT needs transformers 4, as in {ENVIRONMENT}; this is {transformers.__version__}"
        )
    model = BleurtForSequenceClassification.from_pretrained(checkpoint).to(device).eval()
    return model, BleurtTokenizer.from_pretrained(checkpoint)
