"""How well a ranking of neurons finds those that were planted.

Everything follows from where the planted neurons stand: `above`, how many neurons score higher, and
`tied`, how many score the same, itself included (`methods.placing.standing`). Ties are taken as
drawn at random, so a method that gives many neurons one score gains nothing from their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmneurons.metrics.intervals import bootstrap_interval

MEASURES = ("recall", "recall_4m", "average_precision", "auc")
RANKING = ["planting", "method", "site", "picture_id"]
"""What tells one ranking from another; picture_id is "" for that of all pictures together."""
SINGLE, TOGETHER = "picture", "all"


def recall_at(above: np.ndarray, tied: np.ndarray, k: int) -> float:
    """Share of the planted neurons among the best k, expected over the order of ties."""
    return float(np.clip((k - above) / tied, 0, 1).mean())


def precision_at(above: np.ndarray, tied: np.ndarray, k: int) -> float:
    """Share of planted neurons among the best k; at k = m it is the recall."""
    return recall_at(above, tied, k) * len(above) / k


def average_precision(above: np.ndarray, tied: np.ndarray) -> float:
    """Mean precision at the planted neurons' places, expected over the order of ties."""
    precisions = []
    for first in np.unique(above):
        among = int((above == first).sum())
        (n,) = np.unique(tied[above == first])
        precisions.append(among * _precision_within(int((above < first).sum()), among, first, n))
    return float(sum(precisions) / len(above))


def _precision_within(before: int, among: int, above: int, n: int) -> float:
    """Expected precision at a planted neuron, one of `among`, within n neurons of one score.

    before: planted neurons of a higher score, among `above` neurons.
    """
    ahead = np.arange(n)  # of the n neurons, those drawn before this one
    others = (among - 1) / (n - 1) if n > 1 else 0.0
    return float(((before + 1 + ahead * others) / (above + 1 + ahead)).mean())


def auc(above: np.ndarray, tied: np.ndarray, n: int) -> float:
    """Area under the ROC curve among n neurons: share of (planted, other) pairs in right order.

    A tie is half a right order.
    """
    m = len(above)
    if m == n:
        return float("nan")
    higher = (above[:, None] > above[None]).sum(axis=1)
    alike = (above[:, None] == above[None]).sum(axis=1)
    others_higher, others_alike = above - higher, tied - alike
    wrong = others_higher + others_alike / 2
    return float(1 - (wrong / (n - m)).mean())


def chance_average_precision(m: int, n: int) -> float:
    """Expected average precision of a random order of n neurons, m of them planted."""
    return _precision_within(0, m, 0, n)


def score_rankings(standings: pd.DataFrame, plantings: pd.DataFrame) -> pd.DataFrame:
    """The measures of every ranking.

    standings: planting, picture_id, method, site, above, tied, a row a planted neuron; plantings:
    planting, n_units. Adds m, chance (of recall) and chance_average_precision.
    """
    n_units = plantings.set_index("planting")["n_units"]
    rows = []
    for key, own in standings.groupby(RANKING, sort=True):
        above, tied = own["above"].to_numpy(), own["tied"].to_numpy()
        m, n = len(own), int(n_units[key[0]])
        rows.append(
            (
                *key,
                m,
                recall_at(above, tied, m),
                recall_at(above, tied, 4 * m),
                average_precision(above, tied),
                auc(above, tied, n),
                m / n,
                chance_average_precision(m, n),
            )
        )
    columns = [*RANKING, "m", *MEASURES, "chance", "chance_average_precision"]
    return pd.DataFrame(rows, columns=columns)


