"""What the browser shows of two-stage filtering (Sato & Takagi 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmneurons.artifacts.tables import read_neurons, read_table
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.browser.parts import UNRANKED, Method, Part, SampleMaps, Shown, View, with_control
from mmneurons.datasets.pictures import read_picture
from mmneurons.figures.shown import marked, method_label
from mmneurons.figures.two_stage import picture_number

CONTROL = "random/matched"
MEASURES = {
    "suppression": "noise on its neurons: captions that no longer name the object",
    "retention": "noise on its neurons: captions of other pictures that still name their object",
}
SHORT = {
    "two_stage/auto": "two-stage, automatic",
    "two_stage/manual": "two-stage, manual",
    "two_stage/difference": "two-stage, stage 1 only",
    "two_stage/gradact": "two-stage, stage 2 only",
    "attribution/all-layers": "attribution",
    "attribution/no-last": "attribution, no inert",
    "contribution/all-layers": "contribution",
    "contribution/no-last": "contribution, no inert",
    "random/matched": "random, matched",
}
AVERAGED = 5
"""Neurons of a sample whose maps are averaged, as in the paper's figure 3."""


def two_stage_part(
    inputs: Mapping[str, Sequence[str]],
    model: str,
    label: str,
    dataset_label: str,
    root: str,
    site: str,
    thresholds: str,
    layers: Mapping[str, Sequence[int]],
) -> Part:
    """Read the artifacts of a run.

    inputs: paths by name: valid, record, neurons (tables of methods at `site`), hits (of all
    parts), suppression (likewise), inpainted (a folder), exclusions.
    """
    valid = read_table(inputs["valid"][0]).sort_values(["group", "order"], kind="stable")
    record = TensorFile(inputs["record"][0])
    found = read_neurons(inputs["neurons"])
    found = found.assign(method=found["method"] + "/" + found["variant"], key=found["sample_id"])
    found.loc[found["method"] == CONTROL, "rank"] = UNRANKED
    group_of = dict(zip(valid["sample_id"], valid["group"], strict=True))
    grid = tuple(record.facts["grid"])
    hits = pd.concat([read_table(path) for path in inputs["hits"]], ignore_index=True)
    best = found[found["method"] == f"two_stage/{thresholds}"]
    rates = pd.concat([pd.read_csv(p, keep_default_na=False) for p in inputs["suppression"]])
    return Part(
        paper="two_stage",
        model=model,
        label=label,
        data=dataset_label,
        groups="object",
        layers=layers,
        inert={"language": record.facts["inert_layers"]},
        methods=[_method(key, site) for key in dict.fromkeys(found["method"])],
        found=found,
        views=_views(valid, root, inputs["inpainted"][0]),
        group_of=group_of,
        effects=_effects(hits),
        measures=MEASURES,
        exclusions=read_table(inputs["exclusions"][0]),
        grid=grid,
        maps=_maps(record, site, group_of, best),
        recorded="Maps were recorded of the candidates of each object, on all its pictures",
        top_label="largest activation at an image token",
        rates=_rates(rates),
    )


def _method(key: str, site: str) -> Method:
    method, variant = key.split("/")
    notes = {
        "two_stage": "score: activation with the object minus activation without it",
        "attribution": "score: pre-activation times gradient of the object's logit",
        "contribution": "score: activation times what the neuron adds to the object's logit",
        "random": "drawn from the layers of two-stage filtering, not ranked",
    }
    note = notes.get(method, "")
    if variant == "gradact":
        note = "score: activation times gradient of the object's logit"
    label = method_label(method, variant)
    return Method(key, label, SHORT.get(key, key), note, site, key != CONTROL)


