"""Qwen2.5-VL against transformers' own forward, positions and generation, and the methods on it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from qwen_world import (
    IDS,
    LONG,
    SHORT,
    build,
    build_network,
    build_processor,
    build_tokenizer,
    own_generation,
    own_inputs,
    own_logits,
)
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from mmneurons.interventions.weight_noise import (
    WeightNoiseSettings,
    disturbed_sets,
    noised_captions,
)
from mmneurons.models.base import Decoding, ModelCheckError
from mmneurons.models.captions import fill_prompt
from mmneurons.models.qwen2_5_vl import MAP_GRID, Patches, Qwen25VL
from mmneurons.probe.contribution import PanSettings, record_pictures
from mmneurons.probe.gradcam import gradcam_map
from mmneurons.probe.hooks import record, watch_outputs
from mmneurons.probe.two_stage import Case, record_group

SIZES = [(40, 24), (17, 50), (32, 32), (60, 20)]
GRIDS = [(3, 5), (6, 2), (4, 4), (2, 8)]  # rows and columns of cells of 8 pixels, at most 32 cells
PROMPTS = [SHORT, LONG, LONG, SHORT]


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return build()


@pytest.fixture(scope="module")
def shapes():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def test_image_tokens_are_transformers_and_carry_their_grid(model, shapes):
    assert [model.layout(size) for size in SIZES] == GRIDS
    together = model.embed_pictures(shapes)
    inputs = model.image_processor(images=shapes, return_tensors="pt")
    own = model.network.get_image_features(**inputs).pooler_output
    for tokens, theirs, (rows, columns) in zip(together, own, GRIDS, strict=True):
        assert tokens.shape == (rows * columns, 34)
        assert torch.equal(tokens[:, :-2], theirs)
        assert tokens[:, -2:].unique(dim=0).tolist() == [[rows, columns]]
    square = model.embed_pictures([shapes[2], shapes[2]])
    assert square.shape == (2, 16, 34) and torch.equal(square[0], square[1])


@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 256), (torch.float16, 2048)])
def test_a_grid_that_half_precision_cannot_hold_is_an_error(dtype, most):
    model = build()
    model.network.to(dtype)
    for columns in (most, most + 1):
        grid = torch.tensor([[1, 2, 2 * columns]])
        pixels = Patches(torch.zeros(4 * columns, 96, dtype=dtype), grid)
        if columns == most:
            assert model.embed_pixels(pixels)[0, 0, -2:].tolist() == [1, columns]
        else:
            with pytest.raises(ValueError, match="a grid of"):
                model.embed_pixels(pixels)


@pytest.mark.parametrize("tied", [False, True])
def test_logits_of_a_padded_batch_are_those_of_transformers(shapes, tied):
    model = build(tie_word_embeddings=tied)
    assert (model.unembedding() is model.network.get_input_embeddings().weight) == tied
    encoded = model.encode(model.embed_pictures(shapes), PROMPTS)
    own, mask = own_logits(model, shapes, PROMPTS)
    assert torch.equal(encoded.mask, mask)
    real = mask.bool()
    mine = model.logits(model.final_states(encoded))
    torch.testing.assert_close(mine[real], own[real], atol=2e-5, rtol=1e-4)


def test_positions_are_those_of_transformers_and_of_a_hand_count(model, shapes):
    encoded = model.encode(model.embed_pictures(shapes), PROMPTS, [[9], [], [9, 10, 11], []])
    positions = model.decoder_inputs(encoded)["position_ids"]
    inputs = own_inputs(model, shapes, PROMPTS)
    own, _ = model.network.model.get_rope_index(**inputs)
    prompt = slice(0, encoded.prompt_end)
    real = encoded.mask[:, prompt].bool()
    assert torch.equal(positions[:, :, prompt][:, real], own[:, real])
    # SHORT: <|im_start|> user <|vision_start|>, 3 rows of 5 cells, <|vision_end|> Describe ...
    row = positions[:, 0, encoded.mask[0].bool()]
    assert row[:, :3].tolist() == [[0, 1, 2]] * 3
    assert row[:, 3:18].tolist() == [[3] * 15, [3] * 5 + [4] * 5 + [5] * 5, [3, 4, 5, 6, 7] * 3]
    assert row[:, 18:].tolist() == [list(range(8, 8 + row.shape[1] - 18))] * 3


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3, "length_penalty": -1.0}])
def test_generation_is_that_of_transformers(model, shapes, settings):
    decoding = Decoding("beam", **settings) if settings else Decoding()
    encoded = model.encode(model.embed_pictures(shapes), PROMPTS)
    own = own_generation(model, shapes, PROMPTS, 8, **settings)
    assert model.generate(encoded, 8, decoding) == own
    assert len({tuple(row) for row in own}) == 4


def test_continuations_go_on_from_the_positions_behind_the_picture(model, shapes):
    """Teacher forcing gives the logits of transformers for the same tokens in one pass."""
    said = [[IDS["red"], IDS["car"]], [IDS["cat"]], [], [IDS["a"], IDS["sea"], IDS["a"]]]
    encoded = model.encode(model.embed_pictures(shapes), PROMPTS, said)
    states = model.final_states(encoded)
    for row, (picture, prompt, tokens) in enumerate(zip(shapes, PROMPTS, said, strict=True)):
        words = " ".join(word for token in tokens for word, n in IDS.items() if n == token)
        own, _ = own_logits(model, [picture], [f"{prompt} {words}"])
        mine = model.logits(states[row, encoded.mask[row].bool()])
        torch.testing.assert_close(mine, own[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "prompt",
    ["Describe a cat", f"{SHORT} {LONG}", "Describe <|vision_start|> <|image_pad|>"],
)
def test_a_prompt_needs_one_place_and_text_behind_it(model, prompt):
    with pytest.raises(ValueError, match="exactly once, and text behind it"):
        model.segments(prompt)


def test_vision_and_merger_neurons_are_those_of_their_patches(model, shapes):
    """Units of the batch's flat rows are those of each picture alone, picture after picture."""
    for module, width in (("vision", 24), ("projector", 64)):
        sites = model.sites(module)
        with record(sites, ["act", "post"]) as together:
            model.embed_pictures(shapes)
        owners = model.owners(module, None, SIZES, PROMPTS)
        for row, picture in enumerate(shapes):
            with record(sites, ["act", "post"]) as alone:
                model.embed_pictures([picture])
            for kind in ("act", "post"):
                for a, b in zip(together[kind], alone[kind], strict=True):
                    assert b.shape[1:] == (1, width)
                    torch.testing.assert_close(a[owners == row], b, atol=1e-5, rtol=1e-4)


