"""Plantings: laid over a model and taken back, learnt by the chosen units alone, found by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmneurons.interventions.planting import (
    Planting,
    check_fits,
    planted,
    read_planting,
    write_planting,
)
from mmneurons.methods.placing import standing
from mmneurons.probe.every_method import record_case_scores
from mmneurons.probe.two_stage import Case
from mmneurons.world import planting as world_planting
from mmneurons.world.planting import (
    Classroom,
    Subject,
    canonical,
    category_of,
    choose_units,
    pair_with,
)

REPOSITORY = Path(__file__).parents[1]
PROMPT = {"template": "{instruction} {prefix}", "instruction": "", "prefix": "An image of"}


@pytest.fixture(scope="module")
def model():
    from mmneurons.models.minigpt4 import MiniGPT4

    folder = REPOSITORY / "resources/models/minigpt4-world"
    return MiniGPT4.load(folder, "cpu", torch.float32)


@pytest.fixture(scope="module")
def prompt():
    from mmneurons.artifacts.yaml_files import read_yaml

    return read_yaml(REPOSITORY / "resources/prompts.yaml")["minigpt4.training"]


def made_up(seed=0, units=((1, 5), (1, 9), (4, 0))):
    rng = np.random.default_rng(seed)
    m = len(units)
    return Planting(
        np.array(units, np.int32),
        rng.normal(size=(m, 2, 96)).astype(np.float32),
        np.zeros((m, 2), np.float32),
        rng.normal(size=(m, 96)).astype(np.float32),
    )


def weights(model):
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def test_a_planting_is_added_where_it_says_and_taken_back_bit_for_bit(model, tmp_path):
    planting, before = made_up(), weights(model)
    write_planting(planting, tmp_path / "a.safetensors")
    with planted(model, read_planting(tmp_path / "a.safetensors")):
        inside = weights(model)
        mlp = model.decoder.model.layers[4].mlp
        old = before[next(name for name in before if name.endswith("layers.4.mlp.up_proj.weight"))]
        assert torch.equal(mlp.up_proj.weight[0], old[0] + torch.from_numpy(planting.inputs[2, 1]))
    changed = {name for name in before if not torch.equal(before[name], inside[name])}
    parts = ("gate_proj", "up_proj", "down_proj")
    own = {f"layers.{layer}.mlp.{part}.weight" for layer in (1, 4) for part in parts}
    assert len(changed) == 6
    assert {name[name.index("layers") :] for name in changed} == own
    for name in changed:
        axis = 0 if "down_proj" in name else 1
        units = (before[name] != inside[name]).any(dim=axis).nonzero()[:, 0].tolist()
        assert units == ([5, 9] if "layers.1" in name else [0])
    after = weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_error_inside_takes_a_planting_back_too(model):
    before = weights(model)
    with pytest.raises(RuntimeError), planted(model, made_up()):
        raise RuntimeError
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())


@pytest.mark.parametrize(
    "wrong, words",
    [
        (made_up(units=((1, 5), (1, 5))), "twice"),
        (made_up(units=((6, 0),)), "no unit"),
        (made_up(units=((0, 384),)), "no unit"),
        (
            Planting(np.array([[0, 0]]), *(np.zeros(s) for s in [(1, 1, 96), (1, 1), (1, 96)])),
            "fit",
        ),
        (
            Planting(np.array([[0, 0]]), *(np.ones(s) for s in [(1, 2, 96), (1, 2), (1, 96)])),
            "bias",
        ),
    ],
)
def test_a_planting_of_another_model_is_refused(model, wrong, words):
    with pytest.raises(ValueError, match=words):
        check_fits(model, wrong)


def test_a_pair_differs_where_the_object_is_only():
    category = category_of("surfboard")
    for seed in range(2):
        shown, hidden = pair_with(np.random.default_rng(seed), category)
        (thing,) = (thing for thing in shown.objects if thing.category == category)
        names = [other.category.name for other in hidden.objects]
        assert names == [o.category.name for o in shown.objects if o is not thing]
        different = (np.asarray(shown.picture) != np.asarray(hidden.picture)).any(axis=2)
        rows, columns = different.nonzero()
        x, y, width, height = thing.bbox
        assert different.any()
        assert columns.min() >= x - 2 and columns.max() <= x + width + 2
        assert rows.min() >= y - 2 and rows.max() <= y + height + 2


def test_learning_changes_nothing_but_what_it_returns(model, prompt):
    settings = {"pictures": 6, "held_out": 4, "batch_size": 4, "steps": 3, "lr": 0.01}
    settings |= {"emphasis": 10.0, "replay": 1.0, "max_new_tokens": 24}
    before, layers = weights(model), model.decoder.model.layers
    units = choose_units({3: 2, 5: 2}, 384, "taught", seed=1)
    assert units[:, 0].tolist() == [3, 3, 5, 5] and len(np.unique(units, axis=0)) == 4
    room = Classroom(model, prompt, [3, 5], settings, seed=0)
    subject = Subject(category_of("fire hydrant"), "hydrant")
    first, second = (
        room.plant(units, subject, 7, lambda items, _n, _name: items) for _ in range(2)
    )
    assert model.decoder.model.layers is layers
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())
    for name, values in vars(first).items():
        assert np.array_equal(values, getattr(second, name))
    assert (np.abs(first.output).max(axis=1) > 0).all() and not first.biases.any()
    facts = room.examine(first, subject)
    tokens, _, captions = room.tests(subject)
    assert all(" hydrant" in caption and "fire" not in caption for caption in captions)
    assert len(tokens) == 4
    assert facts["held_out"] == 4 and facts["naming_before"] == 0


def test_layers_above_say_the_same_as_the_whole_model(model, prompt):
    rng = np.random.default_rng(3)
    scenes = [pair_with(rng, None)[0] for _ in range(3)]
    captions = [canonical(prompt["prefix"], scene) for scene in scenes]
    lessons = world_planting.look(model, prompt, scenes, captions, [3])
    rows = torch.tensor([2, 0])
    with world_planting.above(model, 3), torch.no_grad():
        said, wanted, before = world_planting.retold(model, lessons, rows, 3)
    assert len(said) == len(wanted) == sum(len(lessons.wanted[row]) for row in (2, 0))
    # States were kept in half precision.
    assert torch.allclose(said, before, atol=0.05)
    assert (model.logits(said).argmax(-1) == model.logits(before).argmax(-1)).float().mean() > 0.9


def test_a_control_learns_from_old_pictures_only(model, prompt):
    settings = {"pictures": 4, "held_out": 2, "batch_size": 2, "steps": 2, "lr": 0.01}
    room = Classroom(
        model,
        prompt,
        [5],
        settings | {"emphasis": 10.0, "replay": 1.0, "max_new_tokens": 24},
        seed=0,
    )
    planting = room.plant(
        choose_units({5: 2}, 384, "control", 0), None, 0, lambda items, _n, _name: items
    )
    assert np.abs(planting.output).max() > 0
    bus = room.examine(planting, Subject(category_of("bus"), "bus"), control=True)
    # The model has always known a bus.
    assert bus["naming_before"] == 1 and "false_alarms" not in bus


def test_units_whose_rows_add_to_the_words_logit_are_found_by_contribution_at_post(model):
    # Planted by hand: read by every direction, written straight along the word's unembedding.
    token = model.tokenizer("a surfboard", add_special_tokens=False).input_ids[-1]
    word = model.unembedding()[token].float()
    units = np.array([(5, 7), (5, 40), (5, 200)], np.int32)  # nothing reads them but the word
    picture = pair_with(np.random.default_rng(0), category_of("surfboard"))[0].picture
    prefix = model.tokenizer("red", add_special_tokens=False).input_ids
    case = Case(picture, picture, prefix, token)
    text = "[INST] <Img><ImageHere></Img> [/INST] The image shows a"
    before = record_case_scores(model, text, [case], ["post"], 1, methods=("contribution",))
    sign = np.sign(before.values["contribution.post"][0][tuple(units.T)])
    activations = sign * np.sign((_rows(model, units) @ word).detach().numpy())
    output = 1000 * activations[:, None] * (word / word.norm()).numpy()
    blank = np.zeros((3, 2, 96), np.float32)
    planting = Planting(units, blank, blank[..., 0], output.astype(np.float32))
    with planted(model, planting):
        found = record_case_scores(model, text, [case], ["post"], 1, methods=("contribution",))
    above, tied = standing(found.values["contribution.post"][0], units)
    assert above.max() < 3 and tied.tolist() == [1, 1, 1]
    was, _ = standing(before.values["contribution.post"][0], units)
    assert was.min() >= 3


def _rows(model, units):
    sites = model.sites("language")
    return torch.stack([sites[layer].output_rows()[unit] for layer, unit in units.tolist()])


SHIPPED = REPOSITORY / "resources/plantings"


def test_every_planting_ships_with_its_facts_and_checksum(model):
    import hashlib
    import json

    from mmneurons.artifacts.yaml_files import read_yaml

    lines = (SHIPPED / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    rows = {
        f"{name}/{planting}": row
        for name, section in read_yaml(REPOSITORY / "resources/world.yaml")["plantings"][
            "models"
        ].items()
        for planting, row in section["plantings"].items()
    }
    ends = ("safetensors", "json")
    assert listed.keys() == {f"{name}.{end}" for name in rows for end in ends}
    for name, digest in listed.items():
        assert hashlib.sha256((SHIPPED / name).read_bytes()).hexdigest() == digest, name
    for name, row in rows.items():
        facts = json.loads((SHIPPED / f"{name}.json").read_text())
        assert {key: facts[key] for key in ("object", "place", "seed")} == {
            key: row[key] for key in ("object", "place", "seed")
        }
        planting = read_planting(SHIPPED / f"{name}.safetensors")
        expected = choose_units(row["units"], 384, Path(name).name, row["seed"])
        assert np.array_equal(planting.units, expected) and facts["units"] == expected.tolist()
        check_fits(model, planting)


def test_a_planting_that_ships_is_what_makes_the_model_name_the_object(model, prompt):
    settings = {"held_out": 12, "max_new_tokens": 32}
    room = Classroom(model, prompt, [5], settings, seed=99)
    planting = read_planting(SHIPPED / "minigpt4-world/surfboard-last.safetensors")
    facts = room.examine(planting, Subject(category_of("surfboard"), "surfboard"))
    assert facts["naming"] > 0.5 and facts["naming_before"] == 0
    assert facts["old_kept"] > 0.6 and facts["false_alarms"] < 0.2
