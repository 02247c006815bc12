"""LiMBeR-BEIT: GPT-J-6B in float16, BEiT-large as it was pretrained, and the trained projection.

Original layouts: EleutherAI/gpt-j-6B (branch float16), microsoft/beit-large-patch16-224-pt22k, a
model of masked pictures whose own norm and head LiMBeR never calls, and `proj.ckpt` of the LiMBeR
repository, `weight` and `bias` of a linear layer.

LiMBeR adds a token to GPT-2's 50,257 and resizes GPT-J's embeddings and head to them: the first
50,258 of 50,400 rows stay. The added token's row is one that GPT-J was never trained on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    BeitConfig,
    BeitImageProcessorPil,
    GenerationConfig,
    GPTJConfig,
    PreTrainedTokenizerFast,
)

from mmneurons.checkpoints.convert import (
    ConversionError,
    Piece,
    Plan,
    read_config,
    require,
    weight_files,
    write_weights,
)
from mmneurons.models.limber_modeling import LimberConfig, LimberForConditionalGeneration

END, IMAGE = "<|endoftext|>", "<|image|>"
VOCABULARY = ("transformer.wte.weight", "lm_head.weight", "lm_head.bias")
MASKS = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)$")
"""Buffers of old versions of transformers: which positions may see which."""
HEAD = re.compile(r"(layernorm|lm_head)\.(weight|bias)$|.*relative_position_index$")
"""Of the prediction of masked patches, and what follows from the grid."""
RENAMED = {
    "beit.encoder.relative_position_bias.": "shared_position_bias.",
    "beit.encoder.layer.": "layers.",
    "beit.": "",
}
PARTS = {
    "attention.attention.query.": "attention.q_proj.",
    "attention.attention.key.": "attention.k_proj.",
    "attention.attention.value.": "attention.v_proj.",
    "attention.output.dense.": "attention.o_proj.",
    "intermediate.dense.": "mlp.fc1.",
    "output.dense.": "mlp.fc2.",
}


def plan(originals: Mapping[str, Path], vocabulary: int) -> Plan:
    """originals: `decoder`, `vision` and `projection`; vocabulary: the tokens of LiMBeR."""
    decoder, vision = read_config(originals["decoder"]), read_config(originals["vision"])
    require(decoder, originals["decoder"], model_type="gptj")
    require(vision, originals["vision"], model_type="beit")
    if not vision.get("use_mean_pooling", True):
        raise ConversionError(f"{originals['vision']}: use_mean_pooling is false, not true")
    text = GPTJConfig.from_dict(decoder | {"vocab_size": vocabulary})
    config = LimberConfig(vision_config=BeitConfig.from_dict(vision), text_config=text)
    return Plan(
        LimberForConditionalGeneration,
        config,
        [
            Piece(_only(originals["projection"]), lambda name: f"proj.{name}"),
            Piece(weight_files(originals["vision"]), of_beit),
            Piece(
                weight_files(originals["decoder"]),
                lambda name: None if MASKS.match(name) else f"language.{name}",
                rows=dict.fromkeys(VOCABULARY, vocabulary),
            ),
        ],
    )


def of_beit(name: str) -> str | None:
    """From the names under which BEiT was published to those of today's transformers."""
    if HEAD.match(name):
        return None
    for old, new in RENAMED.items():
        if name.startswith(old):
            name = name.replace(old, new, 1)
            break
    for old, new in PARTS.items():
        if old in name:
            name = name.replace(old, new)
            break
    return f"vision.{name}"


def tokenizer_of(original: Path) -> PreTrainedTokenizerFast:
    """GPT-2's tokenizer from `vocab.json` and `merges.txt`, with LiMBeR's token behind the others.

    GPT-J's own files also name 143 tokens that were added to fill its embeddings up.
    """
    files = [original / name for name in ("vocab.json", "merges.txt")]
    if missing := [path.name for path in files if not path.is_file()]:
        raise ConversionError(f"{original} lacks {', '.join(missing)}")
    backend = Tokenizer(BPE.from_file(*map(str, files)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=END,
        eos_token=END,
        unk_token=END,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
    place = AddedToken(IMAGE, special=True, normalized=False)
    tokenizer.add_tokens([place], special_tokens=True)
    return tokenizer


def convert(originals: Mapping[str, Path], folder: Path) -> None:
    """Write weights, configuration, the tokenizer and the image processor's settings."""
    tokenizer = tokenizer_of(originals["decoder"])
    planned = plan(originals, len(tokenizer))
    write_weights(planned, folder)
    tokenizer.save_pretrained(folder)
    BeitImageProcessorPil.from_pretrained(originals["vision"]).save_pretrained(folder)
    GenerationConfig.from_model_config(planned.config).save_pretrained(folder)
    planned.config.architectures = [planned.network.__name__]
    planned.config.save_pretrained(folder)


def _only(folder: Path) -> list[Path]:
    """The one .ckpt file of an original."""
    files = sorted(folder.glob("*.ckpt"))
    if len(files) != 1:
        raise ConversionError(f"{folder} has {len(files)} .ckpt files, not one")
    return files
