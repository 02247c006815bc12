"""Noise on output rows and edits of concepts: what they do, and that they leave no trace."""

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import IDS, build_network, n_hooks

from mmneurons.interventions.edit import (
    Edit,
    EditSettings,
    Occurrence,
    best_neurons,
    descend,
    edited,
    find_edits,
    read_position,
    token_edit,
    word_tokens,
)
from mmneurons.interventions.edited_captions import (
    EditTrial,
    edited_captions,
    known_targets,
    plan_edits,
)
from mmneurons.interventions.noise import standard_noise
from mmneurons.interventions.noisy_captions import NeuronSet
from mmneurons.interventions.weight_noise import (
    WeightNoiseSettings,
    disturbed_sets,
    noised_captions,
    row_noise,
    row_scale,
    whole_pictures,
)
from mmneurons.interventions.weights import changed_rows, changed_rows_each, output_row
from mmneurons.metrics.naming import named, spans
from mmneurons.models.captions import caption_text, fill_prompt
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.registry import load_model, read_registry
from mmneurons.probe.hooks import record
from mmneurons.world.scene import draw_scene
from mmneurons.world.vocabulary import CATEGORIES

REPOSITORY = Path(__file__).parents[1]
PROMPT = {
    "template": "[INST] <Img><ImageHere></Img> {instruction} [/INST] {prefix}",
    "instruction": "Describe this image in detail.",
    "prefix": "The image shows a",
}
NEURONS = np.array([[1, 4], [0, 39], [1, 0], [2, 7]])
HIDDEN, N_UNITS = 32, 40
AS_PRINTED = EditSettings(beta=4, unit="absolute", lr=0.001, steps=1000)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights_of(model):
    return {name: weight.clone() for name, weight in model.network.state_dict().items()}


def differing(model, before):
    after = model.network.state_dict()
    return {name for name, weight in before.items() if not torch.equal(after[name], weight)}


@pytest.fixture(scope="module")
def image_tokens(model, pictures):
    return model.embed_pictures(pictures[:4])


@pytest.fixture(scope="module")
def encoded(model, image_tokens):
    return model.encode(image_tokens[:3], fill_prompt(PROMPT))


# ----------------------------------------------------------------------------------- changed_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_rows_are_changed_and_put_back_bit_for_bit(tokenizer, dtype):
    model = MiniGPT4(build_network(3).to(dtype), tokenizer, "cpu")
    before, delta = weights_of(model), 0.37 * normal(len(NEURONS), HIDDEN)
    with changed_rows(model, NEURONS, delta):
        assert differing(model, before) == {
            f"llama_model.model.layers.{layer}.mlp.down_proj.weight" for layer in range(3)
        }
        for layer, site in enumerate(model.sites("language")):
            expected = before[f"llama_model.model.layers.{layer}.mlp.down_proj.weight"].clone()
            for (of_layer, unit), change in zip(NEURONS.tolist(), delta, strict=True):
                if of_layer == layer:
                    expected[:, unit] = (expected[:, unit].double() + change).to(dtype)
            torch.testing.assert_close(site.output.weight.detach(), expected)
            untouched = np.setdiff1d(range(N_UNITS), NEURONS[NEURONS[:, 0] == layer, 1])
            assert torch.equal(site.output.weight[:, untouched], expected[:, untouched])
    assert not differing(model, before)


def test_rows_are_put_back_after_an_exception_and_from_nested_blocks(model, encoded):
    before, clean = weights_of(model), model.final_states(encoded)
    delta = normal(len(NEURONS), HIDDEN)
    with pytest.raises(KeyboardInterrupt), changed_rows(model, NEURONS, delta):
        assert not torch.equal(model.final_states(encoded), clean)
        raise KeyboardInterrupt
    assert not differing(model, before)
    row = output_row(model, 1, 4).clone()
    with changed_rows(model, NEURONS[:1], delta[:1]):
        outer = weights_of(model)
        with changed_rows(model, NEURONS[:1], delta[1:2]):
            torch.testing.assert_close(output_row(model, 1, 4), row + delta[0] + delta[1])
        assert not differing(model, outer)
    assert not differing(model, before)
    assert torch.equal(model.final_states(encoded), clean)


@pytest.mark.parametrize(
    ("neurons", "delta", "message"),
    [
        ([[1, 4], [0, 2], [1, 4]], torch.ones(3, HIDDEN), "given twice"),
        ([[1, -1]], torch.ones(1, HIDDEN), "no neuron language/L1.U-1"),
        ([[1, N_UNITS]], torch.ones(1, HIDDEN), "no neuron language/L1.U40"),
        ([[3, 0]], torch.ones(1, HIDDEN), "no neuron language/L3.U0"),
        ([[1, 4]], torch.ones(1, HIDDEN + 1), "shape"),
        ([[1, 4]], torch.ones(2, HIDDEN), "shape"),
        ([[1, 4]], torch.full((1, HIDDEN), torch.nan), "finite"),
    ],
)
def test_impossible_changes_are_refused_before_anything_is_changed(model, neurons, delta, message):
    before, hooks = weights_of(model), n_hooks(model.network)
    with pytest.raises(ValueError, match=message), changed_rows(model, np.array(neurons), delta):
        pass
    each = changed_rows_each(model, np.array(neurons)[None], delta[None])
    with pytest.raises(ValueError, match=message), each:
        pass
    assert not differing(model, before)
    assert n_hooks(model.network) == hooks


def test_no_neurons_means_no_change(model, encoded):
    clean = model.final_states(encoded)
    with changed_rows(model, np.empty((0, 2), np.int64), torch.empty(0, HIDDEN)):
        assert torch.equal(model.final_states(encoded), clean)


