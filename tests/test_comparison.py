"""The comparison of methods: selections, interventions, measures; by hand and by second ways."""

import dataclasses
import json

import cv2
import family_kit
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import IDS, build_network
from PIL import Image
from pycocotools import mask as coco_mask

from mmneurons.artifacts.comparison import read_recordings
from mmneurons.artifacts.tables import write_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.datasets.object_masks import ObjectMasks
from mmneurons.interventions.comparison import (
    CAPTION_COLUMNS,
    InterventionSettings,
    Shown,
    edit_target,
    intervene_on,
    mean_maps,
    neuron_sets,
    pictures_to_test,
)
from mmneurons.interventions.edit import EditSettings
from mmneurons.interventions.noisy_captions import NeuronSet, NoiseSettings
from mmneurons.methods.comparison import (
    NEURON_COLUMNS,
    best_units,
    halves,
    mean_scores,
    select_all,
    select_controls,
    select_counted,
    select_randomly,
    select_scored,
)
from mmneurons.methods.dape_concepts import concept_scores
from mmneurons.methods.needs import lacks_of_data, pruned
from mmneurons.metrics.comparison import (
    ALL_MODELS,
    CELL_COLUMNS,
    MEASURES,
    agreement,
    cells,
    field_iou,
    field_table,
    layer_profile,
    missing,
    summary,
)
from mmneurons.metrics.intervals import joint_mean_intervals, mean_intervals
from mmneurons.metrics.rank_overlap import overlap, rank_biased_overlap
from mmneurons.models.base import MultimodalModel
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.provides import lacks_of_model
from mmneurons.probe import comparison as probe
from mmneurons.probe.comparison import ComparisonSettings, costs, needed, ranked, record_concept
from mmneurons.probe.every_method import record_case_scores
from mmneurons.probe.hooks import record
from mmneurons.probe.memory import peak_bytes
from mmneurons.probe.two_stage import Case

# ----------------------------------------------------------------------------- rank-biased overlap


def test_overlap_by_hand():
    assert overlap("abcd", "cdxy") == 0.5
    assert overlap("ab", "abcd") == 0.5
    assert np.isnan(overlap("", ""))


def test_rank_biased_overlap_by_hand():
    """X_1..X_3 of abc and bad: 0, 2, 2; p = 0.5 (Webber et al. 2010, eq. 32)."""
    expected = (1 - 0.5) / 0.5 * (0 / 1 * 0.5 + 2 / 2 * 0.25 + 2 / 3 * 0.125) + 2 / 3 * 0.125
    assert rank_biased_overlap("abc", "bad", 0.5) == pytest.approx(expected)
    assert rank_biased_overlap("abcde", "abcde", 0.9) == pytest.approx(1)
    assert rank_biased_overlap("abc", "xyz", 0.9) == 0
    # The first places have more weight.
    assert rank_biased_overlap("abcd", "axyz", 0.9) > rank_biased_overlap("abcd", "xyzd", 0.9)


def test_rank_biased_overlap_of_unequal_lengths_by_hand():
    """a against ba: s = 1, l = 2, X_1 = 0, X_2 = 1; nothing of the short one agreed at its end."""
    p = 0.8
    expected = (1 - p) / p * (0 + 1 / 2 * p**2 + 0) + ((1 - 0) / 2 + 0) * p**2
    assert rank_biased_overlap("a", "ba", p) == pytest.approx(expected)
    assert rank_biased_overlap("ba", "a", p) == rank_biased_overlap("a", "ba", p)
    # The beginning of a ranking extrapolates to all of it.
    assert rank_biased_overlap("ab", "abcd", p) == pytest.approx(1)
    assert np.isnan(rank_biased_overlap("", "a"))
    with pytest.raises(ValueError, match="twice"):
        rank_biased_overlap("aa", "ab")
    with pytest.raises(ValueError, match="between 0 and 1"):
        rank_biased_overlap("a", "a", 1.0)


def test_rank_biased_overlap_is_the_limit_of_its_sum():
    """Rankings whose agreement stays what it was at depth k, summed far beyond it."""
    rng = np.random.default_rng(1)
    p, k = 0.85, 6
    for _ in range(20):
        one, other = (rng.permutation(10)[:k].tolist() for _ in range(2))
        at_depth = [len(set(one[:d]) & set(other[:d])) / d for d in range(1, k + 1)]
        forever = [*at_depth, *[at_depth[-1]] * 400]
        total = (1 - p) * sum(a * p**d for d, a in enumerate(forever))
        assert rank_biased_overlap(one, other, p) == pytest.approx(total, abs=1e-9)


# --------------------------------------------------------------------------------------- selection

NAMES = ["p0", "p1", "p2", "p3", "p4"]


def of_part(table, part, **which):
    own = table[table["part"] == part]
    for key, value in which.items():
        own = own[own[key] == value]
    return own.sort_values("rank")[["layer", "unit"]].to_numpy()


def test_selections_of_scored_pictures():
    rng = np.random.default_rng(2)
    plain, shuffled = rng.normal(size=(2, 5, 3, 8)).astype(np.float32)
    table = select_scored("m", "bear", NAMES, plain, shuffled, 4, 3, 2, seed=7)
    assert list(table.columns) == list(NEURON_COLUMNS)
    concept = plain[:3].astype(np.float64).mean(axis=0)
    best = np.argsort(-concept, axis=None)[:4]
    expected = np.stack(np.unravel_index(best, (3, 8)), axis=1)
    assert of_part(table, "concept").tolist() == expected.tolist()
    for place, name in enumerate(NAMES):
        for part, scores in (("picture", plain), ("shuffled", shuffled)):
            best = np.argsort(-scores[place], axis=None)[:4]
            expected = np.stack(np.unravel_index(best, (3, 8)), axis=1)
            assert of_part(table, part, sample_id=name).tolist() == expected.tolist()
    for draw in (0, 1):
        for half, places in enumerate(halves(NAMES, draw, 7)):
            mean = plain[places].astype(np.float64).mean(axis=0)
            best = set(np.argsort(-mean, axis=None)[:4].tolist())
            found = of_part(table, "half", draw=draw, half=half)
            assert {layer * 8 + unit for layer, unit in found.tolist()} == best


