"""What an ablation leaves of a noun's probability and of the caption (Schwettmann et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mmneurons.artifacts.schwettmann import ABLATED, TABLES
from mmneurons.metrics.intervals import bootstrap_interval

Similarity = Callable[[Sequence[str], Sequence[str]], np.ndarray]
MEASURES = ("probability", "relative", "bertscore")


def with_similarity(ablation: pd.DataFrame, prefix: str, similarity: Similarity) -> pd.DataFrame:
    """The rows with `bertscore`: a caption against the picture's own, at k = 0.

    prefix: what the model was made to say, which all captions share and which is left out.
    """
    own = ablation[ablation["k"] == 0].drop_duplicates("picture_id")
    original = ablation["picture_id"].map(own.set_index("picture_id")["caption"])
    texts = [
        [caption.removeprefix(prefix).strip() for caption in column]
        for column in (ablation["caption"], original)
    ]
    pairs = list(zip(*texts, strict=True))
    asked = list(dict.fromkeys(pairs))
    found = similarity([text for text, _ in asked], [text for _, text in asked])
    of_pair = dict(zip(asked, found, strict=True))
    scored = ablation.assign(bertscore=[of_pair[pair] for pair in pairs])
    return scored[list(ABLATED)].astype(ABLATED)


def ablation_table(ablated: pd.DataFrame) -> pd.DataFrame:
    """ablation.csv: means over pictures with 95 % bootstrap intervals, by condition and k.

    A picture's value is the mean over the seeds of random units; `relative` is its probability
    over that at k = 0.
    """
    by = ["picture_id", "condition", "k"]
    values = ablated.groupby(by, as_index=False)[["probability", "bertscore"]].mean()
    start = values[values["k"] == 0].set_index(["picture_id", "condition"])["probability"]
    keys = pd.MultiIndex.from_frame(values[["picture_id", "condition"]])
    values["relative"] = values["probability"].to_numpy() / start.reindex(keys).to_numpy()
    rows = []
    for (condition, k), own in values.groupby(["condition", "k"]):
        row = {"condition": condition, "k": k}
        for name in MEASURES:
            low, high = bootstrap_interval(own, name, "picture_id")
            row |= {name: own[name].mean(), f"{name}_low": low, f"{name}_high": high}
        rows.append(row | {"n": len(own)})
    columns = TABLES["metrics/ablation"]
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
