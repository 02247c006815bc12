"""The curves of MMNeuron (Huo et al. 2024): domains apart, neurons and entropy layer by layer.

Each figure has a function `*_data`, whose result is the CSV, and one that draws that result.
Columns `model` and `group` are categorical, see `mmneurons.figures.mmneuron_inputs`.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mmneurons.figures.domains import (
    MODULES,
    domain,
    domain_label,
    domains_of,
    selection,
    short_label,
)
from mmneurons.figures.inputs import models_of, of_models
from mmneurons.figures.panels import dressed, legend, model_panels, panel_rows, shade_layers
from mmneurons.figures.shown import Source, short_names
from mmneurons.figures.style import FAINT, MARGIN, Page, Run

KINDS = {"image": ("image tokens", (0, (3, 2))), "text": ("text tokens", "-")}
"""Kinds of token, what they are called, and the lines that they are drawn with."""
ACTIVE_COLOUR, SILENT_COLOUR = "#0072B2", "#BDBDBD"
INERT = Patch(
    facecolor="#EDEDED",
    edgecolor="#B0B0B0",
    hatch="///",
    linewidth=0,
    label="layer that cannot affect the output",
)


# Figure 2: pictures of the domains.


def pca_data(pca: pd.DataFrame) -> pd.DataFrame:
    """The first two principal components of the pictures' embeddings.

    Columns: model, sample_id, group, x, y, explained_x, explained_y (shares of the variance).
    """
    columns = ["model", "sample_id", "group", "x", "y", "explained_x", "explained_y"]
    return pca[columns].sort_values(["model", "group", "sample_id"], ignore_index=True)


def pca_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 3.4
) -> Figure:
    """Draw `pca_data`, a panel a model and a point a picture."""
    page = Page(width)
    y = page.header("Does the image encoder tell the domains apart?", source)

    def draw(axes: Axes, own: pd.DataFrame, first: bool) -> None:
        known = own.dropna(subset=["x", "y"])
        for name in domains_of(data):
            points = known[known["group"] == name]
            look = domain(name)
            axes.scatter(
                points["x"],
                points["y"],
                s=16,
                color=look.colour,
                marker=look.marker,
                alpha=0.75,
                linewidths=0,
                clip_on=False,
            )
        labels = []
        for side, place in (("x", "first"), ("y", "second")):
            share = known[f"explained_{side}"].dropna()
            of = f" ({100 * share.iloc[0]:.0f} % of the variance)" if len(share) else ""
            labels.append(f"{place} component{of}")
        axes.set(xlabel=labels[0], ylabel=labels[1], xticks=[], yticks=[])
        dressed(axes, known, "no picture was embedded")

    y = model_panels(page, y, data, height, draw, below=0.35, per_row=2)
    known = data.dropna(subset=["x", "y"])
    y = legend(page, y, _domain_handles(data, known, line=False), per_row=3)
    explanation = (
        "One point for each picture that a question is about: the first two principal components "
        "of the image encoder's embeddings of all pictures. Axes have no unit; components belong "
        "to their model and cannot be compared between panels."
    )
    return page.figure(page.footer(y, explanation, source))


# Figure 5: domain neurons per layer.


def layers_data(
    neurons: pd.DataFrame, silent: pd.DataFrame, variant: str, share: float
) -> pd.DataFrame:
    """Count the domain neurons of every layer, also of those that have none.

    neurons: model, group, module, layer, unit, selected by the `variant` of DAPE, `share` percent
    of each module. silent: model, module, layer, inert, a row a layer. Columns: variant, share,
    model, module, layer, group, neurons, inert.
    """
    layers = silent[["model", "module", "layer", "inert"]].drop_duplicates()
    table = layers.merge(pd.DataFrame({"group": domains_of(neurons)}), how="cross")
    heads = ["model", "module", "layer", "group"]
    counts = neurons.groupby(heads, observed=True).size().rename("neurons").reset_index()
    plain = {"model": "str", "group": "str"}
    table = table.astype(plain).merge(counts.astype(plain), on=heads, how="left")
    table = of_models(table.fillna({"neurons": 0}).astype({"neurons": "int64"}), neurons)
    table["group"] = pd.Categorical(table["group"], categories=domains_of(neurons))
    table["place"] = table["module"].map(list(MODULES).index)
    table = table.sort_values(["model", "place", "layer", "group"], ignore_index=True)
    table = table.assign(variant=variant, share=share)
    return table[["variant", "share", *heads, "neurons", "inert"]]


def layers_figure(
    data: pd.DataFrame,
    source: Source,
    width: float = 9.0,
    height: float = 1.9,
) -> Figure:
    """Draw `layers_data`: a row of panels a model, a panel a module, a line a domain."""
    page = Page(width)
    y = page.header("In which layers are the neurons of each domain?", source)
    columns = max(2, *data.groupby("model", observed=False)["module"].nunique())
    for model, name in short_names(models_of(data)).items():
        own = data[data["model"] == model]
        y = page.text([(name, True)], MARGIN, y, page.inner) + 0.08
        if own.empty:
            y = page.text([("Nothing to draw: no layer was counted.", False)], MARGIN, y, 6) + 0.1
            continue
        panels = []
        for module, rows in own.groupby("module", sort=False):

            def draw(axes: Axes, first: bool, rows=rows) -> None:
                _neuron_lines(axes, rows, first)

            panels.append((_module_title(module, rows), draw))
        y = panel_rows(page, y, panels, height, 0.48, columns)
    handles = _domain_handles(data, data[data["neurons"] > 0])
    y = legend(page, y, [*handles, INERT] if data["inert"].any() else handles, per_row=3)
    explanation = (
        f"Domain-specific neurons by layer of their module; layers count from 0. {selection(data)} "
        "Every panel has its own vertical scale."
    )
    return page.figure(page.footer(y, explanation, source))


def _module_title(module: str, rows: pd.DataFrame) -> list[Run]:
    """A module's name, and which domains have no neuron in it."""
    totals = rows.groupby("group", observed=False)["neurons"].sum()
    without = [short_label(name) for name in totals.index[totals == 0]]
    runs = [(MODULES[module], True)]
    return [*runs, (f" (none: {', '.join(without)})", False)] if without else runs


