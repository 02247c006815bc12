"""The same number of neurons by every method: of concepts, of single pictures, of halves of them.

A selection has a `part` that says what it was made from: "concept" (the mean of the scores of the
pictures that neurons are identified with), "picture" (one of the concept's pictures), "shuffled"
(the same picture, its image tokens in another order), "half" (the mean over half of a concept's
pictures; `draw` tells which split, `half` which of its halves), and "control" (as many random
neurons from each layer as the method's own "concept" has there; `draw` tells which draw).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmneurons.methods.dape_concepts import concept_scores
from mmneurons.methods.needs import NO_PICTURE, capability_table, lacks_of_data, pruned
from mmneurons.methods.selection import random_like, top_units

NEURON_COLUMNS = {
    "method": "str",
    "part": "str",
    "draw": "int64",
    "half": "int64",
    "sample_id": "str",
    "group": "str",
    "module": "str",
    "layer": "int64",
    "unit": "int64",
    "score": "float32",
    "rank": "int64",
}


@dataclass(frozen=True)
class Selection:
    """What a selection is of; draw is the seed of random neurons too."""

    method: str
    part: str
    group: str
    sample_id: str = ""
    draw: int = 0
    half: int = 0


def best_units(scores: np.ndarray, k: int) -> np.ndarray:
    """The `k` best neurons as rows (layer, unit), best first; none whose score is minus infinity.

    scores: `layers x units`. A method may exclude neurons, so fewer than k may be left.
    """
    k = min(k, int((scores > -np.inf).sum()))
    return top_units(scores, k)


def neuron_table(found: Sequence[tuple[Selection, np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """One table of selections, each with its neurons, rows (layer, unit), and their scores.

    It is built at once, since a frame for every selection would cost more than the selections.
    """
    sizes = [len(neurons) for _, neurons, _ in found]
    names = ("method", "part", "draw", "half", "sample_id", "group")
    columns = {
        name: np.repeat(np.array([getattr(of, name) for of, _, _ in found]), sizes)
        for name in names
    }
    neurons = np.concatenate([np.empty((0, 2), np.int64), *(own for _, own, _ in found)])
    columns |= {"module": "language", "layer": neurons[:, 0], "unit": neurons[:, 1]}
    columns["score"] = np.concatenate([np.empty(0, np.float32), *(own for _, _, own in found)])
    columns["rank"] = np.concatenate([np.empty(0, np.int64), *map(np.arange, sizes)])
    table = pd.DataFrame(columns, index=range(len(neurons)), columns=list(NEURON_COLUMNS))
    return table.astype(NEURON_COLUMNS)


def _best(of: Selection, scores: np.ndarray, k: int) -> tuple[Selection, np.ndarray, np.ndarray]:
    neurons = best_units(scores, k)
    return of, neurons, scores[neurons[:, 0], neurons[:, 1]]


def halves(sample_ids: Sequence[str], draw: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of a random half of the pictures and of as many others, by the pictures' names.

    Of an odd number one picture is in neither. Empty where there are fewer than two.
    """
    order = np.array(sorted(range(len(sample_ids)), key=lambda n: _hash(seed, draw, sample_ids[n])))
    n = len(order) // 2
    return np.sort(order[:n]).astype(int), np.sort(order[n : 2 * n]).astype(int)


def parts_of_group(
    group: str, sample_ids: Sequence[str], n_identify: int, draws: int, seed: int
) -> Iterator[tuple[dict, np.ndarray]]:
    """What is selected of one concept but for its shuffled pictures: part, and places of pictures.

    sample_ids: of the concept's valid pictures; the first `n_identify` identify its neurons.
    """
    yield {"part": "concept", "group": group}, np.arange(min(n_identify, len(sample_ids)))
    for place, name in enumerate(sample_ids):
        yield {"part": "picture", "group": group, "sample_id": name}, np.array([place])
    for draw in range(draws):
        for half, places in enumerate(halves(sample_ids, draw, seed)):
            if len(places):
                yield {"part": "half", "group": group, "draw": draw, "half": half}, places


