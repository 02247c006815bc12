"""Figures and tables of the truth benchmark: which method finds units that were planted.

Each item has a function `*_data`, whose result is the CSV, and one that draws or sets that result.
Tables of several models have a categorical column `model` (`mmneurons.figures.inputs`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmneurons.figures.inputs import models_of
from mmneurons.figures.panels import dressed, legend, panel_rows
from mmneurons.figures.shown import Source, joined, left_out_of_models, short_names
from mmneurons.figures.style import FAINT, METHOD_COLOURS, SMALL, Page
from mmneurons.figures.tables import DASH, bounds, escaped, left_out_page, page
from mmneurons.metrics.truth import SINGLE, TOGETHER

METHODS = {
    "contribution": "contribution (Pan et al.)",
    "activation": "activation where the word is said",
    "activation_last": "activation at the last input token",
    "two_stage": "two-stage (Sato & Takagi)",
    "attribution_max": "attribution, maximum (Schwettmann et al.)",
    "attribution_mean": "attribution, mean (Schwettmann et al.)",
    "dape": "DAPE of concepts (Huo et al.)",
    "random": "random",
}
COLOURS = METHOD_COLOURS
LINES = {"act": "-", "post": "-", "pre": "-", "": (0, (2, 2))}
MARKERS = {"act": "o", "post": "s", "pre": "^", "": "D"}
RANKINGS = {SINGLE: "a single picture", TOGETHER: "all pictures of the object together"}
DID = {"naming": "named in", "old_kept": "old captions kept", "false_alarms": "false alarms"}
"""What plantings did to the model, shares of held-out pictures that stand beside every result."""
PLACES = ("all", "early", "middle", "late", "last", "split", "control")


def shown_methods(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The (method, site) of a table in the order in which they are shown."""
    pairs = set(table[["method", "site"]].fillna("").itertuples(index=False, name=None))
    order = {name: number for number, name in enumerate(METHODS)}
    return sorted(pairs, key=lambda pair: (order.get(pair[0], len(order)), *pair))


def label(method: str, site: str) -> str:
    """A method and where it reads, for readers."""
    name = METHODS.get(method, method)
    return f"{name}, {site}" if site in ("act", "post") else name


def truth_source(models: list[str], plantings: pd.DataFrame, exclusions: pd.DataFrame) -> Source:
    """The source of all items: counts of plantings and pictures, and what the plantings did."""
    counts = []
    for model, name in short_names(models).items():
        own = plantings[(plantings["model"] == model) & (plantings["n_pictures"] > 0)]
        planted = own[own["object"] != ""]
        did = ", ".join(
            f"{words} {planted[column].mean():.2f}" for column, words in DID.items() if len(planted)
        )
        counts.append(
            f"{len(planted)} plantings{f' ({did})' if did else ''} and {len(own) - len(planted)} "
            f"controls, {own['n_pictures'].sum()} pictures ({name})"
        )
    data = "pictures drawn of the planted objects"
    return Source(joined(models), data, ", ".join(counts), left_out_of_models(models, exclusions))


def place_order(places: Iterable[str]) -> list[str]:
    """Places of plantings from early to late; others behind them, numbers by their size."""
    known = {place: number for number, place in enumerate(PLACES)}

    def key(place: str) -> tuple:
        number = int(place) if place.isdecimal() else 0
        return known.get(place, len(known)), number, place

    return sorted(set(places), key=key)


# Figure 1: recall at m, a panel a place.


def recall_data(summary: pd.DataFrame, **_counted: pd.DataFrame) -> pd.DataFrame:
    """Recall at m of a single picture's ranking: of all plantings, by place, and of the controls.

    summary: as `metrics.truth.summarise` gives it. Columns: model, place, method, site, value, low,
    high, chance, n_plantings.
    """
    rows = summary[(summary["measure"] == "recall") & (summary["ranking"] == SINGLE)]
    rows = rows[rows["breakdown"].isin(["all", "place", "control"])]
    rows = rows.rename(columns={"group": "place"}).assign(site=rows["site"].fillna(""))
    columns = ["model", "place", "method", "site", "value", "low", "high", "chance", "n_plantings"]
    return _sorted(rows[columns])


