"""How far deactivated neurons move the last hidden states (Huo et al. 2024, Table 3).

The paper gives ||Hn - Hd|| / ||Hn|| and not what it is taken over; the tables say it.
"""

from __future__ import annotations

import pandas as pd

from mmneurons.metrics.trials import sample_means

COLUMNS = [
    *("group", "condition", "control", "seed", "over"),
    *("value", "low", "high", "n", "n_left_out"),
]
OVER = ("all_tokens", "per_token", "image", "text", "last")
"""Frobenius norm over all prompt tokens; mean of the tokens' own ratios; over image tokens; over
text tokens; the last prompt token."""


def deviation_table(
    deviation: pd.DataFrame, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """One row per group, condition, control, seed and set of tokens, with the columns COLUMNS.

    deviation: sample_id, group, condition, control, seed, and the columns OVER, fractions of the
    norm without deactivation. The value is the mean over samples with a bootstrap interval over
    samples; n counts them, n_left_out those without such tokens, which are NaN. Groups are in the
    order of `deviation`. Raises ValueError if a trial has a sample twice.
    """
    groups = list(deviation["group"].unique())
    means = sample_means(deviation, groups, OVER, (), level, draws, seed)
    return means.rename(columns={"name": "over"})[COLUMNS]
