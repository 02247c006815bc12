"""MiniGPT-4 with a linear projection (Zhu et al. 2023; the model of Sato & Takagi 2025)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import AutoTokenizer

from mmneurons.models.base import FfnSite, Module, MultimodalModel
from mmneurons.models.minigpt4_modeling import MiniGPT4ForConditionalGeneration

IMAGE_PLACE = "<ImageHere>"
# Mean and standard deviation of CLIP's training pictures, which EVA's preprocessing shares.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


class MiniGPT4(MultimodalModel):
    """EVA ViT, four neighbouring patches a token, linear projection, Llama-2 decoder."""

    family = "minigpt4"
    kept_precise = ("visual_encoder", "ln_vision", "llama_proj", "lm_head")
    network: MiniGPT4ForConditionalGeneration

    @classmethod
    def load(
        cls, path: Path, device: str | torch.device, dtype: torch.dtype, **placement
    ) -> MiniGPT4:
        network = MiniGPT4ForConditionalGeneration.from_pretrained(path, dtype=dtype, **placement)
        return cls(network, AutoTokenizer.from_pretrained(path), device)

    @property
    def decoder(self) -> nn.Module:
        return self.network.llama_model

    def preprocess(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Squash each picture to the tower's square (bicubic, no crop) and normalise it."""
        size = self.network.config.vision_config.image_size
        squashed = [picture.resize((size, size), Image.Resampling.BICUBIC) for picture in pictures]
        pixels = np.stack([np.asarray(picture, dtype=np.float32) for picture in squashed]) / 255
        pixels = (pixels - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def embed_pixels(self, pixels: torch.Tensor, prompt: str | Sequence[str] = "") -> torch.Tensor:
        return self.network.embed_pictures(pixels)

    def picture_layer(self) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
        """The first norm of the last block, as is usual for ViTs; the class token is left out."""
        vision = self.network.config.vision_config
        side = vision.image_size // vision.patch_size

        def patches(output: torch.Tensor) -> torch.Tensor:
            return output[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)

        return self.network.visual_encoder.blocks[-1].norm1, patches

    def segments(self, prompt: str) -> tuple[list[int], list[int]]:
        """The text is cut at the picture's place; only its first part begins with BOS.

        The evaluation template holds a literal `<s>` as well, so it starts with two BOS tokens in
        all: that is how the released demo and its `generate` do it.
        """
        try:
            before, after = prompt.split(IMAGE_PLACE)
        except ValueError:
            raise ValueError(
                f"a MiniGPT-4 prompt has {IMAGE_PLACE} exactly once: {prompt!r}"
            ) from None
        ids = [self.tokenizer(part, add_special_tokens=False).input_ids for part in (before, after)]
        return [self.tokenizer.bos_token_id, *ids[0]], ids[1]

    def grid(self) -> tuple[int, int]:
        """Strips of consecutive patches: 16 rows and 4 columns for 16 x 16 patches."""
        vision = self.network.config.vision_config
        side = vision.image_size // vision.patch_size
        return side, side // self.network.config.patches_per_token

    def sites(self, module: Module = "language") -> list[FfnSite]:
        if module == "language":
            layers = self.decoder.model.layers
            return [FfnSite.gated(module, i, layer.mlp) for i, layer in enumerate(layers)]
        if module == "vision":
            blocks = self.network.visual_encoder.blocks
            return [FfnSite(module, i, b.mlp.act, b.mlp.fc2) for i, b in enumerate(blocks)]
        return []
