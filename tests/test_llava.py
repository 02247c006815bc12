"""LLaVA against transformers' own image features and generation."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoProcessor,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from mmneurons.models.base import ModelCheckError, processed_box
from mmneurons.models.llava import Llava, LlavaNetwork, LlavaNetworkConfig
from mmneurons.probe.hooks import record, replace

WORDS = (
    "<unk> <s> </s> <pad> <image> USER: ASSISTANT: Describe in few words An of red car cat sea a"
)
IDS = {word: place for place, word in enumerate(WORDS.split())}
SHORT = "USER: <image> Describe ASSISTANT: An"
LONG = "USER: a red car in sea <image> Describe in few words ASSISTANT: An"
N_TOKENS = 16


def build_tokenizer(**changes):
    words = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        additional_special_tokens=["<image>"],
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **(special | changes),
    )


def small_configs():
    """4 x 4 patches, three vision layers, two decoder layers."""
    vision = CLIPVisionConfig(
        hidden_size=12, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        image_size=16, patch_size=4, projection_dim=8,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(IDS), hidden_size=16, intermediate_size=20, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )  # fmt: skip
    return {"vision_config": vision, "text_config": text, "image_token_index": IDS["<image>"]}


def spread(network):
    """Give a network weights at which all parts show."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.normal_(std=1.5 / weight[0].numel() ** 0.5)
            else:
                weight.add_(0.2 * torch.randn(weight.shape))
    return network


def build_network(seed=0, **changes):
    torch.manual_seed(seed)
    config = LlavaNetworkConfig(
        **small_configs(),
        image_seq_length=N_TOKENS,
        **changes,
    )
    return spread(LlavaNetwork(config))


def build(seed=0, tokenizer=None, **changes):
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    return Llava(build_network(seed, **changes), tokenizer or build_tokenizer(), processor, "cpu")


@pytest.fixture(scope="module", params=["mlp", "linear"])
def llava(request):
    torch.set_num_threads(1)
    return build(projector=request.param)


@pytest.fixture(scope="module")
def plain():
    torch.set_num_threads(1)
    return build()


def own_ids(prompt):
    """What transformers' generate wants: BOS, and as many placeholders as image tokens."""
    words = prompt.replace("<image>", "<image> " * N_TOKENS).split()
    return [IDS["<s>"], *(IDS[word] for word in words)]


