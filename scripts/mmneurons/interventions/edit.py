"""Editing a concept into another by its neurons' output rows (Pan et al. 2024, Algorithm 1).

The algorithm takes o, a neuron's activation, from a site of choice: `act`, which the released code
records, or `post`. A changed output row acts through `post` whatever the choice, and in gated FFNs
`post` is `act` times the gate's partner. Where the two have opposite signs an edit by `act` raises
the source and lowers the target; such neurons are edited as the algorithm says, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from mmneurons.interventions.weights import changed_rows
from mmneurons.methods.contribution import contribution, token_projection
from mmneurons.methods.selection import top_units
from mmneurons.models.base import MultimodalModel
from mmneurons.probe.hooks import Kind, record


@dataclass(frozen=True)
class EditSettings:
    """beta in `unit`, step size and number of steps of Algorithm 1 (paper: 4, 0.001, 1000).

    unit: "absolute", or "median" (of |g| over the neurons that are edited together), for models
    whose activations and unembeddings have another size than the paper's.
    """

    beta: float
    unit: str
    lr: float
    steps: int


@dataclass(frozen=True)
class Edit:
    """What Algorithm 1 found for the neurons of one token.

    neurons: rows (layer, unit); delta: `neurons x hidden`; beta: absolute; n_unedited: neurons
    with |g| <= beta; n_opposed: neurons whose o has the opposite sign of their activation at
    `post`, so that the change works against the edit; 0 where o is that of `post`.
    """

    neurons: np.ndarray
    delta: torch.Tensor
    beta: float
    n_unedited: int
    n_opposed: int = 0


@dataclass(frozen=True)
class Reading:
    """What passes the position behind some tokens.

    activations: o of every neuron, `layers x units` (float32); opposed: whether o has the opposite
    sign of the activation at `post`, booleans `layers x units`; says: the token that is said there.
    """

    activations: torch.Tensor
    opposed: torch.Tensor
    says: int


@dataclass(frozen=True)
class Occurrence:
    """A concept where a caption names it.

    image_tokens: `image tokens x hidden`; prompt: its filled text; before: generated tokens ahead
    of the concept; tokens: its own; after: the one behind them (the end token at the end of a
    caption).
    """

    image_tokens: torch.Tensor
    prompt: str
    before: Sequence[int]
    tokens: Sequence[int]
    after: int


# Neurons (rows: layer, unit) to edit at a place of the target word, from the token that the model
# would say there and the activations `layers x units` at the position that says it.
Choice = Callable[[int, int, torch.Tensor], np.ndarray]


@contextmanager
def edited(model: MultimodalModel, edits: Sequence[Edit]) -> Iterator[None]:
    """While open, all edits are in the weights; then the weights are as before, bit for bit."""
    with ExitStack() as stack:
        for edit in edits:
            stack.enter_context(changed_rows(model, edit.neurons, edit.delta))
        yield


def descend(gradient: torch.Tensor, beta: float, lr: float, steps: int) -> torch.Tensor:
    """Algorithm 1: minimise o (w' v0 - w' v1) + beta ||dw|| over dw from 0, w' = w + dw.

    gradient: g = o (v0 - v1) of every neuron, `neurons x hidden`; the loss is linear in w', so w
    itself plays no part. Returns dw, `neurons x hidden`, by plain gradient descent; the norm's
    subgradient at 0 is 0. The norm is not squared, which makes beta a threshold: a neuron with
    |g| <= beta stays within a step of 0 (|dw| <= lr (beta + |g|)) and is not edited; any other one
    moves by about lr steps (|g| - beta) against g and would never stop.
    """
    delta = torch.zeros_like(gradient)
    for _ in range(steps):
        norm = torch.linalg.vector_norm(delta, dim=1, keepdim=True)
        direction = torch.where(norm > 0, delta / norm, 0.0)
        delta = delta - lr * (gradient + beta * direction)
    return delta


def token_edit(
    model: MultimodalModel,
    neurons: np.ndarray,
    activations: torch.Tensor,
    source: int,
    target: int,
    settings: EditSettings,
) -> Edit:
    """Edit the source token into the target token on the given neurons, all at once, in float32.

    activations: o of each neuron where the model says the source, `neurons`. Raises ValueError
    where both tokens are the same, and for settings that are no numbers of the algorithm.
    """
    if source == target:
        raise ValueError(f"source and target are the same token, {source}: there is no edit")
    v0, v1 = model.unembedding()[[source, target]].float().to(model.device)
    gradient = activations.to(v0)[:, None] * (v0 - v1)
    if not gradient.isfinite().all():
        raise ValueError("activations of the edited neurons are not finite")
    sizes = torch.linalg.vector_norm(gradient, dim=1)
    beta = _absolute_beta(settings, sizes)
    delta = descend(gradient, beta, settings.lr, settings.steps)
    return Edit(neurons, delta, beta, int((sizes <= beta).sum()))


def find_edits(
    model: MultimodalModel,
    occurrence: Occurrence,
    target: Sequence[int],
    whole: bool,
    choose: Choice,
    site: Kind,
    settings: EditSettings,
) -> list[Edit]:
    """Edits that make the model say the target's tokens in the concept's place.

    whole=False is the paper's one edit: the concept's first token into the target's first token.
    whole=True, beyond the paper, is for words of several tokens. With the edits so far in the
    weights and the target's tokens so far forced, the token that the model would say now is edited
    into the target's next one, on neurons chosen for that place; a token that it says anyway needs
    no edit. Behind the last one the model may still spell the rest of the source word ("rella" of
    "umb-rella"): then that token is edited into the one that followed the concept. Each place is
    edited once, so a later edit may weaken an earlier one that shares its neurons or directions.

    site: whose activations are o. Away from `post` some edited neurons may work against the edit:
    each edit's n_opposed.

    Raises ValueError for a target without tokens or with the same tokens as the concept.
    """
    target, concept = tuple(target), tuple(occurrence.tokens)
    if not whole:
        target, concept = target[:1], concept[:1]
    if not target:
        raise ValueError("the target has no token")
    if target == concept:
        raise ValueError(f"source and target are the same tokens, {list(target)}: nothing to edit")
    edits: list[Edit] = []
    with ExitStack() as stack:
        for place in range(len(target) + whole):
            reading = read_position(model, occurrence, target[:place], site)
            source = reading.says if place else concept[0]
            goal = target[place] if place < len(target) else occurrence.after
            closes = place == len(target)
            if source == goal or (closes and not _continues(model, target, source)):
                continue
            neurons = choose(place, source, reading.activations)
            own = tuple(torch.tensor(neurons).long().unbind(dim=1))
            edit = token_edit(model, neurons, reading.activations[own], source, goal, settings)
            edits.append(replace(edit, n_opposed=int(reading.opposed[own].sum())))
            stack.enter_context(edited(model, edits[-1:]))
    return edits


@torch.no_grad()
def read_position(
    model: MultimodalModel, occurrence: Occurrence, forced: Sequence[int], site: Kind
) -> Reading:
    """The activations of a site behind the forced tokens, and what is said there."""
    encoded = model.encode(
        occurrence.image_tokens[None], occurrence.prompt, [[*occurrence.before, *forced]]
    )
    with record(model.sites("language"), [site, "post"]) as passed:
        states = model.final_states(encoded)
    here, behind = (
        torch.stack([tensor[0, -1].float().cpu() for tensor in passed[kind]])
        for kind in (site, "post")
    )
    says = int(model.logits(states[0, -1]).argmax())
    return Reading(here, here.sign() * behind.sign() < 0, says)


@torch.no_grad()
def best_neurons(
    model: MultimodalModel, activations: torch.Tensor, token: int, k: int
) -> np.ndarray:
    """The `k` neurons that contribute most to a token, rows (layer, unit), best first.

    activations: `layers x units` at the position that says the token.
    """
    tokens = torch.tensor([token], device=model.device)
    projections = [
        token_projection(site.output_rows(), model.unembedding(), tokens)[:, 0].cpu()
        for site in model.sites("language")
    ]
    return top_units(contribution(activations, torch.stack(projections)).numpy(), k)


def word_tokens(model: MultimodalModel, prefix: str, word: str) -> list[int]:
    """Token ids of a word inside a caption, behind the prefix.

    Raises ValueError for a word without text and for one that the tokenizer does not know.
    """
    if not word.strip():
        raise ValueError("a target word is empty")
    start, whole = (
        model.tokenizer(text, add_special_tokens=False).input_ids
        for text in (prefix, f"{prefix} {word.strip()}")
    )
    tokens = whole[len(start) :]
    if not tokens or whole[: len(start)] != start:
        raise ValueError(f"the tokenizer gives {word!r} no tokens of its own")
    if model.tokenizer.unk_token_id in tokens:
        raise ValueError(f"the tokenizer does not know {word!r}")
    return tokens


def _absolute_beta(settings: EditSettings, sizes: torch.Tensor) -> float:
    if settings.unit not in ("absolute", "median"):
        raise ValueError(f"beta is in units of 'median' or 'absolute', not {settings.unit!r}")
    if settings.beta < 0 or settings.lr <= 0 or settings.steps < 1:
        raise ValueError(f"an edit needs beta >= 0, lr > 0 and at least one step: {settings}")
    if settings.unit == "absolute" or not len(sizes):
        return float(settings.beta)
    return settings.beta * float(sizes.quantile(0.5))


def _continues(model: MultimodalModel, tokens: Sequence[int], next_token: int) -> bool:
    """Whether a token goes on with the word that the tokens end."""
    text = model.decode(tokens)
    longer = model.decode([*tokens, next_token])
    return longer[len(text) : len(text) + 1].isalnum()
