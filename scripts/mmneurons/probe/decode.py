"""What a neuron says: the tokens that its output row raises most."""

from __future__ import annotations

import numpy as np
import torch

from mmneurons.models.base import MultimodalModel


@torch.no_grad()
def top_tokens(
    model: MultimodalModel, layer: int, units: torch.Tensor, k: int
) -> tuple[list[list[str]], torch.Tensor]:
    """The `k` most probable tokens of softmax(W_u W_out row) for units of one language layer.

    No final norm (Schwettmann et al. 2023, decoder(W_out^k); Pan et al. 2024's released code).
    Returns the token texts and their probabilities, `units x k`.
    """
    rows = model.sites("language")[layer].output_rows()[units].float()
    probabilities = torch.softmax(rows @ model.unembedding().float().T, dim=-1)
    best = probabilities.topk(k, dim=-1)
    texts = [model.tokenizer.convert_ids_to_tokens(row) for row in best.indices.tolist()]
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
