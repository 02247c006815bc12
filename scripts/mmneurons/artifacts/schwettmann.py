"""Columns of the tables of Schwettmann et al. 2023.

Names are those of the files below `{dataset}/{model}/schwettmann`, without their ending.
docs/artifacts.md says what the columns mean.
"""

from __future__ import annotations

_NEURON = {"module": "str", "layer": "int64", "unit": "int64"}
_SCORED = {"score": "float32", "rank": "int64"}
_BOUNDS = {"value": "float64", "low": "float64", "high": "float64", "n": "int64"}

PICTURE_COLUMNS = {
    "picture_id": "str",
    "file": "str",
    "width": "int64",
    "height": "int64",
    "references": "object",
    "supercategory": "str",
    "sampled": "bool",
    "category": "str",
    "part": "str",
}
"""Of {dataset}/schwettmann/pictures.parquet."""

RECORDED = {
    "captions": {
        "picture_id": "str",
        "file": "str",
        "caption": "str",
        "token_ids": "object",
        "group": "str",
        "position": "int64",
        "token": "int64",
        "probability": "float64",
        "references": "object",
        "supercategory": "str",
        "sampled": "bool",
    },
    "pairs": {"sample_id": "str", "group": "str", **_NEURON, "patch": "int64", **_SCORED},
    "ranking": {"sample_id": "str", "group": "str", **_NEURON, **_SCORED},
    "maps": {
        "row": "int64",
        "picture_id": "str",
        "layer": "int64",
        "unit": "int64",
        "kind": "str",
        "rank": "int64",
        "value": "float32",
    },
    "prompt_tokens": {
        "picture_id": "str",
        "kind": "str",
        "patch": "int64",
        "tokens": "object",
        "cosines": "object",
    },
    "exclusions": dict.fromkeys(("stage", "sample_id", "group", "reason", "detail"), "str"),
}
"""What a shard of the recording leaves."""

TABLES = {
    "captions": RECORDED["captions"],
    "maps": RECORDED["maps"],
    "prompt_tokens": RECORDED["prompt_tokens"],
    "neurons": RECORDED["pairs"] | {"interpretable": "bool"},
    "units": RECORDED["ranking"] | {"interpretable": "bool"},
    "ablation": {
        "picture_id": "str",
        "group": "str",
        "condition": "str",
        "seed": "int64",
        "k": "int64",
        "probability": "float64",
        "caption": "str",
    },
    "metrics/scores": {
        "picture_id": "str",
        "kind": "str",
        "clipscore": "float64",
        "bertscore": "float64",
    },
    "metrics/means": {"kind": "str", "metric": "str", **_BOUNDS, "encoder": "str"},
    "metrics/prompts": {
        "picture_id": "str",
        "kind": "str",
        "patch": "int64",
        "clipscore": "float64",
        "bertscore": "float64",
    },
    "metrics/ks": {
        "first": "str",
        "second": "str",
        "metric": "str",
        "statistic": "float64",
        "p": "float64",
        "n_first": "int64",
        "n_second": "int64",
    },
    "metrics/localisation": {
        "picture_id": "str",
        "category": "str",
        "layer": "int64",
        "unit": "int64",
        "kind": "str",
        "rank": "int64",
        "interpretable": "bool",
        "iou": "float64",
    },
    "metrics/iou": {"category": "str", "kind": "str", **_BOUNDS},
    "metrics/selectivity": {
        "units_of": "str",
        "pictures_of": "str",
        "value": "float64",
        "activation": "float64",
        "n_units": "int64",
        "n_pictures": "int64",
    },
    "metrics/selectivity_pictures": {"category": "str", "picture_id": "str", "file": "str"},
    "metrics/ablation": {
        "condition": "str",
        "k": "int64",
        **{
            f"{name}{bound}": "float64"
            for name in ("probability", "relative", "bertscore")
            for bound in ("", "_low", "_high")
        },
        "n": "int64",
    },
    "metrics/layers": {"layer": "int64", "neurons": "int64", "interpretable": "int64"},
}
"""What figures and tables are drawn from; of metrics/ablation the CSV file (see ABLATED)."""

ABLATED = TABLES["ablation"] | {"bertscore": "float64"}
"""Of metrics/ablation.parquet: the ablation's rows with the similarity to the caption at k = 0."""
