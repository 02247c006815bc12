"""How alike two selections of neurons are: as sets, and as rankings with more weight in front."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def overlap(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Share of the longer selection that both have; NaN where both are empty."""
    longest = max(len(one), len(other))
    return len(set(one) & set(other)) / longest if longest else float("nan")


def rank_biased_overlap(
    one: Sequence[Hashable], other: Sequence[Hashable], p: float = 0.9
) -> float:
    """Extrapolated rank-biased overlap of two rankings (Webber, Moffat & Zobel 2010, eq. 32).

    Best first, without repetition. With X_d the number of items among the first d of both, s <= l
    the lengths and the agreement behind the end of each ranking taken to stay what it was there,

        RBO = (1 - p) / p * (sum_{d=1..l} X_d / d * p^d
              + sum_{d=s+1..l} X_s (d - s) / (s d) * p^d)
              + ((X_l - X_s) / l + X_s / s) * p^l.

    1 for equal rankings, 0 for disjoint ones; p is how patient a reader is: the first d places have
    most of the weight where d is about 1 / (1 - p). NaN where one of both is empty. Raises
    ValueError for a ranking with a repetition and for p outside 0 to 1.
    """
    if not 0 < p < 1:
        raise ValueError(f"p has to be between 0 and 1, not {p}")
    if len(set(one)) < len(one) or len(set(other)) < len(other):
        raise ValueError("a ranking has an item twice")
    short, long = sorted((one, other), key=len)
    s, n = len(short), len(long)
    if not s:
        return float("nan")
    common, seen = [0], (set(), set())
    for d in range(n):
        for items, ranking in zip(seen, (short, long), strict=True):
            items.update(ranking[d : d + 1])
        common.append(len(seen[0] & seen[1]))
    total = sum(common[d] / d * p**d for d in range(1, n + 1))
    total += sum(common[s] * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
    return (1 - p) / p * total + ((common[n] - common[s]) / n + common[s] / s) * p**n
