"""What the comparison of methods measures: a value of every method, measure and concept.

All methods have the same pictures and the same number of neurons. Neurons are identified on some
pictures of a concept and tested on others. Of a concept c, with hits averaged over its test
pictures, levels and draws of noise and, for random neurons, over their draws:

- `{noise,ablation}.suppression`: 1 - share of captions of c's pictures that name c,
- `{noise,ablation}.retention`: share of captions of pictures of other concepts that name theirs,
- `{noise,ablation}.score`: the mean of both, as in Sato & Takagi 2025,
- `edit.success`: share of c's pictures whose caption names the target and not c,
- `edit.retention`: share of pictures of other concepts whose caption under an edit of c names
  theirs,
- `stability.pictures`: overlap of the neurons of two of c's pictures, over all pairs,
- `stability.halves`: of the neurons from two halves of c's pictures, over the splits,
- `stability.shuffles`: of a picture's neurons before and after its image tokens were shuffled,
- `localisation`: intersection over union of where c's neurons are most active and of the object.

Beside the causal ones and localisation stands `control`, the same of random neurons from the same
layers, as many from each, averaged over their draws. What a method's choice within its layers is
worth is the difference, which is taken concept by concept and model by model.

Intervals resample concepts, the same ones for every method and, over models, for every model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from mmneurons.metrics.intervals import joint_mean_intervals
from mmneurons.metrics.localisation import iou, receptive_field
from mmneurons.metrics.naming import mark_hits, named
from mmneurons.metrics.rank_overlap import overlap, rank_biased_overlap

MEASURES = (
    "noise.score",
    "noise.suppression",
    "noise.retention",
    "ablation.score",
    "ablation.suppression",
    "ablation.retention",
    "edit.success",
    "edit.retention",
    "stability.pictures",
    "stability.halves",
    "stability.shuffles",
    "localisation",
)
CELL_COLUMNS = {
    "method": "str",
    "measure": "str",
    "group": "str",
    "value": "float64",
    "n": "int64",
    "control": "float64",
}
"""n: captions, pairs, pictures or splits that the value is a mean over; 0 where there is none.
control: the value of random neurons from the same layers; NaN where a method has none."""
AGREEMENT_COLUMNS = {
    "method": "str",
    "other": "str",
    "group": "str",
    "overlap": "float64",
    "rbo": "float64",
}
LAYER_COLUMNS = {"method": "str", "layer": "int64", "share": "float64"}
SUMMARY_COLUMNS = [
    *("model", "method", "measure", "value", "low", "high", "n_groups", "n_models", "n"),
    *("control", "control_low", "control_high"),
    *("difference", "difference_low", "difference_high"),
]
ALL_MODELS = "all models"
PERCENTILE = 95
"""Of a map's pixels: those above it are where neurons are most active (Schwettmann et al. 2023)."""


def cells(
    captions: pd.DataFrame,
    neurons: pd.DataFrame,
    fields: pd.DataFrame,
    categories: Collection[str],
    methods: Sequence[str],
    groups: Sequence[str],
    k: int,
) -> pd.DataFrame:
    """A row per method, measure and concept: CELL_COLUMNS, all of them, NaN where there is none.

    captions: captions.parquet of the interventions; neurons: neurons.parquet; fields: method, part,
    seed, group, iou; categories: names that captions may name. A concept of which a method has
    fewer than k neurons is measured with those that there are.
    """
    keys = ["method", "measure", "group"]

    def table_of(rows: Iterable[tuple]) -> pd.DataFrame:
        return pd.DataFrame(rows, columns=[*keys, "value", "n"]).set_index(keys)

    def of_part(part: str) -> Iterator[tuple]:
        shown = captions[captions["part"] == part]
        yield from _causal(shown, categories)
        yield from _edits(shown, categories)
        yield from _localisation(fields[fields["part"] == part])

    index = pd.MultiIndex.from_product([methods, MEASURES, groups], names=keys)
    table = table_of([*of_part("concept"), *_stability(neurons)]).reindex(index)
    control = table_of(of_part("control"))["value"].reindex(index)
    table = table.assign(n=table["n"].fillna(0), control=control)
    return table.reset_index().astype(CELL_COLUMNS)


