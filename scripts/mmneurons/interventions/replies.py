"""Replies to questions with some neurons deactivated, and how far the hidden states move.

Huo et al. 2024, section 4.3: the deviation is ||H_n - H_d|| / ||H_n||, where H are the hidden
states of the language model's last layer. The paper does not say over what it is taken. Here H are
the states after the final norm at the tokens of the prompt, and five readings of it are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from PIL import Image

from mmneurons.interventions.deactivate import deactivated
from mmneurons.models.base import Decoding, Module, MultimodalModel
from mmneurons.models.captions import in_batches
from mmneurons.probe.hooks import watch_outputs

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
    questions: Sequence[Asked],
    trials: Sequence[Trial],
    max_new_tokens: int,
    decoding: Decoding,
    batch_size: int,
) -> tuple[list[dict], list[dict]]:
    """Rows of REPLY_COLUMNS and of DEVIATION_COLUMNS of some questions of one domain.

    The first trial deactivates nothing: deviations are from it. Replies of several trials are made
    side by side, `batch_size` of them at once. Nothing is made twice: trials of the same neurons
    share their replies, and those of the language model alone the pictures' image tokens.
    """
    if len(trials[0].neurons):
        raise ValueError("the first trial deactivates nothing")
    names = [_identity(trial.neurons) for trial in trials]
    distinct = dict(zip(names, (trial.neurons for trial in trials), strict=True))
    pixels = model.preprocess([asked.picture for asked in questions])
    pixels = pixels.to(model.device, model.dtype)
    bench = _Bench(model, questions, pixels, max_new_tokens, decoding)
    everything = range(len(questions))
    nothing = trials[0].neurons
    shown = [
        tokens
        for part in in_batches(everything, batch_size)
        for tokens in bench.see(part, [nothing])
    ]
    plain: list[_Made] = []
    made: dict[tuple, tuple[str, dict[str, float]]] = {}
    # `distinct` begins with the first trial, so a reply that nothing disturbs is there before its
    # states are asked for. Of the others only the distances stay, since states are many.
    pairs = [(name, place) for name in distinct for place in everything]
    for part in in_batches(pairs, batch_size):
        places, tables = [place for _, place in part], [distinct[name] for name, _ in part]
        own = [k for k, table in enumerate(tables) if (table["module"] != "language").any()]
        tokens = [shown[place] for place in places]
        if own:
            seen = bench.see([places[k] for k in own], [tables[k] for k in own])
            for k, of_row in zip(own, seen, strict=True):
                tokens[k] = of_row
        for (name, place), result in zip(part, bench.reply(places, tables, tokens), strict=True):
            if name == names[0]:
                plain.append(result)
            made[name, place] = result.reply, deviation(plain[place], result)
    replies, deviations = [], []
    for trial, name in zip(trials, names, strict=True):
        for place, asked in enumerate(questions):
            row = {"sample_id": asked.sample_id, "group": asked.group}
            row |= {"condition": trial.condition, "control": trial.control, "seed": trial.seed}
            row |= {"n_units": len(trial.neurons)}
            reply, moved = made[name, place]
            replies.append(row | {"reply": reply})
            deviations.append(row | moved)
    return replies, deviations


@dataclass(frozen=True)
class Asked:
    """A question as it is put: names, the picture and the filled prompt."""

    sample_id: str
    group: str
    picture: Image.Image
    prompt: str


@dataclass(frozen=True)
class _Made:
    """A reply; states: after the final norm at the prompt's tokens, `tokens x hidden`; image."""

    reply: str
    states: torch.Tensor
    image: torch.Tensor


def deviation(before: _Made, after: _Made) -> dict[str, float]:
    """How far the states of a prompt moved, by the names of OVER; NaN over no tokens."""
    old, new = before.states.double(), after.states.double()
    moved, lengths = (new - old).norm(dim=-1), old.norm(dim=-1)
    ratio, image = moved / lengths, before.image
    return {
        "all_tokens": float(moved.norm() / lengths.norm()),
        "per_token": float(ratio.mean()),
        "image": float(ratio[image].mean()),
        "text": float(ratio[~image].mean()),
        "last": float(ratio[-1]),
    }


class _Bench:
    """Questions with their pictures, seen and answered under different neurons, row by row."""

    def __init__(self, model, questions, pixels, max_new_tokens: int, decoding: Decoding):
        self.model, self.questions, self.pixels = model, questions, pixels
        self.max_new_tokens, self.decoding = max_new_tokens, decoding

    @torch.no_grad()
    def see(self, places: Sequence[int], tables: Sequence[pd.DataFrame]) -> list[torch.Tensor]:
        """Image tokens of the questions at these places, of each with a table's neurons silent."""
        prompts = [self.questions[place].prompt for place in places]
        sizes = [self.questions[place].picture.size for place in places]
        owners = {
            module: self.model.owners(module, None, sizes, prompts)
            for module in ("vision", "projector")
        }
        owners = owners if len(tables) > 1 else None
        with deactivated(self.model, tables, owners):
            return list(self.model.embed_pixels(self.pixels[list(places)], prompts))

    def reply(
        self,
        places: Sequence[int],
        tables: Sequence[pd.DataFrame],
        image_tokens: Sequence[torch.Tensor],
    ) -> list[_Made]:
        """Replies to the questions at these places, each with a table's neurons silent."""
        prompts = [self.questions[place].prompt for place in places]
        encoded = self.model.encode(image_tokens, prompts)
        tables = [table[table["module"] == "language"] for table in tables]
        states: list[torch.Tensor] = []  # of every pass; the first one is that of the prompts
        norm = self.model.final_norm()
        with deactivated(self.model, tables), watch_outputs([norm], states.append):
            tokens = self.model.generate(encoded, self.max_new_tokens, self.decoding)
        return [
            _Made(self.model.decode(ids).strip(), of_row[real], image[real])
            for ids, of_row, real, image in zip(
                tokens,
                states[0].to(self.model.device)[:: self.decoding.rows],
                encoded.mask > 0,
                encoded.image_mask,
                strict=True,
            )
        ]


def _identity(neurons: pd.DataFrame) -> frozenset:
    """Which neurons a table holds, whatever their order."""
    return frozenset(neurons[["module", "layer", "unit"]].itertuples(index=False, name=None))
