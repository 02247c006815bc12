"""LiMBeR against a second forward pass, its layout, and the start of the world's one."""

import copy
from pathlib import Path

import limber_by_hand
import numpy as np
import pytest
import torch
import yaml
from conftest import IDS
from limber_by_hand import LONG, SHORT, ByHand, build, build_network
from PIL import Image
from transformers import BeitConfig, CLIPModel, GPTJConfig

from mmneurons.models.base import ModelCheckError
from mmneurons.models.captions import fill_prompt
from mmneurons.models.limber import Limber
from mmneurons.models.limber_modeling import LimberConfig, LimberForConditionalGeneration
from mmneurons.models.registry import load_model, read_registry
from mmneurons.probe.attribution import AttributionSettings, Described, record_attribution
from mmneurons.probe.hooks import record
from mmneurons.probe.lens import read_stream
from mmneurons.probe.soft_prompts import PromptSettings, decode_prompts
from mmneurons.world import grammar, train_limber
from mmneurons.world.training import CLASSES, WorldPictures, draw_pictures

RESOURCES = Path(__file__).parents[1] / "resources"
PROMPTS = yaml.safe_load((RESOURCES / "prompts.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def limber():
    return build()


def ids(text):
    return [IDS[word] for word in text.split()]


# --------------------------------------------------------------------------- the forward pass


def test_image_tokens_and_logits_are_those_of_the_second_forward_pass(limber, pictures):
    hand = ByHand(limber.network)
    said = ids("red car on a beach")
    tokens = limber.embed_pictures(pictures[:2])
    encoded = limber.encode(tokens, [SHORT, LONG], [said, said[:2]])
    logits = limber.logits(limber.final_states(encoded))
    for row, (prompt, own) in enumerate([(SHORT, said), (LONG, said[:2])]):
        image = hand.tokens(limber.preprocess(pictures[row : row + 1])[0])
        torch.testing.assert_close(tokens[row].double(), image, atol=1e-4, rtol=1e-4)
        expected = hand.logits(hand.embeddings([], image, ids(prompt) + own))
        assert expected.std() > 0.5
        got = logits[row, encoded.mask[row].bool()].double()
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_activations_are_those_of_the_second_forward_pass(limber, pictures):
    hand, kept = ByHand(limber.network), {"pre": [], "act": []}

    def keep(kind, _layer, values):
        kept[kind].append(values)
        return values

    image = hand.tokens(limber.preprocess(pictures[:1])[0])
    hand.logits(hand.embeddings([], image, ids(SHORT)), keep)
    with record(limber.sites("language"), ["pre", "act"]) as passed:
        limber.final_states(limber.encode(limber.embed_pictures(pictures[:1]), SHORT))
    for kind, layers in kept.items():
        for got, expected in zip(passed[kind], layers, strict=True):
            torch.testing.assert_close(got[0].double(), expected, atol=1e-4, rtol=1e-4)


def test_attention_and_ffn_read_the_same_norm(pictures):
    """What a layer's attention writes reaches its own FFN never, and the next layer's always."""
    limber = build()

    def pre():
        with record(limber.sites("language"), ["pre"]) as passed, torch.no_grad():
            limber.final_states(limber.encode(limber.embed_pictures(pictures[:1]), SHORT))
        return passed["pre"]

    before = pre()
    with torch.no_grad():
        limber.blocks()[1].attn.out_proj.weight.mul_(-1)
    after = pre()
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])
    assert (before[2] - after[2]).abs().max() > 0.1


def test_the_unembedding_has_a_bias(limber, pictures):
    changed = copy.deepcopy(limber.network)
    with torch.no_grad():
        changed.language.lm_head.bias[5] += 3
    states = limber.final_states(limber.encode(limber.embed_pictures(pictures[:1]), SHORT))
    moved = Limber(changed, limber.tokenizer, limber.image_processor, "cpu").logits(states)
    difference = moved - limber.logits(states)
    assert torch.allclose(difference[..., 5], torch.tensor(3.0), atol=1e-5)
    assert difference.abs().sum(dim=-1).allclose(torch.tensor(3.0), atol=1e-4)


def test_there_is_no_norm_after_beit_and_no_class_token(limber, pictures):
    assert not limber.network.vision.pooler
    pixels = limber.preprocess(pictures[:1])
    states = limber.network.vision(pixels, output_hidden_states=True).hidden_states
    assert torch.equal(limber.network.patches(pixels), states[-1][:, 1:])
    assert not torch.equal(limber.network.patches(pixels), states[-2][:, 1:])


