"""Thresholds for two-stage filtering: the paper's manual pairs, and an automatic rule.

The paper sets its two thresholds by hand for each sample and names an automatic choice as future
work. The rule here is scale-free: per sample, each threshold is the same upper quantile of that
sample's values over all neurons that can reach the logit. The one free number, the tail share
`alpha`, is fixed on calibration samples as the smallest one that selects a given median share of
all neurons. It sees activations and gradients of calibration samples only, never a caption under
noise and never an evaluation sample.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from mmneurons.methods.two_stage import select

# Tail shares that are tried, smallest first: 0.1 % to 50 % in equal steps of the logarithm.
ALPHAS = np.geomspace(0.001, 0.5, 109)

# The score of a neuron that is selected at no tail share: shares are below 2.
NEVER = -2.0


def tail_thresholds(
    difference: np.ndarray, gradact: np.ndarray, alpha: float
) -> tuple[float, float]:
    """Thresholds that leave the upper share `alpha` of each value: (threshold_a, threshold_g).

    difference and gradact: maxima over patches, `layers x units`, inert layers left out. The
    gradient's threshold is never below zero: a neuron that lowers the word's logit is no candidate.
    """
    threshold_a, threshold_g = (
        float(np.quantile(values, 1 - alpha, method="higher")) for values in (difference, gradact)
    )
    return threshold_a, max(threshold_g, 0.0)


def entry_scores(
    difference: np.ndarray, gradact: np.ndarray, inert_layers: Collection[int] = ()
) -> np.ndarray:
    """Minus the smallest tail share at which each neuron is selected: `layers x units`.

    difference and gradact: maxima over patches, `layers x units`. Their order is the one in which
    `select` takes the neurons in while `alpha` of `tail_thresholds` grows, so the best `k` are what
    two-stage filtering selects where it selects `k`. Of N neurons, one that m values are not below
    exceeds the threshold from a share of m / (N - 1) on; the larger share of its two values counts.
    A neuron that lowers the word's logit, one of an inert layer, and one with the lowest value of
    all, which exceeds no threshold, have NEVER. Raises ValueError for not-a-number.
    """
    if np.isnan(difference).any() or np.isnan(gradact).any():
        raise ValueError("values contain not-a-number")
    reach = np.setdiff1d(np.arange(len(difference)), list(inert_layers))
    shares = np.maximum(_entry_shares(difference[reach]), _entry_shares(gradact[reach]))
    enters = (gradact[reach] > 0) & (shares <= 1)
    scores = np.full(difference.shape, NEVER)
    scores[reach] = np.where(enters, -shares, NEVER)
    return scores


def _entry_shares(values: np.ndarray) -> np.ndarray:
    """From which tail share on each value exceeds its threshold; above 1 for the lowest ones."""
    below = np.searchsorted(np.sort(values, axis=None), values, side="left")
    return (values.size - below) / max(values.size - 1, 1)


def calibrate_alpha(
    samples: list[tuple[np.ndarray, np.ndarray]], share: float
) -> tuple[float, float]:
    """The smallest tail share whose median selection over the samples is at least `share`.

    samples: (difference, gradact) pairs, each `layers x units` without inert layers; share: of
    these neurons. Returns alpha and the median share that it selects. Raises ValueError where
    there are no samples or even half of the neurons on each side select too few.
    """
    if not samples:
        raise ValueError("the automatic threshold rule has no calibration sample")
    for alpha in ALPHAS:
        selected = [
            select(difference, gradact, *tail_thresholds(difference, gradact, alpha)).mean()
            for difference, gradact in samples
        ]
        if np.median(selected) >= share:
            return float(alpha), float(np.median(selected))
    raise ValueError(f"no tail share up to {ALPHAS[-1]} selects {share:.2%} of the neurons")