def missing(cells: pd.DataFrame, valid: pd.DataFrame) -> pd.DataFrame:
    """Exclusions: measures without a value of a concept, for no method or for single ones.

    cells: of `cells`; valid: group, role. Where no method has one, the pictures that there are say
    why; where some have, the others have no neurons for it. A measure that the model has of no
    concept is not among them: the capabilities say why.
    """
    known = cells.assign(known=cells["value"].notna())
    of_model = known.groupby("measure")["known"].any()
    pictures = valid.groupby(["group", "role"]).size()
    rows = []
    for (measure, group), own in known.groupby(["measure", "group"], sort=False):
        if not of_model[measure]:
            continue
        if not own["known"].any():
            n = [int(pictures.get((group, role), 0)) for role in ("identify", "test")]
            detail = f"{measure}: {n[0]} pictures to identify, {n[1]} to test"
            rows.append(("evaluate", "", group, "too-few-pictures", detail))
            continue
        for method in own.loc[~own["known"], "method"]:
            rows.append(("evaluate", "", group, "no-neurons", f"{measure}: {method}"))
    return pd.DataFrame(
        rows, columns=["stage", "sample_id", "group", "reason", "detail"], dtype=str
    )


def _causal(captions: pd.DataFrame, categories: Collection[str]) -> Iterator[tuple]:
    tested = captions[captions["intervention"].isin(["noise", "ablation"])]
    if tested.empty:
        return
    hits = mark_hits(tested, categories)
    own = hits["group"] == hits["picture_group"]
    for (intervention, method, group), rows in hits.groupby(["intervention", "method", "group"]):
        mine = rows.loc[own[rows.index], "named"]
        others = rows.loc[~own[rows.index], "named"]
        suppression = 1 - mine.mean() if len(mine) else np.nan
        retention = others.mean() if len(others) else np.nan
        score = (suppression + retention) / 2
        yield method, f"{intervention}.suppression", group, suppression, len(mine)
        yield method, f"{intervention}.retention", group, retention, len(others)
        yield method, f"{intervention}.score", group, score, len(rows)


def _edits(captions: pd.DataFrame, categories: Collection[str]) -> Iterator[tuple]:
    edits = captions[captions["intervention"] == "edit"]
    others = edits["group"] != edits["picture_group"]
    if others.any():
        hits = mark_hits(edits[others], categories)
        for (method, group), named_own in hits.groupby(["method", "group"])["named"]:
            yield method, "edit.retention", group, named_own.mean(), len(named_own)
    edits = edits[~others]
    for (method, group), rows in edits.groupby(["method", "group"]):
        said = [named(caption, categories) for caption in rows["caption"]]
        success = [
            target in names and group not in names
            for target, names in zip(rows["target"], said, strict=True)
        ]
        yield method, "edit.success", group, float(np.mean(success)), len(success)


def _stability(neurons: pd.DataFrame) -> Iterator[tuple]:
    keys = ["method", "group", "part", "draw", "half", "sample_id"]
    sets: dict[tuple, dict] = {}
    for key, rows in neurons.groupby(keys, sort=True):
        method, group, part, *which = key
        chosen = frozenset(zip(rows["layer"], rows["unit"], strict=True))
        sets.setdefault((method, group), {}).setdefault(part, {})[tuple(which)] = chosen
    for (method, group), parts in sets.items():
        pictures = {name: own for (_, _, name), own in parts.get("picture", {}).items()}
        shuffled = {name: own for (_, _, name), own in parts.get("shuffled", {}).items()}
        split: dict[int, dict] = {}
        for (draw, half, _), own in parts.get("half", {}).items():
            split.setdefault(draw, {})[half] = own
        found = {
            "pictures": [overlap(list(a), list(b)) for a, b in combinations(pictures.values(), 2)],
            "halves": [
                overlap(list(both[0]), list(both[1])) for both in split.values() if len(both) == 2
            ],
            "shuffles": [
                overlap(list(own), list(shuffled[name]))
                for name, own in pictures.items()
                if name in shuffled
            ],
        }
        for name, values in found.items():
            value = float(np.mean(values)) if values else np.nan
            yield method, f"stability.{name}", group, value, len(values)


def _localisation(fields: pd.DataFrame) -> Iterator[tuple]:
    for (method, group), rows in fields.groupby(["method", "group"]):
        yield method, "localisation", group, rows["iou"].mean(), len(rows)


def field_iou(
    values: np.ndarray, box: Sequence[int], mask: np.ndarray, percentile: float = PERCENTILE
) -> float:
    """Intersection over union of where a map is highest and of an object's pixels.

    values: `rows x columns` of the patch grid; box: left, top, right, bottom, what the patches
    cover of the picture; mask: `height x width` of the picture, of which only what is in the box
    counts. The map is scaled up bilinearly between the centres of the patches; its pixels above the
    percentile are where it is highest. 0 where nothing of the object is in the box, or where the
    map is the same everywhere.
    """
    left, top, right, bottom = box
    seen = mask[top:bottom, left:right]
    return iou(receptive_field(values, seen.shape, percentile), seen)


