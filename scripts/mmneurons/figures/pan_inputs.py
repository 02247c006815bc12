"""What the figures and tables of Pan et al. 2024 share: the choice of pictures and concepts.

Tables of several models have a categorical column `model` (`mmneurons.figures.inputs`).
"""

from __future__ import annotations

import json

import pandas as pd

from mmneurons.artifacts.neurons import Neuron
from mmneurons.figures.inputs import models_of

NO_PICTURE = "no picture whose caption names two concepts in every model"

KEY = ["model", "module", "layer", "unit"]


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of pictures whose image tokens were not shuffled."""
    return table[table["variant"] == "plain"]


def shown_at(table: pd.DataFrame, site: str) -> pd.DataFrame:
    """The rows of a site, and those of attribution, which is read at no other than its own."""
    return table[table["site"].isin([site, "pre"])]


def picture_order(pictures: pd.DataFrame) -> list[str]:
    """The pictures' ids in the order that the seed fixed before anything was captioned."""
    return pictures.sort_values("order", kind="stable")["picture_id"].tolist()


def choose_pictures(
    pictures: pd.DataFrame, concepts: pd.DataFrame, skip: int = 0, most: int = 1
) -> list[str]:
    """The first pictures whose plain caption has two concepts or more in every model.

    pictures: picture_id, order. concepts: model, picture_id, variant, group. `most` of them, after
    the first `skip`.
    """
    named = plain(concepts).groupby(["model", "picture_id"], observed=True)["group"].nunique()
    enough = named[named >= 2].reset_index().groupby("picture_id")["model"].nunique()
    found = set(enough.index[enough == len(models_of(concepts))])
    return [name for name in picture_order(pictures) if name in found][skip : skip + most]


def frequent_concepts(concepts: pd.DataFrame) -> list[str]:
    """All concepts, those of most plain captions (over all models) first, then by alphabet."""
    counts = plain(concepts)["group"].value_counts()
    return sorted(counts.index, key=lambda group: (-counts[group], group))


def concepts_in(concepts: pd.DataFrame, model: str, picture_id: str) -> list[str]:
    """The concepts of a plain caption in the order in which it names them."""
    rows = plain(concepts)
    rows = rows[(rows["model"] == model) & (rows["picture_id"] == picture_id)]
    return rows.sort_values("position", kind="stable")["group"].tolist()


def samples_of(concepts: pd.DataFrame, picture_id: str) -> set[str]:
    """The sample_ids of a picture's concepts, of all models and variants."""
    return set(concepts.loc[concepts["picture_id"] == picture_id, "sample_id"])


def caption_of(captions: pd.DataFrame, model: str, picture_id: str, variant: str = "plain") -> str:
    """A model's caption of a picture, "" where there is none."""
    rows = captions[
        (captions["model"] == model)
        & (captions["picture_id"] == picture_id)
        & (captions["variant"] == variant)
    ]
    return rows["caption"].iloc[0] if len(rows) else ""


def decoded(
    neurons: pd.DataFrame, tokens: pd.DataFrame, most: int, n_tokens: int = 5
) -> pd.DataFrame:
    """The `most` best neurons of each sample, written out, with their best tokens as JSON.

    neurons: model, sample_id, module, layer, unit, score, rank. tokens: model, module, layer, unit,
    tokens (best first). Adds `neuron` and `tokens` ("[]" for a neuron that was not decoded).
    """
    best = neurons[neurons["rank"] < most]
    table = best.merge(tokens[[*KEY, "tokens"]], on=KEY, how="left")
    words = [
        json.dumps([str(text) for text in found[:n_tokens]], ensure_ascii=False)
        if isinstance(found, (list, tuple)) or hasattr(found, "tolist")
        else "[]"
        for found in table["tokens"]
    ]
    names = [
        str(Neuron(row.module, row.layer, row.unit))
        for row in table[["module", "layer", "unit"]].itertuples()
    ]
    return table.assign(tokens=words, neuron=names).sort_values(
        ["model", "sample_id", "rank"], kind="stable", ignore_index=True
    )


def picture_name(picture_id: str) -> str:
    """What readers call a picture: its number in the dataset's list."""
    return f"picture {picture_id.lstrip('0') or '0'}"