def test_rows_of_a_batch_have_their_own_changes(model, encoded, image_tokens):
    """The same as changing the weights for one row of the batch after the other."""
    hooks, before = n_hooks(model.network), weights_of(model)
    neurons = np.array([NEURONS, NEURONS[::-1] - [0, 0], [[0, 1], [0, 2], [0, 3], [2, 9]]])
    deltas = 0.5 * normal(3, 4, HIDDEN)
    deltas[1] = 0
    with changed_rows_each(model, neurons, deltas):
        assert not differing(model, before)
        together = model.final_states(encoded)
        generated = model.generate(encoded, 6)
    assert n_hooks(model.network) == hooks
    clean = model.final_states(encoded)
    torch.testing.assert_close(together[1], clean[1], rtol=1e-4, atol=1e-5)
    assert (together[0] - clean[0]).abs().max() > 0.1
    for row in range(3):
        alone = model.encode(image_tokens[row : row + 1], fill_prompt(PROMPT))
        with changed_rows(model, neurons[row], deltas[row]):
            torch.testing.assert_close(
                together[row], model.final_states(alone)[0], rtol=1e-3, atol=1e-4
            )
            assert generated[row] == model.generate(alone, 6)[0]
    with pytest.raises(RuntimeError), changed_rows_each(model, neurons[:2], deltas[:2]):
        model.final_states(encoded)
    assert n_hooks(model.network) == hooks
    with pytest.raises(ValueError, match="2 rows of a batch"):
        changed_rows_each(model, neurons[:2], deltas).__enter__()


# ----------------------------------------------------------------------------------- weight noise

SETTINGS = WeightNoiseSettings(levels=[1.0, 12.0], unit="row", draws=2, seed=5)
SETS = [
    NeuronSet("contribution", "plain", 0, "7-car", "car", NEURONS),
    NeuronSet("random", "plain", 0, "7-car", "car", NEURONS + [0, -1] * (NEURONS[:, 1:] > 0)),
    NeuronSet("random", "plain", 1, "7-car", "car", np.array([[1, 8], [0, 9], [1, 7], [2, 6]])),
]


def captions_under(model, image_tokens, settings=SETTINGS, batch=16, sets=SETS):
    args = (image_tokens[0], "7", "before", sets, settings, batch, 6)
    return list(noised_captions(model, PROMPT, *args))


def test_scale_of_row_noise(model):
    by_hand = [
        float(np.sqrt(np.mean(model.sites("language")[x].output.weight[:, u].numpy() ** 2)))
        for x, u in NEURONS
    ]
    assert len({round(value, 3) for value in by_hand}) == 4
    assert row_scale(model, NEURONS, "row").tolist() == pytest.approx(by_hand, rel=1e-6)
    assert row_scale(model, NEURONS, "absolute").tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="'row' or 'absolute'"):
        row_scale(model, NEURONS, "rms")


def test_row_noise_is_normal_in_units_of_the_row(model):
    many = np.array(list(product(range(3), range(N_UNITS))))
    sets = [NeuronSet(m, "plain", s, "7-car", "car", many) for m, s in (("a", 0), ("a", 1))]
    draws = [noise for one in sets for noise in row_noise(model, one, SETTINGS)]
    scale = row_scale(model, many, "row")[:, None]
    n = draws[0].numel()
    for noise in draws:
        assert noise.shape == (len(many), HIDDEN)
        assert float((noise / scale).mean()) == pytest.approx(0, abs=4 / n**0.5)
        assert float((noise / scale).var()) == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
    for one, other in pairwise(draws):
        correlation = np.corrcoef((one / scale).ravel(), (other / scale).ravel())[0, 1]
        assert abs(correlation) < 5 / n**0.5
    again = row_noise(model, sets[0], WeightNoiseSettings([9.0], "row", 1, 5))[0]
    assert torch.equal(again, draws[0])


def test_rows_of_the_weight_noise_table(model, image_tokens):
    rows = captions_under(model, image_tokens)
    columns = "sample_id group picture_id method seed unit level draw caption_before caption"
    assert all(list(row) == columns.split() for row in rows)
    cells = [(row["method"], row["seed"], row["level"], row["draw"]) for row in rows]
    sets = [("contribution", 0), ("random", 0), ("random", 1)]
    assert cells == [(*s, level, draw) for s, level, draw in product(sets, [1, 12], range(2))]
    facts = {tuple(row[c] for c in columns.split()[:3]) for row in rows}
    assert facts == {("7-car", "car", "7")}
    assert {(row["unit"], row["caption_before"]) for row in rows} == {("row", "before")}
    assert len({row["caption"] for row in rows}) > 3


def test_noised_captions_are_made_one_by_one_with_the_named_noise(model, image_tokens):
    before = weights_of(model)
    rows = captions_under(model, image_tokens)
    encoded = model.encode(image_tokens[:1], fill_prompt(PROMPT))
    neurons = {(one.method, one.seed): one.neurons for one in SETS}
    for row in rows:
        own = neurons[row["method"], row["seed"]]
        name = f"rows/{row['method']}/7-car/{row['seed']}"
        values = standard_noise(5, name, row["draw"], 4, HIDDEN, "per-position")
        delta = row["level"] * row_scale(model, own, "row")[:, None] * values
        with changed_rows(model, own, delta):
            ids = model.generate(encoded, 6)[0]
        assert row["caption"] == caption_text(model, PROMPT["prefix"], ids)["caption"]
    assert not differing(model, before)


