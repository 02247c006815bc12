"""What edits from a source word to a target word do to captions (Pan et al. 2024, Tables 6 and 7).

The paper shows single captions; here they are rates over many (source, target) pairs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mmneurons.metrics.naming import named_after
from mmneurons.metrics.weight_noise import gone, rate, share_kept

COLUMNS = ["kind", "method", "measure", "value", "low", "high", "n", "n_left_out"]
MEASURES = {
    "success": "edited",
    "target_named": "edited",
    "source_gone": "edited",
    "transfer": "transfer",
    "locality": "locality",
    "others_kept": "edited",
    "unedited": "edit",
}
"""Each measure and the captions it is taken on; "edit" is one number for each edit."""

# A random control has the edit's name; its seed tells which.
_EDIT = ["edit_id", "seed"]


def edits_table(captions: pd.DataFrame, concepts: pd.DataFrame, prefix: str = "") -> pd.DataFrame:
    """One row per kind of edit, method and measure, with the columns COLUMNS.

    captions: edit_id, sample_id (whose neurons), source, target, kind, method, seed, picture_id,
    role, n_neurons, n_unedited, caption_before, caption. concepts: picture_id, group, of the plain
    captions. `prefix`, with which every caption begins, names nothing. Measures of a caption:

    - target_named: it names the target; left out where the caption before did,
    - source_gone: it does not name the source; left out where the caption before did not either,
    - success: both, on the edited picture; left out where either is,
    - transfer: the same on other pictures with the source,
    - locality: it is the caption before, on pictures without the source; left out where the caption
      before names the source,
    - others_kept: the share, still named, of the edited picture's concepts other than source and
      target that were named before; left out where there are none,

    and of an edit, unedited: the share of its neurons that Algorithm 1 leaves as they are, because
    their gradient is not longer than beta; left out where it has none.

    Values are averaged over an edit's pictures, then over a sample's edits (targets, random seeds),
    then over samples; 95 % intervals are bootstrap over samples. n counts captions (for unedited:
    edits, of which each random seed is one), n_left_out those to which a measure does not apply;
    without any the value is NaN.
    """
    judged = _judged(captions.reset_index(drop=True), concepts, prefix)
    rows = []
    for (kind, method), own in judged.groupby(["kind", "method"], sort=True):
        edits = own.drop_duplicates(_EDIT)
        for measure, role in MEASURES.items():
            table = edits if role == "edit" else own[own["role"] == role]
            column = "success" if measure == "transfer" else measure
            head = {"kind": kind, "method": method, "measure": measure}
            rows.append(head | rate(table, column, _EDIT))
    return pd.DataFrame(rows, columns=COLUMNS)


def _judged(captions: pd.DataFrame, concepts: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The captions with a column for each measure, NaN where it does not apply."""
    by_picture = concepts.groupby("picture_id")["group"].agg(list).to_dict()
    rows = list(captions.itertuples())
    had_source = np.array([named_after(row.caption_before, row.source, prefix) for row in rows])
    had_target = np.array([named_after(row.caption_before, row.target, prefix) for row in rows])
    has_target = np.array([named_after(row.caption, row.target, prefix) for row in rows])
    unchanged = captions["caption"] == captions["caption_before"]
    others_kept = [
        share_kept(row, by_picture.get(row.picture_id, ()), [row.source, row.target], prefix)
        for row in rows
    ]
    judged = captions.assign(
        target_named=np.where(had_target, np.nan, has_target),
        source_gone=[gone(row, row.source, prefix) for row in rows],
        locality=np.where(had_source, np.nan, unchanged),
        others_kept=others_kept,
        unedited=captions["n_unedited"] / captions["n_neurons"].where(captions["n_neurons"] > 0),
    )
    # A product is NaN where a factor is.
    return judged.assign(success=judged["target_named"] * judged["source_gone"])
