"""What image tokens say by themselves: the text tokens nearest to them (Schwettmann et al. 2023).

Image tokens enter the language model where the embeddings of text tokens do, as soft prompts. The
paper decodes each to the tokens with the highest cosine, and finds that it says no more of the
picture than a random vector does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from mmneurons.models.base import MultimodalModel
from mmneurons.probe.concepts import named_rng


@dataclass(frozen=True)
class PromptSettings:
    """nearest: tokens of an image token; patches: image tokens of a picture, drawn at random.

    random: what random prompts are drawn from, which the paper leaves open: "isotropic" prefers no
    direction; "matched" has, in every component, mean and spread of the picture's image tokens.
    """

    nearest: int
    patches: int
    random: Literal["isotropic", "matched"] = "isotropic"


@torch.no_grad()
def decode_prompts(
    model: MultimodalModel,
    pictures: Sequence[tuple[str, torch.Tensor]],
    settings: PromptSettings,
    seed: int,
) -> list[dict]:
    """Rows of prompt_tokens.parquet: of each picture some image tokens and as many random vectors.

    pictures: id and image tokens `image tokens x hidden`, as the language model reads them. Which
    are taken, and the random vectors, depend on the seed and the picture's id only.
    """
    table = model.decoder.get_input_embeddings().weight[: len(model.tokenizer)].float()
    rows = []
    for picture_id, tokens in pictures:
        tokens = tokens[:, : table.shape[1]].float().to(table.device)
        rng = named_rng(seed, "prompts", picture_id)
        patches = np.sort(rng.permutation(len(tokens))[: settings.patches])
        drawn = torch.from_numpy(rng.standard_normal((len(patches), table.shape[1]))).float()
        drawn = drawn.to(table.device)
        if settings.random == "matched":
            drawn = tokens.mean(dim=0) + drawn * tokens.std(dim=0)
        for kind, vectors in (("image", tokens[patches.tolist()]), ("random", drawn)):
            cosines, ids = nearest_tokens(vectors, table, settings.nearest)
            for patch, own, values in zip(patches, ids.tolist(), cosines.tolist(), strict=True):
                row = {"picture_id": picture_id, "kind": kind, "patch": int(patch)}
                row["tokens"] = model.token_texts(own)
                rows.append(row | {"cosines": values})
    return rows


def nearest_tokens(
    vectors: torch.Tensor, table: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and ids of the `k` rows of a table nearest to each vector, `vectors x k`."""
    cosines = torch.nn.functional.normalize(vectors, dim=1) @ (
        torch.nn.functional.normalize(table, dim=1).T
    )
    return cosines.topk(min(k, len(table)), dim=1)
