"""What the best neuron of a concept gives to other tokens and to the caption's other concepts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from mmneurons.methods.contribution import contribution, token_projection
from mmneurons.models.base import MultimodalModel
from mmneurons.probe.concepts import Captioned, named_rng
from mmneurons.probe.decode import stream_best_tokens
from mmneurons.probe.hooks import Kind
from mmneurons.probe.top import Top


@torch.no_grad()
def specificity(
    model: MultimodalModel, batch: Captioned, site: Kind, top: Top, n_tokens: int, seed: int
) -> Iterator[dict]:
    """Rows of specificity.parquet: scores of each concept's best neuron (Pan et al. 2024, S@m).

    related: for its `n_tokens` tokens of the highest probability, so of the highest W_out W_u, best
    first; random: for as many tokens drawn for the sample from those that the tokenizer knows. A
    smaller vocabulary gives fewer.
    """
    unembedding = model.unembedding()[: len(model.tokenizer)]
    drawn = [
        named_rng(seed, "tokens", concept["sample_id"]).permutation(len(unembedding))[:n_tokens]
        for concept in batch.concepts
    ]
    active = torch.stack(
        [
            batch.generated.activations[site][layer][row, position, unit]
            for layer, unit, row, position in zip(
                top.layers[:, 0].tolist(),
                top.units[:, 0].tolist(),
                batch.rows.tolist(),
                batch.positions.tolist(),
                strict=True,
            )
        ]
    ).float()[:, None]
    rows = _output_rows(model, top)
    best = stream_best_tokens(rows, unembedding, n_tokens).values
    others = unembedding[torch.from_numpy(np.stack(drawn)).to(rows.device)].float()
    values = (others @ rows.float()[..., None])[..., 0]  # concepts x random tokens
    related, random = (contribution(active.cpu(), v.cpu()).numpy() for v in (best, values))
    neurons = _best(model, top)
    for concept, (layer, unit), own, other in zip(
        batch.concepts, neurons, related, random, strict=True
    ):
        sample = {"sample_id": concept["sample_id"], "group": concept["group"], "site": site}
        yield sample | {"layer": layer, "unit": unit, "related": own, "random": other}


@torch.no_grad()
def cross_scores(model: MultimodalModel, batch: Captioned, site: Kind, top: Top) -> Iterator[dict]:
    """Rows of cross_scores.parquet: each concept's best neuron against all of the same caption.

    A score is the neuron's contribution to the other concept's token at that concept's position.
    """
    values = token_projection(_output_rows(model, top), model.unembedding(), batch.tokens)
    values = values.to(model.device)
    rows = batch.rows.tolist()
    for number, (layer, unit) in enumerate(_best(model, top)):
        same = [other for other, row in enumerate(rows) if row == rows[number]]
        recorded = batch.generated.activations[site][int(top.layers[number, 0])]
        active = recorded[rows[number], batch.positions[same], unit].float()
        scores = contribution(active, values[number, same]).tolist()
        for other, score in zip(same, scores, strict=True):
            yield {
                "picture_id": batch.concepts[number]["picture_id"],
                "site": site,
                "group": batch.concepts[other]["group"],
                "neuron_group": batch.concepts[number]["group"],
                "layer": layer,
                "unit": unit,
                "score": score,
            }


def _best(model: MultimodalModel, top: Top) -> list[tuple[int, int]]:
    """(layer, unit) of each concept's best neuron."""
    labels = [site.layer for site in model.sites("language")]
    places, units = top.layers[:, 0].tolist(), top.units[:, 0].tolist()
    return [(labels[place], unit) for place, unit in zip(places, units, strict=True)]


def _output_rows(model: MultimodalModel, top: Top) -> torch.Tensor:
    """W_out row of each concept's best neuron, where the unembedding is: `concepts x hidden`."""
    sites = model.sites("language")
    places, units = top.layers[:, 0].tolist(), top.units[:, 0].tolist()
    rows = [sites[place].output_rows()[unit] for place, unit in zip(places, units, strict=True)]
    return torch.stack([row.to(model.unembedding().device) for row in rows])
