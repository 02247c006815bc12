"""DAPE (Huo et al. 2024) with concepts in the place of domains: a score of every unit and concept.

The method asks which units are active in few domains. Here a domain is a concept, and its tokens
are those of the prompts with pictures of the concept. A unit belongs to a concept where its
probability for it is above the bar; among these, the lower its entropy over concepts, the better.
"""

from __future__ import annotations

import numpy as np

from mmneurons.methods.dape import DECIMALS, Variant, activation_probability, dape, percentile_value


def concept_scores(
    counts: np.ndarray,
    tokens: np.ndarray,
    *,
    percentile: float = 95,
    variant: Variant = "released",
) -> np.ndarray:
    """Minus DAPE where a unit belongs to the concept, else minus infinity: `concepts x units`.

    counts: tokens at which a unit was active, `concepts x units`; tokens: tokens seen, `concepts`.
    The bar is the probability at the percentile of all, as in `select_domain_neurons`, which takes
    the units with the best scores.
    """
    p = activation_probability(counts, tokens)
    scores = -np.round(dape(p, variant), DECIMALS)
    return np.where(p > percentile_value(p, percentile), scores, -np.inf)


def sample_scores(
    counts: np.ndarray,
    tokens: np.ndarray,
    groups: np.ndarray,
    *,
    percentile: float = 95,
    variant: Variant = "released",
) -> np.ndarray:
    """The same from one sample of a concept and all samples of the others: `samples x units`.

    counts: `samples x units`; tokens, groups: `samples`. It says what the method would find if the
    sample were all that is known of its concept.
    """
    groups = np.asarray(groups)
    names = np.unique(groups)
    pooled = np.stack([counts[groups == name].sum(axis=0) for name in names])
    pooled_tokens = np.array([tokens[groups == name].sum() for name in names])
    rows = []
    for own, own_tokens, group in zip(counts, tokens, groups, strict=True):
        mine = names == group
        of_all = np.where(mine[:, None], own, pooled)
        all_tokens = np.where(mine, own_tokens, pooled_tokens)
        scores = concept_scores(of_all, all_tokens, percentile=percentile, variant=variant)
        rows.append(scores[mine][0])
    return np.stack(rows)
