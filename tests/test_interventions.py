"""Noise reaches the chosen neurons at the image tokens, nothing else, and leaves no trace."""

from dataclasses import replace as with_changes
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import n_hooks

from mmneurons.interventions.noise import image_noise, layer_scale, standard_noise
from mmneurons.interventions.noisy_captions import (
    NeuronSet,
    NoiseSettings,
    captioned_pictures,
    neuron_sets,
    noisy_captions,
)
from mmneurons.models.captions import caption_text, fill_prompt
from mmneurons.probe.hooks import record, watch

PROMPT = {
    "template": "[INST] <Img><ImageHere></Img> {instruction} [/INST] {prefix}",
    "instruction": "Describe this image in detail.",
    "prefix": "The image shows a",
}
LONGER = "Give the following image: [INST] <Img><ImageHere></Img> Describe [/INST] The"
NEURONS = np.array([[1, 4], [0, 39], [1, 0]])
N_TOKENS, N_UNITS, N_LAYERS = 16, 40, 3


@pytest.fixture(scope="module")
def image_tokens(model, pictures):
    return model.embed_pictures(pictures[:4])


@pytest.fixture(scope="module")
def encoded(model, image_tokens):
    """Two rows whose image tokens stand at different positions."""
    return model.encode(image_tokens[:2], [fill_prompt(PROMPT), LONGER])


@pytest.fixture(scope="module")
def noise():
    return torch.randn(2, len(NEURONS), N_TOKENS, generator=torch.Generator().manual_seed(0))


def passing(model, encoded, site):
    """`batch x layers x tokens x units` of one pass over the prompt."""
    with record(model.sites("language"), [site]) as passed:
        model.final_states(encoded)
    return torch.stack(passed[site], dim=1)


# ----------------------------------------------------------------------------------- image_noise


@pytest.mark.parametrize("site", ["act", "post"])
@pytest.mark.parametrize("mode", ["add", "replace"])
def test_noise_is_on_the_chosen_neurons_at_the_image_tokens_only(model, encoded, noise, site, mode):
    clean = passing(model, encoded, site)
    with image_noise(model, encoded, NEURONS, noise, site, mode):
        noisy = passing(model, encoded, site)
    touched = torch.zeros(clean.shape, dtype=torch.bool)
    for row, (number, (layer, unit)) in product(range(2), enumerate(NEURONS.tolist())):
        start = int(encoded.image[row, 0])
        touched[row, layer, start : start + N_TOKENS, unit] = True
        got = noisy[row, layer, start : start + N_TOKENS, unit]
        if mode == "replace":
            assert torch.equal(got, noise[row, number])
        elif layer == 0:  # Nothing before it has changed.
            before = clean[row, layer, start : start + N_TOKENS, unit]
            assert torch.equal(got, before + noise[row, number])
    # Layer 0 reads nothing that has changed, so outside the noise it is the same bit for bit.
    first = ~touched[:, 0]
    assert torch.equal(noisy[:, 0][first], clean[:, 0][first])
    # Causality: no token before the picture is changed in any layer.
    for row in range(2):
        start = int(encoded.image[row, 0])
        assert torch.equal(noisy[row, :, :start], clean[row, :, :start])
        assert not torch.equal(noisy[row, 2, start:], clean[row, 2, start:])


@pytest.mark.parametrize("site", ["act", "post"])
def test_noise_is_all_that_changes_within_a_layer(model, encoded, noise, site):
    """Seen directly before and behind the noise, layer 1's tensor differs on the neurons alone."""
    sites = model.sites("language")[1:2]
    before, after = [], []
    with (
        watch(sites, [site], lambda _s, _k, tensor: before.append(tensor.clone())),
        image_noise(model, encoded, NEURONS, noise, site),
        watch(sites, [site], lambda _s, _k, tensor: after.append(tensor.clone())),
    ):
        model.final_states(encoded)
    expected = before[0].clone()
    for row, (number, unit) in product(range(2), ((0, 4), (2, 0))):
        expected[row, encoded.image[row], unit] += noise[row, number]
    assert torch.equal(after[0], expected)


