"""The tables of Pan et al. 2024 on neurons and their properties: numbers for CSV, and pages.

Each table has a function `*_data`, whose result is the CSV, and a function `*_page`, which sets
that result in Markdown. Tables of several models have a categorical column `model`
(`mmneurons.figures.inputs`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from mmneurons.figures.inputs import models_of, of_models
from mmneurons.figures.pan_inputs import (
    NO_PICTURE,
    caption_of,
    choose_pictures,
    concepts_in,
    decoded,
    picture_name,
    picture_order,
    plain,
    samples_of,
    shown_at,
)
from mmneurons.figures.shown import Source, method_label, short_names, visible
from mmneurons.figures.tables import DASH, bounds, escaped, least_to_most, page
from mmneurons.metrics.naming import mentions
from mmneurons.metrics.semantics import AGGREGATIONS, NOT_COMPUTED

METRICS = {"bertscore": "BERTScore", "moverscore": "MoverScore", "bleurt": "BLEURT"}
SENSITIVITY_METHODS = ("activation", "attribution", "contribution")
DIVISORS = {
    "m": "all m tokens, divided by m",
    "released": "at most ten tokens, divided by m (the reading that fits the paper's numbers)",
}
NOTHING = {"": "Nothing to show: no concept was found."}
FIRST_PICTURES = (
    "Pictures: the first in the seeded order whose captions name two concepts or more in every "
    "model shown."
)
TOKENS = (
    "Tokens: the five best of the neuron's output weights times the unembedding, best first; "
    "\u2581 begins a word."
)


# Table 2: one concept, the neurons of every method.


def methods_data(
    contribution: pd.DataFrame,
    attribution: pd.DataFrame,
    activation: pd.DataFrame,
    tokens: pd.DataFrame,
    captions: pd.DataFrame,
    concepts: pd.DataFrame,
    pictures: pd.DataFrame,
    most: int = 3,
) -> pd.DataFrame:
    """The `most` best neurons of one concept in one picture, for every model and method.

    The concept is the one that all models name in the most of the same pictures (by alphabet where
    several do), the picture the first of these. Columns: model, picture_id, group, caption, method,
    rank, neuron, tokens (JSON), score; no row where the models never name the same concept.
    """
    columns = ["model", "picture_id", "group", "caption", "method", "rank", "neuron", "tokens"]
    found = _common_concept(concepts, pictures)
    parts = []
    methods = {"activation": activation, "attribution": attribution, "contribution": contribution}
    for method, table in methods.items():
        own = table[table["sample_id"].isin([found[2]] if found else [])]
        parts.append(decoded(own, tokens, most).assign(method=method))
    together = pd.concat(parts, ignore_index=True)
    texts = {model: caption_of(captions, model, found[1]) if found else "" for model in
             models_of(concepts)}  # fmt: skip
    together = together.assign(
        picture_id=found[1] if found else "", caption=together["model"].astype(str).map(texts)
    )
    table = together[[*columns, "score"]]
    return table.sort_values(["model", "method", "rank"], kind="stable", ignore_index=True)


def _common_concept(concepts: pd.DataFrame, pictures: pd.DataFrame) -> tuple[str, str, str] | None:
    """(concept, picture_id, sample_id) by the rule of `methods_data`, None where there is none."""
    rows = plain(concepts)
    models = rows.groupby(["group", "picture_id", "sample_id"])["model"].nunique()
    common = models[models == len(models_of(concepts))].reset_index()
    if common.empty:
        return None
    counts = common["group"].value_counts()
    group = min(counts.index, key=lambda name: (-counts[name], name))
    own = common[common["group"] == group].set_index("picture_id")["sample_id"]
    first = next(name for name in picture_order(pictures) if name in own.index)
    return group, first, own[first]


def methods_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `methods_data` as a page: the captions, then a table a model."""
    names = short_names(models_of(data))
    caption = (
        "The best neurons of one concept by each method: activation at the last input token, "
        "attribution (its maximum over patches) and contribution. Shown: the concept that all "
        f"models name in the most of the same pictures, in the first of these. {TOKENS}"
    )
    if data.empty:
        blocks: dict = {"": "No concept is named by all models in the same picture."}
        return page(title, caption, blocks, source)
    group, picture_id = data[["group", "picture_id"]].iloc[0]
    texts = data.drop_duplicates("model")
    captions = [
        {"model": escaped(names[row.model]), "caption": marked_up(row.caption, [row.group])}
        for row in texts.itertuples()
    ]
    heading = f"\u201c{escaped(group)}\u201d in {picture_name(picture_id)}"
    blocks = {heading: pd.DataFrame(captions)}
    for model, own in data.groupby("model", observed=True, sort=False):
        rows = [
            {"method": method_label(row.method, ""), **_neuron_cells(row)}
            for row in own.itertuples()
        ]
        blocks[escaped(names[model])] = pd.DataFrame(rows)
    return page(title, caption, blocks, source)


