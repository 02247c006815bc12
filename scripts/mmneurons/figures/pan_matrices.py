"""How a concept's best neuron scores for the picture's other concepts (Pan et al. 2024)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from mmneurons.figures.inputs import models_of
from mmneurons.figures.pan_inputs import (
    NO_PICTURE,
    caption_of,
    choose_pictures,
    concepts_in,
    picture_name,
)
from mmneurons.figures.panels import name_room
from mmneurons.figures.pictures import show_colour_bar
from mmneurons.figures.shown import Source, short_names
from mmneurons.figures.style import FAINT, MARGIN, SMALL, Page, uniform_colormap


def matrices_data(
    cross_scores: pd.DataFrame,
    captions: pd.DataFrame,
    concepts: pd.DataFrame,
    pictures: pd.DataFrame,
    site: str,
    skip: int = 0,
    most: int = 1,
) -> pd.DataFrame:
    """Scores of each concept's best neuron for all concepts of its caption, for chosen pictures.

    cross_scores: model, picture_id, site, group (whose score), neuron_group (whose best neuron),
    layer, unit, score. The pictures are `choose_pictures`'. Columns: model, picture_id, caption,
    neuron_group, layer, unit, group, score, normalised (divided by the neuron's largest absolute
    score in the picture); concepts in the caption's order.
    """
    parts = []
    for picture_id in choose_pictures(pictures, concepts, skip, most):
        for model in models_of(concepts):
            named = concepts_in(concepts, model, picture_id)
            own = cross_scores[
                (cross_scores["model"] == model)
                & (cross_scores["picture_id"] == picture_id)
                & (cross_scores["site"] == site)
            ]
            own = own.sort_values(
                ["neuron_group", "group"], key=lambda c: c.map(named.index), kind="stable"
            )
            parts.append(own.assign(caption=caption_of(captions, model, picture_id)))
    table = pd.concat(parts or [cross_scores.iloc[:0].assign(caption="")], ignore_index=True)
    cells = table.groupby(["model", "picture_id", "neuron_group"], observed=True)["score"]
    largest = cells.transform(lambda scores: scores.abs().max())
    table = table.assign(normalised=(table["score"] / largest.where(largest > 0)).fillna(0.0))
    columns = ["model", "picture_id", "caption", "neuron_group", "layer", "unit", "group"]
    return table[[*columns, "score", "normalised"]]


def matrices_figure(
    data: pd.DataFrame,
    source: Source,
    width: float = 9.0,
    cell: float = 0.62,
    colormap: str = "viridis",
) -> Figure:
    """Draw `matrices_data`, a matrix a model and picture; `cell` is the side of one score."""
    page = Page(width)
    y = page.header("Does the best neuron of a concept raise the other concepts too?", source)
    if data.empty:
        y = page.text([(f"Nothing to draw: {NO_PICTURE}.", False)], MARGIN, y, page.inner) + 0.1
    lowest = min(0.0, float(data["normalised"].min())) if len(data) else 0.0
    norm = Normalize(lowest, 1.0)
    colours = uniform_colormap(colormap)
    panels = list(data.groupby(["picture_id", "model"], sort=False, observed=True))
    names = short_names(models_of(data))
    column = (page.inner - 0.3) / 2
    for start in range(0, len(panels), 2):
        row = list(zip(panels[start : start + 2], (MARGIN, MARGIN + column + 0.3), strict=False))
        tops = []
        for ((picture_id, model), own), x in row:
            head = [(f"{picture_name(picture_id).capitalize()}, {names[model]}: ", True)]
            head.append((f"\u201c{own['caption'].iloc[0]}\u201d", False))
            tops.append(page.text(head, x, y, column))
        bottoms = [
            _matrix_panel(page, x, max(tops) + 0.08, column, cell, own, norm, colours)
            for (_, own), x in row
        ]
        y = max(bottoms) + 0.2
    explanation = (
        "Rows: the best neuron, by contribution, of each concept of the caption. Columns: the "
        "concept whose score it is, which is the neuron's contribution to that concept's token "
        "where the caption names it. Colours and numbers: scores divided by the neuron's largest "
        "absolute score in the picture; 1 on the diagonal means that no other concept gets more "
        "from the neuron. Pictures: the first in the seeded order whose captions name two concepts "
        "or more in every model shown."
    )
    return page.figure(page.footer(y, explanation, source))


def _matrix_panel(
    page: Page,
    x: float,
    y: float,
    width: float,
    cell: float,
    own: pd.DataFrame,
    norm: Normalize,
    colours: Colormap,
) -> float:
    """Place one matrix with its names and colour bar; return where its names end."""
    left, bar = 1.45, 0.65
    groups = list(dict.fromkeys(own["group"]))
    side = min(cell, (width - left - bar) / len(groups))
    extent = side * len(groups)
    top = page.text([("best neuron of", False)], x, y, left, SMALL, FAINT) + 0.02
    page.axes(x + left, top, extent, extent, lambda axes: _matrix(axes, own, groups, norm, colours))
    page.axes(
        x + left + extent + 0.1,
        top,
        0.1,
        extent,
        lambda axes: show_colour_bar(axes, norm, colours, "normalised score", 1),
    )
    return top + extent + name_room(groups)


def _matrix(
    axes: Axes, data: pd.DataFrame, groups: list[str], norm: Normalize, colours: Colormap
) -> None:
    values = data.pivot(index="neuron_group", columns="group", values="normalised")
    values = values.reindex(index=groups, columns=groups)
    # Cells as rectangles, which stay sharp at any size and are equal on every machine.
    edges = np.arange(len(groups) + 1) - 0.5
    axes.pcolormesh(edges, edges, values, cmap=colours, norm=norm, edgecolor="white", linewidth=1)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    size = min(
        SMALL, 72 * 0.24 * axes.get_position().width * axes.figure.get_figwidth() / len(groups)
    )
    for row, neuron_group in enumerate(groups):
        for column, group in enumerate(groups):
            value = values.loc[neuron_group, group]
            ink = "white" if norm(value) < 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", size=size, color=ink)
    units = data.drop_duplicates("neuron_group").set_index("neuron_group")
    rows = [f"{g} (L{units.loc[g, 'layer']}.U{units.loc[g, 'unit']})" for g in groups]
    axes.set_xticks(range(len(groups)), groups, rotation=40)
    axes.set_yticks(range(len(groups)), rows)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor", parse_math=False)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
