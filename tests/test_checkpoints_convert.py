"""Conversions: published layouts of full size, tiny ones to logits, wrong files, and memory."""

import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from limber_by_hand import gptj_logits
from minigpt4_by_hand import image_tokens as minigpt4_tokens
from minigpt4_by_hand import llama_logits
from mplug_owl2_by_hand import decoder_logits, vision_states
from mplug_owl2_by_hand import image_tokens as owl_tokens
from published_checkpoints import (
    VOCABULARY,
    drawn,
    layout,
    n_bytes,
    without_content,
    write_pickles,
    write_safetensors,
    write_tokenizer,
)
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BeitForMaskedImageModeling

from mmneurons.checkpoints import convert as core
from mmneurons.checkpoints import limber as from_limber
from mmneurons.checkpoints import llava as from_llava
from mmneurons.checkpoints import minigpt4 as from_minigpt4
from mmneurons.checkpoints import mplug_owl2 as from_owl
from mmneurons.checkpoints.convert import ConversionError, convert
from mmneurons.checkpoints.sources import sources
from mmneurons.downloads import space
from mmneurons.downloads.errors import DownloadError
from mmneurons.models.limber import Limber
from mmneurons.models.llava import Llava
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.minigpt4_modeling import EvaVisionConfig
from mmneurons.models.mplug_owl2 import MPlugOwl2
from mmneurons.models.mplug_owl2_modeling import sincos, sincos_grid

REPOSITORY = Path(__file__).parents[1]
REGISTRY = yaml.safe_load((REPOSITORY / "resources/models.yaml").read_text("utf-8"))
SOURCES = sources(REGISTRY)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


# -------------------------------------------------------------------------------- configurations

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "vocab_size": 32000,
}
LLAVA = LLAMA | {
    "_name_or_path": "llava-llama-2-13b-chat-lightning-preview",
    "architectures": ["LlavaLlamaForCausalLM"],
    "model_type": "llava",
    "freeze_mm_mlp_adapter": False,
    "hidden_size": 5120,
    "image_aspect_ratio": "square",
    "image_grid_pinpoints": None,
    "intermediate_size": 13824,
    "mm_hidden_size": 1024,
    "mm_resampler_type": None,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14",
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
    "num_key_value_heads": 40,
    "pad_token_id": 0,
    "tune_mm_mlp_adapter": False,
    "use_mm_proj": True,
}
CLIP = {
    "model_type": "clip",
    "projection_dim": 768,
    "text_config": {"hidden_size": 768, "model_type": "clip_text_model"},
    "vision_config": {
        "hidden_act": "quick_gelu",
        "hidden_size": 1024,
        "image_size": 224,
        "intermediate_size": 4096,
        "layer_norm_eps": 1e-5,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "projection_dim": 768,
    },
}
CLIP_PICTURES = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}
OWL = LLAMA | {
    "architectures": ["MPLUGOwl2LlamaForCausalLM"],
    "model_type": "mplug_owl2",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "visual_config": {
        "visual_model": {
            "hidden_act": "quick_gelu",
            "hidden_size": 1024,
            "image_size": 448,
            "intermediate_size": 4096,
            "layer_norm_eps": 1e-6,
            "model_type": "mplug_owl_vision_model",
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
            "projection_dim": 768,
            "use_flash_attn": False,
        },
        "visual_abstractor": {
            "add_v2t_pos_emb": False,
            "encoder_hidden_size": 1024,
            "grid_size": 32,
            "hidden_size": 1024,
            "intermediate_size": 2816,
            "layer_norm_eps": 1e-6,
            "model_type": "mplug_owl_visual_abstract",
            "num_attention_heads": 16,
            "num_hidden_layers": 6,
            "num_learnable_queries": 64,
            "use_cls_token": True,
        },
    },
}


GPTJ = {
    "activation_function": "gelu_new",
    "architectures": ["GPTJForCausalLM"],
    "attn_pdrop": 0.0,
    "bos_token_id": 50256,
    "embd_pdrop": 0.0,
    "eos_token_id": 50256,
    "gradient_checkpointing": False,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gptj",
    "n_embd": 4096,
    "n_head": 16,
    "n_inner": None,
    "n_layer": 28,
    "n_positions": 2048,
    "resid_pdrop": 0.0,
    "rotary": True,
    "rotary_dim": 64,
    "scale_attn_weights": True,
    "summary_type": "cls_index",
    "task_specific_params": {"text-generation": {"do_sample": True, "temperature": 1.0}},
    "tie_word_embeddings": False,
    "tokenizer_class": "GPT2Tokenizer",
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 50400,
}
BEIT = {
    "architectures": ["BeitForMaskedImageModeling"],
    "attention_probs_dropout_prob": 0.0,
    "drop_path_rate": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 1024,
    "image_size": 224,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-12,
    "layer_scale_init_value": 1e-05,
    "model_type": "beit",
    "num_attention_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 24,
    "patch_size": 16,
    "torch_dtype": "float32",
    "use_absolute_position_embeddings": False,
    "use_mask_token": True,
    "use_mean_pooling": True,
    "use_relative_position_bias": False,
    "use_shared_relative_position_bias": True,
    "vocab_size": 8192,
}
BEIT_PICTURES = {
    "crop_size": 224,
    "do_center_crop": False,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "BeitFeatureExtractor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "size": 224,
}


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


