"""Activation alone, the first baseline of Pan et al. 2024 (`Base` in their Table 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def last_input_activation(generating: torch.Tensor) -> torch.Tensor:
    """Score o_i at the last input token, the same for every concept of the caption: `... x units`.

    generating: `... x steps x units`, activations at the positions that generate the caption; the
    first of them is the last token of the input.
    """
    return generating[..., 0, :]
