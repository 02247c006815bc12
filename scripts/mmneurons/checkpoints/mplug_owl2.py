"""mPLUG-Owl2 as its authors published it: 33 pickles under the names of `mplug_owl2_modeling`.

Original layout: Ye et al. 2023. Names stay; what changes is the format, and the tokenizer, which
is written in the form that needs no sentencepiece to be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmneurons.checkpoints.convert import (
    Piece,
    Plan,
    copy_files,
    read_config,
    require,
    weight_files,
    write_weights,
)
from mmneurons.checkpoints.tokenizer import llama_tokenizer
from mmneurons.models.mplug_owl2_modeling import MPlugOwl2Config, MPlugOwl2ForCausalLM


def plan(originals: Mapping[str, Path]) -> Plan:
    """originals: `checkpoint`."""
    folder = originals["checkpoint"]
    require(read_config(folder), folder, model_type="mplug_owl2")
    config = MPlugOwl2Config.from_pretrained(folder)
    return Plan(MPlugOwl2ForCausalLM, config, [Piece(weight_files(folder), of_checkpoint)])


def of_checkpoint(name: str) -> str | None:
    """Frequencies of the rotation follow from the configuration."""
    return None if name.endswith("rotary_emb.inv_freq") else name


def convert(originals: Mapping[str, Path], folder: Path) -> None:
    """Write weights and tokenizer; configuration and settings of pictures as published."""
    write_weights(plan(originals), folder)
    llama_tokenizer(originals["checkpoint"]).save_pretrained(folder)
    settings = ("config.json", "generation_config.json", "preprocessor_config.json")
    copy_files(originals["checkpoint"], folder, settings)