def test_maps_put_a_token_where_its_cell_is(model):
    (rows, columns), (down, across) = model.layout((60, 20)), MAP_GRID
    weights = model.patch_weights([Image.new("RGB", (60, 20))])[0].view(rows, columns, down, across)
    torch.testing.assert_close(weights.sum(dim=(2, 3)), torch.ones(rows, columns))
    for row in range(rows):
        for column in range(columns):
            inside = weights[row, column] > 0
            first, last = row * down // rows, (row + 1) * down // rows
            assert inside.any(dim=1).nonzero().flatten().tolist() == list(range(first, last))
            first, last = column * across // columns, (column + 1) * across // columns
            assert inside.any(dim=0).nonzero().flatten().tolist() == list(range(first, last))


def test_the_picture_layer_is_in_raster_order(model):
    """The vision tower sorts patches by window; a picture with one bright patch finds it back."""
    model = build()
    module, patches = model.picture_layer()
    block = model.network.model.visual.blocks[-1]
    for row, column in ((0, 0), (1, 4), (5, 9), (3, 2)):
        pixels = np.zeros((24, 40, 3), dtype=np.uint8)
        pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
        # Without attention and FFNs a patch's state hangs on its own pixels alone.
        with torch.no_grad():
            for other in model.network.model.visual.blocks:
                for last in (other.attn.proj, other.mlp.down_proj):
                    last.weight.zero_()
                    last.bias.zero_()
        found = []
        with watch_outputs([module], found.append):
            model.embed_pictures([Image.fromarray(pixels)])
        states = patches(found[0])
        assert states.shape == (1, 16, 6, 10) and module is block.norm1
        dark = states[0, :, 5, 0] if (row, column) != (5, 0) else states[0, :, 0, 5]
        differs = (states[0] - dark[:, None, None]).abs().sum(dim=0) > 1e-4
        assert differs.nonzero().tolist() == [[row, column]]