def test_halves_share_no_picture_and_hang_on_names_alone():
    one, other = halves(NAMES, 0, 7)
    assert len(one) == len(other) == 2 and not set(one) & set(other)
    back = [NAMES[::-1][place] for place in halves(NAMES[::-1], 0, 7)[0]]
    assert sorted(back) == sorted(NAMES[place] for place in one)
    assert [len(half) for half in halves(["only"], 0, 7)] == [0, 0]


def test_excluded_neurons_are_never_selected():
    scores = np.array([[3.0, -np.inf, 1.0]])
    assert best_units(scores, 3).tolist() == [[0, 0], [0, 2]]
    plain = np.array([[[3.0, -np.inf, 1.0, -np.inf]], [[3.0, 9.0, 1.0, -np.inf]]], np.float32)
    table = select_scored("m", "g", ["a", "b"], plain, plain, 4, 2, 1, seed=0)
    # Unit 1 is excluded on one picture and has there the lowest score, 1: a mean of 5.
    assert of_part(table, "concept").tolist() == [[0, 1], [0, 0], [0, 2]]
    assert of_part(table, "picture", sample_id="a").tolist() == [[0, 0], [0, 2]]


def test_pictures_that_test_have_no_say_in_what_identifies():
    """Unit 1 is excluded on one identifying picture: what stands there is their lowest score."""
    plain = np.array([[[3.0, -np.inf, 1.0]], [[3.0, 4.0, 1.0]], [[0.0, 0.0, -90.0]]], np.float32)
    for last in (plain, plain + np.array([[[0]], [[0]], [[200]]], np.float32)):
        table = select_scored("m", "g", ["a", "b", "c"], last, last, 3, 2, 1, seed=0)
        own = table[table["part"] == "concept"].sort_values("rank")
        assert own["unit"].tolist() == [0, 1, 2]
        assert own["score"].tolist() == [3, 2.5, 1]
    assert np.isneginf(mean_scores(np.full((2, 1, 3), -np.inf))).all()


def test_dape_uses_the_counts_of_the_part_and_of_the_other_concepts():
    rng = np.random.default_rng(3)
    samples = pd.DataFrame({"sample_id": NAMES, "group": ["x", "x", "x", "y", "y"]})
    counts = rng.integers(0, 20, (5, 40))
    other = rng.integers(0, 20, (5, 40))
    tokens = np.full(5, 20)
    table = select_counted(
        "dape", samples, (counts, tokens), (other, tokens), (2, 20), 2, 2, 1, seed=0
    )

    def expected(own, n, group):
        # Two pictures of each concept identify its neurons: x has p0, p1 and y has p3, p4.
        pooled = {"x": counts[0] + counts[1], "y": counts[3] + counts[4]}
        pooled_n = {"x": 40, "y": 40}
        pooled[group], pooled_n[group] = own, n
        scores = concept_scores(
            np.stack([pooled["x"], pooled["y"]]), np.array([*pooled_n.values()])
        )
        return best_units(scores["xy".index(group)].reshape(2, 20), 2).tolist()

    x, y = (table[table["group"] == group] for group in "xy")
    assert of_part(x, "concept").tolist() == expected(counts[0] + counts[1], 40, "x")
    assert of_part(x, "picture", sample_id="p2").tolist() == expected(counts[2], 20, "x")
    assert of_part(y, "shuffled", sample_id="p4").tolist() == expected(other[4], 20, "y")


def test_random_neurons_stand_for_every_selection():
    samples = pd.DataFrame({"sample_id": NAMES, "group": ["x", "x", "x", "y", "y"]})
    table = select_randomly("random", samples, (3, 50), 10, 2, 2, 3, seed=5, model="tiny")
    sizes = table.groupby(["part", "draw", "half", "sample_id", "group"]).size()
    assert set(sizes) == {10}
    assert table[table["part"] == "concept"].groupby(["group", "draw"]).ngroups == 6
    assert table.groupby(["part", "draw", "half", "sample_id", "group"])["unit"].nunique().min() > 4
    alone = select_randomly("random", samples[3:], (3, 50), 10, 2, 2, 3, 5, "tiny")
    y = table[table["group"] == "y"].reset_index(drop=True)
    pd.testing.assert_frame_equal(y, alone)
    # Uniform over layers and units.
    # Models of one shape have random neurons of their own.
    other = select_randomly("random", samples, (3, 50), 10, 2, 2, 3, 5, "other")
    assert not other["unit"].equals(table["unit"])
    many = select_randomly("random", samples, (3, 50), 60, 2, 2, 40, 6, "tiny")
    share = many["layer"].value_counts(normalize=True)
    assert share.min() > 0.3 and share.max() < 0.37


