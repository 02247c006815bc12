"""MiniGPT-4 against a second forward pass, prompts laid out by hand, and the released layout."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import IDS, VOCABULARY, build_network
from minigpt4_by_hand import ByHand
from PIL import Image
from transformers import AutoConfig, GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

from mmneurons.models.base import Encoded, ModelCheckError
from mmneurons.models.captions import (
    caption_pictures,
    caption_text,
    fill_prompt,
    original_id,
    pictures_to_caption,
    shard_of,
)
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.minigpt4_modeling import (
    EvaVisionConfig,
    MiniGPT4Config,
    MiniGPT4ForConditionalGeneration,
)
from mmneurons.models.registry import ModelEntry, load_model, read_registry

RESOURCES = Path(__file__).parents[1] / "resources"
PROMPTS = yaml.safe_load((RESOURCES / "prompts.yaml").read_text(encoding="utf-8"))
SHORT = "[INST] <Img><ImageHere></Img> Describe [/INST] The image"
LONG = "Give the following image: [INST] <Img><ImageHere></Img> Describe this image [/INST] The"
N_TOKENS = 16  # of the tiny model


def ids(text):
    return [IDS[word] for word in text.split()]


@pytest.fixture(scope="module")
def by_hand(model):
    return ByHand(model.network)


def all_logits(model, encoded):
    return model.logits(model.final_states(encoded))


# --------------------------------------------------------------------------- the forward pass


def test_image_tokens_are_those_of_the_second_forward_pass(model, by_hand, pictures):
    pixels = model.preprocess(pictures[:3])
    tokens = model.embed_pixels(pixels)
    assert tokens.shape == (3, N_TOKENS, 32)
    expected = torch.stack([by_hand.tokens(picture) for picture in pixels])
    torch.testing.assert_close(tokens.double(), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(model.embed_pictures(pictures[:3]), tokens)
    assert expected.std() > 0.1


def test_logits_are_those_of_the_second_forward_pass(model, by_hand, pictures):
    continuation = ids("red car on a beach")
    encoded = model.encode(model.embed_pictures(pictures[:1]), SHORT, [continuation])
    before = [IDS["<s>"], *ids("[INST] <Img>")]
    after = ids("</Img> Describe [/INST] The image") + continuation
    image = by_hand.tokens(model.preprocess(pictures[:1])[0])
    expected = by_hand.logits(by_hand.embeddings(before, image, after))
    logits = all_logits(model, encoded)[0]
    assert logits.shape == (len(before) + N_TOKENS + len(after), len(VOCABULARY))
    torch.testing.assert_close(logits.double(), expected, atol=1e-4, rtol=1e-4)
    assert encoded.image.tolist() == [list(range(3, 3 + N_TOKENS))]
    assert encoded.prompt_end == len(before) + N_TOKENS + 5
    assert encoded.lengths == (5,)


@pytest.mark.parametrize(
    "name",
    ["visual_encoder.blocks.0.attn.q_bias", "visual_encoder.blocks.1.attn.v_bias"],
)
def test_biases_of_queries_and_values_count(model, pictures, name):
    changed = MiniGPT4(build_network(0), model.tokenizer, "cpu")
    with torch.no_grad():
        dict(changed.network.named_parameters())[name].add_(0.5)
    difference = changed.embed_pictures(pictures[:1]) - model.embed_pictures(pictures[:1])
    assert difference.abs().max() > 1e-2


def test_a_key_bias_would_change_nothing_and_is_not_there(model):
    names = dict(model.network.named_parameters())
    assert not [name for name in names if "k_bias" in name or "qkv.bias" in name]


def test_grid_of_16_by_16_patches_is_16_by_4(tokenizer):
    adapter = MiniGPT4(build_network(0, image_size=32, patch_size=2), tokenizer, "cpu")
    assert adapter.grid() == (16, 4)
    base = torch.zeros(1, 3, 32, 32)
    network = adapter.network
    with torch.no_grad():
        # Without attention and FFN, and without the norm's mixing, a patch stays in its own token.
        for block in network.visual_encoder.blocks:
            block.attn.proj.weight.zero_()
            block.attn.proj.bias.zero_()
            block.mlp.fc2.weight.zero_()
            block.mlp.fc2.bias.zero_()
        before = adapter.embed_pixels(base)[0]
        for row, column in [(0, 0), (0, 31), (5, 17), (31, 30), (12, 8)]:  # pixels
            changed = base.clone()
            changed[0, :, row, column] = 3
            moved = (adapter.embed_pixels(changed)[0] - before).abs().amax(dim=-1).view(16, 4)
            assert moved.nonzero().tolist() == [[row // 2, column // 8]]


def test_the_class_token_is_dropped(model, pictures):
    changed = MiniGPT4(build_network(0), model.tokenizer, "cpu")
    with torch.no_grad():
        for block in changed.network.visual_encoder.blocks:
            block.attn.proj.weight.zero_()
        before = changed.embed_pictures(pictures[:1])
        changed.network.visual_encoder.cls_token.add_(1)
        assert torch.equal(changed.embed_pictures(pictures[:1]), before)


def test_patches_with_named_places_are_those_of_the_whole_picture(model, pictures):
    tower, pixels = model.network.visual_encoder, model.preprocess(pictures[:2])
    everywhere = torch.arange(64).expand(2, -1)
    assert torch.equal(tower(pixels, places=everywhere), tower(pixels))
    # The picture's patches put down in another order, each row in its own, with their true places.
    generator = torch.Generator().manual_seed(0)
    places = torch.stack([torch.randperm(64, generator=generator) for _ in range(2)])
    patches = pixels.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3)  # batch, 3, patches, 4, 4
    moved = torch.stack([patch[:, order] for patch, order in zip(patches, places, strict=True)])
    strip = moved.permute(0, 1, 3, 2, 4).flatten(3)  # side by side, 4 pixels high
    states = tower(strip, places=places)
    expected = tower(pixels)
    torch.testing.assert_close(states[:, 0], expected[:, 0], atol=1e-5, rtol=1e-5)
    for row in range(2):
        torch.testing.assert_close(
            states[row, 1:], expected[row, 1:][places[row]], atol=1e-5, rtol=1e-5
        )
    part = tower(strip[..., :40], places=places[:, :10])
    assert part.shape == (2, 11, 16)
    assert not torch.allclose(part[:, 1:], states[:, 1:11], atol=1e-2)


# -------------------------------------------------------------------------------- preprocessing


def test_preprocessing_of_a_picture_of_the_right_size(model):
    values = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels = model.preprocess([Image.fromarray(values)])
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    expected = np.stack([(values[..., c] / 255 - mean[c]) / std[c] for c in range(3)])
    assert pixels.shape == (1, 3, 32, 32)
    assert pixels.dtype == torch.float32
    np.testing.assert_allclose(pixels[0].numpy(), expected, atol=1e-5)


def cubic(distance, a=-0.5):
    """The cubic convolution kernel of Keys (1981) with Pillow's a = -1/2."""
    x = abs(distance)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def resized_by_hand(line, n):
    """One axis to `n` pixels: the kernel is as wide as the source pixels that one target covers."""
    scale = len(line) / n
    stretch = max(scale, 1)
    result = []
    for i in range(n):
        centre = (i + 0.5) * scale
        weights = np.array([cubic((j + 0.5 - centre) / stretch) for j in range(len(line))])
        result.append(weights @ line / weights.sum())
    return np.array(result)


