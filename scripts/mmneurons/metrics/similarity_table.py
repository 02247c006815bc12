"""Table III of Sato & Takagi 2025: captions under noise beside the inpainted picture's caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mmneurons.metrics.intervals import bootstrap_interval

Similarity = Callable[[Sequence[str], Sequence[str]], np.ndarray]


def similarity_table(
    noise: pd.DataFrame, inpainted: dict[str, str], measures: dict[str, Similarity]
) -> pd.DataFrame:
    """Mean similarity of noisy captions to the caption of the same picture without the object.

    noise: rows of noise.parquet; only pictures of the neurons' own concept count, since the others
    are captioned to see what stays. inpainted: caption of each picture's inpainted version.
    measures: name to a function of candidates and references; equal pairs are scored once.
    Intervals of 95 % are bootstrap over objects. Returns method, variant, each measure with _low
    and _high, n_pairs, and n_left_out: captions of pictures without an inpainted caption.
    """
    own = noise[noise["group"] == noise["picture_group"]].copy()
    own["reference"] = own["picture_id"].map(inpainted)
    without = own["reference"].isna()
    left_out = own[without].groupby(["method", "variant"]).size()
    own = own[~without]
    pairs = own[["caption", "reference"]].drop_duplicates().reset_index(drop=True)
    for name, measure in measures.items():
        pairs[name] = measure(pairs["caption"].tolist(), pairs["reference"].tolist())
    scored = own.merge(pairs, on=["caption", "reference"], how="left", validate="m:1")
    rows = []
    for (method, variant), table in scored.groupby(["method", "variant"], sort=False):
        row: dict = {"method": method, "variant": variant}
        for name in measures:
            low, high = bootstrap_interval(table, name, "group")
            row |= {name: table[name].mean(), f"{name}_low": low, f"{name}_high": high}
        n_left_out = int(left_out.get((method, variant), 0))
        rows.append(row | {"n_pairs": len(table), "n_left_out": n_left_out})
    return pd.DataFrame(rows)
