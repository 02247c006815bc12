"""The tiny LLaVA-NeXT: its lessons are right, and its trainings run from drawing to a directory."""

import json
from dataclasses import replace
from pathlib import Path

import llava_next_world
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from mmneurons.models.captions import fill_prompt
from mmneurons.models.llava_next import LlavaNext
from mmneurons.models.questions import question_prompt
from mmneurons.models.registry import load_model, read_registry
from mmneurons.world import chunks, grammar, lessons, pmc_vqa, rsvqa, train_llava_next
from mmneurons.world.doc_vqa import draw_doc_vqa
from mmneurons.world.lessons import ATTRIBUTES, DRAWN, Exchange
from mmneurons.world.lingo_qa import draw_lingo_qa
from mmneurons.world.scene import Scene, SceneObject, draw_scene
from mmneurons.world.tokenizer import train_tokenizer
from mmneurons.world.train_instructblip import evaluate_questions
from mmneurons.world.train_llava_next import (
    CAPTION,
    DOMAINS,
    Cutter,
    TileReader,
    Wording,
    build,
    cut,
    draw_album,
    grow,
    packed_loss,
    tower_states,
    train,
    train_larger,
    train_replies,
    train_tower,
)
from mmneurons.world.training import CLASSES, COLOUR_NAMES, evaluate, normalised
from mmneurons.world.vocabulary import BACKGROUNDS, CATEGORIES
from mmneurons.world.vqav2 import draw_vqav2

REPOSITORY = Path(__file__).parents[1]
WORLD = yaml.safe_load((REPOSITORY / "resources/world.yaml").read_text())
PROMPTS = yaml.safe_load((REPOSITORY / "resources/prompts.yaml").read_text())
SMALL, LARGE = WORLD["llava-next-world"], WORLD["llava-next-large-world"]
ROLE = PROMPTS["mmneuron.roles"]["lingo_qa"]
CUTTER = Cutter(SMALL["vision"]["image_size"], SMALL["vision"]["patch_size"], SMALL["pinpoints"])
FEW = {"steps": 2, "batch_size": 12, "lr": 1.0e-3}
CAR, BANANA = (next(c for c in CATEGORIES if c.name == name) for name in ("car", "banana"))


