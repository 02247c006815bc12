"""From scores to neurons: the rules that every method shares."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


def top_units(scores: np.ndarray, k: int, excluded_layers: Collection[int] = ()) -> np.ndarray:
    """The `k` best neurons as rows (layer, unit), best first.

    scores: `layers x units`. Ties go to the lower (layer, unit). Fewer than `k` are returned only
    where fewer exist outside the excluded layers. Not-a-number is an error: it has no rank.
    """
    scores = np.asarray(scores, dtype=np.float32)
    if np.isnan(scores).any():
        raise ValueError("scores contain not-a-number")
    layers, units = np.indices(scores.shape).reshape(2, -1)
    allowed = ~np.isin(layers, list(excluded_layers))
    layers, units, flat = layers[allowed], units[allowed], scores.ravel()[allowed]
    best = np.lexsort((units, layers, -flat))[:k]
    return np.stack([layers[best], units[best]], axis=1)


def rank_selected(selected: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The neurons marked in `layers x units` booleans as rows (layer, unit), best score first."""
    layers, units = np.nonzero(selected)
    order = np.lexsort((units, layers, -np.asarray(scores, dtype=np.float32)[layers, units]))
    return np.stack([layers[order], units[order]], axis=1)


def random_like(neurons: np.ndarray, units_per_layer: int, rng: np.random.Generator) -> np.ndarray:
    """As many random neurons from each layer as `neurons` has there, none of them in `neurons`.

    Where a layer has too few others left, all of them are taken and the rest is drawn from the
    selected ones, so that the number always matches.
    """
    drawn = []
    for layer, count in zip(*np.unique(neurons[:, 0], return_counts=True), strict=True):
        taken = neurons[neurons[:, 0] == layer, 1]
        others = rng.permutation(np.setdiff1d(np.arange(units_per_layer), taken))
        units = np.concatenate([others, rng.permutation(taken)])[:count]
        drawn.append(np.stack([np.full(count, layer), units], axis=1))
    return np.concatenate(drawn) if drawn else np.empty((0, 2), dtype=np.int64)
