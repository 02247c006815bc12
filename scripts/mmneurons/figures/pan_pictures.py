"""Where the neurons of a concept are active: heatmaps and masks (Pan et al. 2024, tables 1, 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmneurons.artifacts.tensors import TensorFile
from mmneurons.figures.inputs import models_of
from mmneurons.figures.pan_inputs import (
    NO_PICTURE,
    caption_of,
    choose_pictures,
    picture_name,
    plain,
)
from mmneurons.figures.pictures import (
    fitted,
    heatmap,
    show_colour_bar,
    show_overlay,
    show_picture,
    value_range,
)
from mmneurons.figures.shown import Source, short_names
from mmneurons.figures.style import MARGIN, SMALL, Page, uniform_colormap

MASKED_SHARE = 95
"""Percentile of the scaled map above which a mask shows the picture."""
SHADE = 200 / 255
"""Opacity of the black over the rest."""
NO_GRID = (
    "This model's image tokens have no place on the picture and no recorded way back to its "
    "patches: there is no heatmap to draw."
)


@dataclass(frozen=True)
class ConceptMaps:
    """Mean activation of a concept's k best neurons, `rows x columns` of patches, by k.

    box: the part of the picture that the patches cover: left, top, right, bottom, in pixels.
    """

    model: str
    picture_id: str
    caption: str
    group: str
    maps: Mapping[int, np.ndarray]
    through_queries: bool
    box: tuple[int, int, int, int]


def concept_maps(
    records: Mapping[str, TensorFile],
    captions: pd.DataFrame,
    concepts: pd.DataFrame,
    pictures: pd.DataFrame,
    site: str,
    skip: int = 0,
    most: int = 1,
    most_concepts: int = 3,
) -> list[ConceptMaps]:
    """Read the maps of chosen pictures; an entry a model, picture and concept of its caption.

    records: pan_maps by model. The pictures are those of `choose_pictures`, of each the first
    `most_concepts` concepts are taken. An entry has no maps where the model has no patch grid; the
    map of a k above the number of recorded neurons is that of all of them.
    """
    entries = []
    for model in models_of(concepts):
        record = records[model]
        grid, recorded = record.facts["grid"], record.facts["recorded"]
        ks = [min(k, recorded) for k in record.facts["top_k"]]
        place = {sample: number for number, sample in enumerate(record.facts["sample_ids"])}
        maps = None if grid is None else record[f"{site}/maps"]
        for picture_id in choose_pictures(pictures, concepts, skip, most):
            rows = plain(concepts)
            rows = rows[(rows["model"] == model) & (rows["picture_id"] == picture_id)]
            for row in rows.sort_values("position").head(most_concepts).itertuples():
                found = {}
                if maps is not None:
                    own = maps[place[row.sample_id]].astype(np.float32)
                    found = {k: own[number].reshape(grid) for number, k in enumerate(ks)}
                entries.append(
                    ConceptMaps(
                        model,
                        picture_id,
                        caption_of(captions, model, picture_id),
                        row.group,
                        found,
                        bool(record.facts["through_queries"]),
                        tuple(record.facts["boxes"][picture_id]),
                    )
                )
    return entries


def maps_data(entries: Sequence[ConceptMaps]) -> pd.DataFrame:
    """All that `maps_figure` draws: a row a patch, or one row with a note for a model without any.

    Columns: model, picture_id, caption, group, left, top, right, bottom (the part of the picture
    that the patches cover, in pixels), k, row, column, value, threshold (of the mask, on the map
    scaled to that part), note.
    """
    edges = ["left", "top", "right", "bottom"]
    columns = ["model", "picture_id", "caption", "group", *edges, "k", "row", "column", "value"]
    columns += ["threshold", "note"]
    parts = [pd.DataFrame(columns=columns)]
    for entry in entries:
        left, top, right, bottom = entry.box
        head = {name: getattr(entry, name) for name in columns[:4]}
        head |= dict(zip(edges, entry.box, strict=True))
        if not entry.maps:
            parts.append(pd.DataFrame([head | {"note": NO_GRID}]))
        for k, values in entry.maps.items():
            row, column = np.indices(values.shape).reshape(2, -1)
            cells = {"k": k, "row": row, "column": column, "value": values.ravel()}
            threshold = mask_threshold(heatmap(values, (bottom - top, right - left)))
            parts.append(pd.DataFrame(head | cells | {"threshold": threshold, "note": ""}))
    filled = [part.astype("object") for part in parts if len(part)] or parts
    table = pd.concat(filled, ignore_index=True).reindex(columns=columns)
    whole = dict.fromkeys([*edges, "k", "row", "column"], "Int64")
    return table.astype({**whole, "value": "float64", "threshold": "float64"})


def mask_threshold(scaled: np.ndarray, share: float = MASKED_SHARE) -> float:
    """The value that `share` percent of a scaled map's pixels do not exceed."""
    return float(np.percentile(scaled, share))


