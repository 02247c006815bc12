"""Deactivating neurons: their activation is zero at every token (Huo et al. 2024, section 4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pandas as pd
import torch

from mmneurons.models.base import FfnSite, Module, MultimodalModel
from mmneurons.probe.hooks import replace


@contextmanager
def deactivated(model: MultimodalModel, neurons: pd.DataFrame) -> Iterator[None]:
    """While open, the outputs of the activation functions of these neurons are zero.

    neurons: columns module, layer, unit; a neuron may stand in several rows. In a gated FFN that
    zeroes the product with the other branch too. Nothing of the weights is touched.
    """
    modules = neurons["module"].unique()
    sites = {(s.module, s.layer): s for module in modules for s in model.sites(module)}
    units = {
        place: torch.tensor(sorted(set(rows["unit"])), device=model.device)
        for place, rows in neurons.groupby(["module", "layer"])
    }
    unknown = set(units) - set(sites)
    if unknown:
        raise ValueError(f"{model.family} has no layers {sorted(unknown)}")

    def silence(site: FfnSite, activations: torch.Tensor) -> torch.Tensor:
        return activations.index_fill(-1, units[site.module, site.layer], 0)

    with replace([sites[place] for place in units], "act", silence):
        yield


def conditions(modules: Iterable[Module], masks: str) -> dict[str, tuple[Module, ...]]:
    """What is deactivated together, by name: every part of the model, and all of them.

    modules: those that the model has. The Q-Former's branches are one part. masks: "paper"
    takes each part by itself; "released" takes the projector with the vision encoder, as the
    paper's code does. A condition that would repeat another is left out.
    """
    parts: dict[str, tuple[Module, ...]] = {}
    for module in modules:
        name = module.partition(".")[0]
        parts[name] = (*parts.get(name, ()), module)
    if masks == "released" and {"vision", "projector"} <= parts.keys():
        parts["vision"] += parts["projector"]
    return {**parts, "all": tuple(modules)}