@pytest.fixture(scope="module", autouse=True)
def threads():
    """Trainings set the number of threads; other tests get theirs back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def wordings():
    """As scripts/train_world_llava_next.py has them."""
    caption = fill_prompt(PROMPTS["llava_next.few-words"])
    asked = PROMPTS["llava_next.question"]
    return [Wording(s, **asked[name], caption=caption) for name, s in SMALL["wordings"].items()]


@pytest.fixture(scope="module")
def decoder():
    """A random decoder that is smaller than the world's, and the world's tokenizer."""
    tokenizer = train_tokenizer(grammar.world_text(np.random.default_rng(0), 2000), 600)
    names = {f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in ("bos", "eos", "pad")}
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2)
    heads = dict(num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024)
    config = LlamaConfig(vocab_size=len(tokenizer), **sizes, **heads, **names)
    return LlamaForCausalLM(config), tokenizer


@pytest.fixture(scope="module")
def untrained(decoder):
    torch.manual_seed(3)
    return build(SMALL["vision"], SMALL["pinpoints"], *decoder)


# Drawing and cutting.


def redrawn(domain, seed, index):
    """What an album holds at a place, drawn once more; of scenes, the scene."""
    rng = np.random.default_rng([seed, 3000 + DOMAINS.index(domain), index])
    return draw_scene(rng) if domain == "vqav2" else DRAWN[domain](rng)


def same(one, two, n):
    """Whether two albums agree in their first pictures."""
    arrays = ("tiles", "n_tiles", "sizes", "labels", "backgrounds")
    return one.exchanges[:n] == two.exchanges[:n] and all(
        np.array_equal(getattr(one, name)[:n], getattr(two, name)[:n]) for name in arrays
    )


@pytest.mark.parametrize("domain", DOMAINS)
def test_more_pictures_only_append_however_they_are_shared_out(domain, monkeypatch):
    whole = draw_album(domain, 5, 5, CUTTER, 1)
    monkeypatch.setattr(chunks, "CHUNK", 2)
    parts = draw_album(domain, 7, 5, CUTTER, 1)
    assert same(whole, parts, 5)
    assert len(parts.tiles) == len(parts.exchanges) == 7
    assert not same(whole, draw_album(domain, 5, 6, CUTTER, 1), 1)


def test_pictures_do_not_depend_on_the_number_of_processes(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 2)
    one, two = (draw_album("vqav2", 6, 5, CUTTER, processes) for processes in (1, 2))
    assert same(one, two, 6)


@pytest.mark.parametrize("domain", DOMAINS)
def test_an_album_holds_the_tiles_labels_and_exchanges_of_its_pictures(domain, untrained):
    album = draw_album(domain, 4, 5, CUTTER, 1)
    for i in range(4):
        drawn = redrawn(domain, 5, i)
        picture = drawn.picture if domain == "vqav2" else drawn[0]
        # The model's own preprocessing, which the albums go round.
        pixels = untrained.preprocess([picture]).pixels[0]
        n = int(album.n_tiles[i])
        assert len(pixels) == n == untrained.layout(picture.size).n_tiles
        torch.testing.assert_close(normalised(album.tiles[i, :n]), pixels, atol=1e-6, rtol=0)
        assert not album.tiles[i, n:].any()
        assert album.sizes[i].tolist() == [picture.height, picture.width]
        if domain == "vqav2":
            shown = {thing.category.name for thing in drawn.objects}
            assert BACKGROUNDS[album.backgrounds[i]] == drawn.background
            caption, *asked = album.exchanges[i]
            assert caption.prompt == CAPTION
            said = f"The image shows {caption.reply}"
            assert said == grammar.canonical_caption(drawn)
            # As many objects that are not there are asked about as are there.
            absent = [q.reply for q in asked].count("no")
            assert absent >= len(shown) and len(asked) > 2 * len(shown)
        else:
            _, known, said = drawn
            names = ATTRIBUTES[domain]
            assert album.labels[i].tolist() == [known.get(name, -1) for name in names]
            assert album.exchanges[i] == said
    assert album.tiles.shape[1] == CUTTER.most == 5


@pytest.mark.parametrize("size", [(150, 131), (64, 200), (220, 64), (129, 70), (64, 128), (90, 90)])
def test_tiles_of_any_shape_are_those_of_the_models_own_processor(untrained, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    tiles = cut(CUTTER.plain(Image.Resampling.BICUBIC), picture)
    own = untrained.preprocess([picture]).pixels[0]
    torch.testing.assert_close(normalised(tiles), own, atol=1e-6, rtol=0)


# Labels of a scene laid out by hand.


def thing(category, adjective, left, top, right, bottom):
    polygon = [left, top, right, top, right, bottom, left, bottom]
    box = (left, top, right - left, bottom - top)
    return SceneObject(category, adjective, box, [polygon], box[2] * box[3])


def labels_of(monkeypatch, size, *things):
    """(category, colour) of every patch of a scene, `tiles x 4 x 4`, and its album."""
    scene = Scene(Image.new("RGB", size), list(things), BACKGROUNDS[2])
    monkeypatch.setattr(train_llava_next, "draw_scene", lambda _rng: scene)
    album = draw_album("vqav2", 1, 0, CUTTER, 1)
    n = album.n_tiles[0]
    assert (album.labels[0, n:] == -1).all()
    assert album.backgrounds.tolist() == [2]
    categories, colours = np.moveaxis(album.labels[0, :n].reshape(n, 4, 4, 2), -1, 0)
    assert ((colours >= 0) == (categories > 0)).all()
    return categories, colours


def patches(*rows):
    return [list(map(int, row)) for row in rows]


def test_patch_labels_of_a_square_scene(monkeypatch):
    """128 x 128 pixels: a patch is 32 pixels wide in the squeezed whole, 16 in the four tiles."""
    categories, colours = labels_of(
        monkeypatch,
        (128, 128),
        thing(CAR, "red", 0, 0, 64, 64),
        thing(BANANA, "yellow", 64, 96, 112, 128),
    )
    car, banana = CLASSES.index(CAR), CLASSES.index(BANANA)
    nothing = patches("0000", "0000", "0000", "0000")

    def in_numbers(tile):
        return [[{0: 0, car: 1, banana: 2}[value] for value in row] for row in tile.tolist()]

    whole, *tiles = map(in_numbers, categories)
    assert whole == patches("1100", "1100", "0000", "0022")
    assert tiles == [
        patches("1111", "1111", "1111", "1111"),
        nothing,
        nothing,
        patches("0000", "0000", "2220", "2220"),
    ]
    assert set(colours[categories == car]) == {COLOUR_NAMES.index("red")}
    assert set(colours[categories == banana]) == {COLOUR_NAMES.index("yellow")}


def test_patch_labels_follow_the_padding_and_the_order_of_tiles(monkeypatch):
    """192 x 48 pixels in a row of three tiles, 8 pixels of padding above and below."""
    categories, _ = labels_of(monkeypatch, (192, 48), thing(CAR, "red", 112, 0, 192, 24))
    shown = (categories > 0).astype(int).tolist()
    # Squeezed: 48 pixels wide and 12 high a patch, so the car fills two thirds of the third column.
    assert shown[0] == patches("0011", "0011", "0000", "0000")
    # In tiles: rows 8 to 32, of which the first patch of 16 has half.
    nothing = patches("0000", "0000", "0000", "0000")
    assert shown[1:] == [
        nothing,
        patches("0001", "0001", "0000", "0000"),
        patches("1111", "1111", "0000", "0000"),
    ]


@pytest.mark.parametrize(("columns", "labelled"), [(5, False), (6, True)])
def test_an_object_has_a_patch_from_three_eighths_on(monkeypatch, columns, labelled):
    categories, _ = labels_of(monkeypatch, (128, 128), thing(CAR, "red", 64, 0, 64 + columns, 16))
    assert (categories[2, 0, 0] == CLASSES.index(CAR)) == labelled
    assert (categories > 0).sum() == int(labelled)


def test_labels_are_never_mixed_where_a_tile_is_a_scaled_picture(monkeypatch):
    """Stripes two pixels wide: a mean of the numbers of banana and nothing is another category."""
    stripes = [thing(BANANA, "green", x, 0, x + 2, 128).polygons[0] for x in range(0, 128, 4)]
    banana = SceneObject(BANANA, "green", (0, 0, 126, 128), stripes, 64 * 128)
    categories, _ = labels_of(monkeypatch, (128, 128), banana)
    assert set(categories.flat) == {CLASSES.index(BANANA)}


# Wording.


def test_prompts_by_hand():
    wording = Wording(1.0, "<image> {role}Q: {question} A:", "{role}{question} of {options}", "Say")
    opened = lessons.OPEN.format(question="What colour is the car?")
    options = ["A: left lung", "B: the heart's edge"]
    choice = lessons.CHOICE.format(question="Where is it?", options=options)

    def prompt(text):
        return wording.prompt(Exchange(text, "", ()))

    assert prompt(CAPTION) == "Say"
    assert prompt(opened) == "<image> Q: What colour is the car? A:"
    assert prompt(f"{lessons.ROLE} {opened}") == (
        f"<image> {lessons.ROLE} Q: What colour is the car? A:"
    )
    assert prompt(choice) == """Where is it? of ['A: left lung', "B: the heart's edge"]"""
    assert prompt(f"{lessons.ROLE} {choice}").startswith(f"{lessons.ROLE} Where is it? of ['A")


def questions_of(domain, rng):
    """(question, options) of what `DRAWN[domain]` says, in the same order."""
    if domain == "pmc_vqa":
        asked = pmc_vqa.questions_about(pmc_vqa.draw_pmc_vqa(rng)[1], rng)
        lettered = [zip("ABCD", q.choices, strict=True) for q in asked]
        options = [[f"{letter}: {text}" for letter, text in pairs] for pairs in lettered]
        return [(q.question, own) for q, own in zip(asked, options, strict=True)]
    if domain == "vqav2":
        asked = draw_vqav2(rng)[1]
    elif domain == "doc_vqa":
        asked = grammar.docvqa_questions(draw_doc_vqa(rng).fields)
    elif domain == "lingo_qa":
        asked = grammar.lingoqa_questions(draw_lingo_qa(rng)[1])
    else:
        asked = rsvqa.questions_about(rsvqa.draw_rsvqa(rng), rng)
    return [(q.question, []) for q in asked]


@pytest.mark.parametrize("number", [0, 1], ids=["paper", "released"])
def test_prompts_are_those_of_the_evaluation(wordings, number):
    templates = PROMPTS["llava_next.question"][list(SMALL["wordings"])[number]]
    seen = {"role": 0, "choice": 0, "open": 0}
    for domain in DOMAINS:
        for index in range(12):
            _, _, said = DRAWN[domain](np.random.default_rng(index))
            asked = questions_of(domain, np.random.default_rng(index))
            for exchange, (question, options) in zip(said, asked, strict=True):
                role = ROLE if exchange.prompt.startswith("Role: ") else ""
                expected = question_prompt(templates, question, options, role)
                assert wordings[number].prompt(exchange) == expected
                seen["role"] += bool(role)
                seen["choice" if options else "open"] += 1
    assert min(seen.values()) > 0, seen


# Losses.


def alone_loss(model, tokens, said):
    """The mean over all tokens of replies, each exchange in a pass of its own."""
    total, n = 0.0, 0
    for of_picture, exchanges in zip(tokens, said, strict=True):
        for prompt, reply in exchanges:
            ids = model.tokenizer(reply, add_special_tokens=False).input_ids
            ids = [*ids, model.tokenizer.eos_token_id]
            encoded = model.encode(of_picture[None], prompt, [ids[:-1]])
            logits = model.logits(model.final_states(encoded))[0, encoded.prompt_end - 1 :]
            total = total + F.cross_entropy(logits, torch.tensor(ids), reduction="sum")
            n += len(ids)
    return total / n


def with_gradients(loss, model, tokens, said):
    """A loss and its gradients by the image tokens and by every weight of the decoder."""
    weights = list(model.decoder.parameters())
    tokens = [of_picture.clone().requires_grad_() for of_picture in tokens]
    for weight in weights:
        weight.requires_grad_(True).grad = None
    value = loss(model, tokens, said)
    value.backward()
    return value.detach(), [leaf.grad for leaf in (*tokens, *weights)]


S, L = "USER: <image> {} ASSISTANT:", "USER: a red <image> {} ASSISTANT:"
SAID = [
    # Prompts and replies of different lengths, among them a reply that only ends.
    [
        (S.format("Describe in few words"), "a red car"),
        (S.format("sea"), "An"),
        (S.format("a"), ""),
    ],
    [(S.format("Describe"), "car of cat sea a red car")],
    [(L.format("in"), "cat"), (L.format("few words few words few words"), "sea a")],
]


@pytest.mark.parametrize("pictures", [[0, 1, 2], [1], [2, 0]])
def test_packed_loss_is_the_mean_over_the_exchanges_alone(pictures):
    model = llava_next_world.build()
    model.network.double()
    sizes = [(32, 32), (40, 10), (20, 30)]  # 88, 34 and 72 image tokens
    rng = np.random.default_rng(0)
    shown = [Image.fromarray(rng.integers(0, 256, (*s[::-1], 3), dtype=np.uint8)) for s in sizes]
    tokens = [model.embed_pictures([shown[i]])[0] for i in pictures]
    assert [len(t) for t in tokens] == [[88, 34, 72][i] for i in pictures]
    said = [SAID[i] for i in pictures]
    packed, found = with_gradients(packed_loss, model, tokens, said)
    alone, expected = with_gradients(alone_loss, model, tokens, said)
    # The decoder's norms are taken in single precision whatever the weights are.
    torch.testing.assert_close(packed, alone, atol=1e-7, rtol=1e-7)
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)
        assert wanted.abs().max() > 0


def test_prompts_that_begin_differently_are_an_error():
    model = llava_next_world.build()
    tokens = model.embed_pictures([Image.new("RGB", (32, 32))])
    with pytest.raises(ValueError, match="begin differently"):
        packed_loss(model, tokens, [[(S.format("a"), "car"), (L.format("a"), "car")]])


# What is seen, and what is said of it.


@pytest.fixture(scope="module")
def albums():
    return {name: draw_album(name, 8 if name == "vqav2" else 4, 5, CUTTER, 1) for name in DOMAINS}


@pytest.fixture
def model(decoder):
    """One that a test may change, with a tower in which layers and pictures differ clearly."""
    torch.manual_seed(3)
    model = build(SMALL["vision"], SMALL["pinpoints"], *decoder)
    with torch.no_grad():
        for weight in model.network.model.vision_tower.parameters():
            if weight.dim() == 2:
                weight.mul_(4)
    return model


class Reader(nn.Module):
    """Keeps what it is to read, and has a loss that shows whether it counts."""

    made: list

    def __init__(self, *_):
        super().__init__()
        self.factor, self.read = nn.Parameter(torch.ones(())), []
        self.made.append(self)

    def loss(self, states, *labels):
        self.read.append((states.detach(), *labels))
        return self.factor * states.mean()


@pytest.mark.parametrize("kind", ["tiles", "whole"])
def test_every_tile_is_seen_with_its_own_labels(model, albums, monkeypatch, kind):
    class OfTiles(Reader):
        made = []

    class OfPictures(Reader):
        made = []

    monkeypatch.setattr(train_llava_next, "PatchReader", OfTiles)
    monkeypatch.setattr(train_llava_next, "TileReader", OfPictures)
    only_losses(monkeypatch, [], [])
    lesson = {"shares": SMALL["tower"][0]["shares"], "whole": {**FEW, "steps": 0}}
    train_tower(model.network, albums, lesson | {kind: FEW}, None)
    tower = model.network.model.vision_tower
    assert not any(weight.requires_grad for weight in tower.parameters())
    readers = [*OfTiles.made, *(OfPictures.made if kind == "whole" else [])]
    assert all(len(reader.read) == FEW["steps"] for reader in readers)
    assert all(abs(reader.factor.grad) > 0 for reader in readers)
    assert all(weight.grad is not None for weight in tower.parameters())

    def states(tiles):
        """The projector's states and the last ones, normed as a new norm does, by tile."""
        with torch.no_grad():
            found = tower(normalised(tiles), output_hidden_states=True).hidden_states
            return [F.layer_norm(s[:, 1:], s.shape[-1:]) for s in (found[-2], found[-1])]

    scenes = albums["vqav2"]
    shown = [(row, place) for row in range(8) for place in range(scenes.n_tiles[row])]
    known = states(np.stack([scenes.tiles[where] for where in shown]))
    rows = set()
    for reader, expected in zip(OfTiles.made, known, strict=True):
        for seen, categories, colours, backgrounds in reader.read:
            for i, of_tile in enumerate(seen):
                close = [torch.allclose(of_tile, own, atol=1e-4) for own in expected]
                (where,) = [shown[k] for k, found in enumerate(close) if found]
                labels = scenes.labels[where]
                rows.add(where[0])
                assert categories[i].tolist() == labels[:, 0].tolist()
                assert colours[i].tolist() == labels[:, 1].tolist()
                assert backgrounds[i] == scenes.backgrounds[where[0]]
                assert kind == "whole" or (labels[:, 0] > 0).any()
    assert max(rows) > FEW["batch_size"] * lesson["shares"]["vqav2"]  # not the first ones only
    if kind == "whole":
        for name, reader in zip([n for n in albums if n != "vqav2"], OfPictures.made, strict=True):
            album = albums[name]
            expected = torch.stack([states(tiles)[0] for tiles in album.tiles])
            for seen, labels in reader.read:
                assert len(seen) == max(1, round(12 * lesson["shares"][name]))
                for i, of_picture in enumerate(seen):
                    close = [torch.allclose(of_picture, own, atol=1e-4) for own in expected]
                    assert labels[i].tolist() == album.labels[close.index(True)].tolist()


