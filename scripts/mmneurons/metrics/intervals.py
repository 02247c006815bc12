"""Bootstrap intervals: what the number would be with other objects, or other pictures."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

Statistic = Callable[..., np.ndarray]


def bootstrap_interval(
    table: pd.DataFrame,
    value: str,
    by: str | list[str],
    statistic: Statistic = np.mean,
    level: float = 0.95,
    draws: int = 2000,
    seed: int | Sequence[int] = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of column `value`, resampling the groups `by`.

    Groups (objects, say) are drawn with replacement, as many as there are, each with all its rows.
    `statistic` takes an array and `axis`, as numpy's functions do. With fewer than two groups, or
    with a NaN among the values, nothing can be said and both bounds are NaN.
    """
    return percentile_bounds(bootstrap_draws(table, value, by, statistic, draws, seed), level)


def bootstrap_draws(
    table: pd.DataFrame,
    value: str,
    by: str | list[str],
    statistic: Statistic = np.mean,
    draws: int = 2000,
    seed: int | Sequence[int] = 0,
) -> np.ndarray:
    """The statistic of every bootstrap sample, float array (draws,); all NaN as stated above.

    Draws of independent tables (with different seeds) can be combined before taking bounds.
    """
    groups = [rows.to_numpy(dtype=float) for _, rows in table.groupby(by, sort=True)[value]]
    if len(groups) < 2 or any(np.isnan(rows).any() for rows in groups):
        return np.full(draws, np.nan)
    chosen = np.random.default_rng(seed).integers(len(groups), size=(draws, len(groups)))
    if len({len(rows) for rows in groups}) == 1:
        sampled = np.stack(groups)[chosen].reshape(draws, -1)
        return np.asarray(statistic(sampled, axis=-1), dtype=float)
    samples = (np.concatenate([groups[i] for i in row]) for row in chosen)
    return np.array([statistic(sample, axis=-1) for sample in samples], dtype=float)


def percentile_bounds(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The bounds that leave (1 - level) / 2 of the draws on either side; NaN if any draw is NaN."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def mean_intervals(
    values: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int | Sequence[int] = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the mean of every column of `values`, float arrays (columns,), at once.

    values: samples x columns. The bounds are those that `bootstrap_interval` gives of each column
    where every sample is a group of its own, with the same draws for all columns. A column's NaN
    are left out of it. With fewer than two values nothing can be said and both bounds are NaN.
    Memory is about draws x samples x 16 bytes.
    """
    values = np.asarray(values, dtype=float)
    bounds = np.full((2, values.shape[1]), np.nan)
    known = ~np.isnan(values)
    patterns, of_column = np.unique(known, axis=1, return_inverse=True)
    for number, rows in enumerate(patterns.T):
        n, columns = int(rows.sum()), of_column.ravel() == number
        if n >= 2:
            chosen = np.random.default_rng(seed).integers(n, size=(draws, n))
            cells = chosen + n * np.arange(draws)[:, None]
            times = np.bincount(cells.ravel(), minlength=draws * n).reshape(draws, n)
            means = times @ values[np.ix_(rows, columns)] / n
            tail = (1 - level) / 2
            bounds[:, columns] = np.quantile(means, [tail, 1 - tail], axis=0)
    return bounds[0], bounds[1]


def joint_mean_intervals(
    values: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int | Sequence[int] = 0
) -> tuple[np.ndarray, np.ndarray]:
    """As `mean_intervals`, but what is drawn are rows of the table, the same ones for every column.

    There columns with NaN have draws of their own, so that their bounds do not go with the others'.
    Here a column's mean of a draw is that of the drawn rows it has values in; a draw in which it
    has none is left out. Without NaN both functions give the same bounds.
    """
    values = np.asarray(values, dtype=float)
    n, known = len(values), ~np.isnan(values)
    bounds = np.full((2, values.shape[1]), np.nan)
    several = known.sum(axis=0) >= 2
    if not several.any():
        return bounds[0], bounds[1]
    chosen = np.random.default_rng(seed).integers(n, size=(draws, n))
    cells = chosen + n * np.arange(draws)[:, None]
    times = np.bincount(cells.ravel(), minlength=draws * n).reshape(draws, n)
    counts = times @ known[:, several].astype(float)
    sums = times @ np.where(known, values, 0)[:, several]
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    tail = (1 - level) / 2
    bounds[:, several] = np.nanquantile(means, [tail, 1 - tail], axis=0)
    return bounds[0], bounds[1]
