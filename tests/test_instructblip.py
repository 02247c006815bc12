"""InstructBLIP against transformers' own image features, attention and generation."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoProcessor,
    BlipImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from mmneurons.models.base import ModelCheckError
from mmneurons.models.instructblip import InstructBlip
from mmneurons.probe.hooks import record, replace

WORDS = "<unk> <s> </s> <pad> Describe the image in few words. An of red car cat sea a <image>"
IDS = {word: place for place, word in enumerate(WORDS.split())}
PIECES = "[PAD] [UNK] [CLS] [SEP] describe the image in few word ##s . an of red car cat sea a"
PIECE_IDS = {piece: place for place, piece in enumerate(PIECES.split())}
SHORT = "An image of"
LONG = "Describe the image in few words. An image of"
N_QUERIES = 4


def build_tokenizer():
    words = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def build_qformer_tokenizer():
    """BERT's WordPiece: lower case, punctuation apart, [CLS] and [SEP] around."""
    pieces = Tokenizer(models.WordPiece(PIECE_IDS, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "attention_mask"],
        padding_side="left",  # the adapter does not depend on it
    )


def config_of(**changes):
    text = dict(
        model_type="llama", vocab_size=len(IDS), hidden_size=16, intermediate_size=20,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )  # fmt: skip
    vision = dict(
        hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        image_size=16, patch_size=4, initializer_range=0.02,
    )  # fmt: skip
    qformer = dict(
        vocab_size=len(PIECE_IDS), hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=28, max_position_embeddings=24,
    )  # fmt: skip
    parts = {"text_config": text, "vision_config": vision, "qformer_config": qformer}
    numbers = {"num_query_tokens": N_QUERIES, "image_token_index": IDS["<image>"]}
    return InstructBlipConfig(**(parts | numbers | changes))


def build(seed=0, config=None):
    """4 x 4 patches, 4 queries; weights at which all parts show in the output."""
    torch.manual_seed(seed)
    network = InstructBlipForConditionalGeneration(config or config_of())
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.normal_(std=1.5 / weight[0].numel() ** 0.5)
            else:
                weight.add_(0.2 * torch.randn(weight.shape))
        network.query_tokens.normal_()
    processor = BlipImageProcessorPil(size={"height": 16, "width": 16})
    return InstructBlip(network, build_tokenizer(), build_qformer_tokenizer(), processor, "cpu")


@pytest.fixture(scope="module")
def blip():
    torch.set_num_threads(1)
    return build()


def qformer_ids(prompt):
    text = prompt.lower().replace("words.", "word ##s .")
    return [PIECE_IDS[piece] for piece in f"[CLS] {text} [SEP]".split()]


def own_ids(prompt):
    """Placeholders first, then BOS."""
    return [IDS["<image>"]] * N_QUERIES + [IDS[word] for word in f"<s> {prompt}".split()]


def own_inputs(prompts):
    """A batch as transformers' own forward takes it: text padded left, instructions right."""
    text = [own_ids(prompt) for prompt in prompts]
    longest = max(map(len, text))
    asked = [qformer_ids(prompt) for prompt in prompts]
    widest = max(map(len, asked))
    return {
        "input_ids": torch.tensor([[3] * (longest - len(row)) + row for row in text]),
        "attention_mask": torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in text]),
        "qformer_input_ids": torch.tensor([row + [0] * (widest - len(row)) for row in asked]),
        "qformer_attention_mask": torch.tensor(
            [[1] * len(row) + [0] * (widest - len(row)) for row in asked]
        ),
    }


def own_generation(network, pixels, prompts, n):
    """Greedy tokens of transformers' own class; it repeats placeholders and prompt before them."""
    inputs = own_inputs(prompts)
    tokens = network.generate(
        pixel_values=pixels,
        max_new_tokens=n,
        do_sample=False,
        pad_token_id=3,
        eos_token_id=2,
        **inputs,
    )[:, inputs["input_ids"].shape[1] :].tolist()
    return [row[: row.index(2)] if 2 in row else row for row in tokens]


# --------------------------------------------------------------------------- the forward pass


def test_image_tokens_are_transformers_image_features(blip, pictures):
    pixels = blip.preprocess(pictures[:3])
    asked = torch.tensor([qformer_ids(LONG)] * 3)
    own = blip.network.get_image_features(pixels, qformer_input_ids=asked).pooler_output
    tokens = blip.embed_pixels(pixels, LONG)
    assert tokens.shape == (3, N_QUERIES, 16)
    torch.testing.assert_close(tokens, own)
    assert torch.equal(blip.embed_pictures(pictures[:3], LONG), tokens)
    assert (tokens[0] - tokens[1]).abs().max() > 1e-2