@pytest.mark.parametrize("place", [0, 5, 15])
def test_patches_are_in_raster_order(place):
    network = build_network().eval()
    with torch.no_grad():
        for layer in network.vision.layers:  # a patch then stays in its own token
            for module in (layer.attention.o_proj, layer.mlp.fc2):
                module.weight.zero_()
                module.bias.zero_()
    pixels = torch.zeros(1, 3, 16, 16)
    before = network.embed_pictures(pixels)
    row, column = divmod(place, 4)
    pixels[0, :, 4 * row + 1, 4 * column + 2] = 2
    moved = (network.embed_pictures(pixels) - before).abs().amax(dim=-1)[0]
    assert moved.nonzero().flatten().tolist() == [place]


# -------------------------------------------------------------------------------------- dropout


def test_nothing_is_dropped_not_even_of_the_first_picture(pictures):
    """A tenth of the embeddings is, in the released code's first pass (its module is training)."""
    network = build_network().train()
    pixels = build().preprocess(pictures[:1])
    assert not torch.equal(network.embed_pictures(pixels), network.embed_pictures(pixels))
    limber = Limber(
        network, limber_by_hand.build_tokenizer(), limber_by_hand.image_processor(), "cpu"
    )
    first = limber.embed_pictures(pictures[:1])
    assert torch.equal(first, limber.embed_pictures(pictures[:1]))
    expected = ByHand(network).tokens(pixels[0])
    torch.testing.assert_close(first[0].double(), expected, atol=1e-4, rtol=1e-4)
    encoded = limber.encode(first, SHORT)
    assert torch.equal(limber.final_states(encoded), limber.final_states(encoded))


# ---------------------------------------------------------------------------- prompts and places


def world_tokenizer():
    text = grammar.world_text(np.random.default_rng(1), 4000)
    return train_limber.byte_tokenizer(text, 1000)


def test_196_image_tokens_then_a_picture_of_and_no_bos(pictures):
    """199 positions, as in the paper."""
    tokenizer, processor = world_tokenizer(), limber_by_hand.image_processor(224)
    config = build_network(image_size=224, patch_size=16).config
    config.text_config.vocab_size = len(tokenizer)
    config.text_config.n_positions = 256
    limber = Limber(LimberForConditionalGeneration(config), tokenizer, processor, "cpu")
    assert limber.grid() == (14, 14)
    prompt = fill_prompt(PROMPTS["limber.picture"])
    assert prompt == "A picture of"
    encoded = limber.encode(limber.embed_pictures(pictures[:1]), prompt)
    assert encoded.embeds.shape == (1, 199, 32)
    assert encoded.image.tolist() == [list(range(196))]
    words = tokenizer.convert_tokens_to_ids(["A", "Ġpicture", "Ġof"])
    assert tokenizer.unk_token_id not in words
    assert torch.equal(encoded.embeds[0, 196:], limber.decoder.transformer.wte.weight[words])
    asked = fill_prompt(PROMPTS["limber.few-words"])
    assert asked == "Describe the image in few words. An image of"


def test_tokens_are_spelled_as_those_of_the_other_models(limber):
    tokenizer = world_tokenizer()
    other = Limber(build_network(), tokenizer, limber_by_hand.image_processor(), "cpu")
    tokens = tokenizer(" a red car").input_ids
    assert tokenizer.convert_ids_to_tokens(tokens) == ["Ġa", "Ġred", "Ġcar"]
    assert other.token_texts(tokens) == ["\u2581a", "\u2581red", "\u2581car"]
    bytes_of = tokenizer("é").input_ids
    assert len(bytes_of) == 2 and other.token_texts(bytes_of) == ["\ufffd"] * 2
    assert tokenizer.decode(tokens) == " a red car"
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|image|>"]) == [0, 1]


def test_prompts_are_spelled_likewise():
    tokenizer = world_tokenizer()
    config = build_network().config
    config.text_config.vocab_size = len(tokenizer)
    network = LimberForConditionalGeneration(config)
    model = Limber(network, tokenizer, limber_by_hand.image_processor(), "cpu")
    tokens = tokenizer(" a red car é").input_ids
    spelled = tokenizer.convert_ids_to_tokens(tokens)
    said = model.token_texts(tokens)
    assert said[:3] == ["\u2581a", "\u2581red", "\u2581car"] and not set(said) & set(spelled)
    image = network.language.transformer.wte.weight.detach()[tokens]
    rows = decode_prompts(model, [("p", image)], PromptSettings(1, len(tokens)), seed=0)
    assert [row["tokens"] for row in rows if row["kind"] == "image"] == [[text] for text in said]


def test_pictures_are_squashed_and_centred_on_zero(limber):
    halves = Image.fromarray(np.repeat(np.uint8([[0, 255]]), [20, 20], axis=1)).convert("RGB")
    pixels = limber.preprocess([halves.resize((40, 10))])
    assert pixels.shape == (1, 3, 16, 16)
    assert torch.equal(pixels[..., :6], torch.full((1, 3, 16, 6), -1.0))
    assert torch.equal(pixels[..., -6:], torch.full((1, 3, 16, 6), 1.0))
    assert limber.seen_box((40, 10)) == (0, 0, 40, 10)