def test_controls_lie_in_the_layers_of_the_methods_own_neurons():
    rng = np.random.default_rng(2)
    plain = rng.normal(size=(2, 3, 40)).astype(np.float32) + np.array([[[3], [0], [1]]])
    tables = [
        select_scored("m", group, ["a", "b"], plain, plain, 12, 1, 1, seed=7) for group in "xy"
    ]
    table = pd.concat(tables, ignore_index=True)
    control = select_controls("m", table, 40, 2, 5, "tiny")
    assert set(control["part"]) == {"control"} and list(control.columns) == list(NEURON_COLUMNS)
    drawn = {}
    for (group, draw), other in control.groupby(["group", "draw"]):
        own = table[(table["group"] == group) & (table["part"] == "concept")]
        assert own["layer"].value_counts().to_dict() == other["layer"].value_counts().to_dict()
        pairs = [frozenset(zip(t["layer"], t["unit"], strict=True)) for t in (own, other)]
        assert not pairs[0] & pairs[1] and len(pairs[1]) == 12
        drawn[group, draw] = pairs[1]
    # Each hangs on seed, draw, model, method and concept alone.
    assert len(set(drawn.values())) == len(drawn) == 4
    alone = select_controls("m", tables[1], 40, 2, 5, "tiny")
    rest = control[control["group"] == "y"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, rest)
    for of in (("n", table, 40, 2, 5, "tiny"), ("m", table, 40, 2, 6, "tiny"),
               ("m", table, 40, 2, 5, "other")):  # fmt: skip
        assert not select_controls(*of)["unit"].equals(control["unit"])


# ------------------------------------------------------------------------------------ what can run


def test_needs_prune_and_say_why():
    lacks = {"sites": "", "gradients": "no backward pass"} | lacks_of_data(1)
    needs = {"a": ["sites"], "b": ["sites", "gradients"], "c": ["concepts"]}
    assert pruned(needs, lacks) == {
        "a": "",
        "b": "no backward pass",
        "c": "1 concept with valid pictures, and entropy needs two",
    }
    with pytest.raises(ValueError, match="no such need: luck"):
        pruned({"d": ["luck"]}, lacks)


@pytest.mark.parametrize("family", family_kit.CASES)
def test_every_family_says_what_it_lacks(family):
    case = family_kit.CASES[family]
    model = case.build()
    lacks = lacks_of_model(model, case.prompts[0], {"noise": {"unit": "rms"}})
    assert lacks["sites"] == lacks["gradients"] == lacks["noise"] == lacks["rows"] == ""
    assert bool(lacks["patches"]) == (model.patch_grid() is None)
    assert "has no edit" in lacks["edit"]


def deaf(model):
    """The model, of which nothing comes back."""

    class Deaf(type(model)):
        def final_states(self, encoded):
            return MultimodalModel.final_states(self, encoded).detach()

    model.__class__ = Deaf
    return model


def bare(model):
    """The model, of which no FFN layers are found."""

    class Bare(type(model)):
        def sites(self, module):
            return []

    model.__class__ = Bare
    return model


def test_a_model_without_a_way_back_lacks_gradients():
    case = family_kit.CASES["llava"]
    lacks = lacks_of_model(deaf(case.build()), case.prompts[0], {})
    assert "no backward pass" in lacks["gradients"]


@pytest.fixture
def network(tokenizer):
    """A model of its own, whose class a test may change, and which says the same bear always."""
    return MiniGPT4(build_network(0), tokenizer, "cpu")


@pytest.fixture
def recorded_by(tmp_path, pictures, monkeypatch):
    """Records three pictures of a concept with a model, whose captions are made up here."""
    for n in range(3):
        pictures[n].save(tmp_path / f"{n}.png")
        pictures[n + 5].save(tmp_path / f"bear-{n}.png")
    samples = pd.DataFrame(
        {
            "sample_id": [f"bear-{n}" for n in range(3)],
            "group": "bear",
            "order": range(3),
            "image_id": range(3),
            "file": [f"{n}.png" for n in range(3)],
        }
    )

    def caption(model, batch, prompt, max_new_tokens):
        """With the object the caption names it, in its second token, and without it does not."""
        for name, _ in batch:
            words = "The image shows a red " + ("car" if name.startswith("bear") else "bear")
            ends = [len("The image shows a red"), len(words)]
            yield {
                "picture_id": name,
                "caption": words,
                "token_ids": [IDS["red"], IDS[words.split()[-1]]],
                "token_ends": ends,
            }

    monkeypatch.setattr(probe, "caption_pictures", caption)

    def of(model, methods=METHODS):
        lacks = lacks_of_model(model, TEXT, {})
        able = {
            name: row["score"]
            for name, row in methods.items()
            if not any(lacks.get(need) for need in row["needs"])
        }
        settings = ComparisonSettings(able, "act", 3, 2, 1, 1, 0, 5, 2)
        return lacks, record_concept(
            model, PROMPT, samples, tmp_path, tmp_path, ["bear", "car"], settings
        )

    return of


def test_a_model_without_gradients_is_recorded_by_the_methods_that_need_none(network, recorded_by):
    """As the same model with gradients is by them; what prunes the others is said."""
    _, whole = recorded_by(network)
    assert set(whole.neurons["method"]) == {"activation", "attribution"}
    lacks, found = recorded_by(deaf(network))
    assert set(found.neurons["method"]) == {"activation"} and len(found.valid) == 3
    for name, values in found.arrays.items():
        np.testing.assert_array_equal(values, whole.arrays[name])
    assert found.arrays["mean_square"].shape == (3, 3) and found.arrays["mean_square"].all()
    needs = {name: row["needs"] for name, row in METHODS.items()}
    why = pruned(needs, lacks | lacks_of_data(1))
    assert "no backward pass" in why["attribution"] and why["activation"] == ""