def test_decoding_steps_pass_untouched(model, encoded, noise):
    before, after = [], []
    with (
        watch(
            model.sites("language"), ["act"], lambda s, _k, t: before.append((s.layer, t.clone()))
        ),
        image_noise(model, encoded, NEURONS, 20 * noise, "act"),
        watch(
            model.sites("language"), ["act"], lambda s, _k, t: after.append((s.layer, t.clone()))
        ),
    ):
        model.generate(encoded, 4)
    prompt, steps = (
        [i for i, (_, t) in enumerate(before) if (t.shape[1] > 1) == whole]
        for whole in (True, False)
    )
    assert len(prompt) == N_LAYERS
    assert len(steps) >= 2 * N_LAYERS
    assert all(torch.equal(before[i][1], after[i][1]) for i in steps)
    changed = {before[i][0] for i in prompt if not torch.equal(before[i][1], after[i][1])}
    assert changed == {0, 1}


def test_noise_reaches_the_caption_only_through_layers_that_are_read(model, encoded, noise):
    clean = model.final_states(encoded)
    for layer, reaches in ((0, True), (1, True), (2, False)):
        neurons = np.array([[layer, u] for u in range(3)])
        with image_noise(model, encoded, neurons, 50 * noise, "post"):
            last = model.final_states(encoded)[:, -1]
        assert torch.equal(last, clean[:, -1]) != reaches


def test_model_is_restored_bit_for_bit(model, encoded, noise):
    hooks, clean = n_hooks(model.network), model.final_states(encoded)
    weights = {name: weight.clone() for name, weight in model.network.state_dict().items()}
    with image_noise(model, encoded, NEURONS, noise, "act"):
        assert not torch.equal(model.final_states(encoded), clean)
    assert torch.equal(model.final_states(encoded), clean)
    with (
        pytest.raises(KeyboardInterrupt),
        image_noise(model, encoded, NEURONS, noise, "act"),
    ):
        model.final_states(encoded)
        raise KeyboardInterrupt
    assert torch.equal(model.final_states(encoded), clean)
    assert n_hooks(model.network) == hooks
    after = model.network.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())


def test_noise_of_the_wrong_batch_leaves_no_hook(model, encoded, noise):
    hooks, clean = n_hooks(model.network), model.final_states(encoded)
    with (
        pytest.raises((IndexError, RuntimeError)),
        image_noise(model, encoded, NEURONS, noise[:, :2], "act"),
    ):
        model.final_states(encoded)
    assert n_hooks(model.network) == hooks
    assert torch.equal(model.final_states(encoded), clean)


def test_no_neurons_means_no_change(model, encoded):
    clean, none = model.final_states(encoded), np.empty((0, 2), np.int64)
    with image_noise(model, encoded, none, torch.zeros(2, 0, N_TOKENS), "act"):
        assert torch.equal(model.final_states(encoded), clean)


# -------------------------------------------------------------------------------- standard_noise


def test_noise_is_standard_normal_and_named():
    values = standard_noise(1, "sample/0", 3, 200, 64, "per-position")
    assert values.shape == (200, 64)
    assert values.dtype == torch.float32
    n = values.numel()
    assert abs(float(values.mean())) < 4 / n**0.5
    assert abs(float(values.var()) - 1) < 4 * (2 / n) ** 0.5
    assert float((values.abs() < 1).float().mean()) == pytest.approx(0.6827, abs=0.02)
    assert torch.equal(values, standard_noise(1, "sample/0", 3, 200, 64, "per-position"))
    others = [
        standard_noise(*name, 200, 64, "per-position")
        for name in ((2, "sample/0", 3), (1, "sample/1", 3), (1, "sample/0", 4))
    ]
    for other in others:
        correlation = np.corrcoef(values.numpy().ravel(), other.numpy().ravel())[0, 1]
        assert abs(correlation) < 5 / n**0.5


