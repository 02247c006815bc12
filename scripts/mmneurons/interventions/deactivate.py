"""Deactivating neurons: their activation is zero at every token (Huo et al. 2024, section 4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pandas as pd
import torch

from mmneurons.models.base import FfnSite, Module, MultimodalModel
from mmneurons.probe.hooks import replace


@contextmanager
def deactivated(
    model: MultimodalModel,
    neurons: Sequence[pd.DataFrame],
    owners: Mapping[Module, torch.Tensor] | None = None,
    where: torch.Tensor | None = None,
) -> Iterator[None]:
    """While open, the outputs of the activation functions of these neurons are zero.

    neurons: tables with the columns module, layer and unit, one a row of the batch, or a single one
    for all rows; a neuron may stand in a table twice. owners: of a module whose rows are not those
    of the batch, the row that each belongs to (`model.owners`); beams follow one another. In a
    gated FFN that zeroes the product with the other branch too. where: of language neurons, the
    tokens of the prompt at which they are zero, `batch x tokens`; everywhere without it. Tokens
    that are generated behind the prompt are none of them. No weight is touched.

    Raises ValueError for a layer that the model does not have.
    """
    together = pd.concat(neurons, keys=range(len(neurons)), names=["row", None])
    together = together.reset_index("row")
    modules = together["module"].unique()
    sites = {(s.module, s.layer): s for module in modules for s in model.sites(module)}
    off: dict[tuple[Module, int], torch.Tensor] = {}
    for place, own in together.groupby(["module", "layer"]):
        if place not in sites:
            raise ValueError(f"{model.family} has no layer {place[1]} of module {place[0]}")
        off[place] = torch.zeros(len(neurons), sites[place].n_units, dtype=torch.bool)
        off[place][own["row"].tolist(), own["unit"].tolist()] = True

    def silence(site: FfnSite, activations: torch.Tensor) -> torch.Tensor:
        silent = off[site.module, site.layer].to(activations.device)
        if owners and site.module in owners:
            silent = silent[owners[site.module].to(activations.device)]
        elif len(silent) > 1:
            silent = silent.repeat_interleave(len(activations) // len(silent), dim=0)
        silent = silent[:, None]
        if where is not None:
            if activations.shape[1] != where.shape[1]:
                return activations  # a cached step, behind the prompt
            silent = silent & where.to(activations.device)[:, :, None]
        return activations.masked_fill(silent, 0)

    with replace([sites[place] for place in off], "act", silence):
        yield


def conditions(modules: Iterable[Module], masks: str) -> dict[str, tuple[Module, ...]]:
    """What is deactivated together, by name: every part of the model, and all of them.

    modules: those that the model has. The Q-Former's branches are one part. masks: "paper"
    takes each part by itself; "released" takes the projector with the vision encoder, as the
    paper's code does.
    """
    modules = tuple(modules)
    parts: dict[str, tuple[Module, ...]] = {}
    for module in modules:
        name = module.partition(".")[0]
        parts[name] = (*parts.get(name, ()), module)
    if masks == "released" and {"vision", "projector"} <= parts.keys():
        parts["vision"] += parts["projector"]
    return {**parts, "all": modules}