def test_mean_squares_are_those_that_two_stage_filtering_reads(network, recorded_by):
    _, found = recorded_by(network)
    record = record_case_scores(network, TEXT, found.cases, ["act"], 2, ["two_stage"])
    np.testing.assert_allclose(found.arrays["mean_square"], record.mean_square["act"], rtol=1e-6)


def test_a_model_without_ffn_layers_is_recorded_by_no_method(network, recorded_by):
    lacks, found = recorded_by(bare(network), {"activation": METHODS["activation"]})
    assert "no FFN layers" in lacks["sites"] and len(found.valid) == 3
    assert found.neurons.empty and found.arrays["mean_square"].shape == (3, 0)
    assert network.inert_layers("language", "image") == frozenset()


# --------------------------------------------------------------------------- recordings, selecting


def write_shard(folder, groups, lacks):
    rng = np.random.default_rng([*"".join(groups).encode()])
    folder.mkdir()
    facts = {"groups": ["x", "y"], "layers": [10, 10], "k": 3, "lacks": lacks, "model": "tiny"}
    valid, neurons, arrays = [], [], {}
    for group in groups:
        rng = np.random.default_rng([*group.encode()])
        names = [f"{group}{n}" for n in range(3)]
        valid.append(pd.DataFrame({"sample_id": names, "group": group, "role": "identify"}))
        scores = rng.normal(size=(3, 2, 10)).astype(np.float32)
        neurons.append(select_scored("activation", group, names, scores, scores, 3, 2, 1, 0))
        for variant in ("plain", "shuffled"):
            for kind in ("image", "text"):
                arrays[f"{group}/counts/{variant}/{kind}"] = rng.integers(0, 9, (3, 2, 10))
                arrays[f"{group}/tokens/{variant}/{kind}"] = np.full(3, 9)
        arrays[f"{group}/mean_square"] = rng.random((3, 2))
    none = pd.DataFrame(columns=["stage", "sample_id", "group", "reason", "detail"], dtype=str)
    costs_of = pd.DataFrame(
        {"method": ["activation"], "seconds": [1.0], "bytes": [80], "n_samples": [3]}
    )
    write_table(pd.concat(valid, ignore_index=True), folder / "valid.parquet", facts)
    write_table(pd.concat(neurons, ignore_index=True), folder / "neurons.parquet", facts)
    write_table(none, folder / "exclusions.parquet", facts)
    write_table(costs_of, folder / "costs.parquet", facts)
    write_tensors(arrays, folder / "counts.safetensors", facts)
    return folder


METHODS = {
    "activation": {"score": "activation.act", "needs": ["sites"]},
    "attribution": {"score": "attribution.max", "needs": ["gradients"]},
    "dape": {"score": "counts", "needs": ["concepts"]},
    "random": {"score": "none", "needs": []},
}
LACKS = {"sites": "", "gradients": "no backward pass", "patches": "no grid"}


def test_selection_does_not_hang_on_shards(tmp_path):
    whole = [write_shard(tmp_path / "whole", ["x", "y"], LACKS)]
    parts = [write_shard(tmp_path / name, [name], LACKS) for name in ("y", "x")]
    found = [
        select_all(
            read_recordings(folders), METHODS, {"localisation": {"needs": ["patches"]}}, 2, 1, 2, 0
        )
        for folders in (whole, parts)
    ]
    pd.testing.assert_frame_equal(found[0].neurons, found[1].neurons)
    assert read_recordings(whole).mean_square == read_recordings(parts).mean_square
    neurons = found[0].neurons
    assert list(dict.fromkeys(neurons["method"])) == ["activation", "dape", "random"]
    capabilities = found[0].capabilities.set_index("name")
    assert capabilities["runs"].to_dict() == {
        "activation": True, "attribution": False, "dape": True, "random": True,
        "localisation": False,
    }  # fmt: skip
    said = found[0].exclusions["detail"].tolist()
    assert "method attribution: no backward pass" in said
    assert "measure localisation: no grid" in said


def test_a_method_without_neurons_of_a_concept_is_said(tmp_path):
    recorded = read_recordings([write_shard(tmp_path / "a", ["x", "y"], LACKS)])
    none = recorded.neurons[recorded.neurons["group"] == "x"]
    selected = select_all(dataclasses.replace(recorded, neurons=none), METHODS, {}, 2, 1, 2, 0)
    rows = selected.exclusions[selected.exclusions["reason"] == "fewer-neurons"]
    assert ("y", "activation: 0 of 3") in list(zip(rows["group"], rows["detail"], strict=True))
    assert "x" not in set(rows.loc[rows["detail"].str.startswith("activation"), "group"])


