"""MiniGPT-4 with a linear projection: Llama-2-7B-chat, EVA ViT-g and the trained projection.

Original layouts: Zhu et al. 2023 and Li et al. 2023 (LAVIS), whose `eva_vit_g.pth` this is. It has
one block more than is used, and a last norm and a head that MiniGPT-4 never calls. MiniGPT-4's norm
between ViT and projection is in no file: it keeps torch's initial values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import AutoConfig, GenerationConfig

from mmneurons.checkpoints.convert import ConversionError, Piece, Plan, weight_files, write_weights
from mmneurons.checkpoints.tokenizer import llama_tokenizer
from mmneurons.models.minigpt4_modeling import (
    EvaVisionConfig,
    MiniGPT4Config,
    MiniGPT4ForConditionalGeneration,
)

UNUSED_OF_EVA = re.compile(r"(norm|fc_norm|head|lm_head)\.|mask_token$")
FREQUENCIES = "rotary_emb.inv_freq"
"""Of the rotation of positions: they follow from the configuration."""


def plan(originals: Mapping[str, Path], vision: EvaVisionConfig | None = None) -> Plan:
    """originals: `decoder`, `vision` and `projection`; vision: None for ViT-g as it is cut."""
    vision = vision or EvaVisionConfig()
    text = AutoConfig.from_pretrained(originals["decoder"])
    if text.model_type != "llama":
        raise ConversionError(f"the decoder is of the type {text.model_type}, not llama")
    first_unused = vision.num_hidden_layers

    def of_eva(name: str) -> str | None:
        if UNUSED_OF_EVA.match(name) or name.startswith(f"blocks.{first_unused}."):
            return None
        return f"visual_encoder.{name}"

    def of_projection(name: str) -> str | None:
        # Training saved all that is no frozen parameter: with old versions of transformers, the
        # decoder's buffers of rotary frequencies, too.
        return None if name.endswith(FREQUENCIES) else name

    def of_llama(name: str) -> str | None:
        return None if name.endswith(FREQUENCIES) else f"llama_model.{name}"

    width = vision.hidden_size
    return Plan(
        MiniGPT4ForConditionalGeneration,
        MiniGPT4Config(vision_config=vision, text_config=text),
        [
            Piece(_only(originals["vision"]), of_eva),
            Piece(_only(originals["projection"]), of_projection, inside="model"),
            Piece(weight_files(originals["decoder"]), of_llama),
        ],
        {"ln_vision.weight": torch.ones(width), "ln_vision.bias": torch.zeros(width)},
    )


def convert(
    originals: Mapping[str, Path], folder: Path, vision: EvaVisionConfig | None = None
) -> None:
    """Write weights, configuration and Llama-2's tokenizer."""
    planned = plan(originals, vision)
    write_weights(planned, folder)
    llama_tokenizer(originals["decoder"]).save_pretrained(folder)
    GenerationConfig.from_model_config(planned.config).save_pretrained(folder)
    planned.config.architectures = [planned.network.__name__]
    planned.config.save_pretrained(folder)


def _only(folder: Path) -> list[Path]:
    """The one .pth file of an original."""
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        raise ConversionError(f"{folder} has {len(files)} .pth files, not one")
    return files
