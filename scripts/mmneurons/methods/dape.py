"""Domain-specific neurons by the entropy of their activation probabilities (Huo et al. 2024).

A unit is active at a token where its activation is above zero (eq. 3). Its activation probability
in a domain is the share of the domain's tokens at which it is. DAPE is the entropy of these
probabilities over the domains: low where a unit is active in few of them.

Two variants. "released" is the published code: the probabilities are divided by their sum before
the entropy is taken. "paper" is eq. 7 as it is printed, with the probabilities themselves; it also
ranks units low that are active nearly everywhere. All else is the same. Logarithms are natural.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Literal

import numpy as np
import pandas as pd

from mmneurons.methods.selection import random_like

Variant = Literal["released", "paper"]

DAPE_COLUMNS = {
    "sample_id": "str",
    "group": "str",
    "module": "str",
    "layer": "int64",
    "unit": "int64",
    "score": "float64",
    "rank": "int64",
    "probability": "float64",
    "inert": "bool",
}
"""Columns of a table of domain neurons, and their types."""

# Entropies that are equal on paper differ by some 1e-16 with the order of their terms and with the
# processor's logarithm. Rounded, they are ties, which go to the lower (layer, unit) everywhere.
DECIMALS = 12


def parse_variant(text: str) -> tuple[Variant, float]:
    """Variant and share of a file's name: "released-0_5" is ("released", 0.005), half a percent."""
    match = re.fullmatch(r"(released|paper)-([0-9]+(?:_[0-9]+)?)", text)
    percent = Decimal(match[2].replace("_", ".")) if match else Decimal(0)
    if match is None or not 0 < percent <= 100:
        raise ValueError(
            f"not a variant and a share in percent, such as 'released-1' or 'paper-0_5': {text!r}"
        )
    return match[1], float(percent / 100)


