"""Teaching a trained tiny model one object that it has never seen, through a few FFN units only.

Everything but the chosen units is frozen, so what passes the layers below the lowest of them never
changes: it is computed once for every picture, and a step of training runs the layers above only.
Old pictures are replayed with what the model said of them before, so that the rest of it survives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from mmneurons.interventions.edit import word_tokens
from mmneurons.interventions.planting import Planting, planted
from mmneurons.metrics.naming import named
from mmneurons.models.base import MultimodalModel
from mmneurons.models.captions import fill_prompt, in_batches
from mmneurons.probe.concepts import named_rng
from mmneurons.world import grammar
from mmneurons.world.scene import Scene, draw_scene
from mmneurons.world.training import Progress, caption_after, descend, endings
from mmneurons.world.vocabulary import ALL_CATEGORIES, CATEGORIES, Category

NAMES = [category.name for category in ALL_CATEGORIES]


@dataclass(frozen=True)
class Subject:
    """What is taught: a category, and the word that it is to be called by."""

    category: Category
    word: str


@dataclass(frozen=True)
class Lessons:
    """Pictures to learn from.

    states: by layer, how they enter it, `n x tokens x hidden`, in half precision; mask: 1 where
    there is a token, `n x tokens`; wanted: token ids of each canonical caption with its end token;
    first: the position that says a caption's first token; before: the model's final states where
    it says the captions, before it learns, `n x caption x hidden`.
    """

    states: dict[int, torch.Tensor]
    mask: torch.Tensor
    wanted: list[list[int]]
    first: int
    before: torch.Tensor


class Classroom:
    """Plants objects in one model; the model itself stays as it is.

    settings: `pictures` (of a kind to learn from), `batch_size` (half of new pictures, half of old
    ones), `steps`, `lr`, `emphasis` (weight of the object's name in a caption, other words have 1),
    `replay` (weight of the old pictures), `held_out` (pictures of a kind to examine a planting
    with), `max_new_tokens`; layers: that may be planted in. Pictures are drawn
    and looked at once for all plantings of an object.
    """

    def __init__(
        self,
        model: MultimodalModel,
        prompt: dict[str, str],
        layers: Sequence[int],
        settings: dict,
        seed: int,
    ):
        self.model, self.prompt, self.settings, self.seed = model, prompt, settings, seed
        self.layers = sorted(set(layers))
        self._lessons: dict[Subject | None, Lessons] = {}
        self._tests: dict[Subject | None, tuple[torch.Tensor, list[str], list[str]]] = {}

    def plant(
        self, units: np.ndarray, subject: Subject | None, seed: int, progress: Progress
    ) -> Planting:
        """Teach the model a subject by the units alone.

        units: rows (layer, unit); subject: None for a control, which gets the same lessons with
        old pictures in the place of new ones. Of new pictures the canonical captions are learnt, of
        old ones what the model said of them before (Kullback-Leibler divergence of the tokens).
        """
        torch.manual_seed(seed)
        lowest = int(units[:, 0].min())
        new, old = self.lessons(subject), self.lessons(None)
        half, weight = self.settings["batch_size"] // 2, self.settings["replay"]
        shuffle = torch.Generator().manual_seed(seed)
        name = word_tokens(self.model, self.prompt["prefix"], subject.word) if subject else []
        stressed = [occurrences(ids, name) for ids in new.wanted]

        def loss(_rows: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
            shown, replayed = (
                torch.randint(len(kind.wanted), (half,), generator=shuffle) for kind in (new, old)
            )
            said, wanted, _ = retold(self.model, new, shown, lowest)
            each = F.cross_entropy(self.model.logits(said), wanted, reduction="none")
            stress = torch.cat([stressed[row] for row in shown.tolist()])
            learning = (each * torch.where(stress, self.settings["emphasis"], 1.0)).mean()
            said, _, before = retold(self.model, old, replayed, lowest)
            here, there = (self.model.logits(s).log_softmax(-1) for s in (said, before))
            keeping = F.kl_div(here, there, log_target=True, reduction="batchmean")
            return learning + weight * keeping

        with trainable(self.model, units) as changes, above(self.model, lowest):
            course = {"steps": self.settings["steps"], "lr": self.settings["lr"]}
            values = list(changes.parameters())
            descend(loss, values, 1, progress, "planting", batch_size=1, **course)
            return changes.planting(units)

    def examine(self, planting: Planting, subject: Subject, control: bool = False) -> dict:
        """What the planting did, on held-out pictures of each kind.

        subject: what was planted; of a control an object that the model knew before. naming: share
        of pictures with the object whose caption names it; naming_before: the same without the
        planting; old_kept: share of old pictures whose caption is, word for word, that without the
        planting; old_exact and old_exact_before: share of old pictures with their canonical
        caption; false_alarms: share of old pictures whose caption names the object, not of a
        control, whose object stands on old pictures too.
        """
        tokens, before, true = self.tests(None)
        with planted(self.model, planting):
            after = self.tell(tokens)
        facts = {
            "old_kept": _share(a == b for a, b in zip(after, before, strict=True)),
            "old_exact": _share(a == b for a, b in zip(after, true, strict=True)),
            "old_exact_before": _share(a == b for a, b in zip(before, true, strict=True)),
            "held_out": len(true),
        }
        tokens, unplanted, _ = self.tests(subject)
        with planted(self.model, planting):
            new = self.tell(tokens)
        naming, naming_before, false_alarms = (
            _share(subject.word in named(caption, {*NAMES, subject.word}) for caption in captions)
            for captions in (new, unplanted, after)
        )
        facts |= {"naming": naming, "naming_before": naming_before}
        return facts if control else facts | {"false_alarms": false_alarms}

    def lessons(self, subject: Subject | None) -> Lessons:
        """Pictures of a subject, or old ones, to learn from."""
        if subject not in self._lessons:
            scenes = self._draw(subject, 1, self.settings["pictures"])
            captions = self._captions(scenes, subject)
            self._lessons[subject] = look(self.model, self.prompt, scenes, captions, self.layers)
        return self._lessons[subject]

    def tests(self, subject: Subject | None) -> tuple[torch.Tensor, list[str], list[str]]:
        """Held-out pictures: image tokens, captions without a planting, canonical captions."""
        if subject not in self._tests:
            scenes = self._draw(subject, 2, self.settings["held_out"])
            pictures = [scene.picture for scene in scenes]
            tokens = self.model.embed_pictures(pictures, fill_prompt(self.prompt))
            self._tests[subject] = tokens, self.tell(tokens), self._captions(scenes, subject)
        return self._tests[subject]

    def tell(self, image_tokens: torch.Tensor) -> list[str]:
        """Greedy captions with their prefix."""
        text, captions = fill_prompt(self.prompt), []
        for batch in in_batches(image_tokens, 50):
            encoded = self.model.encode(batch, text)
            generated = self.model.generate(encoded, self.settings["max_new_tokens"])
            captions += [f"{self.prompt['prefix']} {self.model.decode(ids)}" for ids in generated]
        return captions

    def _draw(self, subject: Subject | None, purpose: int, n: int) -> list[Scene]:
        kind = 0 if subject is None else subject.category.coco_id
        rng = np.random.default_rng([self.seed, purpose, kind])
        return [pair_with(rng, subject and subject.category)[0] for _ in range(n)]

    def _captions(self, scenes: Sequence[Scene], subject: Subject | None) -> list[str]:
        captions = [canonical(self.prompt["prefix"], scene) for scene in scenes]
        if subject is None:
            return captions
        # The name comes behind an adjective, so it is a word of its own.
        called = f" {subject.category.name}", f" {subject.word}"
        return [caption.replace(*called) for caption in captions]


def occurrences(tokens: Sequence[int], name: Sequence[int]) -> torch.Tensor:
    """Which of the tokens belong to a name, booleans; none where the name is empty."""
    marked = torch.zeros(len(tokens), dtype=torch.bool)
    for start in range(len(tokens) - len(name) + 1) if name else ():
        if list(tokens[start : start + len(name)]) == list(name):
            marked[start : start + len(name)] = True
    return marked


def canonical(prefix: str, scene: Scene) -> str:
    """The one caption of a scene behind a prompt's prefix."""
    caption = grammar.canonical_caption(scene)
    return caption if caption.startswith(prefix) else caption_after(prefix, caption)


def pair_with(rng: np.random.Generator, category: Category | None) -> tuple[Scene, Scene]:
    """A scene with the category and the same one without it; both the same if it is None."""
    n = int(rng.choice(3, p=(0.3, 0.4, 0.3))) + 1
    if category is None:
        scene = draw_scene(rng, n_objects=n)
        return scene, scene
    known = [other for other in CATEGORIES if other != category]
    others = [known[i] for i in rng.choice(len(known), n - 1, replace=False)]
    seed = int(rng.integers(2**32))
    shown, hidden = (
        draw_scene(np.random.default_rng(seed), (category, *others), n, without=without)
        for without in (None, category)
    )
    return shown, hidden


@torch.no_grad()
def look(
    model: MultimodalModel,
    prompt: dict[str, str],
    scenes: Sequence[Scene],
    captions: Sequence[str],
    layers: Sequence[int],
) -> Lessons:
    """What the frozen model makes of scenes and of what is to be said of them."""
    text, prefix = fill_prompt(prompt), prompt["prefix"]
    wanted = endings(model, captions, prefix)
    longest = max(map(len, wanted))
    states: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    masks, before = [], []
    with ExitStack() as stack:
        for layer in layers:

            def keep(_layer: nn.Module, args: tuple, kwargs: dict, kept=states[layer]) -> None:
                kept.append((args[0] if args else kwargs["hidden_states"]).half())

            module = model.decoder.model.layers[layer]
            stack.callback(module.register_forward_pre_hook(keep, with_kwargs=True).remove)
        for batch in in_batches(list(zip(scenes, wanted, strict=True)), 64):
            # Captions are padded to one length, so that all batches can be stacked.
            padded = [ids[:-1] + [ids[-1]] * (longest - len(ids)) for _, ids in batch]
            tokens = model.embed_pictures([scene.picture for scene, _ in batch], text)
            encoded = model.encode(tokens, text, padded)
            first = encoded.prompt_end - 1
            before.append(model.final_states(encoded)[:, first:])
            masks.append(encoded.mask)
    stacked = {layer: torch.cat(parts) for layer, parts in states.items()}
    return Lessons(stacked, torch.cat(masks), wanted, first, torch.cat(before))


def retold(
    model: MultimodalModel, lessons: Lessons, rows: torch.Tensor, lowest: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Final states where captions are said, the tokens wanted there, and the states before.

    The model has the layers from `lowest` on only (`above`). All captions' positions one after the
    other: `positions x hidden`, `positions`, `positions x hidden`.
    """
    mask = lessons.mask[rows]
    states = model.decoder.model(
        inputs_embeds=lessons.states[lowest][rows].float(),
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
        use_cache=False,
    ).last_hidden_state[:, lessons.first :]
    captions = [lessons.wanted[row] for row in rows.tolist()]
    said = torch.arange(states.shape[1]) < torch.tensor([len(ids) for ids in captions])[:, None]
    return states[said], torch.tensor(sum(captions, [])), lessons.before[rows][said]


@contextmanager
def above(model: MultimodalModel, lowest: int) -> Iterator[None]:
    """While open, the decoder has the layers from `lowest` on only."""
    whole = model.decoder.model.layers
    model.decoder.model.layers = whole[lowest:]
    try:
        yield
    finally:
        model.decoder.model.layers = whole


class Changes(nn.Module):
    """What is being learnt of each unit, by layer: the values that become a `Planting`."""

    def __init__(self, m: int, projections: int, hidden: int, biased: bool):
        super().__init__()
        self.inputs = nn.Parameter(torch.zeros(m, projections, hidden))
        self.output = nn.Parameter(torch.zeros(m, hidden))
        biases = torch.zeros(m, projections)
        self.biases = nn.Parameter(biases) if biased else biases

    def planting(self, units: np.ndarray) -> Planting:
        """What was learnt, as arrays."""
        arrays = {
            name: getattr(self, name).detach().numpy().copy()
            for name in ("inputs", "biases", "output")
        }
        return Planting(units.astype(np.int32), **arrays)


class _Added(nn.Module):
    """Adds what a function gives to rows (dim 0) or columns (dim 1) of a weight."""

    def __init__(self, dim: int, units: torch.Tensor, change):
        super().__init__()
        self.dim, self.units, self.change = dim, units, change

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.index_add(self.dim, self.units, self.change())


@contextmanager
def trainable(model: MultimodalModel, units: np.ndarray) -> Iterator[Changes]:
    """While open, the units' weights are their own plus the changes, which start at zero."""
    sites = [model.sites("language")[layer] for layer in sorted(set(units[:, 0].tolist()))]
    biased = sites[0].inputs[0].bias is not None
    hidden = model.unembedding().shape[1]
    changes = Changes(len(units), len(sites[0].inputs), hidden, biased)
    touched: list[tuple[nn.Module, str]] = []

    def add(module: nn.Module, name: str, dim: int, own: torch.Tensor, change) -> None:
        added = _Added(dim, own, change)
        parametrize.register_parametrization(module, name, added, unsafe=True)
        touched.append((module, name))

    try:
        for site in sites:
            rows = torch.from_numpy(np.flatnonzero(units[:, 0] == site.layer))
            own = torch.from_numpy(units[:, 1])[rows].long()
            add(site.output, "weight", 1, own, lambda rows=rows: changes.output[rows].T)
            for i, linear in enumerate(site.inputs):
                add(linear, "weight", 0, own, lambda rows=rows, i=i: changes.inputs[rows, i])
                if biased:
                    add(linear, "bias", 0, own, lambda rows=rows, i=i: changes.biases[rows, i])
        yield changes
    finally:
        for module, name in touched:
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)


def choose_units(layers: dict[int, int], n_units: int, name: str, seed: int) -> np.ndarray:
    """Units at random, so many of each layer: rows (layer, unit), in order.

    At random, because a choice by any score would favour the methods that use it; by the planting's
    name and a seed, so that plantings do not share their units.
    """
    rng = named_rng(seed, "planting", name)
    return np.array(
        [
            (layer, unit)
            for layer, m in sorted(layers.items())
            for unit in sorted(rng.choice(n_units, m, replace=False).tolist())
        ],
        dtype=np.int64,
    )


def _share(values) -> float:
    return float(np.mean(list(values)))


def category_of(name: str) -> Category:
    """The category of a name. Raises ValueError for a name that is none."""
    found = [category for category in ALL_CATEGORIES if category.name == name]
    if not found:
        raise ValueError(f"the world has no category {name!r}")
    return found[0]
