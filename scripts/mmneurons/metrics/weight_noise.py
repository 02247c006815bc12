"""What noise on the output rows of a concept's neurons does to captions (Pan et al. 2024, Table 5).

The paper shows single captions; here they are counted: does the caption still name the concept
(suppression), still name the picture's other concepts (retention), has it changed at all?
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from mmneurons.metrics.intervals import bootstrap_interval
from mmneurons.metrics.naming import named_after, names

COLUMNS = [
    *("method", "unit", "level", "measure"),
    *("value", "low", "high", "n", "n_left_out"),
]
MEASURES = ("suppression", "retention", "unchanged")

_CELL = ["method", "unit", "level"]


def weight_noise_table(
    captions: pd.DataFrame, concepts: pd.DataFrame, prefix: str = ""
) -> pd.DataFrame:
    """One row per method, unit, noise level and measure, with the columns COLUMNS.

    captions: method, seed, unit, level, draw, sample_id, group (the concept), picture_id,
    caption_before, caption. concepts: picture_id, group, of the plain captions. `prefix`, with
    which every caption begins, names nothing. Measures of a caption, averaged over draws, then
    seeds, then samples:

    - suppression: it does not name the concept; left out where the caption before did not either,
    - retention: the share, still named, of the picture's other concepts that were named before;
      left out where there are none. The concept in another number ("dogs") is not another one,
    - unchanged: it is the caption before.

    n counts captions, n_left_out those to which a measure does not apply; without any the value is
    NaN. Intervals of 95 % are bootstrap over samples.
    """
    judged = captions.reset_index(drop=True)
    by_picture = concepts.groupby("picture_id")["group"].agg(list).to_dict()
    judged = judged.assign(
        suppression=[gone(row, row.group, prefix) for row in judged.itertuples()],
        retention=[
            share_kept(row, by_picture.get(row.picture_id, ()), [row.group], prefix)
            for row in judged.itertuples()
        ],
        unchanged=judged["caption"] == judged["caption_before"],
    )
    rows = []
    for cell, own in judged.groupby(_CELL, sort=True):
        head = dict(zip(_CELL, cell, strict=True))
        for measure in MEASURES:
            rows.append(head | {"measure": measure} | rate(own, measure, ["seed"]))
    return pd.DataFrame(rows, columns=COLUMNS)


def gone(row: tuple, concept: str, prefix: str) -> float:
    """1 if `row.caption` does not name the concept, else 0; NaN if it was not named before."""
    if not named_after(row.caption_before, concept, prefix):
        return np.nan
    return float(not named_after(row.caption, concept, prefix))


def share_kept(row: tuple, concepts: Iterable[str], apart_from: list[str], prefix: str) -> float:
    """The share of concepts named in `row.caption_before` that `row.caption` still names.

    Not counted are those that one of `apart_from` names, or that name it ("dog" and "dogs").
    Returns NaN where none is left.
    """
    others = [
        concept
        for concept in dict.fromkeys(concepts)
        if not any(names(concept, word) or names(word, concept) for word in apart_from)
        and named_after(row.caption_before, concept, prefix)
    ]
    kept = [named_after(row.caption, concept, prefix) for concept in others]
    return float(np.mean(kept)) if kept else np.nan


def rate(table: pd.DataFrame, measure: str, levels: list[str]) -> dict:
    """Value, low, high, n and n_left_out of a column, in which NaN means "does not apply".

    Rows are averaged within each combination of sample and `levels`, these within each sample, and
    these over samples, which are also what the bootstrap draws.
    """
    values = table[["sample_id", *levels]].assign(value=table[measure].astype(float))
    applies = values.dropna(subset="value")
    inner = applies.groupby(["sample_id", *levels], as_index=False)["value"].mean()
    samples = inner.groupby("sample_id", as_index=False)["value"].mean()
    low, high = bootstrap_interval(samples, "value", "sample_id")
    bounds = {"value": samples["value"].mean(), "low": low, "high": high}
    return bounds | {"n": len(applies), "n_left_out": len(values) - len(applies)}
