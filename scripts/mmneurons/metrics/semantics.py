"""Semantic sensitivity: how close a concept is to the top tokens of its neurons (Pan et al. 2024).

Table 3 of the paper compares a concept with the ten best tokens of its ten best neurons by text
metrics; how ten tokens become one number it does not say. So three ways stand side by side:

- "mean over tokens": each token is compared by itself, the similarities averaged,
- "max over tokens": the token closest to the concept counts,
- "joined text": the tokens are joined by spaces and compared as one text.

A neuron's numbers are then averaged over the neurons of a sample, and the samples' over samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mmneurons.metrics.intervals import bootstrap_interval

Similarity = Callable[[Sequence[str], Sequence[str]], np.ndarray]

AGGREGATIONS = ("mean over tokens", "max over tokens", "joined text")
COLUMNS = [
    *("method", "site", "metric", "aggregation"),
    *("value", "low", "high", "n", "n_left_out", "encoder"),
]
NOT_COMPUTED = "not computed"

_NEURON = ["module", "layer", "unit"]
_SAMPLE = ["method", "site", "sample_id"]


def sensitivity_table(
    neurons: pd.DataFrame,
    neuron_tokens: pd.DataFrame,
    metric: str,
    similarity: Similarity | None,
    encoder: str,
    n_neurons: int = 10,
    n_tokens: int = 10,
) -> pd.DataFrame:
    """One row per method, site and aggregation, with the columns COLUMNS.

    neurons: method, site, sample_id, group (the concept), module, layer, unit, rank (0 best).
    neuron_tokens: module, layer, unit, tokens (texts, best first). similarity: a function of
    candidates (tokens) and references (concepts), called on distinct pairs only; where it is not
    finite (the encoder sees nothing of a token) the similarity is 0. With None, for a metric
    without an encoder, values are NaN and `encoder` says "not computed".

    n counts samples, and n_left_out those with fewer than `n_neurons` recorded neurons. Intervals
    of 95 % are bootstrap over samples. Raises ValueError for a neuron without tokens.
    """
    chosen = neurons[neurons["rank"] < n_neurons]
    complete = chosen.groupby(_SAMPLE)["rank"].transform("size") == n_neurons
    kept = chosen[complete]
    values = _neuron_values(kept, neuron_tokens, similarity, n_tokens)
    valued = kept.merge(values, on=["group", *_NEURON], how="left", validate="m:1")
    rows = []
    for (method, site), recorded in neurons.groupby(["method", "site"], sort=True):
        own = valued[(valued["method"] == method) & (valued["site"] == site)]
        samples = own.groupby("sample_id", as_index=False)[list(AGGREGATIONS)].mean()
        counts = {
            "n": len(samples),
            "n_left_out": recorded["sample_id"].nunique() - len(samples),
            "encoder": NOT_COMPUTED if similarity is None else encoder,
        }
        for aggregation in AGGREGATIONS:
            low, high = bootstrap_interval(samples, aggregation, "sample_id")
            value = samples[aggregation].mean()
            head = {"method": method, "site": site, "metric": metric, "aggregation": aggregation}
            rows.append(head | {"value": value, "low": low, "high": high} | counts)
    return pd.DataFrame(rows, columns=COLUMNS)


def _neuron_values(
    neurons: pd.DataFrame,
    neuron_tokens: pd.DataFrame,
    similarity: Similarity | None,
    n_tokens: int,
) -> pd.DataFrame:
    """Every distinct (concept, neuron) with its value by each aggregation."""
    cells = neurons[["group", *_NEURON]].drop_duplicates(ignore_index=True)
    if similarity is None or cells.empty:
        return cells.assign(**dict.fromkeys(AGGREGATIONS, np.nan))
    known = neuron_tokens[[*_NEURON, "tokens"]]
    cells = cells.merge(known, on=_NEURON, how="left", validate="m:1")
    tokens = [_texts(found, n_tokens) for found in cells["tokens"]]
    if not all(tokens):
        lost = cells.loc[tokens.index([]), _NEURON].tolist()
        raise ValueError("no top tokens of the neuron {}/L{}.U{}".format(*lost))
    pairs = [(text, group) for group, found in _zip(cells, tokens) for text in found]
    joined = [(" ".join(found), group) for group, found in _zip(cells, tokens)]
    scores = _scores([*pairs, *joined], similarity)
    of_tokens = [[scores[text, group] for text in found] for group, found in _zip(cells, tokens)]
    by_aggregation = (
        [np.mean(found) for found in of_tokens],
        [np.max(found) for found in of_tokens],
        [scores[pair] for pair in joined],
    )
    return cells.drop(columns="tokens").assign(
        **dict(zip(AGGREGATIONS, by_aggregation, strict=True))
    )


def _texts(tokens: Sequence[str] | float, n_tokens: int) -> list[str]:
    """The first tokens as texts without the mark of a word's beginning; [] if there are none."""
    if not np.iterable(tokens):
        return []
    return [token.replace("\u2581", " ").strip() for token in list(tokens)[:n_tokens]]


def _zip(cells: pd.DataFrame, tokens: list[list[str]]) -> list[tuple[str, list[str]]]:
    return list(zip(cells["group"], tokens, strict=True))


def _scores(pairs: list[tuple[str, str]], similarity: Similarity) -> dict[tuple[str, str], float]:
    distinct = list(dict.fromkeys(pairs))
    candidates, references = (list(side) for side in zip(*distinct, strict=True))
    scores = np.asarray(similarity(candidates, references), dtype=float)
    return dict(zip(distinct, np.where(np.isfinite(scores), scores, 0.0).tolist(), strict=True))