def test_shared_noise_is_one_value_a_neuron():
    shared = standard_noise(1, "s", 0, 5000, 4, "shared")
    assert shared.shape == (5000, 4)
    assert torch.equal(shared, shared[:, :1].expand(-1, 4))
    assert float(shared[:, 0].std()) == pytest.approx(1, abs=0.04)
    assert len(shared[:, 0].unique()) > 4990
    per_position = standard_noise(1, "s", 0, 50, 4, "per-position")
    assert len(per_position.unique()) == 200
    shared += 1  # An own memory, not a broadcast view.


def test_scale_of_a_level():
    mean_square = np.array([4.0, 9.0, 0.25])
    assert layer_scale(NEURONS, "rms", mean_square).tolist() == [3, 2, 3]
    assert layer_scale(NEURONS, "absolute", mean_square).tolist() == [1, 1, 1]
    assert layer_scale(np.empty((0, 2), np.int64), "rms", mean_square).shape == (0,)
    with pytest.raises(ValueError, match="'rms' or 'absolute'"):
        layer_scale(NEURONS, "sigma", mean_square)


# --------------------------------------------------------------------------------- noisy_captions

SETTINGS = NoiseSettings([1.0, 6.0], "rms", 3, "per-position", "add", 5)
GROUPS = {"p0": "car", "p1": "bear", "p2": "car", "p3": "clock"}
MEAN_SQUARE = np.array([0.5, 2.0, 8.0])
STRONG = np.array([[layer, unit] for layer in (0, 1) for unit in range(0, 40, 2)])


def captions_under(model, image_tokens, settings=SETTINGS, batch=16, neurons=STRONG, site="act"):
    tokens = dict(zip(GROUPS, image_tokens, strict=True))
    neuron_set = NeuronSet("two_stage", "auto", 0, "s", "car", neurons)
    args = (list(GROUPS), settings, MEAN_SQUARE, site, batch, 6)
    return list(noisy_captions(model, PROMPT, tokens, GROUPS, neuron_set, *args))


def clean_captions(model, image_tokens):
    generated = model.generate(model.encode(image_tokens, fill_prompt(PROMPT)), 6)
    texts = [caption_text(model, PROMPT["prefix"], row)["caption"] for row in generated]
    return dict(zip(GROUPS, texts, strict=True))


def test_rows_of_the_noise_table(model, image_tokens):
    rows = captions_under(model, image_tokens)
    cells = [(row["picture_id"], row["level"], row["draw"]) for row in rows]
    assert cells == list(product(GROUPS, [1.0, 6.0], range(3)))
    for row in rows:
        assert list(row) == [
            "method",
            "variant",
            "seed",
            "sample_id",
            "group",
            "picture_id",
            "picture_group",
            "level",
            "draw",
            "caption",
        ]
        assert row["picture_group"] == GROUPS[row["picture_id"]]
        assert (row["method"], row["variant"], row["seed"]) == ("two_stage", "auto", 0)
        assert (row["sample_id"], row["group"]) == ("s", "car")
        assert row["caption"].startswith("The image shows a")
    clean = clean_captions(model, image_tokens)
    strong = [row for row in rows if row["level"] == 6]
    assert sum(row["caption"] != clean[row["picture_id"]] for row in strong) > len(strong) / 2


def test_batch_size_changes_no_caption(model, image_tokens):
    assert captions_under(model, image_tokens, batch=1) == captions_under(model, image_tokens)
    assert captions_under(model, image_tokens, batch=7) == captions_under(model, image_tokens)


def test_no_noise_gives_the_clean_captions(model, image_tokens):
    clean = clean_captions(model, image_tokens)
    assert len(set(clean.values())) > 1
    for rows in (
        captions_under(model, image_tokens, with_changes(SETTINGS, levels=[0])),
        captions_under(model, image_tokens, neurons=np.empty((0, 2), np.int64)),
    ):
        assert all(row["caption"] == clean[row["picture_id"]] for row in rows)


