"""Concepts planted in a few FFN units: what was added to their weights, and laying it over a model.

A planting is a known answer: a model that had never seen an object was taught it by training these
units only (`world/planting.py`), so whatever it knows of the object is in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmneurons.artifacts.tensors import TensorFile, write_tensors
from mmneurons.models.base import FfnSite, MultimodalModel
from mmneurons.models.loading import LoadingError, is_quantised


@dataclass(frozen=True)
class Planting:
    """Changes to the weights of `m` units of the language model.

    units: rows (layer, unit), `m x 2`; inputs: added to each unit's row of each projection that it
    reads by, `m x projections x hidden`, in the order of `FfnSite.inputs`; biases: added to its
    biases there, `m x projections`, zeros where the projections have none; output: added to its
    column of the output projection, `m x hidden`.
    """

    units: np.ndarray
    inputs: np.ndarray
    biases: np.ndarray
    output: np.ndarray

    @property
    def layers(self) -> list[int]:
        """The layers that have planted units, first one first."""
        return sorted(set(self.units[:, 0].tolist()))

    def in_words(self) -> str:
        """How many units of which layers, such as "4 of layer 3, 4 of layer 4"."""
        counts = Counter(self.units[:, 0].tolist())
        return ", ".join(f"{counts[layer]} of layer {layer}" for layer in self.layers)


def write_planting(planting: Planting, path: str | Path) -> None:
    """Write a planting as a safetensors file with the four arrays."""
    write_tensors(vars(planting), path)


def read_planting(path: str | Path) -> Planting:
    """Read what `write_planting` wrote."""
    tensors = TensorFile(path)
    return Planting(**{name: tensors[name] for name in tensors.names})


@contextmanager
def planted(model: MultimodalModel, planting: Planting) -> Iterator[None]:
    """While open, the planting is in the weights; then they are as before, bit for bit.

    Raises ValueError, before anything is changed, where the planting does not fit the model, and
    LoadingError where weights are in 8 bits.
    """
    check_fits(model, planting)
    changes = list(_changes(model, planting))
    before = [part.clone() for part, _ in changes]
    try:
        for part, change in changes:
            part.copy_(part + torch.from_numpy(change).to(part.device))
        yield
    finally:
        for (part, _), values in zip(changes, before, strict=True):
            part.copy_(values)


def check_fits(model: MultimodalModel, planting: Planting) -> None:
    """Raise ValueError for a planting of another model, LoadingError for weights of 8 bits."""
    sites = model.sites("language")
    m, hidden = len(planting.units), model.unembedding().shape[1]
    if len(np.unique(planting.units, axis=0)) < m:
        raise ValueError("a planting names a unit twice")
    for layer, unit in planting.units.tolist():
        if not (0 <= layer < len(sites) and 0 <= unit < sites[layer].n_units):
            raise ValueError(f"the model has no unit language/L{layer}.U{unit}")
    own = [sites[layer] for layer in planting.layers]
    projections = {len(site.inputs) for site in own}
    shape = (m, *projections, hidden)
    if planting.inputs.shape != shape or planting.output.shape != (m, hidden):
        raise ValueError(f"a planting of {planting.inputs.shape} does not fit a model of {shape}")
    if any(is_quantised(linear) for site in own for linear in (site.output, *site.inputs)):
        raise LoadingError("a planting needs a model without compute.quantization")
    biased = {linear.bias is not None for site in own for linear in site.inputs}
    if biased == {False} and planting.biases.any():
        raise ValueError("a planting changes biases that the model does not have")


def _changes(model: MultimodalModel, planting: Planting) -> Iterator[tuple[torch.Tensor, object]]:
    """Views of the weights that change, each with what is added to it."""
    sites: list[FfnSite] = model.sites("language")
    for place, (layer, unit) in enumerate(planting.units.tolist()):
        site = sites[layer]
        yield site.output.weight.detach()[:, unit], planting.output[place]
        for number, linear in enumerate(site.inputs):
            yield linear.weight.detach()[unit], planting.inputs[place, number]
            if linear.bias is not None:
                bias = linear.bias.detach()[unit : unit + 1]
                yield bias, planting.biases[place, number : number + 1]
