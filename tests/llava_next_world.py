"""A small random LLaVA-NeXT with which several tests work."""

import torch
from test_llava import IDS, build_tokenizer
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
)

from mmneurons.models.llava_next import LlavaNext

SHORT = "USER: <image> Describe ASSISTANT: An"
LONG = "USER: a red car in sea <image> Describe in few words ASSISTANT: An"
PINPOINTS = [[16, 32], [32, 16], [32, 32]]


def build(seed=0, **changes):
    """4 x 4 patches a tile, three vision layers, two decoder layers; up to 2 x 2 tiles."""
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=12, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        image_size=16, patch_size=4, projection_dim=8,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(IDS), hidden_size=16, intermediate_size=20, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )  # fmt: skip
    config = LlavaNextConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IDS["<image>"],
        image_grid_pinpoints=PINPOINTS,
        **changes,
    )
    network = LlavaNextForConditionalGeneration(config)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.normal_(std=1.5 / weight[0].numel() ** 0.5)
            else:
                weight.add_(0.2 * torch.randn(weight.shape))
    square = {"height": 16, "width": 16}
    processor = LlavaNextImageProcessorPil(
        size=square, crop_size=square, image_grid_pinpoints=PINPOINTS
    )
    return LlavaNext(network, build_tokenizer(), processor, "cpu")


def own_ids(prompt, n_image_tokens):
    """What transformers wants: BOS, and as many placeholders as image tokens."""
    words = prompt.replace("<image>", "<image> " * n_image_tokens).split()
    return [IDS["<s>"], *(IDS[word] for word in words)]


def own_logits(model, picture, prompt):
    """transformers' own forward pass of one picture and prompt."""
    inputs = model.image_processor(images=[picture], return_tensors="pt")
    n = model.network.get_image_features(**inputs).pooler_output[0].shape[0]
    ids = torch.tensor([own_ids(prompt, n)])
    return model.network(input_ids=ids, **inputs).logits[0], ids[0]