def test_preprocessing_squashes_without_crop_by_bicubic_resampling(model):
    # A picture 80 wide and 20 high whose columns hold a smooth ramp with a step.
    line = np.concatenate([np.linspace(40, 120, 40), np.full(40, 200.0)]).round()
    values = np.broadcast_to(line[None, :, None], (20, 80, 3)).astype(np.uint8)
    pixels = model.preprocess([Image.fromarray(values)])[0, 0]
    unnormalised = pixels.numpy() * 0.26862954 + 0.48145466
    expected = resized_by_hand(line, 32)
    assert unnormalised.shape == (32, 32)
    for row in unnormalised * 255:
        np.testing.assert_allclose(row, expected, atol=1.01)  # Pillow rounds to whole levels


# -------------------------------------------------------------------------------------- prompts


def test_training_prompt_laid_out_by_hand(model, pictures):
    prompt = fill_prompt(PROMPTS["minigpt4.training"])
    assert prompt == (
        "[INST] <Img><ImageHere></Img> Describe this image in detail. [/INST] The image shows a"
    )
    before, after = model.segments(prompt)
    assert before == [IDS["<s>"], IDS["[INST]"], IDS["<Img>"]]
    assert after == ids("</Img> Describe this image in detail. [/INST] The image shows a")
    encoded = model.encode(model.embed_pictures(pictures[:1]), prompt)
    table = model.decoder.get_input_embeddings().weight
    assert torch.equal(encoded.embeds[0, :3], table[before])
    assert torch.equal(encoded.embeds[0, 3 : 3 + N_TOKENS], model.embed_pictures(pictures[:1])[0])
    assert torch.equal(encoded.embeds[0, 3 + N_TOKENS :], table[after])


