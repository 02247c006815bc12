"""Specificity: what a concept's best neuron adds to tokens, its own and random ones (Pan et al.).

S@m = (1 / nm) sum over the top-1 neurons of n samples and over m tokens of the contribution
o (W_out W_u)[i, t] (Pan et al. 2024, Table 4). The paper's S@50 of related tokens equals its S@10
divided by 5: only ten tokens were added up, and the sum divided by fifty. Both readings are given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmneurons.metrics.intervals import bootstrap_interval

COLUMNS = ["site", "tokens", "m", "divisor", "value", "low", "high", "n"]
TOKENS = ("related", "random")
RELEASED_TOKENS = 10
"""How many tokens of a neuron the released code keeps."""


def specificity_table(scores: pd.DataFrame, ms: Sequence[int] = (1, 5, 10, 50)) -> pd.DataFrame:
    """One row per site, kind of tokens, m and divisor, with the columns COLUMNS.

    scores: site, sample_id and, for the sample's top-1 neuron, the lists `related` (contributions
    to its best tokens, best first) and `random` (to random tokens). Divisor "m" adds m tokens and
    divides by m; "released" adds at most ten and divides by m. n counts samples; those with fewer
    tokens than are added up are left out, and with none left the value is NaN. Intervals of 95 %
    are bootstrap over samples.
    """
    rows = []
    for site, own in scores.groupby("site", sort=True):
        for tokens in TOKENS:
            for m in ms:
                for divisor, added in (("m", m), ("released", min(m, RELEASED_TOKENS))):
                    means = _means(own, tokens, added, m)
                    low, high = bootstrap_interval(means, "value", "sample_id")
                    head = {"site": site, "tokens": tokens, "m": m, "divisor": divisor}
                    bounds = {"value": means["value"].mean(), "low": low, "high": high}
                    rows.append(head | bounds | {"n": len(means)})
    return pd.DataFrame(rows, columns=COLUMNS)


def _means(scores: pd.DataFrame, tokens: str, added: int, m: int) -> pd.DataFrame:
    """For each sample with enough tokens the sum of the first `added` divided by `m`."""
    rows = [
        (sample, np.sum(np.asarray(found, dtype=float)[:added]) / m)
        for sample, found in zip(scores["sample_id"], scores[tokens], strict=True)
        if len(found) >= added
    ]
    return pd.DataFrame(rows, columns=["sample_id", "value"])
