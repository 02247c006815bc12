"""What the browser shows of Schwettmann et al. 2023."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmneurons.artifacts.tables import read_table
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.browser.parts import UNRANKED, Method, Part, SampleMaps, Shown, View, with_control
from mmneurons.datasets.pictures import read_picture
from mmneurons.figures.pan_pictures import NO_GRID
from mmneurons.figures.schwettmann_inputs import picture_name
from mmneurons.figures.shown import marked

ALL, INTERPRETABLE, RANDOM = "attribution/all", "attribution/interpretable", "random/same-layers"
METHODS = {"all": ALL, "interpretable": INTERPRETABLE, "random": RANDOM}
NOTE = "score: the largest over patches of pre-activation times gradient of the noun's logit"
RECORDED = "Maps were recorded of the units of highest attribution of each picture"
ABLATION = "ablation"


def schwettmann_part(
    inputs: Mapping[str, Sequence[str]],
    model: str,
    label: str,
    dataset: str,
    dataset_label: str,
    root: str,
    layers: Mapping[str, Sequence[int]],
    pairs: int,
) -> Part:
    """Read the artifacts of the model.

    inputs: paths by name: captions, units, maps, index, ablated, ablation, iou, exclusions. pairs:
    so many of a picture's units are its best.
    """
    captions = read_table(inputs["captions"][0])
    record = TensorFile(inputs["maps"][0])
    index = read_table(inputs["index"][0])
    ablated = read_table(inputs["ablated"][0])
    grid, most = record.facts["grid"], int(ablated["k"].max()) if len(ablated) else 0
    return Part(
        paper="schwettmann",
        model=model,
        label=label,
        data=dataset_label,
        groups="concept",
        layers=layers,
        inert={"language": record.facts.get("inert_layers", [])},
        methods=[
            Method(ALL, "attribution, maximum over patches", "attribution, max", NOTE, "pre"),
            Method(
                INTERPRETABLE,
                "attribution, interpretable units",
                "attribution, words",
                f"{NOTE}, of units most of whose best tokens are words",
                "pre",
            ),
            Method(
                RANDOM,
                "random units of the same layers",
                "random, same layers",
                "drawn as often from each layer as the units of highest attribution stand there",
                ranked=False,
            ),
        ],
        found=_found(read_table(inputs["units"][0]), index, captions, pairs),
        views=_views(captions, record.facts["boxes"], root, dataset),
        group_of=dict(zip(captions["picture_id"], captions["group"], strict=True)),
        effects=_effects(ablated, most),
        measures={
            ABLATION: f"the sample's {most} best units set to zero: share of the noun's "
            "probability that is lost"
        },
        exclusions=read_table(inputs["exclusions"][0]),
        grid=None if grid is None else tuple(grid),
        maps={} if grid is None else _maps(record, index),
        no_maps=NO_GRID if grid is None else "",
        recorded="" if grid is None else RECORDED,
        top_label="largest activation at a patch",
        rates=_rates(pd.read_csv(inputs["ablation"][0]), pd.read_csv(inputs["iou"][0])),
    )


def _found(
    units: pd.DataFrame, index: pd.DataFrame, captions: pd.DataFrame, pairs: int
) -> pd.DataFrame:
    """The `pairs` best units of each picture, the interpretable ones again, and random ones."""
    best = units[units["rank"] < pairs].assign(method=ALL)
    words = best[best["interpretable"]].sort_values(["sample_id", "rank"]).assign(
        method=INTERPRETABLE, rank=lambda table: table.groupby("sample_id").cumcount()
    )  # fmt: skip
    groups = captions.set_index("picture_id")["group"]
    drawn = index[index["kind"] == "random"].rename(columns={"picture_id": "sample_id"})
    drawn = drawn.assign(
        method=RANDOM, module="language", rank=UNRANKED, score=0.0,
        group=drawn["sample_id"].map(groups),
    )  # fmt: skip
    columns = ["method", "sample_id", "group", "module", "layer", "unit", "score", "rank"]
    parts = [table[columns] for table in (best, words, drawn)]
    together = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return together.assign(key=together["sample_id"])


def _views(
    captions: pd.DataFrame, boxes: Mapping[str, Sequence[int]], root: str, dataset: str
) -> list[View]:
    views = []
    for row in captions.itertuples():
        if row.picture_id not in boxes:
            continue
        box = tuple(int(edge) for edge in boxes[row.picture_id])
        views.append(
            View(
                picture=f"schwettmann-{row.picture_id}",
                heading=picture_name(row.picture_id),
                shown=Shown(
                    f"{dataset}/{row.file}/{box}",
                    f"Picture: {row.caption}",
                    _reader(Path(root) / row.file, box),
                ),
                text=_pieces(row.caption, row.group, row.picture_id),
                samples=[row.picture_id],
                details=[("captions of the data", " ".join(row.references))],
            )
        )
    return views


def _pieces(caption: str, group: str, sample: str) -> list[tuple[str, str]]:
    """Cut a caption where its first noun stands for the first time."""
    pieces, first = [], True
    for text, named in marked(caption, group):
        pieces.append((text, sample if named and first else ""))
        first = first and not named
    return pieces


def _reader(path: Path, box: tuple[int, ...]):
    return lambda: read_picture(path).crop(box)


def _maps(record: TensorFile, index: pd.DataFrame) -> dict[str, SampleMaps]:
    values = record["maps"].astype(np.float32)
    own = index[index["kind"] == "multimodal"].sort_values("rank", kind="stable")
    found = {}
    for sample, rows in own.groupby("picture_id"):
        neurons = [(int(row.layer), int(row.unit)) for row in rows.itertuples()]
        maps = values[rows["row"].to_numpy()]
        means = [(f"mean of the {k} best units", maps[:k].mean(axis=0)) for k in _means(len(maps))]
        found[sample] = SampleMaps(neurons, maps, means)
    return found


def _means(recorded: int) -> list[int]:
    return sorted({min(k, recorded) for k in (5, 20)})


def _effects(ablated: pd.DataFrame, most: int) -> pd.DataFrame:
    """Share of the noun's probability that goes with the `most` best units, by picture."""
    keys = ["picture_id", "condition", "seed"]
    before = ablated[ablated["k"] == 0].set_index(keys)["probability"]
    own = ablated[ablated["k"] == most].set_index(keys)
    value = 1 - own["probability"] / before.reindex(own.index)
    rows = own.assign(value=value).reset_index().dropna(subset="value")
    rows = rows.assign(method=rows["condition"].map(METHODS), key=rows["picture_id"])
    means = rows.groupby(["method", "key"])["value"].agg(value="mean", n="size").reset_index()
    means = means.assign(measure=ABLATION, best=most)
    return with_control(means, ["key", "best"], RANDOM)


def _rates(ablation: pd.DataFrame, iou: pd.DataFrame) -> pd.DataFrame:
    rows = [
        (f"ablation of {row.k:,} units: probability of the noun, relative",
         METHODS[row.condition], row.relative, row.relative_low, row.relative_high, row.n)
        for row in ablation.sort_values("k", kind="stable").itertuples()
        if row.k
    ]  # fmt: skip
    kinds = {"all": ALL, "multimodal": INTERPRETABLE, "random": RANDOM}
    rows += [
        ("receptive field and object: intersection over union",
         kinds[row.kind], row.value, row.low, row.high, row.n)
        for row in iou.fillna({"category": ""}).itertuples()
        if row.category == "" and row.kind in kinds
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["what", "method", "value", "low", "high", "n"])