def activation_probability(counts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Share of a group's tokens at which each unit was active, float64 `groups x units`.

    counts: tokens at which a unit was active, `groups x units`; tokens: tokens seen, `groups`.
    A group without tokens has probability 0 throughout. Raises ValueError for negative numbers and
    for a unit that was active at more tokens than there are.
    """
    counts, tokens = np.asarray(counts), np.asarray(tokens)
    if counts.shape[:1] != tokens.shape:
        raise ValueError(f"counts of {len(counts)} groups, tokens of {len(tokens)}")
    if (counts < 0).any() or (counts > tokens[:, None]).any():
        raise ValueError("counts have to be from 0 to the number of the group's tokens")
    return counts / np.maximum(tokens, 1)[:, None].astype(np.float64)


def dape(p: np.ndarray, variant: Variant) -> np.ndarray:
    """Domain activation probability entropy in nats, `units` (eq. 7).

    p: `groups x units`. 0 log 0 is 0, so a unit that is never active has entropy 0, as in the
    released code. The result does not depend on the order of the groups.
    """
    p = np.sort(np.asarray(p, dtype=np.float64), axis=0)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities have to be numbers from 0 to 1")
    if variant == "released":
        total = p.sum(axis=0)
        p = np.divide(p, total, out=np.zeros_like(p), where=total > 0)
    elif variant != "paper":
        raise ValueError(f"DAPE is 'released' or 'paper', not {variant!r}")
    logarithm = np.log(p, out=np.zeros_like(p), where=p > 0)
    return -(p * logarithm).sum(axis=0) + 0.0  # no negative zero


def select_domain_neurons(
    counts: Mapping[str, np.ndarray],
    tokens: Mapping[str, np.ndarray],
    layers: Mapping[str, Sequence[int]],
    groups: Sequence[str],
    *,
    share: float,
    percentile: float = 95,
    variant: Variant = "released",
    inert_layers: Mapping[str, Collection[int]] | None = None,
    inert: Literal["keep", "exclude"] = "keep",
) -> tuple[pd.DataFrame, dict]:
    """Domain neurons of every module for itself, and what was found.

    counts: by module, `groups x units`, the layers' units one after the other; tokens: by module,
    `groups`; layers: by module, units of each layer; share: of a module's units, such as 0.01;
    inert_layers: by module, layers that cannot affect the output. inert: "keep" only marks their
    units, "exclude" leaves them out before anything is computed.

    The steps are those of the released code:

    1. The filter is the probability at the given percentile of all `groups x units` of the module
       (the round(percentile / 100 x n)-th smallest of n). Units that are above it in no group
       are out.
    2. Of the others, the round(share x units) with the lowest DAPE are selected. Ties go to the
       lower (layer, unit); the released code leaves them open. Where fewer are left, all are.
    3. A selected unit belongs to every group in which its probability is above the bar, which is
       the filter again. So a unit may be in several groups, and a group may have none.

    Returns the table of neurons, a row a group and unit, and facts: `rule`, by module `n_units`,
    `n_wanted`, `n_selected` (units), `filter`, `bar` and `domains_without` (groups without a
    neuron).
    """
    if inert not in ("keep", "exclude"):
        raise ValueError(f"units of inert layers are 'keep' or 'exclude', not {inert!r}")
    if not (0 < share <= 1 and 0 <= percentile <= 100):
        raise ValueError(f"a share of {share} and a percentile of {percentile} cannot be selected")
    rule = {"variant": variant, "share": share, "percentile": percentile, "inert": inert}
    names = ("n_units", "n_wanted", "n_selected", "filter", "bar", "domains_without")
    facts: dict = {"rule": rule, **{name: {} for name in names}}
    tables = []
    for module, units_of_layers in layers.items():
        layer, unit = _places(units_of_layers)
        if np.shape(counts[module]) != (len(groups), len(layer)):
            raise ValueError(
                f"counts of {module} have the shape {np.shape(counts[module])}, not "
                f"{(len(groups), len(layer))}"
            )
        is_inert = np.isin(layer, list((inert_layers or {}).get(module, ())))
        used = np.flatnonzero(~is_inert) if inert == "exclude" else np.arange(len(layer))
        p = activation_probability(np.asarray(counts[module])[:, used], tokens[module])
        score = np.round(dape(p, variant), DECIMALS)
        bar = percentile_value(p, percentile)
        above = np.zeros(p.shape, dtype=bool) if bar is None else p > bar
        wanted = round(share * len(used))
        selected = _lowest(score, above.any(axis=0), wanted)
        own = [_group(module, g, p[n], score, above[n], selected) for n, g in enumerate(groups)]
        for table in own:
            place = used[table.pop("place").to_numpy()]
            table[["layer", "unit", "inert"]] = np.stack([layer, unit, is_inert])[:, place].T
        tables += own
        facts["n_units"][module] = len(used)
        facts["n_wanted"][module] = wanted
        facts["n_selected"][module] = len(selected)
        facts["filter"][module] = facts["bar"][module] = bar
        facts["domains_without"][module] = [
            group for group, table in zip(groups, own, strict=True) if table.empty
        ]
    together = pd.concat(tables, ignore_index=True).assign(sample_id="")
    return together[list(DAPE_COLUMNS)].astype(DAPE_COLUMNS), facts


def same_layer_random(
    neurons: pd.DataFrame, layers: Mapping[str, Sequence[int]], seed: int, draw: int = 0
) -> pd.DataFrame:
    """As many random units of the same layers as `neurons` has, for each group.

    neurons: group, module, layer, unit; layers: by module, units of each layer. None of the
    group's own neurons is drawn, unless the layer has too few others. What is drawn in a layer
    depends on the seed, the number of the draw, the names of group, module and layer and the
    group's neurons there, and on nothing else. Returns group, module, layer, unit.
    """
    columns = ["group", "module", "layer", "unit"]
    tables = [neurons.iloc[:0][columns]]
    for (group, module, layer), own in neurons.groupby(columns[:3], sort=True):
        rng = np.random.default_rng([seed, draw, *f"{group}/{module}/{layer}".encode()])
        pairs = own[["layer", "unit"]].sort_values("unit").to_numpy()
        drawn = random_like(pairs, layers[module][layer], rng)
        rows = {"group": group, "module": module, "layer": layer, "unit": drawn[:, 1]}
        tables.append(pd.DataFrame(rows))
    return pd.concat(tables, ignore_index=True)


def _places(units_of_layers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Layer and unit of each place in a module."""
    layer = np.repeat(np.arange(len(units_of_layers)), units_of_layers)
    return layer, np.concatenate([np.arange(n) for n in units_of_layers])


def percentile_value(p: np.ndarray, percentile: float) -> float | None:
    """The round(percentile / 100 x n)-th smallest of n numbers, None of none.

    Half goes to the even neighbour, as Python and so the released code round.
    """
    if not p.size:
        return None
    k = max(round(p.size * (percentile / 100)), 1)
    return float(np.partition(p, k - 1, axis=None)[k - 1])


def _lowest(score: np.ndarray, candidate: np.ndarray, n: int) -> np.ndarray:
    """Places of the `n` candidates with the lowest scores, lowest first, ties by place."""
    places = np.flatnonzero(candidate)
    return places[np.argsort(score[places], kind="stable")][:n]


def _group(
    module: str,
    group: str,
    p: np.ndarray,
    score: np.ndarray,
    above: np.ndarray,
    selected: np.ndarray,
) -> pd.DataFrame:
    """The selected places that belong to a group; `p` and `above` (the bar) are the group's."""
    place = selected[above[selected]]
    values = {"place": place, "score": score[place], "probability": p[place]}
    return pd.DataFrame({"group": group, "module": module, **values, "rank": range(len(place))})
