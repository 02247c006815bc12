"""Figures of the comparison of methods: measures side by side, agreement, layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmneurons.figures.inputs import models_of
from mmneurons.figures.panels import dressed, legend, model_panels
from mmneurons.figures.shown import Source, joined, left_out_of_models, short_names
from mmneurons.figures.style import (
    BODY,
    FAINT,
    INK,
    MARGIN,
    METHOD_COLOURS,
    SMALL,
    Page,
    uniform_colormap,
)
from mmneurons.metrics.comparison import ALL_MODELS

MEASURE_NAMES = {
    "noise.score": "noise: score",
    "noise.suppression": "noise: suppression",
    "noise.retention": "noise: retention",
    "ablation.score": "ablation: score",
    "ablation.suppression": "ablation: suppression",
    "ablation.retention": "ablation: retention",
    "edit.success": "edit: success",
    "edit.retention": "edit: retention",
    "stability.pictures": "same across pictures",
    "stability.halves": "same across halves",
    "stability.shuffles": "same after shuffling",
    "localisation": "localisation (IoU)",
}
BLIND = "random"
"""The method whose mean every other row is compared with by eye."""
MODEL_MARKERS = "osv^PX<>*hdp"
CONTROL = {"marker": "D", "markersize": 5, "markerfacecolor": "white", "linestyle": ""}
EMPTY = "nothing to show"


def comparison_source(
    models: Sequence[str], dataset: str, valid: pd.DataFrame, exclusions: pd.DataFrame
) -> Source:
    """What the comparison rests on; valid, exclusions: with the column `model`."""
    counts = ", ".join(
        f"{(valid['model'] == model).sum()} ({name})" for model, name in short_names(models).items()
    )
    n = f"{counts} valid pictures of {valid['group'].nunique()} concepts"
    return Source(joined(models), dataset, n, left_out_of_models(models, exclusions))


def method_name(methods: Mapping[str, str], name: str) -> str:
    """A method as readers know it, without the paper."""
    return methods.get(name, name).split(" (")[0]


def measures_data(
    summary: pd.DataFrame,
    methods: Mapping[str, str],
    models: Sequence[str],
    measures: Sequence[str],
) -> pd.DataFrame:
    """Rows of summary.csv of these measures, in the order of models, methods and measures.

    Of a model without a method there is a row without a value.
    """
    index = pd.MultiIndex.from_product(
        [[*models, ALL_MODELS], list(methods), measures], names=["model", "method", "measure"]
    )
    found = summary.set_index(["model", "method", "measure"]).reindex(index).reset_index()
    counts = ["n_groups", "n_models", "n"]
    found = found.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, "Int64"))
    # A summary without a row, of models that name nothing, has no types of its own.
    numbers = found.columns.difference(["model", "method", "measure", *counts])
    return found.astype(dict.fromkeys(numbers, float))


def measures_figure(
    data: pd.DataFrame,
    source: Source,
    methods: Mapping[str, str],
    models: Sequence[str],
    title: str,
    explanation: str,
    width: float = 10.0,
) -> Figure:
    """A panel a measure, a row a method: each model small, their mean with its interval large.

    Under the mean stands a hollow mark, that of random neurons from the method's own layers.
    """
    page = Page(width)
    y = page.header(title, source)
    measures = list(dict.fromkeys(data["measure"]))
    panels = [
        ([(MEASURE_NAMES[name], True)], _measure(data, name, methods, models)) for name in measures
    ]
    room = 0.95
    height = 0.4 * len(methods) + 0.1
    y = _panels(page, y, panels, height, room)
    names = short_names(models)
    handles = [
        Line2D([], [], marker=marker, color=FAINT, linestyle="", markersize=4, label=names[model])
        for model, marker in zip(models, MODEL_MARKERS, strict=False)
    ]
    handles += [
        Line2D([], [], marker="D", color=INK, markersize=7, linewidth=2, label="mean over models"),
        Line2D([], [], **CONTROL, color=INK, label="of random neurons, same layers"),
    ]
    y = legend(page, y, handles, per_row=3)
    return page.figure(page.footer(y, explanation, source))


def _panels(page: Page, y: float, panels: Sequence, height: float, room: float) -> float:
    """Panels side by side, the names of the rows at the first one alone."""
    between = 0.16
    panel = (page.inner - room - between * (len(panels) - 1)) / max(len(panels), 1)
    tops = []
    for number, (name, _) in enumerate(panels):
        x = MARGIN + room + number * (panel + between)
        tops.append(page.text(name, x, y, panel + between))
    for number, (_, draw) in enumerate(panels):
        x = MARGIN + room + number * (panel + between)

        def place(axes: Axes, draw=draw, first=number == 0) -> None:
            draw(axes, first)

        page.axes(x, max(tops) + 0.08, panel, height, place)
    return max(tops) + 0.08 + height + 0.36


def _measure(data: pd.DataFrame, measure: str, methods: Mapping[str, str], models: Sequence[str]):
    own = data[data["measure"] == measure].set_index(["model", "method"])

    def draw(axes: Axes, first: bool) -> None:
        if BLIND in methods and np.isfinite(blind := own.at[(ALL_MODELS, BLIND), "value"]):
            axes.axvline(blind, color=METHOD_COLOURS[BLIND], linewidth=0.9, linestyle=(0, (3, 2)))
        for row, method in enumerate(methods):
            colour = METHOD_COLOURS[method]
            spread = np.linspace(-0.22, 0.22, len(models)) if len(models) > 1 else [0]
            for model, marker, shift in zip(models, MODEL_MARKERS, spread, strict=False):
                value = own.at[(model, method), "value"]
                axes.plot(
                    value, row + shift, marker, color=colour, alpha=0.45, markersize=4,
                    markeredgewidth=0,
                )  # fmt: skip
            mean = own.loc[(ALL_MODELS, method)]
            if np.isfinite(mean["low"]):
                axes.plot([mean["low"], mean["high"]], [row, row], color=colour, linewidth=2.2)
            axes.plot(
                mean["value"], row, "D", color=colour, markersize=7, markeredgecolor="white",
                markeredgewidth=0.8,
            )  # fmt: skip
            ends = [mean["control_low"], mean["control_high"]]
            axes.plot(ends, [row + 0.33] * 2, color=colour, linewidth=0.9)
            axes.plot(mean["control"], row + 0.33, **CONTROL, color=colour)
        shown = [method_name(methods, name) for name in methods]
        axes.set_yticks(range(len(shown)), shown if first else [""] * len(shown))
        axes.set_ylim(len(shown) - 0.5, -0.5)
        high = own[["value", "high"]].max(axis=None)
        axes.set_xlim(-0.03, 1.03 if not high < 0.5 else max(0.1, 1.1 * high))
        axes.grid(axis="x", color="#E0E0E0", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0, labelsize=BODY)
        if own["value"].isna().all():
            axes.text(0.5, 0.5, EMPTY, transform=axes.transAxes, ha="center", color=FAINT)

    return draw


# ------------------------------------------------------------------------------------- agreement


def agreement_data(agreement: pd.DataFrame, methods: Mapping[str, str]) -> pd.DataFrame:
    """Means over concepts; model, method, other, overlap, rbo, n_groups."""
    keys = ["model", "method", "other"]
    found = agreement.groupby(keys, observed=False, sort=False)[["overlap", "rbo"]].mean()
    counts = agreement[agreement["overlap"].notna()].groupby(keys, observed=False).size()
    table = found.assign(n_groups=counts).reset_index()
    table = table[table["method"].isin(list(methods)) & table["other"].isin(list(methods))]
    return table.astype({"n_groups": "Int64"}).fillna({"n_groups": 0})


def agreement_figure(
    data: pd.DataFrame,
    source: Source,
    methods: Mapping[str, str],
    title: str,
    explanation: str,
    width: float = 10.0,
    cell: float = 0.36,
) -> Figure:
    """A matrix a model: overlap in the upper right, rank-biased overlap in the lower left."""
    page = Page(width)
    y = page.header(title, source)
    names = [method_name(methods, name) for name in methods]
    n = len(names)
    room, between = 0.95, 0.22
    per_row = max(1, int((page.inner - room + between) / (n * cell + between)))
    shown = short_names(models_of(data))
    colours = uniform_colormap("viridis")
    for start in range(0, len(shown), per_row):
        for number, (model, name) in enumerate(list(shown.items())[start : start + per_row]):
            x = MARGIN + room + number * (n * cell + between)
            page.text([(name, True)], x, y, n * cell + between, SMALL)
            own = data[data["model"] == model].set_index(["method", "other"])

            def draw(axes: Axes, own=own, first=number == 0) -> None:
                _matrix(axes, own, list(methods), names if first else [""] * n, names, colours)

            page.axes(x, y + 0.32, n * cell, n * cell, draw)
        y += 0.32 + n * cell + 0.85
    return page.figure(page.footer(y, explanation, source))


def _matrix(axes: Axes, own, methods, rows, columns, colours) -> None:
    n = len(methods)
    values = np.full((n, n), np.nan)
    for i, one in enumerate(methods):
        for j, other in enumerate(methods):
            if i != j and (one, other) in own.index:
                values[i, j] = own.at[(one, other), "overlap" if j > i else "rbo"]
    axes.imshow(values, cmap=colours, vmin=0, vmax=1)
    for i, j in np.argwhere(np.isfinite(values)):
        ink = "white" if values[i, j] < 0.6 else "black"
        text = f"{values[i, j]:.2f}".removeprefix("0")
        axes.text(j, i, text, ha="center", va="center", color=ink, size=6.5)
    axes.set_xticks(range(n), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


# ---------------------------------------------------------------------------------------- layers


def layers_data(layers: pd.DataFrame, methods: Mapping[str, str]) -> pd.DataFrame:
    """layers.csv of all models, of these methods."""
    return layers[layers["method"].isin(list(methods))].reset_index(drop=True)


def layers_figure(
    data: pd.DataFrame,
    source: Source,
    methods: Mapping[str, str],
    title: str,
    explanation: str,
    width: float = 10.0,
    height: float = 1.8,
) -> Figure:
    """A panel a model, a line a method."""
    page = Page(width)
    y = page.header(title, source)

    def draw(axes: Axes, own: pd.DataFrame, first: bool) -> None:
        dressed(axes, own, EMPTY)
        for method in methods:
            rows = own[own["method"] == method]
            style = "--" if method == "random" else "-"
            axes.plot(
                rows["layer"], rows["share"], style, marker="o", markersize=3,
                color=METHOD_COLOURS[method],
            )  # fmt: skip
        axes.set_ylim(0, 1)
        axes.set_xlabel("layer")
        axes.set_xticks(sorted(own["layer"].unique()))
        if first:
            axes.set_ylabel("share of neurons")

    y = model_panels(page, y, data, height, draw)
    handles = [
        Line2D([], [], color=METHOD_COLOURS[name], marker="o", markersize=3,
               linestyle="--" if name == "random" else "-", label=method_name(methods, name))
        for name in methods
    ]  # fmt: skip
    y = legend(page, y, handles)
    return page.figure(page.footer(y, explanation, source))
