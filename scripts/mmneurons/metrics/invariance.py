"""How many of a concept's top neurons stay: under shuffled patches, and from picture to picture.

Region invariance of Pan et al. 2024 is r_k = |S_k n S'_k| / |S_k| for the top-k neurons S_k of a
concept in a picture and S'_k with the picture's tokens shuffled; cross-image invariance is
|S_k^1 n ... n S_k^N| / k for N pictures with the same concept.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from mmneurons.metrics.intervals import bootstrap_interval

REGION_COLUMNS = ["method", "site", "k", "value", "low", "high", "n", "n_left_out"]
CROSS_IMAGE_COLUMNS = [
    *("method", "site", "group", "n_pictures", "k"),
    *("value", "low", "high", "n", "n_left_out"),
]

_NEURON = ["module", "layer", "unit"]


def region_invariance_table(
    plain: pd.DataFrame, shuffled: pd.DataFrame, ks: Sequence[int]
) -> pd.DataFrame:
    """One row per method, site and k, with the columns REGION_COLUMNS.

    plain, shuffled: method, site, sample_id, module, layer, unit, rank (0 best, per sample). A
    sample is used if it is in both, that is if both captions have its concept, and if both have k
    neurons recorded; n counts these, n_left_out the other samples of either table. The value is
    the mean of r_k over samples, with a bootstrap interval of 95 % over samples. Without a usable
    sample the value is NaN.
    """
    rows = []
    columns = ["sample_id", *_NEURON, "rank"]
    both = [dict(list(table.groupby(["method", "site"]))) for table in (plain, shuffled)]
    for method, site in sorted(set(both[0]) | set(both[1])):
        before, after = (found.get((method, site), plain.iloc[:0])[columns] for found in both)
        shared = before.merge(after, on=["sample_id", *_NEURON], suffixes=("", "_after"))
        worse = np.maximum(shared["rank"], shared["rank_after"])
        recorded = pd.concat(
            [table.groupby("sample_id").size() for table in (before, after)], axis=1
        ).fillna(0)
        for k in ks:
            usable = recorded.index[(recorded >= k).all(axis=1)]
            kept = shared[worse < k].groupby("sample_id").size().reindex(usable, fill_value=0) / k
            shares = pd.DataFrame({"sample_id": usable, "value": kept.to_numpy()})
            low, high = bootstrap_interval(shares, "value", "sample_id")
            bounds = {"value": shares["value"].mean(), "low": low, "high": high}
            counts = {"n": len(usable), "n_left_out": len(recorded) - len(usable)}
            rows.append({"method": method, "site": site, "k": k} | bounds | counts)
    return pd.DataFrame(rows, columns=REGION_COLUMNS)


def cross_image_table(
    neurons: pd.DataFrame,
    ks: Sequence[int],
    pictures: Sequence[int] = (2, 3, 4, 5),
    sets: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per method, site, concept, number of pictures N and k: CROSS_IMAGE_COLUMNS.

    neurons: method, site, sample_id, group, module, layer, unit, rank, of plain captions, one
    sample for each picture of a concept. Of the pictures with k recorded neurons all sets of N are
    taken, or `sets` different ones drawn by (seed, concept, N) where there are more; n counts the
    sets, n_left_out the concept's pictures with fewer neurons. The value is the mean over sets, its
    95 % interval bootstrap over sets; sets share pictures, so it is rather too narrow. A concept
    with one picture has no row; one with too few for N has a row with the value NaN and n 0.
    """
    rows = []
    for (method, site, group), own in neurons.groupby(["method", "site", "group"], sort=True):
        if own["sample_id"].nunique() < 2:
            continue
        own = own.assign(code=own.groupby(_NEURON).ngroup())
        ranked = [
            table.sort_values("rank")["code"].tolist()
            for _, table in own.groupby("sample_id", sort=True)
        ]
        head = {"method": method, "site": site, "group": group}
        for n in pictures:
            for k in ks:
                tops = [frozenset(codes[:k]) for codes in ranked if len(codes) >= k]
                shares = [
                    len(frozenset.intersection(*(tops[i] for i in chosen))) / k
                    for chosen in picture_sets(len(tops), n, sets, _seed(seed, group, n))
                ]
                table = pd.DataFrame({"set": range(len(shares)), "value": shares}, dtype=float)
                low, high = bootstrap_interval(table, "value", "set")
                bounds = {"value": table["value"].mean(), "low": low, "high": high}
                counts = {"n": len(shares), "n_left_out": len(ranked) - len(tops)}
                rows.append(head | {"n_pictures": n, "k": k} | bounds | counts)
    return pd.DataFrame(rows, columns=CROSS_IMAGE_COLUMNS)


def picture_sets(
    pictures: int, n: int, sets: int, seed: int | Sequence[int]
) -> list[tuple[int, ...]]:
    """All sets of n of `pictures` numbers, or `sets` different ones drawn at random, sorted."""
    if math.comb(pictures, n) <= sets:
        return list(combinations(range(pictures), n))
    rng = np.random.default_rng(seed)
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < sets:
        drawn.add(tuple(sorted(rng.choice(pictures, n, replace=False).tolist())))
    return sorted(drawn)


def _seed(seed: int, group: str, n: int) -> list[int]:
    """The same sets for every method, site and k, and whatever other concepts there are."""
    return [seed, zlib.crc32(group.encode()), n]
