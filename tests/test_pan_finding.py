"""Pan et al.'s neurons against the float64 pass by hand and plain loops over its numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import VOCABULARY, n_hooks
from minigpt4_by_hand import ByHand

from mmneurons.artifacts.tables import read_table, write_table
from mmneurons.methods.activation import last_input_activation
from mmneurons.methods.attribution import attribution, max_over_patches
from mmneurons.methods.selection import top_units
from mmneurons.models.captions import fill_prompt, shard_of
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.registry import load_model, read_registry
from mmneurons.probe.concepts import sample_id, shuffle_order, shuffled
from mmneurons.probe.contribution import (
    NEURON_COLUMNS,
    PanSettings,
    contribution_scores,
    record_pictures,
)
from mmneurons.probe.generation import generate_recorded
from mmneurons.probe.hooks import record
from mmneurons.probe.top import RunningTop
from mmneurons.world.scene import draw_scene

REPOSITORY = Path(__file__).parents[1]
PROMPT = {
    "template": "[INST] <Img><ImageHere></Img> {instruction} [/INST] {prefix}",
    "instruction": "Describe this image",
    "prefix": "The image shows a",
}
TEXT = fill_prompt(PROMPT)
N_LAYERS, N_UNITS, N_IMAGE, N_HIDDEN = 3, 40, 16, 32
SITES = ["act", "post"]
SETTINGS = PanSettings(max_new_tokens=7, top_k=[1, 4, 20], seed=5, gradient_rows=3, n_tokens=6)


def nouns(caption, token_ids, token_ends):
    """Every other token is a noun; of a repeated one, the first. Some captions have none.

    Which words these are is beside the point here.
    """
    if sum(token_ids) % 3 == 0:
        return [], [{"reason": "no-noun", "detail": caption}]
    first = {token: place for place, token in reversed(list(enumerate(token_ids)))}
    places = sorted(place for place in first.values() if place % 2 == 0)
    rows = [
        {
            "group": VOCABULARY[token_ids[place]].lower() or "empty",
            "position": place,
            "token": token_ids[place],
            "n_tokens": 1,
            "start": token_ends[place - 1] if place else len(PROMPT["prefix"]),
            "end": token_ends[place],
        }
        for place in places
    ]
    return rows, []


@pytest.fixture(scope="module")
def by_hand(model):
    return ByHand(model.network)


@pytest.fixture(scope="module")
def files(pictures, tmp_path_factory):
    """(picture id, file) of seven pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(pictures[:7]):
        picture.save(folder / f"{number:09d}.png")
    return [(path.stem, path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def recorded(model, files):
    before = n_hooks(model.network)
    result = record_pictures(model, PROMPT, shard_of(files, 3, 0, 1), nouns, SETTINGS)
    assert n_hooks(model.network) == before
    return result


@pytest.fixture(scope="module")
def expected(model, by_hand, pictures, recorded):
    """Of each (variant, sample): values and gradients by hand, at all positions and in float64."""
    captions = recorded.tables["captions/pan"].set_index(["variant", "picture_id"])
    found = {}
    for concept in recorded.tables["captions/concepts"].itertuples():
        tokens = captions.loc[(concept.variant, concept.picture_id), "token_ids"]
        image = by_hand.tokens(model.preprocess([pictures[int(concept.picture_id)]])[0])
        if concept.variant == "shuffled":
            image = image[shuffle_order(SETTINGS.seed, concept.picture_id, N_IMAGE)]
        before, after = model.segments(TEXT)
        rows = by_hand.embeddings(before, image, [*after, *tokens[: concept.position]])
        values, gradients, _ = by_hand.with_gradients(rows, concept.token)
        found[concept.variant, concept.sample_id] = {
            "values": {k: torch.stack(v).numpy() for k, v in values.items()},
            "gradients": {k: torch.stack(g).numpy() for k, g in gradients.items()},
            "image": slice(len(before), len(before) + N_IMAGE),
            "last_input": len(before) + N_IMAGE + len(after) - 1,
            "token": concept.token,
        }
    return found


def projection_by_loops(model, layer, unit, token):
    """(W_out W_u)[i, t], the sum over the hidden numbers spelt out."""
    layers = model.network.llama_model.model.layers
    w_out = layers[layer].mlp.down_proj.weight.double().numpy()
    w_u = model.network.llama_model.lm_head.weight.double().numpy()
    return sum(w_out[d, unit] * w_u[token, d] for d in range(N_HIDDEN))


def contributions_by_loops(model, activations, token):
    """o_i (W_out W_u)[i, t] of all neurons, from activations `layers x units`."""
    scores = np.empty((N_LAYERS, N_UNITS))
    for layer in range(N_LAYERS):
        for unit in range(N_UNITS):
            scores[layer, unit] = activations[layer, unit] * projection_by_loops(
                model, layer, unit, token
            )
    return scores


def check_top(table, scores, k):
    """Rows of one sample are the k best of `layers x units`, up to rounding."""
    assert table["rank"].tolist() == list(range(k))
    scale = np.abs(scores).max()
    ordered = sorted(scores.ravel(), reverse=True)[:k]
    np.testing.assert_allclose(table["score"], ordered, atol=1e-4 * scale)
    own = scores[table["layer"], table["unit"]]
    np.testing.assert_allclose(table["score"], own, atol=1e-4 * scale)
    assert not table.duplicated(["layer", "unit"]).any()


# ----------------------------------------------------------------------------------- generation


@pytest.fixture(scope="module")
def world():
    """The tiny model that ships, its prompt and four drawn pictures."""
    entry = read_registry(REPOSITORY / "resources/models.yaml")["minigpt4-world"]
    entry.__dict__["path"] = REPOSITORY / entry.path
    prompts = yaml.safe_load((REPOSITORY / "resources/prompts.yaml").read_text())
    rng = np.random.default_rng(3)
    scenes = [draw_scene(rng).picture for _ in range(4)]
    model = load_model(entry, "cpu", "float32")
    return model, fill_prompt(prompts["minigpt4.training"]), scenes


def check_against_teacher_forced(model, pictures, prompts, generated):
    """Each row alone, unpadded and in one pass over prompt and caption."""
    for row, (picture, prompt, tokens) in enumerate(
        zip(pictures, prompts, generated.tokens, strict=True)
    ):
        encoded = model.encode(model.embed_pictures([picture]), prompt, [tokens])
        with torch.no_grad(), record(model.sites("language"), SITES) as passed:
            model.final_states(encoded)
        at = slice(encoded.prompt_end - 1, encoded.prompt_end - 1 + len(tokens))
        for kind in SITES:
            for layer, forced in zip(generated.activations[kind], passed[kind], strict=True):
                scale = forced.abs().max()
                torch.testing.assert_close(
                    layer[row, : len(tokens)] / scale, forced[0, at] / scale, atol=1e-5, rtol=0
                )


def test_generation_equals_a_teacher_forced_pass_of_the_world(world):
    model, prompt, scenes = world
    prompts = [prompt, prompt.replace("in detail", ""), prompt, prompt + " large"]
    encoded = model.encode(model.embed_pictures(scenes), prompts)
    generated = generate_recorded(model, encoded, 24, SITES)
    assert generated.tokens == model.generate(encoded, 24)
    lengths = list(map(len, generated.tokens))
    assert len(set(lengths)) > 1 and min(lengths) > 2  # rows end at different steps
    # The end token of the longest caption was generated as well.
    assert generated.activations["act"][0].shape[1] in {max(lengths) + 1, 24}
    check_against_teacher_forced(model, scenes, prompts, generated)


@pytest.fixture
def end_token(model):
    """Sets a word as the end token for the length of a test."""
    before = model.tokenizer.eos_token

    def set_token(word):
        model.tokenizer.eos_token = word

    yield set_token
    model.tokenizer.eos_token = before


def test_generation_equals_a_teacher_forced_pass_of_a_random_model(model, pictures, end_token):
    prompts = [TEXT, TEXT + " red", "[INST] <ImageHere> Describe [/INST] a", TEXT + " old teddy"]
    encoded = model.encode(model.embed_pictures(pictures[:4]), prompts)
    whole = model.generate(encoded, 12)
    # Let a word that only some captions hold be the end token.
    ends = [t for t in whole[0][2:] if any(t not in row for row in whole) and t not in whole[0][:2]]
    assert ends
    end_token(VOCABULARY[ends[0]])
    before = n_hooks(model.network)
    copy = {key: value.clone() for key, value in vars(encoded).items() if torch.is_tensor(value)}
    generated = generate_recorded(model, encoded, 12, SITES)
    assert len(set(map(len, generated.tokens))) > 1
    check_against_teacher_forced(model, pictures[:4], prompts, generated)
    assert n_hooks(model.network) == before
    assert all(torch.equal(getattr(encoded, key), value) for key, value in copy.items())


def test_of_the_prompt_only_the_last_position_stays_in_memory(model, pictures):
    encoded = model.encode(model.embed_pictures(pictures[:1]), TEXT)
    generated = generate_recorded(model, encoded, 1, SITES)
    for layer in generated.activations["act"]:
        assert layer.shape == (1, 1, N_UNITS)
        assert layer.untyped_storage().nbytes() == 4 * N_UNITS


# --------------------------------------------------------------------------------------- scores


def test_post_contributions_add_up_to_the_output_on_the_token(model, pictures):
    """Gated FFN: sum_i post_i (W_out W_u)[i, t] is the FFN's output times W_u's row of t."""
    encoded = model.encode(model.embed_pictures(pictures[:2]), TEXT)
    outputs = []
    handles = [
        layer.mlp.register_forward_hook(lambda _m, _a, output: outputs.append(output[:, -1]))
        for layer in model.decoder.model.layers
    ]
    generated = generate_recorded(model, encoded, 3, SITES)
    for handle in handles:
        handle.remove()
    rows, positions = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])
    tokens = torch.tensor([9, 11, 30])
    scores = contribution_scores(model, generated, rows, positions, tokens)
    for layer, own in enumerate(scores):
        passed = torch.stack(outputs[layer::N_LAYERS], dim=1)[rows, positions]
        direct = (passed * model.unembedding()[tokens]).sum(dim=1)
        torch.testing.assert_close(own["post"].sum(dim=1), direct, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(own["act"].sum(dim=1), direct, atol=1e-2)


@pytest.mark.parametrize("variant", ["plain", "shuffled"])
@pytest.mark.parametrize("site", SITES)
def test_contribution_is_the_papers_formula(model, recorded, expected, site, variant):
    table = recorded.tables[f"neurons/contribution.{site}.{variant}"]
    samples = [sample for own, sample in expected if own == variant]
    assert table["sample_id"].unique().tolist() == samples and len(samples) >= 6
    for sample, own in table.groupby("sample_id"):
        reference = expected[variant, sample]
        active = reference["values"][site][:, -1]  # the position that generates the token
        check_top(own, contributions_by_loops(model, active, reference["token"]), 20)


@pytest.mark.parametrize("variant", ["plain", "shuffled"])
def test_attribution_is_the_maximum_over_patches(recorded, expected, variant):
    table = recorded.tables[f"neurons/attribution.pre.{variant}"]
    for sample, own in table.groupby("sample_id"):
        reference = expected[variant, sample]
        z, gradient = (reference[name]["pre"] for name in ("values", "gradients"))
        scores = np.full((N_LAYERS, N_UNITS), -np.inf)
        for patch in range(reference["image"].start, reference["image"].stop):
            scores = np.maximum(scores, z[:, patch] * gradient[:, patch])
        check_top(own, scores, 20)


def test_attribution_and_activation_by_hand():
    """Maxima with their signs: [2, -3] and [-1, 4] for two image tokens and two units."""
    z, gradient = torch.tensor([[1.0, 3.0], [-1.0, 2.0]]), torch.tensor([[2.0, -1.0], [1.0, 2.0]])
    assert max_over_patches(attribution(z, gradient)).tolist() == [2, 4]
    assert last_input_activation(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist() == [1, 2]


@pytest.mark.parametrize("site", SITES)
def test_activation_is_that_of_the_last_input_token(recorded, expected, site):
    table = recorded.tables[f"neurons/activation.{site}.plain"]
    for sample, own in table.groupby("sample_id"):
        reference = expected["plain", sample]
        check_top(own, reference["values"][site][:, reference["last_input"]], 20)
    # The same neurons for every concept of a caption.
    pictures = table.assign(picture=table["sample_id"].str[:9]).groupby(["picture", "rank"])
    assert (pictures[["layer", "unit"]].nunique() == 1).all(axis=None)


def test_running_top_has_the_order_of_the_shared_rule():
    """Small whole numbers, so full of ties, some at the border of k, and both zeros."""
    rng = np.random.default_rng(0)
    scores = rng.integers(-2, 3, (6, 4, 9)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = -0.0
    for k in (1, 7, 20, 36, 50):
        running = RunningTop(k)
        for layer in range(4):
            running.add(torch.from_numpy(scores[:, layer]))
        top = running.result()
        for row in range(6):
            best = top_units(scores[row], k)
            assert torch.stack([top.layers[row], top.units[row]], dim=1).tolist() == best.tolist()
            assert top.scores[row].tolist() == scores[row][best[:, 0], best[:, 1]].tolist()


def test_not_a_number_has_no_rank():
    running = RunningTop(2)
    running.add(torch.tensor([[1.0, float("nan"), 2.0]]))
    running.add(torch.tensor([[5.0, 6.0, 7.0]]))
    with pytest.raises(ValueError, match="not-a-number"):
        running.result()


# -------------------------------------------------------------------------------------- shuffles


def test_shuffles_are_permutations_that_can_be_undone(model, pictures):
    tokens = model.embed_pictures(pictures[:3])
    names = ["000000004", "000000005", "000000006"]
    moved = shuffled(tokens, names, 7)
    orders = [shuffle_order(7, name, N_IMAGE) for name in names]
    assert all(sorted(order.tolist()) == list(range(N_IMAGE)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3
    assert not torch.equal(shuffle_order(8, names[0], N_IMAGE), orders[0])
    back = torch.stack([m[order.argsort()] for m, order in zip(moved, orders, strict=True)])
    assert torch.equal(back, tokens) and not torch.equal(moved, tokens)
    # A picture's order does not depend on those beside it.
    assert torch.equal(shuffled(tokens[1:2], names[1:2], 7), moved[1:2])


# --------------------------------------------------------------------------- captions and concepts


def test_captions_and_concepts(model, pictures, recorded):
    captions, concepts = (recorded.tables[f"captions/{name}"] for name in ("pan", "concepts"))
    plain = captions[captions["variant"] == "plain"]
    assert plain["picture_id"].tolist() == [f"{n:09d}" for n in range(7)]
    for number, caption in enumerate(plain.itertuples()):
        alone = model.encode(model.embed_pictures([pictures[number]]), TEXT)
        assert caption.token_ids == model.generate(alone, 7)[0]
        assert caption.caption.startswith("The image shows a ")
    joined = concepts.merge(captions, on=["picture_id", "variant"])
    for row in joined.itertuples():
        assert row.token_ids[row.position] == row.token
        assert row.sample_id == f"{row.picture_id}-{row.group}"
    assert sample_id("000000001", "fire hydrant") == "000000001-fire_hydrant"
    # A caption without a noun is an exclusion and no sample.
    exclusions = recorded.tables["exclusions"]
    named = {(r.variant, r.picture_id) for r in concepts.itertuples()}
    missing = {(r.variant, r.picture_id) for r in captions.itertuples()} - named
    stages = exclusions["stage"].map({"nouns": "plain", "nouns (shuffled)": "shuffled"})
    assert missing and missing == set(zip(stages, exclusions["sample_id"], strict=True))
    assert set(exclusions["reason"]) == {"no-noun"}


# ------------------------------------------------------------------------------- the best neurons


def best_of(recorded, sample, site):
    table = recorded.tables[f"neurons/contribution.{site}.plain"]
    return table[(table["sample_id"] == sample) & (table["rank"] == 0)].iloc[0]


def test_specificity_scores_the_best_neuron_on_tokens(model, recorded, expected):
    table = recorded.tables["record/specificity"]
    assert len(table) == 2 * len(recorded.facts["sample_ids"])
    for row in table.itertuples():
        best = best_of(recorded, row.sample_id, row.site)
        assert (row.layer, row.unit) == (best["layer"], best["unit"])
        active = expected["plain", row.sample_id]["values"][row.site][row.layer, -1, row.unit]
        said = [projection_by_loops(model, row.layer, row.unit, t) for t in range(len(VOCABULARY))]
        related = [active * value for value in sorted(said, reverse=True)[:6]]
        np.testing.assert_allclose(row.related, related, rtol=1e-3, atol=1e-4)
        scores = np.array([active * value for value in said])
        nearest = [np.abs(scores - drawn).argmin() for drawn in row.random]
        assert len(set(nearest)) == 6
        np.testing.assert_allclose(scores[nearest], row.random, rtol=1e-3, atol=1e-4)


def test_cross_scores_are_all_pairs_of_a_caption(model, recorded, expected):
    table = recorded.tables["record/cross_scores"]
    concepts = recorded.tables["captions/concepts"]
    sizes = concepts[concepts["variant"] == "plain"].groupby("picture_id").size()
    assert len(table) == 2 * (sizes**2).sum() and sizes.max() > 1
    for row in table.itertuples():
        best = best_of(recorded, sample_id(row.picture_id, row.neuron_group), row.site)
        assert (row.layer, row.unit) == (best["layer"], best["unit"])
        reference = expected["plain", sample_id(row.picture_id, row.group)]
        active = reference["values"][row.site][row.layer, -1, row.unit]
        value = projection_by_loops(model, row.layer, row.unit, reference["token"])
        assert row.score == pytest.approx(active * value, rel=1e-3, abs=1e-4)


# ------------------------------------------------------------------------------------------ maps


def maps_by_loops(recorded, expected, sample, site):
    """Means over the 1, 4 and 20 best neurons, then the five best: `8 x image tokens`."""
    table = recorded.tables[f"neurons/contribution.{site}.plain"]
    reference = expected["plain", sample]
    active = reference["values"][site][:, reference["image"]]
    single = [active[n.layer, :, n.unit] for n in table[table["sample_id"] == sample].itertuples()]
    return np.stack([np.mean(single[:k], axis=0) for k in SETTINGS.top_k] + single[:5])


def test_maps(recorded, expected):
    assert recorded.facts["grid"] == [8, 2] and not recorded.facts["through_queries"]
    samples = recorded.facts["sample_ids"]
    assert samples == [sample for variant, sample in expected if variant == "plain"]
    for site in SITES:
        maps = recorded.maps[f"{site}/maps"]
        assert maps.dtype == np.float16 and maps.shape == (len(samples), 8, N_IMAGE)
        for sample, got in zip(samples, maps, strict=True):
            reference = maps_by_loops(recorded, expected, sample, site)
            np.testing.assert_allclose(got, reference, rtol=2e-3, atol=2e-3)


class Queries(MiniGPT4):
    """Image tokens without a place, each of which reads the nine patches of a 3 x 3 grid."""

    def grid(self):
        return None

    def patch_grid(self):
        return 3, 3

    def patch_weights(self, pictures, prompt=""):
        assert prompt == TEXT
        sizes = torch.tensor([picture.width for picture in pictures])[:, None, None]
        return torch.sin(torch.arange(N_IMAGE * 9).view(1, N_IMAGE, 9) * sizes).softmax(dim=2)


class Cropping(MiniGPT4):
    """Sees the left half of every picture."""

    def seen_box(self, size):
        return 0, 0, size[0] // 2, size[1]


class Placeless(MiniGPT4):
    """Image tokens of which nobody can say what they show."""

    def grid(self):
        return None


SMALL = PanSettings(max_new_tokens=7, top_k=[1, 4, 20], seed=5, methods=("contribution",))


def test_maps_of_queries_go_through_their_attention(model, pictures, files, recorded, expected):
    queries = Queries(model.network, model.tokenizer, "cpu")
    found = record_pictures(queries, PROMPT, [files[:4]], nouns, SMALL)
    assert found.facts["grid"] == [3, 3] and found.facts["through_queries"]
    weights = queries.patch_weights(pictures[:4], TEXT).numpy()
    assert found.maps["act/maps"].shape[2] == 9 and len(found.facts["sample_ids"]) > 2
    for sample, got in zip(found.facts["sample_ids"], found.maps["act/maps"], strict=True):
        of_queries = maps_by_loops(recorded, expected, sample, "act")
        reference = of_queries @ weights[int(sample[:9])]
        np.testing.assert_allclose(got, reference, rtol=2e-3, atol=2e-3)


def test_the_facts_say_which_part_of_each_picture_is_seen(model, pictures, files, recorded):
    sizes = {name: pictures[int(name)].size for name, _ in files}
    assert recorded.facts["boxes"] == {n: [0, 0, w, h] for n, (w, h) in sizes.items()}
    cropping = Cropping(model.network, model.tokenizer, "cpu")
    found = record_pictures(cropping, PROMPT, [files[:2], files[2:3]], nouns, SMALL)
    assert found.facts["boxes"] == {
        name: [0, 0, sizes[name][0] // 2, sizes[name][1]] for name, _ in files[:3]
    }


def test_without_places_there_are_no_maps_and_the_facts_say_so(model, files):
    placeless = Placeless(model.network, model.tokenizer, "cpu")
    found = record_pictures(placeless, PROMPT, [files[:2]], nouns, SMALL)
    assert found.maps == {}
    assert found.facts["grid"] is None and not found.facts["through_queries"]
    assert len(found.tables["captions/pan"]) == 4


# ----------------------------------------------------------------------------------- the whole


def test_shards_do_not_change_anything(model, files, recorded, tmp_path):
    """Three batches dealt to two shards, byte for byte after the tables went through files."""
    parts = [
        record_pictures(model, PROMPT, shard_of(files, 3, shard, 2), nouns, SETTINGS)
        for shard in range(2)
    ]
    for name, whole in recorded.tables.items():
        shards = []
        for number, part in enumerate(parts):
            write_table(part.tables[name], tmp_path / f"{number}.parquet")
            shards.append(read_table(tmp_path / f"{number}.parquet"))
        write_table(whole, tmp_path / "whole.parquet")
        key = [c for c in whole if whole[c].dtype != object]
        dealt, whole = (
            t.sort_values(key, ignore_index=True)
            for t in (pd.concat(shards), read_table(tmp_path / "whole.parquet"))
        )
        pd.testing.assert_frame_equal(dealt, whole, check_exact=True)
    dealt = {
        sample: part.maps["act/maps"][n]
        for part in parts
        for n, sample in enumerate(part.facts["sample_ids"])
    }
    for sample, values in zip(recorded.facts["sample_ids"], recorded.maps["act/maps"], strict=True):
        assert np.array_equal(dealt[sample], values)


def test_more_neurons_than_there_are(model, files):
    settings = PanSettings(max_new_tokens=5, top_k=[2, 500], seed=5)
    found = record_pictures(model, PROMPT, [files[:4]], nouns, settings)
    assert found.facts["n_units"] == found.facts["recorded"] == N_LAYERS * N_UNITS
    for name, table in found.tables.items():
        if name.startswith("neurons/"):
            assert len(table) and (table.groupby("sample_id").size() == N_LAYERS * N_UNITS).all()
    # The mean over "500" is the mean over all.
    assert np.isfinite(found.maps["post/maps"]).all()


def test_no_concept_at_all_gives_empty_tables(model, files):
    def none(caption, token_ids, token_ends):
        return [], [{"reason": "no-noun", "detail": caption}]

    for batches, n_captions in (([files[:2]], 4), ([], 0)):
        found = record_pictures(model, PROMPT, batches, none, SETTINGS)
        assert len(found.tables["captions/pan"]) == len(found.tables["exclusions"]) == n_captions
        assert found.maps["act/maps"].shape == (0, 8, N_IMAGE)
        names = [name for name in found.tables if name.startswith("neurons/")]
        assert len(names) == 10
        for name in names:
            assert list(found.tables[name]) == list(NEURON_COLUMNS) and found.tables[name].empty


@pytest.mark.parametrize("top_k", [[], [0, 1], [5, 1], [1, 1]])
def test_top_k_has_to_ascend(top_k):
    with pytest.raises(ValueError, match="ascend"):
        PanSettings(max_new_tokens=5, top_k=top_k, seed=0)
