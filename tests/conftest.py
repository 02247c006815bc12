"""A finished small run for all tests, and a MiniGPT-4 that is built in milliseconds.

Its weights are drawn at a scale at which attention, gates and biases all show in the output, so
that a wrong bias, norm or position changes numbers visibly. torch is imported only where a test
asks for the model.
"""

import numpy as np
import pytest
from PIL import Image
from smoke_run import SMOKE, copy_repository, snakemake

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
PROMPT_WORDS = (
    "[INST] [/INST] <Img> </Img> Describe this image in detail. briefly The shows a Give the "
    "following image: <Img>ImageContent</Img>. You will be able to see once I provide it you. "
    "Please answer my questions."
)
OTHER_WORDS = "red car bear teddy banana fire hydrant on beach and with an old clock grass"
VOCABULARY = [*SPECIAL, *dict.fromkeys(f"{PROMPT_WORDS} {OTHER_WORDS}".split())]
IDS = {word: place for place, word in enumerate(VOCABULARY)}


def build_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


def build_network(seed, image_size=32, patch_size=4):
    """8 x 8 patches, so 8 x 2 image tokens; two vision blocks and three decoder layers."""
    import torch
    from transformers import LlamaConfig

    from mmneurons.models.minigpt4_modeling import (
        EvaVisionConfig,
        MiniGPT4Config,
        MiniGPT4ForConditionalGeneration,
    )

    vision = EvaVisionConfig(
        image_size=image_size,
        patch_size=patch_size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
    )
    text = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    network = MiniGPT4ForConditionalGeneration(
        MiniGPT4Config(vision_config=vision, text_config=text)
    )
    generator = torch.Generator().manual_seed(seed)

    def normal(shape):
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "norm" in name or name.startswith("ln_vision"):
                weight.copy_(name.endswith("weight") + 0.3 * normal(weight.shape))
            elif weight.dim() == 1:
                weight.copy_(0.5 * normal(weight.shape))
            elif "embed" in name or "cls_token" in name:
                weight.copy_(normal(weight.shape) * (0.2 if "patch" in name else 1))
            else:
                weight.copy_(1.5 * normal(weight.shape) / weight[0].numel() ** 0.5)
    return network


@pytest.fixture(scope="session")
def model(tokenizer):
    """One for all tests; a test that changes weights builds its own by `build_network`."""
    import torch

    from mmneurons.models.minigpt4 import MiniGPT4

    torch.set_num_threads(1)
    return MiniGPT4(build_network(0), tokenizer, "cpu")


@pytest.fixture(scope="session")
def pictures():
    """Sixteen noise pictures, coarse enough to survive resizing, of different sizes."""
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(16)]
    sizes = [(40 + 3 * i, 50 - 2 * i) for i in range(16)]
    return [
        Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)
        for pixels, size in zip(coarse, sizes, strict=True)
    ]


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A copy of the repository in which the smoke preset's `all` has run."""
    folder = copy_repository(tmp_path_factory.mktemp("workflow"))
    snakemake(folder, "all", *SMOKE)
    return folder


def n_hooks(network):
    """How many forward and backward hooks a network's modules carry."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in network.modules() for kind in kinds)