def test_batches_and_other_sets_change_no_noised_caption(model, image_tokens):
    rows = captions_under(model, image_tokens)
    assert captions_under(model, image_tokens, batch=1) == rows
    assert captions_under(model, image_tokens, batch=5) == rows
    assert captions_under(model, image_tokens, sets=SETS[2:]) == rows[8:]
    high = WeightNoiseSettings([12.0], "row", 2, 5)
    assert captions_under(model, image_tokens, high) == [r for r in rows if r["level"] == 12]
    clean = model.generate(model.encode(image_tokens[:1], fill_prompt(PROMPT)), 6)[0]
    none = captions_under(model, image_tokens, WeightNoiseSettings([0.0], "absolute", 1, 5))
    assert {row["caption"] for row in none} == {
        caption_text(model, PROMPT["prefix"], clean)["caption"]
    }
    fewer = NeuronSet("random", "plain", 2, "7-car", "car", NEURONS[:2])
    with pytest.raises(ValueError, match="differ in size"):
        captions_under(model, image_tokens, sets=[*SETS, fewer])


def test_disturbed_sets_have_random_controls_from_the_same_layers():
    table = pd.DataFrame(
        {
            "sample_id": ["7-car"] * 4 + ["8-bear"] * 4,
            "group": ["car"] * 4 + ["bear"] * 4,
            "layer": [1, 0, 1, 2, 2, 2, 2, 2],
            "unit": [4, 39, 0, 7, 0, 1, 2, 3],
        }
    )
    sets = disturbed_sets(table, N_UNITS, seeds=5, seed=1)
    assert list(sets) == ["7-car", "8-bear"]
    for sample_id, own in sets.items():
        assert [(s.method, s.seed) for s in own] == [
            ("contribution", 0),
            *(("random", seed) for seed in range(5)),
        ]
        chosen = {tuple(n) for n in own[0].neurons.tolist()}
        assert len({tuple(map(tuple, s.neurons.tolist())) for s in own}) == 6
        for control in own[1:]:
            assert sorted(control.neurons[:, 0]) == sorted(own[0].neurons[:, 0])
            assert not chosen & {tuple(n) for n in control.neurons.tolist()}
            assert (control.sample_id, control.group) == (sample_id, sample_id.split("-")[1])
    alone = disturbed_sets(table.iloc[4:], N_UNITS, seeds=5, seed=1)["8-bear"]
    for one, other in zip(alone, sets["8-bear"], strict=True):
        assert np.array_equal(one.neurons, other.neurons)
    assert disturbed_sets(table.iloc[:0], N_UNITS, 5, 1) == {}


# ------------------------------------------------------------------------------------ Algorithm 1


def test_steps_of_the_descent_by_hand():
    g = torch.tensor([[3.0, 4.0]])
    # From 0 the norm has no gradient: -0.1 g. Then dw/|dw| = -(0.6, 0.8) and g - (0.6, 0.8).
    torch.testing.assert_close(descend(g, 1.0, 0.1, 1), torch.tensor([[-0.3, -0.4]]))
    torch.testing.assert_close(descend(g, 1.0, 0.1, 2), torch.tensor([[-0.54, -0.72]]))


def closed_form(g, beta, lr, steps):
    """What `steps` steps from 0 give where |g| >= beta."""
    size = g.norm(dim=1, keepdim=True)
    return -lr * g / size * (size + (steps - 1) * (size - beta))


def test_descent_is_the_closed_form_above_the_threshold():
    g = normal(6, 16, seed=2).double()
    g *= (torch.tensor([4.0, 4.01, 5, 8, 40, 400]) / g.norm(dim=1))[:, None]
    expected = closed_form(g, 4.0, 0.001, 1000)
    torch.testing.assert_close(descend(g, 4.0, 0.001, 1000), expected)
    single = descend(g.float(), 4.0, 0.001, 1000)
    torch.testing.assert_close(single.double(), expected, rtol=1e-3, atol=1e-3)
    # Exactly at the threshold only the first step, in which the norm plays no part, is made.
    torch.testing.assert_close(expected[0], -0.001 * g[0])
    at = descend(torch.tensor([[0.0, 4.0]]), 4.0, 0.001, 1000)
    torch.testing.assert_close(at, torch.tensor([[0.0, -0.004]]))


def test_below_the_threshold_a_change_only_swings_around_zero():
    beta, lr = 4.0, 0.001
    directions = normal(50, 16, seed=3).double()
    sizes = torch.linspace(0.0513, 3.95, 50, dtype=torch.float64)
    g = directions / directions.norm(dim=1, keepdim=True) * sizes[:, None]
    for steps in (1, 2, 3, 4):
        # Along -g the change is one number, which goes lr (|g| - beta sign) further a step.
        along = torch.zeros(50, dtype=torch.float64)
        for _ in range(steps):
            along += lr * (sizes - beta * along.sign())
        moved = descend(g, beta, lr, steps)
        torch.testing.assert_close(moved, -(along / sizes)[:, None] * g, rtol=1e-6, atol=1e-9)
    # No step leads out of the ball: |dw - lr beta dw/|dw|| <= max(lr beta, |dw| - lr beta).
    for steps in (100, 999, 1000):
        moved = descend(g, beta, lr, steps).norm(dim=1)
        assert (moved <= lr * (beta + sizes) * (1 + 1e-9)).all()
        assert (moved > 0).all()


