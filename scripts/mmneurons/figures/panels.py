"""Panels side by side on a page, with the legend that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pandas as pd
from matplotlib.axes import Axes

from mmneurons.figures.inputs import models_of
from mmneurons.figures.shown import short_names
from mmneurons.figures.style import BODY, FAINT, MARGIN, SMALL, Page, Run

LEFT, GAP = 0.55, 0.2
"""Room for the labels at a row's first vertical axis, and between small panels, in inches."""


def model_panels(
    page: Page,
    y: float,
    data: pd.DataFrame,
    height: float,
    draw: Callable[[Axes, pd.DataFrame, bool], None],
    below: float = 0.48,
    per_row: int = 3,
    between: float = 0.4,
) -> float:
    """Place a panel a model, at most `per_row` side by side; return where they end.

    `draw` gets the axes, the model's rows and whether the panel is the first of its row.
    """

    def of_model(model: str) -> Callable[[Axes, bool], None]:
        own = data[data["model"] == model]
        return lambda axes, first: draw(axes, own, first)

    names = short_names(models_of(data))
    panels = [([(name, True)], of_model(model)) for model, name in names.items()]
    return panel_rows(page, y, panels, height, below, min(per_row, max(len(panels), 2)), between)


def panel_rows(
    page: Page,
    y: float,
    panels: Sequence[tuple[Sequence[Run], Callable[[Axes, bool], None]]],
    height: float,
    below: float,
    columns: int,
    between: float = 0.4,
    left: float = LEFT,
) -> float:
    """Place panels under their titles, `columns` side by side; return where they end.

    `below` is the room for the labels under the panels. Of the panels of a row only the first one
    has a label at its vertical axis, for which there is the room `left`.
    """
    panel = (page.inner - left - between * (columns - 1)) / columns
    for start in range(0, len(panels), columns):
        row = panels[start : start + columns]
        xs = [MARGIN + left + number * (panel + between) for number in range(len(row))]
        tops = [page.text(title, x, y, panel) for (title, _), x in zip(row, xs, strict=True)]
        for number, ((_, draw), x) in enumerate(zip(row, xs, strict=True)):

            def place(axes: Axes, draw=draw, first=number == 0) -> None:
                draw(axes, first)

            page.axes(x, max(tops) + 0.1, panel, height, place)
        y = max(tops) + 0.1 + height + below
    return y + 0.02


def legend(
    page: Page, y: float, handles: Sequence, title: str = "", per_row: int | None = None
) -> float:
    """Place a legend under the panels, `per_row` entries side by side; return where it ends."""
    rows = -(-len(handles) // per_row) if per_row else 1

    def draw(axes: Axes) -> None:
        axes.axis("off")
        axes.legend(
            # matplotlib fills columns first; the entries are read row by row.
            handles=[handle for first in range(per_row or 1) for handle in handles[first::per_row]]
            if per_row
            else list(handles),
            loc="upper left",
            bbox_to_anchor=(0, 1),
            borderaxespad=0,
            frameon=False,
            ncols=per_row or max(len(handles), 1),
        )

    x = MARGIN + LEFT
    if title:
        page.text([(title, False)], x, y + 0.035, 2.4, SMALL)
        x += 2.0
    return page.axes(x, y, page.width - MARGIN - x, 0.04 + 0.18 * rows, draw) + 0.14


def dressed(axes: Axes, data: pd.DataFrame, empty: str) -> None:
    """Grid lines, and a sentence where there is nothing to draw."""
    axes.grid(axis="y", color="#E0E0E0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_size(BODY)
    if data.empty and empty:
        axes.text(0.5, 0.5, empty, transform=axes.transAxes, ha="center", size=SMALL, color=FAINT)


def shade_layers(axes: Axes, layers: Iterable[int], words: str = "") -> None:
    """Hatch layers that cannot reach the output; `words` stand above the last of them."""
    layers = sorted(layers)
    for layer in layers:
        axes.axvspan(
            layer - 0.5, layer + 0.5, facecolor="#EDEDED", edgecolor="#B0B0B0", hatch="///", lw=0
        )
    if layers and words:
        axes.text(
            layers[-1] + 0.5,
            1.02,
            words,
            transform=axes.get_xaxis_transform(),
            ha="right",
            va="bottom",
            size=SMALL,
            color=FAINT,
        )


def name_room(groups: Sequence[str]) -> float:
    """Room under an axis for slanted names."""
    return 0.25 + 0.055 * max(map(len, groups))
