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


def best_pairs(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The `k` best (unit, patch) pairs of each row, best first: scores, units, patches, `rows x k`.

    The paper's ranking, in which a unit stands as often as it has patches among the best
    (Schwettmann et al. 2023, table S.1). scores: `rows x units x image tokens`; ties go to the
    lower (unit, patch).
    """
    n_patches = scores.shape[2]
    flat = scores.flatten(1) + 0.0  # turns a negative zero into a tie with zero
    best, places = flat.sort(dim=1, descending=True, stable=True)
    places = places[:, :k]
    return best[:, :k].clone(), places // n_patches, places % n_patches