# ------------------------------------------------------------------------------------- full size


def full_minigpt4(root):
    decoder = write(root / "decoder", config=LLAMA)
    write_pickles(without_content(layout("llama-2-7b-chat-hf")), decoder, 2)
    vision, projection = write(root / "vision"), write(root / "projection")
    torch.save(without_content(layout("eva_vit_g")), vision / "eva_vit_g.pth")
    trained = {"model": without_content(layout("minigpt4_llama2_7b")), "epoch": 1}
    torch.save(trained, projection / "pretrained_minigpt4_llama2_7b.pth")
    return {"decoder": decoder, "vision": vision, "projection": projection}


def full_llava(root):
    checkpoint = write(root / "checkpoint", config=LLAVA)
    write_pickles(without_content(layout("llava-llama-2-13b")), checkpoint, 3)
    clip = write(root / "clip", config=CLIP)
    write_pickles(without_content(layout("clip-vit-large-patch14")), clip, 1)
    return {"checkpoint": checkpoint, "vision": clip}


def full_owl(root):
    checkpoint = write(root / "checkpoint", config=OWL)
    write_pickles(without_content(layout("mplug-owl2-llama2-7b")), checkpoint, 33)
    return {"checkpoint": checkpoint}


def full_limber(root):
    decoder, vision = write(root / "decoder", config=GPTJ), write(root / "vision", config=BEIT)
    torch.save(without_content(layout("gpt-j-6b-float16")), decoder / "pytorch_model.bin")
    torch.save(
        without_content(layout("beit-large-patch16-224-pt22k")), vision / "pytorch_model.bin"
    )
    projection = write(root / "projection")
    torch.save(without_content(layout("limber-beit-linear")), projection / "proj.ckpt")
    return {"decoder": decoder, "vision": vision, "projection": projection}


PLANS = {
    "minigpt4": (full_minigpt4, from_minigpt4.plan),
    "llava": (full_llava, lambda originals: from_llava.plan(originals, 32000)),
    "mplug_owl2": (full_owl, from_owl.plan),
    "limber": (full_limber, lambda originals: from_limber.plan(originals, 50258)),
}


@pytest.mark.parametrize("name", PLANS)
def test_full_size_layouts_fill_the_network(name, tmp_path):
    make, plan = PLANS[name]
    core.check(plan(make(tmp_path)))


def test_rotary_frequencies_beside_the_projection_are_left_out(tmp_path):
    """Buffers of old Llamas are no parameters, so the authors' saving keeps them."""
    originals = full_minigpt4(tmp_path)
    trained = without_content(layout("minigpt4_llama2_7b"))
    buffers = {
        f"llama_model.{prefix}model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.zeros(64)
        for i in range(32)
        for prefix in ("", "base_model.model.")  # with LoRA, as the code for training wraps it
    }
    path = originals["projection"] / "pretrained_minigpt4_llama2_7b.pth"
    torch.save({"model": trained | buffers}, path)
    core.check(from_minigpt4.plan(originals))
    torch.save({"model": trained | {"llama_model.lm_head.weight": torch.zeros(3)}}, path)
    with pytest.raises(ConversionError, match="lm_head"):
        core.check(from_minigpt4.plan(originals))


def test_the_llavas_index_has_405_names():
    """412 lines of its pytorch_model.bin.index.json, of which 7 are no names."""
    assert len(layout("llava-llama-2-13b")) == 405


