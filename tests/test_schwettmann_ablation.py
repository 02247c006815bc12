"""Ablation of Schwettmann et al. 2023 against weights that are zeroed by hand, and its measures."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import IDS, build_network, n_hooks

from mmneurons.interventions.ablation import Case, Trial, ablate, plan_ablation
from mmneurons.interventions.deactivate import deactivated
from mmneurons.metrics.ablation import ablation_table, with_similarity
from mmneurons.models.captions import caption_text, fill_prompt
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.probe.hooks import replace

PROMPT = {
    "template": "[INST] <Img><ImageHere></Img> {instruction} [/INST] {prefix}",
    "instruction": "Describe this image in detail.",
    "prefix": "The image shows a",
}
TEXT = fill_prompt(PROMPT)
LAYERS = {0: 40, 1: 40, 2: 40}


def ranked(n=30, seed=0, share=0.6):
    """A picture's ranking, units of three layers of 40, no unit twice."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(120)[:n]
    return pd.DataFrame(
        {
            "sample_id": "p0",
            "group": "thing",
            "module": "language",
            "layer": places // 40,
            "unit": places % 40,
            "rank": np.arange(n),
            "interpretable": rng.random(n) < share,
        }
    ).sample(frac=1, random_state=1)


def pairs(table):
    return list(zip(table["layer"], table["unit"], strict=True))


def test_trials_are_the_best_units_and_as_many_of_the_same_layers():
    units = ranked(share=0.9)
    trials, left_out = plan_ablation(units, [4, 16], LAYERS, 2, seed=3)
    assert [(t.condition, t.seed, t.k) for t in trials[:4]] == [
        ("all", 0, 0),
        ("interpretable", 0, 0),
        ("random", 0, 0),
        ("random", 1, 0),
    ]
    by = {(t.condition, t.seed, t.k): t.neurons for t in trials}
    in_order = units.sort_values("rank")
    assert pairs(by["all", 0, 16]) == pairs(in_order)[:16]
    assert pairs(by["interpretable", 0, 4]) == pairs(in_order[in_order["interpretable"]])[:4]
    for seed in (0, 1):
        drawn, best = by["random", seed, 16], by["all", 0, 16]
        assert sorted(drawn["layer"]) == sorted(best["layer"])
        assert len(set(pairs(drawn))) == 16 and not set(pairs(drawn)) & set(pairs(best))
    assert pairs(by["random", 0, 16]) != pairs(by["random", 1, 16])
    assert all(by[condition, 0, 0].empty for condition in ("all", "interpretable", "random"))
    assert not left_out


def test_too_few_interpretable_units_are_said():
    units = ranked(share=0.3)
    trials, left_out = plan_ablation(units, [4, 16], LAYERS, 1, seed=3)
    assert ("interpretable", 16) not in {(t.condition, t.k) for t in trials}
    (row,) = left_out
    assert (row["reason"], row["sample_id"]) == ("too-few-units", "p0")
    assert row["detail"].endswith("among 30 ranked, 16 wanted")
    with pytest.raises(ValueError, match="30 ranked units, 31"):
        plan_ablation(units, [31], LAYERS, 1, seed=3)


@pytest.fixture(scope="module")
def own(tokenizer):
    """A model whose weights a test may change."""
    return MiniGPT4(build_network(0), tokenizer, "cpu")


@pytest.fixture(scope="module")
def cases(model, pictures):
    trials, _ = plan_ablation(ranked(60), [8, 30], LAYERS, 1, seed=3)
    tokens = model.embed_pictures(pictures[:2], TEXT)
    prefixes = [[IDS["red"], IDS["car"]], [IDS["bear"]]]
    targets = [IDS["grass"], IDS["on"]]
    return [Case(f"p{n}", "thing", tokens[n], prefixes[n], targets[n], trials) for n in range(2)]


def probability_and_caption(model, case):
    """By hand: one picture alone, no hook of ours."""
    encoded = model.encode(case.image_tokens[None], TEXT, [case.prefix])
    logits = model.logits(model.final_states(encoded))[0, -1].double()
    generated = model.generate(model.encode(case.image_tokens[None], TEXT), 8)
    caption = caption_text(model, PROMPT["prefix"], generated[0])["caption"]
    return (logits.exp() / logits.exp().sum())[case.token].item(), caption


def test_ablation_is_that_of_zeroed_columns(model, own, cases):
    """act = 0 silences a unit as zeros in its column of the output projection do."""
    rows = ablate(model, PROMPT, cases, 8, "all", batch_size=7)
    assert len(rows) == sum(len(case.trials) for case in cases)
    weights = {key: value.clone() for key, value in own.network.state_dict().items()}
    found = iter(rows)
    changed = set()
    for case in cases:
        for trial in case.trials:
            own.network.load_state_dict(weights)
            with torch.no_grad():
                for layer, unit in pairs(trial.neurons):
                    own.sites("language")[layer].output.weight[:, unit] = 0
            probability, caption = probability_and_caption(own, case)
            row = next(found)
            assert row["probability"] == pytest.approx(probability, rel=1e-3)
            assert row["caption"] == caption
            named = (row["picture_id"], row["condition"], row["seed"], row["k"])
            assert named == (case.picture_id, trial.condition, trial.seed, trial.k)
            changed.add(round(probability, 9))
    own.network.load_state_dict(weights)
    assert len(changed) > 8  # the ablations differ from each other