# Table 3: semantic sensitivity.


def sensitivity_data(sensitivity: pd.DataFrame, bleurt: pd.DataFrame, site: str) -> pd.DataFrame:
    """Rows of semantic sensitivity at `site`: model, method, metric, aggregation, value, ...

    sensitivity, bleurt: model, method, site, metric, aggregation, value, low, high, n, n_left_out,
    encoder ("not computed" beside values of NaN).
    """
    models = models_of(sensitivity)
    together = pd.concat([sensitivity, bleurt], ignore_index=True)
    together = together.assign(model=pd.Categorical(together["model"], categories=models))
    rows = shown_at(together, site).drop(columns="site")
    rows = rows[rows["method"].isin(SENSITIVITY_METHODS)]
    orders = {
        "aggregation": AGGREGATIONS,
        "method": SENSITIVITY_METHODS,
        "metric": list(METRICS),
    }
    return rows.sort_values(
        ["aggregation", "model", "method", "metric"],
        key=lambda c: c.map(list(orders[c.name]).index) if c.name in orders else c,
        kind="stable",
        ignore_index=True,
    )


def sensitivity_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `sensitivity_data` as a page: a table an aggregation."""
    names = short_names(models_of(data))
    blocks = {}
    for aggregation, rows in data.groupby("aggregation", sort=False):
        cells = []
        for (model, method), own in rows.groupby(["model", "method"], observed=True, sort=False):
            line = {"model": escaped(names[model]), "method": method_label(method, "")}
            for metric, head in METRICS.items():
                line[head] = _metric_cell(own[own["metric"] == metric])
            first = own.iloc[0]
            counts = {"concepts in captions": first["n"], "left out": first["n_left_out"]}
            cells.append(line | {name: str(count) for name, count in counts.items()})
        blocks[f"{escaped(str(aggregation))[:1].upper()}{escaped(str(aggregation))[1:]}"] = (
            pd.DataFrame(cells)
        )
    encoders = [escaped(str(name)) for name in data["encoder"].dropna().unique()]
    encoders = [name for name in encoders if name and name != NOT_COMPUTED]
    caption = (
        "Similarity of a concept to the best tokens of its best neurons (in the paper ten of ten), "
        "averaged over neurons, then over the concepts of all captions, with 95 % bootstrap "
        "intervals. The paper does not say how a neuron's tokens become one number: each way has a "
        "table. BERTScore is F1 "
        "without baseline rescaling; BERTScore and MoverScore depend on their encoder, here "
        f"{' and '.join(encoders) or DASH}. BLEURT: not computed where no checkpoint is "
        f"configured. {DASH}: no number, or no interval."
    )
    return page(title, caption, blocks or NOTHING, source)


def _metric_cell(rows: pd.DataFrame) -> str:
    if rows.empty:
        return DASH
    row = rows.iloc[0]
    if row["encoder"] == NOT_COMPUTED:
        return NOT_COMPUTED
    return bounds(row["value"], row["low"], row["high"])


# Table 4: specificity.


def specificity_data(specificity: pd.DataFrame, site: str) -> pd.DataFrame:
    """Rows of specificity at `site`: model, tokens, m, divisor, value, low, high, n."""
    rows = specificity[specificity["site"] == site].drop(columns="site")
    order = {"related": 0, "random": 1}
    return rows.sort_values(
        ["divisor", "model", "tokens", "m"],
        key=lambda c: c.map(order) if c.name == "tokens" else c,
        kind="stable",
        ignore_index=True,
    )


def specificity_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `specificity_data` as a page: a table a divisor."""
    names = short_names(models_of(data))
    blocks = {}
    for divisor, rows in data.groupby("divisor", sort=False):
        cells = []
        for (model, tokens), own in rows.groupby(["model", "tokens"], observed=True, sort=False):
            line = {"model": escaped(names[model]), "tokens": tokens}
            for row in own.itertuples():
                line[f"S@{row.m}"] = bounds(row.value, row.low, row.high)
            cells.append(line | {"concepts in captions": least_to_most(own["n"])})
        blocks[f"Sum over {DIVISORS[divisor]}"] = pd.DataFrame(cells)
    caption = (
        "Specificity S@m: what the best neuron of a concept, by contribution, adds to the logits "
        "of m tokens, averaged over tokens and concepts, with 95 % bootstrap intervals over "
        "concepts. Related: the m tokens that the neuron raises most; random: m tokens drawn from "
        "the vocabulary. The paper's S@50 of related tokens is a fifth of its S@10, as if ten "
        "tokens had been added up and divided by fifty: so there is a table for the formula as "
        f"printed and one for that reading. Sizes are bound to a model's scale. {DASH}: no number, "
        "or no interval."
    )
    return page(title, caption, blocks or NOTHING, source)


