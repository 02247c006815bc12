"""The curves and bars of Pan et al. 2024: neurons per layer, and how many stay or are shared.

Each figure has a function `*_data`, whose result is the CSV, and one that draws that result.
Tables of several models have a categorical column `model` (`mmneurons.figures.inputs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from mmneurons.figures.inputs import models_of, of_models
from mmneurons.figures.pan_inputs import frequent_concepts, shown_at
from mmneurons.figures.panels import GAP, LEFT, dressed, legend, model_panels, name_room
from mmneurons.figures.shown import Source, method_label, short_names
from mmneurons.figures.style import (
    BODY,
    FAINT,
    MARGIN,
    METHOD_COLOURS,
    METHOD_MARKERS,
    SMALL,
    Page,
    uniform_colormap,
)

METHODS = ("contribution", "attribution")
"""The methods that the paper's figures compare."""
_MARKERS = "osD^vPX*"


# Figure 2: unique neurons per layer.


def layers_data(neurons: pd.DataFrame, top_k: Sequence[int]) -> pd.DataFrame:
    """Count the different neurons of each layer among the k best of every concept.

    neurons: model, layer, unit, rank (0 best, per sample). Columns: model, k, layer, neurons; a row
    for every layer up to the last one in which the model has any recorded neuron, and for every k
    up to the number of neurons that were recorded of each concept.
    """
    rows = []
    for model in models_of(neurons):
        own = neurons[neurons["model"] == model]
        layers = range(own["layer"].max() + 1 if len(own) else 0)
        recorded = own["rank"].max() + 1 if len(own) else 0
        for k in (k for k in top_k if k <= recorded):
            best = own[own["rank"] < k].drop_duplicates(["layer", "unit"])
            counts = best["layer"].value_counts().reindex(layers, fill_value=0)
            rows += [(model, k, layer, count) for layer, count in counts.items()]
    return of_models(pd.DataFrame(rows, columns=["model", "k", "layer", "neurons"]), neurons)


def layers_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 2.8
) -> Figure:
    """Draw `layers_data`, a panel a model and a curve a k."""
    page = Page(width)
    y = page.header("In which layers the neurons of the concepts are", source)
    ks = sorted(data["k"].unique())
    colours = _steps(len(ks))
    top = max([1, *data["neurons"]])

    def draw(axes: Axes, own: pd.DataFrame, first: bool) -> None:
        for number, k in enumerate(ks):
            curve = own[own["k"] == k]
            axes.plot(
                curve["layer"],
                curve["neurons"],
                color=colours[number],
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=4,
                linewidth=1.5,
                clip_on=False,
            )
        # A scale with a zero: a layer may have no neuron of the few best.
        axes.set_yscale("symlog", linthresh=1, linscale=0.4)
        axes.set_ylim(0, 1.3 * top)
        ticks = [0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000]
        ticks = [tick for tick in ticks if tick <= top]
        axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.set(xlabel="layer", ylabel="different neurons" if first else "")
        dressed(axes, own, "no neuron was recorded")

    y = model_panels(page, y, data, height, draw)
    handles = [
        Line2D([], [], color=colour, marker=_MARKERS[i % len(_MARKERS)], markersize=4, label=f"{k}")
        for i, (k, colour) in enumerate(zip(ks, colours, strict=True))
    ]
    y = legend(page, y, handles, "k, neurons kept of each concept:")
    explanation = (
        "Different neurons of the language model's feed-forward layers among the k best neurons, "
        "by contribution, of any concept in any caption; layers count from 0. The vertical scale "
        "is logarithmic above 1."
    )
    return page.figure(page.footer(y, explanation, source))


# Figure 3: region invariance.