@pytest.mark.parametrize("what", ["no valid picture", "no FFN layers"])
def test_a_model_that_carries_nothing_leaves_empty_tables_and_says_why(tmp_path, what):
    folder = write_shard(tmp_path / "a", ["x"], LACKS)
    facts = {"groups": ["x", "y"], "layers": [10, 10], "k": 3, "lacks": LACKS, "grid": None}
    facts |= {"model": "tiny"}
    valid = pd.read_parquet(folder / "valid.parquet")
    none = pd.DataFrame(columns=list(NEURON_COLUMNS)).astype(NEURON_COLUMNS)
    if what == "no valid picture":
        valid, arrays, said = valid[:0], {}, "no concept has a valid picture"
    else:
        facts |= {"layers": [], "lacks": dict.fromkeys(LACKS, what)}
        arrays, said = {"x/mean_square": np.zeros((3, 0))}, what
    write_table(valid, folder / "valid.parquet", facts)
    write_table(none, folder / "neurons.parquet", facts)
    write_tensors(arrays, folder / "counts.safetensors", facts)
    recorded = read_recordings([folder])
    assert recorded.mean_square == []
    methods = {name: row | {"needs": ["sites"]} for name, row in METHODS.items()}
    selected = select_all(recorded, methods, {"noise": {"needs": ["sites"]}}, 2, 1, 2, 0)
    assert list(selected.neurons.columns) == list(NEURON_COLUMNS) and selected.neurons.empty
    assert not selected.capabilities["runs"].any()
    assert selected.capabilities["reason"].str.contains(said).all()
    assert (selected.exclusions["reason"] == "cannot-run").sum() == len(methods) + 1
    # What is made of it further on: nothing, and no error.
    own, others = pictures_to_test(recorded.valid, "x", 2, 0)
    assert own == others == [] and neuron_sets(selected.neurons, "x") == []
    assert intervene_on(None, PROMPT, [], [], [], [], np.zeros(0), None) == ([], {})
    captions = pd.DataFrame(columns=list(CAPTION_COLUMNS)).astype(CAPTION_COLUMNS)
    rows = pd.DataFrame(columns=["method", "part", "seed", "group", "sample_id"])
    fields = field_table(rows, np.zeros((0, 0)), None, {}, None)
    found = cells(captions, selected.neurons, fields, ["x"], [], ["x", "y"], 3)
    assert found.empty and missing(found, recorded.valid).empty
    assert agreement(selected.neurons, ["x"]).empty and layer_profile(selected.neurons, 0).empty
    assert summary(found.assign(model="A")).empty
    # Beside another model it changes nothing of it.
    other = pd.DataFrame([("m", "localisation", g, 0.5, 1, 0.2) for g in "xy"],
                         columns=list(CELL_COLUMNS)).assign(model="B")  # fmt: skip
    both = summary(pd.concat([found.assign(model="A"), other], ignore_index=True))
    pd.testing.assert_frame_equal(both, summary(other))


# ----------------------------------------------------------------------------------- interventions

PROMPT = {
    "template": "[INST] <Img><ImageHere></Img> {instruction} [/INST] {prefix}",
    "instruction": "Describe",
    "prefix": "The image shows a",
}
TEXT = "[INST] <Img><ImageHere></Img> Describe [/INST] The image shows a"


@pytest.fixture(scope="module")
def shown(model, pictures):
    return [
        Shown(
            f"s{n}",
            "bear" if n < 2 else "car",
            "The image shows a red bear",
            model.embed_pictures(pictures[n : n + 1])[0],
            None,
            (IDS["red"],),
            IDS["bear"],
        )
        for n in range(3)
    ]


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(4)
    return [
        NeuronSet(
            name,
            "concept",
            0,
            "bear",
            "bear",
            np.stack(np.unravel_index(rng.choice(120, 30, replace=False), (3, 40)), 1),
        )
        for name in ("one", "two")
    ]


@pytest.fixture(scope="module")
def settings():
    noise = NoiseSettings([1, 500], "rms", 2, "per-position", "add", 3)
    edit = EditSettings(0.5, "median", 0.001, 500)
    return InterventionSettings("act", noise, edit, True, 5, 7, 1)


def test_rows_of_every_intervention(model, shown, sets, settings):
    words = ["car", "clock", "banana"]
    rows, maps = intervene_on(
        model, PROMPT, sets, shown[:2], shown[2:], words, np.ones(3), settings
    )
    table = pd.DataFrame(rows)
    counts = table.groupby(["intervention", "method"]).size().to_dict()
    # The other picture, a car's, is captioned under the edits that are not into a car.
    targets = [edit_target(model, PROMPT["prefix"], s, words, settings.seed)[0] for s in shown[:2]]
    n_edits = 2 + sum(target != "car" for target in targets)
    assert counts == {
        (what, of): n
        for of in ("one", "two")
        for what, n in {"ablation": 3, "noise": 3 * 2 * 2, "edit": n_edits}.items()
    }
    edits = table[table["intervention"] == "edit"]
    beside = edits[edits["picture_group"] == "car"]
    assert (
        n_edits > 2 and set(beside["picture_id"]) == {"s2"} and "car" not in set(beside["target"])
    )
    assert (edits["group"] == "bear").all() and len(edits) - len(beside) == 2 * 2
    assert set(maps) == {(of, "concept", 0, name) for of in ("one", "two") for name in ("s0", "s1")}
    # Nothing of it stays: the caption is what it was.
    encoded = model.encode([shown[0].image_tokens], TEXT)
    before = model.generate(encoded, 5)
    intervene_on(model, PROMPT, sets, shown[:1], shown[2:], words, np.ones(3), settings)
    assert model.generate(encoded, 5) == before
    without = dataclasses.replace(settings, noise=None, edit=None, maps=False)
    rows, maps = intervene_on(model, PROMPT, sets, shown[:2], shown[2:], words, np.ones(3), without)
    assert {row["intervention"] for row in rows} == {"ablation"} and maps == {}


def test_silent_neurons_are_zero_at_every_token(model, shown, sets, settings):
    """The caption under ablation is that of a model whose neurons' output rows are zero."""
    rows, _ = intervene_on(
        model, PROMPT, sets[:1], shown[:1], [], [], np.ones(3),
        dataclasses.replace(settings, noise=None, edit=None),
    )  # fmt: skip
    before = [site.output.weight.clone() for site in model.sites("language")]
    for layer, unit in sets[0].neurons.tolist():
        model.sites("language")[layer].output.weight[:, unit] = 0
    ids = model.generate(model.encode([shown[0].image_tokens], TEXT), 5)[0]
    for site, weight in zip(model.sites("language"), before, strict=True):
        site.output.weight.copy_(weight)
    plain = model.generate(model.encode([shown[0].image_tokens], TEXT), 5)[0]
    assert rows[0]["caption"].endswith(model.decode(ids))
    assert ids != plain