# Table 9: the neurons of every concept.


def concepts_data(
    contribution: pd.DataFrame,
    tokens: pd.DataFrame,
    captions: pd.DataFrame,
    concepts: pd.DataFrame,
    pictures: pd.DataFrame,
    most: int = 5,
    n_pictures: int = 2,
) -> pd.DataFrame:
    """The `most` best neurons of every concept of the first `n_pictures` chosen pictures.

    Columns: model, picture_id, caption, group, rank, neuron, tokens (JSON), score.
    """
    chosen = choose_pictures(pictures, concepts, 0, n_pictures)
    best = decoded(contribution, tokens, most)
    parts = [best.iloc[:0].assign(picture_id="", caption="")]
    for picture_id in chosen:
        for model in models_of(concepts):
            for group in concepts_in(concepts, model, picture_id):
                own = best[(best["model"] == model) & (best["group"] == group)]
                own = own[own["sample_id"].isin(samples_of(concepts, picture_id))]
                text = caption_of(captions, model, picture_id)
                parts.append(own.assign(picture_id=picture_id, caption=text))
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    columns = ["model", "picture_id", "caption", "group", "rank", "neuron", "tokens", "score"]
    return of_models(table, concepts)[columns]


def concepts_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `concepts_data` as a page: a table a picture and model."""
    names = short_names(models_of(data))
    blocks: dict = {}
    for (picture_id, model), own in data.groupby(
        ["picture_id", "model"], observed=True, sort=False
    ):
        head = escaped(f"{picture_name(picture_id).capitalize()}, {names[model]}: ")
        head += f"\u201c{escaped(own['caption'].iloc[0])}\u201d"
        blocks[head] = pd.DataFrame(
            [{"concept": escaped(row.group), **_neuron_cells(row)} for row in own.itertuples()]
        )
    if not blocks:
        blocks = {"": f"Nothing to show: {NO_PICTURE}."}
    caption = (
        "The best neurons of each concept by contribution, which is the activation where the "
        "caption names the concept times what the neuron adds to the concept's token. "
        f"{TOKENS} {FIRST_PICTURES}"
    )
    return page(title, caption, blocks, source)


# Table 10: before and after shuffling.


def shuffled_data(
    before: pd.DataFrame,
    after: pd.DataFrame,
    captions: pd.DataFrame,
    concepts: pd.DataFrame,
    pictures: pd.DataFrame,
    most: int = 4,
    n_pictures: int = 2,
) -> pd.DataFrame:
    """Captions, and each concept's `most` best neurons, with the patches in place and shuffled.

    before, after: neurons by contribution of the plain and of the shuffled picture. Columns: model,
    picture_id, caption, caption_shuffled, group, neurons, neurons_shuffled (JSON, "[]" where that
    caption does not name the concept), kept (the share of neurons that are in both; NaN unless both
    captions name it).
    """
    rows = []
    for picture_id in choose_pictures(pictures, concepts, 0, n_pictures):
        for model in models_of(concepts):
            texts = [caption_of(captions, model, picture_id, v) for v in ("plain", "shuffled")]
            samples = samples_of(concepts, picture_id)
            found = [_best_of(table, model, samples, most) for table in (before, after)]
            groups = concepts_in(concepts, model, picture_id)
            for group in [*groups, *(name for name in found[1] if name not in groups)]:
                one, other = (neurons.get(group, []) for neurons in found)
                kept = len(set(one) & set(other)) / len(one) if one and other else np.nan
                rows.append(
                    [model, picture_id, *texts, group, json.dumps(one), json.dumps(other), kept]
                )
    columns = ["model", "picture_id", "caption", "caption_shuffled", "group", "neurons"]
    columns += ["neurons_shuffled", "kept"]
    return of_models(pd.DataFrame(rows, columns=columns), concepts)


def _best_of(
    neurons: pd.DataFrame, model: str, samples: Collection[str], most: int
) -> dict[str, list]:
    """The best neurons, as texts such as "L1.U2", of every concept among the samples."""
    own = neurons[
        (neurons["model"] == model) & neurons["sample_id"].isin(samples) & (neurons["rank"] < most)
    ].sort_values("rank")
    texts = [f"L{row.layer}.U{row.unit}" for row in own.itertuples()]
    return own.assign(text=texts).groupby("group", sort=True)["text"].agg(list).to_dict()


def shuffled_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `shuffled_data` as a page: captions and a table a picture and model."""
    names = short_names(models_of(data))
    captions, blocks = [], {}
    for (picture_id, model), own in data.groupby(
        ["picture_id", "model"], observed=True, sort=False
    ):
        first, groups = own.iloc[0], list(own["group"])
        captions.append(
            {
                "picture": picture_name(picture_id).removeprefix("picture "),
                "model": escaped(names[model]),
                "caption": marked_up(first["caption"], groups),
                "caption with shuffled patches": marked_up(first["caption_shuffled"], groups),
            }
        )
        blocks[escaped(f"{picture_name(picture_id).capitalize()}, {names[model]}")] = pd.DataFrame(
            [
                {
                    "concept": escaped(row.group),
                    "neurons": ", ".join(json.loads(row.neurons)) or "*not named*",
                    "neurons with shuffled patches": ", ".join(json.loads(row.neurons_shuffled))
                    or "*not named*",
                    "kept": DASH if np.isnan(row.kept) else f"{row.kept:.2f}",
                }
                for row in own.itertuples()
            ]
        )
    everything = {"Captions": pd.DataFrame(captions), **blocks}
    if not captions:
        everything = {"": f"Nothing to show: {NO_PICTURE}."}
    caption = (
        "Captions and the best neurons of each concept, by contribution, with the picture's "
        "image tokens in place and shuffled. Kept: "
        f"the share of neurons found both times, {DASH} where only one caption names the concept. "
        f"Neurons are written L(layer).U(unit), both from 0. {FIRST_PICTURES}"
    )
    return page(title, caption, everything, source)


# Cells.


def marked_up(caption: str, concepts: Sequence[str]) -> str:
    """Return a caption in Markdown with the words that name any of the concepts bold."""
    found = {span for spans in mentions(caption, concepts).values() for span in spans}
    parts, end = [], 0
    for start, stop in sorted(found):
        if start >= end:
            parts += [escaped(caption[end:start]), f"**{escaped(caption[start:stop])}**"]
            end = stop
    return "".join([*parts, escaped(caption[end:])]) or "*(empty caption)*"


def _neuron_cells(row) -> dict[str, str]:
    """A neuron's rank, name, tokens and score for a page."""
    words = ", ".join(f"\u201c{escaped(visible(word))}\u201d" for word in json.loads(row.tokens))
    return {
        "rank": str(row.rank + 1),
        "neuron": row.neuron,
        "tokens": words or "*not decoded*",
        "score": f"{row.score:.3g}",
    }
