"""What the trainings of the world's tiny multimodal models share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import CLIPImageProcessorPil

from mmneurons.models.base import MultimodalModel
from mmneurons.models.minigpt4 import PIXEL_MEAN, PIXEL_STD
from mmneurons.world import grammar
from mmneurons.world.chunks import draw_chunks
from mmneurons.world.evaluation import object_recall_precision
from mmneurons.world.scene import category_map, draw_scene
from mmneurons.world.vocabulary import ALL_CATEGORIES, BACKGROUNDS, CATEGORIES, COLOURS

CLASSES = (None, *CATEGORIES)
COLOUR_NAMES = tuple(COLOURS)
Progress = Callable[[Iterator[int], int, str], Iterator[int]]


# ---------------------------------------------------------------------------------- pictures


@dataclass(frozen=True)
class WorldPictures:
    """Drawn pictures and what is on them.

    pixels: `n x size x size x 3` uint8, squashed as the model's preprocessing squashes;
    categories: `n x patches`, index into CLASSES; colours: `n x patches`, index into COLOUR_NAMES,
    -1 where there is no object; backgrounds: `n`, index into BACKGROUNDS; captions: `n` texts.
    """

    pixels: np.ndarray
    categories: np.ndarray
    colours: np.ndarray
    backgrounds: np.ndarray
    captions: list[str]


def draw_pictures(n: int, seed: int, size: int, patch: int, processes: int) -> WorldPictures:
    """Draw `n` scenes; the same for any number of processes."""
    columns = draw_chunks(partial(_draw_chunk, seed, size, patch), n, processes)
    arrays = [np.concatenate(column) for column in columns[:4]]
    return WorldPictures(*arrays, captions=[text for part in columns[4] for text in part])


def _draw_chunk(seed: int, size: int, patch: int, start: int, n: int) -> tuple:
    pixels = np.empty((n, size, size, 3), np.uint8)
    categories = np.zeros((n, (size // patch) ** 2), np.int64)
    colours = np.full_like(categories, -1)
    backgrounds = np.empty(n, np.int64)
    captions = []
    rng = np.random.default_rng([seed, start])
    for i in range(n):
        scene = draw_scene(rng)
        pixels[i] = scene.picture.resize((size, size), Image.Resampling.BICUBIC)
        labels = Image.fromarray(category_map(scene)).resize((size, size), Image.Resampling.NEAREST)
        categories[i] = majority(np.asarray(labels), patch)
        for thing in scene.objects:
            label = CLASSES.index(thing.category)
            colours[i][categories[i] == label] = COLOUR_NAMES.index(thing.adjective)
        backgrounds[i] = BACKGROUNDS.index(scene.background)
        captions.append(grammar.canonical_caption(scene))
    return pixels, categories, colours, backgrounds, captions


def majority(labels: np.ndarray, patch: int) -> np.ndarray:
    """Raster list of the category that fills at least three eighths of a patch, else background."""
    rows, cols = (side // patch for side in labels.shape)
    tiles = labels.reshape(rows, patch, cols, patch).transpose(0, 2, 1, 3)
    counts = np.stack([(tiles == c).sum(axis=(2, 3)) for c in range(1, len(CLASSES))], axis=-1)
    best = counts.argmax(axis=-1) + 1
    return np.where(counts.max(axis=-1) * 8 >= 3 * patch * patch, best, 0).ravel()


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """`n x size x size x 3` uint8 to what CLIP's towers read, `n x 3 x size x size`."""
    scaled = (pixels.astype(np.float32) / 255 - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()


def squashing_processor(size: int) -> CLIPImageProcessorPil:
    """CLIP's preprocessing with the whole picture squashed to a square, so nothing is cut off."""
    return CLIPImageProcessorPil(size={"height": size, "width": size}, do_center_crop=False)


@torch.no_grad()
def features(tower: Callable[[torch.Tensor], torch.Tensor], pixels: np.ndarray) -> torch.Tensor:
    """A frozen tower's output for every picture, in half precision to save memory."""
    parts = [
        tower(normalised(pixels[start : start + 256])).half()
        for start in range(0, len(pixels), 256)
    ]
    return torch.cat(parts)


# ------------------------------------------------------------------------------------ seeing


class PatchReader(nn.Module):
    """Linear heads that make a tower name what each patch shows; dropped after training."""

    # Most patches are background; at full weight it would drown the objects.
    background_weight = 0.25

    def __init__(self, hidden: int):
        super().__init__()
        self.category = nn.Linear(hidden, len(CLASSES))
        self.colour = nn.Linear(hidden, len(COLOUR_NAMES))
        self.background = nn.Linear(hidden, len(BACKGROUNDS))
        weights = torch.ones(len(CLASSES))
        weights[0] = self.background_weight
        self.register_buffer("weights", weights)

    def loss(
        self,
        patches: torch.Tensor,
        categories: torch.Tensor,
        colours: torch.Tensor,
        backgrounds: torch.Tensor,
    ) -> torch.Tensor:
        """patches: `batch x patches x hidden`, after the norm and without the class token."""
        category = F.cross_entropy(
            self.category(patches).flatten(0, 1), categories.flatten(), weight=self.weights
        )
        colour = F.cross_entropy(
            self.colour(patches).flatten(0, 1), colours.flatten(), ignore_index=-1
        )
        background = F.cross_entropy(self.background(patches.mean(dim=1)), backgrounds)
        return category + 0.3 * colour + 0.1 * background


# ------------------------------------------------------------------------------------ telling


def caption_after(prefix: str, caption: str) -> str:
    """A canonical caption that begins with another prefix: "An image of a red car ..."."""
    return f"{prefix} {caption.removeprefix('The image shows ')}"


def endings(model: MultimodalModel, captions: Sequence[str], prefix: str) -> list[list[int]]:
    """Token ids of what follows `prefix` in each caption, with the end token."""
    tokenizer = model.tokenizer
    return [
        tokenizer(text.removeprefix(prefix), add_special_tokens=False).input_ids
        + [tokenizer.eos_token_id]
        for text in captions
    ]


def caption_loss(
    model: MultimodalModel, image_tokens: torch.Tensor, prompt: str, targets: list[list[int]]
) -> torch.Tensor:
    """Cross entropy of the decoder's continuation of `prompt`, one of `targets` a picture."""
    encoded = model.encode(image_tokens, prompt, [ids[:-1] for ids in targets])
    states = model.final_states(encoded)[:, encoded.prompt_end - 1 :]
    wanted = torch.full(states.shape[:2], -100)
    for row, ids in enumerate(targets):
        wanted[row, : len(ids)] = torch.tensor(ids)
    return F.cross_entropy(model.logits(states).flatten(0, 1), wanted.flatten())


def crowded(pictures: WorldPictures, exponent: int) -> torch.Tensor:
    """Row numbers in which a picture of k kinds of objects is there k ** exponent times.

    Captions of three objects are where a decoder goes wrong; it has those of one long before.
    """
    shown = torch.from_numpy(pictures.categories)[..., None] == torch.arange(1, len(CLASSES))
    kinds = shown.any(dim=1).sum(dim=1)
    return torch.repeat_interleave(torch.arange(len(kinds)), kinds**exponent)


# ----------------------------------------------------------------------- descending and judging


def descend(
    loss: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    parameters: Sequence[nn.Parameter],
    n: int,
    progress: Progress,
    name: str,
    *,
    steps: int,
    batch_size: int,
    lr: float,
) -> None:
    """AdamW with warm-up and cosine decay over seeded random batches.

    loss: from row numbers below `n` and the generator of everything random.
    """
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=steps, pct_start=0.06, div_factor=20, final_div_factor=50
    )
    generator = torch.Generator().manual_seed(steps)
    for _ in (bar := progress(range(steps), steps, name)):
        rows = torch.randint(n, (batch_size,), generator=generator)
        value = loss(rows, generator)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if hasattr(bar, "set_postfix"):
            bar.set_postfix(loss=f"{value.item():.3f}", refresh=False)


def evaluate(
    model: MultimodalModel, prompt: str, n: int, seed: int, prefix: str = grammar.PREFIX
) -> dict[str, float]:
    """Object recall and precision, and the share of exact captions, on `n` new pictures.

    prefix: of the captions, with which `prompt` ends.
    """
    rng = np.random.default_rng([seed, n])
    scenes = [draw_scene(rng) for _ in range(n)]
    captions = []
    for start in range(0, n, 64):
        pictures = [scene.picture for scene in scenes[start : start + 64]]
        encoded = model.encode(model.embed_pictures(pictures, prompt), prompt)
        generated = model.generate(encoded, max_new_tokens=32)
        captions += [f"{prefix} {model.decode(ids).strip()}" for ids in generated]
    truth = [caption_after(prefix, grammar.canonical_caption(scene)) for scene in scenes]
    objects = [[thing.category.name for thing in scene.objects] for scene in scenes]
    names = [category.name for category in ALL_CATEGORIES]
    exact = np.mean([caption == true for caption, true in zip(captions, truth, strict=True)])
    return object_recall_precision(captions, objects, names) | {
        "exact": float(exact),
        "pictures": n,
    }
