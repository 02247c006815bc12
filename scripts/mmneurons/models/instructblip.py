"""InstructBLIP (Dai et al. 2023) with a Llama decoder: EVA ViT, Q-Former, linear projection.

A checkpoint's directory holds what `InstructBlip.save` writes and transformers' `AutoProcessor`
and `InstructBlipForConditionalGeneration` read: the weights and `config.json`, the decoder's
tokenizer, to which `<image>` is one token with the id `image_token_index`, the processor's
settings, and the Q-Former's tokenizer in the folder `qformer_tokenizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoTokenizer,
    BlipImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
)

from mmneurons.models.base import (
    Encoded,
    FfnSite,
    ImageProcessorModel,
    ModelCheckError,
    Module,
    Positions,
    check_weights,
)

IMAGE_TOKEN = "<image>"
QFORMER_TOKENIZER = "qformer_tokenizer"


class InstructBlip(ImageProcessorModel):
    """Query tokens that read the picture and the prompt, then BOS and the prompt.

    Published directories squash pictures to a square, with CLIP's mean.
    """

    family = "instructblip"
    kept_precise = ("vision_model", "qformer", "language_projection", "lm_head")
    network: InstructBlipForConditionalGeneration

    def __init__(
        self,
        network: InstructBlipForConditionalGeneration,
        tokenizer,
        qformer_tokenizer,
        image_processor: BlipImageProcessorPil,
        device: str | torch.device,
    ):
        super().__init__(network, tokenizer, image_processor, device)
        self.qformer_tokenizer = qformer_tokenizer
        self._read: tuple[tuple[str, ...], torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def load(
        cls, path: Path, device: str | torch.device, dtype: torch.dtype, **placement
    ) -> InstructBlip:
        """Load what `save` wrote, or a checkpoint made for transformers.

        Raises ModelCheckError where the decoder is no Llama (a `text_config` without `model_type`
        would silently become OPT), or where the directory lacks weights.
        """
        config = InstructBlipConfig.from_pretrained(path)
        if config.text_config.model_type != "llama":
            raise ModelCheckError(
                f"{cls.family}: the decoder is {config.text_config.model_type}, not llama; "
                f"text_config in {path} has to say its model_type"
            )
        network, loading = InstructBlipForConditionalGeneration.from_pretrained(
            path, config=config, dtype=dtype, output_loading_info=True, **placement
        )
        check_weights(loading, path, cls.family)
        return cls(
            network,
            AutoTokenizer.from_pretrained(path),
            AutoTokenizer.from_pretrained(Path(path) / QFORMER_TOKENIZER),
            BlipImageProcessorPil.from_pretrained(path),
            device,
        )

    def save(self, folder: Path) -> None:
        """Write the directory that `load` and transformers' own classes read."""
        self.network.save_pretrained(folder)
        InstructBlipProcessor(
            self.image_processor,
            self.tokenizer,
            self.qformer_tokenizer,
            num_query_tokens=self.network.config.num_query_tokens,
        ).save_pretrained(folder)

    @property
    def decoder(self) -> nn.Module:
        return self.network.language_model

    def embed_pixels(self, pixels: torch.Tensor, prompt: str | Sequence[str] = "") -> torch.Tensor:
        """The Q-Former reads each picture with its own prompt."""
        ids, mask = self._instructions(prompt, len(pixels))
        return self.network.get_image_features(
            pixels, qformer_input_ids=ids, qformer_attention_mask=mask
        ).pooler_output

    def picture_layer(self) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
        """The first norm of the last vision layer, without class token."""
        side = self.patch_grid()

        def patches(output: torch.Tensor) -> torch.Tensor:
            return output[:, 1:].unflatten(1, side).permute(0, 3, 1, 2)

        return self.network.vision_model.encoder.layers[-1].layer_norm1, patches

    def segments(self, prompt: str) -> tuple[list[int], list[int]]:
        """Nothing before the image tokens; BOS comes after them."""
        if IMAGE_TOKEN in prompt:
            raise ValueError(
                f"an InstructBLIP prompt has no {IMAGE_TOKEN}, image tokens come first: {prompt!r}"
            )
        ids = self.tokenizer(prompt, add_special_tokens=False).input_ids
        return [], [self.tokenizer.bos_token_id, *ids]

    def grid(self) -> None:
        """Query tokens have no place on the picture; `patch_weights` says where they look."""
        return None

    def patch_grid(self) -> tuple[int, int]:
        vision = self.network.config.vision_config
        side = vision.image_size // vision.patch_size
        return side, side

    @torch.no_grad()
    def patch_weights(
        self, pictures: Sequence[Image.Image], prompt: str | Sequence[str] = ""
    ) -> torch.Tensor:
        """How much of each patch a query token reads: `batch x image tokens x patches`, float32.

        The mean of the cross-attention probabilities over layers and heads, without the class
        token. Rows then sum to 1, or to 0 where a query reads the class token alone.
        """
        pixels = self.preprocess(pictures).to(self.device, self.dtype)
        with _cross_attention(self.network.qformer) as probabilities:
            self.embed_pixels(pixels, prompt)
        layers = torch.stack([layer.to(self.device) for layer in probabilities])
        mean = layers.float().mean(dim=(0, 2))[..., 1:]
        return mean / mean.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(mean.dtype).tiny)

    def sites(self, module: Module = "language") -> list[FfnSite]:
        if module == "language":
            return [
                FfnSite.gated(module, i, layer.mlp)
                for i, layer in enumerate(self.decoder.model.layers)
            ]
        if module == "vision":
            return [
                FfnSite(module, i, layer.mlp.activation_fn, layer.mlp.fc2)
                for i, layer in enumerate(self.network.vision_model.encoder.layers)
            ]
        layers = self.network.qformer.encoder.layer
        if module == "qformer.query":
            return [
                FfnSite(
                    module,
                    i,
                    layer.intermediate_query.intermediate_act_fn,
                    layer.output_query.dense,
                )
                for i, layer in enumerate(layers)
            ]
        if module == "qformer.text":
            return [
                FfnSite(module, i, layer.intermediate.intermediate_act_fn, layer.output.dense)
                for i, layer in enumerate(layers)
            ]
        return []

    def n_image_tokens(self, size: tuple[int, int]) -> int:
        return self.network.config.num_query_tokens

    def image_encoder(self) -> nn.Module:
        return self.network.vision_model

    def owners(
        self,
        module: Module,
        encoded: Encoded | None,
        sizes: Sequence[tuple[int, int]],
        prompts: Sequence[str],
    ) -> torch.Tensor:
        """The Q-Former's text branch sees its own tokens of the prompts, padded on the right."""
        if module != "qformer.text":
            return super().owners(module, encoded, sizes, prompts)
        _ids, mask = self._instructions(prompts, len(prompts))
        return torch.where(mask > 0, torch.arange(len(prompts), device=self.device)[:, None], -1)

    def inert_layers(self, module: Module, positions: Positions) -> frozenset[int]:
        """Also the Q-Former's last text branch: only its query tokens go on to the decoder."""
        if module == "qformer.text":
            return frozenset({self.sites(module)[-1].layer})
        return super().inert_layers(module, positions)

    @torch.no_grad()
    def check(self, expected_units: dict[str, int] | None = None) -> None:
        """Also what InstructBLIP does not notice itself.

        Raises ModelCheckError where `<image>` is not the token that the configuration calls so,
        where the number of image tokens is not the configuration's, where the query tokens are all
        the same, or where the picture changes no image token.
        """
        config = self.network.config
        token = self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if config.image_token_id is None or token != config.image_token_id:
            raise ModelCheckError(
                f"{self.family}: {IMAGE_TOKEN} is token {token} of the tokenizer, "
                f"image_token_index is {config.image_token_id}"
            )
        super().check(expected_units)
        black, white = self.embed_pictures(
            [Image.new("RGB", (32, 32), c) for c in ("#000", "#fff")]
        )
        if len(black) != config.num_query_tokens:
            raise ModelCheckError(
                f"{self.family}: {len(black)} image tokens, not {config.num_query_tokens}"
            )
        queries = self.network.query_tokens[0]
        if len(queries) > 1 and torch.equal(queries, queries[:1].expand_as(queries)):
            raise ModelCheckError(f"{self.family}: the query tokens are all the same")
        if torch.equal(black, white):
            raise ModelCheckError(f"{self.family}: the picture changes no image token")

    def _instructions(
        self, prompt: str | Sequence[str], n_pictures: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and mask for the Q-Former, padded on the right: `batch x tokens` each."""
        prompts = [prompt] * n_pictures if isinstance(prompt, str) else list(prompt)
        if len(prompts) != n_pictures:
            raise ValueError("pictures and prompts differ in number")
        # A pass and what counts its positions ask for the same prompts one after the other.
        if self._read is None or self._read[0] != tuple(prompts):
            text = self.qformer_tokenizer(
                prompts, padding=True, padding_side="right", return_tensors="pt"
            ).to(self.device)
            longest = self.network.config.qformer_config.max_position_embeddings
            if text.input_ids.shape[1] > longest:
                raise ValueError(
                    f"the prompt has {text.input_ids.shape[1]} tokens, the Q-Former reads {longest}"
                )
            ids, mask = text.input_ids.long(), text.attention_mask.long()
            self._read = tuple(prompts), ids, mask
        return self._read[1:]


@contextmanager
def _cross_attention(qformer: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Cross-attention probabilities of the Q-Former's passes, one tensor a layer.

    `batch x heads x queries x (class token and patches)`. Fused attention does not give them, so
    that the layers compute it step by step as long as the block lasts.
    """
    probabilities: list[torch.Tensor] = []
    layers = [layer for layer in qformer.encoder.layer if layer.has_cross_attention]
    handles = [
        layer.crossattention.attention.register_forward_hook(
            lambda _module, _args, output: probabilities.append(output[1])
        )
        for layer in layers
    ]
    before = qformer.config._attn_implementation
    qformer.set_attn_implementation("eager")
    try:
        yield probabilities
    finally:
        qformer.set_attn_implementation(before)
        for handle in handles:
            handle.remove()
