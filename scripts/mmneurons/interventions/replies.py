"""Replies to questions with some neurons deactivated, and how far the hidden states move.

Huo et al. 2024, section 4.3: the deviation is ||H_n - H_d|| / ||H_n||, where H are the hidden
states of the language model's last layer. The paper does not say over what it is taken. Here H are the
states after the final norm at the tokens of the prompt, and five means of reading it are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import torch
from PIL import Image

from mmneurons.interventions.deactivate import deactivated
from mmneurons.models.base import Decoding, Encoded, Module, MultimodalModel

REPLY_COLUMNS = ("sample_id", "group", "condition", "control", "seed", "n_units", "reply")
OVER = ("all_tokens", "per_token", "image", "text", "last")
"""all_tokens: norms of all tokens of a prompt together; per_token: mean of the tokens' ratios, and
the same over its image tokens, its text tokens and its last token."""
DEVIATION_COLUMNS = (*REPLY_COLUMNS[:-1], *OVER)


@dataclass(frozen=True)
class Trial:
    """One thing to deactivate: neurons (module, layer, unit) by the names of the tables."""

    condition: str
    control: str
    seed: int
    neurons: pd.DataFrame


def plan_trials(
    chosen: pd.DataFrame, random: Mapping[int, pd.DataFrame], parts: Mapping[str, Sequence[Module]]
) -> list[Trial]:
    """All that is deactivated for one domain: each part's neurons, and random ones by seed.

    chosen, random[seed]: the domain's rows (module, layer, unit); parts: of `conditions`.
    """

    def of(table: pd.DataFrame, modules: Sequence[Module]) -> pd.DataFrame:
        return table.loc[table["module"].isin(modules), ["module", "layer", "unit"]]

    trials = [Trial("none", "", -1, of(chosen, []))]
    for name, modules in parts.items():
        trials.append(Trial(name, "dape", -1, of(chosen, modules)))
        trials += [
            Trial(name, "random", seed, of(table, modules)) for seed, table in random.items()
        ]
    return trials


def reply_under(
    model: MultimodalModel,
    sample_ids: Sequence[str],
    group: str,
    pictures: Sequence[Image.Image],
    prompts: Sequence[str],
    trials: Sequence[Trial],
    max_new_tokens: int,
    decoding: Decoding,
) -> tuple[list[dict], list[dict]]:
    """Rows of REPLY_COLUMNS and of DEVIATION_COLUMNS of one batch of a domain's questions.

    The first trial deactivates nothing: deviations are from it. What a trial does not touch is not
    computed again: a picture is encoded once for all trials of the language model alone, and a
    trial without neurons has the first one's replies.
    """
    replies: list[dict] = []
    deviations: list[dict] = []
    first = trials[0]
    if len(first.neurons):
        raise ValueError("the first trial deactivates nothing")
    plain_tokens = model.embed_pictures(pictures, prompts)
    said, (states, encoded) = _generate(model, plain_tokens, prompts, max_new_tokens, decoding)
    untouched = [dict.fromkeys(OVER, 0.0)] * len(sample_ids)
    for trial in trials:
        neurons = trial.neurons
        if neurons.empty:
            texts, moved = said, untouched
        else:
            with deactivated(model, neurons):
                same_picture = (neurons["module"] == "language").all()
                tokens = plain_tokens if same_picture else model.embed_pictures(pictures, prompts)
                texts, (other, _) = _generate(model, tokens, prompts, max_new_tokens, decoding)
            moved = deviation(states, other, encoded)
        for sample_id, text, values in zip(sample_ids, texts, moved, strict=True):
            row = {"sample_id": sample_id, "group": group, "condition": trial.condition}
            row |= {"control": trial.control, "seed": trial.seed, "n_units": len(neurons)}
            replies.append(row | {"reply": text})
            deviations.append(row | values)
    return replies, deviations


def deviation(
    before: torch.Tensor, after: torch.Tensor, encoded: Encoded
) -> list[dict[str, float]]:
    """How far the states of each row moved, by the names of OVER; NaN over no tokens.

    before, after: `batch x tokens x hidden`, of the same encoded prompts.
    """
    before, after = before.double(), after.double()
    moved = (after - before).norm(dim=-1)
    lengths = before.norm(dim=-1)
    rows = []
    for row, real in enumerate(encoded.mask > 0):
        image = encoded.image_mask[row]
        ratio = moved[row] / lengths[row]
        rows.append(
            {
                "all_tokens": float(moved[row, real].norm() / lengths[row, real].norm()),
                "per_token": float(ratio[real].mean()),
                "image": float(ratio[image].mean()),
                "text": float(ratio[real & ~image].mean()),
                "last": float(ratio[encoded.prompt_end - 1]),
            }
        )
    return rows


def _generate(
    model: MultimodalModel,
    image_tokens: torch.Tensor | Sequence[torch.Tensor],
    prompts: Sequence[str],
    max_new_tokens: int,
    decoding: Decoding,
) -> tuple[list[str], tuple[torch.Tensor, Encoded]]:
    """Replies, and the prompts' final states, which pass by when a reply begins."""
    encoded = model.encode(image_tokens, prompts)
    with _prompt_states(model) as states:
        tokens = model.generate(encoded, max_new_tokens, decoding)
    texts = [model.decode(ids).strip() for ids in tokens]
    return texts, (states[0][:: decoding.rows], encoded)


@contextmanager
def _prompt_states(model: MultimodalModel) -> Iterator[list[torch.Tensor]]:
    """The final states of the first pass, in a list."""
    states: list[torch.Tensor] = []

    def keep(_module, _args, output: torch.Tensor) -> None:
        if not states:
            states.append(output)

    handle = model.final_norm().register_forward_hook(keep)
    try:
        yield states
    finally:
        handle.remove()