# --------------------------------------------------------------------------------------- neurons


def test_only_the_last_layers_ffn_is_inert_at_image_tokens(limber, pictures):
    """Attention of a layer reads what the layers before it wrote, its own FFN's output never."""
    encoded = limber.encode(limber.embed_pictures(pictures[:1]), SHORT)
    encoded.embeds.requires_grad_(True)
    with record(limber.sites("language"), ["act"]) as passed:
        logits = limber.logits(limber.final_states(encoded))
    gradients = torch.autograd.grad(logits[0, -1, 7], passed["act"])
    at_image = [float(g[0, encoded.image[0]].abs().max()) for g in gradients]
    assert at_image[2] == 0 and min(at_image[:2]) > 1e-6
    assert limber.inert_layers("language", "image") == {2}
    assert limber.inert_layers("language", "last") == frozenset()
    assert float(gradients[2][0, -1].abs().max()) > 1e-6


def test_neurons_are_read_by_one_projection_and_written_by_the_other(limber):
    for site, block in zip(limber.sites("language"), limber.blocks(), strict=True):
        assert site.inputs == (block.mlp.fc_in,) and site.output is block.mlp.fc_out
        assert site.n_units == 40
    assert [site.n_units for site in limber.sites("vision")] == [24, 24]
    assert limber.sites("projector") == []


def test_attribution_is_that_of_the_plain_network(limber, pictures):
    """Of an FFN without a gate: autograd on transformers' GPT-J, `pre` is what fc_in gives."""
    prompt = {"template": "{instruction} {prefix}", "instruction": "", "prefix": SHORT}
    text = fill_prompt(prompt)

    def nouns(_caption, token_ids, _ends):
        return [{"group": "noun", "position": 1, "token": token_ids[1]}], []

    described = [
        Described(f"p{n}", "f.jpg", picture, ["a"], "") for n, picture in enumerate(pictures[:2])
    ]
    settings = AttributionSettings(4, 20, 30, 5, PromptSettings(1, 1), seed=0)
    found = record_attribution(limber, prompt, [described], nouns, settings)
    tables, maps = found.tables(), found.tensors()["maps"]
    language = limber.network.language
    for said, picture in zip(tables["captions"].itertuples(), pictures, strict=False):
        pixels = limber.image_processor(images=[picture], return_tensors="pt").pixel_values
        words = [*ids(text), *said.token_ids[: said.position]]
        embeds = [
            limber.network.proj(limber.network.vision(pixels).last_hidden_state[0, 1:]),
            language.transformer.wte.weight[words],
        ]
        seen, start = [], torch.cat(embeds).detach()[None].requires_grad_(True)

        def keep(_module, _inputs, output, seen=seen):
            seen.append(output)

        hooks = [h.mlp.fc_in.register_forward_hook(keep) for h in language.transformer.h]
        logits = language(inputs_embeds=start).logits[0, -1]
        for hook in hooks:
            hook.remove()
        gradients = torch.autograd.grad(logits[said.token], seen)
        scores = torch.stack([(z * g)[0, :16] for z, g in zip(seen, gradients, strict=True)])
        scores = scores.detach().numpy()  # layers x patches x units
        assert said.probability == pytest.approx(logits.softmax(dim=0)[said.token].item(), rel=1e-3)
        pairs, units = (
            tables[name][tables[name]["sample_id"] == said.picture_id]
            for name in ("pairs", "ranking")
        )
        own = scores[pairs["layer"], pairs["patch"], pairs["unit"]]
        assert pairs["score"].to_numpy() == pytest.approx(own, rel=1e-3, abs=1e-5)
        assert own == pytest.approx(np.sort(scores.ravel())[::-1][:20], rel=1e-3)
        best = np.sort(scores.max(axis=1).ravel())[::-1][:30]
        assert units["score"].to_numpy() == pytest.approx(best, rel=1e-3, abs=1e-5)
        assert best[0] > 1e-3
        of_picture = tables["maps"][tables["maps"]["picture_id"] == said.picture_id]
        for row in of_picture.itertuples():
            act = torch.nn.functional.gelu(seen[row.layer], approximate="tanh")
            values = act[0, :16, row.unit].detach().numpy()
            assert maps[row.row] == pytest.approx(values, rel=2e-3, abs=1e-3)
    assert len(tables["captions"]) == 2