def own_generation(network, pixels, prompts, n):
    """Greedy tokens of transformers' own class for a left-padded batch."""
    rows = [own_ids(prompt) for prompt in prompts]
    longest = max(map(len, rows))
    padded = [[IDS["<pad>"]] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    tokens = network.generate(
        input_ids=torch.tensor(padded),
        attention_mask=torch.tensor(mask),
        pixel_values=pixels,
        max_new_tokens=n,
        do_sample=False,
        pad_token_id=IDS["<pad>"],
        eos_token_id=IDS["</s>"],
    )[:, longest:].tolist()
    return [row[: row.index(IDS["</s>"])] if IDS["</s>"] in row else row for row in tokens]


# --------------------------------------------------------------------------- the forward pass


def test_image_tokens_are_transformers_image_features(llava, pictures):
    pixels = llava.preprocess(pictures[:3])
    tokens = llava.embed_pixels(pixels, [SHORT, LONG, SHORT])
    own = llava.network.get_image_features(pixel_values=pixels).pooler_output
    assert tokens.shape == (3, N_TOKENS, 16)
    assert torch.equal(tokens, torch.stack(list(own)))
    assert torch.equal(tokens, llava.embed_pictures(pictures[:3]))
    assert (tokens[0] - tokens[1]).abs().max() > 0.1


def test_image_tokens_are_the_projected_states_before_the_last_layer(plain, pictures):
    pixels = plain.preprocess(pictures[:2])
    network = plain.network.model
    states = network.vision_tower(pixels, output_hidden_states=True).hidden_states
    assert len(states) == 4
    projector = network.multi_modal_projector
    by_hand = projector.linear_1(states[2][:, 1:])
    by_hand = projector.linear_2(torch.nn.functional.gelu(by_hand))
    torch.testing.assert_close(plain.embed_pixels(pixels), by_hand)


def test_a_linear_projector_is_one_matrix_and_bias(pictures):
    linear = build(projector="linear")
    pixels = linear.preprocess(pictures[:2])
    network = linear.network.model
    states = network.vision_tower(pixels, output_hidden_states=True).hidden_states[2][:, 1:]
    projector = network.multi_modal_projector
    by_hand = states @ projector.weight.T + projector.bias
    torch.testing.assert_close(linear.embed_pixels(pixels), by_hand)
    assert linear.sites("projector") == []
    without = build(projector="linear", multimodal_projector_bias=False)
    assert without.network.model.multi_modal_projector.bias is None


def test_logits_are_those_of_transformers_forward(llava, pictures):
    pixels = llava.preprocess(pictures[:1])
    encoded = llava.encode(llava.embed_pixels(pixels), LONG, [[IDS["red"], IDS["car"]]])
    ids = torch.tensor([[*own_ids(LONG), IDS["red"], IDS["car"]]])
    own = llava.network(input_ids=ids, pixel_values=pixels).logits
    torch.testing.assert_close(llava.logits(llava.final_states(encoded)), own)
    assert encoded.image[0].tolist() == (ids[0] == IDS["<image>"]).nonzero().flatten().tolist()


def test_generation_is_that_of_transformers(llava, pictures):
    prompts = [SHORT, LONG, LONG, SHORT]
    pixels = llava.preprocess(pictures[:4])
    own = own_generation(llava.network, pixels, prompts, 8)
    assert llava.generate(llava.encode(llava.embed_pixels(pixels), prompts), 8) == own
    for row in range(4):
        alone = llava.encode(llava.embed_pixels(pixels[row : row + 1]), prompts[row])
        assert llava.generate(alone, 8) == own[row : row + 1]
    assert len({tuple(row) for row in own}) > 1


def test_the_decoder_holds_the_networks_own_weights(plain):
    network = plain.network
    own = {id(weight) for weight in network.parameters()}
    assert {id(weight) for weight in plain.decoder.parameters()} < own
    assert plain.decoder.lm_head is network.lm_head
    assert plain.decoder.get_input_embeddings() is network.get_input_embeddings()
    assert plain.decoder.model.norm is plain.final_norm()
    assert not plain.decoder.training
    assert not any(weight.requires_grad for weight in plain.decoder.parameters())


def test_embedding_is_differentiable(plain, pictures):
    pixels = plain.preprocess(pictures[:1]).requires_grad_()
    plain.embed_pixels(pixels).square().sum().backward()
    assert pixels.grad.abs().sum() > 0


# -------------------------------------------------------------------------------------- prompts


def test_prompt_laid_out_by_hand(plain):
    before, after = plain.segments(LONG)
    assert before == [IDS[word] for word in "<s> USER: a red car in sea".split()]
    assert after == [IDS[word] for word in "Describe in few words ASSISTANT: An".split()]


def test_text_at_the_placeholder_needs_no_space(plain):
    assert plain.segments("USER:<image>Describe") == ([1, IDS["USER:"]], [IDS["Describe"]])


@pytest.mark.parametrize("prompt", ["", "Describe", "<image> and <image>"])
def test_a_prompt_without_exactly_one_place_for_the_picture_is_an_error(plain, prompt):
    with pytest.raises(ValueError, match="exactly once"):
        plain.segments(prompt)


# ------------------------------------------------------------------------------- preprocessing


def test_preprocessing_keeps_the_middle_of_a_wide_picture(plain):
    # 16 high, so that nothing is resized; columns 8 to 23 of 32 are the middle.
    values = np.random.default_rng(1).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    pixels = plain.preprocess([Image.fromarray(values)])
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    expected = (values[:, 8:24] / 255 - mean) / std
    assert pixels.shape == (1, 3, 16, 16)
    assert pixels.dtype == torch.float32
    np.testing.assert_allclose(pixels[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_preprocessing_resizes_the_shortest_edge(plain):
    # 32 x 64 with a left and a right half: the edge stays in the middle of the cropped square.
    values = np.zeros((32, 64, 3), dtype=np.uint8)
    values[:, 32:] = 255
    red = plain.preprocess([Image.fromarray(values)])[0, 0] * 0.26862954 + 0.48145466
    assert red.shape == (16, 16)
    torch.testing.assert_close(red[:, :6], torch.zeros(16, 6), atol=1e-2, rtol=0)
    torch.testing.assert_close(red[:, 10:], torch.ones(16, 6), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        # Shortest edge 16: 48 x 16, of which the middle 16 columns stay.
        ((120, 40), (40, 0, 80, 40)),
        ((40, 120), (0, 40, 40, 80)),
        ((64, 64), (0, 0, 64, 64)),
        # 17.6 x 16, cut off to 17, from which column 0 to 16 stay: 16 / 17 of 88 pixels.
        ((88, 80), (0, 0, 83, 80)),
    ],
)
def test_the_box_that_is_seen(plain, size, box):
    assert plain.seen_box(size) == box


@pytest.mark.parametrize("size", [(320, 96), (96, 320), (200, 150), (161, 160)])
@pytest.mark.parametrize("crop", [16, 12])
def test_nothing_beyond_the_box_reaches_the_processed_pixels(size, crop):
    side = {"height": crop, "width": crop}
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=side)
    llava = Llava(build_network(), build_tokenizer(), processor, "cpu")
    left, top, right, bottom = llava.seen_box(size)

    def seen(x0, y0, x1, y1):
        """Whether a white block on black is in the processed pixels."""
        values = np.zeros((size[1], size[0], 3), dtype=np.uint8)
        values[y0:y1, x0:x1] = 255
        pixels = llava.preprocess([Image.fromarray(values)])
        blank = llava.preprocess([Image.new("RGB", size)])
        return bool((pixels - blank).abs().max() > 0.5)

    # Bicubic resampling reads up to two and a half pixels of the smaller picture around.
    step = min(size) // 16
    width, height = size
    assert seen(left, 0, left + step, height) and seen(right - step, 0, right, height)
    assert seen(0, top, width, top + step) and seen(0, bottom - step, width, bottom)
    assert not seen(0, 0, max(left - 3 * step, 0), height)
    assert not seen(min(right + 3 * step, width), 0, width, height)
    assert not seen(0, 0, width, max(top - 3 * step, 0))
    assert not seen(0, min(bottom + 3 * step, height), width, height)
    # The box alone, made as large as the crop, looks the same but for its rim.
    values = np.random.default_rng(4).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(values)
    alone = picture.crop((left, top, right, bottom)).resize((crop, crop), Image.Resampling.BICUBIC)
    own = llava.preprocess([picture])[0, 0, 3:-3, 3:-3] * 0.26862954 + 0.48145466
    alone = torch.from_numpy(np.asarray(alone)[3:-3, 3:-3, 0].copy()) / 255
    assert torch.corrcoef(torch.stack([own.flatten(), alone.flatten()]))[0, 1] > 0.9


def test_the_box_of_other_settings():
    square = {"height": 20, "width": 20}
    assert processed_box(BlipImageProcessorPil(size=square), (40, 10)) == (0, 0, 40, 10)
    # 20 x 20, of which the middle 10 x 16 stay.
    crop = {"do_center_crop": True, "crop_size": {"height": 16, "width": 10}}
    assert processed_box(BlipImageProcessorPil(size=square, **crop), (40, 10)) == (10, 1, 30, 9)
    uncropped = CLIPImageProcessorPil(size={"shortest_edge": 20}, do_center_crop=False)
    assert processed_box(uncropped, (40, 10)) == (0, 0, 40, 10)


def test_a_box_that_is_no_part_of_the_picture_is_an_error():
    for settings in (
        {"size": {"shortest_edge": 12}, "crop_size": {"height": 16, "width": 16}},
        {"do_resize": False, "crop_size": {"height": 64, "width": 16}},
        {"size": {"shortest_edge": 16, "longest_edge": 40}},
    ):
        processor = CLIPImageProcessorPil(**settings)
        with pytest.raises(ModelCheckError, match="the image processor"):
            processed_box(processor, (48, 48))


# --------------------------------------------------------------------------------- sites, layers


def test_projector_neurons_make_the_image_tokens(plain, pictures):
    (site,) = plain.sites("projector")
    assert (site.module, site.layer, site.n_units) == ("projector", 0, 16)
    pixels = plain.preprocess(pictures[:2])
    with record([site], ["act", "post"]) as recorded:
        tokens = plain.embed_pixels(pixels)
    assert recorded["post"][0].shape == (2, N_TOKENS, 16)
    assert torch.equal(recorded["post"][0], recorded["act"][0])
    by_rows = recorded["post"][0] @ site.output_rows() + site.output.bias
    torch.testing.assert_close(by_rows, tokens)


@pytest.mark.parametrize(("layer", "inert"), [(-2, {2}), (-1, set()), (-3, {1, 2}), (1, {1, 2})])
def test_vision_layers_that_no_image_token_passes_are_inert(pictures, layer, inert):
    llava = build(vision_feature_layer=layer)
    pixels = llava.preprocess(pictures[:1])
    expected = llava.embed_pixels(pixels)
    without_effect = set()
    for site in llava.sites("vision"):
        with replace([site], "post", lambda _site, tensor: tensor + 1):
            if torch.equal(llava.embed_pixels(pixels), expected):
                without_effect.add(site.layer)
    assert without_effect == inert
    assert llava.inert_layers("vision", "image") == llava.inert_layers("vision", "last") == inert
    assert llava.inert_layers("language", "image") == {1}
    assert llava.inert_layers("language", "last") == llava.inert_layers("projector", "image")


def test_grid_and_picture_layer(plain, pictures):
    assert plain.grid() == plain.patch_grid() == (4, 4)
    assert plain.patch_weights(pictures[:1], SHORT) is None
    module, reshape = plain.picture_layer()
    seen = []
    handle = module.register_forward_hook(lambda _module, _args, output: seen.append(output))
    plain.embed_pictures(pictures[:2])
    handle.remove()
    maps = reshape(seen[0])
    assert maps.shape == (2, 12, 4, 4)
    assert torch.equal(maps[1, :, 2, 3], seen[0][1, 1 + 2 * 4 + 3])
    layers = plain.network.model.vision_tower.encoder.layers
    assert module is layers[1].layer_norm1  # the last layer is not read


def test_a_patch_is_in_its_own_image_token():
    llava = build()
    with torch.no_grad():
        for layer in llava.network.model.vision_tower.encoder.layers:
            layer.self_attn.out_proj.weight.zero_()
    base = torch.zeros(1, 3, 16, 16)
    before = llava.embed_pixels(base)[0]
    for row, column in [(0, 0), (5, 14), (15, 1)]:  # pixels
        changed = base.clone()
        changed[0, :, row, column] = 3
        moved = (llava.embed_pixels(changed)[0] - before).abs().amax(dim=-1).view(4, 4)
        assert (moved > 1e-5).nonzero().tolist() == [[row // 4, column // 4]]


# ------------------------------------------------------------------------------ loading, checks


def test_saved_and_loaded_again_bit_for_bit(llava, pictures, tmp_path):
    llava.save(tmp_path)
    again = Llava.load(tmp_path, "cpu", torch.float32)
    state, expected = again.network.state_dict(), llava.network.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) for name in state)
    projector = llava.network.config.projector
    assert again.network.config.projector == projector
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.model_type, config.projector) == ("llava", projector)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert ("multi_modal_projector.weight" in file.keys()) == (projector == "linear")  # noqa: SIM118
    assert again.segments(LONG) == llava.segments(LONG)
    assert torch.equal(again.preprocess(pictures[:2]), llava.preprocess(pictures[:2]))
    assert torch.equal(again.embed_pictures(pictures[:2]), llava.embed_pictures(pictures[:2]))
    again.check({"language": 40, "vision": 72})
    half = Llava.load(tmp_path, "cpu", torch.bfloat16)
    assert half.dtype == torch.bfloat16
    half.check()
    assert half.generate(half.encode(half.embed_pictures(pictures[:1]), SHORT), 2)