def reply_lesson(**changes):
    return {**SMALL["replies"][0], "steps": 3, "batch_size": 10, **changes}


def only_losses(monkeypatch, losses, parameters):
    """Put a descent that only computes losses, keeping what it was given, in the place of ours."""

    def descend(loss, weights, n, _progress, _name, *, steps, batch_size, lr):
        for weight in weights:
            weight.requires_grad_(True)
        parameters.extend(weights)
        generator = torch.Generator().manual_seed(0)
        for _ in range(steps):
            value = loss(torch.randint(n, (batch_size,), generator=generator), generator)
            value.backward()
            losses.append(value)

    monkeypatch.setattr(train_llava_next, "descend", descend)


def test_a_reader_of_tiles_knows_their_order():
    torch.manual_seed(0)
    reader, states = TileReader(8, 3, {"limit": 4}), torch.randn(2, 3, 4, 8)
    labels = torch.tensor([[1], [3]])
    with torch.no_grad():
        ordered, turned = (reader.loss(s, labels).item() for s in (states, states.flip(1)))
        reader.places.zero_()
        without, again = (reader.loss(s, labels).item() for s in (states, states.flip(1)))
    assert abs(ordered - turned) > 1e-3
    assert without == pytest.approx(again, abs=1e-5)


def test_gradients_reach_projector_newline_and_decoder_alone(model, albums, wordings, monkeypatch):
    losses, parameters = [], []
    only_losses(monkeypatch, losses, parameters)
    seen = {name: tower_states(model.network, album) for name, album in albums.items()}
    train_replies(model, albums, seen, wordings, reply_lesson(), None)
    assert all(torch.isfinite(value) for value in losses)
    weights = dict(model.network.named_parameters())
    taught = {id(weight) for weight in parameters}
    assert len(taught) == len(parameters)
    for name, weight in weights.items():
        is_tower = name.startswith("model.vision_tower.")
        assert (id(weight) in taught) == (not is_tower), name
        if is_tower:
            assert weight.grad is None, name
        else:
            assert weight.grad.abs().max() > 0, name
    kinds = ("model.image_newline", "model.multi_modal_projector.", "lm_head.")
    assert all(any(name.startswith(kind) for name in weights) for kind in kinds)