def test_each_picture_is_read_with_its_own_prompt(blip, pictures):
    pixels = blip.preprocess(pictures[:3])
    prompts = [SHORT, LONG, SHORT]
    together = blip.embed_pixels(pixels, prompts)
    for row, prompt in enumerate(prompts):
        asked = torch.tensor([qformer_ids(prompt)])
        own = blip.network.get_image_features(
            pixels[row : row + 1], qformer_input_ids=asked
        ).pooler_output
        torch.testing.assert_close(together[row : row + 1], own, atol=1e-5, rtol=1e-5)
    assert (together - blip.embed_pixels(pixels, LONG))[0].abs().max() > 1e-2
    with pytest.raises(ValueError, match="differ in number"):
        blip.embed_pixels(pixels, [SHORT])


def test_logits_are_those_of_transformers_forward(blip, pictures):
    pixels = blip.preprocess(pictures[:1])
    encoded = blip.encode(blip.embed_pixels(pixels, LONG), LONG, [[IDS["red"], IDS["car"]]])
    inputs = own_inputs([LONG])
    ids = torch.cat([inputs.pop("input_ids"), torch.tensor([[IDS["red"], IDS["car"]]])], dim=1)
    inputs["attention_mask"] = torch.ones_like(ids)
    own = blip.network(pixel_values=pixels, input_ids=ids, **inputs).logits
    torch.testing.assert_close(blip.logits(blip.final_states(encoded)), own)
    assert encoded.image.tolist() == [[0, 1, 2, 3]]
    assert encoded.grid is None


def test_generation_is_that_of_transformers(blip, pictures):
    prompts = [SHORT, LONG, LONG, SHORT]
    pixels = blip.preprocess(pictures[:4])
    own = own_generation(blip.network, pixels, prompts, 8)
    assert blip.generate(blip.encode(blip.embed_pixels(pixels, prompts), prompts), 8) == own
    for row, prompt in enumerate(prompts):
        pixel = pixels[row : row + 1]
        alone = blip.generate(blip.encode(blip.embed_pixels(pixel, prompt), prompt), 8)
        assert alone == own_generation(blip.network, pixel, [prompt], 8) == own[row : row + 1]
    assert len({tuple(row) for row in own}) > 1


def test_embedding_is_differentiable(blip, pictures):
    pixels = blip.preprocess(pictures[:1]).requires_grad_()
    blip.embed_pixels(pixels, SHORT).square().sum().backward()
    assert pixels.grad.abs().sum() > 0


# -------------------------------------------------------------------------------------- prompts


def test_prompt_laid_out_by_hand(blip):
    assert blip.segments(LONG) == ([], [IDS[word] for word in f"<s> {LONG}".split()])
    with pytest.raises(ValueError, match="has no <image>"):
        blip.segments("<image> Describe")


def test_a_prompt_longer_than_the_qformer_reads_is_an_error(blip, pictures):
    blip.embed_pictures(pictures[:1], "red " * 22)
    with pytest.raises(ValueError, match="25 tokens, the Q-Former reads 24"):
        blip.embed_pictures(pictures[:1], "red " * 23)


