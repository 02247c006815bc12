"""What every family answers alike: how many image tokens a picture has, and where they stand."""

import conftest
import llava_next_world
import numpy as np
import pytest
import qwen_world
import test_instructblip
import test_llava
import test_mplug_owl2
import torch
from PIL import Image

from mmneurons.models.base import Encoded, MultimodalModel
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.mplug_owl2 import MPlugOwl2, square_image_processor
from mmneurons.models.registry import ADAPTERS

SIZES = [(40, 10), (32, 32), (20, 30), (17, 50), (16, 16)]
# Where a family's prompt has the picture; InstructBLIP's begins with it without saying so.
PLACES = {
    "minigpt4": "<ImageHere> ",
    "mplug_owl2": "<|image|>",
    "instructblip": "",
    "qwen2_5_vl": "<|image_pad|> ",
}

BUILDERS = {
    "llava": test_llava,
    "llava_next": llava_next_world,
    "instructblip": test_instructblip,
    "qwen2_5_vl": qwen_world,
}


def build(family, tokenizer):
    torch.set_num_threads(1)
    if family == "minigpt4":
        return MiniGPT4(conftest.build_network(0), tokenizer, "cpu")
    if family == "mplug_owl2":
        network, words = test_mplug_owl2.build_network(), test_llava.build_tokenizer()
        return MPlugOwl2(network, words, square_image_processor(16), "cpu")
    return BUILDERS[family].build()


@pytest.fixture(scope="module", params=ADAPTERS)
def case(request, tokenizer):
    """A small model, and two prompts of different lengths, both with text before the picture."""
    model = build(request.param, tokenizer)
    place = PLACES.get(request.param, "<image> ")
    return model, f"{place}Describe in few words", f"red car {place}Describe a cat in few words"


@pytest.fixture(scope="module")
def shown():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def test_a_picture_has_as_many_image_tokens_as_its_size_says(case, shown):
    model, short, long = case
    numbers = set()
    for picture in shown:
        for prompt in (short, long):
            (tokens,) = model.embed_pictures([picture], prompt)
            assert model.n_image_tokens(picture.size) == len(tokens)
            encoded = model.encode([tokens], prompt)
            assert model.n_tokens(prompt, picture.size) == encoded.mask.sum() == encoded.prompt_end
            assert encoded.image_mask.sum() == len(tokens)
            numbers.add(len(tokens))
    assert (len(numbers) > 1) == (model.family in ("llava_next", "qwen2_5_vl"))


def test_image_tokens_stand_where_the_encoded_batch_says(case, shown):
    """Of one size, so that each family has equally many, in prompts of different lengths."""
    model, short, long = case
    pictures = [picture.resize((30, 20)) for picture in shown[:3]]
    prompts, continuations = [short, long, long], [[5, 6], [], [7]]
    tokens = model.embed_pictures(pictures, prompts)
    encoded = model.encode(tokens, prompts, continuations)
    assert encoded.image.shape == (3, model.n_image_tokens((30, 20)))
    for row, prompt in enumerate(prompts):
        both = torch.cat([encoded.embeds, encoded.columns], dim=2)
        assert torch.equal(both[row, encoded.image[row]], tokens[row])
        before, after = model.segments(prompt)
        start = encoded.prompt_end - model.n_tokens(prompt, (30, 20))
        expected = range(start + len(before), encoded.prompt_end - len(after))
        assert encoded.image[row].tolist() == list(expected)
        real = encoded.mask[row].nonzero()[:, 0]
        assert real.tolist() == [*range(start, encoded.prompt_end + len(continuations[row]))]
        # Every position of the language model is this row's, but the padding.
        owners = model.owners("language", encoded, [(30, 20)] * 3, prompts)[row]
        assert owners[real].eq(row).all() and owners.ne(-1).sum() == len(real)
        # Positions count from the row's first token.
        assert encoded.position_ids[row, real].tolist() == list(range(len(real)))


def of_mask(*rows):
    mask = torch.tensor(rows, dtype=torch.bool)
    embeds = torch.zeros(*mask.shape, 2)
    return Encoded(embeds, torch.ones_like(mask, dtype=torch.long), mask, 4, (0,) * len(rows), None)


def test_positions_of_image_tokens_by_hand():
    assert of_mask([0, 1, 1, 0], [1, 0, 0, 1]).image.tolist() == [[1, 2], [0, 3]]
    assert of_mask([0, 0, 0, 0], [0, 0, 0, 0]).image.shape == (2, 0)


def test_pictures_with_different_numbers_of_image_tokens_have_no_common_positions(shown):
    with pytest.raises(ValueError, match=r"have \[1, 3\] image tokens.*one picture a batch"):
        _ = of_mask([0, 1, 0, 0], [1, 1, 1, 0]).image
    model = llava_next_world.build()
    together = model.encode(model.embed_pictures(shown[:2]), llava_next_world.SHORT)
    with pytest.raises(ValueError, match=r"have \[34, 88\] image tokens"):
        _ = together.image


def test_a_family_without_a_grid_has_to_say_how_many_it_has(case):
    model = case[0]
    if model.grid() is None:
        with pytest.raises(NotImplementedError, match=f"{model.family} does not say"):
            MultimodalModel.n_image_tokens(model, (30, 20))
    else:
        rows, columns = model.grid()
        assert model.n_image_tokens((30, 20)) == rows * columns
