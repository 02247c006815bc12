"""Ablation of a picture's best units: what is left of its noun (Schwettmann et al. 2023, 3.3).

The units with the highest attribution are set to zero; measured are the probability of the noun's
first token, with the caption's beginning as it was, and the caption that is generated anew. Beside
all units stand the interpretable ones alone, and as many random units of the same layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from mmneurons.interventions.deactivate import deactivated
from mmneurons.methods.selection import random_like
from mmneurons.models.base import MultimodalModel
from mmneurons.models.captions import caption_text, fill_prompt, in_batches
from mmneurons.probe.concepts import named_rng
from mmneurons.probe.target import target_probabilities

CONDITIONS = ("all", "interpretable", "random")


class Trial(NamedTuple):
    """Units (module, layer, unit) that are zero together; seed: of random units, else 0."""

    condition: str
    seed: int
    k: int
    neurons: pd.DataFrame


class Case(NamedTuple):
    """A picture's image tokens, `image tokens x hidden`, and the noun of its caption.

    prefix: tokens of the caption before the noun; token: the noun's first.
    """

    picture_id: str
    group: str
    image_tokens: torch.Tensor
    prefix: Sequence[int]
    token: int
    trials: Sequence[Trial]


def plan_ablation(
    units: pd.DataFrame,
    numbers: Sequence[int],
    units_per_layer: Mapping[int, int],
    control_seeds: int,
    seed: int,
) -> tuple[list[Trial], list[dict]]:
    """The trials of one picture, and exclusions where it has too few interpretable units.

    units: its ranked units, sample_id, group, module, layer, unit, rank, interpretable; numbers: k,
    to which 0 is added as the baseline of every condition. Random units are drawn anew for every k
    from the layers of the best k units, as many a layer as these have there; they depend on seeds,
    picture and k only. Raises ValueError where fewer than the largest k are ranked.
    """
    columns = ["module", "layer", "unit"]
    ranked = units.sort_values("rank")
    if len(ranked) < max(numbers):
        raise ValueError(f"{len(ranked)} ranked units, {max(numbers)} are to be ablated")
    sample_id, group = ranked["sample_id"].iloc[0], ranked["group"].iloc[0]
    readable = ranked[ranked["interpretable"]]
    trials, left_out = [], []
    for k in (0, *numbers):
        trials.append(Trial("all", 0, k, ranked[columns].head(k)))
        if k <= len(readable):
            trials.append(Trial("interpretable", 0, k, readable[columns].head(k)))
        else:
            detail = f"{len(readable)} interpretable among {len(ranked)} ranked, {k} wanted"
            own = {"stage": "ablation", "sample_id": sample_id, "group": group}
            left_out.append(own | {"reason": "too-few-units", "detail": detail})
        pairs = ranked[["layer", "unit"]].head(k).to_numpy()
        for draw in range(control_seeds):
            rng = named_rng(seed, "ablation", sample_id, str(draw), str(k))
            drawn = [
                random_like(pairs[pairs[:, 0] == layer], units_per_layer[layer], rng)
                for layer in np.unique(pairs[:, 0])
            ]
            layer, unit = np.concatenate([np.empty((0, 2), np.int64), *drawn]).T
            table = pd.DataFrame({"module": "language", "layer": layer, "unit": unit})
            trials.append(Trial("random", draw, k, table))
    return trials, left_out


def ablate(
    model: MultimodalModel,
    prompt: dict[str, str],
    cases: Sequence[Case],
    max_new_tokens: int,
    positions: Literal["all", "image"],
    batch_size: int,
) -> list[dict]:
    """Rows of ablation.parquet: every trial of every case, `batch_size` of them at once.

    The trials of k = 0 of a case are one and the same, and computed once.
    """
    text = fill_prompt(prompt)
    made: dict[tuple, tuple[float, str]] = {}
    todo = {_key(case, trial): (case, trial) for case in cases for trial in case.trials}
    for part in in_batches(list(todo.items()), batch_size):
        tables = [trial.neurons for _, (_, trial) in part]
        tokens = [case.image_tokens for _, (case, _) in part]
        targets = [case.token for _, (case, _) in part]
        forced = model.encode(tokens, text, [case.prefix for _, (case, _) in part])
        where = forced.image_mask if positions == "image" else None
        with deactivated(model, tables, where=where):
            probabilities = target_probabilities(model, forced, targets).tolist()
        free = model.encode(tokens, text)
        where = free.image_mask if positions == "image" else None
        with deactivated(model, tables, where=where):
            generated = model.generate(free, max_new_tokens)
        captions = [caption_text(model, prompt["prefix"], own)["caption"] for own in generated]
        keys = [key for key, _ in part]
        made |= dict(zip(keys, zip(probabilities, captions, strict=True), strict=True))
    rows = []
    for case in cases:
        for trial in case.trials:
            probability, caption = made[_key(case, trial)]
            row = {"picture_id": case.picture_id, "group": case.group}
            row |= {"condition": trial.condition, "seed": trial.seed, "k": trial.k}
            rows.append(row | {"probability": probability, "caption": caption})
    return rows


def _key(case: Case, trial: Trial) -> tuple:
    named = (trial.condition, trial.seed) if trial.k else ("none", 0)
    return (case.picture_id, *named, trial.k)
