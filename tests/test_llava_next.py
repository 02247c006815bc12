"""LLaVA-NeXT against transformers' own processor, forward pass and generation."""

import numpy as np
import pytest
import torch
from llava_next_world import IDS, LONG, SHORT, build, own_ids, own_logits
from PIL import Image
from transformers import (
    AutoConfig,
    AutoProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from mmneurons.models.base import Decoding, ModelCheckError
from mmneurons.models.llava_next import LlavaNext
from mmneurons.probe.hooks import record, replace

# (width, height) and the image tokens that transformers 4 and 5 agreed on for this grid of tiles.
KNOWN = {(30, 20): 70, (20, 30): 72, (16, 16): 36, (32, 32): 88, (40, 10): 34}


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return build()


@pytest.fixture(scope="module")
def shapes():
    """Pictures of quite different shapes."""
    rng = np.random.default_rng(1)
    return [
        Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        for w, h in [(40, 10), (32, 32), (20, 30), (17, 50)]
    ]


# --------------------------------------------------------------------------------- image tokens


@pytest.mark.parametrize(("size", "tokens"), [*KNOWN.items()])
def test_number_of_image_tokens_of_known_sizes(model, size, tokens):
    assert model.n_image_tokens(size) == tokens


def test_number_of_image_tokens_is_that_of_the_network_and_of_the_processor(model, tmp_path):
    model.save(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path, backend="pil")
    rng = np.random.default_rng(0)
    sizes = [tuple(int(v) for v in rng.integers(8, 60, 2)) for _ in range(60)]
    for size in sizes:
        (tokens,) = model.embed_pictures([Image.new("RGB", size)])
        assert model.n_image_tokens(size) == len(tokens)
        said = processor._get_num_multimodal_tokens([size[::-1]])["num_image_tokens"]
        assert said == [len(tokens)]
        assert model.n_tokens(LONG, size) == len(tokens) + len(LONG.split())
    assert len({model.n_image_tokens(size) for size in sizes}) >= 10


def test_tiles_of_a_size_by_hand(model):
    """40 x 10 fits 32 x 16 best: 2 x 1 tiles, 4 x 8 tokens, scaled to 32 x 8: a row less."""
    layout = model.layout((40, 10))
    assert (layout.tiles, layout.rows, layout.cols, layout.base) == ((1, 2), 2, 8, 4)
    assert layout.n_tiles == 3
    assert layout.n_tokens == 16 + 2 * 9 == KNOWN[40, 10]


def test_full_size_tokens_of_a_known_picture():
    """640 x 480: 2 x 2 tiles of 24 x 24; 36 of 48 rows: 576 + 36 x 49 = 2340."""
    model = full_size()
    assert model.n_image_tokens((640, 480)) == 2340


def test_pictures_of_a_batch_keep_their_own_image_tokens(model, shapes):
    together = model.embed_pictures(shapes)
    assert len({len(tokens) for tokens in together}) > 2
    for picture, tokens in zip(shapes, together, strict=True):
        (alone,) = model.embed_pictures([picture])
        torch.testing.assert_close(tokens, alone)


# ----------------------------------------------------------------------------- the forward pass


@pytest.mark.parametrize("prompt", [SHORT, LONG])
def test_logits_are_those_of_transformers_forward(model, shapes, prompt):
    for picture in shapes:
        own, ids = own_logits(model, picture, prompt)
        encoded = model.encode(model.embed_pictures([picture]), prompt)
        torch.testing.assert_close(model.logits(model.final_states(encoded))[0], own)
        assert torch.equal(encoded.image_mask[0], ids == IDS["<image>"])
        assert encoded.image[0].tolist() == (ids == IDS["<image>"]).nonzero().flatten().tolist()


def test_a_batch_of_different_lengths_gives_what_each_gives_alone(model, shapes):
    prompts = [SHORT, LONG, LONG, SHORT]
    encoded = model.encode(model.embed_pictures(shapes), prompts)
    states = model.final_states(encoded)
    generated = model.generate(encoded, 6)
    for row, (picture, prompt) in enumerate(zip(shapes, prompts, strict=True)):
        own, ids = own_logits(model, picture, prompt)
        torch.testing.assert_close(
            model.logits(states[row, -len(ids) :]), own, atol=2e-5, rtol=1e-4
        )
        inputs = model.image_processor(images=[picture], return_tensors="pt")
        greedy = model.network.generate(
            input_ids=ids[None], max_new_tokens=6, do_sample=False, **inputs
        )
        rest = greedy[0, len(ids) :].tolist()
        assert generated[row] == (rest[: rest.index(2)] if 2 in rest else rest)
    with pytest.raises(ValueError, match="image tokens"):
        _ = encoded.image


def test_beams_are_those_of_transformers(model, shapes):
    picture, prompt = shapes[0], SHORT
    encoded = model.encode(model.embed_pictures([picture]), prompt)
    beams = model.generate(encoded, 6, Decoding("beam", num_beams=3, length_penalty=-1))
    _, ids = own_logits(model, picture, prompt)
    inputs = model.image_processor(images=[picture], return_tensors="pt")
    own = model.network.generate(
        input_ids=ids[None], max_new_tokens=6, num_beams=3, length_penalty=-1, do_sample=False,
        **inputs,
    )  # fmt: skip
    rest = own[0, len(ids) :].tolist()
    assert beams == [rest[: rest.index(2)] if 2 in rest else rest]


def test_samples_depend_on_their_seed_alone(model, shapes):
    encoded = model.encode(model.embed_pictures(shapes), SHORT)
    draws = [model.generate(encoded, 8, Decoding("sample", seed=seed)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    state = torch.random.get_rng_state()
    model.generate(encoded, 2, Decoding("sample", seed=3))
    assert torch.equal(state, torch.random.get_rng_state())


# ------------------------------------------------------------------------------ modules, inertness


def full_size(hidden=4096, layers=32, heads=32, units=11008):
    text = LlamaConfig(
        vocab_size=32064, hidden_size=hidden, intermediate_size=units, num_hidden_layers=layers,
        num_attention_heads=heads,
    )  # fmt: skip
    config = LlavaNextConfig(
        text_config=text,
        vision_config=CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
            image_size=336, patch_size=14, projection_dim=768,
        ),
    )  # fmt: skip
    with torch.device("meta"):
        network = LlavaNextForConditionalGeneration(config)
    return LlavaNext(network, None, None, "meta")


def test_units_of_the_full_sizes_are_the_papers():
    model = full_size()
    units = {
        module: sum(site.n_units for site in model.sites(module))
        for module in ("language", "vision", "projector", "qformer.query")
    }
    assert units == {
        "language": 32 * 11008,
        "vision": 24 * 4096,
        "projector": 4096,
        "qformer.query": 0,
    }
    assert sum(units.values()) == 454_656
    assert model.inert_layers("vision", "last") == {23}
    assert model.inert_layers("projector", "last") == frozenset()
    larger = full_size(5120, 40, 40, 13824)
    assert sum(s.n_units for s in larger.sites("language")) == 552_960
    assert sum(s.n_units for s in larger.sites("projector")) == 5120


def test_what_is_marked_inert_changes_nothing_and_the_rest_does(model, shapes):
    def states(module, layer):
        (site,) = [s for s in model.sites(module) if s.layer == layer]
        with replace([site], "act", lambda _site, tensor: torch.zeros_like(tensor)):
            encoded = model.encode(model.embed_pictures(shapes[:1]), SHORT)
            return model.final_states(encoded)

    plain = model.final_states(model.encode(model.embed_pictures(shapes[:1]), SHORT))
    for module in ("vision", "projector", "language"):
        inert = model.inert_layers(module, "last")
        for site in model.sites(module):
            same = torch.equal(states(module, site.layer), plain)
            assert same == (site.layer in inert), (module, site.layer)


def test_sites_read_what_their_names_say(model, shapes):
    for module, width in (("vision", 24), ("projector", 16), ("language", 20)):
        sites = model.sites(module)
        with record(sites, ["act", "post"]) as recorded:
            encoded = model.encode(model.embed_pictures(shapes), SHORT)
            model.final_states(encoded)
        assert all(tensor.shape[-1] == width for tensor in recorded["act"])
        same = [torch.equal(a, b) for a, b in zip(*recorded.values(), strict=True)]
        assert same == [module != "language"] * len(sites)
        n_tiles = sum(model.layout(picture.size).n_tiles for picture in shapes)
        if module != "language":
            assert {len(tensor) for tensor in recorded["act"]} == {n_tiles}


def test_owners_of_tiles(model, shapes):
    sizes = [picture.size for picture in shapes]
    owners = model.owners("vision", None, sizes, [SHORT] * 4)
    expected = [[row] * model.layout(size).n_tiles for row, size in enumerate(sizes)]
    assert owners.tolist() == sum(expected, [])
    assert torch.equal(owners, model.owners("projector", None, sizes, [SHORT] * 4))
    encoded = model.encode(model.embed_pictures(shapes), [SHORT, LONG, LONG, SHORT])
    language = model.owners("language", encoded, sizes, [SHORT] * 4)
    assert torch.equal(language >= 0, encoded.mask > 0)
    assert language.amax(dim=1).tolist() == [0, 1, 2, 3]


# ------------------------------------------------------------------------------------- places


def test_tokens_cover_the_patches_under_them(model):
    (weights,) = model.patch_weights([Image.new("RGB", (32, 32))])
    assert weights.shape == (16 + 8 * 9, 16)
    assert torch.equal(weights[:16], torch.eye(16))
    tiles = weights[16:].view(8, 9, 4, 4)
    assert tiles[:, -1].abs().sum() == 0  # newlines
    for row in range(8):
        for col in range(8):
            assert tiles[row, col, row // 2, col // 2] == 1
            assert tiles[row, col].sum() == 1
    (uneven,) = model.patch_weights([Image.new("RGB", (40, 10))])
    rows = uneven[16:].view(2, 9, 4, 4)
    torch.testing.assert_close(rows[:, :-1].sum(dim=(2, 3)), torch.ones(2, 8))
    # Two rows of tokens over four rows of patches: each lies on two of them in equal shares.
    torch.testing.assert_close(rows[0, 0, :, 0], torch.tensor([0.5, 0.5, 0, 0]))


def test_picture_layer_is_that_of_the_squeezed_whole(model, shapes):
    module, reshape = model.picture_layer()
    outputs = []
    handle = module.register_forward_hook(lambda _module, _args, output: outputs.append(output))
    try:
        model.embed_pictures(shapes[:1])
    finally:
        handle.remove()
    layers = model.network.model.vision_tower.encoder.layers
    assert module is layers[1].layer_norm1  # of three layers the last one is not used
    assert reshape(outputs[0]).shape == (1, 12, 4, 4)
    assert torch.equal(reshape(outputs[0])[0, :, 1, 2], outputs[0][0, 1 + 4 + 2])


# ------------------------------------------------------------------------- loading and checking


def test_a_saved_model_is_the_same_here_and_in_transformers(model, shapes, tmp_path):
    model.save(tmp_path)
    again = LlavaNext.load(tmp_path, "cpu", torch.float32)
    again.check({"language": 40, "vision": 72, "projector": 16})
    for ours, theirs in zip(
        model.embed_pictures(shapes), again.embed_pictures(shapes), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert AutoConfig.from_pretrained(tmp_path).model_type == "llava_next"
    network = LlavaNextForConditionalGeneration.from_pretrained(tmp_path).eval()
    processor = AutoProcessor.from_pretrained(tmp_path, backend="pil")
    inputs = processor(images=[shapes[0]], text=[SHORT], return_tensors="pt")
    assert torch.equal(inputs.pixel_values, model.preprocess(shapes[:1]).pixels)
    n_tokens = model.n_image_tokens(shapes[0].size)
    assert int((inputs.input_ids == IDS["<image>"]).sum()) == n_tokens
    ids = torch.tensor([own_ids(SHORT, n_tokens)])
    own = network(ids, inputs.pixel_values, image_sizes=inputs.image_sizes).logits
    encoded = model.encode(model.embed_pictures(shapes[:1]), SHORT)
    torch.testing.assert_close(model.logits(model.final_states(encoded)), own)


def test_a_directory_without_the_newline_is_refused(model, tmp_path):
    from safetensors.torch import load_file, save_file

    model.save(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    (name,) = [name for name in weights if name.endswith("image_newline")]
    del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelCheckError, match="image_newline"):
        LlavaNext.load(tmp_path, "cpu", torch.float32)


def test_check_refuses_another_number_of_units(model):
    with pytest.raises(ModelCheckError, match="projector has 16 neurons, not 17"):
        model.check({"projector": 17})
    assert own_ids(SHORT, 2).count(IDS["<image>"]) == 2
