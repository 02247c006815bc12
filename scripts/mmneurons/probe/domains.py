"""What is recorded of the questions of several domains, before any neuron is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image

from mmneurons.models.base import Encoded, MultimodalModel
from mmneurons.probe.counts import BatchCounts
from mmneurons.probe.lens import KINDS, read_stream

ENTROPY_COLUMNS = ("sample_id", "group", "layer", "kind", "entropy", "n_tokens")
LENS_COLUMNS = (
    "sample_id",
    "group",
    "item",
    "position",
    "place",
    "layer",
    "rank",
    "token",
    "probability",
)


class GroupCounts:
    """Counts added up by group, where those of samples would take too much room."""

    def __init__(self) -> None:
        self._sums: dict[str, dict] = {}

    def add(self, groups: Sequence[str], found: BatchCounts) -> None:
        """Add a batch; groups: one a row."""
        for row, group in enumerate(groups):
            own = self._sums.setdefault(group, {"n": 0, "tokens": {}, "counts": {}})
            own["n"] += 1
            for name, values in (("tokens", found.tokens), ("counts", found.counts)):
                for module, of_batch in values.items():
                    own[name][module] = own[name].get(module, 0) + of_batch[row]

    def rows(self) -> tuple[list[str], list[str], list[int], dict, dict]:
        """What `CountsWriter.add` takes, a row a group."""
        groups = list(self._sums)
        tokens, counts = (
            {
                module: np.stack([self._sums[group][name][module].numpy() for group in groups])
                for module in self._sums[groups[0]][name]
            }
            if groups
            else {}
            for name in ("tokens", "counts")
        )
        return [""] * len(groups), groups, [self._sums[g]["n"] for g in groups], tokens, counts


def read_questions(
    model: MultimodalModel,
    questions: pd.DataFrame,
    pictures: Sequence[Image.Image],
    prompts: Sequence[str],
    cases: Mapping[str, Mapping],
    top: int,
) -> tuple[list[dict], list[dict], list[dict]]:
    """Rows of ENTROPY_COLUMNS, rows of LENS_COLUMNS, and exclusions, of one batch.

    questions: sample_id, group and order; cases: by figure, domain, image (an image token, counted
    from 1) and text (a token of the text, counted back from -1): followed on the domain's first
    question. A prompt that has no such token is listed as an exclusion.
    """
    encoded = model.encode(model.embed_pictures(pictures, prompts), prompts)
    follow, named, missing = [], [], []
    for item, case in cases.items():
        for row, sample in enumerate(questions.itertuples()):
            if sample.group != case["domain"] or sample.order != 0:
                continue
            for kind in KINDS:
                place, label = _followed(encoded, row, kind, case[kind])
                facts = {"sample_id": sample.sample_id, "group": sample.group}
                if place is None:
                    reason = {"stage": "record", "reason": "no-such-token"}
                    missing.append(facts | reason | {"detail": f"{item}: {label}"})
                else:
                    follow.append((row, place))
                    # The padding before the prompt is no part of it.
                    place -= int(encoded.mask[row].argmax())
                    named.append(facts | {"item": item, "position": label, "place": place})
    reading = read_stream(model, encoded, follow, top)
    entropies = [
        {
            "sample_id": sample.sample_id,
            "group": sample.group,
            "layer": layer,
            "kind": kind,
            "entropy": float(reading.entropy[layer, row, k]),
            "n_tokens": int(reading.n_tokens[row, k]),
        }
        for row, sample in enumerate(questions.itertuples())
        for layer in range(len(reading.entropy))
        for k, kind in enumerate(KINDS)
    ]
    lens = [
        {
            **facts,
            "layer": layer,
            "rank": rank,
            "token": model.token_texts([int(token)])[0],
            "probability": float(reading.probabilities[layer, n, rank]),
        }
        for n, facts in enumerate(named)
        for layer in range(len(reading.tokens))
        for rank, token in enumerate(reading.tokens[layer, n])
    ]
    return entropies, lens, missing


def _followed(encoded: Encoded, row: int, kind: str, number: int) -> tuple[int | None, str]:
    """Position of a token in its row, None where the prompt has no such, and how it is called."""
    image = encoded.image_mask[row]
    is_kind = image if kind == "image" else (encoded.mask[row] > 0) & ~image
    places = torch.nonzero(is_kind)[:, 0].tolist()
    if kind == "image":
        place = places[number - 1] if number <= len(places) else None
        return place, f"image token {number} of {len(places)}"
    place = places[number] if -number <= len(places) else None
    name = "last text token" if number == -1 else f"text token {-number} from the end"
    return place, f"{name} of {len(places)}"
