"""Neuron tables of two-stage filtering and of the selections that it is compared with."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from mmneurons.methods.selection import random_like, rank_selected, top_units
from mmneurons.methods.thresholds import calibrate_alpha, tail_thresholds
from mmneurons.methods.two_stage import select

NEURON_COLUMNS = ["sample_id", "group", "module", "layer", "unit", "score", "rank"]


def automatic_thresholds(
    samples: pd.DataFrame,
    difference: np.ndarray,
    gradact: np.ndarray,
    inert_layers: Collection[int],
    share: float,
) -> tuple[pd.DataFrame, dict]:
    """Thresholds of every sample by the automatic rule, and what the rule was fixed on.

    samples: sample_id, group, role, in the order of the values, which are `n x layers x units`.
    """
    reach = np.setdiff1d(np.arange(difference.shape[1]), list(inert_layers))
    pairs = list(zip(difference[:, reach], gradact[:, reach], strict=True))
    calibration = [
        pair for pair, role in zip(pairs, samples["role"], strict=True) if role == "calibration"
    ]
    alpha, achieved = calibrate_alpha(calibration, share)
    thresholds = [tail_thresholds(*pair, alpha) for pair in pairs]
    table = samples[["sample_id", "group", "role"]].copy()
    table[["threshold_a", "threshold_g"]] = thresholds
    rule = {"alpha": alpha, "share": share, "share_on_calibration": achieved}
    return table, rule | {"n_calibration": len(calibration)}


def manual_thresholds(samples: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Thresholds of every sample from a table by hand.

    table: object, threshold_a, threshold_g and perhaps sample_id; a row with a sample_id is for
    that sample, a row without for all others of the object. Raises ValueError for an object that
    the table does not have.
    """
    by_sample: dict = {}
    if "sample_id" in table:
        own = table.dropna(subset=["sample_id"])
        by_sample = own.set_index("sample_id")[["threshold_a", "threshold_g"]].T.to_dict("list")
        table = table[table["sample_id"].isna()]
    by_object = table.set_index("object")[["threshold_a", "threshold_g"]].T.to_dict("list")
    missing = sorted(
        {s.group for s in samples.itertuples() if s.sample_id not in by_sample} - set(by_object)
    )
    if missing:
        raise ValueError(f"the table of thresholds has no row for: {', '.join(missing)}")
    if table["object"].duplicated().any():
        raise ValueError("the table of thresholds has two rows for one object")
    result = samples[["sample_id", "group", "role"]].copy()
    result[["threshold_a", "threshold_g"]] = [
        by_sample.get(s.sample_id) or by_object[s.group] for s in samples.itertuples()
    ]
    return result


def select_neurons(
    thresholds: pd.DataFrame, difference: np.ndarray, gradact: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Apply each sample's thresholds; neurons are ranked by activation difference.

    Returns (neurons, thresholds with n_candidates, those of stage 1, and n_selected). Raises
    ValueError for not-a-number, which would exceed no threshold and vanish silently.
    """
    tables, counts = [], []
    for row, d, g in zip(thresholds.itertuples(), difference, gradact, strict=True):
        if np.isnan(d).any() or np.isnan(g).any():
            raise ValueError(f"values of {row.sample_id} contain not-a-number")
        selected = select(d, g, row.threshold_a, row.threshold_g)
        tables.append(_neurons(row, rank_selected(selected, d), d))
        counts.append(((d > row.threshold_a).sum(), selected.sum()))
    thresholds = thresholds.copy()
    thresholds[["n_candidates", "n_selected"]] = np.array(counts, dtype=np.int64)
    return _together(tables), thresholds


def select_top(
    samples: pd.DataFrame,
    scores: np.ndarray,
    counts: Mapping[str, int],
    excluded_layers: Collection[int] = (),
) -> pd.DataFrame:
    """The `counts[sample_id]` best neurons of each sample by scores `n x layers x units`."""
    return _together(
        [
            _neurons(row, top_units(values, counts[row.sample_id], excluded_layers), values)
            for row, values in zip(samples.itertuples(), scores, strict=True)
        ]
    )


def select_random(
    samples: pd.DataFrame, neurons: pd.DataFrame, units_per_layer: int, seeds: int, seed: int
) -> pd.DataFrame:
    """For each sample and seed as many random neurons from the layers of `neurons` as are there.

    They depend on the sample's name and the seed only, not on the other samples. Score is 0.
    """
    tables = []
    for draw in range(seeds):
        for row in samples.itertuples():
            own = neurons.loc[neurons["sample_id"] == row.sample_id, ["layer", "unit"]].to_numpy()
            rng = np.random.default_rng([seed, draw, *row.sample_id.encode()])
            drawn = random_like(own, units_per_layer, rng)
            zeros = np.zeros((int(drawn[:, 0].max(initial=-1)) + 1, units_per_layer))
            tables.append(_neurons(row, drawn, zeros).assign(seed=draw))
    return _together(tables)


def _neurons(sample, neurons: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Rows (layer, unit), best first, as a table."""
    layers, units = neurons[:, 0], neurons[:, 1]
    return pd.DataFrame(
        {
            "sample_id": sample.sample_id,
            "group": sample.group,
            "module": "language",
            "layer": layers.astype(np.int64),
            "unit": units.astype(np.int64),
            "score": np.asarray(scores)[layers, units].astype(np.float32),
            "rank": np.arange(len(neurons)),
        }
    )


def _together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True)
    return table.astype({"sample_id": "str", "group": "str", "module": "str"})
