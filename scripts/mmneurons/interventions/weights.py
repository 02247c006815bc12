"""Changed output rows of chosen neurons, for as long as a `with` block lasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from mmneurons.models.base import FfnSite, MultimodalModel
from mmneurons.models.loading import LoadingError, is_quantised


@contextmanager
def changed_rows(
    model: MultimodalModel, neurons: np.ndarray, delta: torch.Tensor
) -> Iterator[None]:
    """While open, `delta` is added to the neurons' rows of W_out; then they are as before.

    neurons: rows (layer, unit); delta: `neurons x hidden`. Only these rows are copied, and the
    copies are put back bit for bit, whatever happens inside. Blocks may be nested, also on the
    same neurons: their changes add up. The sum is rounded to the weights' number format. Raises
    ValueError, before anything is changed, for a neuron that is given twice or does not exist, and
    for a delta of another shape or with values that are not finite.
    """
    _check(model, neurons, delta)
    rows = [output_row(model, layer, unit) for layer, unit in neurons.tolist()]
    before = [row.clone() for row in rows]
    try:
        for row, change in zip(rows, delta, strict=True):
            row.copy_(row + change.to(row.device))
        yield
    finally:
        for row, values in zip(rows, before, strict=True):
            row.copy_(values)


@contextmanager
def changed_rows_each(
    model: MultimodalModel, neurons: np.ndarray, deltas: torch.Tensor
) -> Iterator[None]:
    """As `changed_rows`, but every row of a batch has its own neurons and its own changes.

    neurons: `batch x neurons x 2`; deltas: `batch x neurons x hidden`. The FFN's output is linear
    in W_out, so o_i delta_i is added to it and the weights stay as they are. The model only takes
    batches of this size meanwhile. Raises ValueError as `changed_rows` does.
    """
    if len(neurons) != len(deltas):
        raise ValueError(f"neurons for {len(neurons)} rows of a batch, changes for {len(deltas)}")
    for own, delta in zip(neurons, deltas, strict=True):
        _check(model, own, delta)
    layers, units = torch.from_numpy(neurons).long().unbind(dim=-1)
    deltas = deltas.cpu()
    with ExitStack() as stack:
        for site in model.sites("language"):
            here = layers == site.layer
            if here.any():
                change = _addition(units, deltas * here[..., None])
                stack.callback(site.output.register_forward_hook(change).remove)
        yield


def output_row(model: MultimodalModel, layer: int, unit: int) -> torch.Tensor:
    """A neuron's row of W_out, `hidden`: a view, so that writing to it changes the model.

    Raises LoadingError where weights are in 8 bits, to which nothing can be added.
    """
    sites = model.sites("language")
    _refuse_quantised(sites)
    return sites[layer].output.weight.detach()[:, unit]


def _addition(units: torch.Tensor, deltas: torch.Tensor):
    """A hook that adds activation x change; units: `batch x neurons`."""

    def add(_module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        passing = args[0]
        places = units.to(passing.device)[:, None].expand(-1, passing.shape[1], -1)
        chosen = passing.gather(2, places)
        return output + chosen @ deltas.to(chosen.device, chosen.dtype)

    return add


def _check(model: MultimodalModel, neurons: np.ndarray, delta: torch.Tensor) -> None:
    sites = model.sites("language")
    _refuse_quantised(sites)
    hidden = model.unembedding().shape[1]
    if delta.shape != (len(neurons), hidden):
        raise ValueError(
            f"changes of {len(neurons)} rows of {hidden} values have shape {tuple(delta.shape)}"
        )
    if not delta.isfinite().all():
        raise ValueError("changes of output rows are not all finite")
    for layer, unit in neurons.tolist():
        if not (0 <= layer < len(sites) and 0 <= unit < sites[layer].n_units):
            raise ValueError(f"the model has no neuron language/L{layer}.U{unit}")
    if len(np.unique(neurons, axis=0)) < len(neurons):
        raise ValueError("a neuron is given twice")


def _refuse_quantised(sites: Sequence[FfnSite]) -> None:
    if any(is_quantised(site.output) for site in sites):
        raise LoadingError(
            "output rows in 8 bits cannot be changed: edits and noise on weights need a model "
            "without compute.quantization"
        )