def of_plantings(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a planting, method and way of ranking.

    ranking: "picture" (mean over the rankings of single pictures) or "all" (the ranking by the mean
    score of all pictures); n_pictures: how many pictures there are.
    """
    single = scores["picture_id"] != ""
    keys = ["planting", "method", "site"]
    numbers = ["m", *MEASURES, "chance", "chance_average_precision"]
    means = scores[single].groupby(keys, sort=True)
    parts = [
        means[numbers].mean().reset_index().assign(ranking=SINGLE),
        scores[~single][[*keys, *numbers]].assign(ranking=TOGETHER),
    ]
    table = pd.concat(parts, ignore_index=True)
    counts = means.size().rename("n_pictures").reset_index()
    table = table.merge(counts, on=keys, how="left", validate="m:1")
    table["m"] = table["m"].astype(int)
    return table[[*keys, "ranking", "n_pictures", *numbers]]


BREAKDOWNS = ("place", "m", "object", "seed")


def summarise(
    table: pd.DataFrame, standings: pd.DataFrame, plantings: pd.DataFrame, seed: int = 0
) -> pd.DataFrame:
    """Means over plantings with 95 % bootstrap intervals: of all, by breakdown, of the controls.

    table: rows of `of_plantings`; standings: as in `score_rankings`, with layer; plantings: one
    row a planting with object ("" for a control), place, m, seed, n_units. Columns: breakdown (all,
    place, m, object, seed, layer, control), group, method, site, ranking, measure, value, low,
    high, chance (of that measure), n_plantings. Plantings are resampled, so the interval says what
    others would give. By layer there is recall alone, of the planted units in that layer.
    """
    facts = plantings[["planting", "object", "place", "seed"]]
    rows = table.merge(facts, on="planting", validate="m:1")
    found, controls = rows[rows["object"] != ""], rows[rows["object"] == ""]
    parts = [
        _means(found.assign(group="all"), "all", MEASURES, seed),
        *(
            _means(found.assign(group=found[by].astype(str)), by, MEASURES, seed)
            for by in BREAKDOWNS
        ),
        _means(controls.assign(group="control"), "control", MEASURES, seed),
    ]
    of_layers = layer_recall(standings, plantings[plantings["object"] != ""])
    parts.append(_means(of_layers, "layer", ["recall"], seed))
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def layer_recall(standings: pd.DataFrame, plantings: pd.DataFrame) -> pd.DataFrame:
    """Recall at m of the planted units of each layer, mean over pictures, one row a planting."""
    own = standings[standings["picture_id"] != ""].merge(
        plantings[["planting", "m", "n_units"]], on="planting", validate="m:1"
    )
    own = own.assign(
        recall=((own["m"] - own["above"]) / own["tied"]).clip(0, 1),
        chance=own["m"] / own["n_units"],
        group=own["layer"].astype(str),
        ranking=SINGLE,
    )
    keys = ["planting", "group", "method", "site", "ranking"]
    return own.groupby(keys, sort=True)[["recall", "chance"]].mean().reset_index()


def _means(table: pd.DataFrame, breakdown: str, measures: Sequence[str], seed: int) -> pd.DataFrame:
    chances = {
        "recall": lambda own: own["chance"].mean(),
        "recall_4m": lambda own: (4 * own["chance"]).clip(upper=1).mean(),
        "average_precision": lambda own: own["chance_average_precision"].mean(),
        "auc": lambda own: 0.5,
    }
    rows = []
    for key, own in table.groupby(["group", "method", "site", "ranking"], sort=True):
        for measure in measures:
            low, high = bootstrap_interval(own, measure, "planting", seed=seed)
            value, chance = own[measure].mean(), chances[measure](own)
            n = own["planting"].nunique()
            rows.append((breakdown, *key, measure, value, low, high, chance, n))
    columns = ["breakdown", "group", "method", "site", "ranking", "measure"]
    return pd.DataFrame(rows, columns=[*columns, "value", "low", "high", "chance", "n_plantings"])


SHARES = tuple(float(f"{share:.4g}") for share in np.geomspace(0.001, 1, 25))
"""Shares of all neurons at which curves are taken."""


def recall_curves(standings: pd.DataFrame, plantings: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Recall among a growing share of all neurons, mean over pictures, then over plantings.

    Of plantings with an object, by place and of all ("all"). Columns: place, method, site, share,
    value, low, high (95 % bootstrap intervals over plantings).
    """
    known = plantings.loc[plantings["object"] != "", ["planting", "place", "n_units"]]
    own = standings[standings["picture_id"] != ""].merge(known, on="planting", validate="m:1")
    rows = []
    for share in SHARES:
        reached = (own["n_units"] * share - own["above"]) / own["tied"]
        found = own.assign(value=reached.clip(0, 1))
        keys = ["method", "site", "planting"]
        means = found.groupby(["place", *keys], sort=True)["value"].mean().reset_index()
        means = pd.concat([means, means.assign(place="all")])
        for key, cell in means.groupby(["place", "method", "site"], sort=True):
            low, high = bootstrap_interval(cell, "value", "planting", seed=seed)
            rows.append((*key, share, cell["value"].mean(), low, high))
    return pd.DataFrame(rows, columns=["place", "method", "site", "share", "value", "low", "high"])
