"""The architecture of mPLUG-Owl2: ViT, visual abstractor, modality-adaptive Llama.

Ye et al. 2023 (mPLUG-Owl2). Parameter names and the layout of `config.json` are those of the
released checkpoint, so that its weights load by their own keys.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaRMSNorm,
    apply_rotary_pos_emb,
    eager_attention_forward,
)

TEXT, VISUAL = 0, 1  # places in a multiway module, and values of modality indicators


class MPlugOwl2VisionConfig(PreTrainedConfig):
    """ViT-L/14 at 448 pixels."""

    model_type = "mplug_owl2_vision_model"
    base_config_key = "visual_model"

    image_size: int = 448
    patch_size: int = 14
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-6


class MPlugOwl2AbstractorConfig(PreTrainedConfig):
    """Six layers of cross-attention from 64 queries.

    grid_size: patches a side; encoder_hidden_size: width of the vision tower's states;
    layer_norm_eps is that of the FFN's inner norm alone: the other norms never read it.
    """

    model_type = "mplug_owl2_visual_abstractor"
    base_config_key = "visual_abstractor"

    num_learnable_queries: int = 64
    hidden_size: int = 1024
    num_hidden_layers: int = 6
    num_attention_heads: int = 16
    intermediate_size: int = 2816
    layer_norm_eps: float = 1e-6
    encoder_hidden_size: int = 1024
    grid_size: int = 32


class MPlugOwl2VisualConfig(PreTrainedConfig):
    """Vision tower and abstractor."""

    model_type = "mplug_owl2_visual"
    base_config_key = "visual_config"
    sub_configs_defaults = {
        "visual_model": SubConfigSpec(config_class=MPlugOwl2VisionConfig),
        "visual_abstractor": SubConfigSpec(config_class=MPlugOwl2AbstractorConfig),
    }

    visual_model: dict | PreTrainedConfig | None = None
    visual_abstractor: dict | PreTrainedConfig | None = None


class MPlugOwl2Config(LlamaConfig):
    """The decoder's configuration, with that of its eyes in `visual_config`.

    Raises ValueError where the parts do not fit each other.
    """

    model_type = "mplug_owl2"
    sub_configs_defaults = {"visual_config": SubConfigSpec(config_class=MPlugOwl2VisualConfig)}

    visual_config: dict | PreTrainedConfig | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.num_key_value_heads != self.num_attention_heads:
            raise ValueError(
                "mPLUG-Owl2 has a key and a value head for every query head, not "
                f"{self.num_key_value_heads} for {self.num_attention_heads}"
            )
        vision, abstractor = self.visual_config.visual_model, self.visual_config.visual_abstractor
        if abstractor.encoder_hidden_size != abstractor.hidden_size:
            raise ValueError("the abstractor's keys join queries and patches: one width for both")
        if abstractor.encoder_hidden_size != vision.hidden_size:
            raise ValueError("the abstractor's encoder_hidden_size is not the vision tower's width")
        if abstractor.grid_size != vision.image_size // vision.patch_size:
            raise ValueError("the abstractor's grid_size is not the vision tower's patches a side")


# ---------------------------------------------------------------------------------- vision tower


class VisionEmbeddings(nn.Module):
    """Pictures to class token and patches in raster order, with positions, normed."""

    def __init__(self, config: MPlugOwl2VisionConfig):
        super().__init__()
        size, dim = config.patch_size, config.hidden_size
        patches = (config.image_size // size) ** 2
        self.patch_embed = nn.Conv2d(3, dim, kernel_size=size, stride=size, bias=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position_embedding = nn.Parameter(torch.zeros(1, 1 + patches, dim))
        self.pre_layernorm = nn.LayerNorm(dim, eps=config.layer_norm_eps)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        return self.pre_layernorm(x + self.position_embedding)


class VisionAttention(nn.Module):
    """Self-attention whose fused projection holds query, key and value of one head side by side."""

    def __init__(self, config: MPlugOwl2VisionConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        by_head = self.query_key_value(x).unflatten(-1, (self.num_heads, 3, -1))
        q, k, v = by_head.permute(3, 0, 2, 1, 4)
        return self.dense(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class VisionMlp(nn.Module):
    """The two-layer FFN of a layer."""

    def __init__(self, config: MPlugOwl2VisionConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation_fn(self.fc1(x)))


class VisionLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: MPlugOwl2VisionConfig):
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = VisionAttention(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMlp(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class VisionModel(nn.Module):
    """`pixels [batch, 3, size, size]` to `[batch, 1 + patches, hidden]`, class token first."""

    def __init__(self, config: MPlugOwl2VisionConfig):
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        layers = nn.ModuleList(VisionLayer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layers": layers})
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.embeddings(pixels)
        for layer in self.encoder["layers"]:
            x = layer(x)
        return self.post_layernorm(x)


# ------------------------------------------------------------------------------------ abstractor


ABSTRACTOR_EPS = 1e-5
"""Of all norms of the abstractor but the FFN's inner one: torch's own, whatever the config says."""


class AbstractorAttention(nn.Module):
    """Queries read keys that are the queries themselves, then class token and patches."""

    def __init__(self, config: MPlugOwl2AbstractorConfig):
        super().__init__()
        dim = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        # Buffers with fixed values that the released checkpoint holds as well.
        queries = torch.arange(config.num_learnable_queries)
        self.register_buffer("q_pos_embed", sincos(queries, dim))
        self.register_buffer("k_pos_embed", sincos_grid(config.grid_size, dim))

    def forward(
        self, queries: torch.Tensor, states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What each query read, and the probabilities `batch x heads x queries x keys`.

        queries: `batch x queries x hidden`; states: `batch x keys x hidden`, the queries first.
        """
        places = torch.cat([self.q_pos_embed, self.k_pos_embed])
        q = self._heads(self.query(queries + self.q_pos_embed))
        k = self._heads(self.key(states + places))
        v = self._heads(self.value(states))
        probabilities = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return (probabilities @ v).transpose(1, 2).flatten(2), probabilities

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class AbstractorMlp(nn.Module):
    """Gated FFN with a norm before its last projection."""

    def __init__(self, config: MPlugOwl2AbstractorConfig):
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.w3 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.ffn_ln = nn.LayerNorm(config.intermediate_size, eps=config.layer_norm_eps)
        self.w2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(self.ffn_ln(F.silu(self.w1(x)) * self.w3(x)))


