"""The curves and bars of Schwettmann et al. 2023: scores, localisation, ablation, layers.

Each figure has a function `*_data`, whose result is the CSV, and one that draws that result. All
intervals are 95 % bootstrap intervals over pictures, made where the numbers were.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from mmneurons.artifacts.tables import in_order
from mmneurons.figures.panels import LEFT, dressed, legend, name_room
from mmneurons.figures.schwettmann_inputs import (
    CONDITIONS,
    KIND_COLOURS,
    KINDS,
    MULTIMODAL,
    NO_PICTURE,
    PAPER,
    RANDOM,
    decoded_patches,
    decoded_words,
    first_pictures,
    of_prompts,
    picture_name,
)
from mmneurons.figures.shown import Source, marked
from mmneurons.figures.style import (
    BODY,
    FAINT,
    MARGIN,
    MARKED,
    METHOD_COLOURS,
    SMALL,
    Page,
)

CONDITION_COLOURS = {
    "all": METHOD_COLOURS["attribution"],
    "interpretable": METHOD_COLOURS["two_stage"],
    "random": METHOD_COLOURS["random"],
}
CONDITION_MARKERS = {"all": "s", "interpretable": "o", "random": "D"}
PROMPT_KINDS = (
    "random_prompts",
    "image_prompts",
    "random_prompts_max",
    "image_prompts_max",
    "gpt",
    "coco_nouns",
)
OF_KIND = {
    MULTIMODAL: ("interpretable units of highest attribution", METHOD_COLOURS["attribution"]),
    "all": ("all units of highest attribution", "#F2B48A"),
    RANDOM: ("random neurons of the same layers", METHOD_COLOURS["random"]),
}
ALL_CATEGORIES = "all categories"


# Figure 3: are image prompts closer to the picture than random ones?


def prompts_data(scores: pd.DataFrame, ks: pd.DataFrame, prompts: pd.DataFrame) -> pd.DataFrame:
    """CLIPScore of every picture with each kind of text, and the test against random prompts.

    scores: picture_id, kind, clipscore. ks: first, second, metric, statistic, p. prompts: a row a
    decoded vector. Columns: kind, picture_id, clipscore, ks_statistic and ks_p of the two-sample
    Kolmogorov-Smirnov test of the kind's scores against those of the image prompts (NaN where it
    was not made), and patches (image tokens of the picture that were decoded, NaN for other kinds).
    """
    rows = in_order(scores.dropna(subset="clipscore"), "kind", PROMPT_KINDS)
    tests = {}
    for row in ks[ks["metric"] == "clipscore"].itertuples():
        for one, other in ((row.first, row.second), (row.second, row.first)):
            if one == "image_prompts":
                tests.setdefault(other, (row.statistic, row.p))
    found = [tests.get(kind, (np.nan, np.nan)) for kind in rows["kind"]]
    return rows[["kind", "picture_id", "clipscore"]].assign(
        ks_statistic=pd.Series([statistic for statistic, _ in found], dtype="float64"),
        ks_p=pd.Series([p for _, p in found], dtype="float64"),
        patches=rows["picture_id"].map(decoded_patches(prompts)).where(of_prompts(rows["kind"])),
    )


def prompts_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 2.6
) -> Figure:
    """Draw `prompts_data`, a row of points and a box a kind of text."""
    page = Page(width)
    y = page.header("Do the image prompts already say what is on the picture?", source)
    kinds = list(dict.fromkeys(data["kind"]))
    left, right = 2.35, 1.65
    if len(kinds):
        words = "KS test against image prompts, mean over patches"
        page.text([(words, False)], width - MARGIN - right + 0.1, y, right, SMALL, FAINT)
    y += 0.32
    y = page.axes(
        MARGIN + left,
        y,
        page.inner - left - right,
        height,
        lambda axes: _draw_prompts(axes, data, kinds),
    )
    explanation = (
        "CLIPScore of a picture with texts, a point a picture; boxes are quartiles, white lines "
        f"medians, diamonds means. Image prompts: {decoded_words(data['patches'])}, each as the "
        "vocabulary tokens nearest to it by cosine (in the paper all 196, as five tokens each); "
        "random prompts: as many random embeddings. Right: "
        "statistic D and p of the two-sample Kolmogorov-Smirnov test. The paper found image "
        "prompts no closer than random ones (D = 0.037, p > 0.5; nouns: D > 0.9, p < 0.001; "
        f"{PAPER})."
    )
    return page.figure(page.footer(y + 0.5, explanation, source))


def _draw_prompts(axes: Axes, data: pd.DataFrame, kinds: Sequence[str]) -> None:
    for place, kind in enumerate(kinds):
        own = data[data["kind"] == kind]
        values, colour = own["clipscore"].to_numpy(dtype=float), KIND_COLOURS[kind]
        # Spread by a fixed sequence without a pattern, so that the same data give the same bytes.
        spread = 0.3 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)
        axes.scatter(values, place + spread, s=9, color=colour, alpha=0.45, linewidths=0, zorder=2)
        axes.boxplot(
            [values],
            positions=[place],
            orientation="horizontal",
            widths=0.56,
            showfliers=False,
            showmeans=True,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
            medianprops={"color": "white", "linewidth": 2},
            meanprops={"marker": "D", "markersize": 4, "markerfacecolor": colour}
            | {"markeredgecolor": "white"},
            whiskerprops={"color": colour},
            capprops={"color": colour},
        )
        statistic, p = own[["ks_statistic", "ks_p"]].iloc[0]
        if not np.isnan(statistic):
            axes.text(
                1.03,
                place,
                f"D = {statistic:.3f}, {p_words(p)}",
                transform=axes.get_yaxis_transform(),
                va="center",
                size=SMALL,
            )
    axes.set_yticks(range(len(kinds)), [KINDS[kind] for kind in kinds])
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.set_xlabel("CLIPScore")
    dressed(axes, data, f"{NO_PICTURE} has a score")
    axes.grid(axis="x", color="#E0E0E0", linewidth=0.6)
    axes.grid(visible=False, axis="y")


def p_words(p: float) -> str:
    """A p-value for readers: "p < 0.001", or "p = 0.042"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


