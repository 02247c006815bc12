"""Which pictures excite the units of a category, and in which layers units are found.

Schwettmann et al. 2023 (S.4, figure S.2) take the units of ImageNet's classes; here categories are
those of COCO, on pictures with a single object.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmneurons.artifacts.schwettmann import RECORDED, TABLES

STAGE = "selectivity"


def category_units(
    pictures: pd.DataFrame, units: pd.DataFrame, most: int, n_units: int
) -> dict[str, pd.DataFrame]:
    """The units of each category: (layer, unit) rows, at most `n_units`, most frequent first.

    A unit's frequency is the number of the category's pictures to "identify" that have it among
    their `most` best units. Only interpretable units count. Of as frequent ones those come first
    that stand higher on average in these pictures, then the lower (layer, unit).
    """
    own = pictures.loc[pictures["part"] == "identify", ["picture_id", "category"]]
    chosen = units[(units["rank"] < most) & units["interpretable"]]
    found = chosen.merge(own, left_on="sample_id", right_on="picture_id")
    counts = found.groupby(["category", "layer", "unit"], as_index=False).agg(
        size=("rank", "size"), rank=("rank", "mean")
    )
    order = ["category", "size", "rank", "layer", "unit"]
    counts = counts.sort_values(order, ascending=[True, False, True, True, True])
    return {
        name: table[["layer", "unit"]].head(n_units).reset_index(drop=True)
        for name, table in counts.groupby("category")
    }


def evaluated_pictures(pictures: pd.DataFrame) -> pd.DataFrame:
    """selectivity_pictures.csv: the pictures to "evaluate" by category, each in its seeded order.

    pictures: pictures.parquet, whose rows are in the order of the seed.
    """
    own = pictures[pictures["part"] == "evaluate"]
    columns = list(TABLES["metrics/selectivity_pictures"])
    return own.sort_values("category", kind="stable", ignore_index=True)[columns]


def selectivity_table(
    chosen: dict[str, pd.DataFrame],
    sums: np.ndarray,
    counts: np.ndarray,
    categories: Sequence[str],
    layers: Sequence[int],
    units_per_layer: Sequence[int],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """selectivity.csv: mean activation of each category's units on every category's pictures.

    chosen: of `category_units`; sums: `categories x units of all layers`, of the mean activations
    of `counts` pictures each. `value` is relative to the maximum over the categories of pictures,
    NaN where that is not above 0. Categories without a unit or a picture are in the second table.
    """
    starts = dict(zip(layers, np.cumsum([0, *units_per_layer[:-1]]), strict=True))
    seen = [name for name, n in zip(categories, counts, strict=True) if n]
    rows, left_out = [], []
    for name in categories:
        problem = None
        if name not in seen:
            problem = "no-picture", "none to evaluate has a noun in its caption"
        elif name not in chosen:
            problem = "no-interpretable-units", "none among the best of the pictures to identify"
        if problem:
            left_out.append((STAGE, "", name, *problem))
            continue
        own = chosen[name]
        places = (own["layer"].map(starts) + own["unit"]).to_numpy()
        activation = {
            other: float(sums[place, places].mean() / counts[place])
            for place, other in enumerate(categories)
            if other in seen
        }
        most = max(activation.values())
        for other, value in activation.items():
            row = {"units_of": name, "pictures_of": other}
            row |= {"value": value / most if most > 0 else np.nan, "activation": value}
            n_pictures = int(counts[list(categories).index(other)])
            rows.append(row | {"n_units": len(own), "n_pictures": n_pictures})
    columns, exclusions = TABLES["metrics/selectivity"], RECORDED["exclusions"]
    return (
        pd.DataFrame(rows, columns=list(columns)).astype(columns),
        pd.DataFrame(left_out, columns=list(exclusions)).astype(exclusions),
    )


def layer_counts(units: pd.DataFrame, layers: Sequence[int], most: int) -> pd.DataFrame:
    """layers.csv: different units of each layer among the `most` best of any picture."""
    best = units[units["rank"] < most].drop_duplicates(["layer", "unit"])
    rows = [
        (layer, (best["layer"] == layer).sum(), best["interpretable"][best["layer"] == layer].sum())
        for layer in layers
    ]
    columns = TABLES["metrics/layers"]
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