@pytest.mark.parametrize(
    ("row", "part", "name"),
    [
        ("minigpt4-llama2-7b", "decoder", "llama-2-7b-chat-hf"),
        ("minigpt4-llama2-7b", "vision", "eva_vit_g"),
        ("llava-llama-2-13b", "checkpoint", "llava-llama-2-13b"),
        ("llava-llama-2-13b", "vision", "clip-vit-large-patch14"),
        ("mplug-owl2-llama2-7b", "checkpoint", "mplug-owl2-llama2-7b"),
        ("limber-beit-gptj", "decoder", "gpt-j-6b-float16"),
        ("limber-beit-gptj", "vision", "beit-large-patch16-224-pt22k"),
        ("limber-beit-gptj", "projection", "limber-beit-linear"),
    ],
)
def test_layouts_have_the_size_of_the_published_files(row, part, name):
    said = SOURCES[REGISTRY[row]["path"]].originals[part].gigabytes
    assert n_bytes(layout(name)) / 1e9 == pytest.approx(said, rel=0.01)


# ---------------------------------------------------------------------------- to logits, by hand


def close(got, expected):
    torch.testing.assert_close(got.double(), expected, atol=2e-4, rtol=2e-4)


def logits_of(model, pictures, prompt):
    encoded = model.encode(model.embed_pictures(pictures[:1]), prompt)
    return model.logits(model.final_states(encoded))[0]


def embedded(table, before, image, after):
    return torch.cat([table[torch.tensor(before)], image, table[torch.tensor(after)]])


def tiny_minigpt4(root, seed=0):
    sizes = {1408: 16, 4224: 48, 6144: 24, 257: 65, 14: 4, 1024: 8}
    eva = drawn(layout("eva_vit_g", sizes, {40: 3}), seed)
    sizes = {4096: 32, 11008: 40, 32000: VOCABULARY, 5632: 64, 64: 4}
    llama = drawn(layout("llama-2-7b-chat-hf", sizes, {32: 3}), seed + 1)
    projection = drawn(layout("minigpt4_llama2_7b", sizes), seed + 2)
    small = dict(hidden_size=32, intermediate_size=40, num_hidden_layers=3, vocab_size=VOCABULARY)
    small |= dict(num_attention_heads=4, num_key_value_heads=4)
    decoder = write(root / "decoder", config=LLAMA | small)
    sp = write_tokenizer(decoder)
    write_safetensors(llama, decoder, 2)
    vision, trained = write(root / "vision"), write(root / "projection")
    torch.save(eva, vision / "eva_vit_g.pth")
    checkpoint = {
        "model": projection,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-5}]},
        "config": {"model": {"arch": "minigpt4", "image_size": 224}},
        "scaler": {"scale": 65536.0},
        "epoch": 4,
    }
    torch.save(checkpoint, trained / "pretrained_minigpt4_llama2_7b.pth")
    originals = {"decoder": decoder, "vision": vision, "projection": trained}
    return originals, eva, llama, projection, sp


TINY_EVA = dict(
    image_size=32, patch_size=4, hidden_size=16, num_hidden_layers=2,
    num_attention_heads=2, intermediate_size=24,
)  # fmt: skip


@pytest.fixture
def tiny_eva(monkeypatch):
    """The real conversion on a smaller ViT, whose size no published file says."""
    for name, value in TINY_EVA.items():
        monkeypatch.setattr(EvaVisionConfig, name, value)
    make = from_minigpt4.EvaVisionConfig
    monkeypatch.setattr(from_minigpt4, "EvaVisionConfig", lambda: make(**TINY_EVA))


def test_minigpt4_gives_the_logits_of_the_published_parts(tiny_eva, pictures, tmp_path):
    originals, eva, llama, projection, sp = tiny_minigpt4(tmp_path)
    convert("minigpt4", originals, tmp_path / "made")
    model = MiniGPT4.load(tmp_path / "made", "cpu", torch.float32)
    model.check({"language": 3 * 40, "vision": 2 * 24})
    w = {f"visual_encoder.{k}": v.double() for k, v in eva.items()}
    w |= {f"llama_model.{k}": v.double() for k, v in llama.items()}
    w |= {k: v.double() for k, v in projection.items()}
    w |= {"ln_vision.weight": torch.ones(16).double(), "ln_vision.bias": torch.zeros(16).double()}
    image = minigpt4_tokens(w, model.preprocess(pictures[:1])[0].double(), 4, 2, 2)
    before, after = "[INST] <Img>", "</Img> Describe this image [/INST] The image"
    rows = [1, *sp.encode(before)], sp.encode(after)
    table = w["llama_model.model.embed_tokens.weight"]
    expected = llama_logits(w, embedded(table, rows[0], image, rows[1]), 4, 3)
    assert expected.std() > 0.3
    close(logits_of(model, pictures, f"{before}<ImageHere>{after}"), expected)


