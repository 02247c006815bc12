"""What a neuron says: the tokens that its output row raises most."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from mmneurons.models.base import Module, MultimodalModel

# Into how many pieces `units x vocabulary` is cut, and how many units a piece has at least.
UNIT_PIECES, TOKEN_PIECES, MIN_UNITS = 6, 10, 64


@torch.no_grad()
def top_tokens(
    model: MultimodalModel, layer: int, units: torch.Tensor, k: int
) -> tuple[list[list[str]], torch.Tensor]:
    """The `k` most probable tokens of softmax(W_u W_out row) for units of one language layer.

    No final norm (Schwettmann et al. 2023, decoder(W_out^k); Pan et al. 2024's released code).
    Returns the token texts and their probabilities, `units x k`.
    """
    rows, unembedding = model.sites("language")[layer].output_rows(), model.unembedding()
    rows = rows[units.to(rows.device)].to(unembedding.device).float()
    probabilities = torch.softmax(rows @ unembedding.float().T, dim=-1)
    best = probabilities.topk(k, dim=-1)
    texts = [model.token_texts(row) for row in best.indices.tolist()]
    return texts, best.values.cpu()


def unit_tokens(
    model: MultimodalModel, group: str, unit_lists: list[np.ndarray], k: int
) -> list[dict]:
    """Rows group, layer, unit, tokens, probabilities for every unit of the lists, each once.

    unit_lists: arrays of (layer, unit) rows, as `map_units` of a recording.
    """
    units = np.unique(np.concatenate(unit_lists), axis=0)
    rows = []
    for layer in np.unique(units[:, 0]):
        of_layer = units[units[:, 0] == layer, 1]
        texts, probabilities = top_tokens(model, int(layer), torch.from_numpy(of_layer).long(), k)
        for unit, text, values in zip(of_layer, texts, probabilities.numpy(), strict=True):
            row = {"group": group, "layer": int(layer), "unit": int(unit)}
            rows.append(row | {"tokens": text, "probabilities": values.tolist()})
    return rows


@dataclass(frozen=True)
class BestTokens:
    """Best tokens of neurons, best first: `units x k` each.

    ids: any of those with equal values; values: W_out W_u; probabilities: softmax of the values
    over all tokens.
    """

    ids: torch.Tensor
    values: torch.Tensor
    probabilities: torch.Tensor


@torch.no_grad()
def stream_best_tokens(output_rows: torch.Tensor, unembedding: torch.Tensor, k: int) -> BestTokens:
    """The `k` best tokens of every neuron, in float32 whatever the weights' format.

    output_rows: `units x hidden`; unembedding: `vocabulary x hidden`. The matrix `units x
    vocabulary` passes in small pieces, of which the best tokens and the sum of the softmax stay. A
    smaller vocabulary gives fewer tokens.
    """
    n_units, n_tokens = len(output_rows), len(unembedding)
    height = max(math.ceil(n_units / UNIT_PIECES), MIN_UNITS)
    width = math.ceil(n_tokens / TOKEN_PIECES)
    pieces = [
        _best_of_units(rows.float(), unembedding, min(k, n_tokens), width)
        for rows in output_rows.split(height)
    ]
    ids, values, totals = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return BestTokens(ids, values, (values - totals[:, None]).exp())


def _best_of_units(
    rows: torch.Tensor, unembedding: torch.Tensor, k: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids and values of the best tokens, `units x k`, and the logarithm of the softmax's sum."""
    ids = torch.empty(len(rows), 0, dtype=torch.long, device=rows.device)
    values = rows.new_empty(len(rows), 0)
    total = rows.new_full((len(rows),), -torch.inf)
    for start in range(0, len(unembedding), width):
        piece = rows @ unembedding[start : start + width].float().T
        total = torch.logaddexp(total, piece.logsumexp(dim=1))
        new = piece.topk(min(k, piece.shape[1]), dim=1)
        values = torch.cat([values, new.values], dim=1)
        ids = torch.cat([ids, new.indices + start], dim=1)
        values, order = values.topk(min(k, values.shape[1]), dim=1)
        ids = ids.gather(1, order)
    return ids, values, total


def neuron_tokens(
    model: MultimodalModel,
    k: int = 10,
    module: Module = "language",
    progress: Callable[[Iterable], Iterable] = iter,
) -> pd.DataFrame:
    """The best tokens of every neuron of a module: rows of neuron_tokens.parquet.

    Columns: module, layer, unit, token_ids, tokens (their texts), values (W_out W_u), probabilities
    (softmax over the tokens that the tokenizer knows). progress: wraps the layers, of which each
    takes its time. Raises ValueError for a module whose output is not of the unembedding's width.
    """
    unembedding = model.unembedding()[: len(model.tokenizer)]
    texts = np.array(model.token_texts(range(len(unembedding))), dtype=object)
    tables = []
    for site in progress(model.sites(module)):
        rows = site.output_rows()
        if rows.shape[1] != unembedding.shape[1]:
            raise ValueError(
                f"{module} writes vectors of {rows.shape[1]} numbers, "
                f"the unembedding reads {unembedding.shape[1]}"
            )
        best = stream_best_tokens(rows.to(unembedding.device), unembedding, k)
        ids = best.ids.cpu().numpy()
        columns = {"module": module, "layer": site.layer, "unit": np.arange(len(ids))}
        lists = {"token_ids": ids.astype(np.int32), "tokens": texts[ids]}
        lists["values"] = best.values.cpu().numpy()
        lists["probabilities"] = best.probabilities.cpu().numpy()
        tables.append(pd.DataFrame(columns | {name: list(v) for name, v in lists.items()}))
    if not tables:
        raise ValueError(f"the family {model.family} has no module {module}")
    return pd.concat(tables, ignore_index=True)
