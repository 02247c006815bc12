"""The scores of every method at once, against each method's own module and by second ways."""

import dataclasses

import family_kit
import llava_next_world
import numpy as np
import pytest
import torch
from conftest import IDS, n_hooks
from PIL import Image

from mmneurons.methods.dape import select_domain_neurons
from mmneurons.methods.dape_concepts import concept_scores, sample_scores
from mmneurons.methods.selection import top_units
from mmneurons.methods.thresholds import NEVER, entry_scores, tail_thresholds
from mmneurons.methods.two_stage import select
from mmneurons.probe.counts import ActivationCounter
from mmneurons.probe.every_method import METHODS, batches, record_case_scores
from mmneurons.probe.hooks import record
from mmneurons.probe.two_stage import Case, record_group

PROMPT = "[INST] <Img><ImageHere></Img> Describe [/INST] The image shows a"
SITES = ["act", "post"]
PREFIXES = [["red"], [], ["old", "teddy"], ["an", "old"], ["red"]]
TARGETS = ["car", "bear", "bear", "clock", "banana"]


@pytest.fixture(scope="module")
def cases(pictures):
    words = zip(PREFIXES, TARGETS, strict=True)
    return [
        Case(pictures[n], pictures[n + 5], [IDS[word] for word in prefix], IDS[target])
        for n, (prefix, target) in enumerate(words)
    ]


@pytest.fixture(scope="module")
def scores(model, cases):
    return record_case_scores(model, PROMPT, cases, SITES, 16)


# ------------------------------------------------------------------------- two-stage as one score


@pytest.mark.parametrize("ties", [False, True])
def test_the_order_of_scores_is_that_in_which_neurons_are_selected(ties):
    rng = np.random.default_rng(3)
    for _ in range(5):
        difference, gradact = rng.normal(size=(2, 3, 17))
        if ties:
            difference, gradact = difference.round(1), gradact.round(1)
        scores = entry_scores(difference, gradact)
        n = difference.size
        before = np.zeros(difference.shape, bool)
        # Shares between those at which something may happen, from none to more than all.
        for alpha in (np.arange(n) + 0.5) / (n - 1):
            share = min(alpha, 1.0)
            selected = select(difference, gradact, *tail_thresholds(difference, gradact, share))
            assert np.array_equal(selected, scores >= -share)
            assert (selected | ~before).all()
            before = selected
        assert np.array_equal(scores == NEVER, ~before)
        # The best k are what is selected where k are selected.
        k = int(select(difference, gradact, *tail_thresholds(difference, gradact, 0.5)).sum())
        best = {tuple(pair) for pair in top_units(scores, k).tolist()}
        taken = select(difference, gradact, *tail_thresholds(difference, gradact, 0.5))
        assert best == {tuple(pair) for pair in np.argwhere(taken).tolist()}


