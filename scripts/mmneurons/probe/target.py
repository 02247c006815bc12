"""Activations at the image tokens, and the gradient of one target logit by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mmneurons.models.base import Encoded, MultimodalModel
from mmneurons.probe.hooks import Kind, record

# A power of two, so that scaling changes no digit.
HALF_PRECISION_SCALE = 2.0**12


@dataclass(frozen=True)
class ImageRecord:
    """What one forward pass (and perhaps one backward pass) left at the image tokens.

    activations and gradients: one tensor a language layer for each kind, `batch x image tokens x
    units`, detached; logits, probabilities: the target's of each row, `batch`.
    """

    activations: dict[Kind, list[torch.Tensor]]
    gradients: dict[Kind, list[torch.Tensor]] | None = None
    logits: torch.Tensor | None = None
    probabilities: torch.Tensor | None = None


def target_logits(
    model: MultimodalModel, encoded: Encoded, targets: Sequence[int], states: torch.Tensor
) -> torch.Tensor:
    """Logit of each row's target token at the position that predicts it: `batch`.

    The target follows the whole continuation, so its position is the continuation's last token
    (the prompt's last where there is none). Only these positions are unembedded.
    """
    return _of_targets(_next_logits(model, encoded, states), targets)


@torch.no_grad()
def target_probabilities(
    model: MultimodalModel, encoded: Encoded, targets: Sequence[int]
) -> torch.Tensor:
    """Probability of each row's target token where `target_logits` reads its logit: `batch`."""
    logits = _next_logits(model, encoded, model.final_states(encoded))
    return _of_targets(logits.float().softmax(dim=-1), targets)


def _next_logits(model: MultimodalModel, encoded: Encoded, states: torch.Tensor) -> torch.Tensor:
    """Logits of what follows each row's continuation: `batch x vocabulary`."""
    rows = torch.arange(len(encoded.lengths), device=states.device)
    before = torch.tensor([encoded.prompt_end - 1 + n for n in encoded.lengths], device=rows.device)
    return model.logits(states[rows, before])


def _of_targets(values: torch.Tensor, targets: Sequence[int]) -> torch.Tensor:
    """Each row's own value of `batch x vocabulary`."""
    rows = torch.arange(len(targets), device=values.device)
    return values[rows, torch.tensor(list(targets), device=values.device)]


def image_activations(
    model: MultimodalModel, encoded: Encoded, kinds: Sequence[Kind]
) -> ImageRecord:
    """Activations at the image tokens from one forward pass without a graph."""
    with torch.no_grad(), record(model.sites("language"), kinds) as passed:
        model.final_states(encoded)
        return ImageRecord({k: [_at_image(t, encoded) for t in passed[k]] for k in kinds})


def image_gradients(
    model: MultimodalModel,
    encoded: Encoded,
    targets: Sequence[int],
    kinds: Sequence[Kind],
    also: Sequence[Kind] = (),
) -> ImageRecord:
    """Activations and the gradients of the targets' logits by them, in one forward and backward.

    also: kinds that are read without a gradient.
    Rows do not see each other, so the gradient of the summed logits is each row's own. The graph
    starts at the embeddings: the weights are frozen and get no gradient. A layer that cannot reach
    the logit gets zeros. In float16 the gradients of single neurons would vanish, so the logit is
    scaled up before the backward pass and the gradients, in float32, down again. Raises
    FloatingPointError for a gradient that is not finite.
    """
    leaf = encoded.embeds.detach().requires_grad_(True)
    encoded = Encoded(**{**vars(encoded), "embeds": leaf})
    read = [*kinds, *also]
    with torch.enable_grad(), record(model.sites("language"), read) as passed:
        following = _next_logits(model, encoded, model.final_states(encoded))
        logits = _of_targets(following, targets)
        tensors = [tensor for kind in kinds for tensor in passed[kind]]
        scale = HALF_PRECISION_SCALE if logits.dtype == torch.float16 else 1.0
        gradients = torch.autograd.grad(logits.sum() * scale, tensors)
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise FloatingPointError(f"gradients in {logits.dtype} overflow; use float32")
    scaled = iter(_at_image(gradient, encoded) / scale for gradient in gradients)
    return ImageRecord(
        activations={k: [_at_image(t.detach(), encoded) for t in passed[k]] for k in read},
        gradients={k: [next(scaled) for _ in passed[k]] for k in kinds},
        logits=logits.detach(),
        probabilities=_of_targets(following.detach().float().softmax(dim=-1), targets),
    )


def _at_image(tensor: torch.Tensor, encoded: Encoded) -> torch.Tensor:
    """`batch x tokens x units` to `batch x image tokens x units`, in float32, from any device."""
    rows = torch.arange(len(tensor), device=tensor.device)[:, None]
    return tensor[rows, encoded.image.to(tensor.device)].float().to(encoded.mask.device)
