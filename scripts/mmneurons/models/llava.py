"""LLaVA (Liu et al. 2023): CLIP ViT, projector, Llama decoder.

A checkpoint's directory holds what `Llava.save` writes and transformers' `AutoProcessor` and
`LlavaForConditionalGeneration` read: the weights and `config.json`, the tokenizer, to which
`<image>` is one token with the id `image_token_index`, and the processor's settings. Where the
projector is a single linear layer (llava-llama-2-13b-chat-lightning-preview), `config.json` says
`"projector": "linear"`, and the weights are `multi_modal_projector.weight` and `.bias`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Self, get_args

import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaProcessor,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)

from mmneurons.models.base import (
    FfnSite,
    ImageProcessorModel,
    ModelCheckError,
    Module,
    Positions,
    check_weights,
)

IMAGE_PLACE = "<image>"
Projector = Literal["mlp", "linear"]


class LlavaNetworkConfig(LlavaConfig):
    """LLaVA's configuration, which also says what the projector is made of."""

    projector: Projector = "mlp"


class LlavaNetwork(LlavaForConditionalGeneration):
    """transformers' LLaVA, also with the single linear projector of the first releases."""

    config_class = LlavaNetworkConfig

    def __init__(self, config: LlavaNetworkConfig):
        super().__init__(config)
        if config.projector == "linear":
            self.model.multi_modal_projector = nn.Linear(
                config.vision_config.hidden_size,
                config.text_config.hidden_size,
                bias=config.multimodal_projector_bias,
            )
            self.post_init()


# transformers renames the weights of published checkpoints only for the classes it knows.
register_checkpoint_conversion_mapping(
    LlavaNetwork.__name__, get_checkpoint_conversion_mapping("llava"), overwrite=True
)


