"""The training of the tiny models runs from drawing to a directory that loads again."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mmneurons.models.captions import fill_prompt
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.world import grammar, train_minigpt4
from mmneurons.world.tokenizer import train_tokenizer

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def trained():
    """A MiniGPT-4 after three steps of each lesson, and the losses on the way."""
    config = yaml.safe_load((REPOSITORY / "resources/world.yaml").read_text())["minigpt4-world"]
    step = {"steps": 3, "batch_size": 8, "lr": 1.0e-3}
    config |= {"pictures": 48, "processes": 1}
    config["vision_training"] = {"window": 8, "windows": step, "whole": step}
    config["caption_training"] = [step, step]
    prompts = yaml.safe_load((REPOSITORY / "resources/prompts.yaml").read_text())
    prompt = fill_prompt(prompts[config["prompt"]])
    tokenizer = train_tokenizer(grammar.world_text(np.random.default_rng(0), 2000), 600)
    lessons = []

    def progress(steps, _total, name):
        lessons.append(name)
        return steps

    threads = torch.get_num_threads()
    model = train_minigpt4.train(config, tokenizer, prompt, 1, 2, progress)
    torch.set_num_threads(threads)
    return model, prompt, lessons


def test_lessons_come_in_the_order_of_the_real_model(trained):
    assert trained[2] == [
        "vision: windows",
        "vision: whole pictures",
        "captions",
        "captions",
    ]


def test_the_trained_model_is_frozen_saved_and_loaded(trained, tmp_path):
    model, prompt, _ = trained
    assert not any(weight.requires_grad for weight in model.network.parameters())
    model.network.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    again = MiniGPT4.load(tmp_path, "cpu", torch.float32)
    found = train_minigpt4.evaluate(again, prompt, n=8, seed=3)
    assert found == train_minigpt4.evaluate(model, prompt, n=8, seed=3)
    assert found["pictures"] == 8


def test_pictures_do_not_depend_on_the_number_of_processes():
    one, two = (train_minigpt4.draw_pictures(300, 5, 64, 4, processes) for processes in (1, 2))
    assert np.array_equal(one.pixels, two.pixels)
    assert np.array_equal(one.categories, two.categories)
    assert one.captions == two.captions


def test_patch_labels_are_on_the_objects():
    drawn = train_minigpt4.draw_pictures(40, 5, 64, 4, 1)
    for categories, colours, caption in zip(
        drawn.categories, drawn.colours, drawn.captions, strict=True
    ):
        shown = {
            train_minigpt4.CLASSES[label].name for label in np.unique(categories[categories > 0])
        }
        assert shown and all(name in caption for name in shown)
        assert ((colours >= 0) <= (categories > 0)).all()
