"""Receptive fields: where units are active, against the object's mask (Schwettmann et al. 2023).

A unit's activations at the image tokens are scaled up to the picture; the pixels above a
percentile are its receptive field, which is compared with COCO's segmentation of the object by
intersection over union (figure 5). Random units of the same layers are the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image

from mmneurons.artifacts.schwettmann import RECORDED, TABLES
from mmneurons.metrics.intervals import bootstrap_interval

STAGE = "localisation"
MEAN_UNITS = 20
"""Best units whose mean map is a receptive field as well."""


def receptive_field(
    values: np.ndarray,
    size: tuple[int, int],
    percentile: float,
    box: Sequence[int] | None = None,
) -> np.ndarray:
    """Pixels of a picture in which a unit is most active, boolean `height x width`.

    values: activations `rows x columns` of the image tokens; size: (height, width) of the picture;
    box: left, top, right, bottom of what the image tokens cover of it, all of it without. Values
    are scaled up bilinearly, between the centres of the patches, and constant beyond the outermost
    ones. Pixels above the percentile of the box's own pixels belong to the field; where all are the
    same, none.
    """
    left, top, right, bottom = box or (0, 0, size[1], size[0])
    scaled = Image.fromarray(np.asarray(values, dtype=np.float32)).resize(
        (right - left, bottom - top), Image.Resampling.BILINEAR
    )
    pixels = np.asarray(scaled)
    field = np.zeros(size, dtype=bool)
    field[top:bottom, left:right] = pixels > np.percentile(pixels, percentile)
    return field


def iou(field: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union of two boolean arrays; 0 where both are empty."""
    union = np.count_nonzero(field | mask)
    return np.count_nonzero(field & mask) / union if union else 0.0


def localise(
    pictures: pd.DataFrame,
    rows: pd.DataFrame,
    maps: np.ndarray,
    grid: Sequence[int] | None,
    boxes: Mapping[str, Sequence[int]],
    interpretable: pd.DataFrame,
    percentile: float,
    mask_of: Callable[[str], np.ndarray],
) -> pd.DataFrame:
    """localisation.csv: intersection over union of every recorded unit of these pictures.

    pictures: picture_id, category, of those with a single object; rows: maps.parquet; maps: `rows x
    patches`; grid, boxes: its facts; interpretable: sample_id, layer, unit, interpretable; mask_of:
    picture_id to the object's mask. A picture without recorded units has no row, as none has where
    there is no grid.
    Kind "multimodal-mean" (layer and unit -1) is the mean map of the MEAN_UNITS best interpretable
    units of a picture.
    """
    keys = ["picture_id", "layer", "unit"]
    flags = interpretable.rename(columns={"sample_id": "picture_id"})
    flags = flags[[*keys, "interpretable"]]
    own = rows.merge(flags, how="left", on=keys, validate="m:1")
    own["interpretable"] = own["interpretable"].fillna(False).astype(bool)
    found = []
    for picture in pictures.itertuples():
        recorded = own[own["picture_id"] == picture.picture_id]
        if recorded.empty:
            continue
        mask, box = mask_of(picture.picture_id), boxes[picture.picture_id]
        head = {"picture_id": picture.picture_id, "category": picture.category}

        def overlap(values: np.ndarray, mask=mask, box=box) -> float:
            shaped = values.astype(np.float32).reshape(tuple(grid))
            return iou(receptive_field(shaped, mask.shape, percentile, box), mask)

        for unit in recorded.itertuples():
            neuron = {"layer": unit.layer, "unit": unit.unit, "kind": unit.kind}
            neuron |= {"rank": unit.rank, "interpretable": unit.interpretable}
            found.append(head | neuron | {"iou": overlap(maps[unit.row])})
        readable = recorded[(recorded["kind"] == "multimodal") & recorded["interpretable"]]
        best = readable.sort_values("rank").head(MEAN_UNITS)
        if len(best):
            neuron = {"layer": -1, "unit": -1, "kind": "multimodal-mean", "rank": 0}
            values = maps[best["row"]].astype(np.float32).mean(axis=0)
            found.append(head | neuron | {"interpretable": True, "iou": overlap(values)})
    columns = TABLES["metrics/localisation"]
    return pd.DataFrame(found, columns=list(columns)).astype(columns)


def left_out(
    pictures: pd.DataFrame, localisation: pd.DataFrame, grid: Sequence[int] | None
) -> pd.DataFrame:
    """What of `pictures` (as in `localise`) has no multimodal unit, with the columns of exclusions.

    grid: of the maps; None where image tokens have no place on the picture, so that nothing can be
    measured.
    """
    rows = []
    if grid is None:
        rows.append((STAGE, "", "", "no-grid", "image tokens have no place on the picture"))
    else:
        best = localisation[localisation["kind"] == "multimodal"]
        captioned = set(best["picture_id"])
        used = set(best.loc[best["interpretable"], "picture_id"])
        for category, own in pictures.groupby("category"):
            names = own["picture_id"]
            told = [name for name in names if name in captioned]
            for name in told:
                if name not in used:
                    detail = "none among the best units that have a map"
                    rows.append((STAGE, name, category, "no-interpretable-units", detail))
            if not used & set(names):
                detail = f"{len(told)} of {len(names)} have a noun in the caption, none such units"
                rows.append((STAGE, "", category, "no-picture", detail))
    columns = RECORDED["exclusions"]
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _same_layers(localisation: pd.DataFrame) -> pd.DataFrame:
    """A row an interpretable unit, whose `iou` is the mean of random units of its layer."""
    by = ["category", "picture_id", "layer"]
    readable = (localisation["kind"] == "multimodal") & localisation["interpretable"]
    random = localisation[localisation["kind"] == "random"]
    means = random.groupby(by, as_index=False)["iou"].mean()
    return localisation.loc[readable, by].merge(means, on=by, validate="m:1")


def iou_table(localisation: pd.DataFrame) -> pd.DataFrame:
    """iou.csv: means by category and kind, over pictures, with 95 % bootstrap intervals.

    A picture's value is the mean over its units: of "multimodal" the interpretable ones, of "all"
    all of its best units. Its "random" value is the baseline of "multimodal": the mean over the
    interpretable units of what the picture's random units of the same layer have on average. So
    both have the same layers, with the same weights; pictures without an interpretable unit have a
    row in neither. The category "" is all pictures together.
    """
    multimodal = localisation[localisation["kind"] == "multimodal"]
    kinds = {
        "multimodal": multimodal[multimodal["interpretable"]],
        "all": multimodal,
        "multimodal-mean": localisation[localisation["kind"] == "multimodal-mean"],
        "random": _same_layers(localisation),
    }
    rows = []
    for kind, units in kinds.items():
        values = units.groupby(["category", "picture_id"], as_index=False)["iou"].mean()
        for category in ["", *sorted(localisation["category"].unique())]:
            own = values if category == "" else values[values["category"] == category]
            if own.empty:
                continue
            low, high = bootstrap_interval(own, "iou", "picture_id")
            row = {"category": category, "kind": kind, "value": own["iou"].mean()}
            rows.append(row | {"low": low, "high": high, "n": len(own)})
    columns = TABLES["metrics/iou"]
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
