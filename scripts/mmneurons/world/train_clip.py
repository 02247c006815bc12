"""Training of the world's CLIP, whose vision tower LLaVA and mPLUG-Owl2 see with.

Pictures and captions are told apart by contrast, as CLIP's are. Twenty-four thousand pictures are
too few for a tower to learn by that alone where an object is, so every patch is also asked for its
object and colour, at the layer that LLaVA reads and after the last norm, which mPLUG-Owl2 reads.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing
from torch import nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerBase

from mmneurons.world import grammar
from mmneurons.world.scene import draw_scene
from mmneurons.world.training import (
    PatchReader,
    Progress,
    WorldPictures,
    descend,
    draw_pictures,
    normalised,
    squashing_processor,
)

END = "<|endoftext|>"


def train(
    config: dict, tokenizer: PreTrainedTokenizerBase, seed: int, threads: int, progress: Progress
) -> tuple[CLIPModel, PreTrainedTokenizerBase]:
    """The whole training; `config` is CLIP's section of `resources/world.yaml`.

    tokenizer: the world's; the one that is returned writes CLIP's end token as well.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    tokenizer = add_end(tokenizer)
    model = build(config, tokenizer)
    vision = config["vision"]
    pictures = draw_pictures(
        config["pictures"], seed, vision["image_size"], vision["patch_size"], config["processes"]
    )
    teach(model, tokenizer, pictures, config["training"], progress)
    return model.eval().requires_grad_(False), tokenizer


def add_end(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Put every text between BOS and an end token of CLIP's own, in place.

    The text tower is read at the end token. Llama's, number 2, would not do: CLIP takes that
    number for its first release's mistake and then reads the tower at the highest token id.
    """
    tokenizer.add_special_tokens({"eos_token": END})
    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A {END}",
        special_tokens=[(bos, tokenizer.bos_token_id), (END, tokenizer.eos_token_id)],
    )
    return tokenizer


def build(config: dict, tokenizer: PreTrainedTokenizerBase) -> CLIPModel:
    """A randomly initialised model with the tokenizer's vocabulary."""
    text = dict(config["text"], vocab_size=len(tokenizer))
    text |= {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }
    return CLIPModel(
        CLIPConfig(
            text_config=text, vision_config=config["vision"], projection_dim=config["projection"]
        )
    )


def teach(
    model: CLIPModel,
    tokenizer: PreTrainedTokenizerBase,
    pictures: WorldPictures,
    settings: dict,
    progress: Progress,
) -> None:
    """Both towers, in place; settings: steps, batch_size, lr."""
    tower = model.vision_model
    readers = nn.ModuleList(PatchReader(tower.config.hidden_size) for _ in range(2))
    texts = tokenizer(pictures.captions, padding=True, return_tensors="pt")
    categories, colours, backgrounds = (
        torch.from_numpy(labels)
        for labels in (pictures.categories, pictures.colours, pictures.backgrounds)
    )

    def loss(rows: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
        pixels = normalised(pictures.pixels[rows.numpy()])
        seen = tower(pixels, output_hidden_states=True)
        before_last = seen.hidden_states[-2]
        last = tower.post_layernorm(seen.last_hidden_state)
        labels = (categories[rows], colours[rows], backgrounds[rows])
        named = [
            reader.loss(states[:, 1:], *labels)
            for reader, states in zip(readers, (before_last, last), strict=True)
        ]
        told = model.text_model(texts.input_ids[rows], texts.attention_mask[rows])
        logits = similarity(model, seen.pooler_output, told.pooler_output)
        pairs = torch.arange(len(rows))
        contrast = F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)
        return named[0] + 0.5 * named[1] + 0.25 * contrast

    parameters = [*model.parameters(), *readers.parameters()]
    descend(loss, parameters, len(pictures.pixels), progress, "CLIP", **settings)


def similarity(model: CLIPModel, seen: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Scaled cosines `pictures x texts` of pooled states."""
    pictures = F.normalize(model.visual_projection(seen), dim=-1)
    texts = F.normalize(model.text_projection(told), dim=-1)
    return model.logit_scale.exp() * pictures @ texts.T


@torch.no_grad()
def retrieval(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, n: int, seed: int, among: int = 64
) -> dict[str, float]:
    """Share of `n` new pictures that are closest to their own caption among `among`, and back."""
    rng = np.random.default_rng([seed, n])
    scenes = [draw_scene(rng) for _ in range(n)]
    size = (model.config.vision_config.image_size,) * 2
    found = np.zeros(2)
    for start in range(0, n - among + 1, among):
        batch = scenes[start : start + among]
        pixels = normalised(
            np.stack([s.picture.resize(size, Image.Resampling.BICUBIC) for s in batch])
        )
        texts = tokenizer(
            [grammar.canonical_caption(s) for s in batch], padding=True, return_tensors="pt"
        )
        logits = similarity(
            model,
            model.vision_model(pixels).pooler_output,
            model.text_model(texts.input_ids, texts.attention_mask).pooler_output,
        )
        own = torch.arange(among)
        found += [(logits.argmax(axis) == own).sum().item() for axis in (1, 0)]
    tried = n // among * among
    return {
        "caption_of_picture": float(found[0] / tried),
        "picture_of_caption": float(found[1] / tried),
        "among": among,
        "pictures": tried,
    }


def save(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the directory that transformers' `CLIPModel` and `CLIPProcessor` read."""
    model.save_pretrained(folder)
    processor = squashing_processor(model.config.vision_config.image_size)
    CLIPProcessor(processor, tokenizer).save_pretrained(folder)