def test_evaluation_prompt_laid_out_by_hand(model):
    before, after = model.segments(fill_prompt(PROMPTS["minigpt4.evaluation"]))
    system = (
        "Give the following image: <Img>ImageContent</Img>. You will be able to see the image "
        "once I provide it to you. Please answer my"
    )
    assert IDS["<s>"] not in before[1:-3]
    # "questions." stands directly before the literal <s>, which is the second BOS.
    assert before == [
        IDS["<s>"],
        *ids(system),
        IDS["questions."],
        IDS["<s>"],
        *ids("[INST] <Img>"),
    ]
    assert after == ids("</Img> Describe this image in detail. [/INST] The image shows a")
    assert IDS["<unk>"] not in before + after


@pytest.mark.parametrize("prompt", ["Describe", "<ImageHere> and <ImageHere>"])
def test_a_prompt_without_exactly_one_place_for_the_picture_is_an_error(model, prompt):
    with pytest.raises(ValueError, match="exactly once"):
        model.segments(prompt)


def test_pictures_prompts_and_continuations_must_agree_in_number(model, pictures):
    tokens = model.embed_pictures(pictures[:2])
    with pytest.raises(ValueError, match="differ in number"):
        model.encode(tokens, [SHORT])
    with pytest.raises(ValueError, match="differ in number"):
        model.encode(tokens, SHORT, [[1]])


# ------------------------------------------------------------------------------------- batching


def test_left_padding_changes_no_logit(model, by_hand, pictures):
    tokens = model.embed_pictures(pictures[:3])
    prompts, continuations = [SHORT, LONG, SHORT], [ids("red car"), [], ids("a teddy bear on")]
    encoded = model.encode(tokens, prompts, continuations)
    assert len(set(encoded.image[:, 0].tolist())) == 2
    together = all_logits(model, encoded)
    for row in range(3):
        alone = model.encode(tokens[row : row + 1], prompts[row], [continuations[row]])
        expected = all_logits(model, alone)[0]
        start = encoded.prompt_end - alone.prompt_end
        got = together[row, start : start + len(expected)]
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        assert encoded.mask[row].sum() == len(expected)
        rows = torch.arange(N_TOKENS) + alone.image[0, 0] + start
        assert torch.equal(encoded.image[row], rows)
        assert torch.equal(encoded.embeds[row, encoded.image[row]], tokens[row])


def naive(model, by_hand, picture, prompt, n, eos=None):
    before, after = model.segments(prompt)
    image = by_hand.tokens(model.preprocess([picture])[0])
    return by_hand.greedy(before, image, after, n, IDS["</s>"] if eos is None else eos)


def test_generation_is_the_uncached_argmax_loop(model, by_hand, pictures):
    tokens = model.embed_pictures(pictures[:4])
    prompts = [SHORT, LONG, SHORT, LONG]
    generated = model.generate(model.encode(tokens, prompts), 7)
    expected = [naive(model, by_hand, *pair, 7) for pair in zip(pictures, prompts, strict=False)]
    assert generated == expected
    assert len({tuple(row) for row in generated}) > 1
    assert max(map(len, generated)) == 7


