"""Suppression, retention and score of noise on selected neurons (Sato & Takagi 2025, Table II).

A caption is hit if it names the object of its own picture. With N(k, j) the neurons of picture j of
object k, and hits averaged over draws (and, for random controls, over seeds):

- suppression of k: 1 - mean over j and over the pictures x of k of hit(x, N(k, j)),
- retention of k: mean over j and over the pictures x of other objects of hit(x, N(k, j)),
- score: the mean of the two.

As in the paper the pictures are taken to be hit without noise, which their choice guarantees.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mmneurons.metrics.intervals import bootstrap_draws, percentile_bounds

MEASURES = ("suppression", "retention", "score")
_PAIR = ["sample_id", "picture_id"]
_CELL = ["method", "variant", "group", "level"]


def suppression_table(
    hits: pd.DataFrame,
    hit: str = "named",
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per method, variant, object and noise level, and the averages over them.

    `hits` has a row per caption: method, variant, seed, sample_id and group (whose neurons),
    picture_id and picture_group (which picture), level, draw, and the bool column `hit` ("named",
    or "named_loose" for the substring rule). Columns of the result: method, variant, group ("" for
    the mean over objects), level (NaN for the mean over levels), each of MEASURES with _low and
    _high, n_groups (objects averaged), n_captions.

    An object's interval resamples its pairs of (neurons' picture, captioned picture), targets and
    others apart; pairs share pictures, so it is rather too narrow. The averages' interval resamples
    objects. Bounds are NaN where fewer than two units are there to be resampled, and retention and
    score are NaN where no picture of another object was captioned.
    """
    if hits.empty:
        raise ValueError("no captions to compute suppression from")
    pairs = _pair_means(hits, hit)
    rows = []
    for (method, variant), of_method in pairs.groupby(["method", "variant"], sort=True):
        head = {"method": method, "variant": variant}
        for noise, at_level in _each_level_and_all(of_method):
            objects = [
                {"group": group, **_object_row(own, level, draws, seed)}
                for group, own in at_level.groupby("group", sort=True)
            ]
            mean = {"group": "", **_mean_row(pd.DataFrame(objects), level, draws, seed)}
            rows += [{**head, "level": noise, **row} for row in [*objects, mean]]
    bounds = [name for measure in MEASURES for name in _with_bounds(measure)]
    table = pd.DataFrame(rows)[[*_CELL, *bounds, "n_groups", "n_captions"]]
    return table.sort_values(_CELL, na_position="last", ignore_index=True)


def _pair_means(hits: pd.DataFrame, hit: str) -> pd.DataFrame:
    """Hits averaged over draws, then over seeds: a row per pair and level, with `target`."""
    keys = [*_CELL, *_PAIR, "picture_group"]
    by_seed = hits.groupby([*keys, "seed"], observed=True, sort=True)[hit]
    seeds = by_seed.agg(mean="mean", n="size").reset_index()
    pairs = seeds.groupby(keys, observed=True, sort=True).agg(hit=("mean", "mean"), n=("n", "sum"))
    pairs = pairs.reset_index()
    return pairs.assign(target=pairs["group"] == pairs["picture_group"])


def _each_level_and_all(pairs: pd.DataFrame) -> Iterator[tuple[float, pd.DataFrame]]:
    """The pairs of every level, then the pairs averaged over levels under the level NaN."""
    for level, rows in pairs.groupby("level", sort=True):
        yield float(level), rows
    keys = ["group", *_PAIR, "target"]
    yield (
        np.nan,
        pairs.groupby(keys, sort=True).agg(hit=("hit", "mean"), n=("n", "sum")).reset_index(),
    )


def _object_row(pairs: pd.DataFrame, level: float, draws: int, seed: int) -> dict:
    own, others = pairs[pairs["target"]], pairs[~pairs["target"]]
    suppression, retention = 1 - own["hit"].mean(), others["hit"].mean()
    values = {
        "suppression": suppression,
        "retention": retention,
        "score": (suppression + retention) / 2,
    }
    suppressed = 1 - bootstrap_draws(own, "hit", _PAIR, draws=draws, seed=[seed, 0])
    retained = bootstrap_draws(others, "hit", _PAIR, draws=draws, seed=[seed, 1])
    samples = (suppressed, retained, (suppressed + retained) / 2)
    for measure, sample in zip(MEASURES, samples, strict=True):
        low, high = percentile_bounds(sample, level)
        values |= dict(zip(_with_bounds(measure)[1:], (low, high), strict=True))
    return values | {"n_groups": 1, "n_captions": int(pairs["n"].sum())}


def _mean_row(objects: pd.DataFrame, level: float, draws: int, seed: int) -> dict:
    values: dict = {}
    for measure in MEASURES:
        # An object without retention makes the mean unknown rather than a mean over fewer objects.
        mean = objects[measure].mean(skipna=False)
        sample = bootstrap_draws(objects, measure, "group", draws=draws, seed=seed)
        bounds = (mean, *percentile_bounds(sample, level))
        values |= dict(zip(_with_bounds(measure), bounds, strict=True))
    return values | {"n_groups": len(objects), "n_captions": int(objects["n_captions"].sum())}


def _with_bounds(measure: str) -> tuple[str, str, str]:
    return measure, f"{measure}_low", f"{measure}_high"