# ----------------------------------------------------------------------------- loading, checks


def test_saved_and_loaded_again_is_the_same_here_and_in_transformers(model, shapes, tmp_path):
    model.save(tmp_path)
    again = Qwen25VL.load(tmp_path, "cpu", torch.float32)
    again.check({"language": 120, "vision": 72, "projector": 64})
    expected = model.generate(model.encode(model.embed_pictures(shapes), PROMPTS), 6)
    assert again.generate(again.encode(again.embed_pictures(shapes), PROMPTS), 6) == expected
    plain = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path).eval()
    for ours, theirs in zip(model.network.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == Qwen25VL.family


def test_missing_weights_are_an_error(model, tmp_path):
    from safetensors.torch import load_file, save_file

    model.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    gone = next(name for name in weights if "merger" in name)
    del weights[gone]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelCheckError, match="no weights in .*merger"):
        Qwen25VL.load(tmp_path, "cpu", torch.float32)


def test_check_rejects_what_would_go_wrong_without_an_error():
    wrong = build()
    wrong.network.config.image_token_id = IDS["cat"]
    with pytest.raises(ModelCheckError, match="image_token_id is"):
        wrong.check()
    cut = Qwen25VL(build_network(), build_tokenizer(), build_processor(merge_size=1), "cpu")
    with pytest.raises(ModelCheckError, match="cuts pictures otherwise"):
        cut.check()
    with pytest.raises(ModelCheckError, match="projector has 64 neurons, not 5"):
        build().check({"projector": 5})


def test_full_size_has_the_neurons_of_the_registry():
    from mmneurons.models.registry import read_registry

    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
            "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
            "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24]},
        },
        vision_config={
            "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
            "out_hidden_size": 3584,
        },
    )  # fmt: skip
    with torch.device("meta"):
        network = Qwen2_5_VLForConditionalGeneration(config)
    model = Qwen25VL(network, None, None, "meta")
    units = read_registry("resources/models.yaml")["qwen2.5-vl-7b"].units
    for module, expected in units.items():
        assert sum(site.n_units for site in model.sites(module)) == expected
    assert sum(weight.numel() for weight in network.parameters()) == 8_292_166_656


# ------------------------------------------------------------------------ the methods, end to end

PROMPT = {
    "template": SHORT.replace("An image", "{prefix}").replace("Describe", "{instruction}"),
    "instruction": "Describe in few words",
    "prefix": "An image of",
}


def nouns(caption, token_ids, token_ends):
    """Every generated word but the special ones is a concept, where it stands first."""
    words = {number: word for word, number in IDS.items() if not word.startswith("<")}
    rows = {}
    for place, token in enumerate(token_ids):
        if token in words and words[token] not in rows:
            start = token_ends[place - 1] if place else len(PROMPT["prefix"])
            rows[words[token]] = {
                "group": words[token], "position": place, "token": token, "n_tokens": 1,
                "start": start, "end": token_ends[place],
            }  # fmt: skip
    return list(rows.values()), []


