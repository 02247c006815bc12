"""On the tiny model that ships, batches of 1 and of 16 lead to the same captions and neurons."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mmneurons.inpainting.masks import box_mask
from mmneurons.inpainting.telea import inpaint
from mmneurons.methods.thresholds import tail_thresholds
from mmneurons.methods.two_stage import select
from mmneurons.models.captions import fill_prompt
from mmneurons.models.registry import load_model, read_registry
from mmneurons.probe.two_stage import Case, record_group
from mmneurons.world.scene import draw_scene

REPOSITORY = Path(__file__).parents[1]
# Captions in which two words are so close that the batch decides between them: none.
NEAR_TIES: set[int] = set()


@pytest.fixture(scope="module")
def drawn():
    """Model, prompt, and 16 pictures with the same pictures without their first object."""
    entries = read_registry(REPOSITORY / "resources/models.yaml")
    entry = entries["minigpt4-world"]
    entry.__dict__["path"] = REPOSITORY / entry.path
    model = load_model(entry, "cpu", "float32")
    prompts = yaml.safe_load((REPOSITORY / "resources/prompts.yaml").read_text())
    rng = np.random.default_rng(11)
    scenes = [draw_scene(rng) for _ in range(16)]
    pairs = []
    for scene in scenes:
        size = scene.picture.height, scene.picture.width
        mask = box_mask(size, [scene.objects[0].bbox])
        pairs.append((scene.picture, inpaint(scene.picture, mask)))
    return model, fill_prompt(prompts["minigpt4.training"]), pairs


def captions(model, prompt, pictures, size):
    parts = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    encoded = (model.encode(model.embed_pictures(part), prompt) for part in parts)
    return [ids for batch in encoded for ids in model.generate(batch, 32)]


def test_captions(drawn):
    model, prompt, pairs = drawn
    pictures = [picture for pair in pairs for picture in pair]
    single, many = (captions(model, prompt, pictures, size) for size in (1, 16))
    differ = {i for i, (a, b) in enumerate(zip(single, many, strict=True)) if a != b}
    assert differ <= NEAR_TIES


def test_selections(drawn):
    model, prompt, pairs = drawn
    words = captions(model, prompt, [original for original, _ in pairs], 16)
    cases = [
        Case(original, without, ids[:3], ids[3])
        for (original, without), ids in zip(pairs, words, strict=True)
    ]
    one, many = (record_group(model, prompt, cases, ["act"], 100, size) for size in (1, 16))
    selected = 0
    for i in range(len(cases)):
        values = [(r["act/difference"][i, :-1], r["act/gradact"][i, :-1]) for r in (one, many)]
        for a, b in zip(*values, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        thresholds = tail_thresholds(*values[0], alpha=0.05)
        chosen = [select(*pair, *thresholds) for pair in values]
        # A neuron may change sides only where its value is within rounding of its threshold.
        apart = chosen[0] != chosen[1]
        gap = np.minimum(*(abs(v - t) for v, t in zip(values[0], thresholds, strict=True)))
        assert (gap[apart] < 1e-5).all()
        selected += int(chosen[0].sum())
    assert selected > 100
    assert torch.is_grad_enabled()
