"""Where given neurons stand in a ranking, with ties kept as ties."""

from __future__ import annotations

import numpy as np


def standing(scores: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many neurons score higher than each given one, and how many the same, itself included.

    scores: `layers x units`, the higher the better, minus infinity allowed; units: rows
    (layer, unit). Two int arrays, one value a row. Raises ValueError for not-a-number.
    """
    scores = np.asarray(scores, dtype=np.float32)
    if np.isnan(scores).any():
        raise ValueError("scores contain not-a-number")
    ordered = np.sort(scores, axis=None)
    own = scores[tuple(np.asarray(units).T)]
    first, last = (np.searchsorted(ordered, own, side) for side in ("left", "right"))
    return ordered.size - last, last - first
