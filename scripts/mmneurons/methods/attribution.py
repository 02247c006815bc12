"""Attribution by gradient x pre-activation (Schwettmann et al. 2023, eq. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def attribution(pre_activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Score g = Z * dy^c/dZ at each image token: `... x image tokens x units`."""
    return pre_activation * gradient


def mean_over_patches(scores: torch.Tensor) -> torch.Tensor:
    """The form in which Sato & Takagi 2025 (III-B) use it as a baseline: `... x units`."""
    return scores.mean(dim=-2)


def max_over_patches(scores: torch.Tensor) -> torch.Tensor:
    """The form in which Pan et al. 2024 (4.2) use it as a baseline: `... x units`."""
    return scores.amax(dim=-2)
