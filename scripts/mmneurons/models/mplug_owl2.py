"""mPLUG-Owl2 (Ye et al. 2023): ViT, visual abstractor, Llama with norms, keys, values by modality.

A checkpoint's directory holds what `MPlugOwl2.save` writes: the weights and `config.json` (model
type `mplug_owl2`), the tokenizer, and `preprocessor_config.json`, the settings of a
CLIPImageProcessor. Those settings decide how a picture becomes square. The released directory
resizes the shortest edge and crops the centre, as the code of Pan et al. 2024 does; mPLUG-Owl2's
authors squash the picture to a square instead, for which `square_image_processor` has the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from transformers import AutoTokenizer, CLIPImageProcessorPil

from mmneurons.models.base import (
    Encoded,
    FfnSite,
    ImageProcessorModel,
    ModelCheckError,
    Module,
    check_weights,
)
from mmneurons.models.mplug_owl2_modeling import (
    AbstractorAttention,
    MPlugOwl2ForCausalLM,
    VisualAbstractor,
)

IMAGE_PLACE = "<|image|>"


def square_image_processor(size: int) -> CLIPImageProcessorPil:
    """Squash to `size x size` pixels by bicubic resampling without crop; CLIP's mean and std."""
    return CLIPImageProcessorPil(size={"height": size, "width": size}, do_center_crop=False)


class MPlugOwl2(ImageProcessorModel):
    """Query tokens and an end token in the place of `<|image|>`."""

    family = "mplug_owl2"
    kept_precise = ("vision_model", "visual_abstractor", "lm_head")
    network: MPlugOwl2ForCausalLM

    @classmethod
    def load(
        cls, path: Path, device: str | torch.device, dtype: torch.dtype, **placement
    ) -> MPlugOwl2:
        """Load what `save` wrote, or the released directory.

        Raises ModelCheckError where the directory lacks weights that the configuration asks for.
        """
        network, loading = MPlugOwl2ForCausalLM.from_pretrained(
            path, dtype=dtype, output_loading_info=True, **placement
        )
        check_weights(loading, path, cls.family)
        tokenizer = AutoTokenizer.from_pretrained(path)
        return cls(network, tokenizer, CLIPImageProcessorPil.from_pretrained(path), device)

    @property
    def decoder(self) -> nn.Module:
        """The whole network: it is a Llama that has its eyes beside its layers."""
        return self.network

    def embed_pixels(self, pixels: torch.Tensor, prompt: str | Sequence[str] = "") -> torch.Tensor:
        return self.network.embed_pictures(pixels)

    def picture_layer(self) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
        """The first norm of the last vision layer, without class token."""
        side = self.patch_grid()

        def patches(output: torch.Tensor) -> torch.Tensor:
            return output[:, 1:].unflatten(1, side).permute(0, 3, 1, 2)

        return self.network.model.vision_model.encoder["layers"][-1].input_layernorm, patches

    def segments(self, prompt: str) -> tuple[list[int], list[int]]:
        """The text is cut at the picture's place, and each part tokenized on its own."""
        parts = prompt.split(IMAGE_PLACE)
        if len(parts) != 2:
            raise ValueError(f"an mPLUG-Owl2 prompt has {IMAGE_PLACE} exactly once: {prompt!r}")
        before, after = (self.tokenizer(part, add_special_tokens=False).input_ids for part in parts)
        return [self.tokenizer.bos_token_id, *before], after

    def grid(self) -> None:
        """Query tokens have no place on the picture; `patch_weights` says where they look."""
        return None

    def n_image_tokens(self, size: tuple[int, int]) -> int:
        """The end token of the picture among them."""
        return self.network.config.visual_config.visual_abstractor.num_learnable_queries + 1

    def patch_grid(self) -> tuple[int, int]:
        side = self.network.config.visual_config.visual_abstractor.grid_size
        return side, side

    @torch.no_grad()
    def patch_weights(
        self, pictures: Sequence[Image.Image], prompt: str | Sequence[str] = ""
    ) -> torch.Tensor:
        """How much of each patch an image token reads: `batch x image tokens x patches`, float32.

        The mean of the abstractor's cross-attention probabilities over layers and heads; without
        the keys that are queries and the class token, rows then sum to 1. The end token is the
        same for every picture: its row is zeros.
        """
        pixels = self.preprocess(pictures).to(self.device, self.dtype)
        with _cross_attention(self.network.model.visual_abstractor) as probabilities:
            self.embed_pixels(pixels)
        mean = torch.stack([layer.to(self.device) for layer in probabilities])
        mean = mean.float().mean(dim=(0, 2))
        rows, columns = self.patch_grid()
        patches = mean[..., -rows * columns :]
        weights = patches / patches.sum(dim=-1, keepdim=True)
        return torch.cat([weights, torch.zeros_like(weights[:, :1])], dim=1)

    def decoder_inputs(self, encoded: Encoded) -> dict[str, torch.Tensor]:
        """Modality indicators `batch x tokens`: 1 at image tokens, the end token among them."""
        return {"modality_indicators": encoded.image_mask.long()}

    def sites(self, module: Module = "language") -> list[FfnSite]:
        # The abstractor's FFN is none of the modules: between its gated units and its last
        # projection there is a norm, so a unit does not add a row of its own to the output.
        if module == "language":
            return [
                FfnSite.gated(module, i, layer.mlp)
                for i, layer in enumerate(self.network.model.layers)
            ]
        if module == "vision":
            return [
                FfnSite(module, i, layer.mlp.activation_fn, layer.mlp.fc2)
                for i, layer in enumerate(self.network.model.vision_model.encoder["layers"])
            ]
        return []

    @torch.no_grad()
    def check(self, expected_units: dict[str, int] | None = None) -> None:
        """Also that the image processor's pictures have the size that the vision tower reads."""
        size = self.network.config.visual_config.visual_model.image_size
        pixels = self.preprocess([Image.new("RGB", (48, 32))])
        if pixels.shape[1:] != (3, size, size):
            raise ModelCheckError(
                f"{self.family}: the image processor makes pictures of "
                f"{' x '.join(map(str, pixels.shape[2:]))} pixels, not {size} x {size}"
            )
        super().check(expected_units)


@contextmanager
def _cross_attention(abstractor: VisualAbstractor) -> Iterator[list[torch.Tensor]]:
    """Probabilities of the abstractor's passes: a `batch x heads x queries x keys` a layer."""
    probabilities: list[torch.Tensor] = []
    handles = [
        part.register_forward_hook(lambda _module, _args, output: probabilities.append(output[1]))
        for part in abstractor.modules()
        if isinstance(part, AbstractorAttention)
    ]
    try:
        yield probabilities
    finally:
        for handle in handles:
            handle.remove()
