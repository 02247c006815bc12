"""The scores of every method on the same samples, from the same passes.

A sample is a concept on a picture: the picture, its version without the concept, the caption's
tokens before the concept's name, and the name's first token. What one method needs does not depend
on which others are asked for, so any of them may be recorded alone, to see what it costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from mmneurons.methods.attribution import attribution, max_over_patches, mean_over_patches
from mmneurons.methods.contribution import contribution, token_projection
from mmneurons.methods.thresholds import entry_scores
from mmneurons.methods.two_stage import activation_difference, gradient_activation, over_patches
from mmneurons.models.base import Encoded, FfnSite, MultimodalModel
from mmneurons.probe.hooks import Kind, watch
from mmneurons.probe.target import ImageRecord, image_activations, image_gradients
from mmneurons.probe.two_stage import Case

METHODS = ("activation", "contribution", "attribution", "two_stage", "dape")


@dataclass(frozen=True)
class Scores:
    """Scores of n samples; L layers, U units each.

    values: float32 `n x L x U` by name, the higher the better; of a site `act` or `post`:

    - `activation_last.{site}`: activation at the last token of the input (Pan et al. 2024, their
      baseline), the same for every concept of a picture,
    - `activation.{site}`: activation at the position that generates the concept's first token,
    - `contribution.{site}`: its contribution there to that token's logit (Pan et al. 2024, eq. 4),
    - `attribution.max`, `attribution.mean`: gradient times input of the activation function at the
      image tokens (Schwettmann et al. 2023, eq. 2), their maximum and mean,
    - `two_stage.{site}`: minus the tail share at which two-stage filtering lets the neuron in
      (`methods.thresholds.entry_scores`).

    counts: int32 `n x L x U` by "image" and "text", tokens of the prompt at which a unit is active;
    tokens: int32 `n`, how many there are. DAPE is computed from these (`methods.dape_concepts`).
    mean_square: float32 `n x L` by site, of the activations at image tokens; logits: `n`, of the
    concepts' tokens. Names that the recorded methods do not need are missing.
    """

    values: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    tokens: dict[str, np.ndarray]
    mean_square: dict[str, np.ndarray]
    logits: np.ndarray


def record_case_scores(
    model: MultimodalModel,
    prompt: str,
    cases: Sequence[Case],
    sites: Sequence[Kind],
    batch_size: int,
    methods: Sequence[str] = METHODS,
    orders: Sequence[torch.Tensor] | None = None,
) -> Scores:
    """Record samples in their order.

    sites: where activation, contribution and two-stage filtering read; prompt: filled. orders: of
    each sample a permutation of its image tokens, which both pictures' tokens are brought into.

    It takes a forward and a backward pass on the picture and a forward pass on the one without the
    concept, whatever the number of layers. A batch holds samples that follow each other and whose
    pictures have the same number of image tokens, so the samples themselves say how they are cut.
    Raises ValueError for a method that is not known.
    """
    if unknown := set(methods) - set(METHODS):
        raise ValueError(f"no such method: {', '.join(sorted(unknown))}")
    parts: dict[str, list[np.ndarray]] = {}
    for own in batches(model, cases, batch_size):
        batch_orders = None if orders is None else [orders[place] for place in own]
        batch = [cases[place] for place in own]
        for name, values in _batch(model, prompt, batch, sites, methods, batch_orders).items():
            parts.setdefault(name, []).append(values)
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    kinds: dict[str, dict[str, np.ndarray]] = {
        kind: {} for kind in ("values", "counts", "tokens", "mean_square")
    }
    logits = arrays.pop("logits", np.zeros(0, np.float32))
    for name, values in arrays.items():
        kind, own_name = name.split("/")
        kinds[kind][own_name] = values
    return Scores(**kinds, logits=logits)


def batches(model: MultimodalModel, cases: Sequence[Case], size: int) -> list[list[int]]:
    """Places of the cases of each batch."""
    cut: list[list[int]] = []
    before = None
    for place, case in enumerate(cases):
        numbers = tuple(model.n_image_tokens(p.size) for p in (case.original, case.inpainted))
        if numbers != before or len(cut[-1]) == size:
            cut.append([])
        cut[-1].append(place)
        before = numbers
    return cut


def _batch(
    model: MultimodalModel,
    prompt: str,
    cases: Sequence[Case],
    sites: Sequence[Kind],
    methods: Sequence[str],
    orders: Sequence[torch.Tensor] | None,
) -> dict[str, np.ndarray]:
    """Arrays of one batch by `kind/name`; all positions are reduced layer by layer."""
    targets = [case.target_token for case in cases]

    def encode(pictures: list[Image.Image]) -> Encoded:
        tokens = model.embed_pictures(pictures, prompt)
        if orders is not None:
            pairs = zip(tokens, orders, strict=True)
            tokens = torch.stack([own[order.to(own.device)] for own, order in pairs])
        return model.encode(tokens, prompt, [case.prefix_tokens for case in cases])

    encoded = encode([case.original for case in cases])
    kinds: list[Kind] = list(sites) if "two_stage" in methods else []
    reading = sites if {"activation", "contribution"} & set(methods) else []
    with _read(model, encoded, reading, "dape" in methods) as read:
        if "attribution" in methods or kinds:
            image_kinds = [*kinds, *(["pre"] if "attribution" in methods else [])]
            found = image_gradients(model, encoded, targets, image_kinds)
        else:
            found = image_activations(model, encoded, [])
    arrays = {f"counts/{name}": _stack(layers).astype(np.int32) for name, layers in read.active()}
    arrays |= {f"tokens/{name}": n.cpu().numpy().astype(np.int32) for name, n in read.tokens()}
    if found.logits is not None:
        arrays["logits"] = found.logits.float().cpu().numpy()
    arrays |= _generating_scores(model, read, targets, methods)
    if "attribution" in methods:
        pairs = zip(found.activations["pre"], found.gradients["pre"], strict=True)
        scores = [attribution(z, gradient) for z, gradient in pairs]
        arrays["values/attribution.max"] = _stack(map(max_over_patches, scores))
        arrays["values/attribution.mean"] = _stack(map(mean_over_patches, scores))
    if kinds:
        without = image_activations(model, encode([case.inpainted for case in cases]), kinds)
        for site in kinds:
            arrays[f"values/two_stage.{site}"] = _two_stage(model, found, without, site)
            squares = [active.square().mean(dim=(1, 2)) for active in found.activations[site]]
            arrays[f"mean_square/{site}"] = _stack(squares)
    return arrays


class _Reader:
    """What is read of a pass over the prompts, beside the image tokens.

    generating: of each site a tensor a layer, `batch x 2 x units`: at the last token of the input,
    and at the position that generates the target.
    """

    def __init__(self, model: MultimodalModel, encoded: Encoded, counting: bool):
        self.model, self.counting = model, counting
        ends = torch.tensor(encoded.lengths, device=model.device) + encoded.prompt_end - 1
        self.positions = torch.stack([torch.full_like(ends, encoded.prompt_end - 1), ends], dim=1)
        # Counted are the tokens of the prompt, as Huo et al. 2024 count: without an answer.
        asked = encoded.mask.bool().clone()
        asked[:, encoded.prompt_end :] = False
        self.counted = {"image": encoded.image_mask, "text": asked & ~encoded.image_mask}
        self.generating: dict[Kind, list[torch.Tensor]] = {}
        self.counts: dict[str, list[torch.Tensor]] = {name: [] for name in self.counted}

    def read(self, _site: FfnSite, kind: Kind, tensor: torch.Tensor) -> None:
        """Keep the two positions of one layer."""
        rows = torch.arange(len(tensor), device=tensor.device)[:, None]
        here = tensor.detach()[rows, self.positions.to(tensor.device)]
        self.generating.setdefault(kind, []).append(here.float().to(self.model.device))

    def count(self, _site: FfnSite, _kind: Kind, tensor: torch.Tensor) -> None:
        """Count one layer's active tokens."""
        active = tensor.detach() > 0
        for name, mask in self.counted.items():
            counted = (active & mask.to(active.device)[:, :, None]).sum(dim=1)
            self.counts[name].append(counted.to(self.model.device))

    def active(self) -> list[tuple[str, list[torch.Tensor]]]:
        """Counts by kind of token, a tensor a layer; none unless they were asked for."""
        return list(self.counts.items()) if self.counting else []

    def tokens(self) -> list[tuple[str, torch.Tensor]]:
        """How many tokens of each kind there are, `batch`."""
        if not self.counting:
            return []
        return [(name, mask.sum(dim=1)) for name, mask in self.counted.items()]


