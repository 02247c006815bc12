"""Suppression and retention against the noise level, with chance: a figure beyond the paper."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmneurons.figures.shown import Source, method_label
from mmneurons.figures.style import (
    BODY,
    METHOD_COLOURS,
    METHOD_MARKERS,
    OTHER_COLOUR,
    VARIANT_LINES,
    Page,
)
from mmneurons.figures.tables import NOISE_UNITS
from mmneurons.metrics.suppression import MEASURES

MEANINGS = {
    "suppression": "Suppression\nthe object is no longer named",
    "retention": "Retention\nother pictures' objects still are",
    "score": "Score\nmean of both",
}


def levels_data(suppression: pd.DataFrame, methods: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Averages over objects at each level: method, variant, level, measure, value, low, high."""
    rows = suppression[suppression["group"].fillna("").eq("") & suppression["level"].notna()]
    found = {(row["method"], row["variant"], row["level"]): row for row in rows.to_dict("records")}
    levels = sorted(rows["level"].unique())
    table = [
        (*pair, level, measure, *(row[f"{measure}{end}"] for end in ("", "_low", "_high")))
        for pair in methods
        for level in levels
        if (row := found.get((*pair, level))) is not None
        for measure in MEASURES
    ]
    columns = ["method", "variant", "level", "measure", "value", "low", "high"]
    return pd.DataFrame(table, columns=columns)


def levels_figure(
    data: pd.DataFrame, source: Source, noise_unit: str, width: float = 9.0, height: float = 2.8
) -> Figure:
    """Draw `levels_data`, a panel a measure; bands are 95 % bootstrap intervals over objects."""
    page = Page(width)
    y = page.header("Does noise on the neurons silence the object, and nothing else?", source)
    y += 0.45
    gap = 0.45
    panel = (page.inner - gap * len(MEASURES)) / len(MEASURES)
    unit = NOISE_UNITS.get(noise_unit, noise_unit)
    for number, measure in enumerate(MEASURES):
        own = data[data["measure"] == measure]
        x = 0.3 + gap + number * (panel + gap)
        bottom = page.axes(
            x, y, panel, height, lambda ax, own=own, m=measure: _draw_panel(ax, own, m)
        )
    y = bottom + 1.35
    explanation = (
        f"Averages over objects against the noise level ({unit}). Bands: 95 % bootstrap intervals "
        "over objects. The random control has as many neurons, in the layers of two-stage "
        "filtering; where a method's line lies on it, noise on its neurons does no more than "
        "noise on any."
    )
    return page.figure(page.footer(y, explanation, source))


def _draw_panel(axes: Axes, data: pd.DataFrame, measure: str) -> None:
    for (method, variant), own in data.groupby(["method", "variant"], sort=False):
        colour = METHOD_COLOURS.get(method, OTHER_COLOUR)
        sns.lineplot(
            data=own,
            x="level",
            y="value",
            ax=axes,
            label=method_label(method, variant),
            color=colour,
            marker=METHOD_MARKERS.get(method, "v"),
            linestyle=VARIANT_LINES.get(variant, "-"),
            errorbar=None,
        )
        axes.fill_between(own["level"], own["low"], own["high"], color=colour, alpha=0.15, lw=0)
    axes.set_xscale("log")
    levels = sorted(data["level"].unique())
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    axes.minorticks_off()
    axes.set(xlabel="noise level", ylabel="", ylim=(-0.02, 1.02))
    axes.set_title(MEANINGS[measure], size=BODY, loc="left")
    axes.grid(axis="y", color="#E0E0E0", linewidth=0.6)
    axes.set_axisbelow(True)
    if measure == MEASURES[0] and len(data):
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, frameon=False)
    elif axes.get_legend():
        axes.get_legend().remove()
