"""Training of the world's LiMBeR: a BEiT tower, a linear projection, a GPT-J decoder.

The tower starts from the world's CLIP. BEiT's is another architecture, so it learns on: every patch
is asked for its object, for its colour and for the object's place in the row from left to right.
Then it is frozen, as the real one is, and its output computed once. The real one's decoder is
frozen too, a language model that learned from text alone; one of this size cannot be, so decoder
and projection learn to caption together, the decoder from nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from transformers import BeitImageProcessorPil, CLIPVisionModel, PreTrainedTokenizerFast

from mmneurons.models.limber import Limber
from mmneurons.models.limber_modeling import LimberConfig, LimberForConditionalGeneration
from mmneurons.models.minigpt4 import PIXEL_MEAN, PIXEL_STD
from mmneurons.world.training import (
    CLASSES,
    PatchReader,
    Progress,
    WorldPictures,
    caption_after,
    caption_loss,
    crowded,
    descend,
    draw_pictures,
    endings,
)

END, IMAGE = "<|endoftext|>", "<|image|>"
ROW = 3
"""Objects of a picture, at most."""


def train(
    config: dict,
    tower: CLIPVisionModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[tuple[str, str]],
    seed: int,
    threads: int,
    progress: Progress,
) -> Limber:
    """The whole training; `config` is LiMBeR's section of `resources/world.yaml`.

    prompts: (filled prompt, the prefix that it ends with), in the order of
    `config["prompts"]`.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    model = build(config["text"], tower, tokenizer)
    vision = tower.config
    pictures = draw_pictures(
        config["pictures"], seed, vision.image_size, vision.patch_size, config["processes"]
    )
    start_from(model, tower, pictures.pixels[:256])
    train_vision(model, pictures, config["vision_training"], progress)
    model.network.requires_grad_(False)
    patches = vision_features(model, pictures.pixels)
    shares = list(config["prompts"].values())
    for lesson in config["caption_training"]:
        settings = dict(lesson)
        rows = crowded(pictures, settings.pop("crowding"))
        train_captions(model, patches, pictures.captions, prompts, shares, settings, progress, rows)
    return model


# ---------------------------------------------------------------------------------- beginnings


