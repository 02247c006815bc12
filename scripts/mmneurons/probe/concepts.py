"""Captions with the activations that generated them, and the nouns that are their concepts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from mmneurons.models.base import Encoded, MultimodalModel
from mmneurons.models.captions import caption_text, fill_prompt
from mmneurons.probe.generation import Generated, generate_recorded
from mmneurons.probe.hooks import Kind

Variant = Literal["plain", "shuffled"]
# (caption, token_ids, token_ends) to its concepts, each with NOUN_KEYS, and to what was left out,
# each with reason, detail and perhaps group.
Nouns = Callable[[str, Sequence[int], Sequence[int]], tuple[Iterable[Mapping], Iterable[Mapping]]]

NOUN_KEYS = ("group", "position", "token", "n_tokens", "start", "end")
STAGE = "nouns"


@dataclass(frozen=True)
class Captioned:
    """A captioned batch.

    captions, concepts, exclusions: rows of the tables; image_tokens: `batch x image tokens x
    hidden` in the variant's order; rows, positions, tokens: one value a concept, the picture's
    place in the batch, the step that generates the concept's first token, and that token.
    """

    captions: list[dict]
    concepts: list[dict]
    exclusions: list[dict]
    image_tokens: torch.Tensor
    encoded: Encoded
    generated: Generated
    rows: torch.Tensor
    positions: torch.Tensor
    tokens: torch.Tensor


def caption_batch(
    model: MultimodalModel,
    prompt: dict[str, str],
    names: Sequence[str],
    image_tokens: torch.Tensor,
    nouns: Nouns,
    kinds: Sequence[Kind],
    variant: Variant,
    max_new_tokens: int,
) -> Captioned:
    """Generate, record the generating positions and tag.

    names: picture ids; image_tokens: `batch x image tokens x hidden`, as the model reads them.
    """
    encoded = model.encode(image_tokens, fill_prompt(prompt))
    generated = generate_recorded(model, encoded, max_new_tokens, kinds)
    captions, concepts, exclusions, rows = [], [], [], []
    for row, (name, tokens) in enumerate(zip(names, generated.tokens, strict=True)):
        caption = caption_text(model, prompt["prefix"], tokens)
        picture = {"picture_id": name, "variant": variant}
        captions.append(picture | caption)
        found, left_out = nouns(caption["caption"], caption["token_ids"], caption["token_ends"])
        for noun in found:
            own = {"sample_id": sample_id(name, noun["group"]), **picture}
            concepts.append(own | {key: noun[key] for key in NOUN_KEYS})
            rows.append(row)
        exclusions += [_exclusion(name, variant, noun) for noun in left_out]

    def on_device(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=model.device)

    return Captioned(
        captions=captions,
        concepts=concepts,
        exclusions=exclusions,
        image_tokens=image_tokens,
        encoded=encoded,
        generated=generated,
        rows=on_device(rows),
        positions=on_device([concept["position"] for concept in concepts]),
        tokens=on_device([concept["token"] for concept in concepts]),
    )


def sample_id(picture_id: str, group: str) -> str:
    """The name of one concept of one picture."""
    return f"{picture_id}-{group.replace(' ', '_')}"


def shuffled(image_tokens: torch.Tensor, names: Sequence[str], seed: int) -> torch.Tensor:
    """Image tokens `batch x image tokens x hidden`, each picture's own permuted among themselves.

    As in Pan et al. 2024 (5.2) it is done behind the projector, and the places that the tokens
    take in the prompt stay what they are.
    """
    n_tokens = image_tokens.shape[1]
    orders = torch.stack([shuffle_order(seed, name, n_tokens) for name in names])
    rows = torch.arange(len(names), device=image_tokens.device)[:, None]
    return image_tokens[rows, orders.to(image_tokens.device)]


def shuffle_order(seed: int, picture_id: str, n_tokens: int) -> torch.Tensor:
    """Token `order[i]` takes place i: a permutation of `image tokens`.

    It depends on the seed and the picture's id only, never on a batch or a shard.
    """
    return torch.from_numpy(named_rng(seed, "shuffle", picture_id).permutation(n_tokens))


def named_rng(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend on a seed and on what they are for, not on when they are drawn."""
    digest = hashlib.sha256("/".join([str(seed), *names]).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def _exclusion(name: str, variant: Variant, noun: Mapping) -> dict:
    group = noun.get("group", "")
    return {
        "stage": STAGE if variant == "plain" else f"{STAGE} ({variant})",
        "sample_id": sample_id(name, group) if group else name,
        "group": group,
        "reason": noun["reason"],
        "detail": noun["detail"],
    }
