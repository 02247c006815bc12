"""What the figures and tables of Schwettmann et al. 2023 share: names, choices, decoded tokens.

A picture is a row of the captions (picture_id, file, caption, group, supercategory), in the order
in which the pictures were drawn by the seed; `group` is the caption's first noun, whose first token
is the one that units are attributed to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from mmneurons.artifacts.neurons import Neuron
from mmneurons.figures.shown import Source, left_out, visible
from mmneurons.figures.style import METHOD_COLOURS, OTHER_COLOUR

PAPER = "LiMBeR-BEIT with GPT-J 6B on COCO 2017 validation"
"""The model and data of every number that stands beside ours as the paper's."""
NO_PICTURE = "no picture whose caption has a noun"
MULTIMODAL, RANDOM = "multimodal", "random"

KINDS = {
    "random": "neurons of another picture",
    "multimodal": "multimodal neurons",
    "gpt": "the model's captions",
    "coco_nouns": "nouns of the human captions",
    "image_prompts": "image prompts, mean over patches",
    "image_prompts_max": "image prompts, best patch",
    "random_prompts": "random prompts, mean over patches",
    "random_prompts_max": "random prompts, best patch",
}
"""What is compared with a picture and its human captions, as readers know it."""
KIND_COLOURS = {
    "random": METHOD_COLOURS["random"],
    "multimodal": METHOD_COLOURS["attribution"],
    "gpt": METHOD_COLOURS["contribution"],
    "coco_nouns": METHOD_COLOURS["two_stage"],
    "image_prompts": OTHER_COLOUR,
    "image_prompts_max": OTHER_COLOUR,
    "random_prompts": METHOD_COLOURS["random"],
    "random_prompts_max": METHOD_COLOURS["random"],
}
METRICS = {"clipscore": "CLIPScore", "bertscore": "BERTScore"}
DIGITS = {"clipscore": 2, "bertscore": 4}
"""Digits after the point, as the paper prints these metrics."""

CONDITIONS = {
    "all": "units of highest attribution",
    "interpretable": "interpretable units of highest attribution",
    "random": "random units of the same layers",
}
"""Whose activations are ablated."""


def source_of(
    model: str,
    dataset: str,
    captions: pd.DataFrame,
    exclusions: pd.DataFrame,
    objects: bool = False,
) -> Source:
    """The source of what rests on captioned pictures of one model.

    captions: those whose caption has a noun; `sampled` tells the random pictures from others that
    were taken for their single object, which count only where `objects` are shown.
    """
    sampled = captions["sampled"].astype(bool)
    n = f"{sampled.sum()} pictures whose caption has a noun"
    if objects:
        n += f", and {(~sampled).sum()} more with a single object"
    return Source(model, dataset, n, left_out(exclusions))


def unit_name(layer: int, unit: int) -> str:
    """A unit's name in figures, such as "L14.U2019"."""
    return f"L{layer}.U{unit}"


def picture_name(picture_id: str) -> str:
    """What readers call a picture: its number in the dataset."""
    return f"picture {str(picture_id).split('-', 1)[0].lstrip('0') or '0'}"


def with_tokens(units: pd.DataFrame, tokens: pd.DataFrame, most: int) -> pd.DataFrame:
    """Units of the language model with their written name and `most` best tokens, as JSON.

    units: layer, unit. tokens: module, layer, unit, tokens (best first). Adds `neuron` and `tokens`
    ("[]" for a unit that was not decoded).
    """
    own = tokens[tokens["module"] == "language"][["layer", "unit", "tokens"]]
    table = units.drop(columns="tokens", errors="ignore").merge(
        own, on=["layer", "unit"], how="left"
    )
    words = [
        json.dumps([str(text) for text in found[:most]], ensure_ascii=False)
        if hasattr(found, "__len__")
        else "[]"
        for found in table["tokens"]
    ]
    names = [
        str(Neuron("language", int(row.layer), int(row.unit)))
        for row in table[["layer", "unit"]].itertuples()
    ]
    return table.assign(
        neuron=pd.Series(names, dtype="object"), tokens=pd.Series(words, dtype="object")
    )


def quoted(tokens: str) -> str:
    """Tokens in JSON as readers see them, each in quotation marks."""
    return ", ".join(f"\u201c{visible(token)}\u201d" for token in json.loads(tokens))


def of_supercategories(captions: pd.DataFrame, most: int) -> pd.DataFrame:
    """The first picture of each of the first `most` supercategories, by alphabet of these."""
    rows = captions[captions["supercategory"] != ""]
    firsts = rows.drop_duplicates("supercategory").sort_values("supercategory", kind="stable")
    return firsts.head(most).reset_index(drop=True)


def decoded_patches(prompts: pd.DataFrame) -> pd.Series:
    """How many image tokens of each picture were decoded, by picture_id.

    prompts: a row a decoded vector (picture_id, kind).
    """
    return prompts[prompts["kind"] == "image"].groupby("picture_id").size()


def of_prompts(kinds: pd.Series) -> pd.Series:
    """Whether kinds of text are decoded vectors."""
    return kinds.str.contains("_prompts")


def decoded_words(patches: pd.Series) -> str:
    """Those numbers for readers, such as "up to 35 image tokens of a picture"."""
    known = patches.dropna()
    most = f"up to {known.max():.0f} " if len(known) else ""
    return f"{most}image tokens of a picture"


def first_pictures(captions: pd.DataFrame, among: Sequence[str], most: int) -> list[str]:
    """The first `most` pictures that are among some."""
    known = set(among)
    return [name for name in dict.fromkeys(captions["picture_id"]) if name in known][:most]
