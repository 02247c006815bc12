"""Counting, budgets, the logit lens and deactivation, against plain loops over plain passes."""

import copy

import llava_next_world
import numpy as np
import pandas as pd
import pytest
import qwen_world
import test_instructblip
import torch
from conftest import n_hooks
from PIL import Image

from mmneurons.artifacts.counts import CountsWriter, merge_sample_counts, total_counts
from mmneurons.interventions.deactivate import conditions, deactivated
from mmneurons.interventions.replies import (
    OVER,
    Asked,
    _Made,
    deviation,
    plan_trials,
    reply_under,
)
from mmneurons.models.base import GREEDY, Decoding
from mmneurons.models.questions import question_prompt
from mmneurons.probe.budget import within_budget
from mmneurons.probe.counts import ActivationCounter
from mmneurons.probe.domains import GroupCounts, read_questions
from mmneurons.probe.hooks import record
from mmneurons.probe.lens import read_stream


def next_prompts():
    return [llava_next_world.SHORT, llava_next_world.LONG, llava_next_world.LONG]


@pytest.fixture(scope="module", params=["llava_next", "instructblip", "qwen2_5_vl"])
def case(request):
    """A model, three pictures of different shapes and prompts of different lengths."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(5)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        for w, h in [(40, 10), (32, 32), (20, 30)]
    ]
    if request.param == "llava_next":
        return llava_next_world.build(), pictures, next_prompts()
    if request.param == "qwen2_5_vl":
        return qwen_world.build(), pictures, [qwen_world.SHORT, qwen_world.LONG, qwen_world.LONG]
    blip = test_instructblip.build()
    return (
        blip,
        pictures,
        [test_instructblip.SHORT, test_instructblip.LONG, test_instructblip.SHORT],
    )


def counted_alone(model, picture, prompt):
    """Active positions of each unit and positions in all, of one picture without any padding."""
    modules = [m for m in ("vision", "projector", "qformer.query", "qformer.text", "language")]
    sites = [site for module in modules for site in model.sites(module)]
    with record(sites, ["act"]) as recorded:
        model.final_states(model.encode(model.embed_pictures([picture], [prompt]), [prompt]))
    counts, tokens = {}, {}
    for site, act in zip(sites, recorded["act"], strict=True):
        flat = act.flatten(0, -2)
        counts.setdefault(site.module, []).extend(
            (flat[:, u] > 0).sum().item() for u in range(flat.shape[1])
        )
        tokens[site.module] = len(flat)
    return counts, tokens


# ------------------------------------------------------------------------------------ counting


def test_counts_of_a_padded_batch_are_those_of_each_picture_alone(case):
    model, pictures, prompts = case
    counter = ActivationCounter(model)
    counter.count(pictures, prompts)  # transformers puts hooks of its own in at the first pass
    before = n_hooks(model.network)
    found = counter.count(pictures, prompts)
    assert n_hooks(model.network) == before
    assert len({model.n_tokens(q, p.size) for q, p in zip(prompts, pictures, strict=True)}) > 1
    for row, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        counts, tokens = counted_alone(model, picture, prompt)
        assert {m: int(n[row]) for m, n in found.tokens.items()} == tokens
        assert {m: c[row].tolist() for m, c in found.counts.items()} == counts
        assert tokens["language"] == model.n_tokens(prompt, picture.size)
    assert counter.layers == {m: [site.n_units for site in model.sites(m)] for m in found.counts}


def test_counting_again_gives_the_same_whatever_stood_in_the_buffers(case):
    model, pictures, prompts = case
    counter = ActivationCounter(model)
    first = counter.count(pictures, prompts)
    counter.count(pictures[:1], prompts[:1])
    counter.count(pictures[::-1], prompts[::-1])
    again = counter.count(pictures, prompts)
    for module in first.counts:
        assert torch.equal(first.counts[module], again.counts[module])


@pytest.fixture(scope="module")
def counted_samples(case):
    """Seven samples, (group, picture, prompt), and what each has alone.

    In double precision: the last digit of a pass hangs on the size of its batch, and no activation
    is to lie so near zero that this digit decides.
    """
    model, pictures, prompts = copy.deepcopy(case[0]), case[1], case[2]
    model.network.double()
    rng = np.random.default_rng(6)
    sizes = [(17, 50), (16, 16), (33, 29), (50, 20)]
    pixels = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in sizes]
    pictures = [*pictures, *map(Image.fromarray, pixels)]
    samples = {
        f"s{n}": ("xyz"[n % 3], picture, prompts[n * n % 3]) for n, picture in enumerate(pictures)
    }
    return model, samples, {s: counted_alone(model, *own[1:]) for s, own in samples.items()}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batches_and_order_give_the_same_counts(counted_samples, tmp_path, batch, seed):
    """From the model to the sums: of samples and of groups, kept in one to three shards."""
    model, samples, alone = counted_samples
    rng = np.random.default_rng([batch, seed])
    order = [list(samples)[i] for i in rng.permutation(len(samples))]
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    counter, by_group = ActivationCounter(model), GroupCounts()
    shards = [tmp_path / f"{shard}.parquet" for shard in range(1 + seed % 3)]
    for shard, path in enumerate(shards):
        with CountsWriter(path, counter.layers, {"groups": list("xyz")}) as writer:
            for ids in batches[shard :: len(shards)]:
                groups, pictures, prompts = zip(*(samples[s] for s in ids), strict=True)
                found = counter.count(pictures, prompts)
                for row, sample in enumerate(ids):
                    counts, tokens = alone[sample]
                    assert {m: int(n[row]) for m, n in found.tokens.items()} == tokens
                    assert {m: c[row].tolist() for m, c in found.counts.items()} == counts
                writer.add(ids, groups, [1] * len(ids), found.tokens, found.counts)
                by_group.add(groups, found)
    merge_sample_counts(shards, tmp_path / "merged.parquet", list(samples))
    total = total_counts(tmp_path / "merged.parquet", list("xyz"))
    for place, group in enumerate("xyz"):
        own = [alone[s] for s, (of, _, _) in samples.items() if of == group]
        for module in counter.layers:
            summed = np.sum([counts[module] for counts, _ in own], axis=0)
            assert total.counts[module][place].tolist() == summed.tolist()
            assert total.tokens[module][place] == sum(tokens[module] for _, tokens in own)
    with CountsWriter(tmp_path / "groups.parquet", counter.layers) as writer:
        writer.add(*by_group.rows())
    again = total_counts(tmp_path / "groups.parquet", list("xyz"))
    for one, other in ((total.counts, again.counts), (total.tokens, again.tokens)):
        assert all(np.array_equal(one[module], other[module]) for module in counter.layers)
    assert total.n_samples.tolist() == again.n_samples.tolist() == [3, 2, 2]


def test_embeddings_are_the_towers_pooled_states(case):
    model, pictures, prompts = case
    found = ActivationCounter(model).count(pictures, prompts).embeddings
    if model.image_encoder() is None:
        assert found is None and model.family == "qwen2_5_vl"  # its tower pools nothing
        return
    for picture, embedding in zip(pictures, found, strict=True):
        pixels = model.preprocess([picture])
        first = pixels.pixels[0, :1] if hasattr(pixels, "pixels") else pixels
        pooled = model.image_encoder()(first).pooler_output[0]
        torch.testing.assert_close(embedding, pooled, atol=1e-5, rtol=1e-4)


def test_groups_add_up_to_their_samples(case):
    model, pictures, prompts = case
    counter, groups = ActivationCounter(model), ["b", "a", "b"]
    found = counter.count(pictures, prompts)
    sums = GroupCounts()
    sums.add(groups, found)
    sums.add(["a"], counter.count(pictures[:1], prompts[:1]))
    names, group, n, tokens, counts = sums.rows()
    assert (names, group, n) == (["", ""], ["b", "a"], [2, 2])
    for module, values in found.counts.items():
        expected = torch.stack([values[0] + values[2], values[1] + values[0]])
        assert counts[module].tolist() == expected.tolist()
        assert tokens[module].tolist() == [
            int(found.tokens[module][[0, 2]].sum()),
            int(found.tokens[module][[1, 0]].sum()),
        ]


# -------------------------------------------------------------------------------------- budget


def test_budget_takes_questions_until_it_is_reached():
    questions = pd.DataFrame(
        {
            "sample_id": list("abcdefg"),
            "group": ["x", "x", "x", "y", "y", "y", "z"],
            "order": [0, 1, 2, 2, 1, 0, 0],
            "n_tokens": [10, 10, 10, 30, 4, 4, 12],
        }
    )
    kept, budget, short = within_budget(questions, None)
    assert budget == 12  # z's
    assert kept["sample_id"].tolist() == ["a", "b", "d", "e", "f", "g"]
    assert short == []
    kept, budget, short = within_budget(questions, 25)
    assert budget == 25
    assert kept["sample_id"].tolist() == list("abcdefg")
    assert [(row["group"], row["reason"]) for row in short] == [("z", "fewer-tokens")]
    assert "12 tokens" in short[0]["detail"]
    kept, *_ = within_budget(questions.sample(frac=1, random_state=0), 5)
    assert sorted(kept["sample_id"]) == ["a", "e", "f", "g"]


# ------------------------------------------------------------------------------- the logit lens


def test_lens_is_the_unembedding_of_every_layers_states(case):
    model, pictures, prompts = case
    before = n_hooks(model.network)
    encoded = model.encode(model.embed_pictures(pictures, prompts), prompts)
    last = encoded.prompt_end - 1
    reading = read_stream(model, encoded, [(0, last), (2, last - 1)], 3)
    assert n_hooks(model.network) == before
    # transformers' own hidden states; of the last layer it keeps those after the norm only.
    states = model.decoder.model(
        inputs_embeds=encoded.embeds,
        attention_mask=encoded.mask,
        output_hidden_states=True,
        **({"position_ids": encoded.position_ids} | model.decoder_inputs(encoded)),
    ).hidden_states
    assert len(states) == len(reading.entropy) == len(model.sites("language")) + 1
    norm, head = model.final_norm(), model.unembedding()
    for layer, hidden in enumerate(states):
        normed = hidden if layer == len(states) - 1 else norm(hidden)
        logits = normed.double() @ head.double().T
        chances = logits.softmax(dim=-1)
        entropy = torch.distributions.Categorical(logits=logits).entropy()
        for row in range(len(pictures)):
            image = encoded.image_mask[row]
            text = (encoded.mask[row] > 0) & ~image
            wanted = torch.stack([entropy[row, image].mean(), entropy[row, text].mean()])
            torch.testing.assert_close(reading.entropy[layer, row], wanted, atol=1e-5, rtol=1e-5)
            assert reading.n_tokens[row].tolist() == [int(image.sum()), int(text.sum())]
        for n, (row, place) in enumerate([(0, last), (2, last - 1)]):
            best = chances[row, place].topk(3)
            assert reading.tokens[layer, n].tolist() == best.indices.tolist()
            torch.testing.assert_close(
                reading.probabilities[layer, n].double(), best.values, atol=1e-5, rtol=1e-5
            )


def test_cases_are_followed_on_the_first_question_of_their_domain(case):
    model, pictures, prompts = case
    table = pd.DataFrame(
        {"sample_id": ["u", "v", "w"], "group": ["x", "x", "y"], "order": [0, 1, 0]}
    )
    cases = {
        "figure6": {"domain": "x", "image": 2, "text": -1},
        "figure10": {"domain": "y", "image": 10_000, "text": -2},
        "figure11": {"domain": "nowhere", "image": 1, "text": -1},
    }
    entropy, lens, missing = read_questions(model, table, pictures, prompts, cases, 2)
    layers = len(model.sites("language")) + 1
    assert len(entropy) == 3 * layers * 2
    assert {(r["sample_id"], r["item"]) for r in lens} == {("u", "figure6"), ("w", "figure10")}
    assert len(lens) == 3 * layers * 2
    assert [(m["sample_id"], m["reason"]) for m in missing] == [("w", "no-such-token")]
    assert "figure10" in missing[0]["detail"]
    encoded = model.encode(model.embed_pictures(pictures, prompts), prompts)
    start = int((encoded.mask[0] == 0).sum())
    second = int(torch.nonzero(encoded.image_mask[0])[1]) - start
    places = {r["position"].split(" of ")[0]: r["place"] for r in lens if r["item"] == "figure6"}
    assert places == {"image token 2": second, "last text token": encoded.prompt_end - 1 - start}


# --------------------------------------------------------------------------------- deactivation


def neurons_of(model, modules, n=3):
    rows = [
        {"module": module, "layer": site.layer, "unit": unit}
        for module in modules
        for site in model.sites(module)
        for unit in range(1, 1 + n)
    ]
    return pd.DataFrame(rows, columns=["module", "layer", "unit"])


def test_deactivated_is_a_model_without_these_output_rows(case):
    """In a plain FFN, zero activation is the same as a zero output row; in a gated one too."""
    model, pictures, prompts = case
    modules = [m for m in ("vision", "projector", "qformer.query", "language") if model.sites(m)]
    before = n_hooks(model.network)
    neurons = neurons_of(model, modules)

    def states():
        encoded = model.encode(model.embed_pictures(pictures, prompts), prompts)
        return model.final_states(encoded).clone()

    plain = states()
    with deactivated(model, [pd.concat([neurons, neurons])]):
        silenced = states()
    assert n_hooks(model.network) == before
    assert torch.equal(states(), plain)
    kept = []
    for row in neurons.itertuples():
        (site,) = [s for s in model.sites(row.module) if s.layer == row.layer]
        column = site.output.weight[:, row.unit]
        kept.append((column, column.clone()))
        column.zero_()
    by_weights = states()
    for column, value in reversed(kept):
        column.copy_(value)
    torch.testing.assert_close(silenced, by_weights, atol=2e-5, rtol=1e-4)
    assert (silenced - plain).abs().max() > 1e-3
    assert torch.equal(states(), plain)


def test_a_layer_that_the_model_lacks_is_an_error(case):
    model = case[0]
    unknown = pd.DataFrame({"module": ["language"], "layer": [99], "unit": [0]})
    with pytest.raises(ValueError, match="99"), deactivated(model, [unknown]):
        pass


def test_conditions_by_name():
    llava = ["vision", "projector", "language"]
    assert conditions(llava, "paper") == {
        "vision": ("vision",),
        "projector": ("projector",),
        "language": ("language",),
        "all": ("vision", "projector", "language"),
    }
    assert conditions(llava, "released")["vision"] == ("vision", "projector")
    blip = ["vision", "qformer.query", "qformer.text", "language"]
    assert conditions(blip, "released")["qformer"] == ("qformer.query", "qformer.text")


def test_replies_and_deviation_are_those_of_each_trial_by_itself(case):
    model, pictures, prompts = case
    chosen = neurons_of(model, ["vision", "language"])
    random = {0: neurons_of(model, ["language"], 5), 1: chosen.iloc[:0]}
    modules = [m for m in ("vision", "projector", "qformer.query", "language") if model.sites(m)]
    parts = conditions(modules, "paper")
    trials = plan_trials(chosen, random, parts)
    assert len(trials) == 1 + len(parts) * 3
    names = ["s0", "s1", "s2"]
    asked = [
        Asked(name, "g", picture, prompt)
        for name, picture, prompt in zip(names, pictures, prompts, strict=True)
    ]
    # Seven rows at once: trials and questions stand side by side, and parts end within a trial.
    replies, moved = reply_under(model, asked, trials, 5, GREEDY, 7)
    assert len(replies) == len(moved) == 3 * len(trials)

    def alone(neurons):
        with deactivated(model, [neurons]):
            encoded = model.encode(model.embed_pictures(pictures, prompts), prompts)
            states = model.final_states(encoded)
            return (
                [model.decode(ids).strip() for ids in model.generate(encoded, 5)],
                states,
                encoded,
            )

    none, plain, encoded = alone(chosen.iloc[:0])
    for number, trial in enumerate(trials):
        texts, states, _ = alone(trial.neurons)
        rows = replies[3 * number : 3 * number + 3]
        assert [row["reply"] for row in rows] == texts
        assert {row["n_units"] for row in rows} == {len(trial.neurons)}
        assert [row["sample_id"] for row in rows] == names
        for row, (real, before, after) in enumerate(
            zip(encoded.mask > 0, plain, states, strict=True)
        ):
            said = moved[3 * number + row]
            a, b = before[real].double().numpy(), after[real].double().numpy()
            assert said["all_tokens"] == pytest.approx(
                np.linalg.norm(b - a) / np.linalg.norm(a), abs=1e-5
            )
            ratios = np.linalg.norm(b - a, axis=1) / np.linalg.norm(a, axis=1)
            assert said["per_token"] == pytest.approx(ratios.mean(), abs=1e-5)
            assert said["last"] == pytest.approx(ratios[-1], abs=1e-5)
            image = encoded.image_mask[row][real].numpy()
            assert said["image"] == pytest.approx(ratios[image].mean(), abs=1e-5)
            assert said["text"] == pytest.approx(ratios[~image].mean(), abs=1e-5)
    assert any(row["all_tokens"] > 0.01 for row in moved)
    assert none == [row["reply"] for row in replies[:3]]


def test_beams_keep_each_row_its_own_neurons(case):
    model, pictures, prompts = case
    chosen = neurons_of(model, ["language"], 6)
    trials = plan_trials(chosen, {}, {"language": ("language",)})
    beams = Decoding("beam", num_beams=3)
    asked = [
        Asked(str(n), "g", *pair) for n, pair in enumerate(zip(pictures, prompts, strict=True))
    ]
    replies, moved = reply_under(model, asked, trials, 4, beams, 6)
    for number, trial in enumerate(trials):
        for row, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
            with deactivated(model, [trial.neurons]):
                encoded = model.encode(model.embed_pictures([picture], [prompt]), [prompt])
                (ids,) = model.generate(encoded, 4, beams)
            assert replies[3 * number + row]["reply"] == model.decode(ids).strip()
    assert all(row["all_tokens"] == 0 for row in moved[:3])
    assert all(row["all_tokens"] > 0 for row in moved[3:])


def test_deviation_by_hand():
    before = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    after = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    image = torch.tensor([True, False])
    row = deviation(_Made("", before, image), _Made("", after, image))
    assert list(row) == list(OVER)
    assert row["all_tokens"] == pytest.approx(1 / 29**0.5)
    assert (row["per_token"], row["image"], row["text"], row["last"]) == (0.25, 0, 0.5, 0.5)


# -------------------------------------------------------------------------------------- prompts


def test_prompts_are_worded_as_the_templates_say():
    wording = {"open": "<image> {role}Question: {question} A:", "choice": "{question} {options}"}
    assert question_prompt(wording, "Who {x}?", [], "R. ") == "<image> R. Question: Who {x}? A:"
    options = np.array(["A: a", "B: b's"], dtype=object)
    assert question_prompt(wording, "Q?", options, "") == """Q? ['A: a', "B: b's"]"""