def _neuron_lines(axes: Axes, rows: pd.DataFrame, first: bool) -> None:
    layers = sorted(rows["layer"].unique())
    shade_layers(axes, rows.loc[rows["inert"], "layer"].unique())
    for place, (name, line) in enumerate(rows.groupby("group", observed=False)):
        if not line["neurons"].any():
            continue
        look = domain(name)
        axes.plot(
            # Side by side, or equal numbers of several domains would hide each other.
            line["layer"] + (place - 2) * 0.05,
            line["neurons"],
            color=look.colour,
            marker=look.marker,
            markersize=4 if len(layers) <= 16 else 2.5,
            linewidth=1.5,
            clip_on=False,
            zorder=3,
        )
    axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
    axes.set_ylim(0, max(1, 1.05 * rows["neurons"].max()))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.set(xlabel="layer", ylabel="neurons" if first else "")
    dressed(axes, rows, "")


# Figure 7: entropy of what the layers would say.


def entropy_data(entropy: pd.DataFrame) -> pd.DataFrame:
    """Mean entropy over samples: model, kind, group, layer, entropy (nats), n (samples).

    entropy: model, sample_id, group, layer, kind, entropy (mean over the sample's tokens); samples
    without a token of the kind have NaN and do not count.
    """
    heads = ["model", "kind", "group", "layer"]
    known = entropy.dropna(subset="entropy")
    means = known.groupby(heads, observed=True)["entropy"].agg(entropy="mean", n="count")
    return means.reset_index()