def byte_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-pair encoding as GPT-2's, which GPT-J has, with the token that LiMBeR adds.

    There is an end token and no token that begins or pads. A word's space is a part of it.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, IMAGE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        unk_token=END,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def build(text: dict, tower: CLIPVisionModel, tokenizer: PreTrainedTokenizerFast) -> Limber:
    """A randomly initialised model with the tower's widths and the tokenizer's vocabulary."""
    shared = ("image_size", "patch_size", "hidden_size", "num_hidden_layers", "hidden_act")
    shared += ("num_attention_heads", "intermediate_size", "layer_norm_eps")
    vision = {name: getattr(tower.config, name) for name in shared} | {
        "layer_scale_init_value": 1.0,
        "use_absolute_position_embeddings": True,
        "use_shared_relative_position_bias": True,
        "drop_path_rate": 0.0,
    }
    text = text | {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    network = LimberForConditionalGeneration(LimberConfig(vision_config=vision, text_config=text))
    return Limber(network, tokenizer, square_processor(vision["image_size"]), "cpu")


@torch.no_grad()
def start_from(model: Limber, tower: CLIPVisionModel, pixels: np.ndarray) -> None:
    """Put a CLIP tower's weights where BEiT has the same, in place.

    BEiT's keys have no bias, which attention cannot notice, and its embeddings no norm: of CLIP's,
    all but the division by each token's own deviation goes into BEiT's weights, and instead of it
    one by the mean deviation on `pixels` (`n x size x size x 3`, uint8).
    """
    vision, weights = model.network.vision, tower.state_dict()
    positions = weights["embeddings.position_embedding.weight"]
    # The same pixels come with another mean and deviation here.
    convolution = weights["embeddings.patch_embedding.weight"]
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    kernel = convolution * (0.5 / deviation)
    bias = (convolution * ((0.5 - mean) / deviation)).sum(dim=(1, 2, 3))

    patches = F.conv2d(normalised(pixels), kernel, bias, stride=kernel.shape[-1])
    tokens = patches.flatten(2).transpose(1, 2) + positions[1:]
    scale = weights["pre_layrnorm.weight"] / tokens.std(dim=-1, correction=0).mean()

    def normed(values: torch.Tensor) -> torch.Tensor:
        """values: `... x hidden`."""
        return (values - values.mean(dim=-1, keepdim=True)) * scale

    embeddings = vision.embeddings
    embeddings.patch_embeddings.projection.weight.copy_(
        normed(kernel.movedim(0, -1)).movedim(-1, 0)
    )
    embeddings.patch_embeddings.projection.bias.copy_(normed(bias))
    embeddings.cls_token.copy_(normed(weights["embeddings.class_embedding"]))
    embeddings.position_embeddings.copy_(normed(positions) + weights["pre_layrnorm.bias"])
    parts = {
        "self_attn.q_proj": "attention.q_proj",
        "self_attn.k_proj": "attention.k_proj",
        "self_attn.v_proj": "attention.v_proj",
        "self_attn.out_proj": "attention.o_proj",
        "layer_norm1": "layernorm_before",
        "layer_norm2": "layernorm_after",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    for i, layer in enumerate(vision.layers):
        for theirs, ours in parts.items():
            module = layer.get_submodule(ours)
            for kind, weight in module.named_parameters():
                weight.copy_(weights[f"encoder.layers.{i}.{theirs}.{kind}"])


def square_processor(size: int) -> BeitImageProcessorPil:
    """BEiT's preprocessing; bicubic like the world's other models, where BEiT's own is bilinear."""
    return BeitImageProcessorPil(
        size={"height": size, "width": size},
        resample=Image.Resampling.BICUBIC,
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


# -------------------------------------------------------------------------------------- seeing


def in_a_row(pictures: WorldPictures) -> torch.Tensor:
    """Which of the objects of a caption, from 0, each patch shows: `n x patches`, -1 for none.

    Captions name objects from left to right.
    """
    names = [category.name if category else "" for category in CLASSES]
    found = np.full_like(pictures.categories, -1)
    for row, caption in enumerate(pictures.captions):
        shown = np.unique(pictures.categories[row])
        shown = [label for label in shown if label]
        starts = {label: re.search(rf"\b{names[label]}\b", caption).start() for label in shown}
        for place, label in enumerate(sorted(shown, key=starts.get)):
            found[row][pictures.categories[row] == label] = place
    return torch.from_numpy(found)


def train_vision(
    model: Limber, pictures: WorldPictures, settings: dict, progress: Progress
) -> None:
    """Teach the tower in place; settings: crowding, steps, batch_size, lr."""
    settings = dict(settings)
    often = crowded(pictures, settings.pop("crowding"))
    network = model.network
    hidden = network.config.vision_config.hidden_size
    reader, place = PatchReader(hidden), nn.Linear(hidden, ROW)
    categories, colours, backgrounds = (
        torch.from_numpy(labels)
        for labels in (pictures.categories, pictures.colours, pictures.backgrounds)
    )
    places = in_a_row(pictures)

    def loss(drawn: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
        rows = often[drawn]
        patches = network.patches(normalised(pictures.pixels[rows.numpy()]))
        named = reader.loss(patches, categories[rows], colours[rows], backgrounds[rows])
        ordered = F.cross_entropy(
            place(patches).flatten(0, 1), places[rows].flatten(), ignore_index=-1
        )
        return named + ordered

    parameters = [*network.vision.parameters(), *reader.parameters(), *place.parameters()]
    descend(loss, parameters, len(often), progress, "vision", **settings)


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """`n x size x size x 3` uint8 to what the tower reads, as `square_processor` does."""
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


@torch.no_grad()
def vision_features(model: Limber, pixels: np.ndarray) -> torch.Tensor:
    """The projection's input for every picture, in half precision to save memory."""
    batches = np.array_split(pixels, max(1, len(pixels) // 256))
    return torch.cat([model.network.patches(normalised(batch)).half() for batch in batches])


# ------------------------------------------------------------------------------------- telling


def train_captions(
    model: Limber,
    patches: torch.Tensor,
    captions: Sequence[str],
    prompts: Sequence[tuple[str, str]],
    shares: Sequence[float],
    settings: dict,
    progress: Progress,
    rows: torch.Tensor,
) -> None:
    """Teach projection and decoder, in place, to continue the prompts to the caption.

    patches: `n x patches x vision hidden`; prompts and shares: a batch is of one prompt; rows:
    pictures to learn from, as often as they are in it; settings: steps, batch_size, lr, and kept,
    how many patches a picture is told from. Half of them tell most and cost half.
    """
    settings = dict(settings)
    kept, n_patches = settings.pop("kept"), patches.shape[1]
    network = model.network
    wanted = [
        endings(model, [caption_after(prefix, caption) for caption in captions], prefix)
        for _, prefix in prompts
    ]
    chances = torch.tensor(shares)
    parameters = [*network.proj.parameters(), *network.language.parameters()]

    def loss(drawn: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        chosen = rows[drawn]
        seen = patches[chosen].float()
        if kept < n_patches:
            order = torch.rand(seen.shape[:2], generator=generator).argsort(dim=1)[:, :kept]
            seen = seen.gather(1, order.sort(dim=1).values[..., None].expand(-1, -1, seen.shape[2]))
        which = int(chances.multinomial(1, generator=generator))
        targets = [wanted[which][i] for i in chosen.tolist()]
        return caption_loss(model, network.proj(seen), prompts[which][0], targets)

    descend(loss, parameters, len(rows), progress, "captions", **settings)
    network.requires_grad_(False)
