"""The tiny models that ship: whole, as checked in, and as good as they have to be."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoTokenizer, CLIPModel

from mmneurons.models.captions import fill_prompt
from mmneurons.models.registry import load_model, read_registry
from mmneurons.world.train_clip import retrieval
from mmneurons.world.training import evaluate

REPOSITORY = Path(__file__).parents[1]
MODELS = REPOSITORY / "resources" / "models"


def test_every_file_has_its_checksum():
    lines = (MODELS / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    shipped = {
        str(path.relative_to(MODELS))
        for folder in MODELS.glob("*-world")
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert listed.keys() == shipped
    for name, digest in listed.items():
        assert hashlib.sha256((MODELS / name).read_bytes()).hexdigest() == digest, name


@pytest.fixture(scope="module")
def minigpt4(monkeypatch_module):
    monkeypatch_module.chdir(REPOSITORY)
    return load_model(read_registry("resources/models.yaml")["minigpt4-world"], "cpu", "float32")


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_minigpt4_names_objects_of_new_pictures(minigpt4):
    prompts = yaml.safe_load((REPOSITORY / "resources/prompts.yaml").read_text())
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    found = evaluate(minigpt4, fill_prompt(prompts["minigpt4.training"]), n=400, seed=77)
    torch.set_num_threads(threads)
    assert found["recall"] >= 0.95
    assert found["precision"] >= 0.95


def test_world_has_enough_neurons_and_split_names(minigpt4):
    assert sum(site.n_units for site in minigpt4.sites("language")) >= 2048
    names = (REPOSITORY / "resources/categories/coco-world.txt").read_text().splitlines()
    assert sum(len(minigpt4.tokenizer.tokenize(name)) > 1 for name in names) >= 3
    assert all(minigpt4.tokenizer.unk_token not in minigpt4.tokenizer.tokenize(n) for n in names)


def test_clip_tells_new_pictures_apart():
    clip = CLIPModel.from_pretrained(MODELS / "clip-world")
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "clip-world")
    found = retrieval(clip, tokenizer, n=128, seed=77)
    assert found["caption_of_picture"] >= 0.95
    assert found["picture_of_caption"] >= 0.95


@pytest.mark.parametrize(
    ("name", "prompt", "bar"),
    [
        ("llava-world", "llava.few-words", 0.9),
        ("mplug-owl2-world", "mplug_owl2.few-words", 0.92),
        ("limber-world", "limber.picture", 0.92),
        ("limber-world", "limber.few-words", 0.92),
    ],
)
def test_few_words_name_objects_of_new_pictures(name, prompt, bar, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    model = load_model(read_registry("resources/models.yaml")[name], "cpu", "float32")
    row = yaml.safe_load((REPOSITORY / "resources/prompts.yaml").read_text())[prompt]
    found = evaluate(model, fill_prompt(row), n=64, seed=77, prefix=row["prefix"])
    assert found["recall"] >= bar
    assert found["precision"] >= bar


@pytest.mark.parametrize(
    ("name", "recall"),
    [
        ("minigpt4-world", 0.95),
        ("llava-world", 0.93),
        ("mplug-owl2-world", 0.93),
        ("limber-world", 0.95),
    ],
)
def test_training_is_reported(name, recall):
    facts = json.loads((MODELS / name / "training.json").read_text())
    assert facts["new_pictures"]["recall"] >= recall
    assert facts["new_pictures"]["precision"] >= 0.95
