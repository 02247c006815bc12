"""The tiny InstructBLIP: its training runs through, and the one that ships is good enough."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoTokenizer

from mmneurons.models.captions import fill_prompt
from mmneurons.models.instructblip import InstructBlip
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.registry import load_model, read_registry
from mmneurons.world import grammar, lessons, train_instructblip
from mmneurons.world.training import evaluate

REPOSITORY = Path(__file__).parents[1]
MODELS = REPOSITORY / "resources" / "models"
NAME = "instructblip-world"


@pytest.fixture(scope="module")
def settings():
    return yaml.safe_load((REPOSITORY / "resources/world.yaml").read_text())[NAME]


@pytest.fixture(scope="module")
def prompt(settings):
    prompts = yaml.safe_load((REPOSITORY / "resources/prompts.yaml").read_text())
    return fill_prompt(prompts[settings["prompt"]])


@pytest.fixture(scope="module")
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# Lessons.


def test_scene_of_reads_a_caption_back():
    for caption in (
        "The image shows a red car on a street.",
        "The image shows a red stop sign, a black traffic light and a blue bird in a cloudy sky.",
    ):
        scene = lessons.scene_of(caption)
        assert grammar.canonical_caption(scene) == caption


def test_caption_exchange_goes_on_after_the_prompt():
    said = lessons.caption_exchange(
        "The image shows a red car and a white cat on a beach.", "An image of"
    )
    assert f"{said.prompt} {said.reply}" == "An image of a red car and a white cat on a beach."
    assert said.gist == ("beach", "red", "car", "white", "cat")


@pytest.mark.parametrize("domain", lessons.ATTRIBUTES)
def test_lessons_are_the_same_for_any_number_of_processes(domain):
    one, two = (lessons.draw_lessons(domain, n, 5, 64, 1) for n in (4, 6))
    assert np.array_equal(one.pixels, two.pixels[:4])
    assert one.exchanges == two.exchanges[:4]
    assert one.attributes.shape == (4, len(lessons.ATTRIBUTES[domain]))
    values = np.array(list(lessons.ATTRIBUTES[domain].values()))
    assert (two.attributes >= -1).all() and (two.attributes < values).all()


def test_choices_are_asked_as_the_role_and_templates_say():
    rng = np.random.default_rng(0)
    _, labels, said = lessons.DRAWN["pmc_vqa"](rng)
    assert {"modality", "region", "finding"} <= labels.keys()
    for exchange in said:
        options = exchange.prompt.split(" Options: ")[1]
        letter = exchange.prompt.index(f"'{exchange.reply}: {' '.join(exchange.gist[1:2])}")
        assert letter > 0 and options.startswith("['A: ")
        assert exchange.prompt.endswith("from the given choices directly.")


# Training.


@pytest.fixture(scope="module")
def trained(settings, prompt, threads):
    """An InstructBLIP after two steps of each lesson, and the lessons' names."""
    step = {"steps": 2, "batch_size": 12, "lr": 1.0e-3}
    config = settings | {"scenes": 24, "pictures_a_domain": 8, "processes": 1}
    first, second = (part["vision"]["shares"] for part in settings["rounds"][:2])
    config["rounds"] = [
        {"vision": {"windows": step, "shares": first, "whole": step}, "queries": step},
        {"vision": {"shares": second, "whole": step}, "queries": step},
    ]
    config["replies"] = [{"training": step}]
    decoder = MiniGPT4.load(MODELS / config["decoder"], "cpu", torch.float32)
    before = decoder.decoder.model.layers[0].mlp.down_proj.weight.clone()
    words = AutoTokenizer.from_pretrained(MODELS / config["qformer_tokenizer"])
    names = []

    def progress(steps, _total, name):
        names.append(name)
        return steps

    model = train_instructblip.train(config, decoder, words, prompt, 1, 1, progress)
    return model, decoder, before, names


def test_stages_come_in_order_and_leave_the_other_model_alone(trained):
    model, decoder, before, names = trained
    assert names == [
        "vision: windows",
        "vision: whole pictures",
        "queries",
        "vision: whole pictures",
        "queries",
        "replies",
    ]
    weights = decoder.decoder.model.layers[0].mlp.down_proj.weight
    assert torch.equal(weights, before)
    assert not torch.equal(model.decoder.model.layers[0].mlp.down_proj.weight, before)


def test_the_trained_model_is_frozen_saved_and_loaded(trained, prompt, tmp_path):
    model = trained[0]
    assert not any(weight.requires_grad for weight in model.network.parameters())
    model.save(tmp_path)
    again = InstructBlip.load(tmp_path, "cpu", torch.float32)
    again.check()
    found = evaluate(again, prompt, 4, 3, "An image of")
    assert found == evaluate(model, prompt, 4, 3, "An image of")


def test_tower_of_windows_agrees_with_the_tower_on_a_whole_picture(trained):
    network = trained[0].network
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    places = torch.arange(64).expand(2, -1)
    by_windows = train_instructblip._tower_of_windows(network, pixels, places)
    whole = network.vision_model(pixels).last_hidden_state[:, 1:]
    assert torch.allclose(by_windows, whole, atol=1e-5)


# The model that ships.


@pytest.fixture(scope="module")
def shipped(threads):
    torch.set_num_threads(2)
    registry = read_registry(str(REPOSITORY / "resources/models.yaml"))
    return load_model(replace(registry[NAME], path=MODELS / NAME), "cpu", "float32")


def test_shipped_model_names_objects_of_new_pictures(shipped, prompt):
    found = evaluate(shipped, prompt, 60, 78, "An image of")
    reported = json.loads((MODELS / NAME / "training.json").read_text())["new_pictures"]
    # Sixty pictures have about 120 objects: three standard errors of what was measured on more.
    for measure in ("recall", "precision"):
        spread = 3 * (reported[measure] * (1 - reported[measure]) / 120) ** 0.5
        assert found[measure] >= reported[measure] - spread - 0.01


@pytest.mark.parametrize("domain", lessons.DRAWN)
def test_shipped_model_answers_better_than_the_most_frequent_answer(shipped, domain):
    found = train_instructblip.evaluate_questions(shipped, domain, 48, 79)
    assert found["accuracy"] > found["majority"] + 0.1
