"""The logit lens: what the residual stream would say if the model ended at a layer.

Logits of a layer are those of the unembedding on the final norm of the layer's output (Huo et al.
2024, section 3.3, and its code; nostalgebraist 2020). Layer 0 is what enters the first layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mmneurons.models.base import Encoded, MultimodalModel
from mmneurons.probe.hooks import watch_outputs

KINDS = ("image", "text")


@dataclass(frozen=True)
class Reading:
    """What a pass over a batch said.

    entropy: nats, the mean over a row's image and text tokens, `layers x batch x 2` (KINDS);
    n_tokens: `batch x 2`; tokens and probabilities: the best at the followed positions, best first,
    `layers x positions x top`. All on the CPU.
    """

    entropy: torch.Tensor
    n_tokens: torch.Tensor
    tokens: torch.Tensor
    probabilities: torch.Tensor


@torch.no_grad()
def read_stream(
    model: MultimodalModel, encoded: Encoded, follow: Sequence[tuple[int, int]], top: int
) -> Reading:
    """Entropies of every layer, and the best tokens at some positions, in one pass.

    follow: (row, position in the row). A layer's logits are taken row by row, so that one row's
    `tokens x vocabulary` is the most that is held.
    """
    image = encoded.image_mask
    kinds = torch.stack([image, (encoded.mask > 0) & ~image])  # 2 x batch x tokens
    rows, places = torch.tensor(list(follow), dtype=torch.long).view(-1, 2).T.to(model.device)
    entropies, tokens, probabilities = [], [], []

    def read(states: torch.Tensor) -> None:
        entropies.append(
            torch.stack([_entropies(model, row, kinds[:, i]) for i, row in enumerate(states)])
        )
        chances = _log_probabilities(model, states[rows, places]).exp()
        best = chances.topk(min(top, chances.shape[-1]), dim=-1)
        tokens.append(best.indices)
        probabilities.append(best.values)

    def after(output) -> None:
        states = output[0] if isinstance(output, tuple) else output
        read(states.to(model.device))

    read(encoded.embeds)
    with watch_outputs(model.blocks(), after):
        model.final_states(encoded)
    return Reading(
        torch.stack(entropies).cpu(),
        kinds.sum(dim=-1).T.cpu(),
        torch.stack(tokens).cpu(),
        torch.stack(probabilities).cpu(),
    )


def _log_probabilities(model: MultimodalModel, states: torch.Tensor) -> torch.Tensor:
    """Of every token the model knows: `... x vocabulary`, in float32."""
    norm = model.final_norm()
    return model.logits(norm(states.to(norm.weight.device))).float().log_softmax(dim=-1)


def _entropies(model: MultimodalModel, states: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    """Mean entropy of a row's image tokens and of its text tokens; NaN where there are none."""
    logs = _log_probabilities(model, states)
    entropy = -(logs.exp() * logs).sum(dim=-1).double()
    return (entropy * kinds).sum(dim=-1) / kinds.sum(dim=-1)
