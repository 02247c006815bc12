"""How well neurons, soft prompts and captions describe a picture (Schwettmann et al. 2023).

Tables 1 and 2 of the paper compare texts with a picture by CLIPScore, and with its human captions
by BERTScore, of which the mean over the captions is taken. A picture's neurons are its best
interpretable units, each as the list of its tokens; the best of them counts for the picture, by
each metric. Neurons of other pictures, drawn at random, are the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from mmneurons.artifacts.schwettmann import RECORDED, TABLES
from mmneurons.datasets.nouns import caption_nouns
from mmneurons.metrics.intervals import bootstrap_interval
from mmneurons.metrics.words import neuron_text

METRICS = ("clipscore", "bertscore")
COMPARED = (
    ("image_prompts", "random_prompts"),
    ("image_prompts", "coco_nouns"),
    ("image_prompts", "gpt"),
    ("multimodal", "random"),
)
"""Whose distributions over pictures are compared by a Kolmogorov-Smirnov test."""

STAGE = "descriptions"

Clip = Callable[[Sequence[int], Sequence[str]], np.ndarray]
Similarity = Callable[[Sequence[str], Sequence[str]], np.ndarray]


def neuron_texts(
    units: pd.DataFrame, neuron_tokens: pd.DataFrame, most: int, of: int
) -> dict[str, list[str]]:
    """The interpretable ones of each picture's `most` best units, as texts of `of` tokens."""
    columns = ["module", "layer", "unit"]
    chosen = units[(units["rank"] < most) & units["interpretable"]]
    told = chosen.merge(neuron_tokens[[*columns, "tokens"]], how="left", on=columns)
    told = told.sort_values(["sample_id", "rank"])
    return {
        name: [neuron_text(tokens[:of]) for tokens in own["tokens"]]
        for name, own in told.groupby("sample_id")
    }


def left_out(captions: pd.DataFrame, neurons: dict[str, list[str]], most: int) -> pd.DataFrame:
    """The captions whose picture has no neuron of `neuron_texts`, as exclusions."""
    lacking = captions[~captions["picture_id"].isin(neurons.keys())]
    detail = f"none among the {most} best units"
    rows = [
        (STAGE, row.picture_id, row.group, "no-interpretable-units", detail)
        for row in lacking.itertuples()
    ]
    columns = RECORDED["exclusions"]
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def other_pictures(names: Sequence[str], seed: int) -> dict[str, str]:
    """For each picture another one at random, each once; nothing where there are fewer than two."""
    if len(names) < 2:
        return {}
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[a]: names[b] for a, b in zip(order, np.roll(order, -1), strict=True)}


def texts_to_score(
    captions: pd.DataFrame,
    prefix: str,
    neurons: dict[str, list[str]],
    prompt_tokens: pd.DataFrame,
    seed: int,
) -> pd.DataFrame:
    """All texts that are scored: picture_id, kind, patch (-1 but for prompts), text.

    Of the pictures in `captions` only. neurons: of `neuron_texts`. kind: multimodal (a row a
    neuron), random (the neurons of another picture), gpt (the model's caption without the prefix
    that it was made to say), coco_nouns (the nouns of the human captions, where they have any),
    image, random_prompt (a row a decoded vector).
    """
    rows, shown = [], set(captions["picture_id"])
    partner = other_pictures(sorted(shown & neurons.keys()), seed)
    for picture in captions.itertuples():
        name = picture.picture_id
        told = [("multimodal", -1, text) for text in neurons.get(name, [])]
        told += [("random", -1, text) for text in neurons.get(partner.get(name, ""), [])]
        told.append(("gpt", -1, picture.caption.removeprefix(prefix).strip()))
        nouns = [noun.word for text in picture.references for noun in caption_nouns(text)]
        if nouns:
            told.append(("coco_nouns", -1, ", ".join(dict.fromkeys(nouns))))
        rows += [(name, *each) for each in told]
    for prompt in prompt_tokens[prompt_tokens["picture_id"].isin(shown)].itertuples():
        kind = "image" if prompt.kind == "image" else "random_prompt"
        rows.append((prompt.picture_id, kind, prompt.patch, neuron_text(prompt.tokens)))
    return pd.DataFrame(rows, columns=["picture_id", "kind", "patch", "text"])