def test_replies_are_learned_from_what_the_model_sees_and_is_asked(
    model, albums, wordings, monkeypatch
):
    """Image tokens are those of the finished model, and what is said belongs to the picture."""
    rows = []

    def keep(_model, tokens, said):
        rows.extend(zip((t.detach() for t in tokens), said, strict=True))
        return tokens[0].sum()

    monkeypatch.setattr(train_llava_next, "packed_loss", keep)
    only_losses(monkeypatch, [], [])
    seen = {name: tower_states(model.network, album) for name, album in albums.items()}
    shares = {"vqav2": 0.6, "rsvqa": 0.3, "lingo_qa": 0.1}
    lesson = reply_lesson(steps=20, exchanges=3, shares=shares)
    train_replies(model, albums, seen, wordings, lesson, None)
    known = []
    for name, album in albums.items():
        for i in range(len(album.tiles)):
            drawn = redrawn(name, 5, i)
            picture = drawn.picture if name == "vqav2" else drawn[0]
            (tokens,) = model.embed_pictures([picture])
            asked = [
                {(wording.prompt(e), e.reply) for e in album.exchanges[i]} for wording in wordings
            ]
            known.append((name, tokens, asked))
    times = dict.fromkeys(shares, 0)
    of_wording = [0, 0]
    for tokens, said in rows:
        assert 0 < len(said) <= 3 and len(set(said)) == len(said)
        # The tower's states are kept in half precision, three digits.
        (found,) = [
            (name, asked)
            for name, own, asked in known
            if own.shape == tokens.shape and torch.allclose(own, tokens, atol=0.02)
        ]
        times[found[0]] += 1
        (kind,) = [k for k, asked in enumerate(found[1]) if set(said) <= asked][:1]
        of_wording[kind] += 1
    # 200 rows: within four standard deviations of the shares.
    for name, share in shares.items():
        assert abs(times[name] - 200 * share) < 4 * (200 * share * (1 - share)) ** 0.5, times
    share = SMALL["wordings"]["released"]
    assert abs(of_wording[1] - 200 * share) < 4 * (200 * share * (1 - share)) ** 0.5


