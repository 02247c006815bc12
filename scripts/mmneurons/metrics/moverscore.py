"""MoverScore: 1 minus the earth mover's distance between two texts' token states.

After Zhao et al. 2019 and the second version of its released code, for single tokens (unigrams):
states of one layer of an encoder, scaled to length 1, Euclidean distances, and weights by inverse
document frequency. Pieces that continue a word ("##ed") and punctuation weigh nothing, nor do the
special tokens. Which pieces these are is read from the tokenizer and the text, not from the pieces'
spelling, which differs: BERT's "##ed" is "ed" and its "dog" is "Ġdog" in byte-level encoders.
The published package loads no current encoder; nothing of it is used here.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import eye_array, kron, vstack


class TokenStates(NamedTuple):
    """A text's pieces, without special tokens.

    states: pieces x hidden; counts: whether a piece begins a word and is more than punctuation,
    booleans (pieces,).
    """

    pieces: list[str]
    states: np.ndarray
    counts: np.ndarray


def moverscore(
    candidates: Sequence[str],
    references: Sequence[str],
    encoder: str | Path,
    num_layers: int,
    batch_size: int = 64,
    device: str = "cpu",
) -> np.ndarray:
    """MoverScore of each pair, float array (pairs,), at most 1 and at least -1.

    `encoder` is a local `from_pretrained` directory and `num_layers` the layer whose states are
    compared. Document frequencies are counted among the distinct candidates, and among the distinct
    references. A pair with a text of which nothing weighs scores 0.
    """
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates, but {len(references)} references")
    texts = list(dict.fromkeys([*candidates, *references]))
    encoded = dict(
        zip(texts, token_states(texts, encoder, num_layers, batch_size, device), strict=True)
    )
    weights, other_weights = _weights(encoded, candidates), _weights(encoded, references)
    scores = []
    for one, other in zip(candidates, references, strict=True):
        states = encoded[one].states, encoded[other].states
        scores.append(mover_similarity(states[0], weights[one], states[1], other_weights[other]))
    return np.array(scores, dtype=float)


def token_states(
    texts: Sequence[str], encoder: str | Path, num_layers: int, batch_size: int, device: str
) -> list[TokenStates]:
    """The texts' pieces with their states after `num_layers` layers of the encoder.

    Raises ValueError for an encoder whose tokenizer does not say which text a piece covers.
    """
    if not (Path(encoder) / "config.json").is_file():
        raise ValueError(f"no encoder in {encoder} (it has no config.json)")
    # Imported here because the measure itself needs neither.
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    if not tokenizer.is_fast:
        raise ValueError(f"the tokenizer in {encoder} does not say which text a piece covers")
    model = AutoModel.from_pretrained(encoder).to(device).eval()
    # A tokenizer that states no length has an astronomical one.
    longest = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    found = []
    for start in range(0, len(texts), batch_size):
        own = list(texts[start : start + batch_size])
        batch = tokenizer(
            own,
            padding=True,
            truncation=True,
            max_length=longest,
            return_special_tokens_mask=True,
            return_offsets_mapping=True,
            return_tensors="pt",
        ).to(device)
        kept = ~batch.pop("special_tokens_mask").bool() & batch["attention_mask"].bool()
        covered = batch.pop("offset_mapping").tolist()
        with torch.inference_mode():
            states = model(**batch, output_hidden_states=True).hidden_states[num_layers]
        for row, (text, mask) in enumerate(zip(own, kept.cpu().numpy(), strict=True)):
            ids = batch["input_ids"][row].cpu().numpy()[mask]
            counts = _counts(text, batch.word_ids(row), covered[row])
            found.append(
                TokenStates(
                    tokenizer.convert_ids_to_tokens(ids.tolist()),
                    states[row].double().cpu().numpy()[mask],
                    counts[mask],
                )
            )
    return found


def _counts(text: str, words: Sequence[int | None], covered: Sequence[Sequence[int]]) -> np.ndarray:
    """Whether each piece is the first of its word to cover more than punctuation and spaces.

    words: the number of each piece's word, None for special tokens; covered: its (start, end)
    characters of the text, none for special tokens. Returns booleans (pieces,).
    """
    counts, begun = [], set()
    for word, (start, end) in zip(words, covered, strict=True):
        has_text = bool(text[start:end].strip(string.punctuation + string.whitespace))
        counts.append(has_text and word not in begun)
        if has_text:
            begun.add(word)
    return np.array(counts, dtype=bool)


def _weights(encoded: dict[str, TokenStates], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The weights of each distinct text's pieces, by how many of the texts have them."""
    distinct = list(dict.fromkeys(texts))
    frequencies = Counter(piece for text in distinct for piece in set(encoded[text].pieces))
    return {
        text: piece_weights(encoded[text].pieces, encoded[text].counts, frequencies, len(distinct))
        for text in distinct
    }


def piece_weights(
    pieces: Sequence[str], counts: Sequence[bool], frequencies: Counter[str], texts: int
) -> np.ndarray:
    """Weights (pieces,) that sum to 1, or all 0 where no piece counts.

    A piece that counts weighs log((texts + 1) / (frequency + 1)), any other one nothing. Where all
    pieces that count are in every text they weigh the same.
    """
    rarity = [np.log((texts + 1) / (frequencies[piece] + 1)) for piece in pieces]
    weights = np.where(counts, rarity, 0.0)
    if weights.sum() <= 0:
        weights = np.asarray(counts, dtype=float)
    return weights / max(weights.sum(), 1e-30)


def mover_similarity(
    states: np.ndarray, weights: np.ndarray, other_states: np.ndarray, other_weights: np.ndarray
) -> float:
    """1 minus the earth mover's distance of two sets of states (pieces x hidden), scaled to 1."""
    counts, other_counts = weights > 0, other_weights > 0
    if not counts.any() or not other_counts.any():
        return 0.0
    cosines = _unit(states[counts]) @ _unit(other_states[other_counts]).T
    distances = np.sqrt(np.maximum(2 - 2 * cosines, 0))
    return 1 - earth_movers_distance(weights[counts], other_weights[other_counts], distances)


def _unit(states: np.ndarray) -> np.ndarray:
    return states / np.maximum(np.linalg.norm(states, axis=-1, keepdims=True), 1e-30)


def earth_movers_distance(
    weights: np.ndarray, other_weights: np.ndarray, distances: np.ndarray
) -> float:
    """The least cost of moving `weights` (n,) to `other_weights` (m,) over `distances` (n x m).

    Both sum to 1. Exact: a linear programme for the flow (n x m), whose rows sum to `weights` and
    whose columns sum to `other_weights`. Raises ValueError for weights that do not sum to 1.
    """
    if not np.allclose([weights.sum(), other_weights.sum()], 1):
        raise ValueError(f"the weights sum to {weights.sum()} and {other_weights.sum()}, not to 1")
    n, m = distances.shape
    if n == 1 or m == 1:  # There is only one flow.
        return float(weights @ distances @ other_weights)
    rows = kron(eye_array(n), np.ones((1, m)))
    columns = kron(np.ones((1, n)), eye_array(m))
    solution = linprog(
        distances.reshape(-1),
        A_eq=vstack([rows, columns]).tocsr(),
        b_eq=np.concatenate([weights / weights.sum(), other_weights / other_weights.sum()]),
        method="highs",
    )
    if solution.status != 0:
        raise RuntimeError(f"no earth mover's distance: {solution.message}")
    return float(solution.fun)
