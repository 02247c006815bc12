"""The benchmark model: a decoder large enough that arithmetic, not overhead, sets the time.

Randomly initialised, hidden 512, 8 layers, vocabulary 32,000; 64 image tokens as MiniGPT-4 has, or
576 as LLaVA has. Ratios measured on it say what a method costs beside the passes it needs; they
say nothing about what a model knows.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BeitConfig,
    BeitImageProcessorPil,
    CLIPVisionConfig,
    GPTJConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    PreTrainedTokenizerFast,
)

from mmneurons.models.limber import Limber
from mmneurons.models.limber_modeling import LimberConfig, LimberForConditionalGeneration
from mmneurons.models.llava_next import LlavaNext
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.minigpt4_modeling import MiniGPT4Config, MiniGPT4ForConditionalGeneration

VOCABULARY = 32_000
# 26 words before and after the picture, as many tokens as MiniGPT-4's training prompt has.
PINPOINTS = [[64, 128], [128, 64], [128, 128]]
PROMPT = "w1 " * 10 + "<ImageHere> " + "w2 " * 26


def tokenizer() -> PreTrainedTokenizerFast:
    """Words w0, w1, ... stand for themselves."""
    words = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", "<pad>"])}
    words |= {f"w{i}": i for i in range(len(words), VOCABULARY)}
    words["w1"], words["w2"] = words.pop("w4"), words.pop("w5")
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def benchmark_model(image_tokens: int = 64, device: str = "cpu", seed: int = 0) -> MiniGPT4:
    """A MiniGPT-4 whose picture becomes 64 (16 x 4) or 576 (48 x 12) image tokens."""
    side = {64: 16, 576: 48}[image_tokens]
    torch.manual_seed(seed)
    config = MiniGPT4Config(
        vision_config={
            "image_size": 14 * side,
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 512,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": VOCABULARY,
            "hidden_size": 512,
            "intermediate_size": 1376,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "max_position_embeddings": 1024,
        },
    )
    return MiniGPT4(MiniGPT4ForConditionalGeneration(config), tokenizer(), device)


def benchmark_limber(device: str = "cpu", seed: int = 0) -> Limber:
    """A LiMBeR of 64 image tokens: GPT-J's layers, whose FFNs have no gate, of hidden 512 too.

    4 x hidden units a layer, as GPT-J has, are 2,048 where the Llama above has 1,376.
    """
    torch.manual_seed(seed)
    config = LimberConfig(
        vision_config=BeitConfig(
            image_size=64, patch_size=8, hidden_size=128, num_hidden_layers=2,
            num_attention_heads=4, intermediate_size=512, use_shared_relative_position_bias=True,
            use_mask_token=True,
        ),
        text_config=GPTJConfig(
            vocab_size=VOCABULARY, n_embd=512, n_layer=8, n_head=8, rotary_dim=16, n_positions=1024,
            bos_token_id=1, eos_token_id=2,
        ),
    )  # fmt: skip
    processor = BeitImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)
    return Limber(LimberForConditionalGeneration(config), tokenizer(), processor, device)


def benchmark_llava_next(device: str = "cpu", seed: int = 0) -> tuple[LlavaNext, str]:
    """A LLaVA-NeXT with the same decoder, tiles of 8 x 8 patches, and a prompt for it."""
    torch.manual_seed(seed)
    words = tokenizer()
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4,
            image_size=64, patch_size=8,
        ),
        text_config=LlamaConfig(
            vocab_size=len(words), hidden_size=512, intermediate_size=1376, num_hidden_layers=8,
            num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=1024,
        ),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=PINPOINTS,
    )  # fmt: skip
    square = {"height": 64, "width": 64}
    processor = LlavaNextImageProcessorPil(
        size=square, crop_size=square, image_grid_pinpoints=PINPOINTS
    )
    network = LlavaNextForConditionalGeneration(config)
    return LlavaNext(network, words, processor, device), "w1 " * 10 + "<image> " + "w2 " * 26