def test_preprocessing_squashes_without_crop(blip):
    values = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = blip.preprocess([Image.fromarray(values)])
    assert (pixels.shape, pixels.dtype) == ((1, 3, 16, 16), torch.float32)
    expected = (values / 255 - mean) / std
    np.testing.assert_allclose(pixels[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    # A wide picture keeps its left and right ends.
    values = np.full((20, 80, 3), 255, dtype=np.uint8)
    values[:, :20] = values[:, 60:] = 0
    red = blip.preprocess([Image.fromarray(values)])[0, 0] * 0.26862954 + 0.48145466
    torch.testing.assert_close(red[:, [0, 1, 2, 13, 14, 15]], torch.zeros(16, 6), atol=0.05, rtol=0)
    torch.testing.assert_close(red[:, 6:10], torch.ones(16, 4), atol=0.05, rtol=0)


# ------------------------------------------------------------------- where the queries look


def attention_by_hand(blip, pixels, prompt):
    """softmax(q k / sqrt(d)) of every cross-attention layer, from its own inputs."""
    layers = [blip.network.qformer.encoder.layer[i] for i in (0, 2)]
    seen = {}
    handles = [
        layer.crossattention.attention.register_forward_pre_hook(
            lambda _module, _args, kwargs, i=i: seen.update({i: kwargs}), with_kwargs=True
        )
        for i, layer in enumerate(layers)
    ]
    blip.embed_pixels(pixels, prompt)
    for handle in handles:
        handle.remove()
    probabilities = []
    for i, layer in enumerate(layers):
        attention = layer.crossattention.attention
        queries = attention.query(seen[i]["hidden_states"]).double()
        keys = attention.key(seen[i]["encoder_hidden_states"]).double()
        for head in (slice(0, 8), slice(8, 16)):
            scores = queries[..., head] @ keys[..., head].transpose(1, 2) / 8**0.5
            probabilities.append(scores.softmax(dim=-1))
    return torch.stack(probabilities).mean(dim=0)


def test_patch_weights_are_the_mean_cross_attention(blip, pictures):
    prompts = [SHORT, LONG]
    weights = blip.patch_weights(pictures[:2], prompts)
    assert weights.shape == (2, N_QUERIES, 16)
    by_hand = attention_by_hand(blip, blip.preprocess(pictures[:2]), prompts)
    assert by_hand.shape == (2, N_QUERIES, 17)
    patches = by_hand[..., 1:]
    expected = patches / patches.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(weights.double(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, N_QUERIES))
    assert weights.std() > 1e-3
    assert blip.patch_grid() == (4, 4)
    assert blip.grid() is None


def test_a_query_that_reads_the_class_token_alone_reads_no_patch(pictures):
    changed = build()

    def opposite(_module, _args, output):
        output.last_hidden_state[:, 0], output.last_hidden_state[:, 1:] = 100, -100

    changed.network.vision_model.register_forward_hook(opposite)
    with torch.no_grad():
        for layer in (0, 2):
            attention = changed.network.qformer.encoder.layer[layer].crossattention.attention
            for weight in (attention.query.weight, attention.key.bias):
                weight.zero_()
            for weight in (attention.query.bias, attention.key.weight):
                weight.fill_(1)
    assert torch.equal(changed.patch_weights(pictures[:1], SHORT), torch.zeros(1, N_QUERIES, 16))


def test_patch_weights_leave_the_network_as_it_was(blip, pictures):
    qformer = blip.network.qformer
    assert qformer.config._attn_implementation == "sdpa"
    before = blip.embed_pictures(pictures[:1], LONG)
    blip.patch_weights(pictures[:1], LONG)
    assert qformer.config._attn_implementation == "sdpa"
    assert blip.network.vision_model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks for module in qformer.modules())
    assert torch.equal(blip.embed_pictures(pictures[:1], LONG), before)
    with pytest.raises(ValueError, match="differ in number"):
        blip.patch_weights(pictures[:1], [LONG, LONG])
    assert qformer.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks for module in qformer.modules())


# --------------------------------------------------------------------------------- sites, layers


def test_sites_read_the_branches_they_are_named_after(blip, pictures):
    asked = len(qformer_ids(LONG))
    sites = {name: blip.sites(f"qformer.{name}") for name in ("query", "text")}
    both = [*sites["query"], *sites["text"]]
    with record(both, ["act", "post"]) as recorded:
        blip.embed_pictures(pictures[:2], LONG)
    shapes = [tuple(tensor.shape) for tensor in recorded["post"]]
    assert shapes == [(2, N_QUERIES, 28)] * 3 + [(2, asked, 28)] * 3
    for act, post in zip(recorded["act"], recorded["post"], strict=True):
        assert torch.equal(act, post)
    assert [site.layer for site in both] == [0, 1, 2, 0, 1, 2]
    assert blip.sites("projector") == []


def test_layers_without_effect_are_the_inert_ones(blip, pictures):
    pixels = blip.preprocess(pictures[:1])
    expected = blip.embed_pixels(pixels, LONG)
    for module in ("vision", "qformer.query", "qformer.text"):
        without_effect = set()
        for site in blip.sites(module):
            with replace([site], "post", lambda _site, tensor: tensor + 1):
                if torch.equal(blip.embed_pixels(pixels, LONG), expected):
                    without_effect.add(site.layer)
        assert blip.inert_layers(module, "image") == without_effect
        assert without_effect == ({2} if module == "qformer.text" else set())
    assert blip.inert_layers("language", "image") == {1}
    assert blip.inert_layers("language", "last") == frozenset()


