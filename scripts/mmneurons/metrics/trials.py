"""Means over the samples of a domain in every trial: what is deactivated, how, and which draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmneurons.metrics.intervals import mean_intervals

TRIAL = ["condition", "control", "seed"]
CONDITIONS = ("none", "vision", "projector", "qformer", "language", "all")
"""Order of the conditions in tables; others follow by name."""


def sample_means(
    table: pd.DataFrame,
    groups: Sequence[str],
    values: Sequence[str],
    keys: Sequence[str] = (),
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """A row per group, trial, `keys` and value column, with the mean over samples.

    table: sample_id, group, the columns of TRIAL, `keys`, and float columns `values`. Columns of
    the result: group, condition, control, seed, `keys`, name (of the value column), value, low,
    high, n, n_left_out. NaN are left out and counted in n_left_out; without any other value the
    mean is NaN. Bounds are bootstrap over samples, with the same samples drawn for all trials of a
    group. Groups are in the order of `groups`, trials in that of CONDITIONS, control and seed,
    whatever the order of `table`.

    Raises ValueError if a trial has a sample twice, or a group is not among `groups`.
    """
    twice = table.duplicated(["sample_id", *TRIAL])
    if twice.any():
        raise ValueError(f"a trial has the sample {table.loc[twice, 'sample_id'].iloc[0]} twice")
    unknown = set(table["group"]) - set(groups)
    if unknown:
        raise ValueError(f"groups {sorted(unknown)} are not among {list(groups)}")
    conditions = [*CONDITIONS, *sorted(set(table["condition"]) - set(CONDITIONS))]
    table = table.assign(
        group=pd.Categorical(table["group"], list(groups), ordered=True),
        condition=pd.Categorical(table["condition"], conditions, ordered=True),
    )
    rows = []
    for _, own in table.groupby(["group", *keys], sort=True, observed=True):
        sample = pd.factorize(own["sample_id"], sort=True)[0]
        by_trial = own.groupby(["group", *TRIAL, *keys], sort=True, observed=True)
        trials = by_trial.size().rename("size").reset_index()
        for place, name in enumerate(values):
            # samples x trials, NaN where a trial lacks a sample
            cells = np.full((sample.max() + 1, len(trials)), np.nan)
            cells[sample, by_trial.ngroup()] = own[name]
            n = np.isfinite(cells).sum(axis=0)
            sums = np.nansum(cells, axis=0)
            low, high = mean_intervals(cells, level, draws, seed)
            rows.append(
                trials.assign(
                    **{"name": name, "place": place, "low": low, "high": high, "n": n},
                    value=np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0),
                    n_left_out=trials["size"] - n,
                )
            )
    columns = ["group", *TRIAL, *keys, "name", "value", "low", "high", "n", "n_left_out"]
    if not rows:
        return pd.DataFrame(columns=columns)
    found = pd.concat(rows).sort_values(["group", *TRIAL, *keys, "place"], ignore_index=True)
    return found[columns].astype({"group": str, "condition": str})