# Figure 5: do the neurons look at the object?


def localisation_data(iou: pd.DataFrame) -> pd.DataFrame:
    """Mean IoU of every category and kind of neuron; the last category is all of them.

    iou: category ("" for all), kind (multimodal | all | random), value, low, high, n (pictures).
    The result has the same columns, categories by alphabet.
    """
    rows = iou.assign(category=iou["category"].fillna(""))
    rows = rows.assign(last=rows["category"] == "")
    rows["category"] = rows["category"].replace("", ALL_CATEGORIES)
    rows = in_order(rows, "kind", list(OF_KIND))
    rows = rows.sort_values(["last", "category"], kind="stable", ignore_index=True)
    return rows[["category", "kind", "value", "low", "high", "n"]]


def localisation_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 2.6
) -> Figure:
    """Draw `localisation_data`, for each category a bar a kind."""
    page = Page(width)
    y = page.header("Are the neurons active where the object is?", source)
    categories = list(dict.fromkeys(data["category"]))
    y = page.axes(
        MARGIN + LEFT,
        y + 0.1,
        page.inner - LEFT,
        height,
        lambda axes: _draw_localisation(axes, data, categories),
    )
    y += name_room(categories or [""])
    handles = [Patch(color=colour, label=label) for label, colour in OF_KIND.values()]
    y = legend(page, y, handles)
    several = any("/" in words for words in _numbers(data).values())
    differ = ", of each bar where they differ (no picture of which: 0)" if several else ""
    explanation = (
        "Intersection over union of a unit's mask (where its activation at the image "
        "tokens, scaled bilinearly to the picture, is among the highest 5 % unless configured "
        "otherwise) and the object's annotated outline, "
        "mean over the picture's "
        "units, then over pictures, with 95 % bootstrap intervals over pictures, whose number "
        f"stands in brackets{differ}. Attribution is that to the caption's first noun; random "
        "neurons are those of the interpretable units' layers; interpretable units, "
        "the paper's multimodal neurons, are those whose best tokens are words. Pictures with one "
        "annotated object."
    )
    return page.figure(page.footer(y, explanation, source))


def _numbers(data: pd.DataFrame) -> dict[str, str]:
    """The pictures of each category, such as "4", or of every bar, such as "3/4/3"."""
    found = {}
    for category, own in data.groupby("category"):
        counts = own.set_index("kind")["n"].reindex(list(OF_KIND)).fillna(0)
        found[category] = "/".join(
            f"{n:.0f}" for n in (counts if counts.nunique() > 1 else counts[:1])
        )
    return found