def test_entry_by_hand():
    """Five neurons of two layers; the third layer reaches nothing and counts nowhere."""
    difference = np.array([[5.0, 4.0, 3.0], [2.0, 1.0, 1.0], [9.0, 9.0, 9.0]])
    gradact = np.array([[1.0, 3.0, -1.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    # Of six: not below 5, 4, 3, 2, 1, 1 are 1, 2, 3, 4, 6, 6 by difference, so shares m / 5; by
    # gradient 4, 2, -, 3, 1, -. The larger share counts; the lowest difference exceeds nothing.
    expected = [[-4 / 5, -2 / 5, NEVER], [-4 / 5, NEVER, NEVER], [NEVER] * 3]
    assert entry_scores(difference, gradact, [2]).tolist() == expected
    with pytest.raises(ValueError, match="not-a-number"):
        entry_scores(np.array([[np.nan, 1.0]]), np.array([[1.0, 1.0]]))


# ---------------------------------------------------------------------------------- the recording


def test_scores_of_the_two_stage_recording(model, cases, scores):
    """Same attribution and statistics, and two-stage scores from its maxima, bit for bit."""
    group = record_group(model, PROMPT, cases, SITES, 10, 16)
    assert np.array_equal(scores.values["attribution.mean"], group["attribution"])
    assert np.array_equal(scores.logits, group["logit"])
    for site in SITES:
        assert np.array_equal(scores.mean_square[site], group[f"{site}/mean_square"])
        maxima = zip(group[f"{site}/difference"], group[f"{site}/gradact"], strict=True)
        expected = np.stack([entry_scores(d, g, [2]) for d, g in maxima])
        assert np.array_equal(scores.values[f"two_stage.{site}"], expected.astype(np.float32))


def test_scores_of_each_sample_from_plain_passes(model, cases, scores):
    """One sample at a time, with autograd and matrices written out."""
    table = model.decoder.lm_head.weight
    for n, case in enumerate(cases):
        tokens = model.embed_pictures([case.original])
        encoded = model.encode(tokens, PROMPT, [case.prefix_tokens])
        encoded = dataclasses.replace(encoded, embeds=encoded.embeds.clone().requires_grad_(True))
        with torch.enable_grad(), record(model.sites("language"), ["pre", "act", "post"]) as passed:
            logits = model.logits(model.final_states(encoded))[0]
        logit = logits[-1, case.target_token]
        gradients = torch.autograd.grad(logit, passed["pre"])
        last = encoded.prompt_end - 1
        for layer, ffn in enumerate(model.sites("language")):
            z = (passed["pre"][layer] * gradients[layer])[0, encoded.image[0]]
            close(scores.values["attribution.max"][n, layer], z.max(dim=0).values)
            close(scores.values["attribution.mean"][n, layer], z.mean(dim=0))
            column = ffn.output.weight.T @ table[case.target_token]
            for site in SITES:
                here = passed[site][layer][0]
                close(scores.values[f"activation.{site}"][n, layer], here[-1])
                close(scores.values[f"activation_last.{site}"][n, layer], here[last])
                close(scores.values[f"contribution.{site}"][n, layer], here[-1] * column)
            active = passed["act"][layer][0] > 0
            image = encoded.image_mask[0]
            text = ~image & (torch.arange(len(image)) <= last)
            assert scores.counts["image"][n, layer].tolist() == active[image].sum(0).tolist()
            assert scores.counts["text"][n, layer].tolist() == active[text].sum(0).tolist()
            assert [scores.tokens["image"][n], scores.tokens["text"][n]] == [16, int(text.sum())]


def close(got, expected):
    expected = expected.detach().numpy()
    np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max(), rtol=1e-4)


def test_counts_are_those_of_the_counter_of_domains(model, cases, scores):
    counter = ActivationCounter(model)
    found = counter.count([case.original for case in cases], [PROMPT] * len(cases))
    both = scores.counts["image"] + scores.counts["text"]
    assert np.array_equal(both.reshape(len(cases), -1), found.counts["language"].numpy())
    tokens = scores.tokens["image"] + scores.tokens["text"]
    assert tokens.tolist() == found.tokens["language"].tolist()


def test_names_types_and_hooks(model, cases, scores):
    by_site = ("activation_last", "activation", "contribution", "two_stage")
    names = {f"{name}.{site}" for name in by_site for site in SITES}
    assert set(scores.values) == names | {"attribution.max", "attribution.mean"}
    assert {(v.shape, str(v.dtype)) for v in scores.values.values()} == {((5, 3, 40), "float32")}
    assert {str(v.dtype) for v in scores.counts.values()} == {"int32"}
    before = n_hooks(model.network)
    with pytest.raises(ValueError, match="no such method: guess"):
        record_case_scores(model, PROMPT, cases[:1], SITES, 1, methods=["guess"])
    assert n_hooks(model.network) == before


@pytest.mark.parametrize("method", METHODS)
def test_a_method_alone_has_the_same_scores(model, cases, scores, method):
    alone = record_case_scores(model, PROMPT, cases, SITES, 16, methods=[method])
    for name, values in alone.values.items():
        assert name.startswith(method)
        assert np.array_equal(values, scores.values[name])
    expected = {name for name in scores.values if name.startswith(method)}
    assert set(alone.values) == expected
    assert bool(alone.counts) == (method == "dape")


def test_image_tokens_in_another_order(model, cases, scores):
    """The order of nothing changed is no change; another one is that of the model's own tokens."""
    same = record_case_scores(
        model, PROMPT, cases, SITES, 16, orders=[torch.arange(16)] * len(cases)
    )
    for name, values in scores.values.items():
        assert np.array_equal(same.values[name], values)
    order = torch.arange(16).flip(0)
    turned = record_case_scores(model, PROMPT, cases, SITES, 16, orders=[order] * len(cases))
    case = cases[0]
    tokens = model.embed_pictures([case.original])[:, order]
    with record(model.sites("language"), ["act"]) as passed:
        model.final_states(model.encode(tokens, PROMPT, [case.prefix_tokens]))
    got = turned.values["activation.act"][0]
    close(got, torch.stack([layer[0, -1] for layer in passed["act"]]))
    assert np.abs(got - scores.values["activation.act"][0]).max() > 1e-3


# -------------------------------------------------------------------------------- every family


@pytest.mark.parametrize("family", family_kit.CASES)
def test_pictures_of_any_family_go_through(family):
    """Of different sizes, so that some have more image tokens, in batches and each alone."""
    model = family_kit.CASES[family].build()
    prompt = family_kit.CASES[family].prompts[0]
    rng = np.random.default_rng(2)
    sizes = [(40, 10), (40, 10), (32, 32), (20, 30), (20, 30)]
    pictures = [
        Image.fromarray(rng.integers(0, 256, (2, h, w, 3), dtype=np.uint8)[n % 2])
        for n, (w, h) in enumerate(sizes)
    ]
    rows = zip(pictures, [[5, 6], [], [7], [], [5]], strict=True)
    cases = [Case(picture, picture.rotate(180), prefix, 8) for picture, prefix in rows]
    cut = batches(model, cases, 2)
    assert [place for own in cut for place in own] == list(range(5))
    assert max(map(len, cut)) == 2
    together = record_case_scores(model, prompt, cases, SITES, 2)
    for n, case in enumerate(cases):
        alone = record_case_scores(model, prompt, [case], SITES, 2)
        for name, values in together.values.items():
            if name.startswith("two_stage"):
                continue  # ranks of values that differ in their last digit
            scale = np.abs(values).max()
            np.testing.assert_allclose(
                values[n], alone.values[name][0], atol=3e-5 * scale, rtol=1e-3
            )
        assert together.tokens["image"][n] == model.n_image_tokens(case.original.size)
        assert alone.tokens["text"][0] == together.tokens["text"][n]


def test_pictures_with_different_numbers_of_tokens_are_no_batch():
    model = llava_next_world.build()
    wide, square = Image.new("RGB", (40, 10)), Image.new("RGB", (32, 32))
    cases = [Case(p, p, [], 8) for p in (wide, wide, square, wide, square, square, square)]
    assert batches(model, cases, 2) == [[0, 1], [2], [3], [4, 5], [6]]


# ---------------------------------------------------------------------- dape, concepts as domains


def test_units_of_concepts_are_those_that_the_domain_method_selects():
    rng = np.random.default_rng(11)
    groups = ["bear", "bus", "cake", "dog"]
    counts = rng.integers(0, 30, (4, 60))
    counts[1, [3, 40]] = 29, 28
    counts[[0, 2, 3], 3] = 0
    tokens = np.array([30, 31, 30, 32])
    for variant in ("released", "paper"):
        scores = concept_scores(counts, tokens, percentile=90, variant=variant)
        table, facts = select_domain_neurons(
            {"m": counts}, {"m": tokens}, {"m": [20, 20, 20]}, groups,
            share=1.0, percentile=90, variant=variant,
        )  # fmt: skip
        assert facts["bar"]["m"] is not None
        for place, group in enumerate(groups):
            own = table[table["group"] == group]
            expected = list(zip(own["layer"], own["unit"], strict=True))
            shaped = scores[place].reshape(3, 20)
            best = top_units(shaped, int((shaped > -np.inf).sum()))
            assert list(map(tuple, best.tolist())) == expected
            assert len(expected) > 0
    assert concept_scores(counts, tokens, percentile=90)[1, 3] == 0  # active for buses alone


def test_one_sample_of_a_concept_against_all_of_the_others():
    rng = np.random.default_rng(12)
    counts = rng.integers(0, 10, (5, 30))
    tokens = np.array([10, 11, 12, 10, 11])
    groups = np.array(["a", "b", "a", "b", "c"])
    scores = sample_scores(counts, tokens, groups, percentile=80)
    pooled = np.stack([counts[2], counts[1] + counts[3], counts[4]])
    expected = concept_scores(pooled, np.array([12, 21, 11]), percentile=80)[0]
    assert np.array_equal(scores[2], expected)
    # A concept with one sample: the same as from all of it.
    whole = np.stack([counts[0] + counts[2], counts[1] + counts[3], counts[4]])
    assert np.array_equal(
        scores[4], concept_scores(whole, np.array([22, 21, 11]), percentile=80)[2]
    )
