"""Where on the picture a concept's best neurons are active."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from mmneurons.models.base import FfnSite, MultimodalModel
from mmneurons.probe.concepts import Captioned
from mmneurons.probe.hooks import Kind, watch
from mmneurons.probe.top import Top

# Best neurons with a map of their own, beside the means.
SINGLE_MAPS = 5


@torch.no_grad()
def top_maps(
    model: MultimodalModel,
    batch: Captioned,
    tops: Mapping[Kind, Top],
    top_k: Sequence[int],
    patch_weights: torch.Tensor | None,
) -> dict[Kind, torch.Tensor]:
    """Activations at the image tokens: `concepts x (len(top_k) + SINGLE_MAPS) x patches`.

    First the means over the best `top_k` neurons, then the best ones alone (zeros where there are
    fewer). patch_weights: `batch x image tokens x patches` where image tokens are queries; their
    activations are then spread over the patches that they read. It takes one pass over the prompts:
    the best neurons are known by then, so that all others are dropped layer by layer.
    """
    encoded, sites = batch.encoded, model.sites("language")
    place = {id(ffn): i for i, ffn in enumerate(sites)}
    pictures = torch.arange(len(encoded.image), device=model.device)[:, None]
    shares = {kind: _shares(top, top_k) for kind, top in tops.items()}
    shape = (len(batch.rows), len(top_k) + SINGLE_MAPS, encoded.image.shape[1])
    maps = {kind: torch.zeros(shape, device=model.device) for kind in tops}

    def add(ffn: FfnSite, kind: Kind, tensor: torch.Tensor) -> None:
        own = tensor[pictures.to(tensor.device), encoded.image.to(tensor.device)]
        active = own.float().to(model.device)  # batch x image tokens x units
        picked = _by_unit(tops[kind], shares[kind], place[id(ffn)], ffn.n_units)
        for row in batch.rows.unique().tolist():
            concepts = batch.rows == row
            maps[kind][concepts] += picked[concepts] @ active[row].T

    with watch(sites, list(tops), add):
        model.final_states(encoded)
    if patch_weights is None:
        return maps
    weights = patch_weights.float()[batch.rows]
    return {kind: values @ weights for kind, values in maps.items()}


def _shares(top: Top, top_k: Sequence[int]) -> torch.Tensor:
    """How much the neuron of each rank counts in each map: `maps x ranks`."""
    n_ranks = top.scores.shape[1]
    ranks = torch.arange(n_ranks, device=top.scores.device)
    means = [(ranks < k) / min(k, n_ranks) for k in top_k]
    return torch.stack([*means, *((ranks == rank).float() for rank in range(SINGLE_MAPS))])


def _by_unit(top: Top, shares: torch.Tensor, place: int, n_units: int) -> torch.Tensor:
    """The shares of one layer's units: `concepts x maps x units`."""
    in_layer = top.layers == place
    counts = shares * in_layer[:, None]  # concepts x maps x ranks
    units = torch.where(in_layer, top.units, 0)[:, None].expand_as(counts)
    return counts.new_zeros(*counts.shape[:2], n_units).scatter_add_(2, units, counts)