def _draw_localisation(axes: Axes, data: pd.DataFrame, categories: Sequence[str]) -> None:
    for number, (kind, (_, colour)) in enumerate(OF_KIND.items()):
        own = data[data["kind"] == kind].set_index("category").reindex(categories)
        places = np.arange(len(categories)) + (number - 1) * 0.27
        axes.bar(places, own["value"], width=0.25, color=colour, zorder=2)
        axes.vlines(places, own["low"], own["high"], color="#1A1A1A", linewidth=1, zorder=3)
        for place, value in zip(places, own["value"], strict=True):
            if np.isnan(value):
                axes.text(place, 0, "\u2013", ha="center", va="bottom", size=SMALL, color=FAINT)
    if ALL_CATEGORIES in categories and len(categories) > 1:
        axes.axvline(len(categories) - 1.5, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
    counts = _numbers(data)
    names = [f"{name} ({counts[name]})" for name in categories]
    axes.set_xticks(range(len(categories)), names, rotation=40)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_ylim(bottom=0)
    if categories:
        axes.set_xlim(-0.6, len(categories) - 0.4)
    else:
        axes.set(xticks=[], yticks=[])
    axes.set_ylabel("IoU with the object")
    dressed(axes, data.dropna(subset="value"), "no picture with one annotated object has a map")


# Figures 6 and S3: ablation.


def ablation_data(ablation: pd.DataFrame) -> pd.DataFrame:
    """Probability of the noun and similarity of captions by condition and number of units.

    ablation: condition (all | interpretable | random), k, then probability, relative (probability
    over that without ablation) and bertscore, each with _low and _high, n (pictures). The result
    has the same columns, conditions in the order of CONDITIONS.
    """
    return in_order(ablation.sort_values("k", kind="stable"), "condition", list(CONDITIONS))


def case_data(ablated: pd.DataFrame, captions: pd.DataFrame) -> pd.DataFrame:
    """Captions of the most typical picture under ablation, of every condition and k.

    That is the picture whose probabilities, relative to those without ablation, are nearest to
    their means over pictures. ablated: picture_id, group, condition, seed, k, probability, caption,
    bertscore. Of random units the lowest seed is shown. Columns: picture_id, file, group,
    condition, seed, k, probability, caption, bertscore.
    """
    names = first_pictures(captions, ablated["picture_id"], len(captions))
    if not names:
        return _captions_of(ablated, captions, [])
    curves = ablated.pivot_table("probability", "picture_id", ["condition", "k"]).loc[names]
    relative = curves.div(curves.xs(0, axis=1, level="k").iloc[:, 0], axis=0)
    whole = relative.dropna() if len(relative.dropna()) else relative
    distance = (whole - relative.mean()).abs().sum(axis=1)
    return _captions_of(ablated, captions, [distance.idxmin()])


def cases_data(
    ablated: pd.DataFrame, captions: pd.DataFrame, most: int, skip: int = 0
) -> pd.DataFrame:
    """The columns of `case_data` of `most` pictures after the first `skip`."""
    chosen = first_pictures(captions, ablated["picture_id"], skip + most)[skip:]
    return _captions_of(ablated, captions, chosen)


def _captions_of(
    ablated: pd.DataFrame, captions: pd.DataFrame, chosen: Sequence[str]
) -> pd.DataFrame:
    rows = in_order(ablated, "picture_id", chosen)
    lowest = rows.groupby(["picture_id", "condition"])["seed"].transform("min")
    rows = rows[rows["seed"] == lowest].sort_values("k", kind="stable")
    rows = in_order(in_order(rows, "condition", list(CONDITIONS)), "picture_id", chosen)
    rows = rows.merge(captions[["picture_id", "file"]], on="picture_id", how="left")
    columns = ["picture_id", "file", "group", "condition", "seed", "k", "probability", "caption"]
    return rows[[*columns, "bertscore"]]


def ablation_and_case(
    ablation: pd.DataFrame, ablated: pd.DataFrame, captions: pd.DataFrame
) -> pd.DataFrame:
    """What figure 6 shows: rows of `ablation_data` (part "mean") and of `case_data` ("picture")."""
    parts = {"mean": ablation_data(ablation), "picture": case_data(ablated, captions)}
    filled = [table.assign(part=part) for part, table in parts.items() if len(table)]
    whole = filled or [table.assign(part=part) for part, table in parts.items()]
    together = pd.concat(whole, ignore_index=True)
    columns = ["part", *(name for name in together if name != "part")]
    every = [*columns, *(name for table in parts.values() for name in table if name not in columns)]
    return together.reindex(columns=every)


def probability_figure(
    data: pd.DataFrame,
    source: Source,
    width: float = 9.0,
    height: float = 2.8,
) -> Figure:
    """Draw `ablation_and_case`: the curves, and under them one picture's captions."""
    page = Page(width)
    y = page.header("Does the model still expect the noun when its units are ablated?", source)
    means = data[data["part"] == "mean"]
    y = _ablation_panel(page, y, means, "relative", height, "probability of the noun,\nrelative")
    case = data[data["part"] == "picture"]
    if len(case):
        y = _case_panel(page, y, case)
    explanation = (
        f"Mean over {_pictures(means)} of the probability of the caption's first noun, its first "
        "token, relative to that without ablation, against the number k of units whose activations "
        "are set to zero; bands are 95 % bootstrap intervals over pictures. Units are ranked by "
        "attribution to that token. The number of random units of each layer is that of the units "
        "of highest attribution. The paper reports a mean drop of 80 % at k = 6400 "
        f"of 458,752 units ({PAPER})."
    )
    return page.figure(page.footer(y + 0.05, explanation, source))


def similarity_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 2.8
) -> Figure:
    """Draw BERTScore of `ablation_data` against k."""
    page = Page(width)
    y = page.header("Does the caption change when units are ablated?", source)
    y = _ablation_panel(page, y, data, "bertscore", height, "BERTScore with\nthe original caption")
    explanation = (
        "BERTScore (F1) of the caption under ablation with the caption without it, mean over "
        f"{_pictures(data)}, against the number k of units whose activations are set to zero; "
        "bands are 95 % bootstrap intervals over pictures."
    )
    return page.figure(page.footer(y + 0.05, explanation, source))