def test_the_released_models_numbers_of_neurons():
    """28 x 16,384 of GPT-J, 24 x 4,096 of BEiT-large; nothing is allocated."""
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = LimberConfig(
        vision_config=BeitConfig(**large, intermediate_size=4096, use_mask_token=True),
        text_config=GPTJConfig(vocab_size=50258),
    )
    with torch.device("meta"):
        network = LimberForConditionalGeneration(config)
    units = [h.mlp.fc_out.in_features for h in network.language.transformer.h]
    assert units == [16384] * 28
    assert [layer.mlp.fc2.in_features for layer in network.vision.layers] == [4096] * 24
    assert network.proj.weight.shape == (4096, 1024)
    assert network.language.lm_head.bias.shape == (50258,)


def test_the_lens_ends_with_the_models_own_words(limber, pictures):
    encoded = limber.encode(limber.embed_pictures(pictures[:2]), SHORT)
    reading = read_stream(limber, encoded, [(1, -1)], 3)
    assert len(reading.entropy) == 4  # the embeddings, and after each layer
    chances = limber.logits(limber.final_states(encoded))[1, -1].softmax(dim=-1)
    best = chances.topk(3)
    torch.testing.assert_close(reading.probabilities[-1, 0], best.values)
    assert torch.equal(reading.tokens[-1, 0], best.indices)


# ------------------------------------------------------------------------------------- bad input


def test_other_architectures_are_refused():
    network = build_network()
    parts = limber_by_hand.build_tokenizer(), limber_by_hand.image_processor(), "cpu"
    network.config.vision_config.use_mean_pooling = False
    with pytest.raises(ModelCheckError, match="use_mean_pooling is False, not True"):
        Limber(network, *parts)


def test_a_directory_without_the_projection_is_refused(limber, tmp_path):
    from safetensors.torch import load_file, save_file

    limber.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["proj.bias"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelCheckError, match=r"no weights in .* for proj\.bias"):
        Limber.load(tmp_path, "cpu", torch.float32)


# -------------------------------------------------------------------------- the world's own model


def test_places_in_a_row_follow_the_caption():
    car, cat, carrot = (
        next(i for i, c in enumerate(CLASSES) if c and c.name == name)
        for name in ("car", "cat", "carrot")
    )
    captions = [
        "The image shows a red carrot, a gray cat and a red car on the grass.",
        "The image shows a red car on the grass.",
    ]
    shown = np.array([[0, car, carrot, cat, car], [car, 0, 0, 0, 0]])
    pictures = WorldPictures(None, shown, None, None, captions)
    assert train_limber.in_a_row(pictures).tolist() == [[-1, 2, 0, 1, 2], [0, -1, -1, -1, -1]]


class OneDeviation(torch.nn.Module):
    """A layer norm that divides all tokens by the same number."""

    def __init__(self, norm, deviation):
        super().__init__()
        self.norm, self.deviation = norm, deviation

    def forward(self, x):
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred / self.deviation * self.norm.weight + self.norm.bias


def test_the_tower_starts_as_clips_but_for_one_norm():
    tower = CLIPModel.from_pretrained(RESOURCES / "models" / "clip-world").vision_model.eval()
    tokenizer = world_tokenizer()
    text = {"n_embd": 16, "n_inner": 16, "n_layer": 1, "n_head": 2, "rotary_dim": 4}
    model = train_limber.build(text, tower, tokenizer)
    pixels = draw_pictures(8, 3, 64, 8, 1).pixels
    train_limber.start_from(model, tower, pixels)
    squashed = [Image.fromarray(picture) for picture in pixels]
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    ))  # fmt: skip
    for_clip = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / deviation
    with torch.no_grad():
        patches = tower.embeddings(for_clip)[:, 1:]
        spread = patches.std(dim=-1, correction=0).mean()
        tower.pre_layrnorm = OneDeviation(tower.pre_layrnorm, spread)
        expected = tower(for_clip).last_hidden_state[:, 1:]
        got = model.network.patches(model.preprocess(squashed))
    assert expected.std() > 0.5
    torch.testing.assert_close(got, expected, atol=2e-3, rtol=2e-3)


def test_the_shipped_model_is_what_the_registry_says(monkeypatch):
    monkeypatch.chdir(RESOURCES.parent)
    model = load_model(read_registry("resources/models.yaml")["limber-world"], "cpu", "float32")
    assert model.grid() == (8, 8) and model.unembedding().shape == (1000, 96)
    assert sum(site.n_units for site in model.sites("language")) >= 2048
    picture = Image.new("RGB", (150, 120), (40, 120, 60))
    for name in ("limber.picture", "limber.few-words"):
        prompt = fill_prompt(PROMPTS[name])
        encoded = model.encode(model.embed_pictures([picture]), prompt)
        assert model.decode(model.generate(encoded, 4)[0]).startswith(" a")
