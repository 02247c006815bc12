"""What the browser shows of Pan et al. 2024."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmneurons.artifacts.tables import read_neurons, read_table
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.browser.parts import Method, Part, SampleMaps, Shown, View, with_control
from mmneurons.datasets.pictures import read_picture
from mmneurons.figures.pan_inputs import picture_name, plain
from mmneurons.figures.pan_pictures import NO_GRID
from mmneurons.figures.shown import METHODS
from mmneurons.metrics.naming import named_after
from mmneurons.metrics.weight_noise import gone

SINGLE = 5
"""Neurons of a sample whose maps are recorded one by one, the best by contribution."""
RECORDED = f"Maps were recorded of the {SINGLE} best neurons of each concept by contribution"
CONTROL = "random/plain"
MEASURES = {
    "weight noise": "noise on the output rows of the sample's best neurons: captions that no "
    "longer name the concept",
    "edit": "edit of the sample's best neurons into another word: captions that name it and no "
    "longer the concept",
}
SHORT = {
    "contribution": "contribution, own word",
    "attribution": "attribution, own word",
    "activation": "activation, last token",
    "random": "random, Pan et al.",
}
NOTES = {
    "contribution": "score: activation where the caption says the concept, times what the neuron "
    "adds to its logit",
    "attribution": "score: pre-activation times gradient of the concept's logit",
    "activation": "score: activation at the last input token, the same for all concepts",
}
LABELS = METHODS | {
    name: f"{METHODS[name]}, generated word" for name in ("contribution", "attribution")
}


def pan_part(
    inputs: Mapping[str, Sequence[str]],
    model: str,
    label: str,
    dataset: str,
    dataset_label: str,
    root: str,
    site: str,
    layers: Mapping[str, Sequence[int]],
    prefix: str,
    noised: int,
    edited: int,
) -> Part:
    """Read the artifacts of one model.

    inputs: paths by name: pictures, captions, concepts, neurons (plain tables), maps, weight_noise,
    weight_noise_rates, edits, edit_rates, exclusions. noised and edited: how many neurons of a
    sample carry noise and are edited. prefix: with which every caption begins.
    """
    concepts = plain(read_table(inputs["concepts"][0]))
    captions = plain(read_table(inputs["captions"][0]))
    record = TensorFile(inputs["maps"][0])
    found = read_neurons(inputs["neurons"])
    sites = dict(zip(found["method"], found["site"], strict=False))
    found = found.assign(method=found["method"] + "/plain", key=found["sample_id"])
    grid = record.facts["grid"]
    best = found[(found["method"] == "contribution/plain") & (found["rank"] < SINGLE)]
    return Part(
        paper="pan",
        model=model,
        label=label,
        data=dataset_label,
        groups="concept",
        layers=layers,
        inert={"language": record.facts.get("inert_layers", [])},
        methods=[
            Method(
                f"{name}/plain",
                LABELS.get(name, name),
                SHORT.get(name, name),
                NOTES.get(name, ""),
                sites[name],
            )
            for name in dict.fromkeys(found["method"].str.removesuffix("/plain"))
        ],
        found=found,
        views=_views(
            read_table(inputs["pictures"][0]),
            captions,
            concepts,
            record.facts["boxes"],
            root,
            dataset,
        ),
        group_of=dict(zip(concepts["sample_id"], concepts["group"], strict=True)),
        effects=_effects(
            read_table(inputs["weight_noise"][0]),
            read_table(inputs["edits"][0]),
            prefix,
            noised,
            edited,
        ),
        measures=MEASURES,
        exclusions=read_table(inputs["exclusions"][0]),
        grid=None if grid is None else tuple(grid),
        maps={} if grid is None else _maps(record, site, best),
        no_maps=NO_GRID if grid is None else "",
        recorded="" if grid is None else RECORDED,
        spread=bool(record.facts["through_queries"]),
        top_label="largest activation at a patch",
        rates=_rates(
            pd.read_csv(inputs["weight_noise_rates"][0]), pd.read_csv(inputs["edit_rates"][0])
        ),
    )


def _views(
    pictures: pd.DataFrame,
    captions: pd.DataFrame,
    concepts: pd.DataFrame,
    boxes: Mapping[str, Sequence[int]],
    root: str,
    dataset: str,
) -> list[View]:
    said = dict(zip(captions["picture_id"], captions["caption"], strict=True))
    of_picture = {name: rows for name, rows in concepts.groupby("picture_id")}
    views = []
    for row in pictures.sort_values("order", kind="stable").itertuples():
        own = of_picture.get(row.picture_id)
        if own is None or row.picture_id not in boxes:
            continue
        caption = said[row.picture_id]
        box = tuple(int(edge) for edge in boxes[row.picture_id])
        own = own.sort_values("start", kind="stable")
        views.append(
            View(
                picture=f"pan-{row.picture_id}",
                heading=picture_name(row.picture_id),
                shown=Shown(
                    f"{dataset}/{row.file}/{box}",
                    f"Picture: {caption}",
                    _reader(Path(root) / row.file, box),
                ),
                text=_pieces(caption, own),
                samples=own["sample_id"].tolist(),
                details=[("caption of the data", row.caption)],
            )
        )
    return views


def _pieces(caption: str, concepts: pd.DataFrame) -> list[tuple[str, str]]:
    """Cut a caption where its concepts begin and end; of two that overlap the first is marked."""
    pieces, at = [], 0
    for row in concepts.itertuples():
        if row.start < at:
            continue
        pieces += [(caption[at : row.start], ""), (caption[row.start : row.end], row.sample_id)]
        at = row.end
    return [piece for piece in [*pieces, (caption[at:], "")] if piece[0]]


def _reader(path: Path, box: tuple[int, ...]):
    return lambda: read_picture(path).crop(box)


def _maps(record: TensorFile, site: str, best: pd.DataFrame) -> dict[str, SampleMaps]:
    values = record[f"{site}/maps"].astype(np.float32)
    ks = record.facts["top_k"]
    recorded = record.facts["recorded"]
    own = {
        sample: list(zip(rows["layer"], rows["unit"], strict=True))
        for sample, rows in best.sort_values("rank", kind="stable").groupby("sample_id")
    }
    found = {}
    for place, sample in enumerate(record.facts["sample_ids"]):
        neurons = [(int(layer), int(unit)) for layer, unit in own.get(sample, ())][:SINGLE]
        single = values[place, len(ks) : len(ks) + len(neurons)]
        means = [
            ("best neuron" if k == 1 else f"mean of the {min(k, recorded)} best neurons", mean)
            for k, mean in zip(ks, values[place], strict=False)
        ]
        found[sample] = SampleMaps(neurons, single, means)
    return found


def _effects(
    noise: pd.DataFrame, edits: pd.DataFrame, prefix: str, noised: int, edited: int
) -> pd.DataFrame:
    """Shares of captions by sample, means over units, levels, draws, targets and selections."""
    lost = noise.assign(value=[gone(row, row.group, prefix) for row in noise.itertuples()])
    own = edits[(edits["role"] == "edited") & (edits["kind"] == "word")]
    changed = [
        gone(row, row.source, prefix) * float(named_after(row.caption, row.target, prefix))
        for row in own.itertuples()
    ]
    parts = []
    for measure, table, best in (
        ("weight noise", lost, noised),
        ("edit", own.assign(value=np.array(changed, dtype=float)), edited),
    ):
        table = table.assign(method=table["method"] + "/plain", key=table["sample_id"])
        means = table.dropna(subset="value").groupby(["method", "key"])["value"]
        means = means.agg(value="mean", n="size").reset_index()
        parts.append(means.assign(measure=measure, best=best))
    return with_control(pd.concat(parts, ignore_index=True), ["key", "best"], CONTROL)


def _rates(noise: pd.DataFrame, edits: pd.DataFrame) -> pd.DataFrame:
    numbers = ["value", "low", "high", "n"]
    rows = [
        (f"{row.measure} ({row.unit} noise {row.level:g})", f"{row.method}/plain", *row[5:9])
        for row in noise[["method", "unit", "level", "measure", *numbers]].itertuples()
    ]
    rows += [
        (f"edit of a {row.kind}: {row.measure.replace('_', ' ')}", f"{row.method}/plain", *row[4:8])
        for row in edits[["kind", "method", "measure", *numbers]].itertuples()
    ]
    return pd.DataFrame(rows, columns=["what", "method", "value", "low", "high", "n"])
