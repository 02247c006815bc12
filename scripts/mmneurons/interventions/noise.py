"""Noise on chosen neurons at the image tokens (Sato & Takagi 2025, III-C)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch

from mmneurons.models.base import Encoded, FfnSite, MultimodalModel
from mmneurons.probe.hooks import Kind, replace


def standard_noise(
    seed: int, name: str, draw: int, n_neurons: int, n_tokens: int, vector: str
) -> torch.Tensor:
    """The standard normal vector of one draw, `neurons x image tokens`.

    It depends on its name and number only, never on the batch or the shard that it is used in, and
    it is the same for all levels and pictures. vector: "per-position" (an own value for each
    neuron and position) or "shared" (one value a neuron for all positions); the paper does not say.
    """
    digest = hashlib.sha256(f"{seed}/{name}/{draw}".encode()).digest()
    rng = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
    width = n_tokens if vector == "per-position" else 1
    values = rng.standard_normal((n_neurons, width), dtype=np.float32)
    return torch.from_numpy(np.broadcast_to(values, (n_neurons, n_tokens)).copy())


@contextmanager
def image_noise(
    model: MultimodalModel,
    encoded: Encoded,
    neurons: np.ndarray,
    noise: torch.Tensor,
    site: Kind,
    mode: Literal["add", "replace"] = "add",
) -> Iterator[None]:
    """While open, the neurons carry noise at the image tokens of the encoded batch.

    neurons: rows (layer, unit); noise: `batch x neurons x image tokens`, already scaled to its
    level. Only a pass over the whole prompt holds the image tokens; the single-token steps of
    cached decoding pass untouched.
    """
    by_layer = _by_layer(neurons)
    sites = [ffn for ffn in model.sites("language") if ffn.layer in by_layer]
    rows = torch.arange(len(encoded.image))[:, None, None]
    positions = encoded.image[:, None, :]

    def add(ffn: FfnSite, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape[1] < encoded.prompt_end:
            return tensor
        which, units = by_layer[ffn.layer]
        units = torch.from_numpy(units)[None, :, None]
        where = tuple(index.to(tensor.device) for index in (rows, positions, units))
        values = noise[:, torch.from_numpy(which)].to(tensor.device, tensor.dtype)
        noisy = tensor.clone()
        noisy[where] = noisy[where] + values if mode == "add" else values
        return noisy

    with replace(sites, site, add):
        yield


def layer_scale(
    neurons: np.ndarray, unit: str, mean_square: Sequence[float] | np.ndarray
) -> torch.Tensor:
    """What a level of 1 means for each neuron: `neurons`.

    unit: "absolute" (1) or "rms" (root mean square of the neuron's layer at image tokens, from
    `mean_square`, one a layer).
    """
    if unit == "absolute":
        return torch.ones(len(neurons))
    if unit != "rms":
        raise ValueError(f"noise is in units of 'rms' or 'absolute', not {unit!r}")
    return torch.from_numpy(np.sqrt(np.asarray(mean_square, np.float32))[neurons[:, 0]])


def _by_layer(neurons: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Layer to (places in `neurons`, units)."""
    layers = np.unique(neurons[:, 0]) if len(neurons) else []
    places = {int(layer): np.flatnonzero(neurons[:, 0] == layer) for layer in layers}
    return {layer: (which, neurons[which, 1].astype(np.int64)) for layer, which in places.items()}