def entropy_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 3.2
) -> Figure:
    """Draw `entropy_data`, a panel a model; domains by colour, kinds of token by line."""
    page = Page(width)
    y = page.header("How decided is the model about the next word, layer by layer?", source)
    top = max([0.1, *data["entropy"]])

    def draw(axes: Axes, own: pd.DataFrame, first: bool) -> None:
        for (kind, name), line in own.groupby(["kind", "group"], observed=True):
            axes.plot(
                line["layer"],
                line["entropy"],
                color=domain(name).colour,
                linestyle=KINDS[kind][1],
                linewidth=1.7,
                clip_on=False,
            )
        axes.set_ylim(0, 1.05 * top)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        axes.set(xlabel="layer (0: input embeddings)", ylabel="entropy (nats)" if first else "")
        dressed(axes, own, "no entropy was recorded")

    y = model_panels(page, y, data, height, draw, per_row=2)
    y = legend(page, y, _domain_handles(data, data, marker=False), per_row=3)
    lines = [
        Line2D([], [], color=FAINT, linestyle=line, linewidth=1.7, label=words)
        for words, line in KINDS.values()
    ]
    y = legend(page, y - 0.12, lines, per_row=3)
    explanation = (
        "Entropy of the distribution over the vocabulary that the hidden state after each layer "
        "gives through the final norm and the unembedding (logit lens), averaged over the image or "
        "text tokens of a question's prompt and then over questions. High: undecided; the largest "
        "possible value is the logarithm of the number of words in the vocabulary."
    )
    return page.figure(page.footer(y, explanation, source))


# Figure 9: silent units.


def silent_data(silent: pd.DataFrame) -> pd.DataFrame:
    """Silent and activated units of the vision encoder's layers.

    silent: model, module, layer, n_units, n_silent, inert. Columns: model, layer, n_units,
    n_silent, n_activated, inert.
    """
    own = silent[silent["module"] == "vision"].sort_values(["model", "layer"], ignore_index=True)
    own = own.assign(n_activated=own["n_units"] - own["n_silent"])
    return own[["model", "layer", "n_units", "n_silent", "n_activated", "inert"]]


def silent_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 2.6
) -> Figure:
    """Draw `silent_data`, a panel a model and a bar a layer."""
    page = Page(width)
    y = page.header("How many units of the image encoder are never active?", source)

    def draw(axes: Axes, own: pd.DataFrame, first: bool) -> None:
        shade_layers(axes, own.loc[own["inert"], "layer"])
        axes.bar(own["layer"], own["n_activated"], 0.72, color=ACTIVE_COLOUR)
        axes.bar(
            own["layer"], own["n_silent"], 0.72, bottom=own["n_activated"], color=SILENT_COLOUR
        )
        if len(own):
            axes.set_xlim(own["layer"].min() - 0.6, own["layer"].max() + 0.6)
            axes.set_ylim(0, 1.05 * own["n_units"].max())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.set(xlabel="layer of the vision encoder", ylabel="units" if first else "")
        dressed(axes, own, "no layer of a vision encoder was counted")

    y = model_panels(page, y, data, height, draw, per_row=2, between=0.6)
    handles = [
        Patch(color=ACTIVE_COLOUR, label="activated at a token or more"),
        Patch(
            color=SILENT_COLOUR,
            label="silent: at no token of any domain"
            + ("" if data["n_silent"].any() else ": none"),
        ),
    ]
    y = legend(page, y, [*handles, INERT] if data["inert"].any() else handles, per_row=3)
    explanation = (
        "Units of the feed-forward layers of the vision encoder; layers count from 0. A unit is "
        "activated at a token where its activation is above zero."
    )
    return page.figure(page.footer(y, explanation, source))


# Legends.


def _domain_handles(
    data: pd.DataFrame, shown: pd.DataFrame, line: bool = True, marker: bool = True
) -> list[Line2D]:
    """Legend entries of all domains; those without a row in `shown` say so."""
    found = set(shown["group"])
    return [
        Line2D(
            [],
            [],
            color=domain(name).colour,
            marker=domain(name).marker if marker else "",
            markersize=5,
            linestyle="-" if line else "",
            linewidth=1.7,
            label=domain_label(name) + ("" if name in found else ": none"),
        )
        for name in domains_of(data)
    ]
