"""How often each neuron is active: the counts that DAPE reads (Huo et al. 2024, section 3.1).

A neuron is active at a token where the output of its activation function is above zero. Counted are
all tokens that a module sees, in one pass over prompts without an answer: class tokens and every
tile in the vision tower, image tokens and text in the language model, padding nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from mmneurons.models.base import FfnSite, Module, MultimodalModel
from mmneurons.probe.hooks import Kind, watch, watch_outputs

MODULES: tuple[Module, ...] = ("vision", "projector", "qformer.query", "qformer.text", "language")


@dataclass(frozen=True)
class BatchCounts:
    """What was counted in a batch, on the CPU.

    counts: of each module `batch x units`, layers one after the other; tokens: `batch` each;
    embeddings: of the pictures, `batch x hidden`, None where the family has none.
    """

    counts: dict[Module, torch.Tensor]
    tokens: dict[Module, torch.Tensor]
    embeddings: torch.Tensor | None


class ActivationCounter:
    """Counts active neurons of all modules that a model has; keeps its buffers between batches."""

    def __init__(self, model: MultimodalModel):
        self.model = model
        self.sites = {module: model.sites(module) for module in MODULES if model.sites(module)}
        self._buffers: dict[tuple[torch.device, int], torch.Tensor] = {}

    @property
    def layers(self) -> dict[Module, list[int]]:
        """Units of each layer of each module."""
        return {module: [s.n_units for s in sites] for module, sites in self.sites.items()}

    @torch.no_grad()
    def count(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> BatchCounts:
        """One pass over a batch; prompts: filled, one a picture."""
        model, sizes = self.model, [picture.size for picture in pictures]
        batch = len(sizes)
        found: dict[Module, list[torch.Tensor]] = {module: [] for module in self.sites}
        tokens: dict[Module, torch.Tensor] = {}
        owners: dict[Module, torch.Tensor] = {}
        counted: dict[Module, tuple[torch.Tensor, torch.Tensor | None]] = {}
        pooled: list[torch.Tensor] = []

        def observe(site: FfnSite, _kind: Kind, activations: torch.Tensor) -> None:
            module = site.module
            if module not in counted:
                counted[module] = _counted(owners[module], activations.shape[1], batch)
                weights, rows = counted[module]
                tokens[module] = _by_row(weights.sum(dim=2), rows)[:, 0].long()
            weights, rows = counted[module]
            active = self._active(activations)
            active = torch.bmm(weights.to(active.device), active)[:, 0].to(model.device)
            found[module].append(_by_row(active, rows))

        encoders = [encoder] if (encoder := model.image_encoder()) is not None else []
        before = [module for module in self.sites if module != "language"]
        for module in before:
            owners[module] = model.owners(module, None, sizes, prompts)
        with (
            watch([site for module in before for site in self.sites[module]], ["act"], observe),
            watch_outputs(encoders, lambda output: pooled.append(output.pooler_output)),
        ):
            image_tokens = model.embed_pictures(pictures, prompts)
        encoded = model.encode(image_tokens, prompts)
        owners["language"] = model.owners("language", encoded, sizes, prompts)
        with watch(self.sites["language"], ["act"], observe):
            model.final_states(encoded)
        embeddings = None
        if pooled:
            # Of a picture in tiles, the first one is the whole.
            first = torch.searchsorted(
                owners["vision"], torch.arange(len(sizes), device=model.device)
            )
            embeddings = pooled[0].to(model.device)[first].float().cpu()
        counts = {module: torch.cat(parts, dim=1).long().cpu() for module, parts in found.items()}
        return BatchCounts(counts, {module: n.cpu() for module, n in tokens.items()}, embeddings)

    def _active(self, activations: torch.Tensor) -> torch.Tensor:
        """1 where a unit is above zero, in float32: sums up to 2 ** 24 are exact."""
        shape, place = activations.shape, (activations.device, activations.shape[2])
        if place not in self._buffers or self._buffers[place].shape != shape:
            # Texts differ in length: only the latest shape of each width is worth keeping.
            self._buffers[place] = torch.empty(shape, device=activations.device)
        return torch.gt(activations, 0, out=self._buffers[place])


def _counted(
    owners: torch.Tensor, n_positions: int, batch: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """1 where a position is counted, `rows x 1 x positions`, and whose each row of the module is.

    The latter as 1 and 0, `batch x rows`; None stands for rows that are those of the batch.
    """
    if owners.dim() == 2:
        return (owners >= 0).float()[:, None], None
    weights = torch.ones(len(owners), 1, n_positions, device=owners.device)
    if len(owners) == batch:
        return weights, None
    return weights, (owners == torch.arange(batch, device=owners.device)[:, None]).float()


def _by_row(values: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
    """Values of the module's rows, `rows x n`, added up for each row of the batch."""
    return values if rows is None else rows @ values
