"""What the page shows that compares methods and models: overlap, layers, measures."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from mmneurons.browser.parts import NEURON, Part

BEST = 50
"""Neurons of a sample that are compared, at most."""


def first_selection(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of each method's first seed; of methods without seeds, which is NaN, all rows.

    Random neurons are selected several times. Counts of all selections together would not compare
    with those of a method that selects once.
    """
    if "seed" not in found:
        return found
    seeds = found["seed"]
    return found[seeds.isna() | (seeds == seeds.groupby(found["method"]).transform("min"))]


def overlaps(part: Part) -> list[list[float | None]]:
    """Mean over samples of the share of neurons that two methods have in common.

    Returns `methods x methods` in the order of `part.methods`. Of each sample the BEST best neurons
    by each method, or all where there are fewer, are compared: the number that both have over the
    smaller of both numbers. Of random neurons the first selection is taken. None where two methods
    have no sample in common.
    """
    keys = [method.key for method in part.methods]
    first = first_selection(part.found)
    first = first[first["rank"] < BEST]
    names = pd.MultiIndex.from_frame(first[NEURON])
    numbers = pd.Series(pd.factorize(names)[0], index=first.index)
    sets: dict[str, dict[str, np.ndarray]] = {key: {} for key in keys}
    for (method, sample), own in numbers.groupby([first["method"], first["sample_id"]]):
        sets[method][sample] = own.to_numpy()[:BEST]
    table: list[list[float | None]] = [[None] * len(keys) for _ in keys]
    for place in range(len(keys)):
        table[place][place] = 1.0
    for a, b in combinations(range(len(keys)), 2):
        both = sets[keys[a]].keys() & sets[keys[b]].keys()
        shares = [
            len(np.intersect1d(sets[keys[a]][s], sets[keys[b]][s]))
            / min(len(sets[keys[a]][s]), len(sets[keys[b]][s]))
            for s in sorted(both)
        ]
        table[a][b] = table[b][a] = float(np.mean(shares)) if shares else None
    return table


def layer_counts(part: Part, method: str) -> dict[str, list[int]]:
    """Neurons of every layer, each counted once a sample, by module; of at most BEST a sample.

    Of random neurons the first selection is counted.
    """
    counts = _best(part, method).groupby(["module", "layer"]).size()
    return {
        module: [int(counts.get((module, layer), 0)) for layer in range(len(units))]
        for module, units in part.layers.items()
    }


def unit_counts(part: Part, method: str, most: int) -> tuple[list[tuple[str, int, int, int]], int]:
    """(module, layer, unit, samples) of the units that a method finds most often, and of how many.

    Counted are samples of which the unit is among the BEST best, of random neurons among the first
    selection; `most` units are returned, those of most samples first.
    """
    counts = _best(part, method).groupby(NEURON).size().rename("n").reset_index()
    order = counts.sort_values(["n", *NEURON], ascending=[False, True, True, True], kind="stable")
    rows = order.head(most)[[*NEURON, "n"]].itertuples(index=False, name=None)
    return [(m, int(layer), int(unit), int(n)) for m, layer, unit, n in rows], len(order)


def _best(part: Part, method: str) -> pd.DataFrame:
    """A method's BEST best neurons of each sample and module, or as many random ones, each once."""
    own = part.found[(part.found["method"] == method) & (part.found["rank"] < BEST)]
    once = first_selection(own).drop_duplicates(["sample_id", *NEURON])
    return once.groupby(["sample_id", "module"]).head(BEST)