def _views(valid: pd.DataFrame, root: str, inpainted: str) -> list[View]:
    views = []
    for (image_id, caption), rows in valid.groupby(["image_id", "caption_original"], sort=False):
        samples = rows["sample_id"].tolist()
        first = rows.iloc[0]
        number = picture_number(first["sample_id"])
        text = [(caption, "")]
        for row in rows.itertuples():
            text = [
                piece
                for old, sample in text
                for piece in (
                    [(new, row.sample_id if bold else "") for new, bold in marked(old, row.group)]
                    if not sample
                    else [(old, sample)]
                )
            ]
        path = Path(root) / first["file"]
        others = [
            (
                Shown(
                    f"two_stage/inpainted/{row.sample_id}",
                    f"The same picture with the {row.group} painted over.",
                    _reader(Path(inpainted) / f"{row.sample_id}.png"),
                ),
                f"without the {row.group}: {row.caption_inpainted}",
            )
            for row in rows.itertuples()
        ]
        views.append(
            View(
                picture=f"two_stage-{image_id}",
                heading=f"picture {number}",
                shown=Shown(f"two_stage/{first['file']}", f"Picture: {caption}", _reader(path)),
                text=text,
                samples=samples,
                others=others,
                details=[(f"role of {row.group}", row.role) for row in rows.itertuples()],
            )
        )
    return views


def _reader(path: Path):
    return lambda: read_picture(path)


def _maps(
    record: TensorFile, site: str, group_of: Mapping[str, str], best: pd.DataFrame
) -> dict[str, SampleMaps]:
    """Maps by sample; their mean is over the sample's first neurons by two-stage filtering."""
    first = best[best["rank"] < AVERAGED]
    chosen = {
        sample: list(zip(rows["layer"], rows["unit"], strict=True))
        for sample, rows in first.groupby("sample_id")
    }
    found = {}
    for group in dict.fromkeys(group_of.values()):
        if f"{site}/maps/{group}" not in record:
            continue
        units = [tuple(pair) for pair in record[f"{site}/map_units/{group}"].tolist()]
        place = {unit: number for number, unit in enumerate(units)}
        values = record[f"{site}/maps/{group}"].astype(np.float32)
        samples = [name for name in record.facts["sample_ids"] if group_of.get(name) == group]
        for number, name in enumerate(samples):
            places = [place[unit] for unit in chosen.get(name, ()) if unit in place]
            what = f"mean of the {len(places)} best neurons by two-stage filtering"
            mean = [(what, values[number][places].mean(axis=0))] if places else []
            found[name] = SampleMaps(units, values[number], mean)
    return found


def _effects(hits: pd.DataFrame) -> pd.DataFrame:
    """Shares of captions by method and sample, means over levels, draws and random selections."""
    own = hits["group"] == hits["picture_group"]
    parts = []
    for measure, rows in (("suppression", hits[own]), ("retention", hits[~own])):
        named = rows.assign(method=rows["method"] + "/" + rows["variant"], key=rows["sample_id"])
        value = named["named"].astype(float)
        named = named.assign(value=1 - value if measure == "suppression" else value)
        means = named.groupby(["method", "key"])["value"].agg(value="mean", n="size")
        parts.append(means.reset_index().assign(measure=measure))
    table = with_control(pd.concat(parts, ignore_index=True), ["key"], CONTROL)
    # Noise lies on all neurons of a sample.
    return table.assign(best=2**31)


def _rates(table: pd.DataFrame) -> pd.DataFrame:
    """The means over objects and levels, with intervals: what, method, value, low, high, n."""
    mean = table[(table["group"] == "") & (table["level"] == "")]
    rows = []
    for row in mean.itertuples():
        for measure in ("suppression", "retention", "score"):
            bounds = [getattr(row, f"{measure}{end}") for end in ("", "_low", "_high")]
            value, low, high = (pd.to_numeric(number, errors="coerce") for number in bounds)
            rows.append(
                (measure, f"{row.method}/{row.variant}", value, low, high, int(row.n_captions))
            )
    return pd.DataFrame(rows, columns=["what", "method", "value", "low", "high", "n"])