@pytest.fixture(scope="module")
def files(shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate([shapes[0], shapes[0].rotate(180), shapes[0].rotate(0)]):
        picture.save(folder / f"{number}.png")
    return [(path.stem, path) for path in sorted(folder.iterdir())]


def test_pan_finds_and_disturbs_neurons(model, files):
    settings = PanSettings(max_new_tokens=6, top_k=[1, 5], seed=1, gradient_rows=3, n_tokens=4)
    found = record_pictures(model, PROMPT, [files[:2], files[2:]], nouns, settings)
    concepts, captions = found.tables["captions/concepts"], found.tables["captions/pan"]
    plain = captions[captions["variant"] == "plain"].set_index("picture_id")
    text = fill_prompt(PROMPT)
    for name, path in files:
        own = own_generation(model, [Image.open(path).convert("RGB")], [text], 6)
        assert list(plain.loc[name, "token_ids"]) == own[0]
    best = found.tables["neurons/contribution.act.plain"]
    concept = concepts[concepts["variant"] == "plain"].iloc[0]
    top = best[best["sample_id"] == concept["sample_id"]].sort_values("rank").iloc[0]
    # Its score by transformers' own pass: activation at the generating position x W_out W_u.
    picture = Image.open(dict(files)[concept["picture_id"]]).convert("RGB")
    said = list(plain.loc[concept["picture_id"], "token_ids"])[: concept["position"]]
    words = " ".join(word for token in said for word, n in IDS.items() if n == token)
    scores = []
    with record(model.sites("language"), ["act"]) as passed:
        own_logits(model, [picture], [f"{text} {words}".strip()])
    for site, act in zip(model.sites("language"), passed["act"], strict=True):
        rows = site.output.weight.T @ model.network.lm_head.weight[concept["token"]]
        scores.append(act[0, -1] * rows)
    scores = torch.stack(scores)
    assert scores.argmax().item() == top["layer"] * 40 + top["unit"]
    assert top["score"] == pytest.approx(scores.max().item(), rel=1e-4)
    n_plain = (concepts["variant"] == "plain").sum()
    assert found.maps["act/maps"].shape == (n_plain, 2 + 5, MAP_GRID[0] * MAP_GRID[1])
    assert np.isfinite(found.maps["act/maps"]).all()
    own = best[(best["sample_id"] == concept["sample_id"]) & (best["rank"] < 3)]
    sets = disturbed_sets(own, 40, 1, 1)[concept["sample_id"]]
    noise = WeightNoiseSettings([1.0], "row", 1, 1)
    tokens = model.embed_pictures([picture], text)
    rows = list(noised_captions(model, PROMPT, tokens, "0", "", sets, noise, 4, 6))
    assert {row["method"] for row in rows} == {"contribution", "random"}


def test_two_stage_filtering_records(model, files):
    text = fill_prompt(PROMPT)
    shown = [Image.open(path).convert("RGB") for _, path in files]
    cases = [
        Case(shown[0], shown[1], [], IDS["cat"]),
        Case(shown[2], shown[2], [IDS["a"]], IDS["car"]),
    ]
    arrays = record_group(model, text, cases, ["act", "post"], 6, batch_size=2)
    assert arrays["act/difference"].shape == (2, 3, 40)
    assert (arrays["act/difference"][1] == 0).all() and (arrays["act/difference"][0] != 0).any()
    assert (arrays["act/gradact"][:, :2] != 0).any() and (arrays["act/gradact"][:, 2] == 0).all()
    assert arrays["act/maps"].shape[2] == 15


def test_gradcam_is_of_the_pictures_shape_on_the_common_grid(model, shapes):
    seen = gradcam_map(model, SHORT, shapes[3], [], IDS["cat"])
    assert seen.shape == (14 * MAP_GRID[0], 14 * MAP_GRID[1])
    assert seen.min() == 0 and seen.max() == pytest.approx(1, abs=1e-3)