class Llava(ImageProcessorModel):
    """One image token a patch, in the place of `<image>` in the prompt.

    Published directories scale a picture's shortest edge and crop its centre, with CLIP's mean.
    """

    family = "llava"
    kept_precise = ("vision_tower", "multi_modal_projector", "lm_head")
    network: LlavaNetwork
    network_class: type[PreTrainedModel] = LlavaNetwork
    image_processor_class: type = CLIPImageProcessorPil
    processor_class: type[ProcessorMixin] = LlavaProcessor

    def __init__(
        self,
        network: LlavaNetwork | LlavaNextForConditionalGeneration,
        tokenizer,
        image_processor: CLIPImageProcessorPil | LlavaNextImageProcessorPil,
        device: str | torch.device,
    ):
        _check_config(network.config, self.family)
        super().__init__(network, tokenizer, image_processor, device)
        self._decoder = _decoder_of(self.network)

    @classmethod
    def load(cls, path: Path, device: str | torch.device, dtype: torch.dtype, **placement) -> Self:
        """Load what `save` wrote, or a checkpoint made for transformers.

        Raises ModelCheckError where the configuration describes another kind of model, or where
        the directory lacks weights that it asks for, such as those of the other kind of projector.
        """
        network, loading = cls.network_class.from_pretrained(
            path, dtype=dtype, output_loading_info=True, **placement
        )
        check_weights(loading, path, cls.family)
        processor = cls.image_processor_class.from_pretrained(path)
        return cls(network, AutoTokenizer.from_pretrained(path), processor, device)

    def save(self, folder: Path) -> None:
        """Write the directory that `load` and transformers' own classes read."""
        self.network.save_pretrained(folder)
        self.processor_class(
            self.image_processor,
            self.tokenizer,
            patch_size=self.network.config.vision_config.patch_size,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,  # the class token, which "default" takes away again
        ).save_pretrained(folder)

    @property
    def decoder(self) -> nn.Module:
        return self._decoder

    def embed_pixels(self, pixels: torch.Tensor, prompt: str | Sequence[str] = "") -> torch.Tensor:
        return torch.stack(list(self.network.get_image_features(pixels).pooler_output))

    def picture_layer(self) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
        """The first norm of the last layer that image tokens come from, without class token."""
        side = self.patch_grid()

        def patches(output: torch.Tensor) -> torch.Tensor:
            return output[:, 1:].unflatten(1, side).permute(0, 3, 1, 2)

        return self._vision_layers()[self._n_used_vision_layers() - 1].layer_norm1, patches

    def segments(self, prompt: str) -> tuple[list[int], list[int]]:
        """The prompt is tokenized in one piece, as by transformers' processor, and then cut."""
        ids = self.tokenizer(prompt, add_special_tokens=False).input_ids
        place = self.network.config.image_token_id
        if ids.count(place) != 1:
            raise ValueError(
                f"a prompt of {self.family} has {IMAGE_PLACE} exactly once: {prompt!r}"
            )
        cut = ids.index(place)
        return [self.tokenizer.bos_token_id, *ids[:cut]], ids[cut + 1 :]

    def grid(self) -> tuple[int, int]:
        vision = self.network.config.vision_config
        side = vision.image_size // vision.patch_size
        return side, side

    def sites(self, module: Module = "language") -> list[FfnSite]:
        if module == "language":
            return [
                FfnSite.gated(module, i, layer.mlp)
                for i, layer in enumerate(self.decoder.model.layers)
            ]
        if module == "vision":
            return [
                FfnSite(module, i, layer.mlp.activation_fn, layer.mlp.fc2)
                for i, layer in enumerate(self._vision_layers())
            ]
        projector = self.network.model.multi_modal_projector
        if module == "projector" and not isinstance(projector, nn.Linear):
            return [FfnSite(module, 0, projector.act, projector.linear_2)]
        return []

    def inert_layers(self, module: Module, positions: Positions) -> frozenset[int]:
        """Also the vision layers after the one whose states the projector reads."""
        if module == "vision":
            return frozenset(range(self._n_used_vision_layers(), len(self._vision_layers())))
        return super().inert_layers(module, positions)

    @torch.no_grad()
    def check(self, expected_units: dict[str, int] | None = None) -> None:
        """Also that `<image>` is the token that the configuration calls so."""
        token = self.tokenizer.convert_tokens_to_ids(IMAGE_PLACE)
        if token != self.network.config.image_token_id:
            raise ModelCheckError(
                f"{self.family}: {IMAGE_PLACE} is token {token} of the tokenizer, "
                f"image_token_index is {self.network.config.image_token_id}"
            )
        super().check(expected_units)

    def image_encoder(self) -> nn.Module:
        return self.network.model.vision_tower

    def _vision_layers(self) -> nn.ModuleList:
        return self.network.model.vision_tower.encoder.layers

    def _n_used_vision_layers(self) -> int:
        """How many vision layers the image tokens pass through.

        `vision_feature_layer` counts hidden states, the first of which is the embeddings.
        """
        n_states = len(self._vision_layers()) + 1
        return self.network.config.vision_feature_layer % n_states


def _check_config(config: LlavaConfig | LlavaNextConfig, family: str) -> None:
    """Raise ModelCheckError for a LLaVA that this adapter would read wrongly."""
    projector = getattr(config, "projector", "mlp")
    if projector not in get_args(Projector):
        raise ModelCheckError(f"{family}: unknown projector {projector!r}")
    known = {
        "text_config.model_type": (config.text_config.model_type, "llama"),
        "vision_config.model_type": (config.vision_config.model_type, "clip_vision_model"),
        "vision_feature_select_strategy": (config.vision_feature_select_strategy, "default"),
        "the type of vision_feature_layer": (type(config.vision_feature_layer).__name__, "int"),
    }
    for name, (value, expected) in known.items():
        if value != expected:
            raise ModelCheckError(f"{family}: {name} is {value}, not {expected}")


def _decoder_of(
    network: LlavaNetwork | LlavaNextForConditionalGeneration,
) -> LlamaForCausalLM:
    """The language model and its head as one causal model that holds the same weights."""
    with torch.device("meta"):
        decoder = LlamaForCausalLM(network.config.text_config)
    decoder.model = network.model.language_model
    decoder.lm_head = network.lm_head
    return decoder.eval()