def recall_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 2.3
) -> Figure:
    """Draw `recall_data`: a panel a model and place, a row a method."""
    drawn = Page(width)
    y = drawn.header("Which method finds the units that carry an object?", source)
    methods = shown_methods(data)[::-1]
    top = max(0.05, np.nanmax([*data["high"], *data["value"], 0.0]))
    left = 2.55

    def draw(axes: Axes, own: pd.DataFrame, first: bool) -> None:
        for place, (method, site) in enumerate(methods):
            rows = own[(own["method"] == method) & (own["site"] == site)]
            if rows.empty:
                continue
            row = rows.iloc[0]
            if not np.isnan(row["low"]):
                axes.plot([row["low"], row["high"]], [place] * 2, color=COLOURS[method], lw=2)
            axes.plot(row["value"], place, MARKERS[site], color=COLOURS[method], markersize=5)
        axes.axvline(own["chance"].mean(), color=FAINT, linestyle=(0, (2, 2)), linewidth=1)
        axes.set_ylim(-0.7, len(methods) - 0.3)
        axes.set_xlim(-0.02 * top, 1.04 * top)
        names = [label(*pair) for pair in methods] if first else [""] * len(methods)
        axes.set_yticks(range(len(methods)), names, size=SMALL)
        axes.set_xlabel("recall at m")
        dressed(axes, own, "nothing was asked")
        axes.grid(axis="x", color="#E0E0E0", linewidth=0.6)

    y = _places(drawn, y, data, height, draw, left)
    handles = [
        Line2D([], [], color=FAINT, linestyle=(0, (2, 2)), label="chance"),
        *(
            Line2D([], [], color=FAINT, linestyle="", marker=MARKERS[site], label=words)
            for site, words in (("act", "read at act"), ("post", "at post"), ("pre", "at pre"))
        ),
    ]
    y = legend(drawn, y, handles)
    explanation = (
        "Share of the m planted units among the m best units of a method's ranking of one picture "
        "(which is also the precision at m), averaged over pictures and plantings, with 95 % "
        "bootstrap intervals over plantings (none where there is one). Controls: as many units, "
        "trained on nothing new; what finds learning alone finds them no more often than chance."
    )
    return drawn.figure(drawn.footer(y, explanation, source))


# Figure 2: recall among a growing share of all neurons.


def curves_data(curves: pd.DataFrame, **_counted: pd.DataFrame) -> pd.DataFrame:
    """Recall among the best share of all neurons: model, place, method, site, share, value, ..."""
    return _sorted(curves.assign(site=curves["site"].fillna("")), "share")


def curves_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 2.3
) -> Figure:
    """Draw `curves_data`: a panel a model and place, a curve a method."""
    drawn = Page(width)
    y = drawn.header("How far down a method's ranking the planted units are", source)
    methods = better_sites(data)

    def draw(axes: Axes, own: pd.DataFrame, first: bool) -> None:
        for method, site in methods:
            rows = own[(own["method"] == method) & (own["site"] == site)]
            axes.plot(rows["share"], rows["value"], color=COLOURS[method], linestyle=_line(method))
        shares = np.geomspace(0.001, 1, 50)
        axes.plot(shares, shares, color=FAINT, linestyle=(0, (1, 1.5)), linewidth=1)
        axes.set_xscale("log")
        axes.set_xticks([0.001, 0.01, 0.1, 1], ["0.1 %", "1 %", "10 %", "100 %"])
        axes.set_ylim(-0.02, 1.02)
        axes.set(xlabel="best share of all neurons", ylabel="recall" if first else "")
        dressed(axes, own, "nothing was asked")

    y = _places(drawn, y, data, height, draw, 0.55)
    handles = [
        Line2D([], [], color=COLOURS[method], linestyle=_line(method), label=label(method, site))
        for method, site in methods
    ]
    handles.append(Line2D([], [], color=FAINT, linestyle=(0, (1, 1.5)), label="chance"))
    y = legend(drawn, y, handles, per_row=3)
    explanation = (
        "Share of the planted units among the best units of a method's ranking of one picture, "
        "averaged over pictures and plantings, against the share of the language model's neurons "
        "that are taken (logarithmic). Of a method that reads at two sites, the one with the "
        "higher recall on the whole is drawn; the CSV has both."
    )
    return drawn.figure(drawn.footer(y, explanation, source))


