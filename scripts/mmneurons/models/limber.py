"""LiMBeR-BEIT (Merullo et al. 2023; the model of Schwettmann et al. 2023).

A checkpoint's directory holds what `Limber.save` writes: weights and `config.json`, GPT-J's
tokenizer, and the settings of BEiT's image processor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer, BeitImageProcessorPil

from mmneurons.models.base import (
    FfnSite,
    ImageProcessorModel,
    ModelCheckError,
    Module,
    byte_level_texts,
    check_weights,
)
from mmneurons.models.limber_modeling import LimberConfig, LimberForConditionalGeneration


class Limber(ImageProcessorModel):
    """One image token a patch, before all text; GPT-J, whose FFN reads what its attention reads.

    Published directories squash pictures to a square, with mean and deviation 0.5.
    """

    family = "limber"
    kept_precise = ("vision", "proj", "lm_head")
    language_bias = True
    network: LimberForConditionalGeneration

    def __init__(
        self,
        network: LimberForConditionalGeneration,
        tokenizer,
        image_processor: BeitImageProcessorPil,
        device: str | torch.device,
    ):
        _check_config(network.config)
        super().__init__(network, tokenizer, image_processor, device)

    @classmethod
    def load(
        cls, path: Path, device: str | torch.device, dtype: torch.dtype, **placement
    ) -> Limber:
        """Load what `save` wrote.

        Raises ModelCheckError where weights are missing, or where the configuration describes a
        tower or decoder that this adapter would read wrongly.
        """
        network, loading = LimberForConditionalGeneration.from_pretrained(
            path, dtype=dtype, output_loading_info=True, **placement
        )
        check_weights(loading, path, cls.family)
        processor = BeitImageProcessorPil.from_pretrained(path)
        return cls(network, AutoTokenizer.from_pretrained(path), processor, device)

    @property
    def decoder(self) -> nn.Module:
        return self.network.language

    @property
    def trunk(self) -> nn.Module:
        return self.decoder.transformer

    def blocks(self) -> nn.ModuleList:
        return self.trunk.h

    def final_norm(self) -> nn.Module:
        return self.trunk.ln_f

    def embed_pixels(self, pixels: torch.Tensor, prompt: str | Sequence[str] = "") -> torch.Tensor:
        return self.network.embed_pictures(pixels)

    def picture_layer(self) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
        """The first norm of the last layer, as is usual for ViTs; the class token is left out."""
        side = self.grid()

        def patches(output: torch.Tensor) -> torch.Tensor:
            return output[:, 1:].unflatten(1, side).permute(0, 3, 1, 2)

        return self.network.vision.layers[-1].layernorm_before, patches

    def segments(self, prompt: str) -> tuple[list[int], list[int]]:
        """Image tokens come first, and nothing begins a sequence: there is no BOS."""
        return [], self.tokenizer(prompt, add_special_tokens=False).input_ids

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        return byte_level_texts(self.tokenizer, tokens)

    def grid(self) -> tuple[int, int]:
        vision = self.network.config.vision_config
        side = vision.image_size // vision.patch_size
        return side, side

    def sites(self, module: Module = "language") -> list[FfnSite]:
        """BEiT scales what an FFN writes by `lambda_2`, after W_out."""
        if module == "language":
            return [
                FfnSite(module, i, block.mlp.act, block.mlp.fc_out, (block.mlp.fc_in,))
                for i, block in enumerate(self.blocks())
            ]
        if module == "vision":
            return [
                FfnSite(module, i, layer.mlp.activation_fn, layer.mlp.fc2, (layer.mlp.fc1,))
                for i, layer in enumerate(self.network.vision.layers)
            ]
        return []


def _check_config(config: LimberConfig) -> None:
    """Raise ModelCheckError for a LiMBeR that this adapter would read wrongly."""
    known = {
        "text_config.model_type": (config.text_config.model_type, "gptj"),
        "vision_config.model_type": (config.vision_config.model_type, "beit"),
        "vision_config.use_mean_pooling": (config.vision_config.use_mean_pooling, True),
    }
    for name, (value, expected) in known.items():
        if value != expected:
            raise ModelCheckError(f"limber: {name} is {value}, not {expected}")
