"""The recording that the comparison of methods needs: one concept, every method, the same pictures.

A concept's pictures are captioned as they are and without the object, valid ones are scored by all
methods in one pass, as they are and with their image tokens in another order. What is left of the
scores are the best neurons; of activity, counts of tokens, from which DAPE is computed when all
concepts have been seen.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from mmneurons.datasets.pictures import read_picture
from mmneurons.datasets.validity import valid_samples
from mmneurons.methods.comparison import select_scored
from mmneurons.methods.thresholds import NEVER
from mmneurons.models.base import MultimodalModel
from mmneurons.models.captions import (
    caption_pictures,
    fill_prompt,
    in_batches,
    pictures_to_caption,
)
from mmneurons.probe.concepts import shuffle_order
from mmneurons.probe.every_method import batches, record_case_scores
from mmneurons.probe.hooks import Kind
from mmneurons.probe.memory import peak_bytes
from mmneurons.probe.target import image_activations
from mmneurons.probe.two_stage import Case

ROLES = ("identify", "test")
COST_COLUMNS = {"method": "str", "seconds": "float64", "bytes": "int64", "n_samples": "int64"}


@dataclass(frozen=True)
class ComparisonSettings:
    """methods: those that can run, by name, with the name of the array that ranks their neurons.

    k: neurons of a selection; identify, test: pictures of a concept; draws: splits into halves;
    seed: of splits and shuffles.
    """

    methods: Mapping[str, str]
    site: Kind
    k: int
    identify: int
    test: int
    draws: int
    seed: int
    max_new_tokens: int
    batch_size: int


@dataclass(frozen=True)
class ConceptRecord:
    """What one concept leaves.

    valid, exclusions, neurons: tables; arrays: `counts/{plain,shuffled}/{image,text}` int32 `n x
    layers x units`, `tokens/...` int32 `n`, and `mean_square`, `n x layers`; cases: what was
    recorded, to be recorded again by single methods.
    """

    valid: pd.DataFrame
    exclusions: pd.DataFrame
    neurons: pd.DataFrame
    arrays: dict[str, np.ndarray]
    cases: list[Case]


def record_concept(
    model: MultimodalModel,
    prompt: Mapping[str, str],
    samples: pd.DataFrame,
    root: str | Path,
    inpainted: str | Path,
    categories: Collection[str],
    settings: ComparisonSettings,
) -> ConceptRecord:
    """Record one concept, whose candidates are `samples`, by `order`.

    Valid is a picture whose caption names the object, and the one without it does not, and nothing
    else disappears (the constraints of Sato & Takagi 2025). The first valid ones are to identify
    neurons, the next ones to test them.
    """
    text = fill_prompt(prompt)
    pictures = pictures_to_caption(samples, root, inpainted)
    captions = [
        row
        for batch in in_batches(pictures, settings.batch_size)
        for row in caption_pictures(model, batch, prompt, settings.max_new_tokens)
    ]
    wanted = settings.identify + settings.test
    valid, exclusions = valid_samples(samples, pd.DataFrame(captions), categories, wanted, 0)
    if valid.empty:
        return ConceptRecord(valid, exclusions, pd.DataFrame(), {}, [])
    places = np.arange(len(valid))
    valid = valid.assign(role=np.where(places < settings.identify, *ROLES))
    cases = [
        Case(
            read_picture(Path(root) / sample.file),
            read_picture(Path(inpainted) / f"{sample.sample_id}.png"),
            sample.prefix_tokens,
            sample.target_token,
        )
        for sample in valid.itertuples()
    ]
    names = valid["sample_id"].tolist()
    orders = [
        shuffle_order(settings.seed, name, model.n_image_tokens(case.original.size))
        for name, case in zip(names, cases, strict=True)
    ]
    how = (model, text, cases, [settings.site], settings.batch_size, needed(settings.methods))
    plain, shuffled = record_case_scores(*how), record_case_scores(*how, orders)
    tables = [
        select_scored(
            method,
            samples["group"].iloc[0],
            names,
            *(ranked(of.values[array], array) for of in (plain, shuffled)),
            settings.k,
            settings.identify,
            settings.draws,
            settings.seed,
        )
        for method, array in settings.methods.items()
        if array in plain.values
    ]
    arrays = {
        f"{what}/{variant}/{kind}": getattr(scores, what)[kind]
        for variant, scores in (("plain", plain), ("shuffled", shuffled))
        for what in ("counts", "tokens")
        for kind in getattr(scores, what)
    }
    arrays["mean_square"] = mean_square(model, text, cases, settings)
    neurons = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return ConceptRecord(valid, exclusions, neurons, arrays, cases)


def needed(methods: Mapping[str, str]) -> list[str]:
    """What `record_case_scores` calls the methods of these arrays."""
    families = {
        "dape" if array == "counts" else array.partition(".")[0].removesuffix("_last")
        for array in methods.values()
        if array != "none"
    }
    return sorted(families)


def ranked(scores: np.ndarray, array: str) -> np.ndarray:
    """Scores in which what the method never selects is minus infinity."""
    return np.where(scores <= NEVER, -np.inf, scores) if array.startswith("two_stage") else scores


def mean_square(
    model: MultimodalModel,
    text: str,
    cases: Sequence[Case],
    settings: ComparisonSettings,
) -> np.ndarray:
    """Mean square of the site's activations at image tokens, `n x layers`: the unit of noise.

    It takes a pass of its own, so that it is there, and the same, whichever methods can run.
    """
    rows = []
    for places in batches(model, cases, settings.batch_size):
        own = [cases[place] for place in places]
        tokens = model.embed_pictures([case.original for case in own], text)
        encoded = model.encode(tokens, text, [case.prefix_tokens for case in own])
        layers = image_activations(model, encoded, [settings.site]).activations[settings.site]
        squares = [active.square().mean(dim=(1, 2)).cpu().numpy() for active in layers]
        rows.append(np.array(squares, np.float32).reshape(len(squares), len(own)).T)
    return np.concatenate(rows)


def costs(
    model: MultimodalModel,
    text: str,
    cases: Sequence[Case],
    settings: ComparisonSettings,
    repeats: int,
) -> list[dict]:
    """What each method costs alone on a batch of the cases: rows of costs.csv.

    seconds: of a sample, the fastest of some repetitions after one that does not count, from the
    pictures to the method's scores; bytes: the most that a batch takes beyond the model
    (`probe.memory.peak_bytes`); n_samples: those of the batch.
    """
    batch = [cases[place] for place in batches(model, cases, settings.batch_size)[0]]
    rows = []
    for method, array in settings.methods.items():
        if array == "none":
            continue
        score = partial(
            record_case_scores,
            model,
            text,
            batch,
            [settings.site],
            len(batch),
            needed({method: array}),
        )
        # The first run, which also does what is done once, is the one that is not timed.
        row = {"method": method, "bytes": peak_bytes(score, model.device)}
        took = []
        for _ in range(repeats):
            start = time.perf_counter()
            score()
            took.append((time.perf_counter() - start) / len(batch))
        rows.append(row | {"seconds": min(took), "n_samples": len(batch)})
    return rows