def test_maps_are_mean_activations(model, shown, sets):
    with record(model.sites("language"), ["act"]) as passed:
        encoded = model.encode([shown[0].image_tokens], TEXT)
        model.final_states(encoded)
    at = encoded.image[0]
    weights = torch.rand(16, 6)
    found = dict(mean_maps(model, PROMPT, sets, shown[0], "act"))
    spread = dict(
        mean_maps(model, PROMPT, sets, dataclasses.replace(shown[0], weights=weights), "act")
    )
    for of in sets:
        own = [passed["act"][layer][0, at, unit] for layer, unit in of.neurons.tolist()]
        expected = torch.stack(own).mean(dim=0)
        np.testing.assert_allclose(found[of.method, "concept", 0], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            spread[of.method, "concept", 0], expected @ weights, rtol=1e-4, atol=1e-6
        )


def test_targets_begin_with_another_token_and_are_not_said(model, shown):
    said = dataclasses.replace(shown[0], caption="The image shows a red bear and a car")
    words = ["car", "bear", "clock", "zebra"]  # the tokenizer knows no zebra
    assert edit_target(model, PROMPT["prefix"], said, words, 0) == ("clock", IDS["clock"])
    assert edit_target(model, PROMPT["prefix"], said, ["car", "bear"], 0) is None


def test_tested_pictures_are_not_those_that_identify():
    valid = pd.DataFrame(
        {
            "sample_id": [f"{g}{n}" for g in "xy" for n in range(4)],
            "group": ["x"] * 4 + ["y"] * 4,
            "role": ["identify", "identify", "test", "test"] * 2,
        }
    )
    assert pictures_to_test(valid, "x", 1, 0)[0] == ["x2", "x3"]
    others = pictures_to_test(valid, "x", 5, 0)[1]
    assert sorted(others) == ["y2", "y3"]
    assert pictures_to_test(valid[::-1], "x", 1, 0)[1] == others[:1]


def test_sets_are_the_concepts_best_first():
    rng = np.random.default_rng(2)
    plain = rng.normal(size=(2, 3, 8)).astype(np.float32)
    table = select_scored("m", "bear", ["a", "b"], plain, plain, 4, 1, 1, seed=7)
    table = pd.concat([table, select_controls("m", table, 8, 1, 0, "tiny")], ignore_index=True)
    found, control = neuron_sets(table, "bear")
    assert (found.variant, control.variant) == ("concept", "control")
    assert control.neurons.tolist() == of_part(table, "control").tolist()
    mixed = table[table["part"] != "control"].sample(frac=1, random_state=1)
    (found,) = neuron_sets(mixed, "bear")
    assert found.neurons.tolist() == of_part(table, "concept").tolist()
    assert neuron_sets(table, "car") == []


# ---------------------------------------------------------------------------------------- measures


def caption_row(intervention, method, group, picture_group, caption, target="", part="concept"):
    row = {"intervention": intervention, "method": method, "part": part, "seed": 0}
    row |= {
        "group": group,
        "picture_id": "p",
        "picture_group": picture_group,
        "level": 1.0,
        "draw": 0,
    }
    return row | {"target": target, "n_neurons": 2, "caption": caption}


def neuron_rows(method, part, group, units, **of):
    base = {"method": method, "part": part, "draw": 0, "half": 0, "sample_id": "", "group": group}
    return [
        base | of | {"module": "language", "layer": 0, "unit": unit, "score": 0.0, "rank": rank}
        for rank, unit in enumerate(units)
    ]


