"""The trainings of the tiny models run from drawing to a directory that loads again."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, LlamaConfig, LlamaForCausalLM

from mmneurons.models.captions import fill_prompt
from mmneurons.models.limber import Limber
from mmneurons.models.llava import Llava
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.mplug_owl2 import MPlugOwl2
from mmneurons.world import (
    grammar,
    train_clip,
    train_limber,
    train_llava,
    train_minigpt4,
    train_mplug_owl2,
    training,
)
from mmneurons.world.tokenizer import train_tokenizer

REPOSITORY = Path(__file__).parents[1]
WORLD = yaml.safe_load((REPOSITORY / "resources/world.yaml").read_text())
PROMPTS = yaml.safe_load((REPOSITORY / "resources/prompts.yaml").read_text())
FEW = {"steps": 3, "batch_size": 8, "lr": 1.0e-3}


class Lessons(list):
    """A progress bar that remembers the names of the lessons."""

    def __call__(self, steps, _total, name):
        self.append(name)
        return steps


def short(name):
    """A model's section of the world with few pictures."""
    return WORLD[name] | {"pictures": 48, "processes": 1}


def world_tokenizer():
    return train_tokenizer(grammar.world_text(np.random.default_rng(0), 2000), 600)


@pytest.fixture(scope="module", autouse=True)
def threads():
    """Trainings set the number of threads; other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# MiniGPT-4.


@pytest.fixture(scope="module")
def trained():
    """A MiniGPT-4 after three steps of each lesson, and the names of the lessons."""
    config = short("minigpt4-world")
    config["vision_training"] = {"window": 8, "windows": FEW, "whole": FEW}
    config["caption_training"] = [FEW, FEW]
    prompt = fill_prompt(PROMPTS[config["prompt"]])
    lessons = Lessons()
    model = train_minigpt4.train(config, world_tokenizer(), prompt, 1, 2, lessons)
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
    found = training.evaluate(again, prompt, n=8, seed=3)
    assert found == training.evaluate(model, prompt, n=8, seed=3)
    assert found["pictures"] == 8


# CLIP.


@pytest.fixture(scope="module")
def clip():
    config = short("clip-world") | {"training": FEW}
    return train_clip.train(config, world_tokenizer(), 1, 2, Lessons())


def test_clip_is_frozen_saved_and_loaded(clip, tmp_path):
    model, tokenizer = clip
    assert not any(weight.requires_grad for weight in model.parameters())
    train_clip.save(model, tokenizer, tmp_path)
    again = CLIPModel.from_pretrained(tmp_path)
    found = train_clip.retrieval(again, tokenizer, 16, 3, among=8)
    assert found == train_clip.retrieval(model, tokenizer, 16, 3, among=8)
    assert found["pictures"] == 16
    pictures = [Image.new("RGB", (150, 128), "red"), Image.new("RGB", (128, 192), "blue")]
    pixels = CLIPImageProcessorPil.from_pretrained(tmp_path)(pictures, return_tensors="pt")
    squashed = np.stack([np.asarray(picture.resize((64, 64))) for picture in pictures])
    assert torch.allclose(pixels.pixel_values, training.normalised(squashed), atol=1e-6)


def test_clip_reads_a_text_at_its_end_token(clip):
    model, tokenizer = clip
    texts = ["a red car.", "a red car and a yellow kite."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    together = model.text_model(batch.input_ids, batch.attention_mask)
    ends = [(ids == tokenizer.eos_token_id).nonzero().item() for ids in batch.input_ids]
    assert ends == [int(row.sum()) - 1 for row in batch.attention_mask]
    at_ends = together.last_hidden_state[[0, 1], ends]
    assert torch.equal(together.pooler_output, at_ends)
    alone = model.text_model(**tokenizer(texts[:1], return_tensors="pt"))
    assert torch.allclose(alone.pooler_output[0], at_ends[0], atol=1e-5)


def test_retrieval_counts_pictures_and_captions_apart(clip, monkeypatch):
    # Rows are pictures. Picture 0 finds its caption, picture 1 does not; both captions find theirs.
    logits = torch.tensor([[2.0, 1.0], [1.5, 1.2]])
    monkeypatch.setattr(train_clip, "similarity", lambda *_: logits)
    found = train_clip.retrieval(*clip, n=5, seed=3, among=2)
    assert found == {
        "caption_of_picture": 0.5,
        "picture_of_caption": 1.0,
        "among": 2,
        "pictures": 4,
    }


# LLaVA.


@pytest.fixture(scope="module")
def decoder():
    tokenizer = world_tokenizer()
    names = {f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in ("bos", "eos", "pad")}
    torch.manual_seed(0)
    settings = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2)
    heads = dict(num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512)
    config = LlamaConfig(vocab_size=len(tokenizer), **settings, **heads, **names)
    return LlamaForCausalLM(config), tokenizer


@pytest.fixture(scope="module")
def llava(clip, decoder):
    config = short("llava-world")
    config["caption_training"] = [
        FEW | {"system_text": text, "crowding": 2} for text in (False, True)
    ]
    row = PROMPTS[config["prompt"]]
    prompt, lessons = fill_prompt(row), Lessons()
    tower = clip[0].vision_model
    model = train_llava.train(config, tower, *decoder, prompt, row["prefix"], 1, 2, lessons)
    return model, prompt, lessons


def test_llava_keeps_the_tower_and_teaches_the_rest(llava, clip, decoder):
    network = llava[0].network
    assert not any(weight.requires_grad for weight in network.parameters())
    tower = clip[0].vision_model.state_dict()
    for name, weight in network.model.vision_tower.state_dict().items():
        assert torch.equal(weight, tower[name]), name
    start = decoder[0].model.state_dict()
    for name, weight in network.model.language_model.state_dict().items():
        moved = (weight[: len(start[name])] - start[name]).abs().max()
        # Six steps of at most 0.001 each from where the decoder was.
        assert 0 < moved < 0.01, name
    assert llava[2] == ["captions", "captions"]


def test_llava_is_saved_and_loaded(llava, tmp_path):
    model, prompt, _ = llava
    model.save(tmp_path)
    again = Llava.load(tmp_path, "cpu", torch.float32)
    again.check({"language": 128, "vision": sum(s.n_units for s in model.sites("vision"))})
    found = training.evaluate(again, prompt, 8, 3, "An image of")
    assert found == training.evaluate(model, prompt, 8, 3, "An image of")


def test_llava_features_are_what_the_adapter_projects(llava):
    model, _, _ = llava
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    seen = training.features(lambda p: train_llava.vision_states(model.network, p), pixels)
    projected = model.network.model.multi_modal_projector(seen.float())
    direct = model.embed_pixels(training.normalised(pixels))
    assert torch.allclose(projected, direct, atol=0.01)


def test_the_system_text_can_be_left_out():
    prompt = "[INST] <<SYS>>\nBe\nkind.\n<</SYS>>\n\n<image>\nLook. [/INST]An image of"
    assert train_llava.without_system_text(prompt) == "[INST] <image>\nLook. [/INST]An image of"


# mPLUG-Owl2.


@pytest.fixture(scope="module")
def owl(clip, decoder):
    config = short("mplug-owl2-world")
    config |= {"abstractor_training": FEW, "caption_training": [FEW | {"crowding": 0}]}
    row = PROMPTS[config["prompt"]]
    prompt, lessons = fill_prompt(row), Lessons()
    tower = clip[0].vision_model
    model = train_mplug_owl2.train(config, tower, *decoder, prompt, row["prefix"], 1, 2, lessons)
    return model, prompt, lessons


def test_owl_begins_with_what_clip_sees_and_the_decoder_says(clip, decoder):
    tower, (llama, tokenizer) = clip[0].vision_model, decoder
    abstractor = WORLD["mplug-owl2-world"]["abstractor"]
    network = train_mplug_owl2.build(abstractor, tower, llama, tokenizer).network
    torch.manual_seed(0)
    pixels = torch.randn(2, 3, 64, 64)
    seen = network.model.vision_model(pixels)
    clips = tower.post_layernorm(tower(pixels).last_hidden_state)
    assert torch.allclose(seen, clips, atol=1e-5)
    ids = torch.tensor([[1, 300, 301, 302, 303]])
    embeds = llama.get_input_embeddings()(ids)
    said = network(inputs_embeds=embeds, modality_indicators=torch.tensor([[0, 1, 1, 0, 0]]))
    assert torch.allclose(said.logits, llama(ids).logits, atol=1e-5)


def test_owl_keeps_the_tower_and_teaches_the_rest(owl, clip):
    model, _, lessons = owl
    assert lessons == ["abstractor", "captions"]
    assert not any(weight.requires_grad for weight in model.network.parameters())
    tower = train_mplug_owl2.vision_weights(clip[0].vision_model)
    for name, weight in model.network.model.vision_model.state_dict().items():
        assert torch.equal(weight, tower[name]), name
    for layer in model.network.model.layers:
        for part in (layer.input_layernorm, layer.self_attn.k_proj):
            text, visual = (copy.weight for copy in part.multiway)
            assert not torch.equal(text, visual)


def test_owl_is_saved_and_loaded(owl, tmp_path):
    model, prompt, _ = owl
    model.save(tmp_path)
    again = MPlugOwl2.load(tmp_path, "cpu", torch.float32)
    again.check({"language": 128})
    found = training.evaluate(again, prompt, 8, 3, "An image of")
    assert found == training.evaluate(model, prompt, 8, 3, "An image of")


def test_every_query_is_asked_about_its_block():
    # Four by four patches in two by two blocks of four.
    patches = [
        [0, -1, 2, 1],
        [-1, -1, 2, 2],
        [1, -1, -1, -1],
        [0, -1, -1, -1],
    ]
    shown = train_mplug_owl2.in_blocks(torch.tensor([sum(patches, [])]), n_kinds=3, blocks=2)
    assert shown.tolist() == [[[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 0]]]


def test_queries_must_share_the_patches_out_evenly(clip, decoder):
    abstractor = WORLD["mplug-owl2-world"]["abstractor"] | {"num_learnable_queries": 9}
    model = train_mplug_owl2.build(abstractor, clip[0].vision_model, *decoder)
    with pytest.raises(ValueError, match="9 queries"):
        train_mplug_owl2.train_abstractor(model, None, None, FEW, Lessons())


# What they share.


def test_captions_take_another_prefix(llava):
    text = training.caption_after("An image of", "The image shows a red car on a beach.")
    assert text == "An image of a red car on a beach."
    (ids,) = training.endings(llava[0], [text], "An image of")
    assert llava[0].tokenizer.decode(ids) == "a red car on a beach.</s>"


def test_crowded_pictures_come_more_often():
    # Four pictures of three patches with 1, 3, 2 and 0 kinds of objects.
    categories = np.array([[0, 5, 5], [1, 2, 3], [4, 0, 9], [0, 0, 0]])
    drawn = training.WorldPictures(None, categories, None, None, [])
    assert training.crowded(drawn, 0).tolist() == [0, 1, 2, 3]
    assert training.crowded(drawn, 1).tolist() == [0, 1, 1, 1, 2, 2]
    assert training.crowded(drawn, 2).tolist() == [0] + [1] * 9 + [2] * 4


def test_pictures_do_not_depend_on_the_number_of_processes():
    one, two = (training.draw_pictures(260, 5, 64, 4, processes) for processes in (1, 2))
    assert np.array_equal(one.pixels, two.pixels)
    assert np.array_equal(one.categories, two.categories)
    assert one.captions == two.captions


def test_patch_labels_are_on_the_objects():
    drawn = training.draw_pictures(40, 5, 64, 4, 1)
    for categories, colours, caption in zip(
        drawn.categories, drawn.colours, drawn.captions, strict=True
    ):
        shown = {training.CLASSES[label].name for label in np.unique(categories[categories > 0])}
        assert shown and all(name in caption for name in shown)
        assert ((colours >= 0) <= (categories > 0)).all()


# LiMBeR.


def test_limber_learns_from_drawing_to_directory(tmp_path):
    lessons = Lessons()
    tower = CLIPModel.from_pretrained(REPOSITORY / "resources/models/clip-world").vision_model
    config = short("limber-world") | {
        "vision_training": FEW | {"crowding": 1},
        "caption_training": [FEW | {"crowding": 0, "kept": 20}, FEW | {"crowding": 1, "kept": 64}],
    }
    named = [PROMPTS[name] for name in config["prompts"]]
    prompts = [(fill_prompt(prompt), prompt["prefix"]) for prompt in named]
    assert [prefix for _, prefix in prompts] == ["A picture of", "An image of"]
    tokenizer = train_limber.byte_tokenizer(grammar.world_text(np.random.default_rng(0), 900), 500)
    before = {name: weight.clone() for name, weight in tower.state_dict().items()}
    model = train_limber.train(config, tower, tokenizer, prompts, 3, 1, lessons)
    assert lessons == ["vision", "captions", "captions"]
    assert all(torch.equal(weight, before[name]) for name, weight in tower.state_dict().items())
    assert not any(weight.requires_grad for weight in model.network.parameters())
    model.save(tmp_path)
    again = Limber.load(tmp_path, "cpu", torch.float32)
    again.check({"language": 2304, "vision": 1536})
    picture = Image.new("RGB", (150, 120), (90, 160, 60))
    found = [
        m.final_states(m.encode(m.embed_pictures([picture]), prompts[0][0])) for m in (model, again)
    ]
    assert torch.equal(*found)
    same = train_limber.train(config, tower, tokenizer, prompts, 3, 1, Lessons())
    for one, other in zip(model.network.parameters(), same.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_limbers_lessons_teach(tmp_path):
    """A few dozen steps on a few pictures bring the loss of both stages down."""
    tower = CLIPModel.from_pretrained(REPOSITORY / "resources/models/clip-world").vision_model
    config = short("limber-world") | {
        "vision_training": {"crowding": 0, "steps": 12, "batch_size": 16, "lr": 1.0e-3},
        "caption_training": [
            {"crowding": 0, "kept": 32, "steps": 40, "batch_size": 16, "lr": 3.0e-3}
        ],
    }
    losses = {"vision": [], "captions": []}

    class Losses:
        def __init__(self, steps, _total, name):
            self.steps, self.name = steps, name

        def __iter__(self):
            return iter(self.steps)

        def set_postfix(self, loss, **_):
            losses[self.name].append(float(loss))

    tokenizer = train_limber.byte_tokenizer(grammar.world_text(np.random.default_rng(0), 900), 500)
    prompts = [("A picture of", "A picture of"), ("Say it. An image of", "An image of")]
    train_limber.train(config, tower, tokenizer, prompts, 3, 1, Losses)
    for name, few in (("vision", 3), ("captions", 8)):
        assert np.mean(losses[name][-few:]) < 0.75 * np.mean(losses[name][:few]), losses[name]


# Drawing.


def test_a_script_draws_on_several_processes_without_a_guard(tmp_path):
    """A rule's script runs from its top: the processes that it starts must not run it again."""
    script = tmp_path / "script.py"
    script.write_text(
        "from mmneurons.world.chunks import draw_chunks\n"
        "print('begun', flush=True)\n"
        "print(draw_chunks(divmod, 600, 2))\n"  # of a chunk's start and its number
    )
    out = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")},
    )
    assert out.stdout.split("\n")[:2] == ["begun", "[(0, 1, 5), (0, 0, 72)]"], out.stderr[-2000:]
