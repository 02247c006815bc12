"""The architecture of MiniGPT-4 with a linear projection: EVA ViT, LayerNorm, projection, Llama-2.

Zhu et al. 2023 (MiniGPT-4) and Fang et al. 2022 (EVA). Parameter names are those of the released
checkpoints, so that `eva_vit_g.pth` (below `visual_encoder.`), the Llama-2 weights (below
`llama_model.`) and MiniGPT-4's own checkpoint (`llama_proj.*`) load by their own keys.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.configuration_utils import SubConfigSpec


class EvaVisionConfig(PreTrainedConfig):
    """EVA ViT-g as BLIP-2 and MiniGPT-4 cut it: 39 of 40 blocks, no final norm, no rotary parts."""

    model_type = "eva_vit"
    base_config_key = "vision_config"

    image_size: int = 224
    patch_size: int = 14
    hidden_size: int = 1408
    num_hidden_layers: int = 39
    num_attention_heads: int = 16
    intermediate_size: int = 6144
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02


class MiniGPT4Config(PreTrainedConfig):
    """Vision tower, number of neighbouring patches that one image token holds, and decoder."""

    model_type = "minigpt4"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(config_class=EvaVisionConfig),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    patches_per_token: int = 4
    tie_word_embeddings: bool = False


class EvaAttention(nn.Module):
    """Self-attention whose queries and values have a bias and whose keys have none."""

    def __init__(self, config: EvaVisionConfig):
        super().__init__()
        dim = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, n, dim = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).view(batch, n, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, n, dim))


class EvaMlp(nn.Module):
    """The two-layer FFN of a block; `act` is a module so that its output can be watched."""

    def __init__(self, config: EvaVisionConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))


class EvaBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: EvaVisionConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = EvaAttention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = EvaMlp(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Pictures to patches in raster order."""

    def __init__(self, config: EvaVisionConfig):
        super().__init__()
        size = config.patch_size
        self.proj = nn.Conv2d(3, config.hidden_size, kernel_size=size, stride=size)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.proj(pixels).flatten(2).transpose(1, 2)


class EvaVisionModel(PreTrainedModel):
    """`pixels [batch, 3, size, size]` to `[batch, 1 + patches, hidden]`, class token first."""

    config_class = EvaVisionConfig
    main_input_name = "pixel_values"
    _no_split_modules = ["EvaBlock"]

    def __init__(self, config: EvaVisionConfig):
        super().__init__(config)
        patches = (config.image_size // config.patch_size) ** 2
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, config.hidden_size))
        self.blocks = nn.ModuleList(EvaBlock(config) for _ in range(config.num_hidden_layers))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            nn.init.trunc_normal_(self.cls_token, std=self.config.initializer_range)
            nn.init.trunc_normal_(self.pos_embed, std=self.config.initializer_range)

    def forward(
        self, pixel_values: torch.Tensor, places: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Hidden states after the last block.

        places: `batch x patches`, the raster index of each patch where only a part of the picture
        is given; None for whole pictures.
        """
        x = self.patch_embed(pixel_values)
        patches = self.pos_embed[:, 1:] if places is None else self.pos_embed[0, 1:][places]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([first, x + patches], dim=1)
        for block in self.blocks:
            x = block(x)
        return x


class MiniGPT4ForConditionalGeneration(PreTrainedModel):
    """Pictures to image tokens by `embed_pictures`; the language model then takes embeddings."""

    config_class = MiniGPT4Config
    _no_split_modules = ["EvaBlock", "LlamaDecoderLayer"]

    def __init__(self, config: MiniGPT4Config):
        super().__init__(config)
        vision, text = config.vision_config, config.text_config
        self.visual_encoder = EvaVisionModel(vision)
        # torch's default eps: MiniGPT-4 never loads BLIP-2's norm, it keeps the initial one
        # (weight 1, bias 0), and the blocks' 1e-6 does not apply to it.
        self.ln_vision = nn.LayerNorm(vision.hidden_size, eps=1e-5)
        self.llama_proj = nn.Linear(vision.hidden_size * config.patches_per_token, text.hidden_size)
        self.llama_model = LlamaForCausalLM(text)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The decoder's, which transformers does not find by itself."""
        return self.llama_model.get_input_embeddings()

    def embed_pictures(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`[batch, 3, size, size]` to image tokens `[batch, patches / 4, text hidden]`.

        Four patches that are consecutive in raster order become one token: a strip one patch high
        and four wide, so a 16 x 16 picture gives a 16 x 4 grid of tokens.
        """
        patches = self.ln_vision(self.visual_encoder(pixel_values))[:, 1:]
        batch, n, dim = patches.shape
        per_token = self.config.patches_per_token
        return self.llama_proj(patches.reshape(batch, n // per_token, dim * per_token))

    def forward(self, inputs_embeds: torch.Tensor, attention_mask=None, labels=None):
        """The decoder over merged embeddings `[batch, tokens, text hidden]`."""
        return self.llama_model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, labels=labels
        )


# Without this, loading a tokenizer from the model's directory warns of an unknown model type.
AutoConfig.register(MiniGPT4Config.model_type, MiniGPT4Config, exist_ok=True)