def better_sites(curves: pd.DataFrame) -> list[tuple[str, str]]:
    """Each method but random with the site at which its mean recall over all curves is highest."""
    means = curves.groupby(["method", "site"], sort=True)["value"].mean()
    shown: dict[str, str] = {}
    for method, site in shown_methods(curves):
        if method not in shown or means[method, site] > means[method, shown[method]]:
            shown[method] = site
    return [pair for pair in shown.items() if pair[0] != "random"]


def _line(method: str):
    # Two ways of one method share its colour.
    return (0, (4, 1.5)) if method in ("activation_last", "attribution_mean") else "-"


def _places(drawn: Page, y: float, data: pd.DataFrame, height: float, draw, left: float) -> float:
    """Panels of every model's places, three side by side; the room at the left is `left`."""
    names = short_names(models_of(data))
    for model, name in names.items():
        own = data[data["model"] == model]
        panels = []
        for place in place_order(own["place"]):
            rows = own[own["place"] == place]
            title = [(_place_title(place), True)]
            if len(names) > 1:
                title.append((f" {name}", False))
            panels.append((title, lambda axes, first, rows=rows: draw(axes, rows, first)))
        y = panel_rows(drawn, y, panels, height, 0.5, 3, 0.3, left)
    return y


def _place_title(place: str) -> str:
    words = {"all": "all plantings", "control": "controls", "split": "two layers"}
    return words.get(place, f"{place} layer")


# Tables 1 to 3 and exclusions.


def measures_data(summary: pd.DataFrame, **_counted: pd.DataFrame) -> pd.DataFrame:
    """All measures of every method, over all plantings."""
    rows = summary[summary["breakdown"] == "all"]
    rows = rows.assign(site=rows["site"].fillna("")).drop(columns=["breakdown", "group"])
    return _sorted(rows, "ranking", "measure")


def measures_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `measures_data` as a page: a table a ranking."""
    columns = {
        "recall": "precision and recall at m",
        "recall_4m": "recall at 4 m",
        "average_precision": "average precision",
        "auc": "AUC",
    }
    blocks = {}
    for (model, ranking), own in data.groupby(["model", "ranking"], observed=True, sort=False):
        cells = []
        for method, site in shown_methods(own):
            rows = own[(own["method"] == method) & (own["site"] == site)].set_index("measure")
            line = {"method": escaped(label(method, site))}
            for measure, words in columns.items():
                row = rows.loc[measure]
                line[words] = bounds(row["value"], row["low"], row["high"])
            cells.append(line)
        chance = own.groupby("measure")["chance"].mean()
        cells.append(
            {"method": "chance"} | {words: f"{chance[key]:.3f}" for key, words in columns.items()}
        )
        name = short_names(models_of(data))[model]
        blocks[f"{name}: asked with {RANKINGS[ranking]}"] = pd.DataFrame(cells)
    caption = (
        "How many of the m planted units a method finds, with 95 % bootstrap intervals over "
        "plantings. At m, precision and recall are the same number. Average precision and the area "
        "under the ROC curve (AUC) look at the whole ranking; ties count as drawn at random."
    )
    return page(title, caption, blocks or {"": "nothing was asked"}, source)


def plantings_data(plantings: pd.DataFrame, **_counted: pd.DataFrame) -> pd.DataFrame:
    """The plantings and what they did to the model."""
    order = {place: number for number, place in enumerate(PLACES)}
    table = plantings[["model", *(name for name in plantings if name != "model")]]
    return table.sort_values(
        ["model", "place", "object", "planting"],
        key=lambda column: column.map(order) if column.name == "place" else column,
        kind="stable",
        ignore_index=True,
    )


def plantings_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `plantings_data` as a page: a table a model."""
    blocks = {}
    for model, own in data.groupby("model", observed=True, sort=False):
        cells = [
            {
                "planting": escaped(row.planting),
                "object": escaped(row.object) if row.object else "none (control)",
                "units": row.layers,
                "naming (before)": f"{row.naming:.2f} ({row.naming_before:.2f})",
                "old captions kept": _share(row.old_kept),
                "old captions exact (before)": f"{row.old_exact:.2f} ({row.old_exact_before:.2f})",
                "false alarms": _share(row.false_alarms),
                "pictures asked": row.n_pictures,
            }
            for row in own.itertuples()
        ]
        blocks[short_names(models_of(data))[model]] = pd.DataFrame(cells)
    caption = (
        "What was planted, measured on held-out pictures. Units: how many in which layers. Naming: "
        "share of pictures with the object whose caption names it, in brackets without the "
        "planting; a control's are those of an object that the model knew. Old captions kept: "
        "share of pictures of known objects whose caption is, word for word, that without the "
        "planting; exact: that is the canonical caption. False alarms: share of the same pictures "
        "whose caption names the planted object."
    )
    return page(title, caption, blocks or {"": "no planting"}, source)