def test_transformers_own_classes_read_what_is_saved(plain, pictures, tmp_path):
    plain.save(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path, backend="pil")
    network = LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    inputs = processor(images=pictures[0], text=f"<s> {LONG}", return_tensors="pt")
    assert inputs.input_ids[0].tolist() == own_ids(LONG)
    tokens = network.generate(**inputs, max_new_tokens=6, do_sample=False)
    encoded = plain.encode(plain.embed_pictures(pictures[:1]), LONG)
    own = tokens[0, inputs.input_ids.shape[1] :].tolist()
    expected = plain.generate(encoded, 6)[0]
    assert own[: len(expected)] == expected


def test_a_checkpoint_of_transformers_has_the_mlp(plain, pictures, tmp_path):
    ours = plain.network.config
    network = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=ours.vision_config,
            text_config=ours.text_config,
            image_token_index=ours.image_token_index,
            image_seq_length=ours.image_seq_length,
        )
    )
    network.load_state_dict(plain.network.state_dict())
    network.save_pretrained(tmp_path)
    plain.tokenizer.save_pretrained(tmp_path)
    plain.image_processor.save_pretrained(tmp_path)
    assert "projector" not in json.loads((tmp_path / "config.json").read_text())
    loaded = Llava.load(tmp_path, "cpu", torch.float32)
    assert loaded.network.config.projector == "mlp"
    encoded = [
        adapter.encode(adapter.embed_pictures(pictures[:2]), LONG) for adapter in (loaded, plain)
    ]
    logits = [loaded.logits(loaded.final_states(encoded[0]))]
    logits += [plain.logits(plain.final_states(encoded[1]))]
    assert torch.equal(*logits)