def clip_states(w, pixels, patch, heads, n_layers):
    """CLIP's tower in its published names: pixels `3 x size x size` to the last layer's states."""

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    side = pixels.shape[1] // patch
    kernel = w["vision_model.embeddings.patch_embedding.weight"].flatten(1)
    rows = [
        kernel @ pixels[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].flatten()
        for r in range(side)
        for c in range(side)
    ]
    x = torch.stack([w["vision_model.embeddings.class_embedding"], *rows])
    x = norm(
        "vision_model.pre_layrnorm", x + w["vision_model.embeddings.position_embedding.weight"]
    )
    for i in range(n_layers):
        p = f"vision_model.encoder.layers.{i}."
        y = norm(p + "layer_norm1", x)
        q, k, v = (linear(f"{p}self_attn.{name}_proj", y).view(len(x), heads, -1) for name in "qkv")
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
        x = x + linear(p + "self_attn.out_proj", mixed)
        y = linear(p + "mlp.fc1", norm(p + "layer_norm2", x))
        x = x + linear(p + "mlp.fc2", y * torch.sigmoid(1.702 * y))
    return x


def tiny_llava(root):
    sizes = {5120: 32, 13824: 40, 32000: VOCABULARY, 1024: 16, 64: 4}
    llava = drawn(layout("llava-llama-2-13b", sizes, {40: 3}), 3)
    sizes = {1024: 16, 4096: 24, 257: 17, 14: 4, 768: 8, 3072: 12, 49408: 30}
    clip = drawn(layout("clip-vit-large-patch14", sizes, {24: 3, 12: 1}), 4)
    small = dict(hidden_size=32, intermediate_size=40, num_hidden_layers=3, vocab_size=VOCABULARY)
    small |= dict(num_attention_heads=4, num_key_value_heads=4, mm_hidden_size=16)
    checkpoint = write(root / "checkpoint", config=LLAVA | small)
    sp = write_tokenizer(checkpoint)
    write_pickles(llava, checkpoint, 3)
    eye = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2)
    eye = CLIP["vision_config"] | eye | dict(image_size=16, patch_size=4)
    vision = write(
        root / "clip",
        config=CLIP | {"vision_config": eye},
        preprocessor_config=CLIP_PICTURES | {"crop_size": 16, "size": 16},
    )
    save_file(clip, vision / "model.safetensors", metadata={"format": "pt"})
    return {"checkpoint": checkpoint, "vision": vision}, llava, clip, sp


def test_llava_gives_the_logits_of_the_published_parts(pictures, tmp_path):
    originals, llava, clip, sp = tiny_llava(tmp_path)
    convert("llava", originals, tmp_path / "made")
    model = Llava.load(tmp_path / "made", "cpu", torch.float32)
    model.check({"language": 3 * 40, "vision": 3 * 24, "projector": 0})
    w = {k: v.double() for k, v in clip.items()}
    states = clip_states(w, model.preprocess(pictures[:1])[0].double(), 4, 2, 2)[1:]
    w = {f"llama_model.{k}": v.double() for k, v in llava.items()}
    image = states @ w["llama_model.model.mm_projector.weight"].T
    image = image + w["llama_model.model.mm_projector.bias"]
    before, after = "USER:", "Describe this image ASSISTANT: An"
    rows = [1, *sp.encode(before)], sp.encode(after)
    table = w["llama_model.model.embed_tokens.weight"]
    expected = llama_logits(w, embedded(table, rows[0], image, rows[1]), 4, 3)
    assert expected.std() > 0.3
    close(logits_of(model, pictures, f"{before}<image>{after}"), expected)
    assert model.network.config.image_token_id == VOCABULARY


def tiny_owl(root):
    sizes = {4096: 32, 11008: 40, 32000: VOCABULARY, 1024: 16, 3072: 48, 2816: 12}
    sizes |= {1025: 17, 14: 4, 64: 5}
    named = layout("mplug-owl2-llama2-7b", sizes, {32: 3, 24: 2, 6: 2})
    owl = drawn(named, 5)
    for name in owl:
        if name.endswith("q_pos_embed"):
            owl[name] = sincos(torch.arange(5), 16).half()
        if name.endswith("k_pos_embed"):
            owl[name] = sincos_grid(4, 16).half()
    small = dict(hidden_size=32, intermediate_size=40, num_hidden_layers=3, vocab_size=VOCABULARY)
    small |= dict(num_attention_heads=4, num_key_value_heads=4)
    visual = OWL["visual_config"]
    eye = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    eye = visual["visual_model"] | eye | dict(image_size=16, patch_size=4)
    abstractor = visual["visual_abstractor"] | dict(
        hidden_size=16, encoder_hidden_size=16, intermediate_size=12, num_hidden_layers=2,
        num_attention_heads=4, num_learnable_queries=5, grid_size=4,
    )  # fmt: skip
    small["visual_config"] = {"visual_model": eye, "visual_abstractor": abstractor}
    checkpoint = write(
        root / "checkpoint",
        config=OWL | small,
        preprocessor_config=CLIP_PICTURES | {"crop_size": 16, "size": 16},
    )
    sp = write_tokenizer(checkpoint)
    write_pickles(owl, checkpoint, 33)
    return {"checkpoint": checkpoint}, owl, sp


