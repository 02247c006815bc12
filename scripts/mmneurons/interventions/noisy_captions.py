"""Captions of pictures while chosen neurons carry noise: the causal test of two-stage filtering."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch

from mmneurons.interventions.noise import image_noise, layer_scale, standard_noise
from mmneurons.models.base import MultimodalModel
from mmneurons.models.captions import caption_text, fill_prompt
from mmneurons.probe.hooks import Kind


@dataclass(frozen=True)
class NoiseSettings:
    """levels in `unit` ("absolute" or "rms"); draws a level; vector and mode as in `noise`."""

    levels: Sequence[float]
    unit: str
    draws: int
    vector: str
    mode: str
    seed: int


@dataclass(frozen=True)
class NeuronSet:
    """The neurons that one method found on one sample: `neurons` has rows (layer, unit)."""

    method: str
    variant: str
    seed: int
    sample_id: str
    group: str
    neurons: np.ndarray


def captioned_pictures(samples: pd.DataFrame, n_others: int, seed: int) -> dict[str, list[str]]:
    """For each sample, the samples whose originals are captioned under its neurons' noise.

    All of its own concept, and `n_others` of other concepts in an order by hash, so that the
    choice for one sample does not depend on the rest of the table's order.
    """
    chosen = {}
    for sample in samples.itertuples():
        own = samples.loc[samples["group"] == sample.group, "sample_id"].tolist()
        others = samples.loc[samples["group"] != sample.group, "sample_id"].tolist()
        others.sort(key=lambda name, of=sample.sample_id: _order(seed, of, name))
        chosen[sample.sample_id] = own + others[:n_others]
    return chosen


def noisy_captions(
    model: MultimodalModel,
    prompt: dict[str, str],
    image_tokens: Mapping[str, torch.Tensor],
    groups: Mapping[str, str],
    neuron_set: NeuronSet,
    pictures: Sequence[str],
    settings: NoiseSettings,
    mean_square: np.ndarray,
    site: Kind,
    batch_size: int,
    max_new_tokens: int,
) -> Iterator[dict]:
    """Caption every picture under every level and draw of noise on one set of neurons.

    image_tokens: `image tokens x hidden` of each picture, encoded once whatever the number of
    draws; groups: concept of each picture; mean_square: one a layer. Batches are cut from this
    set's own captions, so the other sets of a job do not change them. Yields rows of noise.parquet.
    """
    neurons = neuron_set.neurons
    n_tokens = next(iter(image_tokens.values())).shape[0]
    scale = layer_scale(neurons, settings.unit, mean_square)[:, None]
    name = f"{neuron_set.sample_id}/{neuron_set.seed}"
    draws = [
        scale * standard_noise(settings.seed, name, draw, len(neurons), n_tokens, settings.vector)
        for draw in range(settings.draws)
    ]
    cells = list(product(pictures, settings.levels, range(settings.draws)))
    for start in range(0, len(cells), batch_size):
        batch = cells[start : start + batch_size]
        tokens = torch.stack([image_tokens[picture] for picture, _, _ in batch])
        noise = torch.stack([level * draws[draw] for _, level, draw in batch])
        encoded = model.encode(tokens, fill_prompt(prompt))
        with image_noise(model, encoded, neurons, noise, site, settings.mode):
            generated = model.generate(encoded, max_new_tokens)
        for (picture, level, draw), ids in zip(batch, generated, strict=True):
            yield {
                "method": neuron_set.method,
                "variant": neuron_set.variant,
                "seed": neuron_set.seed,
                "sample_id": neuron_set.sample_id,
                "group": neuron_set.group,
                "picture_id": picture,
                "picture_group": groups[picture],
                "level": float(level),
                "draw": draw,
                "caption": caption_text(model, prompt["prefix"], ids)["caption"],
            }


def neuron_sets(method: str, variant: str, table: pd.DataFrame) -> Iterator[NeuronSet]:
    """The sets of a neuron table, one a sample (and seed); a sample without neurons has none."""
    table = table if "seed" in table else table.assign(seed=0)
    for (sample_id, seed), rows in table.groupby(["sample_id", "seed"], sort=False):
        neurons = rows[["layer", "unit"]].to_numpy(np.int64)
        yield NeuronSet(method, variant, int(seed), sample_id, rows["group"].iloc[0], neurons)


def _order(seed: int, sample_id: str, other: str) -> bytes:
    return hashlib.sha256(f"{seed}/{sample_id}/{other}".encode()).digest()