@contextmanager
def _read(
    model: MultimodalModel, encoded: Encoded, sites: Sequence[Kind], counting: bool
) -> Iterator[_Reader]:
    reader = _Reader(model, encoded, counting)
    language = model.sites("language")
    counted: list[Kind] = ["act"] if counting else []
    with watch(language, sites, reader.read), watch(language, counted, reader.count):
        yield reader


def _generating_scores(
    model: MultimodalModel, read: _Reader, targets: Sequence[int], methods: Sequence[str]
) -> dict[str, np.ndarray]:
    """Activation and contribution where captions are generated."""
    arrays = {}
    if "activation" in methods:
        for site, layers in read.generating.items():
            both = _stack(layers)  # batch x layers x 2 x units
            arrays[f"values/activation_last.{site}"] = both[:, :, 0]
            arrays[f"values/activation.{site}"] = both[:, :, 1]
    if "contribution" in methods:
        tokens = torch.tensor(list(targets), device=model.device)
        projections = [
            token_projection(ffn.output_rows(), model.unembedding(), tokens).T.to(model.device)
            for ffn in model.sites("language")
        ]
        for site, layers in read.generating.items():
            pairs = zip(layers, projections, strict=True)
            scores = [contribution(layer[:, 1], projection) for layer, projection in pairs]
            arrays[f"values/contribution.{site}"] = _stack(scores)
    return arrays


def _two_stage(
    model: MultimodalModel, found: ImageRecord, without: ImageRecord, site: Kind
) -> np.ndarray:
    pairs = zip(found.activations[site], without.activations[site], strict=True)
    difference = _stack(over_patches(activation_difference(o, i)) for o, i in pairs)
    pairs = zip(found.activations[site], found.gradients[site], strict=True)
    gradact = _stack(over_patches(gradient_activation(a, g)) for a, g in pairs)
    inert = model.inert_layers("language", "image")
    samples = zip(difference, gradact, strict=True)
    return np.stack([entry_scores(d, g, inert) for d, g in samples]).astype(np.float32)


def _stack(layers) -> np.ndarray:
    """One `batch x ...` tensor a layer to `batch x L x ...` on the host."""
    return torch.stack(list(layers), dim=1).cpu().numpy()