def invariance_data(
    invariance: pd.DataFrame, site: str, n_units: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """Rows of region invariance that figure 3 shows, at `site`, of the paper's two methods.

    invariance: model, method, site, k, value, low, high, n, n_left_out. n_units: neurons of each
    model; with them there is a column chance, k over that number: what two random selections share.
    """
    rows = shown_at(invariance, site)
    rows = rows[rows["method"].isin(METHODS)].drop(columns="site")
    # A file without a row has columns without a type.
    rows = rows.astype(dict.fromkeys(["k", "value", "low", "high"], "float64"))
    chance = (rows["k"] / rows["model"].astype(str).map(n_units or {}).astype(float)).clip(upper=1)
    table = rows.assign(chance=chance)
    return table.sort_values(["model", "method", "k"], kind="stable", ignore_index=True)


def invariance_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 2.8
) -> Figure:
    """Draw `invariance_data`, a panel a model; bands are 95 % bootstrap intervals over samples."""
    page = Page(width)
    y = page.header("Do a concept's neurons stay when the picture's patches are shuffled?", source)

    def draw(axes: Axes, own: pd.DataFrame, first: bool) -> None:
        known = own.dropna(subset="value")
        for method in METHODS:
            curve = known[known["method"] == method]
            colour = METHOD_COLOURS[method]
            axes.plot(
                curve["k"], curve["value"], color=colour, marker=METHOD_MARKERS[method], linewidth=2
            )
            axes.fill_between(
                curve["k"], curve["low"], curve["high"], color=colour, alpha=0.18, linewidth=0
            )
        chance = known.drop_duplicates("k").dropna(subset="chance")
        axes.plot(chance["k"], chance["chance"], color=FAINT, linestyle=(0, (2, 2)), linewidth=1)
        axes.set_xscale("log")
        ks = sorted(own["k"].unique()) or [1]
        axes.set_xticks(ks, [f"{k:g}" for k in ks])
        axes.set_xlim(ks[0] / 1.15, ks[-1] * 1.15)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(-0.02, 1.02)
        axes.set(xlabel="k, neurons compared", ylabel="share of neurons kept" if first else "")
        dressed(axes, known, "no concept is in both captions")

    y = model_panels(page, y, data, height, draw)
    handles = [_method_line(method) for method in METHODS]
    if data["chance"].notna().any():
        handles.append(
            Line2D([], [], color=FAINT, linestyle=(0, (2, 2)), label="two random selections")
        )
    y = legend(page, y, handles)
    explanation = (
        "Share of a concept's k best neurons that are among the k best again when the image tokens "
        "are shuffled, averaged over the concepts that both captions name. Bands: 95 % bootstrap "
        "intervals over these concepts' captions."
    )
    return page.figure(page.footer(y, explanation, source))


# Figures 4 and 6: neurons that several pictures of a concept have in common.


def cross_image_data(
    cross_image: pd.DataFrame,
    concepts: pd.DataFrame,
    site: str,
    n_pictures: Sequence[int],
    top_k: Sequence[int],
    most: int = 8,
) -> pd.DataFrame:
    """Rows of cross-image invariance that figures 4 and 6 show, at `site`.

    cross_image: model, method, site, group, n_pictures, k, value, low, high, n, n_left_out. Of the
    concepts with a value in some model, the `most` that most captions name (concepts: model,
    variant, group) are shown, the most frequent first.
    """
    rows = shown_at(cross_image, site)
    rows = rows[rows["method"].isin(METHODS) & rows["k"].isin(top_k)].drop(columns="site")
    rows = rows[rows["n_pictures"].isin(n_pictures)]
    valued = set(rows.dropna(subset="value")["group"])
    groups = [name for name in frequent_concepts(concepts) if name in valued][:most]
    rows = rows[rows["group"].isin(groups)]
    place = {group: number for number, group in enumerate(groups)}
    return rows.sort_values(
        ["model", "k", "n_pictures", "group", "method"],
        key=lambda column: column.map(place) if column.name == "group" else column,
        kind="stable",
        ignore_index=True,
    )