def places_data(summary: pd.DataFrame, **_counted: pd.DataFrame) -> pd.DataFrame:
    """Recall at m of single pictures by place, layer, number, object and seed, and of controls."""
    rows = summary[(summary["measure"] == "recall") & (summary["ranking"] == SINGLE)]
    rows = rows[rows["breakdown"] != "all"]
    rows = rows.assign(site=rows["site"].fillna(""), group=rows["group"].astype(str))
    return _sorted(rows.drop(columns=["measure", "ranking"]), "breakdown", "group")


def places_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `places_data` as a page: a table a breakdown, a column a group."""
    names = short_names(models_of(data))
    blocks = {}
    words = {
        "place": "By place",
        "layer": "By the layer of the unit",
        "m": "By the number of units",
        "object": "By object",
        "seed": "By seed (which units)",
        "control": "Controls: trained on nothing new",
    }
    for model, of_model in data.groupby("model", observed=True, sort=False):
        for breakdown, heading in words.items():
            own = of_model[of_model["breakdown"] == breakdown]
            if own.empty:
                continue
            groups = place_order(own["group"])
            cells = []
            for method, site in shown_methods(own):
                rows = own[(own["method"] == method) & (own["site"] == site)].set_index("group")
                cells.append(
                    {"method": escaped(label(method, site))}
                    | {
                        f"{escaped(group)} ({rows.loc[group, 'n_plantings']})": bounds(
                            *rows.loc[group, ["value", "low", "high"]]
                        )
                        for group in groups
                    }
                )
            blocks[f"{names[model]}: {heading}"] = pd.DataFrame(cells)
    caption = (
        "Recall at m, asked with single pictures, broken down, with 95 % bootstrap intervals over "
        f"plantings (their number in brackets; {DASH}: one planting has no interval). By the layer "
        "of the unit, a planting in two layers counts in both."
    )
    return page(title, caption, blocks or {"": "nothing was asked"}, source)


def exclusions_data(exclusions: pd.DataFrame, **_counted: pd.DataFrame) -> pd.DataFrame:
    """Pictures on which no method was asked, and why."""
    return exclusions


def exclusions_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `exclusions_data` as a page."""
    caption = (
        "Pictures that were tried and left out, with the reason: methods are asked where the "
        "planted model's caption names the object and, of the same picture without it, does not."
    )
    return left_out_page(data, source, title, caption)


FIGURES = {
    "figure1": (recall_data, recall_figure),
    "figure2": (curves_data, curves_figure),
}
"""Items by name: what makes an item's data, and what draws it."""
TABLES = {
    "table1": (measures_data, measures_page),
    "table2": (plantings_data, plantings_page),
    "table3": (places_data, places_page),
    "exclusions": (exclusions_data, exclusions_page),
}
"""The same of what is set."""


def _share(value: float) -> str:
    return DASH if np.isnan(value) else f"{value:.2f}"


def _sorted(table: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """By model, then the place and `keys`, then the methods' order; `model` is the first column."""
    table = table[["model", *(name for name in table if name != "model")]]
    pairs = shown_methods(table)
    methods = {name: number for number, (name, _) in enumerate(pairs)}
    columns = ["model", *(("place",) if "place" in table else ()), *keys, "method", "site"]

    def place(column: pd.Series) -> pd.Series:
        if column.name == "method":
            return column.map(methods)
        if column.name in ("place", "group"):
            return column.map(place_order(column).index)
        return column

    columns = sorted(columns, key=lambda name: name == "share")
    return table.sort_values(columns, key=place, kind="stable", ignore_index=True)