def test_mplug_owl2_gives_the_logits_of_the_published_parts(pictures, tmp_path):
    originals, owl, sp = tiny_owl(tmp_path)
    convert("mplug_owl2", originals, tmp_path / "made")
    model = MPlugOwl2.load(tmp_path / "made", "cpu", torch.float32)
    model.check({"language": 3 * 40, "vision": 2 * 32})
    w = {k: v.double() for k, v in owl.items()}
    pixels = model.preprocess(pictures[:1])[0].double()
    image = owl_tokens(w, vision_states(w, pixels, 4, 2, 2), 4, 2)[0]
    before, after = "USER:", "Describe this image ASSISTANT: An"
    rows = [1, *sp.encode(before)], sp.encode(after)
    x = embedded(w["model.embed_tokens.weight"], rows[0], image, rows[1])
    modality = [0] * len(rows[0]) + [1] * len(image) + [0] * len(rows[1])
    expected = decoder_logits(w, x, modality, 4, 3)
    assert expected.std() > 0.3
    close(logits_of(model, pictures, f"{before}<|image|>{after}"), expected)


def test_types_stay_and_the_receipt_names_the_originals(tmp_path):
    originals, owl, _ = tiny_owl(tmp_path)
    (originals["checkpoint"] / "download.json").write_text(json.dumps({"commit": "abc"}))
    convert("mplug_owl2", originals, tmp_path / "made")
    made = {}
    for path in (tmp_path / "made").glob("*.safetensors"):
        made |= load_file(path)
    kept = {name: w for name, w in owl.items() if "inv_freq" not in name}
    assert made.keys() == kept.keys()
    assert all(made[k].dtype == w.dtype and torch.equal(made[k], w) for k, w in kept.items())
    index = json.loads((tmp_path / "made/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(w.nbytes for w in kept.values())
    receipt = json.loads((tmp_path / "made/source.json").read_text())
    assert receipt == {"convert": "mplug_owl2", "originals": {"checkpoint": {"commit": "abc"}}}


TEXTS = (
    "USER: a red car\nDescribe the old clock ASSISTANT: An image of zebras",
    "\nDescribe this image in few words. [/INST]An image of",
    "  two spaces, and ä, 日",
    "</Img> Describe",
)


def test_tokenizers_are_those_of_sentencepiece_and_need_none_afterwards(tmp_path):
    originals, _, sp = tiny_owl(tmp_path)
    convert("mplug_owl2", originals, tmp_path / "made")
    code = (
        "import json, sys; sys.modules['sentencepiece'] = None\n"
        "from transformers import AutoTokenizer\n"
        "import mmneurons.models.mplug_owl2\n"
        f"t = AutoTokenizer.from_pretrained({str(tmp_path / 'made')!r})\n"
        f"ids = [t(text, add_special_tokens=False).input_ids for text in {TEXTS!r}]\n"
        "print(json.dumps([ids, [t.decode(row) for row in ids], t.bos_token_id, t.pad_token]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")},
    )
    ids, texts, bos, pad = json.loads(out.stdout)
    assert ids == [sp.encode(text) for text in TEXTS]
    assert texts == list(TEXTS)
    assert (bos, pad) == (1, "<unk>")


def write_byte_tokenizer(folder):
    """GPT-2's two files; like there, the end token is the last word. Returns their tokenizer."""
    whole = Tokenizer(models.BPE())
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=alphabet, show_progress=False, special_tokens=[]
    )
    whole.train_from_iterator(["A picture of a red car on the beach."] * 9, trainer)
    whole.model.save(str(folder))
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["<|endoftext|>"] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    return whole


