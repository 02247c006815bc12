"""Two-stage filtering (Sato & Takagi 2025, arXiv 2503.22941).

Stage 1 keeps the neurons that are more active at some image token of the original picture than of
the picture without the object; stage 2 those of them whose gradient x activation for the object's
word is high at some image token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def activation_difference(original: torch.Tensor, inpainted: torch.Tensor) -> torch.Tensor:
    """Delta = O'_o - O'_i, signed (stage 1): `... x image tokens x units`."""
    return original - inpainted


def gradient_activation(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """g_c = O' * dy^c/dO', elementwise, no ReLU and no average (eq. 2)."""
    return activation * gradient


def over_patches(values: torch.Tensor) -> torch.Tensor:
    """Maximum over image tokens, `... x image tokens x units` to `... x units`.

    A neuron exceeds a threshold at some patch exactly if its maximum does, so the maximum is all
    that selection needs.
    """
    return values.amax(dim=-2)


def select(
    difference: torch.Tensor, gradact: torch.Tensor, threshold_a: float, threshold_g: float
) -> torch.Tensor:
    """N_k: neurons above both thresholds, as `layers x units` booleans.

    difference and gradact: maxima over patches, `layers x units`. The two conditions are
    independent: they may hold at different patches (the literal reading of the paper).
    """
    return (difference > threshold_a) & (gradact > threshold_g)