def cross_image_figure(
    data: pd.DataFrame,
    source: Source,
    width: float = 9.0,
    height: float = 2.4,
) -> Figure:
    """Draw `cross_image_data`: for each model a row of panels a k, in each row a panel an N."""
    page = Page(width)
    y = page.header("Do pictures of the same concept have neurons in common?", source)
    groups = list(dict.fromkeys(data["group"]))
    if not groups:
        text = "Nothing to draw: no concept is named in enough captions."
        y = page.text([(text, False)], MARGIN, y, page.inner) + 0.1
    one = data[["n_pictures", "k"]].drop_duplicates().shape[0] == 1
    if groups and one:
        n, k = data[["n_pictures", "k"]].iloc[0]
        y = page.text([(f"{n} pictures, k = {k}", False)], MARGIN, y, page.inner) + 0.05
        y = model_panels(
            page,
            y,
            data,
            height,
            lambda ax, own, first: _bars(ax, own, groups, first, True),
            name_room(groups),
        )
    elif groups:
        for model, name in short_names(models_of(data)).items():
            own = data[data["model"] == model]
            y = page.text([(name, True)], MARGIN, y, page.inner) + 0.05
            y = _bar_grid(page, y, own, data, groups, height)
    y = legend(
        page, y, [Patch(color=METHOD_COLOURS[m], label=method_label(m, "")) for m in METHODS]
    )
    explanation = (
        "Share of a concept's k best neurons that all of N pictures have in common, averaged over "
        "sets of N pictures whose captions name it. Concepts: those that most captions name. Lines "
        "on the bars: 95 % bootstrap intervals over the sets; sets share pictures, so they are "
        "rather too narrow. \u2013: fewer than N pictures of the concept in this model."
    )
    return page.figure(page.footer(y, explanation, source))


def _bar_grid(
    page: Page, y: float, own: pd.DataFrame, data: pd.DataFrame, groups: list[str], height: float
) -> float:
    """One model's panels: rows by k, columns by N; concepts are named under the last row."""
    ns, ks = sorted(data["n_pictures"].unique()), sorted(data["k"].unique())
    panel = (page.inner - LEFT - GAP * (len(ns) - 1)) / len(ns)
    for k in ks:
        for number, n in enumerate(ns):
            cell = own[(own["k"] == k) & (own["n_pictures"] == n)]
            x = MARGIN + LEFT + number * (panel + GAP)
            page.text([(f"{n} pictures, k = {k}", False)], x, y, panel, SMALL)
            names = k == ks[-1]

            def draw(axes: Axes, cell=cell, first=number == 0, names=names) -> None:
                _bars(axes, cell, groups, first, names)

            page.axes(x, y + 0.17, panel, height, draw)
        y += 0.17 + height + 0.12
    return y + name_room(groups)


def _bars(axes: Axes, data: pd.DataFrame, groups: list[str], first: bool, names: bool) -> None:
    for number, method in enumerate(METHODS):
        own = data[data["method"] == method].set_index("group").reindex(groups)
        xs = np.arange(len(groups)) + (number - 0.5) * 0.38
        colour = METHOD_COLOURS[method]
        known = own["value"].notna().to_numpy()
        values = own["value"][known]
        # An outline, so that a share of zero is seen.
        axes.bar(xs[known], values, 0.36, color=colour, edgecolor=colour, linewidth=1)
        bounds = own[["low", "high"]].sub(own["value"], axis=0).abs().fillna(0).to_numpy().T
        axes.errorbar(
            xs[known],
            values,
            bounds[:, known],
            fmt="none",
            ecolor="#1A1A1A",
            elinewidth=0.8,
            capsize=1.5,
            capthick=0.8,
        )
        for x in xs[~known]:
            axes.text(x, 0.01, "\u2013", ha="center", va="bottom", size=BODY)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"] if first else [""] * 3)
    axes.set_xticks(range(len(groups)), groups if names else [""] * len(groups), rotation=60)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_ylabel("share in common" if first else "", size=SMALL)
    dressed(axes, data, "")


# Colours and lines.


def _method_line(method: str) -> Line2D:
    return Line2D(
        [],
        [],
        color=METHOD_COLOURS[method],
        marker=METHOD_MARKERS[method],
        linewidth=2,
        label=method_label(method, ""),
    )


def _steps(number: int) -> list:
    """Colours from dark to light that stay readable on white."""
    return [uniform_colormap("viridis")(step) for step in np.linspace(0, 0.85, number)]