def test_descent_is_the_gradient_descent_of_the_printed_loss():
    w, v0, v1 = normal(3, 8, seed=4), normal(8, seed=5), normal(8, seed=6)
    o, beta, lr = torch.tensor([2.0, -1.5, 0.1]), 1.7, 0.01
    delta = torch.zeros(3, 8, requires_grad=True)
    for _ in range(200):
        changed = w + delta
        loss = o * (changed @ v0 - changed @ v1) + beta * torch.linalg.vector_norm(delta, dim=1)
        (slope,) = torch.autograd.grad(loss.sum(), delta)
        delta = (delta - lr * slope).detach().requires_grad_(True)
    ours = descend(o[:, None] * (v0 - v1), beta, lr, 200)
    torch.testing.assert_close(ours, delta.detach(), rtol=1e-4, atol=1e-5)
    assert ours[0].norm() > 1 > 0.1 > ours[2].norm()


def test_descent_through_zero_stays_a_number():
    # The second step leads back to exactly 0 where beta = 2 |g|; a neuron without gradient stays.
    g = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert descend(g, 2.0, 0.5, 2).tolist() == [[0, 0], [0, 0]]
    assert descend(g, 2.0, 0.5, 3).tolist() == [[-0.5, 0], [0, 0]]


def test_edit_of_a_token(model):
    v0, v1 = model.unembedding()[[IDS["car"], IDS["bear"]]]
    size = float((v0 - v1).norm())
    o = torch.tensor([2.0, -3.0, 0.5, 1.0]) * 4 / size  # |g| = 8, 12, 2, 4
    edit = token_edit(model, NEURONS, o, IDS["car"], IDS["bear"], AS_PRINTED)
    assert (edit.beta, edit.neurons.tolist()) == (4, NEURONS.tolist())
    g = o[:, None] * (v0 - v1)
    torch.testing.assert_close(
        edit.delta[:2], closed_form(g, 4.0, 0.001, 1000)[:2], rtol=1e-3, atol=1e-3
    )
    # The change raises what the neuron adds to the target and lowers what it adds to the source.
    for number in range(2):
        assert o[number] * (edit.delta[number] @ (v1 - v0)) > 0
    assert (edit.delta[2:].norm(dim=1) <= 0.001 * 8.01).all()
    relative = EditSettings(0.5, "median", 0.001, 1000)
    edit = token_edit(model, NEURONS, o, IDS["car"], IDS["bear"], relative)
    assert edit.beta == pytest.approx(3)  # half of the median of 2, 4, 8, 12
    assert edit.n_unedited == 1
    zero = token_edit(model, NEURONS, 0 * o, IDS["car"], IDS["bear"], relative)
    assert (zero.n_unedited, zero.delta.abs().max()) == (4, 0)


def test_neurons_at_the_threshold_count_as_unedited(model):
    tokens = (IDS["car"], IDS["bear"])
    g = torch.linalg.vector_norm(model.unembedding()[tokens[0]] - model.unembedding()[tokens[1]])
    for beta, unedited in ((g.item(), 4), (g.item() * 0.999, 0)):
        settings = EditSettings(beta, "absolute", 0.001, 10)
        assert token_edit(model, NEURONS, torch.ones(4), *tokens, settings).n_unedited == unedited


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit": "rms"}, "'median' or 'absolute'"),
        ({"beta": -1}, "beta >= 0"),
        ({"lr": 0}, "lr > 0"),
        ({"steps": 0}, "at least one step"),
    ],
)
def test_impossible_settings_are_refused(model, changes, message):
    settings = EditSettings(**{**vars(AS_PRINTED), **changes})
    with pytest.raises(ValueError, match=message):
        token_edit(model, NEURONS, torch.ones(4), IDS["car"], IDS["bear"], settings)


def test_edit_into_the_same_token_and_of_lost_activations_is_refused(model):
    with pytest.raises(ValueError, match="same token"):
        token_edit(model, NEURONS, torch.ones(4), IDS["car"], IDS["car"], AS_PRINTED)
    lost = torch.tensor([1, 2, torch.nan, 3])
    with pytest.raises(ValueError, match="not finite"):
        token_edit(model, NEURONS, lost, IDS["car"], IDS["bear"], AS_PRINTED)


def test_logits_move_as_predicted(tokenizer, pictures):
    """Without the final norm, a last-layer edit adds o dw (v1 - v0) to the logits' difference."""
    model = MiniGPT4(build_network(1), tokenizer, "cpu")
    model.decoder.model.norm = torch.nn.Identity()
    image_tokens = model.embed_pictures(pictures[:1])
    encoded = model.encode(image_tokens, fill_prompt(PROMPT))
    neurons = np.array([[2, 5], [2, 11]])
    with record(model.sites("language"), ["post"]) as passed:
        clean = model.logits(model.final_states(encoded)[0, -1])
    o = passed["post"][2][0, -1, [5, 11]]
    edit = token_edit(
        model, neurons, o, IDS["car"], IDS["bear"], EditSettings(0.2, "median", 0.001, 1000)
    )
    v0, v1 = model.unembedding()[[IDS["car"], IDS["bear"]]]
    with edited(model, [edit]):
        changed = model.logits(model.final_states(encoded)[0, -1])
    predicted = (o * (edit.delta @ (v1 - v0))).sum()
    moved = (changed - clean)[IDS["bear"]] - (changed - clean)[IDS["car"]]
    assert predicted > 0.05
    torch.testing.assert_close(moved, predicted, rtol=1e-3, atol=1e-4)


def test_all_edits_are_in_the_weights_and_leave_no_trace(model):
    before = weights_of(model)
    delta = normal(4, HIDDEN)
    edits = [Edit(NEURONS, delta, 1.0, 0), Edit(NEURONS[:1], delta[1:2], 1.0, 0)]
    row = output_row(model, 1, 4).clone()
    with pytest.raises(KeyboardInterrupt), edited(model, edits):
        torch.testing.assert_close(output_row(model, 1, 4), row + delta[0] + delta[1])
        raise KeyboardInterrupt
    assert not differing(model, before)


