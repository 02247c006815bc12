"""Captions of pictures while a concept is edited into another: did it work, what else changed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

import numpy as np
import pandas as pd
import torch

from mmneurons.interventions.edit import (
    Choice,
    EditSettings,
    Occurrence,
    best_neurons,
    edited,
    find_edits,
    word_tokens,
)
from mmneurons.methods.selection import random_like
from mmneurons.metrics.naming import named_after, names
from mmneurons.models.base import MultimodalModel
from mmneurons.models.captions import caption_text, fill_prompt
from mmneurons.probe.hooks import Kind


@dataclass(frozen=True)
class PlannedEdit:
    """One concept of one caption, what it is edited into, and the pictures to caption then.

    before, tokens: the caption's tokens ahead of the concept and the concept's own; after: the one
    behind them, None at the end; target_tokens: all of the target word; transfer: other pictures
    whose captions name the source; locality: pictures whose captions do not.
    """

    sample_id: str
    picture_id: str
    source: str
    target: str
    before: tuple[int, ...]
    tokens: tuple[int, ...]
    after: int | None
    target_tokens: tuple[int, ...]
    transfer: tuple[str, ...]
    locality: tuple[str, ...]

    @property
    def edit_id(self) -> str:
        """Name of the pair of sample and target."""
        return f"{self.sample_id}-to-{self.target.replace(' ', '_')}"

    @property
    def roles(self) -> dict[str, str]:
        """What each captioned picture is for."""
        return {
            self.picture_id: "edited",
            **dict.fromkeys(self.transfer, "transfer"),
            **dict.fromkeys(self.locality, "locality"),
        }


@dataclass(frozen=True)
class EditTrial:
    """How the planned edits are tried.

    site: whose activations the algorithm takes for o; n_neurons: edited neurons a token; kinds:
    "token" (first tokens, as in the paper), "word" (all tokens); random_seeds: number of random
    controls, of kind "token" only; seed: of the controls.
    """

    settings: EditSettings
    site: Kind
    n_neurons: int
    kinds: Sequence[str]
    random_seeds: int
    seed: int


def known_targets(
    model: MultimodalModel, prefix: str, words: Collection[str]
) -> tuple[dict[str, tuple[int, ...]], list[dict]]:
    """Tokens of each target word, and rows of exclusions for the words that have none."""
    known, excluded = {}, []
    for word in words:
        try:
            known[word] = tuple(word_tokens(model, prefix, word))
        except ValueError as error:
            excluded.append(_exclusion("", word, "target unknown to the tokenizer", str(error)))
    return known, excluded


def plan_edits(
    concepts: pd.DataFrame,
    captions: pd.DataFrame,
    targets: Mapping[str, tuple[int, ...]],
    n_edits: int,
    n_targets: int,
    n_transfer: int,
    n_locality: int,
    seed: int,
    prefix: str = "",
) -> tuple[list[PlannedEdit], list[dict]]:
    """At most `n_edits` pairs of a sample and a target, and rows of exclusions.

    concepts, captions: their tables, of which the plain rows are used; targets: tokens of the words
    to choose from; prefix: with which every caption begins and which names nothing. A target is not
    named by the picture's caption and begins with another token than the source. Each sample in
    turn gets up to `n_targets`, as in the paper's tables. The order of samples, of a sample's
    targets and of pictures is by hash, so it depends on neither table's order.
    A sample without any possible target is excluded.
    """
    concepts = concepts[concepts["variant"] == "plain"]
    captions = captions[captions["variant"] == "plain"].set_index("picture_id")
    samples = sorted(concepts.itertuples(), key=lambda row: _order(seed, row.sample_id))
    choices = []
    for row in samples:
        caption = captions.at[row.picture_id, "caption"]
        possible = _possible_pairs(row, caption, targets, seed, prefix)
        choices.append(list(islice(possible, n_targets)))
    pairs = islice(chain.from_iterable(choices), n_edits)
    says: dict[str, dict[str, bool]] = {}
    planned = []
    for row, target in pairs:
        if row.group not in says:
            says[row.group] = {
                name: named_after(text, row.group, prefix)
                for name, text in captions["caption"].items()
            }
        planned.append(
            _plan(row, target, targets[target], captions.at[row.picture_id, "token_ids"])
            | _other_pictures(row, says[row.group], n_transfer, n_locality, seed)
        )
    excluded = [
        _exclusion(row.sample_id, row.group, "no possible target", "")
        for row, pairs_of_row in zip(samples, choices, strict=True)
        if not pairs_of_row
    ]
    return [PlannedEdit(**plan) for plan in planned], excluded


def edited_captions(
    model: MultimodalModel,
    prompt: dict[str, str],
    image_tokens: Mapping[str, torch.Tensor],
    captions: Mapping[str, str],
    plan: PlannedEdit,
    neurons: np.ndarray,
    trial: EditTrial,
    max_new_tokens: int,
) -> Iterator[dict]:
    """Make one planned edit in every kind and on random neurons, and caption under each.

    image_tokens: `image tokens x hidden`, captions: the plain ones, both of the plan's pictures;
    neurons: those of the sample by contribution, rows (layer, unit), best first. Random controls
    have as many neurons from the same layers, their activations are read at the same position, and
    a beta relative to the median is relative to their own; they are tried with first tokens only,
    where "token" is among the kinds. All pictures of an edit are one batch.
    Yields rows of edits.parquet; `beta` is that of the first token; the numbers of neurons (edited,
    unedited, opposed) are sums over tokens.
    """
    occurrence = Occurrence(
        image_tokens=image_tokens[plan.picture_id],
        prompt=fill_prompt(prompt),
        before=plan.before,
        tokens=plan.tokens,
        after=model.tokenizer.eos_token_id if plan.after is None else plan.after,
    )
    tries = [(kind, "contribution", 0) for kind in trial.kinds]
    if "token" in trial.kinds:
        tries += [("token", "random", draw) for draw in range(trial.random_seeds)]
    for kind, method, draw in tries:
        choose = partial(_best, model, neurons[: trial.n_neurons], trial.n_neurons)
        if method == "random":
            choose = partial(_random, choose, [trial.seed, draw, *plan.sample_id.encode()])
        edits = find_edits(
            model,
            occurrence,
            plan.target_tokens,
            kind == "word",
            choose,
            trial.site,
            trial.settings,
        )
        facts = {
            "edit_id": plan.edit_id,
            "sample_id": plan.sample_id,
            "source": plan.source,
            "target": plan.target,
            "kind": kind,
            "method": method,
            "seed": draw,
            "n_neurons": sum(len(edit.neurons) for edit in edits),
            "n_unedited": sum(edit.n_unedited for edit in edits),
            "n_opposed": sum(edit.n_opposed for edit in edits),
            "beta": edits[0].beta if edits else float("nan"),
        }
        tokens = torch.stack([image_tokens[name] for name in plan.roles])
        with edited(model, edits):
            generated = model.generate(model.encode(tokens, occurrence.prompt), max_new_tokens)
        for (name, role), ids in zip(plan.roles.items(), generated, strict=True):
            yield facts | {
                "picture_id": name,
                "role": role,
                "caption_before": captions[name],
                "caption": caption_text(model, prompt["prefix"], ids)["caption"],
            }


def _best(
    model: MultimodalModel,
    first: np.ndarray,
    k: int,
    place: int,
    source: int,
    activations: torch.Tensor,
) -> np.ndarray:
    """The given neurons for the first token; those that contribute most at further ones."""
    return best_neurons(model, activations, source, k) if place else first


def _random(
    choose: Choice, seed: Sequence[int], place: int, source: int, activations: torch.Tensor
) -> np.ndarray:
    """As many neurons as `choose` takes, from the same layers."""
    rng = np.random.default_rng([*seed, place])
    return random_like(choose(place, source, activations), activations.shape[1], rng)


def _possible_pairs(
    row, caption: str, targets: Mapping[str, tuple[int, ...]], seed: int, prefix: str
) -> Iterator[tuple]:
    """(row, target) for every target that the caption lacks, in an order by hash."""
    for target in sorted(targets, key=lambda word: _order(seed, row.sample_id, word)):
        begins_alike = targets[target][0] == row.token
        says_it = named_after(caption, target, prefix)
        if not (begins_alike or says_it or names(target, row.group)):
            yield row, target


def _plan(row, target: str, target_tokens: tuple[int, ...], token_ids: Sequence[int]) -> dict:
    ids, end = [int(token) for token in token_ids], row.position + row.n_tokens
    return {
        "sample_id": row.sample_id,
        "picture_id": row.picture_id,
        "source": row.group,
        "target": target,
        "before": tuple(ids[: row.position]),
        "tokens": tuple(ids[row.position : end]),
        "after": ids[end] if end < len(ids) else None,
        "target_tokens": target_tokens,
    }


def _other_pictures(
    row, says: Mapping[str, bool], n_transfer: int, n_locality: int, seed: int
) -> dict:
    """Pictures whose captions do and do not name the sample's concept, by hash."""
    others = sorted(
        (name for name in says if name != row.picture_id),
        key=lambda name: _order(seed, row.sample_id, name),
    )
    return {
        "transfer": tuple([name for name in others if says[name]][:n_transfer]),
        "locality": tuple([name for name in others if not says[name]][:n_locality]),
    }


def _order(seed: int, *of: str) -> bytes:
    return hashlib.sha256("/".join([str(seed), *of]).encode()).digest()


def _exclusion(sample_id: str, group: str, reason: str, detail: str) -> dict:
    row = {"stage": "edits", "sample_id": sample_id, "group": group}
    return row | {"reason": reason, "detail": detail}