def test_cells_by_hand():
    captions = pd.DataFrame(
        [
            caption_row("noise", "m", "bear", "bear", "a red bear"),
            caption_row("noise", "m", "bear", "bear", "a teddy bear"),
            caption_row("noise", "m", "bear", "bear", "a dog"),
            caption_row("noise", "m", "bear", "bear", "grass"),
            caption_row("noise", "m", "bear", "bus", "two buses"),
            caption_row("noise", "m", "bear", "bus", "a road"),
            caption_row("ablation", "m", "bear", "bear", "a dog"),
            caption_row("ablation", "m", "bear", "bus", "a bus"),
            caption_row("edit", "m", "bear", "bear", "a bus", target="bus"),
            caption_row("edit", "m", "bear", "bear", "a bear and a bus", target="bus"),
            caption_row("edit", "m", "bear", "bear", "a bear", target="bus"),
            caption_row("edit", "m", "bear", "bear", "a dog", target="bus"),
            caption_row("edit", "m", "bear", "bus", "a bus", target="dog"),
            caption_row("edit", "m", "bear", "bus", "a dog", target="dog"),
            caption_row("ablation", "m", "bear", "bear", "a bear", part="control"),
            caption_row("ablation", "m", "bear", "bear", "a dog", part="control"),
            caption_row("edit", "m", "bear", "bear", "a bus", target="bus", part="control"),
        ]
    )
    neurons = pd.DataFrame(
        neuron_rows("m", "picture", "bear", [1, 2], sample_id="a")
        + neuron_rows("m", "picture", "bear", [2, 3], sample_id="b")
        + neuron_rows("m", "picture", "bear", [2, 1], sample_id="c")
        + neuron_rows("m", "shuffled", "bear", [1, 2], sample_id="a")
        + neuron_rows("m", "shuffled", "bear", [7, 8], sample_id="b")
        + neuron_rows("m", "half", "bear", [1, 2], half=0)
        + neuron_rows("m", "half", "bear", [1, 9], half=1)
    )
    fields = pd.DataFrame(
        {"method": "m", "part": "concept", "seed": 0, "group": "bear", "sample_id": ["a", "b"]}
    ).assign(iou=[0.2, 0.4])
    fields = pd.concat([fields, fields.assign(part="control", iou=0.1)])
    names = ["bear", "teddy bear", "bus", "dog"]
    table = cells(captions, neurons, fields, names, ["m"], ["bear", "bus"], 2)
    assert len(table) == len(MEASURES) * 2
    own = table[table["group"] == "bear"].set_index("measure")["value"].to_dict()
    expected = {
        "noise.suppression": 3 / 4,
        "noise.retention": 1 / 2,
        "noise.score": 5 / 8,
        "ablation.suppression": 1,
        "ablation.retention": 1,
        "ablation.score": 1,
        "edit.success": 1 / 4,
        "edit.retention": 1 / 2,
        "stability.pictures": (1 / 2 + 1 + 1 / 2) / 3,
        "stability.halves": 1 / 2,
        "stability.shuffles": 1 / 2,
        "localisation": 0.3,
    }
    assert own == pytest.approx(expected)
    control = table[table["group"] == "bear"].set_index("measure")["control"].dropna().to_dict()
    assert control == pytest.approx(
        {"ablation.suppression": 0.5, "edit.success": 1, "localisation": 0.1}
    )
    assert table.loc[table["group"] == "bus", "value"].isna().all()
    valid = pd.DataFrame(
        {"group": ["bear"] * 2 + ["bus"], "role": ["identify", "test", "identify"]}
    )
    rows = missing(table, valid)
    assert set(rows["group"]) == {"bus"} and len(rows) == len(MEASURES)
    assert "noise.score: 1 pictures to identify, 0 to test" in rows["detail"].tolist()
    # What one method alone has not is said of it.
    both = pd.concat([table.assign(method="n", value=table["value"].fillna(0.5)), table])
    rows = missing(both, valid)
    assert set(rows["reason"]) == {"no-neurons"} and set(rows["group"]) == {"bus"}
    assert sorted(rows["detail"]) == sorted(f"{measure}: m" for measure in MEASURES)


def test_agreement_and_layers_by_hand():
    neurons = pd.DataFrame(
        neuron_rows("a", "concept", "g", [1, 2, 3, 4])
        + neuron_rows("b", "concept", "g", [2, 1, 9, 8])
    )
    table = agreement(neurons, ["g"], 0.5).set_index(["method", "other"])
    assert table.at[("a", "b"), "overlap"] == 0.5
    assert table.at[("a", "b"), "rbo"] == pytest.approx(rank_biased_overlap("1234", "2198", 0.5))
    assert table.at[("b", "a"), "rbo"] == table.at[("a", "b"), "rbo"]
    assert table.at[("a", "a"), "rbo"] == pytest.approx(1)
    neurons.loc[:1, "layer"] = 1
    profile = layer_profile(neurons, 3)
    assert profile[profile["method"] == "a"]["share"].tolist() == [0.5, 0.5, 0]


def test_fields_against_opencv_and_pycocotools():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(4, 6)).astype(np.float32)
    mask = np.zeros((50, 70), bool)
    mask[10:22, 30:46] = True  # On the highest of these values: at another place it is not met.
    box = (5, 0, 65, 50)
    scaled = cv2.resize(values, (60, 50), interpolation=cv2.INTER_LINEAR)
    field = scaled > np.percentile(scaled, 95)
    rles = [coco_mask.encode(np.asfortranarray(m.astype(np.uint8))) for m in (field, mask[:, 5:65])]
    expected = coco_mask.iou([rles[0]], [rles[1]], [False])[0, 0]
    assert field_iou(values, box, mask) == pytest.approx(expected, abs=0.02)
    assert expected > 0.25 and field_iou(values, box, mask[::-1]) < 0.1
    top = np.zeros((2, 2), np.float32)
    top[0, 0] = 1
    scaled = np.asarray(Image.fromarray(top).resize((8, 8), Image.Resampling.BILINEAR))
    assert field_iou(top, (0, 0, 8, 8), scaled > np.percentile(scaled, 95)) == 1
    assert field_iou(np.ones((2, 2)), (0, 0, 8, 8), np.ones((8, 8), bool)) == 0
    rows = pd.DataFrame(
        {"method": "m", "part": "concept", "seed": 0, "group": "g", "sample_id": ["a"]}
    )
    table = field_table(
        rows, top.reshape(1, 4), (2, 2), {"a": (0, 0, 8, 8)}, lambda _: scaled > 0.9
    )
    assert table["iou"].tolist() == [field_iou(top, (0, 0, 8, 8), scaled > 0.9)]
    assert field_table(rows, top.reshape(1, 4), None, {}, lambda _: mask).empty


def test_object_masks_are_those_of_the_segmentations(tmp_path):
    square, bus = [2, 1, 6, 1, 6, 4, 2, 4], [0, 5, 3, 5, 3, 8, 0, 8]
    small = [7, 5, 9, 5, 9, 7, 7, 7]
    annotation = {"iscrowd": 0, "area": 12, "bbox": [2, 1, 4, 3], "segmentation": [square]}
    data = {
        "images": [{"id": 5, "height": 8, "width": 10, "file_name": "x.jpg"}],
        "categories": [{"id": 1, "name": "bear"}, {"id": 2, "name": "bus"}],
        "annotations": [
            annotation | {"id": 1, "image_id": 5, "category_id": 1},
            annotation | {"id": 2, "image_id": 5, "category_id": 2, "segmentation": [bus]},
            annotation | {"id": 3, "image_id": 5, "category_id": 1, "segmentation": [small]},
        ],
    }  # fmt: skip
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(data))
    mask = ObjectMasks(path).mask(5, "bear")
    expected = np.zeros((8, 10), bool)
    expected[1:4, 2:6] = expected[5:7, 7:9] = True
    assert np.array_equal(mask, expected)


