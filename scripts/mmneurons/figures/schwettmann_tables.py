"""The tables of Schwettmann et al. 2023: numbers for CSV, and pages for readers.

Each table has a function `*_data`, whose result is the CSV, and a function `*_page`, which sets
that result in Markdown. The paper's own numbers stand beside ours where it prints any; they are of
another model, and marked as such.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from mmneurons.artifacts.tables import in_order
from mmneurons.figures.pan_tables import marked_up
from mmneurons.figures.schwettmann import cases_data, p_words
from mmneurons.figures.schwettmann_inputs import (
    CONDITIONS,
    DIGITS,
    KINDS,
    METRICS,
    PAPER,
    decoded_patches,
    decoded_words,
    first_pictures,
    of_prompts,
    picture_name,
    quoted,
    with_tokens,
)
from mmneurons.figures.shown import Source
from mmneurons.figures.tables import DASH, escaped, interval, left_out_page, page

TABLE1 = ("random", "multimodal", "gpt")
TABLE2 = ("random_prompts", "image_prompts", "gpt", "coco_nouns")
PAPERS_SCORES = {
    ("random", "clipscore"): 21.74,
    ("random", "bertscore"): 0.3627,
    ("multimodal", "clipscore"): 23.43,
    ("multimodal", "bertscore"): 0.3848,
    ("gpt", "clipscore"): 23.62,
    ("gpt", "bertscore"): 0.5251,
    ("random_prompts", "clipscore"): 19.22,
    ("random_prompts", "bertscore"): 0.3286,
    ("image_prompts", "clipscore"): 19.17,
    ("image_prompts", "bertscore"): 0.3291,
    ("coco_nouns", "clipscore"): 27.89,
    ("coco_nouns", "bertscore"): 0.4470,
}
"""What tables 1 and 2 of the paper print, of the paper's own model."""
NOTHING = "Nothing to show: no picture has a caption with a noun."


# Tables 1 and 2: how close texts are to the picture and its human captions.


def scores_data(means: pd.DataFrame, kinds: tuple[str, ...]) -> pd.DataFrame:
    """Mean scores of some kinds of text, with the paper's.

    means: kind, metric, value, low, high, n, encoder. Adds `paper`, NaN where it has no number.
    """
    rows = in_order(in_order(means, "metric", list(METRICS)), "kind", kinds)
    paper = [PAPERS_SCORES.get((row.kind, row.metric), np.nan) for row in rows.itertuples()]
    columns = ["kind", "metric", "value", "low", "high", "n", "encoder"]
    return rows[columns].assign(paper=pd.Series(paper, dtype="float64"))


def descriptions_data(means: pd.DataFrame) -> pd.DataFrame:
    """Table 1: `scores_data` of random pairing, multimodal neurons and the model's captions."""
    return scores_data(means, TABLE1)


def descriptions_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `descriptions_data` as a page."""
    caption = (
        "How well the words of a picture's multimodal neurons describe it: the interpretable ones "
        "among its units of highest attribution. Of each the tokens that it raises most (ten in "
        "the paper) are scored as one text, by CLIPScore with the picture and by BERTScore (F1, "
        "mean over the human captions) with its captions; the maximum over the picture's neurons "
        "is taken, then the mean over pictures. "
        f"{_foot(data)}"
    )
    return page(title, caption, {"": _scores(data)}, source)


def prompts_data(means: pd.DataFrame, ks: pd.DataFrame, prompts: pd.DataFrame) -> pd.DataFrame:
    """Table 2: scores of prompts, captions and nouns (part "mean") and their tests ("test").

    ks: first, second (kinds), metric, statistic, p, n_first, n_second, those of two-sample
    Kolmogorov-Smirnov tests. prompts: a row a decoded vector. `patches`: of prompts, the most image
    tokens of a picture that were decoded.
    """
    pairs = ks[ks["first"].isin(TABLE2) & ks["second"].isin(TABLE2)]
    scores = scores_data(means, TABLE2)
    most = pd.Series(float(decoded_patches(prompts).max()), index=scores.index)
    scores = scores.assign(patches=most.where(of_prompts(scores["kind"])))
    parts = {"mean": scores, "test": pairs}
    columns = list(dict.fromkeys(["part", *parts["mean"], *parts["test"]]))
    filled = [table.assign(part=part) for part, table in parts.items() if len(table)]
    whole = filled or [table.assign(part=part) for part, table in parts.items()]
    return pd.concat(whole, ignore_index=True).reindex(columns=columns)


def prompts_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `prompts_data` as a page: the scores, then the tests."""
    means, tests = (data[data["part"] == part] for part in ("mean", "test"))
    rows = [
        {
            "first": escaped(KINDS.get(row.first, row.first)),
            "second": escaped(KINDS.get(row.second, row.second)),
            "scores": METRICS.get(row.metric, row.metric),
            "D": f"{row.statistic:.3f}",
            "p": p_words(row.p),
            "pictures": f"{row.n_first:.0f} and {row.n_second:.0f}",
        }
        for row in tests.itertuples()
    ]
    blocks = {
        "Scores": _scores(means),
        "Kolmogorov-Smirnov tests": pd.DataFrame(rows) if rows else "No test was made.",
    }
    caption = (
        f"Are image prompts language already? {decoded_words(means['patches']).capitalize()} are "
        "decoded to the vocabulary tokens nearest to them by cosine (in the paper all 196, to five "
        "tokens each), and so are as many random embeddings; shown is the mean over those of a "
        "picture. Tests: two samples, two-sided. The paper "
        "finds D = 0.037, p > 0.5 between image and random prompts, and D > 0.9, p < 0.001 for the "
        "nouns. "
        f"{_foot(means)}"
    )
    return page(title, caption, blocks, source)