def mean_scores(scores: np.ndarray) -> np.ndarray:
    """Scores of several pictures, `pictures x layers x units`, averaged: `layers x units`.

    What every picture excludes (minus infinity) stays excluded. What only some exclude has there
    the lowest score of these pictures, so that no other picture has a say in the mean.
    """
    excluded = np.isneginf(scores)
    lowest = scores.min(where=~excluded, initial=np.inf)
    mean = np.where(excluded, lowest, scores).mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.where(excluded.all(axis=0), -np.inf, mean)


def select_scored(
    method: str,
    group: str,
    sample_ids: Sequence[str],
    plain: np.ndarray,
    shuffled: np.ndarray,
    k: int,
    n_identify: int,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """All selections of one concept by a method that scores every picture by itself.

    plain, shuffled: `samples x layers x units`, of the pictures as they are and with their image
    tokens in another order; minus infinity where the method excludes a neuron.
    """
    found = []
    for of, places in parts_of_group(group, sample_ids, n_identify, draws, seed):
        found.append(_best(Selection(method, **of), mean_scores(plain[places]), k))
    for name, scores in zip(sample_ids, shuffled, strict=True):
        found.append(_best(Selection(method, "shuffled", group, name), scores, k))
    return neuron_table(found)


def select_counted(
    method: str,
    samples: pd.DataFrame,
    plain: tuple[np.ndarray, np.ndarray],
    shuffled: tuple[np.ndarray, np.ndarray],
    shape: tuple[int, int],
    k: int,
    n_identify: int,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """All selections of all concepts by DAPE, which needs the counts of the other concepts too.

    samples: sample_id, group, in the order of the counts; plain, shuffled: (counts `samples x
    units`, tokens `samples`); shape: layers and units of a layer. A concept's own counts are those
    of the part, the other concepts' those of the pictures that identify their neurons.
    """
    groups, names = (samples[column].to_numpy() for column in ("group", "sample_id"))
    concepts = list(dict.fromkeys(groups))
    identify = samples.groupby("group", sort=False).cumcount().to_numpy() < n_identify
    pooled = [
        np.stack([values[identify & (groups == group)].sum(axis=0) for group in concepts])
        for values in plain
    ]

    def select(of: dict, values: tuple[np.ndarray, np.ndarray], places: np.ndarray) -> tuple:
        own = concepts.index(of["group"])
        counts, tokens = (
            np.concatenate([all_[:own], mine[places].sum(axis=0)[None], all_[own + 1 :]])
            for all_, mine in zip(pooled, values, strict=True)
        )
        scores = concept_scores(counts, tokens)[own].reshape(shape)
        return _best(Selection(method, **of), scores, k)

    found = []
    for group in concepts:
        own = np.flatnonzero(groups == group)
        for of, places in parts_of_group(group, names[own].tolist(), n_identify, draws, seed):
            found.append(select(of, plain, own[places]))
        for place in own:
            of = {"part": "shuffled", "group": group, "sample_id": names[place]}
            found.append(select(of, shuffled, np.array([place])))
    return neuron_table(found)


def select_randomly(
    method: str,
    samples: pd.DataFrame,
    shape: tuple[int, int],
    k: int,
    n_identify: int,
    draws: int,
    controls: int,
    seed: int,
    model: str,
) -> pd.DataFrame:
    """As many neurons, uniform over all, in the place of every selection of the other methods.

    Of a concept there are `controls` of them, told apart by `draw`. Each depends on the seed, the
    model's name and on what it stands for, and on nothing else. Scores are 0.
    """
    n_units, found = shape[0] * shape[1], []

    def draw_for(of: dict) -> tuple:
        name = "/".join(str(of.get(key, "")) for key in ("part", "group", "sample_id"))
        number = _hash(seed, of.get("draw", 0), f"{model}/{name}/{of.get('half', 0)}")
        chosen = np.random.default_rng(list(number)).choice(n_units, k, replace=False)
        neurons = np.stack(np.unravel_index(chosen, shape), axis=1)
        return Selection(method, **of), neurons, np.zeros(k, dtype=np.float32)

    for group, own in samples.groupby("group", sort=False):
        names = own["sample_id"].tolist()
        for of, _ in parts_of_group(group, names, n_identify, draws, seed):
            copies = controls if of["part"] == "concept" else 1
            found += [draw_for({"draw": draw} | of) for draw in range(copies)]
        for name in names:
            found.append(draw_for({"part": "shuffled", "group": group, "sample_id": name}))
    return neuron_table(found)


def select_controls(
    method: str, neurons: pd.DataFrame, units_per_layer: int, controls: int, seed: int, model: str
) -> pd.DataFrame:
    """Of every concept random neurons from the layers of the method's own, and none of these.

    neurons: the method's selections. Methods differ in layers, and late neurons do less than early
    ones whichever they are: what a method's choice within its layers is worth shows against these.
    `controls` draws a concept, told apart by `draw`; each depends on the seed, the model's name,
    the method and the concept alone. Scores are 0.
    """
    found = []
    own = neurons[neurons["part"] == "concept"]
    for group, rows in own.groupby("group", sort=False):
        pairs = rows[["layer", "unit"]].to_numpy(np.int64)
        for draw in range(controls):
            number = _hash(seed, draw, f"{model}/control/{method}/{group}")
            drawn = random_like(pairs, units_per_layer, np.random.default_rng(list(number)))
            scores = np.zeros(len(drawn), dtype=np.float32)
            found.append((Selection(method, "control", group, draw=draw), drawn, scores))
    return neuron_table(found)


@dataclass(frozen=True)
class Selected:
    """Tables: neurons of every method, exclusions, and capabilities (name, kind, runs, reason)."""

    neurons: pd.DataFrame
    exclusions: pd.DataFrame
    capabilities: pd.DataFrame


def select_all(
    recorded,
    methods: Mapping[str, Mapping],
    measures: Mapping[str, Mapping],
    n_identify: int,
    draws: int,
    controls: int,
    seed: int,
) -> Selected:
    """Neurons of every method that can run, in the order of `methods`.

    recorded: `artifacts.comparison.Recordings`; methods, measures: rows of resources/methods.yaml.
    """
    facts, samples = recorded.facts, recorded.valid
    lacks = facts["lacks"] | lacks_of_data(samples["group"].nunique())
    shape = len(facts["layers"]), max(facts["layers"], default=0)
    drawn = controls, seed, facts["model"]
    of = {"method": methods, "measure": measures}
    why = {
        kind: pruned({name: row["needs"] for name, row in rows.items()}, lacks)
        for kind, rows in of.items()
    }
    if samples.empty:
        why = {kind: {name: NO_PICTURE for name in rows} for kind, rows in of.items()}
    tables, rows = [neuron_table([])], []
    for name, row in methods.items():
        if why["method"][name]:
            continue
        if row["score"] == "none":
            own = select_randomly(name, samples, shape, facts["k"], n_identify, draws, *drawn)
        elif row["score"] == "counts":
            counts = recorded.counts["plain"], recorded.counts["shuffled"]
            own = select_counted(name, samples, *counts, shape, facts["k"], n_identify, draws, seed)
        else:
            own = recorded.neurons[recorded.neurons["method"] == name]
        tables.append(own)
        if row["score"] != "none":
            tables.append(select_controls(name, own, shape[1], *drawn))
        rows += _short(name, own, samples["group"].unique(), facts["k"])
    rows += [
        ("capabilities", "", "", "cannot-run", f"{kind} {name}: {reason}")
        for kind, reasons in why.items()
        for name, reason in reasons.items()
        if reason
    ]
    capabilities = capability_table(of, why)
    exclusions = pd.DataFrame(rows, columns=recorded.exclusions.columns)
    exclusions = pd.concat([recorded.exclusions, exclusions.astype("str")], ignore_index=True)
    filled = [table for table in tables if len(table)] or tables[:1]
    return Selected(pd.concat(filled, ignore_index=True), exclusions, capabilities)


def _short(name: str, neurons: pd.DataFrame, groups: Sequence[str], k: int) -> list[tuple]:
    """Exclusions of concepts of which a method has fewer neurons than the others, or none."""
    concepts = neurons[(neurons["part"] == "concept") & (neurons["draw"] == 0)]
    sizes = concepts.groupby("group").size().reindex(groups, fill_value=0)
    return [
        ("select", "", group, "fewer-neurons", f"{name}: {n} of {k}")
        for group, n in sizes.items()
        if n < k
    ]


def _hash(seed: int, draw: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{draw}/{name}".encode()).digest()