def tiny_limber(root):
    decoder, vision, projection = (
        write(root / name) for name in ("decoder", "vision", "projection")
    )
    tokenizer = write_byte_tokenizer(decoder)
    words = tokenizer.get_vocab_size() + 2  # the end, and the token that LiMBeR adds
    sizes = {4096: 32, 16384: 40, 50400: words + 5, 2048: 8}
    gptj = drawn(layout("gpt-j-6b-float16", sizes, {28: 3}), 6)
    small = dict(n_embd=32, n_inner=40, n_layer=3, n_head=4, rotary_dim=4, n_positions=128)
    small |= dict(vocab_size=words + 5, bos_token_id=words - 2, eos_token_id=words - 2)
    write(decoder, config=GPTJ | small)
    write_pickles(gptj, decoder, 2)
    sizes = {1024: 16, 4096: 24, 16: 4, 732: 52, 197: 17, 8192: 9}
    beit = drawn(layout("beit-large-patch16-224-pt22k", sizes, {24: 2}), 7)
    table = "beit.encoder.relative_position_bias.relative_position_bias_table"
    beit[table] = beit[table][:, :2].clone()
    eye = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
    eye |= dict(image_size=16, patch_size=4, vocab_size=9)
    pictures = BEIT_PICTURES | {"crop_size": 16, "size": 16}
    write(vision, config=BEIT | eye, preprocessor_config=pictures)
    torch.save(beit, vision / "pytorch_model.bin")
    proj = drawn(layout("limber-beit-linear", {1024: 16, 4096: 32}), 8)
    torch.save(proj, projection / "proj.ckpt")
    parts = {"decoder": decoder, "vision": vision, "projection": projection}
    return parts, gptj, proj, tokenizer


def test_limber_gives_the_logits_of_the_published_parts(pictures, tmp_path):
    """BEiT by transformers' own reading of the old names, GPT-J by hand with the rows it keeps."""
    originals, gptj, proj, own = tiny_limber(tmp_path)
    convert("limber", originals, tmp_path / "made")
    model = Limber.load(tmp_path / "made", "cpu", torch.float32)
    model.check({"language": 3 * 40, "vision": 2 * 24})
    beit, loading = BeitForMaskedImageModeling.from_pretrained(
        originals["vision"], output_loading_info=True
    )
    assert not loading["missing_keys"]
    pixels = model.preprocess(pictures[:1])
    assert pixels.shape == (1, 3, 16, 16) and pixels.min() >= -1
    with torch.no_grad():
        states = beit.eval().beit(pixels).last_hidden_state[0, 1:].double()
    image = states @ proj["weight"].double().T + proj["bias"].double()
    words = own.get_vocab_size() + 2
    w = {f"language.{name}": v.double() for name, v in gptj.items()}
    for name in ("transformer.wte.weight", "lm_head.weight", "lm_head.bias"):
        w[f"language.{name}"] = w[f"language.{name}"][:words]
    prompt = "A picture of a red car"
    ids = own.encode(prompt).ids
    embeds = torch.cat([image, w["language.transformer.wte.weight"][ids]])
    expected = gptj_logits(w, embeds, 4, 3, 4)
    assert expected.shape == (16 + len(ids), words) and expected.std() > 0.3
    close(logits_of(model, pictures, prompt), expected)
    assert len(model.tokenizer) == words and model.tokenizer.eos_token_id == words - 2
    assert model.tokenizer.convert_tokens_to_ids("<|image|>") == words - 1
    assert model.tokenizer("<|endoftext|>").input_ids == [words - 2]
    assert model.network.language.config.vocab_size == words


def test_limber_needs_the_files_of_gpt_2s_tokenizer_and_a_beit_for_mean_pooling(tmp_path):
    originals, *_ = tiny_limber(tmp_path)
    write(originals["vision"], config=BEIT | {"use_mean_pooling": False})
    with pytest.raises(ConversionError, match="use_mean_pooling is false"):
        from_limber.plan(originals, 292)
    (originals["decoder"] / "merges.txt").unlink()
    with pytest.raises(ConversionError, match=r"lacks merges\.txt"):
        from_limber.tokenizer_of(originals["decoder"])


def test_gpt_j_needs_as_many_rows_as_are_used(tmp_path):
    originals = full_limber(tmp_path)
    core.check(from_limber.plan(originals, 50400))
    with pytest.raises(ConversionError, match=r"wte\.weight \(50400, 4096\), not \(50401, 4096\)"):
        core.check(from_limber.plan(originals, 50401))


def test_limbers_projection_runs_nothing(tmp_path):
    originals = full_limber(tmp_path)
    torch.save({"weight": Harmful()}, originals["projection"] / "proj.ckpt")
    with pytest.raises(pickle.UnpicklingError, match="weights_only|Weights only"):
        core.check(from_limber.plan(originals, 50258))


# ----------------------------------------------------------------------------------- wrong files