# Growing.


def logits_of(model, pictures, prompt):
    encoded = model.encode(model.embed_pictures(pictures, prompt), prompt)
    return model.logits(model.final_states(encoded))[encoded.mask > 0]


@pytest.mark.parametrize(
    ("layers", "units", "old"),
    [(2, 20, [0, 1]), (3, 20, [1, 2]), (4, 33, [1, 3]), (5, 26, [1, 4])],
)
def test_a_grown_model_says_the_same(layers, units, old):
    small = llava_next_world.build()
    before = {name: value.clone() for name, value in small.network.state_dict().items()}
    rng = np.random.default_rng(0)
    shown = [Image.fromarray(rng.integers(0, 256, (h, 30, 3), dtype=np.uint8)) for h in (30, 11)]
    torch.manual_seed(0)
    grown = grow(small, layers, units)
    grown.check({"language": layers * units, "vision": 72, "projector": 16})
    for prompt in (llava_next_world.SHORT, llava_next_world.LONG):
        ours, theirs = (logits_of(model, shown, prompt) for model in (grown, small))
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    sites = grown.sites("language")
    assert [site.n_units for site in sites] == [units] * layers
    for site, layer in zip(sites, grown.decoder.model.layers, strict=True):
        silent = (site.output_rows() == 0).all(dim=1).tolist()
        expected = [False] * 20 + [True] * (units - 20) if site.layer in old else [True] * units
        assert silent == expected, site.layer
        # What new units read is drawn, not zero, or no gradient would ever reach them.
        for weight in (layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight):
            assert (weight.abs().amax(dim=1) > 0).all()
        assert (layer.self_attn.o_proj.weight == 0).all() == (site.layer not in old)
    after = small.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    for name, value in before.items():
        if not name.startswith("model.language_model.layers."):
            assert torch.equal(grown.network.state_dict()[name], value), name


