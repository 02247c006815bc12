"""mPLUG-Owl2 against a second forward pass, prompts laid out by hand, and the released layout."""

import json
import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mplug_owl2_by_hand import ByHand, image_tokens
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast

from mmneurons.models.base import ModelCheckError
from mmneurons.models.captions import fill_prompt
from mmneurons.models.mplug_owl2 import MPlugOwl2, square_image_processor
from mmneurons.models.mplug_owl2_modeling import (
    MPlugOwl2Config,
    MPlugOwl2ForCausalLM,
    VisualAbstractor,
)
from mmneurons.probe import hooks

RESOURCES = Path(__file__).parents[1] / "resources"
PROMPT = yaml.safe_load((RESOURCES / "prompts.yaml").read_text("utf-8"))["mplug_owl2.few-words"]
SHORT = "USER: <|image|>Describe ASSISTANT: An image of"
LONG = "An image of grass USER: <|image|>Describe the image in few words. ASSISTANT: An"
VOCABULARY = (
    "<unk> <s> </s> <pad> USER: ASSISTANT: Describe the image in few words. An of a red car bear "
    "on beach and with old clock grass teddy banana fire hydrant"
).split()
IDS = {word: place for place, word in enumerate(VOCABULARY)}
N_TOKENS = 6  # five queries and the end token
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def ids(text):
    return [IDS[word] for word in text.split()]


def tiny_config():
    """4 x 4 patches, five queries, two layers of each tower and three of the decoder."""
    return MPlugOwl2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        visual_config={
            "visual_model": {
                "image_size": 16,
                "patch_size": 4,
                "hidden_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 24,
            },
            "visual_abstractor": {
                "num_learnable_queries": 5,
                "hidden_size": 16,
                "encoder_hidden_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 12,
                "grid_size": 4,
            },
        },
    )


def build_network():
    """Every parameter is drawn, norms and both copies of multiway modules among them."""
    network = MPlugOwl2ForCausalLM(tiny_config())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            if "norm" in name or "ffn_ln" in name:
                weight.copy_(name.endswith("weight") + 0.3 * drawn)
            elif name.endswith("bias"):
                weight.copy_(0.3 * drawn)
            elif weight.dim() == 2 and "embed" not in name:
                weight.copy_(1.2 * drawn / weight.shape[1] ** 0.5)
            else:
                weight.copy_(drawn * (0.2 if "patch" in name else 1))
    return network


def build_tokenizer():
    words = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="module")
def owl_tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def owl(owl_tokenizer):
    torch.set_num_threads(1)
    return MPlugOwl2(build_network(), owl_tokenizer, square_image_processor(16), "cpu")


@pytest.fixture(scope="module")
def by_hand(owl):
    return ByHand(owl.network)


@pytest.fixture(scope="module")
def full_size(owl_tokenizer):
    with torch.device("meta"):
        network = MPlugOwl2ForCausalLM(MPlugOwl2Config())
    return MPlugOwl2(network, owl_tokenizer, square_image_processor(448), "meta")


def all_logits(model, encoded):
    return model.logits(model.final_states(encoded))


def close(got, expected, tolerance=1e-5):
    torch.testing.assert_close(got.double(), expected, atol=tolerance, rtol=tolerance)


# --------------------------------------------------------------------------- the forward pass


def test_vision_states_are_those_of_the_second_forward_pass(owl, by_hand, pictures):
    pixels = owl.preprocess(pictures[:3])
    states = owl.network.model.vision_model(pixels)
    assert states.shape == (3, 1 + 16, 16)
    close(states, torch.stack([by_hand.states(picture) for picture in pixels]))


def test_image_tokens_are_those_of_the_second_forward_pass(owl, by_hand, pictures):
    pixels = owl.preprocess(pictures[:3])
    tokens = owl.embed_pixels(pixels)
    assert tokens.shape == (3, N_TOKENS, 32)
    close(tokens, torch.stack([by_hand.tokens(picture) for picture in pixels]))
    assert torch.equal(owl.embed_pictures(pictures[:3], SHORT), tokens)
    end = owl.network.model.visual_abstractor.vit_eos[0, 0]
    assert torch.equal(tokens[:, -1], end.expand(3, -1))
    assert (tokens[0, :-1] - tokens[1, :-1]).abs().max() > 0.1


