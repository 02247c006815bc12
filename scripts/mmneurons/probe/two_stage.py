"""The recording that two-stage filtering and its baselines select from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from mmneurons.methods.attribution import attribution, mean_over_patches
from mmneurons.methods.contribution import contribution, token_projection
from mmneurons.methods.two_stage import activation_difference, gradient_activation, over_patches
from mmneurons.models.base import MultimodalModel
from mmneurons.probe.hooks import Kind
from mmneurons.probe.recorded import selection_maxima
from mmneurons.probe.target import ImageRecord, image_activations, image_gradients


@dataclass(frozen=True)
class Case:
    """One sample as it is recorded: both pictures, the generated tokens before the target, it."""

    original: Image.Image
    inpainted: Image.Image
    prefix_tokens: Sequence[int]
    target_token: int


def record_group(
    model: MultimodalModel,
    prompt: str,
    cases: Sequence[Case],
    sites: Sequence[Kind],
    n_candidates: int,
    batch_size: int,
    full: bool = False,
) -> dict[str, np.ndarray]:
    """Record all samples of one group (concept).

    Returns arrays by name, with n samples, L layers, U units, P image tokens and K candidates:
    for each site `{site}/difference` and `{site}/gradact` (n x L x U, maxima over patches),
    `{site}/contribution` (n x L x U, means), `{site}/mean_square` (n x L),
    `{site}/map_units` (K x 2: layer, unit) and `{site}/maps` (n x K x P, activations on the
    original picture); `attribution` (n x L x U, means), `logit` (n). With `full`, the maxima are
    replaced by what they are taken from: `{site}/original`, `{site}/inpainted` and
    `{site}/gradient` (n x L x P x U).

    The group's activations are held in half precision until its candidates are known, so that
    their maps need no second pass.
    """
    reduced: dict[str, list[np.ndarray]] = {}
    held: dict[Kind, list[np.ndarray]] = {site: [] for site in sites}
    for batch in _batches(cases, batch_size):
        for name, values in _record_batch(model, prompt, batch, sites, full, held).items():
            reduced.setdefault(name, []).append(values)
    arrays = {name: np.concatenate(parts) for name, parts in reduced.items()}
    for site in sites:
        difference, gradact = selection_maxima(arrays, site)
        units = candidates(difference, gradact, n_candidates)
        activations = np.concatenate(held[site])  # n x L x P x U
        arrays[f"{site}/map_units"] = units
        # Indices on both sides of a slice put the candidates first: K x n x P.
        arrays[f"{site}/maps"] = activations[:, units[:, 0], :, units[:, 1]].transpose(1, 0, 2)
    return arrays


def candidates(difference: np.ndarray, gradact: np.ndarray, n: int) -> np.ndarray:
    """Neurons whose activation maps are kept: (layer, unit) rows, sorted.

    The best n / 2 by each of the two values' maximum over the group's samples; both n x L x U.
    """
    chosen = set()
    for values in (difference.max(axis=0), gradact.max(axis=0)):
        order = np.argsort(-values, axis=None, kind="stable")[: max(1, n // 2)]
        chosen.update(order.tolist())
    return np.stack(np.unravel_index(sorted(chosen), difference.shape[1:]), axis=1).astype(np.int32)


def _batches(cases: Sequence[Case], size: int) -> Iterator[Sequence[Case]]:
    for start in range(0, len(cases), size):
        yield cases[start : start + size]


def _record_batch(
    model: MultimodalModel,
    prompt: str,
    cases: Sequence[Case],
    sites: Sequence[Kind],
    full: bool,
    held: dict[Kind, list[np.ndarray]],
) -> dict[str, np.ndarray]:
    """Two forward passes and one backward pass; everything is reduced layer by layer."""
    continuations = [case.prefix_tokens for case in cases]
    targets = [case.target_token for case in cases]

    def encode(pictures: list[Image.Image]):
        return model.encode(model.embed_pictures(pictures, prompt), prompt, continuations)

    # Both passes have the same shape, so an unchanged picture differs from itself by exactly 0.
    original = image_gradients(
        model, encode([case.original for case in cases]), targets, [*sites, "pre"]
    )
    inpainted = image_activations(model, encode([case.inpainted for case in cases]), sites)
    arrays = {"logit": original.logits.float().cpu().numpy()}
    arrays["attribution"] = _stack(
        mean_over_patches(attribution(z, g))
        for z, g in zip(original.activations["pre"], original.gradients["pre"], strict=True)
    )
    for site in sites:
        arrays |= _reduce_site(model, original, inpainted, targets, site, full)
        held[site].append(_stack(a.half() for a in original.activations[site]))
    return arrays


def _reduce_site(
    model: MultimodalModel,
    original: ImageRecord,
    inpainted: ImageRecord,
    targets: Sequence[int],
    site: Kind,
    full: bool,
) -> dict[str, np.ndarray]:
    active, gradient = original.activations[site], original.gradients[site]
    tokens = torch.tensor(list(targets), device=model.device)
    projections = [
        token_projection(ffn.output_rows(), model.unembedding(), tokens).to(model.device).T[:, None]
        for ffn in model.sites("language")
    ]
    arrays = {
        "contribution": _stack(
            mean_over_patches(contribution(a, p)) for a, p in zip(active, projections, strict=True)
        ),
        "mean_square": _stack(a.square().mean(dim=(1, 2)) for a in active),
    }
    if full:
        arrays["original"] = _stack(active)
        arrays["inpainted"] = _stack(inpainted.activations[site])
        arrays["gradient"] = _stack(gradient)
    else:
        pairs = zip(active, inpainted.activations[site], strict=True)
        arrays["difference"] = _stack(over_patches(activation_difference(o, i)) for o, i in pairs)
        pairs = zip(active, gradient, strict=True)
        arrays["gradact"] = _stack(over_patches(gradient_activation(a, g)) for a, g in pairs)
    return {f"{site}/{name}": values for name, values in arrays.items()}


def _stack(layers) -> np.ndarray:
    """One `batch x ...` tensor a layer to `batch x L x ...` on the host."""
    return torch.stack(list(layers), dim=1).cpu().numpy()
