"""Noise on the output rows of a caption's best neurons (Pan et al. 2024, Tables 5 and 11)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch

from mmneurons.interventions.noise import standard_noise
from mmneurons.interventions.noisy_captions import NeuronSet, neuron_sets
from mmneurons.interventions.weights import changed_rows_each, output_row
from mmneurons.methods.two_stage_selection import select_random
from mmneurons.models.base import MultimodalModel
from mmneurons.models.captions import caption_text, fill_prompt


@dataclass(frozen=True)
class WeightNoiseSettings:
    """levels: standard deviations in `unit` ("absolute" or "row"); draws of noise a level."""

    levels: Sequence[float]
    unit: str
    draws: int
    seed: int


def whole_pictures(concepts: pd.DataFrame, n_samples: int, seed: int) -> pd.DataFrame:
    """Concepts of a random order of pictures, all of a picture, until there are `n_samples`.

    concepts: sample_id, picture_id. The last picture is taken whole, so there may be a few more.
    """
    pictures = np.random.default_rng(seed).permutation(sorted(concepts["picture_id"].unique()))
    counts = concepts["picture_id"].value_counts()
    before = counts.reindex(pictures).cumsum().shift(fill_value=0)
    kept = before.index[before < n_samples]
    rows = concepts[concepts["picture_id"].isin(set(kept))]
    return rows.sort_values("sample_id", kind="stable", ignore_index=True)


def disturbed_sets(
    neurons: pd.DataFrame, units_per_layer: int, seeds: int, seed: int
) -> dict[str, list[NeuronSet]]:
    """By sample: its neurons, and `seeds` random sets with as many from the same layers.

    neurons: a neuron table with only the neurons to disturb. The random sets depend on the sample
    and the seed only and have none of the sample's own neurons.
    """
    samples = neurons[["sample_id", "group"]].drop_duplicates()
    sets: dict[str, list[NeuronSet]] = {}
    if len(samples):
        controls = select_random(samples, neurons, units_per_layer, seeds, seed)
        for method, table in (("contribution", neurons), ("random", controls)):
            for neuron_set in neuron_sets(method, "plain", table):
                sets.setdefault(neuron_set.sample_id, []).append(neuron_set)
    return sets


def noised_captions(
    model: MultimodalModel,
    prompt: dict[str, str],
    image_tokens: torch.Tensor,
    picture_id: str,
    caption_before: str,
    sets: Sequence[NeuronSet],
    settings: WeightNoiseSettings,
    batch_size: int,
    max_new_tokens: int,
) -> Iterator[dict]:
    """Caption one picture under every level and draw of noise on each set of one sample.

    image_tokens: `image tokens x hidden` of the sample's picture; sets: as `disturbed_sets`, of
    one size. Every caption of a batch is made with its own disturbed rows. A draw is the same
    vector at all levels. Yields rows of weight_noise.parquet.
    """
    if len({len(neuron_set.neurons) for neuron_set in sets}) > 1:
        raise ValueError("the sets of neurons to disturb differ in size")
    noise = [row_noise(model, neuron_set, settings) for neuron_set in sets]
    cells = list(product(range(len(sets)), settings.levels, range(settings.draws)))
    for start in range(0, len(cells), batch_size):
        batch = cells[start : start + batch_size]
        neurons = np.stack([sets[place].neurons for place, _, _ in batch])
        deltas = torch.stack([level * noise[place][draw] for place, level, draw in batch])
        encoded = model.encode(image_tokens.expand(len(batch), -1, -1), fill_prompt(prompt))
        with changed_rows_each(model, neurons, deltas):
            generated = model.generate(encoded, max_new_tokens)
        for (place, level, draw), ids in zip(batch, generated, strict=True):
            yield {
                "sample_id": sets[place].sample_id,
                "group": sets[place].group,
                "picture_id": picture_id,
                "method": sets[place].method,
                "seed": sets[place].seed,
                "unit": settings.unit,
                "level": float(level),
                "draw": draw,
                "caption_before": caption_before,
                "caption": caption_text(model, prompt["prefix"], ids)["caption"],
            }


def row_noise(
    model: MultimodalModel, neuron_set: NeuronSet, settings: WeightNoiseSettings
) -> list[torch.Tensor]:
    """The noise of level 1, one `neurons x hidden` a draw.

    It depends on the set's sample, method and seed, never on the batch, the shard or the level.
    """
    neurons, hidden = neuron_set.neurons, model.unembedding().shape[1]
    name = f"rows/{neuron_set.method}/{neuron_set.sample_id}/{neuron_set.seed}"
    scale = row_scale(model, neurons, settings.unit)[:, None]
    return [
        scale * standard_noise(settings.seed, name, draw, len(neurons), hidden, "per-position")
        for draw in range(settings.draws)
    ]


def row_scale(model: MultimodalModel, neurons: np.ndarray, unit: str) -> torch.Tensor:
    """What a level of 1 means for each neuron, `neurons`.

    unit: "absolute" (1; the paper's level is 0.5) or "row" (root mean square of the neuron's
    output row).
    """
    if unit == "absolute":
        return torch.ones(len(neurons))
    if unit != "row":
        raise ValueError(f"noise on weights is in units of 'row' or 'absolute', not {unit!r}")
    rows = [output_row(model, layer, unit_).float() for layer, unit_ in neurons.tolist()]
    return torch.tensor([row.square().mean().sqrt().item() for row in rows])