def test_logits_are_those_of_the_second_forward_pass(owl, by_hand, pictures):
    continuation = ids("a red car on a beach")
    encoded = owl.encode(owl.embed_pictures(pictures[:1]), SHORT, [continuation])
    before = [IDS["<s>"], IDS["USER:"]]
    after = ids("Describe ASSISTANT: An image of") + continuation
    image = by_hand.tokens(owl.preprocess(pictures[:1])[0])
    expected = by_hand.logits(before, image, after)
    assert expected.shape == (2 + N_TOKENS + 5 + 6, len(VOCABULARY))
    close(all_logits(owl, encoded)[0], expected)
    assert encoded.image.tolist() == [list(range(2, 2 + N_TOKENS))]
    assert encoded.grid is None
    # The end token is a visual token, and taking it for text would show.
    as_text = by_hand.logits(before, image, after, modality=[1] * (N_TOKENS - 1) + [0])
    assert (as_text - expected)[-1].abs().max() > 1e-2


def test_without_indicators_all_tokens_are_text(owl, by_hand):
    words = ids("An image of a red car")
    embeds = owl.decoder.get_input_embeddings()(torch.tensor([words]))
    no_image = torch.zeros(0, 32, dtype=torch.double)
    expected = by_hand.logits(words[:3], no_image, words[3:])
    close(owl.decoder(inputs_embeds=embeds).logits[0], expected)
    zeros = torch.zeros(1, 6, dtype=torch.long)
    close(owl.decoder(inputs_embeds=embeds, modality_indicators=zeros).logits[0], expected)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_attention_implementation_gives_the_same_logits(owl, by_hand, pictures, attention):
    encoded = owl.encode(owl.embed_pictures(pictures[:1]), SHORT)
    before = owl.decoder.config._attn_implementation
    owl.decoder.set_attn_implementation(attention)
    try:
        logits = all_logits(owl, encoded)[0]
    finally:
        owl.decoder.set_attn_implementation(before)
    image = by_hand.tokens(owl.preprocess(pictures[:1])[0])
    close(logits, by_hand.logits(*owl.segments(SHORT)[:1], image, owl.segments(SHORT)[1]))


def test_recorded_neurons_are_those_of_the_second_forward_pass(owl, by_hand, pictures):
    kept = {"pre": [], "act": [], "post": []}

    def keep(kind, layer, values):
        kept[kind].append(values)

    pixels = owl.preprocess(pictures[:1])
    before, after = owl.segments(SHORT)
    by_hand.logits(before, by_hand.tokens(pixels[0]), after, watch=keep)
    encoded = owl.encode(owl.embed_pixels(pixels), SHORT)
    with hooks.record(owl.sites("language"), ["pre", "act", "post"]) as recorded:
        owl.final_states(encoded)
    for kind, layers in kept.items():
        assert len(layers) == 3
        close(torch.cat(recorded[kind]), torch.stack(layers))

    seen = {"pre": [], "act": []}
    by_hand.states(pixels[0], watch=lambda kind, layer, values: seen[kind].append(values))
    with hooks.record(owl.sites("vision"), ["pre", "act", "post"]) as recorded:
        owl.embed_pixels(pixels)
    close(torch.cat(recorded["pre"]), torch.stack(seen["pre"]))
    close(torch.cat(recorded["act"]), torch.stack(seen["act"]))
    close(torch.cat(recorded["post"]), torch.stack(seen["act"]))