def maps_figure(
    entries: Sequence[ConceptMaps],
    pictures: Mapping[str, np.ndarray],
    models: Sequence[str],
    source: Source,
    cell: float = 1.05,
    colormap: str = "viridis",
) -> Figure:
    """Draw, for each model, picture and concept, a row of heatmaps and one of masks.

    pictures: `height x width x 3` by picture_id, whole; each model's own part of it is drawn.
    `cell` is the longest side of a part.
    """
    n_maps = max([1, *(len(entry.maps) for entry in entries)])
    gap, label = 0.08, max(cell, 1.35)
    page = Page(max(7.0, 2 * MARGIN + label + gap + n_maps * (cell + gap) + 0.75))
    y = page.header("Where the neurons of a concept are active on the picture", source)
    if not entries:
        y = page.text([(f"Nothing to draw: {NO_PICTURE}.", False)], MARGIN, y, page.inner) + 0.1
    names, seen = short_names(models), None
    for entry in entries:
        here = (entry.model, entry.picture_id)
        if here != seen:
            seen, way = here, ""
            if entry.through_queries and entry.maps:
                way = " (through the cross-attention of its queries)"
            head = [
                (names[entry.model], True),
                (f"{way}, {picture_name(entry.picture_id)}: ", False),
            ]
            head.append((f"\u201c{entry.caption}\u201d", False))
            y = page.text(head, MARGIN, y + 0.05, page.inner) + 0.08
            if not entry.maps:
                y = page.text([(NO_GRID, False)], MARGIN, y, page.inner, SMALL) + 0.1
        if entry.maps:
            left, top, right, bottom = entry.box
            part = pictures[entry.picture_id][top:bottom, left:right]
            y = _concept(page, y, entry, part, cell, gap, label, colormap)
    explanation = (
        "Shown is what the model sees of the picture: all of it, or the middle where the model "
        "crops. For each concept of the caption, upper row: the mean activation of its k best "
        "neurons, by contribution, at each patch, scaled bilinearly to the part shown; every map "
        "has its own colours, from its lowest to its highest value. Lower row, masks: the picture "
        f"where the map is above its {MASKED_SHARE}th percentile, the rest darkened. Where a model "
        "reads the picture through queries, which have no place on it, the activation at each is "
        "spread over the patches by its cross-attention (mean over layers and heads); the "
        "paper draws no such model. Pictures: the first in the seeded order whose captions name "
        "two concepts or more in every model."
    )
    return page.figure(page.footer(y + 0.05, explanation, source))


def _concept(
    page: Page,
    y: float,
    entry: ConceptMaps,
    picture: np.ndarray,
    cell: float,
    gap: float,
    label: float,
    colormap: str,
) -> float:
    """Place one concept's picture, heatmaps and masks; return where they end."""
    colours = uniform_colormap(colormap)
    width, height = fitted(picture.shape[:2], cell, cell)
    page.text([(entry.group, True)], MARGIN, y, label)
    top = y + 0.18
    page.axes(MARGIN, top, width, height, lambda axes: show_picture(axes, picture))
    x = MARGIN + label + gap
    for k, values in entry.maps.items():
        words = "best neuron" if k == 1 else f"{k} best"
        page.text([(words, False)], x, y + 0.02, cell, SMALL)

        def overlay(axes: Axes, values=values) -> None:
            show_overlay(axes, picture, values, value_range([values]), colours)

        def mask(axes: Axes, values=values) -> None:
            show_mask(axes, picture, values)

        page.axes(x, top, width, height, overlay)
        page.axes(x, top + height + gap, width, height, mask)
        x += cell + gap
    page.axes(x + 0.02, top, 0.09, height, lambda axes: _ends_bar(axes, colours))
    return top + 2 * height + gap + 0.15


def show_mask(
    axes: Axes, picture: np.ndarray, values: np.ndarray, share: float = MASKED_SHARE
) -> None:
    """Show the picture where the scaled map exceeds a percentile of it, and darken the rest."""
    scaled = heatmap(values, picture.shape[:2])
    show_picture(axes, picture)
    height, width = picture.shape[:2]
    shade = np.zeros((height, width, 4))
    shade[..., 3] = np.where(scaled > mask_threshold(scaled, share), 0.0, SHADE)
    axes.imshow(shade, extent=(0, width, height, 0), aspect="auto", interpolation="nearest")


def _ends_bar(axes: Axes, colours) -> None:
    show_colour_bar(axes, value_range([np.array([0.0, 1.0])]), colours, "")
    axes.set_yticks([0, 1], ["lowest", "highest"])
