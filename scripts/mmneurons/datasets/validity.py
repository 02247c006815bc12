"""Which samples two-stage filtering may use: the three constraints of Sato & Takagi 2025, III-A."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from mmneurons.datasets.pictures import original_id
from mmneurons.datasets.tables import EXCLUSION_COLUMNS, typed_table
from mmneurons.metrics.naming import mentions, named

STAGE = "validity"


def valid_samples(
    samples: pd.DataFrame,
    captions: pd.DataFrame,
    categories: Collection[str],
    pictures: int,
    calibration_pictures: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep samples whose captions show that painting removed the object and only the object.

    The original's caption names the object ("original-does-not-name" otherwise), the inpainted
    picture's does not ("inpainted-still-names"), and every other category that the original's
    caption names is still named ("inpainting-removes-others"). Of each group, by order, the first
    `pictures` are for evaluation and the next `calibration_pictures` for calibration; further ones
    are not used. A group with fewer gets a row "too-few-valid-samples".

    Adds caption_original, caption_inpainted, target_index (place, among the generated tokens, of
    the first token of the object's name), target_token and prefix_tokens (the tokens before it).
    Returns (samples, exclusions).
    """
    by_picture = captions.set_index("picture_id")
    kept, excluded = [], []
    for group, candidates in samples.groupby("group", sort=False):
        roles = ["evaluation"] * pictures + ["calibration"] * calibration_pictures
        found: list[dict] = []
        for sample in candidates.sort_values("order").to_dict("records"):
            if len(found) == len(roles):
                break
            original = by_picture.loc[original_id(sample["image_id"])]
            inpainted = by_picture.loc[sample["sample_id"]]
            reason = _violation(group, original["caption"], inpainted["caption"], categories)
            if reason:
                detail = f"{original['caption']} -> {inpainted['caption']}"
                excluded.append((STAGE, sample["sample_id"], group, reason, detail))
                continue
            found.append(
                sample
                | _target(group, original, categories)
                | {
                    "caption_original": original["caption"],
                    "caption_inpainted": inpainted["caption"],
                    "role": roles[len(found)],
                }
            )
        if len(found) < len(roles):
            detail = f"wanted {len(roles)}, found {len(found)} among {len(candidates)}"
            excluded.append((STAGE, "", group, "too-few-valid-samples", detail))
        kept += found
    return pd.DataFrame(kept), typed_table(excluded, EXCLUSION_COLUMNS)


def _violation(group: str, original: str, inpainted: str, categories: Collection[str]) -> str:
    """The first constraint that the two captions break, "" where they keep all three."""
    before, after = named(original, categories), named(inpainted, categories)
    if group not in before:
        return "original-does-not-name"
    if group in after:
        return "inpainted-still-names"
    return "inpainting-removes-others" if (before - {group}) - after else ""


def _target(group: str, caption: pd.Series, categories: Collection[str]) -> dict:
    """The token that begins the object's first mention."""
    start, _ = mentions(caption["caption"], categories)[group][0]
    index = int(np.searchsorted(caption["token_ends"], start, side="right"))
    # A token may hold the space before the word: it ends after `start` and begins the word.
    return {
        "target_index": index,
        "target_token": int(caption["token_ids"][index]),
        "prefix_tokens": [int(token) for token in caption["token_ids"][:index]],
    }
