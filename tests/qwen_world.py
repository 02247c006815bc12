"""A small random Qwen2.5-VL with which several tests work."""

import torch
from test_llava import spread
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from mmneurons.models.qwen2_5_vl import Qwen25VL

SPECIAL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|image_pad|> "
    "<|video_pad|>"
).split()
TEXT = "<unk> system user assistant Describe in few words An image of red car cat sea a"
IDS = {word: place for place, word in enumerate([*SPECIAL, *TEXT.split()])}
PLACE = "<|vision_start|> <|image_pad|> <|vision_end|>"
SHORT = f"<|im_start|> user {PLACE} Describe <|im_end|> <|im_start|> assistant An image"
LONG = (
    f"<|im_start|> system a red car <|im_end|> <|im_start|> user {PLACE} Describe in few words "
    "<|im_end|> <|im_start|> assistant An image of"
)
END, PAD = IDS["<|im_end|>"], IDS["<|endoftext|>"]


def build_tokenizer():
    words = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def build_processor(**changes):
    """Cells of 8 x 8 pixels, from 4 to 32 of them."""
    settings = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    settings |= {"min_pixels": 4 * 64, "max_pixels": 32 * 64}
    return Qwen2VLImageProcessorPil(**(settings | changes))


def build_network(seed=0, **changes):
    """Windows of 2 x 2 cells in two of three vision blocks; three decoder layers, grouped keys."""
    torch.manual_seed(seed)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(IDS), "hidden_size": 32, "intermediate_size": 40,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 512, "bos_token_id": PAD, "eos_token_id": END,
            "pad_token_id": PAD,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 100.0, "mrope_section": [1, 1, 2],
            },
        },
        vision_config={
            "depth": 3, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2,
            "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 16,
            "out_hidden_size": 32, "fullatt_block_indexes": [1],
        },
        image_token_id=IDS["<|image_pad|>"],
        video_token_id=IDS["<|video_pad|>"],
        vision_start_token_id=IDS["<|vision_start|>"],
        vision_end_token_id=IDS["<|vision_end|>"],
        **changes,
    )  # fmt: skip
    return spread(Qwen2_5_VLForConditionalGeneration(config))


def build(seed=0, **changes):
    return Qwen25VL(build_network(seed, **changes), build_tokenizer(), build_processor(), "cpu")


def own_inputs(model, pictures, prompts):
    """What transformers' own forward takes: a placeholder an image token, padded on the left."""
    inputs = model.image_processor(images=list(pictures), return_tensors="pt")
    numbers = inputs.image_grid_thw.prod(dim=1).tolist()
    rows = [
        [IDS[word] for word in prompt.replace("<|image_pad|>", "<|image_pad|> " * (n // 4)).split()]
        for prompt, n in zip(prompts, numbers, strict=True)
    ]
    longest = max(map(len, rows))
    ids = torch.tensor([[PAD] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    kinds = (ids == IDS["<|image_pad|>"]).int()
    return {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": kinds, **inputs}


def own_logits(model, pictures, prompts):
    """Logits of a left-padded batch, and its mask."""
    inputs = own_inputs(model, pictures, prompts)
    model.network.model.rope_deltas = None  # the network keeps those of an earlier generation
    return model.network(**inputs).logits, inputs["attention_mask"]


def own_generation(model, pictures, prompts, n, **settings):
    """Tokens of transformers' own generation."""
    inputs = own_inputs(model, pictures, prompts)
    model.network.model.rope_deltas = None
    tokens = model.network.generate(
        max_new_tokens=n, do_sample=False, eos_token_id=END, pad_token_id=PAD,
        **settings, **inputs,
    )[:, inputs["input_ids"].shape[1] :].tolist()  # fmt: skip
    return [row[: row.index(END)] if END in row else row for row in tokens]