class AbstractorOutput(nn.Module):
    """Both residual sums of a layer."""

    def __init__(self, config: MPlugOwl2AbstractorConfig):
        super().__init__()
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=ABSTRACTOR_EPS)
        self.mlp = AbstractorMlp(config)

    def forward(self, mixed: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        x = residual + self.out_proj(mixed)
        return x + self.mlp(self.norm2(x))


class AbstractorCrossAttention(nn.Module):
    """One layer; its residual starts from the normed queries, not from the queries."""

    def __init__(self, config: MPlugOwl2AbstractorConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=ABSTRACTOR_EPS)
        self.normk = nn.LayerNorm(config.encoder_hidden_size, eps=ABSTRACTOR_EPS)
        self.attention = AbstractorAttention(config)
        self.output = AbstractorOutput(config)

    def forward(self, queries: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        queries = self.norm1(queries)
        mixed, _ = self.attention(queries, torch.cat([queries, self.normk(states)], dim=1))
        return self.output(mixed, queries)


class VisualAbstractor(nn.Module):
    """States of the vision tower to one image token a query, and an end token behind them."""

    def __init__(self, config: MPlugOwl2AbstractorConfig, text_hidden_size: int):
        super().__init__()
        dim = config.hidden_size
        self.query_embeds = nn.Parameter(torch.zeros(1, config.num_learnable_queries, dim))
        layers = nn.ModuleList(
            nn.ModuleDict({"crossattention": AbstractorCrossAttention(config)})
            for _ in range(config.num_hidden_layers)
        )
        self.encoder = nn.ModuleDict({"layers": layers})
        self.visual_fc = nn.Linear(dim, text_hidden_size)
        self.vit_eos = nn.Parameter(torch.zeros(1, 1, text_hidden_size))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        x = self.query_embeds.expand(len(states), -1, -1)
        for layer in self.encoder["layers"]:
            x = layer["crossattention"](x, states)
        return torch.cat([self.visual_fc(x), self.vit_eos.expand(len(x), -1, -1)], dim=1)


def sincos(places: torch.Tensor, dim: int) -> torch.Tensor:
    """Sines, then cosines, of places x 10000^(-2i/dim): `places x dim`."""
    speed = 10000.0 ** (-torch.arange(dim // 2) / (dim / 2))
    angle = places[:, None] * speed
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def sincos_grid(side: int, dim: int) -> torch.Tensor:
    """Zeros for the class token, then column and row of each patch: `(1 + side^2) x dim`."""
    row, column = torch.arange(side * side) // side, torch.arange(side * side) % side
    patches = torch.cat([sincos(column, dim // 2), sincos(row, dim // 2)], dim=1)
    return torch.cat([torch.zeros(1, dim), patches])


# --------------------------------------------------------------------------------------- decoder


class Multiway(nn.Module):
    """Two copies of a module: tokens whose indicator is 0 pass the first, others the second."""

    def __init__(self, make: Callable[[], nn.Module]):
        super().__init__()
        self.multiway = nn.ModuleList([make(), make()])

    def forward(self, x: torch.Tensor, indicators: torch.Tensor | None) -> torch.Tensor:
        """`batch x tokens x features`; indicators: `batch x tokens`, None where all is text."""
        text = self.multiway[TEXT](x)
        if indicators is None:
            return text
        return torch.where(indicators[..., None] == VISUAL, self.multiway[VISUAL](x), text)


class MPlugOwl2Attention(LlamaAttention):
    """Llama's attention with keys and values by modality."""

    def __init__(self, config: MPlugOwl2Config, layer_idx: int):
        super().__init__(config, layer_idx)
        linear = partial(nn.Linear, config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = Multiway(linear)
        self.v_proj = Multiway(linear)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        modality_indicators: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        q, k, v = (
            projected.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projected in (
                self.q_proj(hidden_states),
                self.k_proj(hidden_states, modality_indicators),
                self.v_proj(hidden_states, modality_indicators),
            )
        )
        q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.attention_dropout if self.training else 0.0
        mixed, weights = attend(
            self, q, k, v, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        return self.o_proj(mixed.flatten(2)), weights


class MPlugOwl2DecoderLayer(LlamaDecoderLayer):
    """Llama's layer with norms, keys and values by modality; the FFN is shared."""

    def __init__(self, config: MPlugOwl2Config, layer_idx: int):
        super().__init__(config, layer_idx)
        norm = partial(LlamaRMSNorm, config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = MPlugOwl2Attention(config, layer_idx)
        self.input_layernorm = Multiway(norm)
        self.post_attention_layernorm = Multiway(norm)

    def forward(
        self,
        hidden_states: torch.Tensor,
        modality_indicators: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        mixed, _ = self.self_attn(
            self.input_layernorm(hidden_states, modality_indicators),
            modality_indicators=modality_indicators,
            **kwargs,
        )
        hidden_states = hidden_states + mixed
        normed = self.post_attention_layernorm(hidden_states, modality_indicators)
        return hidden_states + self.mlp(normed)


class MPlugOwl2Model(LlamaModel):
    """Llama without its head, its layers by modality, and its eyes beside it.

    `forward` hands `modality_indicators` (`batch x tokens`, 1 at image tokens; None or 0: text) on
    to the layers.
    """

    config_class = MPlugOwl2Config
    _no_split_modules = ["MPlugOwl2DecoderLayer", "VisionLayer"]

    def __init__(self, config: MPlugOwl2Config):
        super().__init__(config)
        visual = config.visual_config
        self.layers = nn.ModuleList(
            MPlugOwl2DecoderLayer(config, i) for i in range(config.num_hidden_layers)
        )
        self.vision_model = VisionModel(visual.visual_model)
        self.visual_abstractor = VisualAbstractor(visual.visual_abstractor, config.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, VisionEmbeddings):
            nn.init.trunc_normal_(module.cls_token, std=std)
            nn.init.trunc_normal_(module.position_embedding, std=std)
        if isinstance(module, VisualAbstractor):
            nn.init.trunc_normal_(module.query_embeds, std=std)
            nn.init.trunc_normal_(module.vit_eos, std=std)


class MPlugOwl2ForCausalLM(LlamaForCausalLM):
    """Pictures to image tokens by `embed_pictures`; `forward` then takes embeddings."""

    config_class = MPlugOwl2Config
    _no_split_modules = MPlugOwl2Model._no_split_modules

    def __init__(self, config: MPlugOwl2Config):
        super().__init__(config)
        self.model = MPlugOwl2Model(config)
        self.post_init()

    def embed_pictures(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`[batch, 3, size, size]` to image tokens `[batch, queries + 1, hidden]`, end last."""
        return self.model.visual_abstractor(self.model.vision_model(pixel_values))

    def prepare_inputs_for_generation(
        self,
        input_ids,
        inputs_embeds=None,
        modality_indicators=None,
        is_first_iteration=False,
        **kwargs,
    ) -> dict:
        """The indicators are the prompt's; what is generated after it is text."""
        inputs = super().prepare_inputs_for_generation(
            input_ids,
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        if is_first_iteration:
            inputs["modality_indicators"] = modality_indicators
        return inputs


# Without this, loading a tokenizer from the model's directory warns of an unknown model type.
AutoConfig.register(MPlugOwl2Config.model_type, MPlugOwl2Config, exist_ok=True)