def _pictures(data: pd.DataFrame) -> str:
    """How many pictures the curves rest on, and where they rest on the fewest.

    Fewer than all were captioned under ablation, and not all of these have enough units for every
    condition and number; where none has, there is no row.
    """
    if data.empty:
        return "pictures"
    each = data.pivot(index="k", columns="condition", values="n").fillna(0).unstack()
    words = f"{each.max():.0f} of these pictures"
    if each.min() < each.max():
        condition, k = each.sort_index(level="k").idxmin()
        least = f"{each.min():.0f} at k = {k:,.0f}, {CONDITIONS[condition]}"
        words += f" (fewer where not all have enough units: {least})"
    return words


def _ablation_panel(
    page: Page, y: float, data: pd.DataFrame, measure: str, height: float, label: str
) -> float:
    left = LEFT + 0.2
    y = page.axes(
        MARGIN + left,
        y + 0.1,
        page.inner - left - 0.1,
        height,
        lambda axes: _draw_ablation(axes, data, measure, label),
    )
    handles = []
    for name in dict.fromkeys(data["condition"]):
        look = {"color": CONDITION_COLOURS[name], "marker": CONDITION_MARKERS[name]}
        handles.append(Line2D([], [], label=CONDITIONS[name], **look))
    return legend(page, y + 0.5, handles) if handles else y + 0.5


