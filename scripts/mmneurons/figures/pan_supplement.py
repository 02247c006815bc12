"""Tables beyond Pan et al. 2024: both sites compared, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from mmneurons.figures.inputs import models_of, of_models
from mmneurons.figures.pan_inputs import KEY
from mmneurons.figures.pan_tables import METRICS, NOTHING
from mmneurons.figures.shown import Source, short_names
from mmneurons.figures.tables import DASH, bounds, escaped, least_to_most, left_out_page, page

# Table S1: both sites.


def sites_data(
    sensitivity: pd.DataFrame,
    invariance: pd.DataFrame,
    cross_image: pd.DataFrame,
    specificity: pd.DataFrame,
    **neurons: pd.DataFrame,
) -> pd.DataFrame:
    """Every measure of contribution at each site, in long form.

    neurons: the tables by contribution, one argument a site, named by it. Columns: model, measure,
    setting, site, value, low, high, n. Cross-image invariance is averaged over concepts and has no
    interval; "in common" is the mean share of the best k neurons of a sample that the first two
    sites have in common, and stands with the first; NaN where fewer than k were recorded.
    """
    averaged = cross_image.groupby(
        ["model", "method", "site", "n_pictures", "k"], observed=True, as_index=False
    ).agg(value=("value", "mean"), n=("n", "sum"))
    parts = [
        _measure(
            sensitivity,
            "semantic sensitivity",
            lambda row: f"{METRICS.get(row.metric, row.metric)}, {row.aggregation}",
        ),
        _measure(invariance, "region invariance", lambda row: f"k = {row.k}"),
        _measure(
            averaged.assign(low=np.nan, high=np.nan),
            "cross-image invariance",
            lambda row: f"{row.n_pictures} pictures, k = {row.k}",
        ),
        _measure(
            specificity[specificity["divisor"] == "m"]
            .assign(method="contribution")
            .sort_values("tokens", ascending=False, kind="stable"),
            "specificity",
            lambda row: f"S@{row.m}, {row.tokens} tokens",
        ),
        _in_common(neurons, sorted(invariance["k"].unique())),
    ]
    together = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return of_models(together, invariance)


def _measure(table: pd.DataFrame, measure: str, setting: Callable[..., str]) -> pd.DataFrame:
    own = table[table["method"] == "contribution"]
    own = own.assign(measure=measure, setting=[setting(row) for row in own.itertuples()])
    return own[["model", "measure", "setting", "site", "value", "low", "high", "n"]]


def _in_common(neurons: Mapping[str, pd.DataFrame], ks: Sequence[int]) -> pd.DataFrame:
    """Mean share of the k best neurons of a sample that two sites have in common."""
    columns = ["model", "measure", "setting", "site", "value", "low", "high", "n"]
    if len(neurons) < 2:
        return pd.DataFrame(columns=columns)
    (site, one), (_, other) = list(neurons.items())[:2]
    key = ["model", "sample_id", *KEY[1:]]
    shared = one[[*key, "rank"]].merge(other[[*key, "rank"]], on=key, suffixes=("", "_other"))
    worse = np.maximum(shared["rank"], shared["rank_other"])
    rows = []
    for model in models_of(one):
        ranks = [table.loc[table["model"] == model, "rank"] for table in (one, other)]
        recorded = min(own.max() + 1 for own in ranks) if all(map(len, ranks)) else 0
        samples = one.loc[one["model"] == model, "sample_id"].nunique()
        own = worse[shared["model"] == model]
        for k in ks:
            n = samples if k <= recorded else 0
            value = (own < k).sum() / (k * n) if n else np.nan
            setting = f"k = {k}"
            rows.append([model, "neurons in common", setting, site, value, np.nan, np.nan, n])
    return pd.DataFrame(rows, columns=columns)


def sites_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `sites_data` as a page: a table a measure, a column a site."""
    names = short_names(models_of(data))
    sites = list(dict.fromkeys(data["site"]))
    blocks = {}
    for measure, rows in data.groupby("measure", sort=False):
        cells = []
        for (model, setting), own in rows.groupby(["model", "setting"], observed=True, sort=False):
            line = {"model": escaped(names[model]), "setting": escaped(setting)}
            by_site = own.set_index("site")
            for site in sites if measure != "neurons in common" else sites[:1]:
                head = site if measure != "neurons in common" else "share in common"
                found = site in by_site.index
                line[head] = bounds(*by_site.loc[site, ["value", "low", "high"]]) if found else DASH
            cells.append(line | {"n": least_to_most(own["n"])})
        blocks[f"{measure[:1].upper()}{measure[1:]}"] = pd.DataFrame(cells)
    blocks = blocks or NOTHING
    caption = (
        "Does it matter where a neuron's activation is read? Measures of the neurons by "
        "contribution at the activation function's output (act, which the released code reads) "
        "and at the input of the output projection (post, where the contributions add up to the "
        "logit in models with gated layers). In brackets: 95 % bootstrap intervals. Cross-image "
        "invariance is the mean over concepts, its n the number of sets of pictures. n: concepts "
        f"in captions elsewhere. {DASH}: no number, or no interval."
    )
    return page(title, caption, blocks, source)


# What was left out.


def exclusions_page(exclusions: pd.DataFrame, source: Source, title: str) -> str:
    """Set exclusions of several models as a page."""
    caption = (
        "Pictures, nouns, edits and target words that were tried and left out, with the stage and "
        "the reason. What concerns the pictures themselves is the same for every model."
    )
    return left_out_page(exclusions, source, title, caption)