# ----------------------------------------------------------------------------- words and positions


def test_tokens_of_a_word(model):
    assert word_tokens(model, PROMPT["prefix"], "car") == [IDS["car"]]
    two = [IDS["fire"], IDS["hydrant"]]
    assert word_tokens(model, PROMPT["prefix"], " fire hydrant") == two
    with pytest.raises(ValueError, match="does not know 'red zebra'"):
        word_tokens(model, PROMPT["prefix"], "red zebra")
    for empty in ("", "  "):
        with pytest.raises(ValueError, match="empty"):
            word_tokens(model, PROMPT["prefix"], empty)


@pytest.fixture(scope="module")
def caption(model, image_tokens):
    return model.generate(model.encode(image_tokens[:1], fill_prompt(PROMPT)), 8)[0]


def occurrence(image_tokens, caption, position, n_tokens=1):
    end = position + n_tokens
    return Occurrence(
        image_tokens[0],
        fill_prompt(PROMPT),
        caption[:position],
        caption[position:end],
        caption[end],
    )


@pytest.mark.parametrize("site", ["act", "post"])
def test_position_is_the_one_that_generates_the_concept(model, image_tokens, caption, site):
    whole = model.encode(image_tokens[:1], fill_prompt(PROMPT), [caption])
    with record(model.sites("language"), [site]) as passed:
        model.final_states(whole)
    for position in (0, 3):
        place = occurrence(image_tokens, caption, position)
        reading = read_position(model, place, [], site)
        expected = torch.stack([t[0, whole.prompt_end - 1 + position] for t in passed[site]])
        torch.testing.assert_close(reading.activations, expected, rtol=1e-3, atol=1e-4)
        assert reading.says == caption[position]
        # Forcing the caption's own tokens moves on in the caption.
        forced = read_position(model, place, caption[position : position + 2], site)
        later = torch.stack([t[0, whole.prompt_end + 1 + position] for t in passed[site]])
        torch.testing.assert_close(forced.activations, later, rtol=1e-3, atol=1e-4)
        assert forced.says == caption[position + 2]


