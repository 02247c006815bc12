"""The recording that Schwettmann et al. 2023 need: the units and patches behind a caption's noun.

Every picture is captioned. The first noun of the caption is scored by the gradient of its first
token's logit at the position that generates it: one forward and one backward pass give the score
of every unit of every layer at every image token. Only the best leave the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from mmneurons.artifacts.schwettmann import RECORDED
from mmneurons.methods.attribution import attribution, best_pairs, max_over_patches
from mmneurons.methods.selection import random_like
from mmneurons.models.base import MultimodalModel
from mmneurons.models.captions import caption_text, fill_prompt
from mmneurons.probe.concepts import Nouns, named_rng
from mmneurons.probe.soft_prompts import PromptSettings, decode_prompts
from mmneurons.probe.target import ImageRecord, image_gradients
from mmneurons.probe.top import RunningTop, Top

STAGE = "nouns"


@dataclass(frozen=True)
class AttributionSettings:
    """What is recorded, and how much of it.

    pairs: best (unit, patch) pairs of a picture; units: best units, ranked by their best patch, of
    a `sampled` picture, and of others, which are never ablated, `fewer_units`;
    map_units: of them, those with a map; gradient_rows: pictures in one backward pass; seed: of the
    random units, the random prompts and the patches that are decoded.
    """

    max_new_tokens: int
    pairs: int
    units: int
    map_units: int
    prompts: PromptSettings
    seed: int
    gradient_rows: int = 8

    def __post_init__(self):
        if self.units < self.fewer_units:
            raise ValueError(f"{self.units} units are fewer than those of pairs and maps")

    @property
    def fewer_units(self) -> int:
        """As many as pairs and maps need."""
        return max(self.pairs, self.map_units)


class Described(NamedTuple):
    """A picture with what people say of it; a row of pictures.parquet and its pixels.

    sampled: whether it is one of the random pictures; category: that whose activations it counts
    for (`Recording.sums`), "" if for none.
    """

    picture_id: str
    file: str
    picture: Image.Image
    references: Sequence[str]
    supercategory: str
    sampled: bool = True
    category: str = ""


class Best(NamedTuple):
    """What a backward pass leaves of a batch, best first.

    units: `rows x units`, by the highest score of their patches; pair_scores, pair_units (places
    among `units`), pair_patches: `rows x pairs`.
    """

    units: Top
    pair_scores: torch.Tensor
    pair_units: torch.Tensor
    pair_patches: torch.Tensor


class Recording:
    """Batches put together: tables, maps and the mean activations of categories.

    tables: those of `RECORDED`; maps: `maps x patches`, float16; sums, counts: by category, the sum
    over its pictures of each unit's mean activation over the image tokens (`units` of all layers
    one after the other), and their number. A mean is rounded to float16 before it is added, so
    that sums in float64 are exact, whatever the order of the pictures.
    """

    def __init__(self, model: MultimodalModel, categories: Iterable[str] = ()):
        sites = model.sites("language")
        grid = model.patch_grid()
        self.facts = {
            "grid": None if grid is None else list(grid),
            "through_queries": model.grid() is None and grid is not None,
            "inert_layers": sorted(model.inert_layers("language", "image")),
            "layers": [site.layer for site in sites],
            "units_per_layer": [site.n_units for site in sites],
            "boxes": {},
        }
        n_units = sum(self.facts["units_per_layer"])
        self._parts: dict[str, list[pd.DataFrame]] = {name: [] for name in RECORDED}
        self.maps: list[np.ndarray] = []
        self.sums = {name: np.zeros(n_units) for name in sorted(set(categories) - {""})}
        self.counts = dict.fromkeys(self.sums, 0)
        self.n_patches = 0 if grid is None else grid[0] * grid[1]

    def add(self, name: str, rows: pd.DataFrame | Sequence[dict]) -> None:
        """Rows of one of the tables."""
        columns = RECORDED[name]
        if len(rows):
            part = pd.DataFrame(rows, columns=list(columns)).astype(columns)
            self._parts[name].append(part)

    def tables(self) -> dict[str, pd.DataFrame]:
        """All rows, with the columns of `RECORDED`."""
        empty = {n: pd.DataFrame(columns=list(c)).astype(c) for n, c in RECORDED.items()}
        return {
            name: pd.concat(parts, ignore_index=True) if parts else empty[name]
            for name, parts in self._parts.items()
        }

    def tensors(self) -> dict[str, np.ndarray]:
        """`maps`."""
        maps = [np.zeros((0, self.n_patches), dtype=np.float16), *self.maps]
        return {"maps": np.concatenate(maps)}

    def means(self) -> dict[str, np.ndarray]:
        """`sums`, `categories x units`, and `counts`, `categories`."""
        shape = (len(self.sums), sum(self.facts["units_per_layer"]))
        return {
            "sums": np.array(list(self.sums.values())).reshape(shape),
            "counts": np.array(list(self.counts.values()), dtype=np.int64),
        }


def record_attribution(
    model: MultimodalModel,
    prompt: dict[str, str],
    batches: Iterable[Sequence[Described]],
    nouns: Nouns,
    settings: AttributionSettings,
    categories: Iterable[str] = (),
) -> Recording:
    """Record batches of pictures, in their order.

    prompt: a row of `resources/prompts.yaml`; nouns: as `datasets.nouns.concepts_of`; categories:
    all that a picture of any shard may count for. Batches that are cut from the whole list of
    pictures (`models.captions.shard_of`) give the same numbers however many shards share them.
    """
    recording = Recording(model, categories)
    for batch in batches:
        _record_batch(model, prompt, batch, nouns, settings, recording)
    return recording


def _record_batch(
    model: MultimodalModel,
    prompt: dict[str, str],
    batch: Sequence[Described],
    nouns: Nouns,
    settings: AttributionSettings,
    into: Recording,
) -> None:
    text = fill_prompt(prompt)
    pictures = [described.picture for described in batch]
    image_tokens = model.embed_pictures(pictures, text)
    generated = model.generate(model.encode(image_tokens, text), settings.max_new_tokens)
    weights = model.patch_weights(pictures, text) if into.n_patches else None
    captions, chosen = [], []
    for row, (described, tokens) in enumerate(zip(batch, generated, strict=True)):
        caption = caption_text(model, prompt["prefix"], tokens)
        found, left_out = nouns(caption["caption"], caption["token_ids"], caption["token_ends"])
        first = min(found, key=lambda noun: noun["position"], default=None)
        if first is None:
            into.add("exclusions", [_exclusion(described, noun) for noun in left_out])
            continue
        into.facts["boxes"][described.picture_id] = list(model.seen_box(described.picture.size))
        captions.append(caption | dict(first))
        chosen.append(row)
    for places in torch.arange(len(chosen)).split(settings.gradient_rows):
        own = places.tolist()
        rows, said = [chosen[place] for place in own], [captions[place] for place in own]
        tokens = [image_tokens[row] for row in rows]
        prefixes = [caption["token_ids"][: caption["position"]] for caption in said]
        encoded = model.encode(tokens, text, prefixes)
        targets = [caption["token"] for caption in said]
        record = image_gradients(model, encoded, targets, ["pre"], also=["act"])
        described = [batch[row] for row in rows]
        probabilities = record.probabilities.tolist()
        told = zip(described, said, probabilities, strict=True)
        into.add("captions", [_caption(*each) for each in told])
        samples = [(p.picture_id, c["group"]) for p, c in zip(described, said, strict=True)]
        best = rank(record, settings.units, settings.pairs)
        kept = [settings.units if p.sampled else settings.fewer_units for p in described]
        _add_rankings(model, samples, best, kept, into)
        of_rows = None if weights is None else weights[rows]
        if into.n_patches:
            _add_maps(model, samples, record, best.units, of_rows, settings, into)
        _add_means(described, record, into)
    shown = [(batch[row].picture_id, image_tokens[row]) for row in chosen]
    into.add("prompt_tokens", decode_prompts(model, shown, settings.prompts, settings.seed))


@torch.no_grad()
def rank(record: ImageRecord, n_units: int, n_pairs: int) -> Best:
    """The best units and the best (unit, patch) pairs by attribution, from recorded `pre`.

    The best `n_pairs` pairs belong to the best `n_pairs` units: each of these has a pair, its own
    best, that is as good as any pair of another unit. So only these units' patches are ranked.
    Equal pairs are in the order of (layer, unit, patch).
    """
    layers = list(zip(record.activations["pre"], record.gradients["pre"], strict=True))
    running = RunningTop(max(n_units, n_pairs))
    for z, gradient in layers:
        running.add(max_over_patches(attribution(z, gradient)))
    top = running.result()
    leading = Top(*(values[:, :n_pairs] for values in (top.scores, top.layers, top.units)))
    places = leading.layers * max(z.shape[2] for z, _ in layers) + leading.units
    order = places.argsort(dim=1)
    in_order = Top(*(values.gather(1, order) for values in _fields(leading)))
    scores = attribution(
        at_units([z for z, _ in layers], in_order), at_units([g for _, g in layers], in_order)
    )
    pair_scores, units, patches = best_pairs(scores, n_pairs)
    kept = Top(*(values[:, :n_units] for values in _fields(top)))
    return Best(kept, pair_scores, order.gather(1, units), patches)


def at_units(layers: Sequence[torch.Tensor], top: Top) -> torch.Tensor:
    """Of each row its own units' values: `rows x units of top x image tokens`.

    layers: `rows x image tokens x units` each, in the order in which `top` counts them.
    """
    values = layers[0].new_zeros(*top.units.shape, layers[0].shape[1])
    for place, layer in enumerate(layers):
        rows, ranks = (top.layers == place).nonzero(as_tuple=True)
        values[rows, ranks] = layer[rows, :, top.units[rows, ranks]]
    return values


def _fields(top: Top) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return top.scores, top.layers, top.units


def _caption(described: Described, caption: Mapping, probability: float) -> dict:
    names = ("caption", "token_ids", "group", "position", "token")
    return {
        "picture_id": described.picture_id,
        "file": described.file,
        **{name: caption[name] for name in names},
        "probability": probability,
        "references": list(described.references),
        "supercategory": described.supercategory,
        "sampled": described.sampled,
    }


def _exclusion(described: Described, noun: Mapping) -> dict:
    own = {"sample_id": described.picture_id, "group": noun.get("group", "")}
    return {"stage": STAGE, **own, "reason": noun["reason"], "detail": noun["detail"]}


def _add_rankings(
    model: MultimodalModel,
    samples: Sequence[tuple[str, str]],
    best: Best,
    kept: Sequence[int],
    into: Recording,
) -> None:
    """kept: how many units of each picture the ranking keeps."""
    labels = np.array([site.layer for site in model.sites("language")])
    scores, layers, units = (values.cpu().numpy() for values in _fields(best.units))
    ranking = _ranked(samples, labels[layers], units, scores)
    into.add("ranking", ranking[ranking["rank"] < np.repeat(kept, units.shape[1])])
    of_pairs = best.pair_units.cpu().numpy()
    table = _ranked(
        samples,
        np.take_along_axis(labels[layers], of_pairs, axis=1),
        np.take_along_axis(units, of_pairs, axis=1),
        best.pair_scores.cpu().numpy(),
    )
    into.add("pairs", table.assign(patch=best.pair_patches.cpu().numpy().ravel()))


def _ranked(
    samples: Sequence[tuple[str, str]], layers: np.ndarray, units: np.ndarray, scores: np.ndarray
) -> pd.DataFrame:
    """One row a neuron from `rows x neurons`, best first."""
    n, kept = units.shape
    columns = {
        "sample_id": np.repeat([sample_id for sample_id, _ in samples], kept),
        "group": np.repeat([group for _, group in samples], kept),
        "module": "language",
        "layer": layers.ravel(),
        "unit": units.ravel(),
        "score": scores.ravel(),
        "rank": np.tile(np.arange(kept), n),
    }
    return pd.DataFrame(columns)


Kind = Literal["multimodal", "random"]


def _add_maps(
    model: MultimodalModel,
    samples: Sequence[tuple[str, str]],
    record: ImageRecord,
    top: Top,
    weights: torch.Tensor | None,
    settings: AttributionSettings,
    into: Recording,
) -> None:
    """Activations of each picture's best units, and of as many random units of the same layers."""
    labels = np.array([site.layer for site in model.sites("language")])
    own = Top(*(values[:, : settings.map_units] for values in _fields(top)))
    drawn = [
        random_like(
            torch.stack([own.layers[row], own.units[row]], dim=1).cpu().numpy(),
            into.facts["units_per_layer"][0],
            named_rng(settings.seed, "maps", sample_id),
        )
        for row, (sample_id, _) in enumerate(samples)
    ]
    others = torch.from_numpy(np.stack(drawn)).to(own.units.device)
    random = Top(torch.zeros_like(own.scores), others[..., 0], others[..., 1])
    kinds: dict[Kind, Top] = {"multimodal": own, "random": random}
    for kind, units in kinds.items():
        values = at_units(record.activations["act"], units)
        if weights is not None:
            values = values @ weights.float().to(values.device)
        values = values.half().cpu().numpy()
        start = sum(map(len, into.maps))
        into.maps.append(values.reshape(-1, values.shape[2]))
        strongest = values.max(axis=2)
        n = units.units.shape[1]
        table = _ranked(
            samples, labels[units.layers.cpu().numpy()], units.units.cpu().numpy(), strongest
        )
        table = table.rename(columns={"sample_id": "picture_id", "score": "value"})
        into.add("maps", table.assign(row=start + np.arange(len(samples) * n), kind=kind))


def _add_means(described: Sequence[Described], record: ImageRecord, into: Recording) -> None:
    for row, picture in enumerate(described):
        if picture.category:
            means = torch.cat([layer[row].mean(dim=0) for layer in record.activations["act"]])
            into.sums[picture.category] += means.half().cpu().double().numpy()
            into.counts[picture.category] += 1