# Training.


def few_pictures():
    lesson, replies = SMALL["tower"][0], reply_lesson(steps=2)
    return SMALL | {
        "scenes": 12,
        "pictures_a_domain": 6,
        "processes": 1,
        "tower": [
            lesson | {"tiles": FEW, "whole": FEW},
            {"shares": lesson["shares"], "whole": FEW},
        ],
        "replies": [replies],
    }


class Lessons(list):
    """A progress bar that remembers the names of the lessons."""

    def __call__(self, steps, _total, name):
        self.append(name)
        return steps


@pytest.fixture(scope="module")
def trained(decoder, wordings):
    """A LLaVA-NeXT after two steps of each lesson, and the lessons' names."""
    names = Lessons()
    return train(few_pictures(), *decoder, wordings, 3, 1, names), names


@pytest.fixture(scope="module")
def larger(trained, wordings):
    """The same for the larger one, of three layers and 80 units."""
    config = {"text": {"num_hidden_layers": 3, "intermediate_size": 80}}
    config["replies"] = [reply_lesson(steps=2, exchanges=2)]
    names = Lessons()
    return train_larger(config, trained[0], few_pictures(), wordings, 3, 1, names), names


def test_lessons_teach_every_part_from_where_it_was(trained, untrained):
    """The tower from the weights that the seed draws, the decoder from the one it was given."""
    model, names = trained
    assert names == ["tower: tiles", *["tower: whole pictures"] * 2, "replies"]
    before = untrained.network.state_dict()
    for name, weight in model.network.state_dict().items():
        moved = (weight - before[name]).abs().max()
        # Six steps of the tower and two of the rest, of at most 0.002 each.
        assert 0 < moved < 0.02, name
    assert not any(weight.requires_grad for weight in model.network.parameters())