def field_table(
    rows: pd.DataFrame,
    maps: np.ndarray,
    grid: Sequence[int] | None,
    boxes: Mapping[str, Sequence[int]],
    mask_of: Callable[[str], np.ndarray],
) -> pd.DataFrame:
    """Intersection over union of every map; method, part, seed, group, sample_id, iou.

    rows: of each map all of these but iou, in their order; maps: `rows x patches`; grid, boxes: of
    the model; mask_of: a sample's name to its object's pixels.
    """
    columns = ["method", "part", "seed", "group", "sample_id", "iou"]
    if grid is None or rows.empty:
        return pd.DataFrame(columns=columns)
    masks = {name: mask_of(name) for name in rows["sample_id"].unique()}
    found = [
        field_iou(values.astype(np.float32).reshape(tuple(grid)), boxes[name], masks[name])
        for values, name in zip(maps, rows["sample_id"], strict=True)
    ]
    return rows.assign(iou=found)[columns]


def agreement(neurons: pd.DataFrame, groups: Sequence[str], p: float = 0.9) -> pd.DataFrame:
    """Overlap and rank-biased overlap of every two methods' neurons of a concept.

    Of random neurons the first seed is taken.
    """
    own = neurons[(neurons["part"] == "concept") & (neurons["draw"] == 0)].sort_values("rank")
    ranked = {
        key: list(zip(rows["layer"], rows["unit"], strict=True))
        for key, rows in own.groupby(["method", "group"])
    }
    methods = list(dict.fromkeys(neurons["method"]))
    rows = []
    for group in groups:
        for one in methods:
            for other in methods:
                a, b = ranked.get((one, group), []), ranked.get((other, group), [])
                rows.append((one, other, group, overlap(a, b), rank_biased_overlap(a, b, p)))
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS)).astype(AGREEMENT_COLUMNS)


def layer_profile(neurons: pd.DataFrame, n_layers: int) -> pd.DataFrame:
    """Share of a method's neurons of all concepts that lie in each layer."""
    own = neurons[neurons["part"] == "concept"]
    rows = [
        (method, layer, float((table["layer"] == layer).mean()))
        for method, table in own.groupby("method", sort=False)
        for layer in range(n_layers)
    ]
    return pd.DataFrame(rows, columns=list(LAYER_COLUMNS)).astype(LAYER_COLUMNS)


def summary(cells_of_models: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Means over concepts of every model, and over models, with 95 % intervals: SUMMARY_COLUMNS.

    cells_of_models: CELL_COLUMNS and model. The model ALL_MODELS stands for the mean over those
    models that have the measure: of each concept first over models, then over concepts. A mean
    without a value is NaN and has n_groups 0; an interval needs two concepts. control: the mean of
    the controls; difference: of the value less the control, of those cells that have both.
    n_models: how many have a value of any concept, since a method that some cannot carry is a mean
    over others than its neighbours.
    """
    if cells_of_models.empty:
        return pd.DataFrame(columns=SUMMARY_COLUMNS)
    paired = cells_of_models.assign(
        difference=cells_of_models["value"] - cells_of_models["control"]
    )
    keys = ["method", "measure", "group"]
    means = paired.groupby(keys, sort=False).agg(
        value=("value", "mean"),
        n=("n", "sum"),
        control=("control", "mean"),
        difference=("difference", "mean"),
    )
    together = pd.concat([paired, means.reset_index().assign(model=ALL_MODELS)], ignore_index=True)
    columns = ["model", "method", "measure"]
    known = paired[paired["value"].notna()]
    n_models = known.groupby(columns[1:])["model"].nunique()
    found = together.groupby(columns, sort=False).agg(n_groups=("value", "count"), n=("n", "sum"))
    for name, low, high in (
        ("value", "low", "high"),
        ("control", "control_low", "control_high"),
        ("difference", "difference_low", "difference_high"),
    ):
        # Concepts are the rows, so that all means and differences come from the same draws of them.
        wide = together.pivot(index="group", columns=columns, values=name).sort_index()
        bounds = joint_mean_intervals(wide.to_numpy(), draws=draws, seed=seed)
        of = pd.DataFrame({name: wide.mean(), low: bounds[0], high: bounds[1]}, index=wide.columns)
        found = found.join(of)
    found = found.reset_index()
    of_all = found.set_index(columns[1:]).index.map(n_models).fillna(0)
    found["n_models"] = np.where(found["model"] == ALL_MODELS, of_all, found["n_groups"] > 0)
    return found.astype({"n_models": "int64"})[SUMMARY_COLUMNS]