def test_summary_over_concepts_and_models():
    rows = [
        (model, "m", "localisation", group, value, 3, 0.25)
        for model, values in {"A": (0.0, 0.5, 1.0), "B": (1.0, np.nan, np.nan)}.items()
        for group, value in zip("xyz", values, strict=True)
    ]
    columns = ["model", "method", "measure", "group", "value", "n", "control"]
    table = summary(pd.DataFrame(rows, columns=columns)).set_index("model")
    assert table["value"].to_dict() == {"A": 0.5, "B": 1.0, ALL_MODELS: pytest.approx(2 / 3)}
    assert table["n_groups"].to_dict() == {"A": 3, "B": 1, ALL_MODELS: 3}
    assert np.isnan(table.at["B", "low"])
    assert table.at["A", "low"] == 0 and table.at["A", "high"] == 1
    assert 0.5 <= table.at[ALL_MODELS, "low"] <= 2 / 3 <= table.at[ALL_MODELS, "high"]
    assert table["n_models"].to_dict() == {"A": 1, "B": 1, ALL_MODELS: 2}
    assert table["control"].to_dict() == {"A": 0.25, "B": 0.25, ALL_MODELS: 0.25}
    assert table.loc[["A", ALL_MODELS], ["control_low", "control_high"]].eq(0.25).all(axis=None)
    expected = {"A": 0.25, "B": 0.75, ALL_MODELS: pytest.approx(2 / 3 - 0.25)}
    assert table["difference"].to_dict() == expected
    ends = table[["difference_low", "difference_high"]].to_numpy()
    assert ends == pytest.approx(table[["low", "high"]].to_numpy() - 0.25, nan_ok=True)


def test_differences_are_paired_by_model_and_concept():
    """Values that vary widely, always 0.1 above their controls: the interval is 0.1 alone."""
    rng = np.random.default_rng(3)
    rows = [(model, group, rng.random()) for model in "AB" for group in "vwxyz"]
    table = pd.DataFrame(rows, columns=["model", "group", "control"])
    table = table.assign(method="m", measure="noise.score", value=table["control"] + 0.1, n=1)
    found = summary(table).set_index("model")
    assert found["high"].sub(found["low"]).min() > 0.05
    for column in ("difference", "difference_low", "difference_high"):
        assert found[column].to_numpy() == pytest.approx(0.1)


def test_intervals_of_all_columns_come_from_the_same_draws():
    rng = np.random.default_rng(4)
    values = rng.random((6, 3))
    expected = mean_intervals(values, draws=500, seed=1)
    assert np.array_equal(joint_mean_intervals(values, draws=500, seed=1), expected)
    # What one column lacks changes nothing of the others; its own draws are theirs, less that row.
    values[2, 1] = np.nan
    found = np.array(joint_mean_intervals(values, draws=500, seed=1))
    assert np.array_equal(found[:, [0, 2]], np.array(expected)[:, [0, 2]])
    chosen = np.random.default_rng(1).integers(6, size=(500, 6))
    means = [np.nanmean(values[row, 1]) for row in chosen]
    assert found[:, 1] == pytest.approx(np.quantile(means, [0.025, 0.975]))
    few = np.array([[1.0], [np.nan], [np.nan]])
    assert np.isnan(joint_mean_intervals(few)).all()


# ------------------------------------------------------------------------------------------- costs


def test_costs_time_each_method_alone(model, pictures):
    settings = ComparisonSettings(
        {"activation": "activation.act", "dape": "counts", "random": "none"},
        "act", 3, 1, 1, 1, 0, 5, 4,
    )  # fmt: skip
    cases = [Case(p, p, [], IDS["bear"]) for p in pictures[:2]]
    rows = costs(model, TEXT, cases, settings, 1)
    assert [row["method"] for row in rows] == ["activation", "dape"]
    # At least what its scores take.
    assert all(row["bytes"] > 2 * 3 * 40 * 4 and row["seconds"] > 0 for row in rows)
    assert [row["n_samples"] for row in rows] == [2, 2]
    assert needed({"a": "two_stage.act", "b": "activation_last.post", "c": "none"}) == [
        "activation",
        "two_stage",
    ]
    scores = np.array([-2.0, -0.5])
    assert ranked(scores, "two_stage.act").tolist() == [-np.inf, -0.5]
    assert ranked(scores, "activation.act").tolist() == [-2.0, -0.5]


def test_peak_memory_is_what_is_held_at_once():
    """Two arrays of 4 MB at a time, or what a backward pass needs of one of them."""
    before = torch.zeros(1000, 1000)

    def forward():
        first, second = before + 1, before + 2
        del first
        return second.sum() + (before[:500] * 3).sum()

    assert peak_bytes(forward, torch.device("cpu")) == pytest.approx(8e6, rel=0.001)

    def chain():
        values = torch.zeros(1000, 1000)
        for _ in range(6):
            values = values.exp()

    def backward():
        values = torch.zeros(1000, 1000, requires_grad=True)
        kept = values
        for _ in range(6):
            kept = kept.exp()
        kept.sum().backward()

    # Without a backward pass two at a time, with one all seven and the gradient.
    assert peak_bytes(chain, torch.device("cpu")) == pytest.approx(8e6, rel=0.001)
    assert peak_bytes(backward, torch.device("cpu")) >= 8 * 4e6
