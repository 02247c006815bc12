"""What the neurons of every method do, on pictures that they were not identified with.

Of a concept every method has a set of neurons, and a set of random ones from the same layers. Under
each, the concept's test pictures and pictures of other concepts are captioned: with noise on the
neurons at the image tokens, and with the neurons silent at every token. On the test pictures the
concept is edited into another by Algorithm 1 on these neurons, which other pictures are captioned
under as well, and where they are active is kept as a map.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from mmneurons.interventions.deactivate import deactivated
from mmneurons.interventions.edit import (
    EditSettings,
    Occurrence,
    read_position,
    token_edit,
    word_tokens,
)
from mmneurons.interventions.noisy_captions import NeuronSet, NoiseSettings, noisy_captions
from mmneurons.interventions.weights import changed_rows_each
from mmneurons.metrics.naming import named
from mmneurons.models.base import MultimodalModel
from mmneurons.models.captions import caption_text, fill_prompt, in_batches
from mmneurons.probe.hooks import Kind, watch

CAPTION_COLUMNS = {
    "intervention": "str",
    "method": "str",
    "part": "str",
    "seed": "int64",
    "group": "str",
    "picture_id": "str",
    "picture_group": "str",
    "level": "float64",
    "draw": "int64",
    "target": "str",
    "n_neurons": "int64",
    "caption": "str",
}


@dataclass(frozen=True)
class Shown:
    """A test picture as it is captioned: image_tokens `image tokens x hidden`.

    weights: `image tokens x patches`, None where image tokens are patches themselves or have no
    place; before, token: the caption's tokens ahead of the concept, and its first one.
    """

    sample_id: str
    group: str
    caption: str
    image_tokens: torch.Tensor
    weights: torch.Tensor | None
    before: tuple[int, ...]
    token: int


@dataclass(frozen=True)
class InterventionSettings:
    """noise, edit: None where the model cannot; maps: whether there is a patch grid."""

    site: Kind
    noise: NoiseSettings | None
    edit: EditSettings | None
    maps: bool
    max_new_tokens: int
    batch_size: int
    seed: int


def pictures_to_test(
    valid: pd.DataFrame, group: str, n_others: int, seed: int
) -> tuple[list[str], list[str]]:
    """Test pictures of the concept, and `n_others` of other concepts by hash."""
    tests = valid[valid["role"] == "test"]
    own = tests.loc[tests["group"] == group, "sample_id"].tolist()
    others = tests.loc[tests["group"] != group, "sample_id"].tolist()
    others.sort(key=lambda name: _hash(seed, group, name))
    return own, others[:n_others]


def neuron_sets(neurons: pd.DataFrame, group: str) -> list[NeuronSet]:
    """The concept's sets: every method's own and their controls, and of random neurons every draw.

    Best neurons first. The variant of a set is its part.
    """
    own = neurons[neurons["part"].isin(["concept", "control"]) & (neurons["group"] == group)]
    return [
        NeuronSet(
            method,
            part,
            int(draw),
            group,
            group,
            rows.sort_values("rank")[["layer", "unit"]].to_numpy(np.int64),
        )
        for (method, part, draw), rows in own.groupby(["method", "part", "draw"], sort=False)
    ]


def intervene_on(
    model: MultimodalModel,
    prompt: Mapping[str, str],
    sets: Sequence[NeuronSet],
    own: Sequence[Shown],
    others: Sequence[Shown],
    words: Sequence[str],
    mean_square: np.ndarray,
    settings: InterventionSettings,
) -> tuple[list[dict], dict[tuple[str, str, int, str], np.ndarray]]:
    """Rows of captions.parquet, and maps `patches` by (method, part, seed, sample_id).

    own, others: pictures of the concept and of other ones; words: that it may be edited into.
    """
    if not sets:
        return [], {}
    rows = list(silent_captions(model, prompt, sets, [*own, *others], settings))
    if settings.noise is not None:
        rows += noise_rows(model, prompt, sets, [*own, *others], mean_square, settings)
    if settings.edit is not None:
        rows += edited_captions(model, prompt, sets, own, others, words, settings)
    maps = {}
    if settings.maps:
        for shown in own:
            maps |= {
                (*key, shown.sample_id): m
                for key, m in mean_maps(model, prompt, sets, shown, settings.site)
            }
    return rows, maps


def noise_rows(
    model: MultimodalModel,
    prompt: Mapping[str, str],
    sets: Sequence[NeuronSet],
    pictures: Sequence[Shown],
    mean_square: np.ndarray,
    settings: InterventionSettings,
) -> Iterator[dict]:
    """Captions under every level and draw; pictures with as many image tokens share batches."""
    groups = {shown.sample_id: shown.group for shown in pictures}
    for n_tokens in sorted({len(shown.image_tokens) for shown in pictures}):
        alike = {
            shown.sample_id: shown.image_tokens
            for shown in pictures
            if len(shown.image_tokens) == n_tokens
        }
        for neurons in sets:
            for row in noisy_captions(
                model,
                dict(prompt),
                alike,
                groups,
                neurons,
                list(alike),
                settings.noise,
                mean_square,
                settings.site,
                settings.batch_size,
                settings.max_new_tokens,
            ):
                yield _row(
                    "noise", neurons, row["picture_id"], row["picture_group"], row["caption"],
                    level=row["level"], draw=row["draw"],
                )  # fmt: skip


def silent_captions(
    model: MultimodalModel,
    prompt: Mapping[str, str],
    sets: Sequence[NeuronSet],
    pictures: Sequence[Shown],
    settings: InterventionSettings,
) -> Iterator[dict]:
    """Captions with the neurons' activation zero at every token, each row with its own set."""
    cells = [(neurons, shown) for neurons in sets for shown in pictures]
    for batch in in_batches(cells, settings.batch_size):
        tables = [
            pd.DataFrame(of.neurons, columns=["layer", "unit"]).assign(module="language")
            for of, _ in batch
        ]
        encoded = model.encode([shown.image_tokens for _, shown in batch], fill_prompt(prompt))
        with deactivated(model, tables):
            generated = model.generate(encoded, settings.max_new_tokens)
        for (of, shown), ids in zip(batch, generated, strict=True):
            caption = caption_text(model, prompt["prefix"], ids)["caption"]
            yield _row("ablation", of, shown.sample_id, shown.group, caption)