def test_ablation_at_image_tokens_leaves_all_others_alone(model, cases):
    case = cases[0]
    trial = next(t for t in case.trials if (t.condition, t.k) == ("all", 30))
    one = case._replace(trials=[trial])
    (row,) = ablate(model, PROMPT, [one], 8, "image", batch_size=4)
    encoded = model.encode(case.image_tokens[None], TEXT, [case.prefix])
    image = encoded.image[0]

    def change(site, tensor):
        moved = tensor.clone()
        for layer, unit in pairs(trial.neurons):
            if layer == site.layer:
                moved[0, image, unit] = 0
        return moved

    with torch.no_grad(), replace(model.sites("language"), "act", change):
        logits = model.logits(model.final_states(encoded))[0, -1].double()
    expected = (logits.exp() / logits.exp().sum())[case.token].item()
    assert row["probability"] == pytest.approx(expected, rel=1e-4)
    (everywhere,) = ablate(model, PROMPT, [one], 8, "all", batch_size=4)
    assert everywhere["probability"] != pytest.approx(expected, rel=1e-3)


def test_cached_steps_behind_the_prompt_are_left_alone(model, cases):
    """Of a generation only the pass over the prompt has image tokens."""
    case, seen = cases[0], []
    neurons = pd.DataFrame({"module": "language", "layer": 0, "unit": np.arange(40)})
    encoded = model.encode(case.image_tokens[None], TEXT)

    def look(_site, tensor):
        seen.append(tensor.detach().clone())
        return tensor

    site = model.sites("language")[0]
    with deactivated(model, [neurons], where=encoded.image_mask):
        with replace([site], "act", look):
            model.generate(encoded, 4)
    first, *steps = seen
    assert (first[0][encoded.image_mask[0]] == 0).all()
    assert (first[0][~encoded.image_mask[0]] != 0).any(dim=-1).all()
    assert len(steps) >= 3 and all((step != 0).any() for step in steps)


def test_afterwards_everything_is_as_it_was(model, cases):
    encoded = model.encode(cases[0].image_tokens[None], TEXT, [cases[0].prefix])
    with torch.no_grad():
        before = model.final_states(encoded)
        ablate(model, PROMPT, cases, 8, "all", batch_size=5)
        assert torch.equal(before, model.final_states(encoded))
    assert n_hooks(model.network) == 0


def test_batches_do_not_matter(model, cases):
    one, many = (ablate(model, PROMPT, cases, 8, "all", batch_size=n) for n in (1, 50))
    for a, b in zip(one, many, strict=True):
        assert a["probability"] == pytest.approx(b["probability"], rel=1e-4)
        assert a | {"probability": 0} == b | {"probability": 0}


def test_the_baseline_is_computed_once(model, cases, monkeypatch):
    encoded = []
    original = model.encode
    monkeypatch.setattr(
        model, "encode", lambda tokens, *a: encoded.append(tokens) or original(tokens, *a)
    )
    none = [Trial(name, seed, 0, ranked().head(0)) for name, seed in (("all", 0), ("random", 1))]
    rows = ablate(model, PROMPT, [cases[0]._replace(trials=none)], 8, "all", batch_size=5)
    assert [len(tokens) for tokens in encoded] == [1, 1]  # forced and free
    assert rows[0]["probability"] == rows[1]["probability"]


# ------------------------------------------------------------------------------------- measures


def measured():
    """Two pictures, probabilities 0.8 and 0.4 at first, which two units halve for the second."""
    values = {
        ("a", "all"): (0.8, 0.4),
        ("b", "all"): (0.4, 0.1),
        ("a", "random"): (0.8, [0.8, 0.4]),
        ("b", "random"): (0.4, [0.4, 0.4]),
    }
    rows = []
    for (picture, condition), (before, after) in values.items():
        for seed, value in enumerate(np.atleast_1d(after)):
            for k, probability in ((0, before), (2, value)):
                caption = f"A picture of {picture}" + (" and more" if k else "")
                rows.append((picture, "thing", condition, seed, k, probability, caption))
    columns = ["picture_id", "group", "condition", "seed", "k", "probability", "caption"]
    return pd.DataFrame(rows, columns=columns)


def test_similarity_is_to_the_picture_own_caption_without_the_prefix():
    asked = []

    def similarity(candidates, references):
        asked.extend(zip(candidates, references, strict=True))
        return np.array(
            [1.0 if a == b else 0.25 for a, b in zip(candidates, references, strict=True)]
        )

    scored = with_similarity(measured(), "A picture of", similarity)
    assert sorted(asked) == [("a", "a"), ("a and more", "a"), ("b", "b"), ("b and more", "b")]
    assert scored["bertscore"].tolist() == np.where(scored["k"] == 0, 1, 0.25).tolist()


def test_the_table_of_ablations_by_hand():
    scored = with_similarity(measured(), "A picture of", lambda a, b: np.full(len(a), 0.5))
    table = ablation_table(scored).set_index(["condition", "k"])
    assert table.loc[("all", 0), "probability"] == pytest.approx(0.6)
    assert table.loc[("all", 2), "probability"] == pytest.approx(0.25)
    assert table.loc[("all", 2), "relative"] == pytest.approx((0.5 + 0.25) / 2)
    # Seeds first, pictures second: 0.6 / 0.8 and 1.
    assert table.loc[("random", 2), "relative"] == pytest.approx((0.75 + 1) / 2)
    assert table.loc[("random", 2), "n"] == 2
    assert table.loc[("all", 2), ["relative_low", "relative_high"]].tolist() == [0.25, 0.5]
    assert (table["relative"].loc[:, 0] == 1).all()
