"""What every family's adapter has to pass, with a small random model of each (family_kit.py)."""

import llava_next_world
import numpy as np
import pytest
import torch
from family_kit import CASES, CHECKS, check_directory
from PIL import Image

from mmneurons.models.base import Encoded, MultimodalModel
from mmneurons.models.registry import ADAPTERS

SIZES = [(40, 10), (32, 32), (20, 30), (17, 50), (16, 16)]


def test_every_family_has_a_case():
    assert CASES.keys() == ADAPTERS.keys()


@pytest.fixture(scope="module", params=ADAPTERS)
def case(request):
    torch.set_num_threads(1)
    case = CASES[request.param]
    model = case.build()
    assert model.family == request.param
    return case, model


@pytest.fixture(scope="module")
def shown():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_family(case, check, shown):
    check(*case, shown)


def test_directory(case, shown, tmp_path):
    check_directory(*case, shown, tmp_path)


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
    _, model = case
    if model.grid() is None:
        with pytest.raises(NotImplementedError, match=f"{model.family} does not say"):
            MultimodalModel.n_image_tokens(model, (30, 20))
    else:
        rows, columns = model.grid()
        assert model.n_image_tokens((30, 20)) == rows * columns
