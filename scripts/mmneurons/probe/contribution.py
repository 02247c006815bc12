"""The recording that Pan et al. 2024 need: captions, their concepts and the neurons behind them.

Every picture is captioned, as it is and with its image tokens shuffled. The nouns of a caption are
its concepts; each is scored at the position that generates its first token. Only the best neurons
leave the device, never all scores and never a projection on the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from mmneurons.datasets.pictures import read_picture
from mmneurons.methods.activation import last_input_activation
from mmneurons.methods.attribution import attribution, max_over_patches
from mmneurons.methods.contribution import contribution, token_projection
from mmneurons.models.base import MultimodalModel
from mmneurons.models.captions import fill_prompt
from mmneurons.probe.best_neurons import cross_scores, specificity
from mmneurons.probe.concepts import Captioned, Nouns, Variant, caption_batch, shuffled
from mmneurons.probe.generation import Generated
from mmneurons.probe.hooks import Kind
from mmneurons.probe.target import image_gradients
from mmneurons.probe.top import RunningTop, Top
from mmneurons.probe.top_maps import SINGLE_MAPS, top_maps

METHODS = ("contribution", "attribution", "activation")
_SAMPLE = {"sample_id": "str", "group": "str"}
_NEURON = {"layer": "int64", "unit": "int64"}
COLUMNS = {
    "captions/pan": {
        "picture_id": "str",
        "variant": "str",
        "caption": "str",
        "token_ids": "object",
        "token_ends": "object",
    },
    "captions/concepts": {
        "sample_id": "str",
        "picture_id": "str",
        "variant": "str",
        "group": "str",
        "position": "int64",
        "token": "int64",
        "n_tokens": "int64",
        "start": "int64",
        "end": "int64",
    },
    "record/specificity": _SAMPLE
    | {"site": "str", **_NEURON, "related": "object", "random": "object"},
    "record/cross_scores": {
        "picture_id": "str",
        "site": "str",
        "group": "str",
        "neuron_group": "str",
        **_NEURON,
        "score": "float32",
    },
    "exclusions": {"stage": "str", **_SAMPLE, "reason": "str", "detail": "str"},
}
NEURON_COLUMNS = _SAMPLE | {"module": "str", **_NEURON, "score": "float32", "rank": "int64"}


@dataclass(frozen=True)
class PanSettings:
    """What is recorded, and how much of it.

    top_k: numbers of best neurons whose mean map is kept, ascending; as many neurons as the last
    are recorded for each concept, or all where the model has fewer; sites: where contribution and
    activation are read; gradient_rows: concepts in one backward pass; n_tokens: best, and random,
    tokens of a neuron for specificity; seed: of the shuffles and of the random tokens.
    """

    max_new_tokens: int
    top_k: Sequence[int]
    seed: int
    gradient_rows: int = 8
    n_tokens: int = 50
    sites: Sequence[Kind] = ("act", "post")
    methods: Sequence[str] = METHODS
    variants: Sequence[Variant] = ("plain", "shuffled")
    maps: bool = True

    def __post_init__(self):
        if not self.top_k or list(self.top_k) != sorted({max(k, 1) for k in self.top_k}):
            raise ValueError(f"top_k has to ascend from 1 or more: {list(self.top_k)}")


@dataclass(frozen=True)
class PanRecord:
    """Tables and maps by the name of their file without its ending.

    tables: those of COLUMNS, and `neurons/{method}.{site}.{variant}` with NEURON_COLUMNS; maps:
    `{site}/maps`, `plain samples x (len(top_k) + 5) x patches`, float16, none where image tokens
    cannot be traced to patches; facts: what there is to say of the maps and of the model, among it
    `boxes`, of every picture the part that the patches cover (`MultimodalModel.seen_box`).
    """

    tables: dict[str, pd.DataFrame]
    maps: dict[str, np.ndarray]
    facts: dict


def record_pictures(
    model: MultimodalModel,
    prompt: dict[str, str],
    batches: Iterable[Sequence[tuple[str, Path]]],
    nouns: Nouns,
    settings: PanSettings,
) -> PanRecord:
    """Record batches of (picture id, file), in their order.

    prompt: a row of `resources/prompts.yaml`. Batches that are cut from the whole list of pictures
    (`models.captions.shard_of`) give the same numbers however many shards share them.
    """
    boxes: dict[str, list[int]] = {}
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in _schemas(settings)}
    maps: dict[str, list[np.ndarray]] = {name: [empty] for name, empty in _no_maps(model, settings)}
    for batch in batches:
        pictures = [(name, read_picture(path)) for name, path in batch]
        boxes |= {name: list(model.seen_box(picture.size)) for name, picture in pictures}
        batch_tables, batch_maps = record_batch(model, prompt, pictures, nouns, settings)
        for parts, own in ((tables, batch_tables), (maps, batch_maps)):
            for name, values in own.items():
                parts[name].append(values)
    together = {
        name: _table(pd.concat(parts, ignore_index=True) if parts else [], schema)
        for (name, schema), parts in zip(_schemas(settings).items(), tables.values(), strict=True)
    }
    concepts = together["captions/concepts"]
    plain = concepts.loc[concepts["variant"] == "plain", "sample_id"].tolist()
    facts = _facts(model, settings) | {"sample_ids": plain, "boxes": boxes}
    return PanRecord(together, {name: np.concatenate(parts) for name, parts in maps.items()}, facts)


def record_batch(
    model: MultimodalModel,
    prompt: dict[str, str],
    pictures: Sequence[tuple[str, Image.Image]],
    nouns: Nouns,
    settings: PanSettings,
) -> tuple[dict[str, pd.DataFrame], dict[str, np.ndarray]]:
    """Tables and maps of one batch of (picture id, picture); only those that have a row."""
    names, images = [name for name, _ in pictures], [image for _, image in pictures]
    text = fill_prompt(prompt)
    image_tokens = model.embed_pictures(images, text)
    rows: dict[str, list[dict]] = {name: [] for name in COLUMNS}
    tables: dict[str, pd.DataFrame] = {}
    maps: dict[str, np.ndarray] = {}
    for variant in settings.variants:
        shown = image_tokens
        if variant == "shuffled":
            shown = shuffled(image_tokens, names, settings.seed)
        kinds, length = settings.sites, settings.max_new_tokens
        batch = caption_batch(model, prompt, names, shown, nouns, kinds, variant, length)
        rows["captions/pan"] += batch.captions
        rows["captions/concepts"] += batch.concepts
        rows["exclusions"] += batch.exclusions
        if not batch.concepts:
            continue
        tops = _tops(model, text, batch, settings)
        for (method, site), top in tops.items():
            table = _neurons(model, batch.concepts, top, settings.top_k[-1])
            tables[f"neurons/{method}.{site}.{variant}"] = table
        if variant != "plain" or "contribution" not in settings.methods:
            continue
        own = {site: tops["contribution", site] for site in settings.sites}
        for site, top in own.items():
            seed, n_tokens = settings.seed, settings.n_tokens
            rows["record/specificity"] += specificity(model, batch, site, top, n_tokens, seed)
            rows["record/cross_scores"] += cross_scores(model, batch, site, top)
        if settings.maps and model.patch_grid() is not None:
            weights = model.patch_weights(images, text)
            for site, values in top_maps(model, batch, own, settings.top_k, weights).items():
                maps[f"{site}/maps"] = values.half().cpu().numpy()
    tables |= {name: _table(own, COLUMNS[name]) for name, own in rows.items() if own}
    return tables, maps


@torch.no_grad()
def contribution_scores(
    model: MultimodalModel,
    generated: Generated,
    rows: torch.Tensor,
    positions: torch.Tensor,
    tokens: torch.Tensor,
) -> Iterator[dict[Kind, torch.Tensor]]:
    """Contributions of all neurons to chosen tokens (eq. 4), a layer at a time: `concepts x units`.

    rows, positions, tokens: one value a concept, the caption's place in the batch, the generation
    step and the token. Only the tokens' own columns of W_out W_u are formed, once for all sites.
    """
    for place, ffn in enumerate(model.sites("language")):
        projection = token_projection(ffn.output_rows(), model.unembedding(), tokens).T
        projection = projection.to(model.device)
        yield {
            site: contribution(layers[place][rows, positions].float(), projection)
            for site, layers in generated.activations.items()
        }


def _tops(
    model: MultimodalModel, text: str, batch: Captioned, settings: PanSettings
) -> dict[tuple[str, Kind], Top]:
    """Best neurons of each concept by method and site; attribution reads the site `pre`."""
    k = max(settings.top_k[-1], SINGLE_MAPS)
    tops: dict[tuple[str, Kind], Top] = {}
    if "contribution" in settings.methods:
        running = {site: RunningTop(k) for site in settings.sites}
        which = batch.rows, batch.positions, batch.tokens
        for scores in contribution_scores(model, batch.generated, *which):
            for site, top in running.items():
                top.add(scores[site])
        tops |= {("contribution", site): top.result() for site, top in running.items()}
    if "attribution" in settings.methods:
        tops["attribution", "pre"] = _attribution_top(model, text, batch, k, settings.gradient_rows)
    if "activation" in settings.methods:
        for site in settings.sites:
            top = RunningTop(k)
            for layer in batch.generated.activations[site]:
                top.add(last_input_activation(layer))
            tops["activation", site] = top.result()[batch.rows]
    return tops


def _attribution_top(
    model: MultimodalModel, text: str, batch: Captioned, k: int, gradient_rows: int
) -> Top:
    """Attribution for the concepts' tokens, several concepts in one backward pass.

    The last layer, which reaches no logit from image tokens, has scores of 0 and stays in.
    """
    tops = []
    for concepts in torch.arange(len(batch.rows), device=model.device).split(gradient_rows):
        rows, tokens = batch.rows[concepts], batch.tokens[concepts].tolist()
        prefixes = [
            batch.generated.tokens[row][:position]
            for row, position in zip(rows.tolist(), batch.positions[concepts].tolist(), strict=True)
        ]
        encoded = model.encode(batch.image_tokens[rows], text, prefixes)
        record = image_gradients(model, encoded, tokens, ["pre"])
        top = RunningTop(k)
        for z, gradient in zip(record.activations["pre"], record.gradients["pre"], strict=True):
            top.add(max_over_patches(attribution(z, gradient)))
        tops.append(top.result())
    return Top.join(tops)


# ------------------------------------------------------------------------------------- tables


def _neurons(model: MultimodalModel, concepts: list[dict], top: Top, k: int) -> pd.DataFrame:
    """The `k` best neurons of each concept."""
    labels = np.array([site.layer for site in model.sites("language")])
    scores, places, units = (v[:, :k].cpu().numpy() for v in (top.scores, top.layers, top.units))
    n, kept = scores.shape
    columns = {
        "sample_id": np.repeat([concept["sample_id"] for concept in concepts], kept),
        "group": np.repeat([concept["group"] for concept in concepts], kept),
        "module": "language",
        "layer": labels[places].ravel(),
        "unit": units.ravel(),
        "score": scores.ravel(),
        "rank": np.tile(np.arange(kept), n),
    }
    return _table(columns, NEURON_COLUMNS)


def _schemas(settings: PanSettings) -> dict[str, dict[str, str]]:
    """Columns of every table that these settings make."""
    pairs = [
        (method, site)
        for method in settings.methods
        for site in (["pre"] if method == "attribution" else settings.sites)
    ]
    names = [f"neurons/{m}.{site}.{v}" for m, site in pairs for v in settings.variants]
    return COLUMNS | {name: NEURON_COLUMNS for name in names}


def _table(rows: object, schema: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(schema)).astype(schema)


def _no_maps(model: MultimodalModel, settings: PanSettings) -> list[tuple[str, np.ndarray]]:
    """Maps of no sample, by name; none where image tokens cannot be traced to patches."""
    grid = model.patch_grid()
    if grid is None or not settings.maps or "contribution" not in settings.methods:
        return []
    shape = (0, len(settings.top_k) + SINGLE_MAPS, grid[0] * grid[1])
    return [(f"{site}/maps", np.zeros(shape, dtype=np.float16)) for site in settings.sites]


def _facts(model: MultimodalModel, settings: PanSettings) -> dict:
    grid = model.patch_grid()
    n_units = sum(site.n_units for site in model.sites("language"))
    return {
        "top_k": list(settings.top_k),
        "n_units": n_units,
        "recorded": min(settings.top_k[-1], n_units),
        "grid": None if grid is None else list(grid),
        "through_queries": model.grid() is None and grid is not None,
        "inert_layers": sorted(model.inert_layers("language", "image")),
        "seed": settings.seed,
    }