def score_texts(
    texts: pd.DataFrame, captions: pd.DataFrame, clip: Clip, bertscore: Similarity
) -> pd.DataFrame:
    """The texts with clipscore and bertscore (mean over the picture's human captions).

    clip: of places in `captions` and texts; bertscore: of candidates and references.
    """
    places = {name: place for place, name in enumerate(captions["picture_id"])}
    distinct = texts[["picture_id", "text"]].drop_duplicates(ignore_index=True)
    rows = distinct["picture_id"].map(places).tolist()
    clipscores = clip(rows, distinct["text"].tolist())
    references = [list(captions["references"].iloc[row]) for row in rows]
    pairs = [
        (text, reference)
        for text, own in zip(distinct["text"], references, strict=True)
        for reference in own
    ]
    asked = list(dict.fromkeys(pairs))
    found = bertscore([text for text, _ in asked], [reference for _, reference in asked])
    of_pair = dict(zip(asked, found, strict=True))
    means = [
        np.mean([of_pair[text, reference] for reference in own])
        for text, own in zip(distinct["text"], references, strict=True)
    ]
    scored = distinct.assign(clipscore=clipscores, bertscore=np.array(means, dtype=float))
    return texts.merge(scored, how="left", on=["picture_id", "text"], validate="m:1")


def picture_scores(scored: pd.DataFrame) -> pd.DataFrame:
    """scores.csv: one number a picture, kind and metric; a picture without a text has no row.

    Of neurons the maximum by each metric; of prompts the mean over the patches, and as another
    kind the maximum.
    """
    by = ["picture_id", "kind"]
    prompts = scored["kind"].isin(["image", "random_prompt"])
    best = scored[~prompts].groupby(by, as_index=False)[list(METRICS)].max()
    of_prompts = scored[prompts].groupby(by)[list(METRICS)]
    names = {"image": "image_prompts", "random_prompt": "random_prompts"}
    tables = [best]
    for ending, table in (("", of_prompts.mean()), ("_max", of_prompts.max())):
        table = table.reset_index()
        tables.append(table.assign(kind=table["kind"].map(names) + ending))
    together = pd.concat(tables, ignore_index=True).sort_values(by, ignore_index=True)
    return together[list(TABLES["metrics/scores"])]


def prompt_scores(scored: pd.DataFrame) -> pd.DataFrame:
    """prompts.parquet: one row a decoded vector."""
    rows = scored[scored["kind"].isin(["image", "random_prompt"])]
    rows = rows.replace({"kind": {"random_prompt": "random"}})
    rows = rows.sort_values(["picture_id", "kind", "patch"], ignore_index=True)
    columns = TABLES["metrics/prompts"]
    return rows[list(columns)].astype(columns)


def mean_scores(scores: pd.DataFrame, encoders: dict[str, str]) -> pd.DataFrame:
    """means.csv: means over pictures with 95 % bootstrap intervals; encoders: label by metric."""
    rows = []
    for kind, own in scores.groupby("kind"):
        for metric in METRICS:
            low, high = bootstrap_interval(own, metric, "picture_id")
            row = {"kind": kind, "metric": metric, "value": own[metric].mean()}
            rows.append(row | {"low": low, "high": high, "n": len(own)})
            rows[-1]["encoder"] = encoders[metric]
    columns = TABLES["metrics/means"]
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def ks_tests(scores: pd.DataFrame) -> pd.DataFrame:
    """ks.csv: two-sample Kolmogorov-Smirnov tests of the pairs of COMPARED, by scipy."""
    rows = []
    for first, second in COMPARED:
        for metric in METRICS:
            one, other = (scores.loc[scores["kind"] == kind, metric] for kind in (first, second))
            if not len(one) or not len(other):
                continue
            test = ks_2samp(one, other)
            row = {"first": first, "second": second, "metric": metric}
            row |= {"statistic": test.statistic, "p": test.pvalue}
            rows.append(row | {"n_first": len(one), "n_second": len(other)})
    columns = TABLES["metrics/ks"]
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
