"""Training of the world's MiniGPT-4, in the two stages of the real one.

First the vision tower learns to see: every patch is asked for its object and colour, every picture
for its background. Then the tower is frozen, as MiniGPT-4's is, and projection and decoder learn to
caption. The tower's output is computed once, so the second stage costs only the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.minigpt4_modeling import MiniGPT4Config, MiniGPT4ForConditionalGeneration
from mmneurons.world import grammar
from mmneurons.world.training import (
    PatchReader,
    Progress,
    WorldPictures,
    caption_loss,
    descend,
    draw_pictures,
    endings,
)


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

    descend(of_windows, parameters, len(pixels), progress, "vision: windows", **windows)
    descend(of_whole, parameters, len(pixels), progress, "vision: whole pictures", **whole)


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
    network = model.network
    wanted = endings(model, captions, grammar.PREFIX)
    parameters = [*network.llama_proj.parameters(), *network.llama_model.parameters()]

    def loss(rows: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
        tokens = network.llama_proj(patches[rows].float())
        return caption_loss(model, tokens, prompt, [wanted[i] for i in rows.tolist()])

    descend(loss, parameters, len(patches), progress, "captions", **settings)
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