def test_keys_that_differ_are_listed(tmp_path):
    originals = full_owl(tmp_path)
    tensors = without_content(layout("mplug-owl2-llama2-7b"))
    del tensors["lm_head.weight"]
    del tensors["model.visual_abstractor.vit_eos"]
    tensors["model.layers.0.self_attn.k_proj.weight"] = torch.zeros(()).expand(4096, 4096)
    tensors["model.norm.weight"] = torch.zeros(()).expand(4095)
    write_pickles(tensors, originals["checkpoint"], 2)
    torch.save({"model.norm.bias": torch.zeros(1)}, originals["checkpoint"] / "stray.bin")
    with pytest.raises(ConversionError) as error:
        core.check(from_owl.plan(originals))
    assert str(error.value) == (
        "these are not the weights of MPlugOwl2ForCausalLM: "
        "missing: lm_head.weight, model.visual_abstractor.vit_eos; "
        "unexpected: model.layers.0.self_attn.k_proj.weight; "
        "mis-shaped: model.norm.weight (4095,), not (4096,)"
    )


def test_a_weight_in_two_files_is_an_error(tmp_path):
    originals = full_llava(tmp_path)
    tensors = without_content(layout("clip-vit-large-patch14"))
    tensors["lm_head.weight"] = torch.zeros(()).expand(32000, 5120)
    write_pickles(tensors, originals["vision"], 1)
    with pytest.raises(ConversionError, match="twice: lm_head.weight"):
        core.check(from_llava.plan(originals, 32000))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mm_use_im_start_end", True),
        ("mm_hidden_size", 768),
        ("mm_resampler_type", "qformer"),
        ("mm_vision_select_feature", "cls_patch"),
        ("mm_vision_tower", "openai/clip-vit-large-patch14-336"),  # of the same width
        ("mm_vision_tower", None),
    ],
)
def test_another_llava_is_an_error(key, value, tmp_path):
    originals = full_llava(tmp_path)
    write(originals["checkpoint"], config=LLAVA | {key: value})
    with pytest.raises(ConversionError, match=r"hidden_size|" + key):
        from_llava.plan(originals, 32000)


def test_a_llava_that_leaves_out_what_is_usual_or_has_its_tower_elsewhere_is_one(tmp_path):
    originals = full_llava(tmp_path)
    said = {k: v for k, v in LLAVA.items() if k != "mm_vision_select_feature"}
    said["mm_vision_tower"] = "somebody/models/clip-vit-large-patch14/"
    write(originals["checkpoint"], config=said)
    core.check(from_llava.plan(originals, 32000))


def test_a_shard_of_the_index_that_is_not_there_is_named(tmp_path):
    originals = full_owl(tmp_path)
    (originals["checkpoint"] / "pytorch_model-00007-of-00033.bin").unlink()
    with pytest.raises(ConversionError, match="lacks pytorch_model-00007-of-00033.bin"):
        from_owl.plan(originals)


def test_a_training_checkpoint_without_weights_is_an_error(tmp_path):
    originals = full_minigpt4(tmp_path)
    torch.save({"epoch": 4}, originals["projection"] / "pretrained_minigpt4_llama2_7b.pth")
    with pytest.raises(KeyError, match="holds epoch, not model"):
        core.check(from_minigpt4.plan(originals))


class Harmful:
    def __reduce__(self):
        return os.system, ("true",)


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    originals = full_minigpt4(tmp_path)
    path = originals["projection"] / "pretrained_minigpt4_llama2_7b.pth"
    torch.save({"model": Harmful()}, path)
    with pytest.raises(pickle.UnpicklingError, match="weights_only|Weights only"):
        core.check(from_minigpt4.plan(originals))