def with_eos(model, word):
    """The adapter with a tokenizer whose end token is an ordinary word."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model.tokenizer.backend_tokenizer,
        bos_token="<s>",
        eos_token=word,
        pad_token="<pad>",
    )
    return MiniGPT4(build_network(0), tokenizer, "cpu")


def test_generation_stops_each_row_at_its_own_end_token(model, by_hand, pictures):
    encoded = model.encode(model.embed_pictures(pictures[:6]), SHORT)
    free = model.generate(encoded, 8)
    # A word that some row says, but neither first nor last, and that some row does not say.
    candidates = {
        token
        for row in free
        for place, token in enumerate(row)
        if 0 < place < 7 and any(token not in other for other in free)
    }
    assert candidates, "the tiny model has become too monotonous for this test"
    eos = min(candidates)
    stopped = with_eos(model, VOCABULARY[eos]).generate(encoded, 8)
    cut = [row[: row.index(eos)] if eos in row else row for row in free]
    assert stopped == cut
    assert len({len(row) for row in cut}) > 1
    assert stopped == [naive(model, by_hand, p, SHORT, 8, eos) for p in pictures[:6]]


def test_a_first_token_that_ends_gives_an_empty_caption(model, pictures):
    encoded = model.encode(model.embed_pictures(pictures[:1]), SHORT)
    first = model.generate(encoded, 1)[0][0]
    assert with_eos(model, VOCABULARY[first]).generate(encoded, 4) == [[]]


def test_the_checkpoints_own_generation_settings_do_not_count(model, pictures):
    encoded = model.encode(model.embed_pictures(pictures[:4]), SHORT)
    adapter = MiniGPT4(build_network(0), model.tokenizer, "cpu")
    # What Llama-2-chat ships, and two more that would change greedy captions.
    adapter.decoder.generation_config = GenerationConfig(
        do_sample=True, temperature=0.6, top_p=0.9, repetition_penalty=3.0, min_new_tokens=1
    )
    assert adapter.generate(encoded, 8) == model.generate(encoded, 8)


def test_generation_from_a_continuation_is_an_error(model, pictures):
    encoded = model.encode(model.embed_pictures(pictures[:1]), SHORT, [ids("red")])
    with pytest.raises(ValueError, match="without a continuation"):
        model.generate(encoded, 2)


# ------------------------------------------------------------------------------ loading, checks


def test_saved_and_loaded_again_bit_for_bit(model, pictures, tmp_path):
    model.network.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    again = MiniGPT4.load(tmp_path, "cpu", torch.float32)
    state, expected = again.network.state_dict(), model.network.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in state)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "minigpt4"
    assert saved["vision_config"]["layer_norm_eps"] == 1e-6
    encoded, prompt = [], fill_prompt(PROMPTS["minigpt4.evaluation"])
    for adapter in (model, again):
        assert adapter.segments(prompt) == model.segments(prompt)
        encoded.append(adapter.encode(adapter.embed_pictures(pictures[:2]), prompt))
    assert torch.equal(all_logits(model, encoded[0]), all_logits(again, encoded[1]))
    assert not again.network.training
    assert not any(weight.requires_grad for weight in again.network.parameters())
    assert MiniGPT4.load(tmp_path, "cpu", torch.bfloat16).dtype == torch.bfloat16


def llama_2_7b():
    return LlamaConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
    )


@pytest.fixture(scope="module")
def full_size(tokenizer):
    with torch.device("meta"):
        network = MiniGPT4ForConditionalGeneration(MiniGPT4Config(text_config=llama_2_7b()))
    return MiniGPT4(network, tokenizer, "meta")


def test_full_size_has_the_neurons_of_the_registry(full_size):
    units = {
        module: sum(site.n_units for site in full_size.sites(module))
        for module in ("language", "vision")
    }
    assert units == {"language": 32 * 11008, "vision": 39 * 6144}
    assert units == {"language": 352_256, "vision": 239_616}
    assert read_registry(RESOURCES / "models.yaml")["minigpt4-llama2-7b"].units == units
    assert full_size.sites("qformer.query") == full_size.sites("projector") == []
    assert full_size.grid() == (16, 4)
    assert full_size.inert_layers("language", "image") == {31}
    assert full_size.inert_layers("language", "last") == frozenset()


def test_full_size_has_the_parameters_of_the_released_checkpoints(full_size):
    shapes = {name: tuple(p.shape) for name, p in full_size.network.state_dict().items()}
    eva = {
        "cls_token": (1, 1, 1408),
        "pos_embed": (1, 257, 1408),
        "patch_embed.proj.weight": (1408, 3, 14, 14),
        "patch_embed.proj.bias": (1408,),
    }
    for i in range(39):
        eva |= {
            f"blocks.{i}.{name}": shape
            for name, shape in {
                "norm1.weight": (1408,),
                "norm1.bias": (1408,),
                "attn.q_bias": (1408,),
                "attn.v_bias": (1408,),
                "attn.qkv.weight": (4224, 1408),
                "attn.proj.weight": (1408, 1408),
                "attn.proj.bias": (1408,),
                "norm2.weight": (1408,),
                "norm2.bias": (1408,),
                "mlp.fc1.weight": (6144, 1408),
                "mlp.fc1.bias": (6144,),
                "mlp.fc2.weight": (1408, 6144),
                "mlp.fc2.bias": (1408,),
            }.items()
        }
    expected = {f"visual_encoder.{name}": shape for name, shape in eva.items()}
    expected |= {"ln_vision.weight": (1408,), "ln_vision.bias": (1408,)}
    expected |= {"llama_proj.weight": (4096, 5632), "llama_proj.bias": (4096,)}
    expected |= {
        f"llama_model.{name}": shape
        for name, shape in {
            "model.embed_tokens.weight": (32000, 4096),
            "model.norm.weight": (4096,),
            "lm_head.weight": (32000, 4096),
        }.items()
    }
    for i in range(32):
        p = f"llama_model.model.layers.{i}."
        expected |= {f"{p}self_attn.{name}_proj.weight": (4096, 4096) for name in "qkvo"}
        expected |= {f"{p}mlp.{name}_proj.weight": (11008, 4096) for name in ("gate", "up")}
        expected |= {f"{p}mlp.down_proj.weight": (4096, 11008)}
        expected |= {f"{p}{name}_layernorm.weight": (4096,) for name in ("input", "post_attention")}
    assert shapes == expected


def test_full_size_defaults_are_the_real_models(full_size):
    vision = EvaVisionConfig()
    assert (vision.image_size, vision.patch_size, vision.num_attention_heads) == (224, 14, 16)
    assert vision.layer_norm_eps == 1e-6
    assert {b.norm1.eps for b in full_size.network.visual_encoder.blocks} == {1e-6}
    assert full_size.network.ln_vision.eps == 1e-5
    assert isinstance(MiniGPT4Config(text_config=llama_2_7b().to_dict()).text_config, LlamaConfig)
    assert isinstance(MiniGPT4Config().text_config, type(AutoConfig.for_model("llama")))


def test_a_new_network_has_the_norm_that_minigpt4_never_loads(model):
    config = MiniGPT4Config(
        vision_config=EvaVisionConfig(
            hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1,
            image_size=8, patch_size=2,
        ),
        text_config=LlamaConfig(
            hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1,
            vocab_size=8,
        ),
    )  # fmt: skip
    network = MiniGPT4ForConditionalGeneration(config)
    assert torch.equal(network.ln_vision.weight, torch.ones(8))
    assert torch.equal(network.ln_vision.bias, torch.zeros(8))
    assert network.visual_encoder.pos_embed.std() > 0


def test_check_accepts_the_right_and_rejects_wrong_numbers_of_neurons(model):
    model.check({"language": 3 * 40, "vision": 2 * 24})
    model.check()
    with pytest.raises(ModelCheckError, match="language has 120 neurons, not 121"):
        model.check({"language": 121})
    with pytest.raises(ModelCheckError, match="vision has 48 neurons"):
        model.check({"language": 120, "vision": 0})
    with pytest.raises(ModelCheckError, match="projector has 0"):
        model.check({"projector": 5})


def test_check_rejects_a_grid_that_the_tokens_do_not_fill(model, monkeypatch):
    monkeypatch.setattr(model, "grid", lambda: (4, 8))
    with pytest.raises(ModelCheckError, match="16 image tokens"):
        model.check()


def test_check_rejects_an_output_that_the_rows_do_not_make(model):
    adapter = MiniGPT4(build_network(0), model.tokenizer, "cpu")
    down = adapter.decoder.model.layers[0].mlp.down_proj
    down.bias = torch.nn.Parameter(torch.ones(32))
    with pytest.raises(ModelCheckError, match="W_out"):
        adapter.check()


def test_registered_model_is_loaded_and_checked(model, tmp_path):
    model.network.save_pretrained(tmp_path / "tiny")
    model.tokenizer.save_pretrained(tmp_path / "tiny")
    rows = {
        "tiny": {
            "family": "minigpt4",
            "path": str(tmp_path / "tiny"),
            "revision": "1",
            "label": "tiny",
            "units": {"language": 120},
            "memory_mb": 1,
            "runtime": 1,
            "noise": {"unit": "rms", "levels": [1]},
        }
    }
    rows["wrong"] = rows["tiny"] | {"units": {"language": 119}}
    rows["absent"] = rows["tiny"] | {"path": str(tmp_path / "nowhere")}
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(rows))
    entries = read_registry(tmp_path / "models.yaml")
    assert isinstance(entries["tiny"], ModelEntry)
    assert load_model(entries["tiny"], "cpu", "float32").dtype == torch.float32
    with pytest.raises(ModelCheckError):
        load_model(entries["wrong"], "cpu", "float32")
    with pytest.raises(FileNotFoundError, match="absent.*docs/models.md"):
        load_model(entries["absent"], "cpu", "float32")


# ------------------------------------------------------------------------------------- captions


def test_caption_starts_with_the_prefix_and_says_where_tokens_end(model):
    tokens = ids("red car on beach")
    assert caption_text(model, "The image shows a", tokens) == {
        "caption": "The image shows a red car on beach",
        "token_ids": tokens,
        "token_ends": [21, 25, 28, 34],
    }
    assert caption_text(model, "The image shows a", []) == {
        "caption": "The image shows a",
        "token_ids": [],
        "token_ends": [],
    }


def test_pictures_are_captioned_as_they_are_generated(model, by_hand, pictures, tmp_path):
    for i in range(3):
        pictures[i].save(tmp_path / f"{i}.png")
    prompt = PROMPTS["minigpt4.training"]
    named = [(f"p{i}", tmp_path / f"{i}.png") for i in range(3)]
    rows = caption_pictures(model, named, prompt, 5)
    assert [row["picture_id"] for row in rows] == ["p0", "p1", "p2"]
    for row, picture in zip(rows, pictures, strict=False):
        assert row["token_ids"] == naive(model, by_hand, picture, fill_prompt(prompt), 5)
        assert row["caption"].startswith("The image shows a")


def test_originals_are_captioned_once(tmp_path):
    import pandas as pd

    samples = pd.DataFrame(
        {
            "sample_id": ["000000000007-car", "000000000007-fire_hydrant"],
            "image_id": [7, 7],
            "file": ["val/7.jpg", "val/7.jpg"],
        }
    )
    assert original_id(7) == "000000000007"
    assert pictures_to_caption(samples, "root", "painted") == [
        ("000000000007", Path("root/val/7.jpg")),
        ("000000000007-car", Path("painted/000000000007-car.png")),
        ("000000000007-fire_hydrant", Path("painted/000000000007-fire_hydrant.png")),
    ]


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 9])
def test_batches_are_the_same_for_any_number_of_shards(shards):
    items = list(range(10))
    parts = [shard_of(items, 3, shard, shards) for shard in range(shards)]
    assert sorted(batch for part in parts for batch in part) == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9],
    ]


def test_positions_do_not_count_the_padding():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])
    encoded = Encoded(torch.zeros(2, 5, 1), mask, torch.zeros(2, 1), 3, (2, 1), None)
    assert encoded.position_ids[0, 2:].tolist() == [0, 1, 2]
    assert encoded.position_ids[1, :4].tolist() == [0, 1, 2, 3]