@pytest.mark.parametrize("site", ["act", "post"])
@pytest.mark.parametrize("vector", ["per-position", "shared"])
@pytest.mark.parametrize("mode", ["add", "replace"])
def test_captions_are_made_one_by_one_with_the_named_noise(model, image_tokens, site, vector, mode):
    settings = NoiseSettings([3.0], "rms", 2, vector, mode, 9)
    rows = captions_under(model, image_tokens, settings, site=site)
    rms = torch.tensor([2.0**0.5 if layer else 0.5**0.5 for layer in STRONG[:, 0]])
    for row in rows:
        place = list(GROUPS).index(row["picture_id"])
        encoded = model.encode(image_tokens[place : place + 1], fill_prompt(PROMPT))
        values = standard_noise(9, "s/0", row["draw"], len(STRONG), N_TOKENS, vector)
        with image_noise(model, encoded, STRONG, 3 * rms[:, None] * values[None], site, mode):
            generated = model.generate(encoded, 6)[0]
        assert row["caption"] == caption_text(model, PROMPT["prefix"], generated)["caption"]


def test_noise_of_a_draw_is_the_same_at_all_levels_and_pictures(model, image_tokens, monkeypatch):
    seen = []

    def keep(model, encoded, neurons, noise, site, mode):
        seen.append(noise.clone())
        return image_noise(model, encoded, neurons, noise, site, mode)

    monkeypatch.setattr("mmneurons.interventions.noisy_captions.image_noise", keep)
    captions_under(model, image_tokens, with_changes(SETTINGS, unit="absolute"), batch=5)
    together = torch.cat(seen).view(4, 2, 3, len(STRONG), N_TOKENS)  # picture, level, draw
    assert torch.equal(together, together[:1].expand_as(together))
    torch.testing.assert_close(together[:, 1], 6 * together[:, 0])
    assert not torch.equal(together[0, 0, 0], together[0, 0, 1])


# ------------------------------------------------------------------------- what is captioned


def samples_table():
    return pd.DataFrame(
        {
            "sample_id": [f"{i}-{g}" for g in ("car", "bear", "clock") for i in range(3)],
            "group": [g for g in ("car", "bear", "clock") for _ in range(3)],
        }
    )


def test_own_concept_and_some_others_are_captioned():
    samples = samples_table()
    chosen = captioned_pictures(samples, 4, seed=1)
    assert list(chosen) == samples["sample_id"].tolist()
    for sample_id, pictures in chosen.items():
        group = sample_id.split("-")[1]
        assert [p for p in pictures if p.endswith(group)] == [f"{i}-{group}" for i in range(3)]
        assert len(pictures) == len(set(pictures)) == 7
    assert len({tuple(sorted(p[3:])) for p in chosen.values()}) > 3


def test_choice_of_others_does_not_depend_on_the_order_of_the_table():
    samples = samples_table()
    chosen = captioned_pictures(samples, 4, seed=1)
    shuffled = captioned_pictures(samples.sample(frac=1, random_state=0), 4, seed=1)
    assert {k: set(v) for k, v in chosen.items()} == {k: set(v) for k, v in shuffled.items()}
    assert captioned_pictures(samples, 4, seed=2) != chosen
    # More of them begin with the fewer.
    more = captioned_pictures(samples, 6, seed=1)
    assert all(more[name][:7] == chosen[name] for name in chosen)
    assert all(len(pictures) == 3 + 6 for pictures in more.values())


def test_neuron_sets_of_a_table():
    table = pd.DataFrame(
        {
            "sample_id": ["b", "b", "a"],
            "group": ["car", "car", "bear"],
            "layer": [1, 0, 2],
            "unit": [5, 6, 7],
        }
    )
    sets = list(neuron_sets("attribution", "no-last", table))
    assert [(s.method, s.variant, s.seed, s.sample_id, s.group) for s in sets] == [
        ("attribution", "no-last", 0, "b", "car"),
        ("attribution", "no-last", 0, "a", "bear"),
    ]
    assert sets[0].neurons.tolist() == [[1, 5], [0, 6]]
    seeded = list(neuron_sets("random", "matched", table.assign(seed=[3, 4, 3])))
    assert [(s.sample_id, s.seed, s.neurons.tolist()) for s in seeded] == [
        ("b", 3, [[1, 5]]),
        ("b", 4, [[0, 6]]),
        ("a", 3, [[2, 7]]),
    ]
    assert list(neuron_sets("two_stage", "auto", table.iloc[:0])) == []