def test_position_buffers_are_sines_and_cosines():
    attention = (
        MPlugOwl2ForCausalLM(tiny_config())
        .model.visual_abstractor.encoder["layers"][1]["crossattention"]
        .attention
    )
    queries, patches = attention.q_pos_embed, attention.k_pos_embed
    assert queries.shape == (5, 16)
    assert patches.shape == (17, 16)

    def entries(place, dim):
        angles = [place / 10000 ** (2 * i / dim) for i in range(dim // 2)]
        return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]

    for place in range(5):
        np.testing.assert_allclose(queries[place], entries(place, 16), atol=1e-6)
    assert not patches[0].any()
    for row in range(4):
        for column in range(4):
            expected = entries(column, 8) + entries(row, 8)
            np.testing.assert_allclose(patches[1 + 4 * row + column], expected, atol=1e-6)


# -------------------------------------------------------------------------------- preprocessing


def normalised(picture):
    return (np.asarray(picture, dtype=np.float64) / 255 - MEAN) / STD


def test_square_processor_squashes_without_crop(owl):
    values = np.random.default_rng(0).integers(0, 256, (10, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(values)
    pixels = owl.preprocess([picture, picture.convert("L")])
    assert pixels.shape == (2, 3, 16, 16)
    assert pixels.dtype == torch.float32
    expected = normalised(picture.resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(pixels[0].permute(1, 2, 0), expected, atol=1e-5)
    assert owl.seen_box((40, 10)) == (0, 0, 40, 10)


def test_the_directorys_settings_decide_how_a_picture_becomes_square(owl, tmp_path):
    owl.save(tmp_path)
    # The kind of settings that the released directory holds.
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True, "size": 16, "resample": 3, "do_center_crop": True, "crop_size": 16,
        "do_normalize": True, "image_mean": MEAN, "image_std": STD,
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    values = np.random.default_rng(0).integers(0, 256, (20, 60, 3), dtype=np.uint8)
    picture = Image.fromarray(values)
    cropped = picture.resize((48, 16), Image.Resampling.BICUBIC).crop((16, 0, 32, 16))
    released = MPlugOwl2.load(tmp_path, "cpu", torch.float32)
    assert released.seen_box(picture.size) == (20, 0, 40, 20)
    pixels = released.preprocess([picture])
    np.testing.assert_allclose(pixels[0].permute(1, 2, 0), normalised(cropped), atol=1e-5)


# -------------------------------------------------------------------------- prompts, modalities


def test_prompt_laid_out_by_hand(owl):
    prompt = fill_prompt(PROMPT)
    assert prompt == ("USER: <|image|>Describe the image in few words. ASSISTANT: An image of")
    before, after = owl.segments(prompt)
    assert before == [IDS["<s>"], IDS["USER:"]]
    assert after == ids("Describe the image in few words. ASSISTANT: An image of")
    assert IDS["<unk>"] not in before + after


@pytest.mark.parametrize("prompt", ["USER: Describe", "<|image|> and <|image|>"])
def test_a_prompt_without_exactly_one_place_for_the_picture_is_an_error(owl, prompt):
    with pytest.raises(ValueError, match="exactly once"):
        owl.segments(prompt)


def test_all_image_tokens_and_only_they_are_visual(owl, pictures):
    encoded = owl.encode(owl.embed_pictures(pictures[:2]), [SHORT, LONG], [ids("a red"), []])
    indicators = owl.decoder_inputs(encoded)["modality_indicators"]
    short, long = 2 + N_TOKENS + 5, 6 + N_TOKENS + 8
    padding = long - short
    assert indicators.tolist() == [
        [0] * (padding + 2) + [1] * N_TOKENS + [0] * (5 + 2),
        [0] * 6 + [1] * N_TOKENS + [0] * (8 + 2),
    ]
    end = encoded.image[:, -1:]
    assert torch.equal(
        encoded.embeds[0, end[0, 0]], owl.network.model.visual_abstractor.vit_eos[0, 0]
    )
    assert indicators.gather(1, end).tolist() == [[1], [1]]
    assert indicators.gather(1, end + 1).tolist() == [[0], [0]]


# ------------------------------------------------------------------------------------- batching


def test_left_padding_changes_no_logit(owl, pictures):
    tokens = owl.embed_pictures(pictures[:3])
    prompts, continuations = [SHORT, LONG, SHORT], [ids("red car"), [], ids("a bear on")]
    encoded = owl.encode(tokens, prompts, continuations)
    assert len(set(encoded.image[:, 0].tolist())) == 2
    together = all_logits(owl, encoded)
    for row in range(3):
        alone = owl.encode(tokens[row : row + 1], prompts[row], [continuations[row]])
        expected = all_logits(owl, alone)[0]
        start = encoded.prompt_end - alone.prompt_end
        got = together[row, start : start + len(expected)]
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_cached_generation_is_the_uncached_argmax_loop(owl, by_hand, pictures):
    prompts = [SHORT, LONG, SHORT, LONG]
    generated = owl.generate(owl.encode(owl.embed_pictures(pictures[:4]), prompts), 7)
    expected = []
    for pixels, prompt in zip(owl.preprocess(pictures[:4]), prompts, strict=True):
        before, after = owl.segments(prompt)
        expected.append(by_hand.greedy(before, by_hand.tokens(pixels), after, 7, IDS["</s>"]))
    assert generated == expected
    assert len({tuple(row) for row in generated}) > 1
    assert max(map(len, generated)) == 7


def test_cached_steps_give_the_logits_of_one_pass(owl, pictures):
    encoded = owl.encode(owl.embed_pictures(pictures[:2]), [SHORT, LONG])
    steps = owl.decoder.generate(
        inputs_embeds=encoded.embeds,
        attention_mask=encoded.mask,
        max_new_tokens=5,
        do_sample=False,
        pad_token_id=IDS["<pad>"],
        eos_token_id=-1,
        output_logits=True,
        return_dict_in_generate=True,
        **owl.decoder_inputs(encoded),
    )
    said = steps.sequences.tolist()
    forced = owl.encode(owl.embed_pictures(pictures[:2]), [SHORT, LONG], said)
    expected = all_logits(owl, forced)[:, encoded.prompt_end - 1 : -1]
    torch.testing.assert_close(torch.stack(steps.logits, dim=1), expected, atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------ places on the picture


@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_only_the_ffns_inner_norm_has_the_eps_of_the_configuration(owl, eps):
    """On queries and states so small that every eps shows."""
    whole = owl.network.config
    config = deepcopy(whole.visual_config.visual_abstractor)
    config.layer_norm_eps = eps
    abstractor = VisualAbstractor(config, whole.hidden_size)
    abstractor.load_state_dict(owl.network.model.visual_abstractor.state_dict())
    abstractor.query_embeds.data *= 2e-3
    states = 2e-3 * torch.randn(17, 16, generator=torch.Generator().manual_seed(3))
    w = {f"model.visual_abstractor.{k}": v.double() for k, v in abstractor.state_dict().items()}
    expected, _ = image_tokens(w, states.double(), 4, 2, inner_eps=eps)
    with torch.no_grad():
        found = abstractor(states[None])[0]
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_patch_weights_are_the_abstractors_attention_to_patches(owl, by_hand, pictures):
    weights = owl.patch_weights(pictures[:3], SHORT)
    assert owl.grid() is None
    assert owl.patch_grid() == (4, 4)
    assert weights.shape == (3, N_TOKENS, 16)
    assert weights.dtype == torch.float32
    for row, pixels in zip(weights, owl.preprocess(pictures[:3]), strict=True):
        attention = by_hand.attention(pixels)
        assert attention.shape == (2, 4, 5, 5 + 1 + 16)
        patches = attention.mean(dim=(0, 1))[:, 6:]
        close(row[:5], patches / patches.sum(dim=1, keepdim=True))
    torch.testing.assert_close(weights[:, :5].sum(dim=-1), torch.ones(3, 5))
    assert not weights[:, 5].any()
    assert not [part for part in owl.network.modules() if part._forward_hooks]


def test_picture_layer_is_about_patches_in_raster_order(owl, pictures):
    module, to_map = owl.picture_layer()
    outputs = []
    handle = module.register_forward_hook(lambda _module, _args, output: outputs.append(output))
    owl.embed_pictures(pictures[:2])
    handle.remove()
    maps = to_map(outputs[0])
    assert maps.shape == (2, 16, 4, 4)
    assert torch.equal(maps[1, :, 2, 3], outputs[0][1, 1 + 2 * 4 + 3])


# ------------------------------------------------------------------------------ loading, checks


def test_saved_and_loaded_again_bit_for_bit(owl, pictures, tmp_path):
    owl.save(tmp_path)
    again = MPlugOwl2.load(tmp_path, "cpu", torch.float32)
    state, expected = again.network.state_dict(), owl.network.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "mplug_owl2"
    encoded = [m.encode(m.embed_pictures(pictures[:2]), SHORT) for m in (owl, again)]
    assert torch.equal(all_logits(owl, encoded[0]), all_logits(again, encoded[1]))
    assert not any(weight.requires_grad for weight in again.network.parameters())
    assert MPlugOwl2.load(tmp_path, "cpu", torch.bfloat16).dtype == torch.bfloat16


def test_a_directory_without_some_weight_is_an_error(owl, tmp_path):
    owl.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.self_attn.k_proj.multiway.1.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelCheckError, match=r"k_proj\.multiway\.1"):
        MPlugOwl2.load(tmp_path, "cpu", torch.float32)


def test_a_directory_of_the_released_kind_loads(owl, tmp_path):
    owl.tokenizer.save_pretrained(tmp_path)
    owl.image_processor.save_pretrained(tmp_path)
    config = tiny_config()
    visual = config.visual_config
    released = {
        "architectures": ["MPLUGOwl2LlamaForCausalLM"],
        "model_type": "mplug_owl2",
        "torch_dtype": "float16",
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "pad_token_id": 0,
        "visual_config": {
            "visual_model": visual.visual_model.to_dict() | {"projection_dim": 768},
            "visual_abstractor": visual.visual_abstractor.to_dict() | {"use_cls_token": True},
        },
    }
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        released[name] = getattr(config, name)
    released["vocab_size"] = len(VOCABULARY)
    (tmp_path / "config.json").write_text(json.dumps(released))
    torch.save(original(owl), tmp_path / "pytorch_model.bin")
    again = MPlugOwl2.load(tmp_path, "cpu", torch.float32).network.state_dict()
    expected = owl.network.state_dict()
    assert list(again) == list(expected)
    assert all(torch.equal(again[name], expected[name]) for name in expected)


def original(model):
    """The tiny model's weights as an old checkpoint holds them, with the rotary frequencies."""
    buffers = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(3)}
    return dict(model.network.state_dict()) | buffers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 8}, "a key and a value head for every query head"),
        ({"visual_config": {"visual_abstractor": {"grid_size": 16}}}, "grid_size"),
        ({"visual_config": {"visual_model": {"hidden_size": 768}}}, "encoder_hidden_size"),
        ({"visual_config": {"visual_abstractor": {"hidden_size": 512}}}, "one width for both"),
    ],
)
def test_parts_that_do_not_fit_are_an_error(changes, message):
    with pytest.raises(ValueError, match=message):
        MPlugOwl2Config(**changes)


