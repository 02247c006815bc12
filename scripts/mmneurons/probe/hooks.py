"""Reading and replacing what passes an FFN site, for as long as a `with` block lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import nn

from mmneurons.models.base import FfnSite

# pre: input of the activation function; act: its output; post: input of the output projection.
Kind = Literal["pre", "act", "post"]
Observer = Callable[[FfnSite, Kind, torch.Tensor], None]
Change = Callable[[FfnSite, torch.Tensor], torch.Tensor]


@contextmanager
def watch(sites: Iterable[FfnSite], kinds: Sequence[Kind], observer: Observer) -> Iterator[None]:
    """Call `observer(site, kind, tensor)` with each `batch x tokens x units` tensor as it passes.

    The tensor is the network's own, in its graph; an observer that keeps it keeps the graph. A
    module without a batch, which sees `positions x units`, shows `positions x 1 x units`.
    """
    with ExitStack() as stack:
        for site in sites:
            for kind in kinds:
                _attach(stack, site, kind, _reader(site, kind, observer))
        yield


@contextmanager
def record(
    sites: Sequence[FfnSite], kinds: Sequence[Kind]
) -> Iterator[dict[Kind, list[torch.Tensor]]]:
    """Keep the latest tensor of each kind: `recorded[kind][i]` belongs to `sites[i]`."""
    recorded: dict[Kind, list] = {kind: [None] * len(sites) for kind in kinds}
    place = {id(site): i for i, site in enumerate(sites)}

    def keep(site: FfnSite, kind: Kind, tensor: torch.Tensor) -> None:
        recorded[kind][place[id(site)]] = tensor

    with watch(sites, kinds, keep):
        yield recorded


@contextmanager
def replace(sites: Iterable[FfnSite], kind: Kind, change: Change) -> Iterator[None]:
    """Let `change(site, tensor)` take the place of each tensor, which is as `watch` shows it."""
    with ExitStack() as stack:
        for site in sites:
            _attach(stack, site, kind, _writer(site, change))
        yield


@contextmanager
def watch_outputs(modules: Iterable[nn.Module], observer: Callable[[Any], None]) -> Iterator[None]:
    """Call `observer(output)` with what each module puts out at every pass."""
    with ExitStack() as stack:
        for module in modules:
            handle = module.register_forward_hook(lambda _module, _args, output: observer(output))
            stack.callback(handle.remove)
        yield


def _attach(stack: ExitStack, site: FfnSite, kind: Kind, on_tensor: Callable) -> None:
    """Hook the module and side that carry `kind`; removal is left to the stack."""
    module: nn.Module = site.output if kind == "post" else site.activation
    if kind == "act":
        handle = module.register_forward_hook(lambda _module, _args, output: on_tensor(output))
    else:
        handle = module.register_forward_pre_hook(lambda _module, args: on_tensor(args[0]))
    stack.callback(handle.remove)


def _reader(site: FfnSite, kind: Kind, observer: Observer) -> Callable:
    def read(tensor: torch.Tensor) -> None:
        observer(site, kind, tensor if tensor.dim() > 2 else tensor[:, None])

    return read


def _writer(site: FfnSite, change: Change) -> Callable:
    def write(tensor: torch.Tensor) -> torch.Tensor:
        return change(site, tensor) if tensor.dim() > 2 else change(site, tensor[:, None])[:, 0]

    return write