def test_weights_of_the_other_projector_are_an_error(plain, tmp_path):
    plain.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"projector": "linear"}))
    with pytest.raises(ModelCheckError, match="multi_modal_projector"):
        Llava.load(tmp_path, "cpu", torch.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_feature_select_strategy": "full"}, "select_strategy is full, not default"),
        ({"vision_feature_layer": [-2, -1]}, "vision_feature_layer is list, not int"),
    ],
)
def test_other_ways_to_read_the_vision_tower_are_an_error(changes, message):
    with pytest.raises(ModelCheckError, match=message):
        build(**changes)


def test_a_projector_of_another_kind_is_an_error():
    with pytest.raises(ModelCheckError, match="unknown projector 'resampler'"):
        build(projector="resampler")


def test_check_rejects_a_placeholder_with_another_id():
    llava = build()
    llava.network.config.image_token_index = 5
    with pytest.raises(ModelCheckError, match="<image> is token 4 of the tokenizer"):
        llava.check()


def test_check_rejects_wrong_numbers_of_neurons(plain):
    plain.check({"language": 40, "vision": 72, "projector": 16, "qformer.query": 0})
    with pytest.raises(ModelCheckError, match="projector has 16 neurons, not 0"):
        plain.check({"projector": 0})


# ---------------------------------------------------------------------------------- full size


