"""Training of the world's MiniGPT-4, in the two stages of the real one.

First the vision tower learns to see: every patch is asked for its object and colour, every picture
for its background. Then the tower is frozen, as MiniGPT-4's is, and projection and decoder learn to
caption. The tower's output is computed once, so the second stage costs only the decoder.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.minigpt4_modeling import MiniGPT4Config, MiniGPT4ForConditionalGeneration
from mmneurons.world import grammar
from mmneurons.world.evaluation import object_recall_precision
from mmneurons.world.scene import category_map, draw_scene
from mmneurons.world.vocabulary import ALL_CATEGORIES, BACKGROUNDS, CATEGORIES, COLOURS

CLASSES = (None, *CATEGORIES)
COLOUR_NAMES = tuple(COLOURS)
Progress = Callable[[Iterator[int], int, str], Iterator[int]]


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
    chunk = 256
    jobs = [(seed, i, min(chunk, n - i), size, patch) for i in range(0, n, chunk)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = pool.starmap(_draw_chunk, jobs)
    columns = list(zip(*parts, strict=True))
    arrays = [np.concatenate(column) for column in columns[:4]]
    return WorldPictures(*arrays, captions=[text for part in columns[4] for text in part])


def _draw_chunk(seed: int, start: int, n: int, size: int, patch: int) -> tuple:
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
        categories[i] = _majority(np.asarray(labels), patch)
        for thing in scene.objects:
            label = CLASSES.index(thing.category)
            colours[i][categories[i] == label] = COLOUR_NAMES.index(thing.adjective)
        backgrounds[i] = BACKGROUNDS.index(scene.background)
        captions.append(grammar.canonical_caption(scene))
    return pixels, categories, colours, backgrounds, captions


def _majority(labels: np.ndarray, patch: int) -> np.ndarray:
    """The category that fills at least three eighths of a patch, else background."""
    rows, cols = (side // patch for side in labels.shape)
    tiles = labels.reshape(rows, patch, cols, patch).transpose(0, 2, 1, 3)
    counts = np.stack([(tiles == c).sum(axis=(2, 3)) for c in range(1, len(CLASSES))], axis=-1)
    best = counts.argmax(axis=-1) + 1
    return np.where(counts.max(axis=-1) * 8 >= 3 * patch * patch, best, 0).ravel()


class PatchReader(nn.Module):
    """Linear heads that make the tower name what each patch shows; dropped after training."""

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


def train_vision(
    network: MiniGPT4ForConditionalGeneration,
    pictures: WorldPictures,
    pixels: torch.Tensor,
    window: int,
    windows: dict,
    whole: dict,
    progress: Progress,
) -> None:
    """Teach the tower in place; `pixels` are the normalised `n x 3 x size x size`.

    First on windows of `window x window` patches around objects, which hold more of what there is
    to learn and cost a fraction, then on whole pictures. windows and whole: steps, batch_size, lr.
    """
    reader = PatchReader(network.config.vision_config.hidden_size)
    parameters = [*network.visual_encoder.parameters(), *reader.parameters()]
    categories = torch.from_numpy(pictures.categories)
    colours = torch.from_numpy(pictures.colours)
    backgrounds = torch.from_numpy(pictures.backgrounds)
    patch = network.config.vision_config.patch_size
    side = network.config.vision_config.image_size // patch
    steps = torch.arange(window)

    def of_windows(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        # A random patch of an object, at a random place of the window as far as the border allows.
        focus = (categories[rows] > 0).float().multinomial(1, generator=generator)[:, 0]
        corner = torch.stack([focus // side, focus % side], dim=1)
        corner -= torch.randint(window, corner.shape, generator=generator)
        corner.clamp_(0, side - window)
        places = (corner[:, :1] + steps)[:, :, None] * side + (corner[:, 1:] + steps)[:, None, :]
        places = places.flatten(1)
        crops = torch.stack(
            [
                pixels[row, :, y * patch : (y + window) * patch, x * patch : (x + window) * patch]
                for row, (y, x) in zip(rows.tolist(), corner.tolist(), strict=True)
            ]
        )
        patches = network.ln_vision(network.visual_encoder(crops, places))[:, 1:]
        labels = (values[rows].gather(1, places) for values in (categories, colours))
        return reader.loss(patches, *labels, backgrounds[rows])

    def of_whole(rows: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
        patches = network.ln_vision(network.visual_encoder(pixels[rows]))[:, 1:]
        return reader.loss(patches, categories[rows], colours[rows], backgrounds[rows])

    _descend(of_windows, parameters, len(pixels), progress, "vision: windows", **windows)
    _descend(of_whole, parameters, len(pixels), progress, "vision: whole pictures", **whole)


def train_captions(
    model: MiniGPT4,
    patches: torch.Tensor,
    captions: Sequence[str],
    prompt: str,
    settings: dict,
    progress: Progress,
) -> None:
    """Teach projection and decoder, in place, to continue `prompt` to the caption.

    patches: frozen vision features `n x tokens x (hidden * patches per token)`; settings: steps,
    batch_size, lr.
    """
    tokenizer, network = model.tokenizer, model.network
    endings = [
        tokenizer(text.removeprefix(grammar.PREFIX), add_special_tokens=False).input_ids
        + [tokenizer.eos_token_id]
        for text in captions
    ]
    parameters = [*network.llama_proj.parameters(), *network.llama_model.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)

    def loss(rows: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
        targets = [endings[i] for i in rows.tolist()]
        tokens = network.llama_proj(patches[rows].float())
        encoded = model.encode(tokens, prompt, [ids[:-1] for ids in targets])
        states = model.final_states(encoded)[:, encoded.prompt_end - 1 :]
        wanted = torch.full(states.shape[:2], -100)
        for row, ids in enumerate(targets):
            wanted[row, : len(ids)] = torch.tensor(ids)
        return F.cross_entropy(model.logits(states).flatten(0, 1), wanted.flatten())

    _descend(loss, parameters, len(patches), progress, "captions", **settings)
    for parameter in parameters:
        parameter.requires_grad_(False)


@torch.no_grad()
def vision_features(
    network: MiniGPT4ForConditionalGeneration, pixels: torch.Tensor
) -> torch.Tensor:
    """The projection's input for every picture, in half precision to save memory."""
    per_token = network.config.patches_per_token
    parts = []
    for batch in pixels.split(256):
        patches = network.ln_vision(network.visual_encoder(batch))[:, 1:]
        n, count, dim = patches.shape
        parts.append(patches.reshape(n, count // per_token, dim * per_token).half())
    return torch.cat(parts)


def evaluate(model: MiniGPT4, prompt: str, n: int, seed: int) -> dict[str, float]:
    """Object recall and precision, and the share of exact captions, on `n` new pictures."""
    rng = np.random.default_rng([seed, n])
    scenes = [draw_scene(rng) for _ in range(n)]
    captions = []
    for start in range(0, n, 64):
        tokens = model.embed_pictures([scene.picture for scene in scenes[start : start + 64]])
        generated = model.generate(model.encode(tokens, prompt), max_new_tokens=32)
        captions += [f"{grammar.PREFIX} {model.decode(ids)}" for ids in generated]
    truth = [grammar.canonical_caption(scene) for scene in scenes]
    objects = [[thing.category.name for thing in scene.objects] for scene in scenes]
    names = [category.name for category in ALL_CATEGORIES]
    exact = np.mean([caption == true for caption, true in zip(captions, truth, strict=True)])
    return object_recall_precision(captions, objects, names) | {
        "exact": float(exact),
        "pictures": n,
    }


def build(config: dict, tokenizer) -> MiniGPT4:
    """A randomly initialised model with the tokenizer's vocabulary."""
    text = dict(config["text"], vocab_size=len(tokenizer))
    text |= {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }
    settings = MiniGPT4Config(
        vision_config=config["vision"], text_config=dict(model_type="llama", **text)
    )
    return MiniGPT4(MiniGPT4ForConditionalGeneration(settings), tokenizer, "cpu")


def _descend(loss, parameters, n, progress, name, *, steps, batch_size, lr) -> None:
    """AdamW with warm-up and cosine decay over seeded random batches."""
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


def train(
    config: dict, tokenizer, prompt: str, seed: int, threads: int, progress: Progress
) -> MiniGPT4:
    """The whole training; `config` is a model's section of `resources/world.yaml`."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    model = build(config, tokenizer)
    vision = config["vision"]
    pictures = draw_pictures(
        config["pictures"], seed, vision["image_size"], vision["patch_size"], config["processes"]
    )
    pixels = model.preprocess([Image.fromarray(picture) for picture in pictures.pixels])
    train_vision(model.network, pictures, pixels, progress=progress, **config["vision_training"])
    model.network.requires_grad_(False)
    patches = vision_features(model.network, pixels)
    del pixels
    for settings in config["caption_training"]:
        train_captions(model, patches, pictures.captions, prompt, settings, progress)
    return model