def edited_captions(
    model: MultimodalModel,
    prompt: Mapping[str, str],
    sets: Sequence[NeuronSet],
    pictures: Sequence[Shown],
    others: Sequence[Shown],
    words: Sequence[str],
    settings: InterventionSettings,
) -> Iterator[dict]:
    """Captions after the concept's first token was edited into another word's, on every set.

    Each picture has a target of its own, the same for all sets: the first of the words, in an order
    by hash, that its caption does not name and that begins with another token. A picture without
    such a word has no row. o of Algorithm 1 is read where the caption names the concept. Under each
    edit a picture of another concept, which the edit should leave alone, is captioned too: the
    others take turns, and none whose concept is the target.
    """
    cells = []
    for place, shown in enumerate(pictures):
        target = edit_target(model, prompt["prefix"], shown, words, settings.seed)
        if target is None:
            continue
        word, token = target
        turned = [*others[place % len(others) :], *others] if others else []
        seen = [shown, *[other for other in turned if other.group != word][:1]]
        occurrence = Occurrence(
            shown.image_tokens, fill_prompt(prompt), shown.before, (shown.token,), 0
        )
        activations = read_position(model, occurrence, (), settings.site).activations
        for of in sets:
            own = tuple(torch.tensor(of.neurons).unbind(dim=1))
            edit = token_edit(
                model, of.neurons, activations[own], shown.token, token, settings.edit
            )
            cells += [(of, picture, word, edit) for picture in seen]
    for n_neurons in sorted({len(edit.neurons) for *_, edit in cells}):
        alike = [cell for cell in cells if len(cell[3].neurons) == n_neurons]
        for batch in in_batches(alike, settings.batch_size):
            encoded = model.encode(
                [shown.image_tokens for _, shown, _, _ in batch], fill_prompt(prompt)
            )
            neurons = np.stack([edit.neurons for *_, edit in batch])
            deltas = torch.stack([edit.delta for *_, edit in batch])
            with changed_rows_each(model, neurons, deltas):
                generated = model.generate(encoded, settings.max_new_tokens)
            for (of, shown, word, _), ids in zip(batch, generated, strict=True):
                caption = caption_text(model, prompt["prefix"], ids)["caption"]
                yield _row("edit", of, shown.sample_id, shown.group, caption, target=word)


def edit_target(
    model: MultimodalModel, prefix: str, shown: Shown, words: Sequence[str], seed: int
) -> tuple[str, int] | None:
    """The word that a picture's concept is edited into, and its first token."""
    said = named(shown.caption, {*words, shown.group})
    for word in sorted(words, key=lambda word: _hash(seed, shown.sample_id, word)):
        try:
            token = word_tokens(model, prefix, word)[0]
        except ValueError:
            continue
        if word not in said and word != shown.group and token != shown.token:
            return word, token
    return None


@torch.no_grad()
def mean_maps(
    model: MultimodalModel,
    prompt: Mapping[str, str],
    sets: Sequence[NeuronSet],
    shown: Shown,
    site: Kind,
) -> Iterator[tuple[tuple[str, str, int], np.ndarray]]:
    """Mean activation of every set's neurons at each patch of one picture.

    Where image tokens are queries, it is spread over the patches that they read.
    """
    encoded = model.encode([shown.image_tokens], fill_prompt(prompt))
    at = encoded.image_mask[0]
    sums = torch.zeros(len(sets), int(at.sum()))
    chosen = [of.neurons for of in sets]

    def add(ffn, _kind: Kind, tensor: torch.Tensor) -> None:
        active = tensor[0, at.to(tensor.device)].float().cpu()
        for row, neurons in enumerate(chosen):
            units = neurons[neurons[:, 0] == ffn.layer, 1]
            sums[row] += active[:, units].sum(dim=1)

    with watch(model.sites("language"), [site], add):
        model.final_states(encoded)
    means = sums / torch.tensor([[max(len(neurons), 1)] for neurons in chosen])
    if shown.weights is not None:
        means = means @ shown.weights.float().cpu()
    for of, values in zip(sets, means.numpy(), strict=True):
        yield (of.method, of.variant, of.seed), values


def _row(
    intervention: str,
    of: NeuronSet,
    picture_id: str,
    picture_group: str,
    caption: str,
    level: float = float("nan"),
    draw: int = 0,
    target: str = "",
) -> dict:
    return {
        "intervention": intervention,
        "method": of.method,
        "part": of.variant,
        "seed": of.seed,
        "group": of.group,
        "picture_id": picture_id,
        "picture_group": picture_group,
        "level": level,
        "draw": draw,
        "target": target,
        "n_neurons": len(of.neurons),
        "caption": caption,
    }


def _hash(seed: int, of: str, other: str) -> bytes:
    return hashlib.sha256(f"{seed}/{of}/{other}".encode()).digest()
