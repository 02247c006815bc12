"""Captions of pictures, with the place of every token in the text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mmneurons.datasets.pictures import original_id, read_picture
from mmneurons.models.base import MultimodalModel


def fill_prompt(prompt: dict[str, str]) -> str:
    """The text of a prompt of `resources/prompts.yaml`."""
    return prompt["template"].format(instruction=prompt["instruction"], prefix=prompt["prefix"])


def pictures_to_caption(
    samples: pd.DataFrame, root: str | Path, inpainted: str | Path
) -> list[tuple[str, Path]]:
    """(picture id, file) of every original once and of every inpainted picture, in sample order."""
    pictures: dict[str, Path] = {}
    for sample in samples.itertuples():
        pictures.setdefault(original_id(sample.image_id), Path(root) / sample.file)
        pictures[sample.sample_id] = Path(inpainted) / f"{sample.sample_id}.png"
    return list(pictures.items())


def in_batches(items: Sequence, batch_size: int) -> list[Sequence]:
    """The items, `batch_size` at a time; the last batch may have fewer."""
    return [items[start : start + batch_size] for start in range(0, len(items), batch_size)]


def shard_of(items: Sequence, batch_size: int, shard: int, shards: int) -> list[Sequence]:
    """This shard's batches.

    Batches are cut from the whole list, so they are the same for any number of shards, and so are
    the numbers that come out of them.
    """
    return in_batches(items, batch_size)[shard::shards]


def caption_pictures(
    model: MultimodalModel,
    pictures: Sequence[tuple[str, Path]],
    prompt: dict[str, str],
    max_new_tokens: int,
) -> list[dict]:
    """Greedy captions of one batch: picture_id, caption, token_ids, token_ends of each picture."""
    text = fill_prompt(prompt)
    image_tokens = model.embed_pictures([read_picture(path) for _, path in pictures], text)
    generated = model.generate(model.encode(image_tokens, text), max_new_tokens)
    return [
        {"picture_id": name, **caption_text(model, prompt["prefix"], tokens)}
        for (name, _), tokens in zip(pictures, generated, strict=True)
    ]


def caption_text(model: MultimodalModel, prefix: str, tokens: Sequence[int]) -> dict:
    """The caption with its forced prefix, and the character at which each generated token ends.

    Prefix and tokens are decoded together, because a tokenizer may drop the first space of a text.
    """
    start = model.tokenizer(prefix, add_special_tokens=False).input_ids
    texts = [model.decode([*start, *tokens[: n + 1]]) for n in range(len(tokens))]
    return {
        "caption": texts[-1] if texts else model.decode(start),
        "token_ids": list(tokens),
        "token_ends": [len(text) for text in texts],
    }
