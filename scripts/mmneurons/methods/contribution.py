"""Contribution of a neuron to a token's logit (Pan et al. 2024, eq. 4 and 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def token_projection(
    output_rows: torch.Tensor, unembedding: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    """Columns (W_out W_u)[:, t] for the given tokens only: `units x tokens`, float32.

    output_rows: `units x hidden`; unembedding: `vocabulary x hidden`. No final norm, as in the
    paper and its code. The whole `units x vocabulary` matrix is never formed. The three may be on
    different devices; the result is on that of the rows.
    """
    columns = unembedding[tokens.to(unembedding.device)].float().T
    return output_rows.float() @ columns.to(output_rows.device)


def contribution(activation: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """Score s = o_i (W_out W_u)[i, t] of activations `... x units` and a projection `units`."""
    return activation * projection