def test_a_new_network_is_random_where_it_has_to_be():
    network = MPlugOwl2ForCausalLM(tiny_config())
    for name in ("vision_model.embeddings.cls_token", "vision_model.embeddings.position_embedding",
                 "visual_abstractor.query_embeds", "visual_abstractor.vit_eos"):  # fmt: skip
        assert network.get_parameter(f"model.{name}").std() > 0
    first, second = network.model.layers[0].self_attn.k_proj.multiway
    assert not torch.equal(first.weight, second.weight)


def test_full_size_has_the_neurons_and_tokens_of_the_released_model(full_size):
    units = {
        module: sum(site.n_units for site in full_size.sites(module))
        for module in ("language", "vision")
    }
    assert units == {"language": 32 * 11008, "vision": 24 * 4096}
    assert full_size.sites("projector") == full_size.sites("qformer.query") == []
    tokens = full_size.embed_pixels(torch.zeros(2, 3, 448, 448, device="meta"))
    assert tokens.shape == (2, 65, 4096)
    assert full_size.patch_grid() == (32, 32)
    assert full_size.inert_layers("language", "image") == {31}


def test_full_size_has_the_parameters_of_the_released_checkpoint(full_size):
    def with_bias(name, *shape):
        return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}

    expected = {
        "model.embed_tokens.weight": (32000, 4096),
        "model.norm.weight": (4096,),
        "lm_head.weight": (32000, 4096),
    }
    for i in range(32):
        p = f"model.layers.{i}."
        expected |= {f"{p}self_attn.{name}_proj.weight": (4096, 4096) for name in "qo"}
        for copy in "01":
            for name in "kv":
                expected[f"{p}self_attn.{name}_proj.multiway.{copy}.weight"] = (4096, 4096)
            for name in ("input", "post_attention"):
                expected[f"{p}{name}_layernorm.multiway.{copy}.weight"] = (4096,)
        expected |= {f"{p}mlp.{name}_proj.weight": (11008, 4096) for name in ("gate", "up")}
        expected[f"{p}mlp.down_proj.weight"] = (4096, 11008)
    p = "model.vision_model."
    expected |= {
        f"{p}embeddings.cls_token": (1, 1, 1024),
        f"{p}embeddings.position_embedding": (1, 1025, 1024),
        f"{p}embeddings.patch_embed.weight": (1024, 3, 14, 14),
    }
    expected |= with_bias(f"{p}embeddings.pre_layernorm", 1024)
    expected |= with_bias(f"{p}post_layernorm", 1024)
    for i in range(24):
        q = f"{p}encoder.layers.{i}."
        expected |= with_bias(f"{q}self_attn.query_key_value", 3072, 1024)
        expected |= with_bias(f"{q}self_attn.dense", 1024, 1024)
        expected |= with_bias(f"{q}mlp.fc1", 4096, 1024)
        expected |= with_bias(f"{q}mlp.fc2", 1024, 4096)
        expected |= with_bias(f"{q}input_layernorm", 1024)
        expected |= with_bias(f"{q}post_attention_layernorm", 1024)
    p = "model.visual_abstractor."
    expected |= {f"{p}query_embeds": (1, 64, 1024), f"{p}vit_eos": (1, 1, 4096)}
    expected |= with_bias(f"{p}visual_fc", 4096, 1024)
    for i in range(6):
        q = f"{p}encoder.layers.{i}.crossattention."
        for name in ("query", "key", "value"):
            expected |= with_bias(f"{q}attention.{name}", 1024, 1024)
        expected[f"{q}attention.q_pos_embed"] = (64, 1024)
        expected[f"{q}attention.k_pos_embed"] = (1025, 1024)
        for name in ("norm1", "normk", "output.norm2"):
            expected |= with_bias(f"{q}{name}", 1024)
        expected |= with_bias(f"{q}output.out_proj", 1024, 1024)
        expected |= with_bias(f"{q}output.mlp.w1", 2816, 1024)
        expected |= with_bias(f"{q}output.mlp.w3", 2816, 1024)
        expected |= with_bias(f"{q}output.mlp.w2", 1024, 2816)
        expected |= with_bias(f"{q}output.mlp.ffn_ln", 2816)
    shapes = {name: tuple(w.shape) for name, w in full_size.network.state_dict().items()}
    assert shapes == expected


def test_check_accepts_the_right_and_rejects_the_wrong(owl, owl_tokenizer):
    owl.check({"language": 3 * 40, "vision": 2 * 24})
    with pytest.raises(ModelCheckError, match="vision has 48 neurons, not 47"):
        owl.check({"vision": 47})
    wrong = MPlugOwl2(owl.network, owl_tokenizer, square_image_processor(20), "cpu")
    with pytest.raises(ModelCheckError, match="20 x 20 pixels, not 16 x 16"):
        wrong.check()
    uncropped = CLIPImageProcessorPil(size={"shortest_edge": 16}, do_center_crop=False)
    wrong = MPlugOwl2(owl.network, owl_tokenizer, uncropped, "cpu")
    with pytest.raises(ModelCheckError, match="16 x 24 pixels, not 16 x 16"):
        wrong.check()
