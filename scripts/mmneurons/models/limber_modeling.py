"""The architecture of LiMBeR-BEIT: a BEiT tower, a linear projection, GPT-J (Merullo et al. 2023).

Both halves are transformers' own classes. The released model is three files: BEiT (`beit.*` of a
masked-image model), the projection (`weight` and `bias`) and GPT-J; here they are below `vision.`,
`proj.` and `language.`.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import (
    AutoConfig,
    BeitConfig,
    BeitModel,
    GPTJConfig,
    GPTJForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.configuration_utils import SubConfigSpec


class LimberConfig(PreTrainedConfig):
    """Vision tower and decoder; the projection follows from their widths."""

    model_type = "limber"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(config_class=BeitConfig),
        "text_config": SubConfigSpec(config_class=GPTJConfig),
    }

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    tie_word_embeddings: bool = False


class LimberForConditionalGeneration(PreTrainedModel):
    """Pictures to image tokens by `embed_pictures`; the language model then takes embeddings.

    The training of the released model drops a tenth of the image embeddings out, and so does its
    code on the first picture after loading. There is no dropout here.
    """

    config_class = LimberConfig
    _no_split_modules = ["BeitLayer", "GPTJBlock"]

    def __init__(self, config: LimberConfig):
        super().__init__(config)
        vision, text = config.vision_config, config.text_config
        # The pooler of the released code is random and unused.
        self.vision = BeitModel(vision, add_pooling_layer=False)
        self.proj = nn.Linear(vision.hidden_size, text.hidden_size)
        self.language = GPTJForCausalLM(text)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The decoder's, which transformers does not find by itself."""
        return self.language.get_input_embeddings()

    def patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`[batch, 3, size, size]` to the tower's last states `[batch, patches, vision hidden]`.

        In raster order, without the class token. BEiT has no norm after its last layer where it is
        made for mean pooling, as this one is.
        """
        return self.vision(pixel_values).last_hidden_state[:, 1:]

    def embed_pictures(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`[batch, 3, size, size]` to image tokens `[batch, patches, text hidden]`."""
        return self.proj(self.patches(pixel_values))

    def forward(self, inputs_embeds: torch.Tensor, attention_mask=None, labels=None):
        """The decoder over merged embeddings `[batch, tokens, text hidden]`."""
        return self.language(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, labels=labels
        )


# Without this, loading a tokenizer from the model's directory warns of an unknown model type.
AutoConfig.register(LimberConfig.model_type, LimberConfig, exist_ok=True)