def test_best_neurons_contribute_most(model):
    activations = normal(3, N_UNITS, seed=8)
    scores = torch.stack(
        [
            active * (site.output_rows() @ model.unembedding()[IDS["bear"]])
            for active, site in zip(activations, model.sites("language"), strict=True)
        ]
    )
    best = best_neurons(model, activations, IDS["bear"], 5)
    assert best.tolist() == [
        [int(i) // N_UNITS, int(i) % N_UNITS] for i in scores.flatten().argsort(descending=True)[:5]
    ]


def test_neurons_that_act_against_their_activation_are_counted(model, image_tokens, caption):
    """On them an edit by `act` raises the source; on the others, and by `post`, the target."""
    place, target = occurrence(image_tokens, caption, 3), [IDS["fire"]]
    encoded = model.encode(image_tokens[:1], place.prompt, [caption[:3]])
    with record(model.sites("language"), ["act", "post"]) as passed:
        model.final_states(encoded)
    act, post = (torch.stack([t[0, -1] for t in passed[kind]]) for kind in ("act", "post"))
    towards = model.unembedding()[target[0]] - model.unembedding()[caption[3]]
    everywhere = EditSettings(0, "absolute", 0.001, 1000)
    against, along = ((sign * act * post > 0.01).nonzero().numpy() for sign in (-1, 1))
    assert min(len(against), len(along)) >= 3
    neurons = np.concatenate([along[:3], against[:2]])
    own = tuple(torch.from_numpy(neurons).unbind(dim=1))
    for site, lost in (("act", [False] * 3 + [True] * 2), ("post", [False] * 5)):
        args = (model, place, target, False, lambda *_: neurons, site, everywhere)
        (edit,) = find_edits(*args)
        assert edit.n_opposed == sum(lost)
        # What the changed rows add to the target's lead over the source, before the final norm.
        assert ((post[own] * (edit.delta @ towards)) < 0).tolist() == lost


def test_opposed_neurons_of_a_position_are_those_of_opposite_signs(model, image_tokens, caption):
    place = occurrence(image_tokens, caption, 2)
    act, post = (read_position(model, place, [], site) for site in ("act", "post"))
    opposed = (act.activations > 0) & (post.activations < 0)
    opposed |= (act.activations < 0) & (post.activations > 0)
    assert 0 < opposed.sum() < opposed.numel()
    assert torch.equal(act.opposed, opposed)
    assert not post.opposed.any()


RELATIVE = EditSettings(0.5, "median", 0.002, 1000)


def test_edit_of_the_first_token(model, image_tokens, caption):
    place, targets = occurrence(image_tokens, caption, 3), [IDS["fire"], IDS["hydrant"]]
    seen = []

    def choose(where, source, activations):
        seen.append((where, source, activations))
        return NEURONS

    (edit,) = find_edits(model, place, targets, False, choose, "post", AS_PRINTED)
    ((where, source, activations),) = seen
    assert (where, source) == (0, caption[3])
    o = torch.stack([activations[layer, unit] for layer, unit in NEURONS])
    expected = token_edit(model, NEURONS, o, caption[3], IDS["fire"], AS_PRINTED)
    assert torch.equal(edit.delta, expected.delta)


def target_log_probabilities(model, place, targets):
    """Log probability of every token of the target, with those ahead of it forced."""
    encoded = model.encode(place.image_tokens[None], place.prompt, [[*place.before, *targets[:-1]]])
    states = model.final_states(encoded)[0, encoded.prompt_end - 1 + len(place.before) :]
    scores = torch.log_softmax(model.logits(states), dim=-1)
    return scores[torch.arange(len(targets)), torch.tensor(targets)]


def test_edit_of_a_word_raises_every_token_of_the_target(model, image_tokens, caption):
    before = weights_of(model)
    targets = [IDS["fire"], IDS["hydrant"], IDS["beach"]]
    for position in (0, 2):
        place = occurrence(image_tokens, caption, position, n_tokens=2)
        seen = []

        def choose(where, source, activations, seen=seen):
            seen.append((where, source))
            return best_neurons(model, activations, source, 5)

        edits = find_edits(model, place, targets, True, choose, "post", RELATIVE)
        assert not differing(model, before)
        assert [where for where, _ in seen] == [0, 1, 2]
        assert seen[0][1] == caption[position]
        # What is edited is what the model says at that place under the edits before.
        for number in (1, 2):
            with edited(model, edits[:number]):
                reading = read_position(model, place, targets[:number], "post")
                assert seen[number][1] == reading.says
        gained = [target_log_probabilities(model, place, targets)]
        for number in (1, 2, 3):
            with edited(model, edits[:number]):
                gained.append(target_log_probabilities(model, place, targets))
            assert gained[number][number - 1] > gained[number - 1][number - 1] + 1
        assert not differing(model, before)


def test_rest_of_the_source_word_is_edited_away(model, image_tokens, caption, monkeypatch):
    place, target = occurrence(image_tokens, caption, 2, n_tokens=2), [IDS["bear"]]
    places = []

    def choose(where, source, activations):
        places.append((where, source))
        return best_neurons(model, activations, source, 5)

    edits = find_edits(model, place, target, True, choose, "post", RELATIVE)
    assert len(edits) == 1  # What follows is a word of its own.
    # Written together, whatever follows goes on with the word.
    monkeypatch.setattr(model, "decode", lambda ids: "".join("x" * (i + 1) for i in ids))
    with edited(model, edits):
        encoded = model.encode(image_tokens[:1], place.prompt, [[*place.before, *target]])
        clean = model.logits(model.final_states(encoded)[0, -1])
    places.clear()
    closed = find_edits(model, place, target, True, choose, "post", RELATIVE)
    says = int(clean.argmax())
    assert says != place.after
    assert places == [(0, caption[2]), (1, says)]
    with edited(model, closed):
        changed = model.logits(model.final_states(encoded)[0, -1])
    assert (changed - clean)[place.after] > 1 + (changed - clean)[says]
    places.clear()
    find_edits(model, place, target, False, choose, "post", RELATIVE)
    assert places == [(0, caption[2])]


def test_token_that_is_said_anyway_needs_no_edit(model, image_tokens, caption):
    place = occurrence(image_tokens, caption, 1)
    targets = [caption[1], IDS["hydrant"]]
    assert caption[2] != IDS["hydrant"]
    places = []

    def choose(where, source, activations):
        places.append((where, source))
        return best_neurons(model, activations, source, 5)

    assert len(find_edits(model, place, targets, True, choose, "post", RELATIVE)) == 1
    assert places == [(1, caption[2])]


def test_edit_of_a_word_into_itself_or_nothing_is_refused(model, image_tokens, caption):
    place = occurrence(image_tokens, caption, 1, n_tokens=2)
    cases = [
        ((*caption[1:3],), True, "same tokens"),
        ((caption[1], IDS["hydrant"]), False, "same tokens"),
        ((), True, "no token"),
        ((), False, "no token"),
    ]
    for target, whole, message in cases:
        with pytest.raises(ValueError, match=message):
            find_edits(model, place, target, whole, lambda *_: NEURONS, "post", RELATIVE)


# --------------------------------------------------------------------------------------- planning


def tables():
    """Captions "a car" .. on ten pictures; the concept's position is 1."""
    says = ["car", "car", "bear", "car", "teddy bear", "clock", "bear", "car", "clock", "banana"]
    ids = {"car": [10], "bear": [11], "teddy bear": [12, 11], "clock": [13], "banana": [14]}
    captions = pd.DataFrame(
        {
            "picture_id": [str(i) for i in range(10)],
            "variant": "plain",
            "caption": [f"a {word} on grass" for word in says],
            "token_ids": [np.array([1, *ids[word], 8, 9], np.int32) for word in says],
        }
    )
    captions.at[9, "token_ids"] = np.array([1, 14], np.int32)
    concepts = pd.DataFrame(
        {
            "sample_id": [f"{i}-{word.replace(' ', '_')}" for i, word in enumerate(says)],
            "picture_id": captions["picture_id"],
            "variant": "plain",
            "group": says,
            "position": 1,
            "token": [ids[word][0] for word in says],
            "n_tokens": [len(ids[word]) for word in says],
        }
    )
    # Shuffled rows name other things and are not looked at.
    other = captions.assign(variant="shuffled", caption="a vase")
    concepts = pd.concat([concepts, concepts.assign(variant="shuffled", group="vase")])
    return concepts, pd.concat([captions, other]), {**{k: tuple(v) for k, v in ids.items()}}


def test_plan():
    concepts, captions, targets = tables()
    plans, excluded = plan_edits(concepts, captions, targets, 30, 3, 2, 3, seed=1)
    says = captions.query("variant == 'plain'").set_index("picture_id")["caption"]
    assert excluded == []
    # Ten samples with three targets each, one sample after the other.
    assert len({plan.edit_id for plan in plans}) == len(plans) == 30
    assert [len({plan.sample_id for plan in plans[i : i + 3]}) for i in range(0, 30, 3)] == [1] * 10
    for plan in plans:
        assert plan.target not in says[plan.picture_id]
        assert plan.source not in plan.target
        assert plan.source in says[plan.picture_id]
        assert plan.target_tokens == targets[plan.target]
        assert (plan.before, plan.tokens) == ((1,), targets[plan.source])
        assert plan.after == (None if plan.source == "banana" else 8)
        assert all(plan.source in says[name] for name in plan.transfer)
        assert not any(plan.source in says[name] for name in plan.locality)
        assert len(plan.locality) == 3
        n_more = says.str.contains(plan.source).sum() - 1
        assert len(plan.transfer) == min(2, n_more)
        assert list(plan.roles) == [plan.picture_id, *plan.transfer, *plan.locality]
        assert list(plan.roles.values()) == [
            "edited",
            *["transfer"] * len(plan.transfer),
            *["locality"] * 3,
        ]
    assert any(plan.edit_id == "4-teddy_bear-to-banana" for plan in plans)
    # "bear" into "teddy bear" would still name a bear, and "teddy bear" already names one.
    pairs = {(plan.source, plan.target) for plan in plans}
    assert not {("bear", "teddy bear"), ("teddy bear", "bear")} & pairs


def test_the_prefix_names_nothing():
    prefix = "An image of"
    concepts, captions, targets = tables()
    # On pictures 3 and 5 the concept is "image".
    for number in (3, 5):
        where = (captions["picture_id"] == str(number)) & (captions["variant"] == "plain")
        captions.loc[where, "caption"] = "an image on grass"
        where = (concepts["picture_id"] == str(number)) & (concepts["variant"] == "plain")
        concepts.loc[where, ["group", "token"]] = ["image", 15]
    targets |= {"image": (15,)}
    bare, _ = plan_edits(concepts, captions, targets, 99, 9, 9, 9, seed=1)
    begun = captions.assign(caption=f"{prefix} " + captions["caption"])
    plans, excluded = plan_edits(concepts, begun, targets, 99, 9, 9, 9, seed=1, prefix=prefix)
    assert (plans, excluded) == (bare, [])
    sources = {plan.picture_id: plan for plan in plans if plan.source == "image"}
    assert {name: plan.transfer for name, plan in sources.items()} == {"3": ("5",), "5": ("3",)}
    assert all(len(plan.locality) == 8 for plan in sources.values())
    into = {plan.picture_id for plan in plans if plan.target == "image"}
    assert into == {"0", "1", "2", "4", "6", "7", "8", "9"}


def test_plan_is_bounded_and_depends_on_names_alone():
    concepts, captions, targets = tables()
    plans, _ = plan_edits(concepts, captions, targets, 12, 2, 2, 3, seed=1)
    mixed = (table.sample(frac=1, random_state=3) for table in (concepts, captions))
    backwards = dict(reversed(targets.items()))
    assert plan_edits(*mixed, backwards, 12, 2, 2, 3, seed=1)[0] == plans
    assert plan_edits(concepts, captions, targets, 7, 2, 2, 3, seed=1)[0] == plans[:7]
    assert plan_edits(concepts, captions, targets, 12, 2, 2, 3, seed=2)[0] != plans
    everything, _ = plan_edits(concepts, captions, targets, 1000, 100, 0, 0, seed=1)
    # Four possible targets for each of ten samples, three for the three with a bear.
    assert len(everything) == 4 * 7 + 3 * 3
    assert all(plan.transfer == plan.locality == () for plan in everything)


def test_sample_without_a_possible_target_is_excluded():
    concepts, captions, targets = tables()
    few = {"clock": targets["clock"], "cartoon": (10, 77)}
    plans, excluded = plan_edits(concepts, captions, few, 100, 5, 1, 1, seed=1)
    assert sorted(row["sample_id"] for row in excluded) == []
    few = {"clock": targets["clock"]}
    plans, excluded = plan_edits(concepts, captions, few, 100, 5, 1, 1, seed=1)
    assert {plan.target for plan in plans} == {"clock"}
    assert len(plans) == 8
    assert sorted(row["sample_id"] for row in excluded) == ["5-clock", "8-clock"]
    assert list(excluded[0]) == ["stage", "sample_id", "group", "reason", "detail"]
    # A target that begins with the source's token leaves nothing for the paper's edit.
    plans, excluded = plan_edits(concepts, captions, {"cartoon": (10, 77)}, 100, 5, 1, 1, seed=1)
    assert {row["group"] for row in excluded} == {"car"}
    assert "car" not in {plan.source for plan in plans}
    plans, excluded = plan_edits(concepts, captions, {}, 5, 5, 1, 1, seed=1)
    assert (plans, len(excluded)) == ([], 10)
    assert plan_edits(concepts.iloc[:0], captions, targets, 5, 5, 1, 1, seed=1) == ([], [])


def test_unknown_targets_are_left_out_with_a_reason(model):
    known, excluded = known_targets(model, PROMPT["prefix"], ["car", "zebra", "fire hydrant", ""])
    assert known == {"car": (IDS["car"],), "fire hydrant": (IDS["fire"], IDS["hydrant"])}
    assert [(row["group"], row["reason"]) for row in excluded] == [
        ("zebra", "target unknown to the tokenizer"),
        ("", "target unknown to the tokenizer"),
    ]
    assert "does not know 'zebra'" in excluded[0]["detail"]


# --------------------------------------------------------------------------------- embedded world


@pytest.fixture(scope="module")
def world():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        model = load_model(
            read_registry("resources/models.yaml")["minigpt4-world"], "cpu", "float32"
        )
    prompt = yaml.safe_load((REPOSITORY / "resources/prompts.yaml").read_text())[
        "minigpt4.training"
    ]
    rng = np.random.default_rng(5)
    image_tokens = model.embed_pictures([draw_scene(rng).picture for _ in range(12)])
    generated = model.generate(model.encode(image_tokens, fill_prompt(prompt)), 30)
    names = [category.name for category in CATEGORIES]
    captions, concepts = [], []
    for number, ids in enumerate(generated):
        text = caption_text(model, prompt["prefix"], ids)
        captions.append({"picture_id": str(number), "variant": "plain", **text})
        for name in sorted(named(text["caption"], names)):
            start, end = spans(text["caption"], name)[0]
            first, last = np.searchsorted(text["token_ends"], [start + 1, end])
            concepts.append(
                {
                    "sample_id": f"{number}-{name}",
                    "picture_id": str(number),
                    "variant": "plain",
                    "group": name,
                    "position": int(first),
                    "token": ids[first],
                    "n_tokens": int(last - first) + 1,
                }
            )
    tokens = {str(number): values for number, values in enumerate(image_tokens)}
    return model, prompt, tokens, pd.DataFrame(captions), pd.DataFrame(concepts), names


def try_edits(world, words, n_edits, trial):
    """Rows of the edits' table; the neurons are found at the position of the source."""
    model, prompt, tokens, captions, concepts, _ = world
    known, _ = known_targets(model, prompt["prefix"], words)
    before = dict(zip(captions["picture_id"], captions["caption"], strict=True))
    plans, _ = plan_edits(concepts, captions, known, n_edits, 1, 1, 2, 1, prompt["prefix"])
    rows = []
    for plan in plans:
        place = Occurrence(
            tokens[plan.picture_id], fill_prompt(prompt), plan.before, plan.tokens, plan.after
        )
        reading = read_position(model, place, [], trial.site)
        assert reading.says == plan.tokens[0]
        neurons = best_neurons(model, reading.activations, reading.says, 8)
        rows += edited_captions(model, prompt, tokens, before, plan, neurons, trial, 20)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("site", ["act", "post"])
def test_edits_of_the_embedded_world(world, site):
    model, names = world[0], world[-1]
    before = weights_of(model)
    trial = EditTrial(EditSettings(0.5, "median", 0.001, 1000), site, 5, ("token",), 1, 3)
    table = try_edits(world, names, 5, trial)
    assert not differing(model, before)
    columns = "edit_id sample_id source target kind method seed n_neurons n_unedited n_opposed beta"
    assert list(table) == [*columns.split(), "picture_id", "role", "caption_before", "caption"]
    assert set(table["n_neurons"]) == {5}
    assert (table["n_unedited"] <= 2).all()  # At most half of five are below half the median.
    own = table[table["role"] == "edited"]
    says = [
        target in named(caption, names) and source not in named(caption, names)
        for source, target, caption in own[["source", "target", "caption"]].to_numpy()
    ]
    success = own.assign(success=says).groupby("method")["success"].mean()
    assert success["contribution"] >= 0.5
    assert success["random"] <= 0.2
    assert (table["n_opposed"].sum() > 0) == (site == "act")
    assert (table["n_opposed"] <= table["n_neurons"]).all()
    again = try_edits(world, names, 1, trial)
    pd.testing.assert_frame_equal(again, table.iloc[: len(again)])


def test_words_of_several_tokens_are_edited_whole(world):
    words = ["stop light", "traffic sign", "bird apple", "pizza boat"]
    trial = EditTrial(EditSettings(0.5, "median", 0.001, 1000), "post", 5, ("token", "word"), 0, 3)
    table = try_edits(world, words, 6, trial).query("role == 'edited'")
    says = [
        target in caption and source not in named(caption, [source])
        for source, target, caption in table[["source", "target", "caption"]].to_numpy()
    ]
    success = table.assign(success=says).groupby("kind")["success"].mean()
    assert success["word"] >= 0.5
    assert success["word"] > success["token"] + 0.3
    assert (table.query("kind == 'word'")["n_neurons"] >= 10).sum() >= 4


def test_random_controls_are_of_the_first_token_only(world):
    settings = EditSettings(0.5, "median", 0.001, 5)

    def tried(*kinds):
        table = try_edits(world, ["stop light"], 1, EditTrial(settings, "act", 2, kinds, 2, 3))
        return [*dict.fromkeys(zip(table["kind"], table["method"], table["seed"], strict=True))]

    controls = [("token", "random", 0), ("token", "random", 1)]
    first, whole = ("token", "contribution", 0), ("word", "contribution", 0)
    assert tried("token", "word") == [first, whole, *controls]
    assert tried("token") == [first, *controls]
    assert tried("word") == [whole]


def test_noise_takes_whole_pictures():
    rows = [(f"p{i}-c{j}", f"p{i}") for i, n in enumerate([1, 3, 2, 4]) for j in range(n)]
    concepts = pd.DataFrame(rows, columns=["sample_id", "picture_id"])
    for wanted in range(1, 11):
        for seed in range(4):
            chosen = whole_pictures(concepts, wanted, seed)
            sizes = chosen["picture_id"].value_counts()
            assert all(sizes[name] == (1, 3, 2, 4)[int(name[1])] for name in sizes.index)
            assert wanted <= len(chosen) < wanted + 4
    assert whole_pictures(concepts, 99, 0)["sample_id"].tolist() == sorted(concepts["sample_id"])
