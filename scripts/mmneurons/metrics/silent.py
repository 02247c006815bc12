"""Neurons that no token of any domain activates (Huo et al. 2024, Figure 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

COLUMNS = ["module", "layer", "n_units", "n_silent", "inert"]


def silent_table(
    counts: Mapping[str, np.ndarray],
    layers: Mapping[str, Sequence[int]],
    inert: Mapping[str, Sequence[int]],
) -> pd.DataFrame:
    """One row per module and layer, with the columns COLUMNS.

    counts: by module, how often each unit was activated, groups x units, the layers' units one
    after the other; layers: the number of units of each layer; inert: which layers cannot reach the
    output. A unit is silent if its count is 0 in all groups. Raises ValueError where counts and
    layers do not agree.
    """
    rows = []
    for module, sizes in layers.items():
        silent = (np.asarray(counts[module]) == 0).all(axis=0)
        if silent.size != sum(sizes):
            raise ValueError(f"{module}: counts of {silent.size} units, layers of {sum(sizes)}")
        ends = np.cumsum(sizes)
        for layer, (size, end) in enumerate(zip(sizes, ends, strict=True)):
            n_silent = int(silent[end - size : end].sum())
            rows.append((module, layer, size, n_silent, layer in inert.get(module, ())))
    return pd.DataFrame(rows, columns=COLUMNS)