def test_the_decoder_that_it_starts_from_is_left_alone(trained, decoder, untrained):
    start, tokenizer = decoder
    n = len(tokenizer)
    assert start.config.vocab_size == n == trained[0].network.config.image_token_id
    assert "<image>" not in tokenizer.get_vocab()
    for name, weight in start.model.state_dict().items():
        copied = untrained.decoder.model.state_dict()[name]
        assert torch.equal(copied[:n] if "embed" in name else copied, weight), name
    assert torch.equal(untrained.decoder.lm_head.weight[:n], start.lm_head.weight)


def test_the_larger_one_learns_on_the_same_tower(trained, larger):
    (small, _), (model, names) = trained, larger
    assert names == ["replies"]
    model.check({"language": 3 * 80, "vision": 4 * 384, "projector": 32})
    assert not any(weight.requires_grad for weight in model.network.parameters())
    found, before = model.network.state_dict(), small.network.state_dict()
    for name, weight in before.items():
        if name.startswith("model.vision_tower."):
            assert torch.equal(found[name], weight), name
        elif not name.startswith("model.language_model.layers."):
            assert not torch.equal(found[name], weight), name
    # Layers and units that added nothing at first do after two steps.
    for site in model.sites("language"):
        assert (site.output_rows().abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize("name", ["trained", "larger"])
def test_a_trained_model_is_saved_and_loaded(name, request, wordings, tmp_path):
    """And measured, as scripts/train_world_llava_next.py measures it."""
    model = request.getfixturevalue(name)[0]
    model.save(tmp_path)
    again = LlavaNext.load(tmp_path, "cpu", torch.float32)
    again.check({m: sum(s.n_units for s in model.sites(m)) for m in ("language", "vision")})
    shown, caption = [draw_scene(np.random.default_rng(1)).picture], wordings[0].caption
    ours, theirs = (logits_of(one, shown, caption) for one in (model, again))
    assert torch.equal(ours, theirs)
    found = evaluate(again, caption, 4, 3, "An image of")
    assert found == evaluate(model, caption, 4, 3, "An image of") and found["pictures"] == 4
    for domain in ("pmc_vqa", "lingo_qa"):
        asked = evaluate_questions(again, domain, 4, 3, wordings[0].prompt)
        assert asked == evaluate_questions(model, domain, 4, 3, wordings[0].prompt)


# The models that ship.


@pytest.fixture(scope="module", params=["llava-next-world", "llava-next-large-world"])
def shipped(request):
    """A model that ships, and what was measured at its training."""
    entry = read_registry(REPOSITORY / "resources/models.yaml")[request.param]
    folder = REPOSITORY / entry.path
    facts = json.loads((folder / "training.json").read_text())
    return load_model(replace(entry, path=folder), "cpu", "float32"), facts


def three_errors(share, n):
    """Three standard errors of a share of n."""
    return 3 * (share * (1 - share) / n) ** 0.5


def test_shipped_models_name_objects_of_new_pictures(shipped, wordings):
    model, facts = shipped
    found = evaluate(model, wordings[0].caption, 40, 78, "An image of")
    for measure in ("recall", "precision"):
        reported = facts["new_pictures"][measure]
        # Forty pictures have about 80 objects.
        assert found[measure] >= reported - three_errors(reported, 80) - 0.01
        assert found[measure] > 0.5


@pytest.mark.parametrize("domain", DOMAINS)
def test_shipped_models_answer_better_than_the_most_frequent_answer(shipped, wordings, domain):
    model, facts = shipped
    found = evaluate_questions(model, domain, 100, 79, wordings[0].prompt)
    reported = facts["new_questions"][domain]["accuracy"]
    assert found["accuracy"] >= reported - three_errors(reported, 100) - 0.01
    assert found["accuracy"] > found["majority"] + 0.1