def _draw_ablation(axes: Axes, data: pd.DataFrame, measure: str, label: str) -> None:
    for name in dict.fromkeys(data["condition"]):
        own, colour = (
            data[data["condition"] == name].dropna(subset=measure),
            CONDITION_COLOURS[name],
        )
        axes.plot(
            own["k"],
            own[measure],
            color=colour,
            marker=CONDITION_MARKERS[name],
            markersize=5,
            linewidth=2,
            clip_on=False,
        )
        axes.fill_between(
            own["k"].to_numpy(dtype=float),
            own[f"{measure}_low"].to_numpy(dtype=float),
            own[f"{measure}_high"].to_numpy(dtype=float),
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
    ks = sorted(int(k) for k in data["k"].dropna().unique())
    least = min([k for k in ks if k] or [1])
    # Logarithmic, with a place for no unit at all.
    axes.set_xscale("symlog", linthresh=least, linscale=0.5)
    if ks:
        axes.set_xticks(ks, [f"{k:,}" for k in ks])
        axes.set_xlim(-0.03 * least, 1.1 * max(ks[-1], 1))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    if measure == "relative":
        axes.set_ylim(bottom=0)
    axes.set(xlabel="k, units ablated", ylabel=label)
    dressed(axes, data.dropna(subset=measure), NO_PICTURE)
    axes.yaxis.label.set_size(BODY)


def _case_panel(page: Page, y: float, case: pd.DataFrame) -> float:
    """One picture's captions, a column a condition; returns where they end."""
    first = case.iloc[0]
    name = picture_name(first["picture_id"]).capitalize()
    head = [(f"{name}, the nearest to these curves, first noun ", False)]
    y = page.text([*head, (f"\u201c{first['group']}\u201d", True)], MARGIN, y + 0.05, page.inner)
    names = list(dict.fromkeys(case["condition"]))
    column = (page.inner - 0.5 - 0.15 * (len(names) - 1)) / len(names)
    xs = [MARGIN + 0.5 + number * (column + 0.15) for number in range(len(names))]
    page.text([("k", True)], MARGIN, y + 0.05, 0.5, SMALL)
    y = max(
        page.text([(CONDITIONS[name], True)], x, y + 0.05, column, SMALL)
        for name, x in zip(names, xs, strict=True)
    )
    for k in sorted(case["k"].unique()):
        page.text([(f"{k:,.0f}", False)], MARGIN, y + 0.04, 0.5, SMALL)
        ends = [y + 0.04]
        for name, x in zip(names, xs, strict=True):
            own = case[(case["condition"] == name) & (case["k"] == k)]
            for row in own.itertuples():
                runs = marked(row.caption, row.group) or [("(empty caption)", False)]
                runs = [*runs, (f" ({row.probability:.2f})", False)]
                ends.append(page.text(runs, x, y + 0.04, column, SMALL, marked=MARKED))
        y = max(ends)
    words = "In brackets: the probability of the noun's first token."
    return page.text([(words, False)], MARGIN, y + 0.06, page.inner, SMALL, FAINT)


# Figure S4: layers.


def layers_data(layers: pd.DataFrame) -> pd.DataFrame:
    """Different units of each layer among the best of any picture.

    Columns: layer, neurons (all of them), interpretable.
    """
    return layers[["layer", "neurons", "interpretable"]].sort_values("layer", ignore_index=True)


def layers_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 2.6
) -> Figure:
    """Draw `layers_data`: the interpretable units of each layer before all of them."""
    page = Page(width)
    y = page.header("In which layers the multimodal neurons are", source)
    y = page.axes(
        MARGIN + LEFT,
        y + 0.1,
        page.inner - LEFT,
        height,
        lambda axes: _draw_layers(axes, data),
    )
    handles = [
        Patch(color="#F2B48A", label="all"),
        Patch(color=METHOD_COLOURS["attribution"], label="interpretable"),
    ]
    y = legend(page, y + 0.5, handles)
    explanation = (
        "Different units of each layer of the language model among the units of highest "
        "attribution of any picture; layers count from 0. Interpretable: enough of the ten tokens "
        "that a unit raises most are words of a dictionary. In the paper most are in layers 5 to "
        f"10 of 28 ({PAPER})."
    )
    return page.figure(page.footer(y, explanation, source))


def _draw_layers(axes: Axes, data: pd.DataFrame) -> None:
    axes.bar(data["layer"], data["neurons"], width=0.72, color="#F2B48A", zorder=2)
    axes.bar(
        data["layer"],
        data["interpretable"],
        width=0.72,
        color=METHOD_COLOURS["attribution"],
        zorder=3,
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if len(data):
        axes.set_xlim(data["layer"].min() - 0.5, data["layer"].max() + 0.5)
    axes.set_ylim(0, max(1, 1.05 * max([0, *data["neurons"]])))
    axes.set(xlabel="layer", ylabel="different units")
    dressed(axes, data[data["neurons"] > 0], "no unit was recorded")