@pytest.mark.parametrize(("projector", "n_projector"), [("linear", 0), ("mlp", 5120)])
def test_full_size_has_the_neurons_of_llava_13b(projector, n_projector):
    config = LlavaNetworkConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
            num_attention_heads=16, image_size=224, patch_size=14, projection_dim=768,
        ),
        text_config=LlamaConfig(
            vocab_size=32000, hidden_size=5120, intermediate_size=13824, num_hidden_layers=40,
            num_attention_heads=40,
        ),
        image_token_index=IDS["<image>"],
        projector=projector,
    )  # fmt: skip
    with torch.device("meta"):
        network = LlavaNetwork(config)
    llava = Llava(network, build_tokenizer(), CLIPImageProcessorPil(), "meta")
    units = {
        module: sum(site.n_units for site in llava.sites(module))
        for module in ("language", "vision", "projector", "qformer.query", "qformer.text")
    }
    assert units == {
        "language": 40 * 13824,
        "vision": 24 * 4096,
        "projector": n_projector,
        "qformer.query": 0,
        "qformer.text": 0,
    }
    assert llava.inert_layers("vision", "image") == {23}
    assert llava.grid() == (16, 16)
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    name = "model.multi_modal_projector."
    if projector == "linear":
        assert shapes[f"{name}weight"] == (5120, 1024)
        assert shapes[f"{name}bias"] == (5120,)
    else:
        assert shapes[f"{name}linear_1.weight"] == (5120, 1024)
        assert shapes[f"{name}linear_2.weight"] == (5120, 5120)