def _scores(data: pd.DataFrame) -> pd.DataFrame | str:
    rows = []
    for kind, own in data.groupby("kind", sort=False):
        cells = {"text": escaped(KINDS.get(kind, kind))}
        by_metric = own.set_index("metric")
        for metric, name in METRICS.items():
            digits = DIGITS[metric]
            found = by_metric.loc[metric] if metric in by_metric.index else None
            cells[name] = (
                DASH
                if found is None
                else interval(found["value"], found["low"], found["high"], digits)
            )
            paper = np.nan if found is None else found["paper"]
            cells[f"paper's {name}"] = DASH if np.isnan(paper) else f"{paper:.{digits}f}"
        cells["pictures"] = f"{own['n'].max():.0f}"
        rows.append(cells)
    return pd.DataFrame(rows) if rows else NOTHING


def _foot(data: pd.DataFrame) -> str:
    encoders = [
        f"{name} by {escaped(encoder)}"
        for metric, name in METRICS.items()
        for encoder in data.loc[data["metric"] == metric, "encoder"].dropna().unique()
    ]
    said = f"{'; '.join(encoders)}. " if encoders else ""
    return (
        f"{said}In brackets: 95 % bootstrap intervals over pictures. The paper's columns are its "
        f"own model's, {PAPER}, with other encoders' scales: no target of the numbers beside them. "
        f"{DASH}: no number, or no interval."
    )


# Table S1: the best (unit, patch) pairs of sample pictures.


def pairs_data(
    neurons: pd.DataFrame,
    captions: pd.DataFrame,
    tokens: pd.DataFrame,
    most: int = 20,
    n_pictures: int = 3,
    n_tokens: int = 5,
) -> pd.DataFrame:
    """The `most` best pairs of unit and patch of the first pictures.

    neurons: sample_id, layer, unit, patch, score, rank (0 best), interpretable. Columns:
    picture_id, group, caption, rank, neuron, patch, tokens (JSON), score, interpretable.
    """
    chosen = first_pictures(captions, neurons["sample_id"], n_pictures)
    own = neurons[neurons["rank"] < most].drop(columns="group", errors="ignore")
    rows = own.rename(columns={"sample_id": "picture_id"}).merge(
        captions[["picture_id", "group", "caption"]], on="picture_id", how="inner"
    )
    rows = in_order(rows.sort_values("rank", kind="stable"), "picture_id", chosen)
    rows = with_tokens(rows, tokens, n_tokens)
    columns = ["picture_id", "group", "caption", "rank", "neuron", "patch", "tokens", "score"]
    return rows[[*columns, "interpretable"]]