def test_a_conversion_that_fails_leaves_nothing(tmp_path):
    originals, _, _ = tiny_owl(tmp_path)
    (originals["checkpoint"] / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(Exception):  # noqa: B017 - whatever the tokenizer's reader says
        convert("mplug_owl2", originals, tmp_path / "models/made")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_directory_that_holds_files_is_never_touched(tmp_path):
    originals, _, _ = tiny_owl(tmp_path)
    placed = tmp_path / "placed"
    placed.mkdir()
    (placed / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(ConversionError, match="holds files"):
        convert("mplug_owl2", originals, placed)
    assert [p.read_bytes() for p in placed.iterdir()] == [b"mine"]


def test_a_directory_that_is_a_link_to_another_disk_stays_one(tmp_path):
    originals, _, _ = tiny_owl(tmp_path)
    disk, link = tmp_path / "disk/models", tmp_path / "models/made"
    disk.mkdir(parents=True)
    link.parent.mkdir()
    link.symlink_to(disk)
    seen = []

    def looked(*arguments):
        seen.extend(path.name for path in (tmp_path / "disk").iterdir())
        return write_weights(*arguments)

    write_weights = core.write_weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(from_owl, "write_weights", looked)
        convert("mplug_owl2", originals, link)
    assert link.is_symlink() and (disk / "config.json").is_file()
    assert sorted(seen) == [".models.part", "models"]  # the temporary folder, on the same disk
    assert [path.name for path in link.parent.iterdir()] == ["made"]


@pytest.mark.parametrize("free", [10_000, 10**9])
def test_a_disk_that_is_too_small_is_said_before_anything_is_written(tmp_path, monkeypatch, free):
    originals, _, _ = tiny_owl(tmp_path)
    usage = SimpleNamespace(free=space.RESERVE + free)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda folder: usage)
    if free == 10**9:
        convert("mplug_owl2", originals, tmp_path / "made")
        return
    writers = []
    monkeypatch.setattr(core, "ShardWriter", lambda *arguments: writers.append(arguments))
    with pytest.raises(DownloadError, match="the converted checkpoint needs .* more"):
        convert("mplug_owl2", originals, tmp_path / "made")
    assert writers == [] and not (tmp_path / "made").exists()


def test_published_files_that_cannot_be_linked_are_copied_where_there_is_room(
    tmp_path, monkeypatch
):
    original = write(tmp_path / "original", config={"model_type": "instructblip"})
    write_safetensors({"a": torch.ones(2)}, original, 1)
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    convert("transformers", {"checkpoint": original}, tmp_path / "made")
    assert (tmp_path / "made/config.json").is_file()
    usage = SimpleNamespace(free=space.RESERVE)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DownloadError, match="more in"):
        convert("transformers", {"checkpoint": original}, tmp_path / "again")


def test_what_is_published_for_transformers_is_put_into_place(tmp_path):
    original = write(tmp_path / "original", config={"model_type": "instructblip"}, download={})
    write_safetensors({"a": torch.ones(2), "b": torch.ones(3)}, original, 2)
    write(original / "qformer_tokenizer", tokenizer_config={})
    convert("transformers", {"checkpoint": original}, tmp_path / "made")
    made = {p.relative_to(tmp_path / "made").as_posix() for p in (tmp_path / "made").rglob("*.*")}
    assert made == {
        "config.json", "source.json", "model.safetensors.index.json",
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "qformer_tokenizer/tokenizer_config.json",
    }  # fmt: skip
    (original / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConversionError, match="lacks model-00002"):
        convert("transformers", {"checkpoint": original}, tmp_path / "again")


# ---------------------------------------------------------------------------------------- memory

MEASURE = """
import sys
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from mmneurons.checkpoints.convert import Piece, Plan, weight_files, write_weights

def held(kind):  # ru_maxrss would count what the parent held
    return int(Path("/proc/self/status").read_text().partition(kind)[2].split()[0]) * 1024

source, target = map(Path, sys.argv[1:])
plan = Plan(
    LlamaForCausalLM,
    LlamaConfig.from_pretrained(source),
    [Piece(weight_files(source), lambda name: name)],
)
before = held("VmRSS:")
write_weights(plan, target)
print(held("VmHWM:") - before)
"""


@pytest.mark.parametrize("kind", [write_pickles, write_safetensors])
def test_converting_holds_at_most_one_and_a_half_times_the_largest_file(kind, tmp_path):
    """Mapped pages count as held. The whole checkpoint is three times its largest file."""
    small = dict(vocab_size=1000, hidden_size=1024, intermediate_size=4096, num_hidden_layers=6)
    small |= dict(num_attention_heads=8, num_key_value_heads=8)
    sizes = {4096: 1024, 11008: 4096, 32000: 1000}
    named = layout("llama-2-7b-chat-hf", sizes, {32: 6})
    tensors = {
        name: torch.full(shape, i, dtype=dtype)
        for i, (name, (dtype, shape)) in enumerate(sorted(named.items()))
        if not name.endswith("inv_freq")
    }
    source = write(tmp_path / "source", config=LLAMA | small)
    kind(tensors, source, 3)
    (tmp_path / "made").mkdir()
    largest = max(path.stat().st_size for path in source.iterdir())
    assert n_bytes({k: (w.dtype, w.shape) for k, w in tensors.items()}) > 2.5 * largest
    del tensors
    out = subprocess.run(
        [sys.executable, "-c", MEASURE, source, tmp_path / "made"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts"), "OMP_NUM_THREADS": "1"},
    )
    assert out.returncode == 0, out.stderr
    print(f"{int(out.stdout) / largest:.2f} x the largest file of {largest / 1e6:.0f} MB")
    assert int(out.stdout) <= 1.5 * largest
    made = {path.name for path in (tmp_path / "made").glob("*.safetensors")}
    assert len(made) > 6