def test_picture_layer(blip, pictures):
    module, reshape = blip.picture_layer()
    seen = []
    handle = module.register_forward_hook(lambda _module, _args, output: seen.append(output))
    blip.embed_pictures(pictures[:2], SHORT)
    handle.remove()
    maps = reshape(seen[0])
    assert maps.shape == (2, 12, 4, 4)
    assert torch.equal(maps[1, :, 2, 3], seen[0][1, 1 + 2 * 4 + 3])


# ------------------------------------------------------------------------------ loading, checks


def test_saved_and_loaded_again_bit_for_bit(blip, pictures, tmp_path):
    blip.save(tmp_path)
    assert (tmp_path / "qformer_tokenizer" / "tokenizer.json").is_file()
    again = InstructBlip.load(tmp_path, "cpu", torch.float32)
    state, expected = again.network.state_dict(), blip.network.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert again.segments(LONG) == blip.segments(LONG)
    tokens = blip.embed_pictures(pictures[:2], [SHORT, LONG])
    assert torch.equal(again.embed_pictures(pictures[:2], [SHORT, LONG]), tokens)
    again.check({"language": 40, "vision": 48, "qformer.query": 84, "qformer.text": 84})
    half = InstructBlip.load(tmp_path, "cpu", torch.bfloat16)
    assert half.dtype == torch.bfloat16
    half.check()
    assert half.generate(half.encode(half.embed_pictures(pictures[:1], SHORT), SHORT), 2)
    assert half.patch_weights(pictures[:1], SHORT).dtype == torch.float32


def test_transformers_own_processor_reads_what_is_saved(blip, pictures, tmp_path):
    blip.save(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path, backend="pil")
    inputs = processor(images=pictures[0], text=f"<s> {LONG}", return_tensors="pt")
    assert inputs.input_ids[0].tolist() == own_ids(LONG)
    inputs = processor(images=pictures[0], text=LONG, return_tensors="pt")
    assert inputs.qformer_input_ids[0].tolist() == qformer_ids(LONG)
    assert torch.equal(inputs.pixel_values, blip.preprocess(pictures[:1]))


def test_a_decoder_that_is_not_said_to_be_llama_is_an_error(blip, tmp_path):
    blip.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["text_config"]["model_type"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelCheckError, match="opt, not llama.*model_type"):
        InstructBlip.load(tmp_path, "cpu", torch.float32)


def test_missing_weights_are_an_error(blip, tmp_path):
    blip.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["qformer_config"]["num_hidden_layers"] = 4
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelCheckError, match=r"no weights in .* qformer.encoder.layer.3"):
        InstructBlip.load(tmp_path, "cpu", torch.float32)


@pytest.mark.parametrize("token", [None, 5])
def test_check_rejects_a_placeholder_with_another_id(token):
    changed = build(config=config_of(image_token_index=token))
    with pytest.raises(ModelCheckError, match=f"image_token_index is {token}"):
        changed.check()


def test_check_rejects_another_number_of_queries():
    changed = build()
    changed.network.config.num_query_tokens = 8
    with pytest.raises(ModelCheckError, match="4 image tokens, not 8"):
        changed.check()


def test_check_rejects_queries_and_pictures_that_make_no_difference():
    changed = build()
    with torch.no_grad():
        changed.network.query_tokens.zero_()
    with pytest.raises(ModelCheckError, match="query tokens are all the same"):
        changed.check()
    blind = build()
    with torch.no_grad():
        blind.network.vision_model.embeddings.patch_embedding.weight.zero_()
    with pytest.raises(ModelCheckError, match="picture changes no image token"):
        blind.check()


# ---------------------------------------------------------------------------------- full size


def test_full_size_has_the_neurons_of_instructblip_7b():
    text = dict(
        model_type="llama", vocab_size=32001, hidden_size=4096, intermediate_size=11008,
        num_hidden_layers=32, num_attention_heads=32,
    )  # fmt: skip
    config = InstructBlipConfig(text_config=text, image_token_index=32000)
    with torch.device("meta"):
        network = InstructBlipForConditionalGeneration(config)
    blip = InstructBlip(network, None, None, None, "meta")
    units = {
        module: sum(site.n_units for site in blip.sites(module))
        for module in ("language", "vision", "projector", "qformer.query", "qformer.text")
    }
    assert units == {
        "language": 32 * 11008,
        "vision": 39 * 6144,
        "projector": 0,
        "qformer.query": 12 * 3072,
        "qformer.text": 12 * 3072,
    }
    assert sum(units.values()) == 665_600
    assert blip.inert_layers("qformer.text", "image") == {11}
    assert blip.patch_grid() == (16, 16)
    assert network.query_tokens.shape == (1, 32, 768)