def pairs_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `pairs_data` as a page: a table a picture."""
    blocks: dict[str, pd.DataFrame | str] = {}
    for (picture_id, group, caption), own in data.groupby(
        ["picture_id", "group", "caption"], sort=False
    ):
        heading = f"{picture_name(picture_id).capitalize()}: {marked_up(caption, [group])}"
        blocks[heading] = pd.DataFrame(
            {
                "rank": str(row.rank + 1),
                "unit": escaped(row.neuron),
                "patch": str(row.patch),
                "tokens": escaped(quoted(row.tokens)) or DASH,
                "score": f"{row.score:.4g}",
                "interpretable": "yes" if row.interpretable else "no",
            }
            for row in own.itertuples()
        )
    caption = (
        "The pairs of a unit and an image token with the highest attribution to the caption's "
        "first noun (bold), its first token: pre-activation times the gradient of its logit. A "
        "unit stands here more than once if several patches give it a high score; patches count "
        "from 0, row by row. Tokens: the five that the unit's output weights raise most, best "
        "first. Interpretable: enough of its ten best tokens are words of a dictionary."
    )
    return page(title, caption, blocks or {"": NOTHING}, source)


# Table S2: what prompts decode to.


def nearest_data(
    prompt_tokens: pd.DataFrame,
    prompts: pd.DataFrame,
    captions: pd.DataFrame,
    seed: int,
    most: int = 35,
) -> pd.DataFrame:
    """Nearest tokens of `most` random patches of one picture, and of random embeddings.

    prompt_tokens: picture_id, kind (image | random), patch, tokens, cosines. prompts: picture_id,
    kind, patch, bertscore. The picture is the first one; patches are drawn by `seed`. Columns:
    picture_id, group, caption, kind, patch, tokens (JSON), cosine (of the nearest), bertscore.
    """
    chosen = first_pictures(captions, prompt_tokens["picture_id"], 1)
    rows = in_order(prompt_tokens, "picture_id", chosen)
    patches = sorted(rows.loc[rows["kind"] == "image", "patch"].unique())
    drawn = np.random.default_rng(seed).permutation(patches)[:most]
    rows = in_order(rows[rows["patch"].isin(drawn)], "kind", ["image", "random"])
    rows = rows.sort_values(["kind", "patch"], kind="stable", ignore_index=True)
    scores = prompts[["picture_id", "kind", "patch", "bertscore"]]
    rows = rows.merge(scores, on=["picture_id", "kind", "patch"], how="left")
    rows = rows.merge(captions[["picture_id", "group", "caption"]], on="picture_id", how="left")
    texts = [_json(tokens) for tokens in rows["tokens"]]
    nearest = [float(cosines[0]) if len(cosines) else np.nan for cosines in rows["cosines"]]
    rows = rows.assign(
        tokens=pd.Series(texts, dtype="object"), cosine=pd.Series(nearest, dtype="float64")
    )
    columns = ["picture_id", "group", "caption", "kind", "patch", "tokens", "cosine", "bertscore"]
    return rows[columns]


def nearest_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `nearest_data` as a page: image prompts, then random ones."""
    names = {"image": "Image prompts", "random": "Random prompts"}
    blocks: dict[str, pd.DataFrame | str] = {}
    for kind, own in data.groupby("kind", sort=False):
        mean = own["bertscore"].mean()
        rows = [
            {
                "patch": str(row.patch),
                "nearest tokens": escaped(quoted(row.tokens)),
                "cosine of the nearest": f"{row.cosine:.3f}",
                "BERTScore": _number(row.bertscore, 4),
            }
            for row in own.itertuples()
        ]
        rows.append({"patch": "mean", "nearest tokens": "", "cosine of the nearest":
                     f"{own['cosine'].mean():.3f}", "BERTScore": _number(mean, 4)})  # fmt: skip
        blocks[names.get(kind, escaped(kind))] = pd.DataFrame(rows)
    about, shown = "", (data["kind"] == "image").sum()
    if len(data):
        first = data.iloc[0]
        name = picture_name(first["picture_id"]).capitalize()
        about = f"{name}: {marked_up(first['caption'], [first['group']])} "
    caption = (
        f"{about}The vocabulary tokens nearest by cosine to {shown} image tokens of the picture, "
        "and to as many random embeddings, nearest first; image tokens were drawn at random where "
        "the picture has more, and count from 0, row by row. "
        "BERTScore: of these tokens as one text, F1, mean over the picture's human captions."
    )
    return page(title, caption, blocks or {"": NOTHING}, source)


def _json(tokens) -> str:
    return json.dumps([str(token) for token in tokens], ensure_ascii=False)


# Table S3: captions under ablation.


def captions_data(
    ablated: pd.DataFrame, captions: pd.DataFrame, most: int = 3, skip: int = 0
) -> pd.DataFrame:
    """Captions under ablation of `most` pictures: `schwettmann.cases_data`."""
    return cases_data(ablated, captions, most, skip)


def captions_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `captions_data` as a page: a table a picture and condition."""
    blocks: dict[str, pd.DataFrame | str] = {}
    for (picture_id, condition), own in data.groupby(["picture_id", "condition"], sort=False):
        heading = f"{picture_name(picture_id).capitalize()}, {CONDITIONS[condition]}"
        blocks[heading] = pd.DataFrame(
            {
                "k": f"{row.k:,.0f}",
                "caption": marked_up(row.caption, [row.group]),
                "BERTScore": _number(row.bertscore, 3),
                "probability of the noun": f"{row.probability:.3g}",
            }
            for row in own.itertuples()
        )
    caption = (
        "Captions while the activations of k units are set to zero: the units of highest "
        "attribution to the caption's first noun (bold), the best of those that decode to words, "
        "and random units of the same layers (one draw). BERTScore: F1 with the caption without "
        "ablation. The paper ablates up to 6,400 of 458,752 units "
        f"({PAPER})."
    )
    return page(title, caption, blocks or {"": NOTHING}, source)


def _number(value: float, digits: int) -> str:
    return DASH if pd.isna(value) else f"{value:.{digits}f}"


# What was left out.


def exclusions_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set what was left out as a page."""
    caption = (
        "Pictures, captions, categories and units that were tried and left out, with the stage and "
        "the reason."
    )
    return left_out_page(data, source, title, caption)
