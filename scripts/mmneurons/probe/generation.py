"""Activations at the positions that generate a caption, read while it is generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mmneurons.models.base import Encoded, FfnSite, MultimodalModel
from mmneurons.probe.hooks import Kind, watch


@dataclass(frozen=True)
class Generated:
    """Greedy captions, and what each of their tokens was generated from.

    tokens: of each row, without the end token; activations: for each kind one tensor a language
    layer, `batch x steps x units`, in the model's number format. Step s is the position that
    generates token s: step 0 the prompt's last token, step s + 1 token s itself. A row that ended
    before the others has no meaning at the steps behind the one that generated its end token.
    """

    tokens: list[list[int]]
    activations: dict[Kind, list[torch.Tensor]]


def generate_recorded(
    model: MultimodalModel, encoded: Encoded, max_new_tokens: int, kinds: Sequence[Kind]
) -> Generated:
    """Generate as `model.generate` does and keep the generating position of every step.

    No second pass is needed: of the pass over the prompt the last position is kept, of each cached
    step its only one. Raises RuntimeError where the passes are fewer than the generated tokens.
    """
    sites = model.sites("language")
    place = {id(site): i for i, site in enumerate(sites)}
    steps: dict[Kind, list[list[torch.Tensor]]] = {kind: [[] for _ in sites] for kind in kinds}

    def keep(site: FfnSite, kind: Kind, tensor: torch.Tensor) -> None:
        # A copy, because a view would hold the activations of the whole prompt in memory.
        steps[kind][place[id(site)]].append(tensor[:, -1].clone().to(model.device))

    with watch(sites, kinds, keep):
        tokens = model.generate(encoded, max_new_tokens)
    activations = {
        kind: [torch.stack(passed, dim=1) for passed in layers] for kind, layers in steps.items()
    }
    longest = max(map(len, tokens), default=0)
    for kind, layers in activations.items():
        if any(layer.shape[1] < longest for layer in layers):
            raise RuntimeError(f"{kind}: fewer passes than generated tokens ({longest})")
    return Generated(tokens, activations)
