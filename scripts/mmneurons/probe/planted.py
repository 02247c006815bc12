"""Asking every method for its best units, of a model into which a concept was planted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmneurons.methods.comparison import mean_scores
from mmneurons.methods.dape_concepts import concept_scores, sample_scores
from mmneurons.methods.placing import standing
from mmneurons.models.base import MultimodalModel
from mmneurons.probe.comparison import ranked
from mmneurons.probe.every_method import record_case_scores
from mmneurons.probe.hooks import Kind
from mmneurons.probe.two_stage import Case

Ranking = tuple[str, str, str, np.ndarray]
"""Picture ("" for all together), method, site, scores `layers x units`."""

ATTRIBUTIONS = {"attribution.max": "attribution_max", "attribution.mean": "attribution_mean"}


@dataclass(frozen=True)
class Asked:
    """Samples of one concept, and pictures of others for the method that needs them.

    names: of the samples; cases: as `record_case_scores` takes them; others: pictures by concept.
    """

    concept: str
    names: Sequence[str]
    cases: Sequence[Case]
    others: dict[str, Sequence[Image.Image]]


def rankings(
    model: MultimodalModel,
    prompt: str,
    asked: Asked,
    sites: Sequence[Kind],
    batch_size: int,
    seed: str,
) -> Iterator[Ranking]:
    """What each method says of every sample and of all together.

    Together is the mean of the samples' scores as the comparison takes it; of DAPE it is its score
    for the concept's tokens of all samples. prompt: filled; seed: what tells the random scores of
    this planting from others.
    """
    scores = record_case_scores(model, prompt, asked.cases, sites, batch_size)
    for name, values in sorted(scores.values.items()):
        method, _, site = name.partition(".")
        if name in ATTRIBUTIONS:
            method, site = ATTRIBUTIONS[name], "pre"
        values = ranked(values, name)
        yield from _each(asked.names, method, site, values, mean_scores(values))
    yield from _dape(model, prompt, asked, scores, batch_size)
    shape = next(iter(scores.values.values())).shape
    digest = hashlib.sha256(seed.encode()).digest()
    rng = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
    values = rng.random((shape[0] + 1, *shape[1:]), dtype=np.float32)
    yield from _each(asked.names, "random", "", values[:-1], values[-1])


def standings(found: Iterator[Ranking], units: np.ndarray) -> list[tuple]:
    """Where the planted units stand in each ranking.

    Rows picture_id, method, site, layer, unit, above, tied (`methods.placing.standing`).
    """
    rows = []
    for picture, method, site, scores in found:
        places = zip(*standing(scores, units), strict=True)
        for (layer, unit), (above, tied) in zip(units.tolist(), places, strict=True):
            rows.append((picture, method, site, layer, unit, int(above), int(tied)))
    return rows


def _each(
    names: Sequence[str], method: str, site: str, values: np.ndarray, together: np.ndarray
) -> Iterator[Ranking]:
    for name, own in zip(names, values, strict=True):
        yield name, method, site, own
    yield "", method, site, together


def _dape(
    model: MultimodalModel, prompt: str, asked: Asked, scores, batch_size: int
) -> Iterator[Ranking]:
    """DAPE with concepts as its domains; the tokens of image and text together."""
    counts, tokens = [_total(scores.counts)], [_total(scores.tokens)]
    groups = [asked.concept] * len(asked.cases)
    for concept, pictures in asked.others.items():
        # Only the prompt's tokens are counted, so what is said of the picture does not matter.
        cases = [Case(picture, picture, (), 0) for picture in pictures]
        seen = record_case_scores(model, prompt, cases, (), batch_size, methods=("dape",))
        counts.append(_total(seen.counts))
        tokens.append(_total(seen.tokens))
        groups += [concept] * len(cases)
    shape = counts[0].shape[1:]
    flat = np.concatenate(counts).reshape(len(groups), -1)
    n_tokens, which = np.concatenate(tokens), np.array(groups)
    own = sample_scores(flat, n_tokens, which)[: len(asked.cases)]
    names = sorted(set(groups))
    pooled = concept_scores(
        np.stack([flat[which == name].sum(axis=0) for name in names]),
        np.array([n_tokens[which == name].sum() for name in names]),
    )[names.index(asked.concept)]
    values = own.reshape(-1, *shape)
    yield from _each(asked.names, "dape", "act", values, pooled.reshape(shape))


def _total(of_kinds: dict[str, np.ndarray]) -> np.ndarray:
    return np.sum([values.astype(np.int64) for values in of_kinds.values()], axis=0)
