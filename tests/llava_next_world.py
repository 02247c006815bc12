"""A small random LLaVA-NeXT with which several tests work."""

import torch
from test_llava import IDS, build_tokenizer, small_configs, spread
from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
)

from mmneurons.models.llava_next import LlavaNext

SHORT = "USER: <image> Describe ASSISTANT: An"
LONG = "USER: a red car in sea <image> Describe in few words ASSISTANT: An"
PINPOINTS = [[16, 32], [32, 16], [32, 32]]


def build(seed=0, **changes):
    """The small LLaVA of tests/test_llava.py with up to 2 x 2 tiles of 4 x 4 patches."""
    torch.manual_seed(seed)
    config = LlavaNextConfig(**small_configs(), image_grid_pinpoints=PINPOINTS, **changes)
    network = spread(LlavaNextForConditionalGeneration(config))
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
