"""Masks from boxes, the promise of both backends about other pixels, and how they are loaded."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import mmneurons
from mmneurons.inpainting import telea
from mmneurons.inpainting.load import load
from mmneurons.inpainting.masks import NothingToPaintFrom, box_mask

HEIGHT, WIDTH = 37, 61
TEXTURE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def picture(pixels=TEXTURE):
    return Image.fromarray(pixels)


def rows_and_columns(mask):
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max(), columns.min(), columns.max()


# ------------------------------------------------------------------------------------------- masks


def test_a_mask_takes_in_every_pixel_a_box_touches():
    mask = box_mask((20, 30), [(3.2, 5.0, 4.1, 2.5)])  # columns 3.2..7.3, rows 5..7.5
    assert mask.shape == (20, 30) and mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 255}
    assert rows_and_columns(mask) == (5, 7, 3, 7)
    assert np.count_nonzero(mask) == 3 * 5


def test_a_box_that_ends_on_a_pixels_edge_ends_there():
    assert rows_and_columns(box_mask((20, 30), [(2.5, 3.25, 4.5, 5.75)])) == (3, 8, 2, 6)


def test_a_mask_is_the_union_of_the_boxes():
    mask = box_mask((10, 10), [(0, 0, 4, 4), (2, 2, 4, 4)])
    assert np.count_nonzero(mask) == 16 + 16 - 4


@pytest.mark.parametrize(
    ("box", "dilate", "expected"),
    [
        ((-5, -5, 7, 8), 0, (0, 2, 0, 1)),
        ((25, 15, 100, 100), 0, (15, 19, 25, 29)),
        ((10, 5, 4, 3), 2, (3, 9, 8, 15)),
        ((0, 0, 1, 1), 3, (0, 3, 0, 3)),
        ((29, 19, 1, 1), 3, (16, 19, 26, 29)),
        ((0, 0, 30, 20), 5, (0, 19, 0, 29)),
    ],
)
def test_a_mask_ends_at_the_border(box, dilate, expected):
    mask = box_mask((20, 30), [box], dilate)
    assert rows_and_columns(mask) == expected
    top, bottom, left, right = expected
    assert np.count_nonzero(mask) == (bottom - top + 1) * (right - left + 1)


@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 0, 10),
        (5.5, 5.5, 10, 0),
        (5, 5, -3, 4),
        (30, 0, 5, 5),
        (-9, 0, 9, 5),
        (-9, 0, 4, 5),
        (0, 99, 5, 5),
    ],
)
def test_a_box_without_area_in_the_picture_takes_in_nothing(box):
    assert not box_mask((20, 30), [box]).any()


def test_a_box_without_area_stays_empty_when_dilated():
    assert not box_mask((20, 30), [(5, 5, 0, 10)], dilate=3).any()
    assert not box_mask((20, 30), []).any()


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="dilate"):
        box_mask((20, 30), [(0, 0, 5, 5)], dilate=-1)
    with pytest.raises(ValueError, match="finite"):
        box_mask((20, 30), [(0, 0, float("nan"), 5)])


# ------------------------------------------------------------------------------------------- Telea


BORDERS = [(20, 10, 12, 9), (0, 0, 12, 9), (1, 1, 12, 9), (50, 30, 11, 7), (0, 12, 61, 9)]


@pytest.mark.parametrize("box", BORDERS)
def test_telea_fills_an_object_with_the_plain_ground_around_it(box):
    mask = box_mask((HEIGHT, WIDTH), [box])
    with_object = np.full((HEIGHT, WIDTH, 3), (20, 40, 200), dtype=np.uint8)
    with_object[mask > 0] = (220, 30, 10)
    painted = np.asarray(telea.inpaint(picture(with_object), mask)).astype(int)
    # OpenCV's rounding lifts the values a little with every pixel into the hole.
    assert np.abs(painted - (20, 40, 200)).max() <= 4


@pytest.mark.parametrize("box", BORDERS)
def test_telea_leaves_no_trace_of_the_object(box):
    mask = box_mask((HEIGHT, WIDTH), [box])
    painted = []
    for colour in [(220, 30, 10), (0, 255, 0), (255, 255, 255)]:
        with_object = TEXTURE.copy()
        with_object[mask > 0] = colour
        painted.append(np.asarray(telea.inpaint(picture(with_object), mask)))
    assert np.array_equal(painted[0], painted[1]) and np.array_equal(painted[0], painted[2])


def test_opencv_itself_leaves_the_other_pixels():
    mask = box_mask((HEIGHT, WIDTH), [(20, 10, 12, 9), (0, 0, 5, 5)])
    painted = cv2.inpaint(TEXTURE, mask, 3, cv2.INPAINT_TELEA)
    assert np.array_equal(painted[mask == 0], TEXTURE[mask == 0])


def test_the_radius_is_used_and_bounded():
    mask = box_mask((HEIGHT, WIDTH), [(20, 10, 12, 9)])
    near, far = (np.asarray(telea.inpaint(picture(), mask, radius)) for radius in (1, 8))
    assert not np.array_equal(near, far)
    assert np.array_equal(load("telea", radius=8)(picture(), mask), far)
    for radius in (0, 101, float("nan")):
        with pytest.raises(ValueError, match="radius"):
            telea.inpaint(picture(), mask, radius)


# ------------------------------------------------------------ LaMa, with a stand-in for its weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return a TorchScript file with LaMa's interface whose answers can be told by hand.

    In the hole red is the column, green the row and blue 7; everything else is inverted.
    """
    pytest.importorskip("simple_lama_inpainting")
    torch = pytest.importorskip("torch")

    class StandIn(torch.nn.Module):
        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            height, width = image.size(2), image.size(3)
            assert height % 8 == 0 and width % 8 == 0
            rows = torch.arange(height, dtype=image.dtype).reshape(1, 1, height, 1)
            columns = torch.arange(width, dtype=image.dtype).reshape(1, 1, 1, width)
            flat = torch.zeros_like(image[:, :1])
            hole = (torch.cat([flat + columns, flat + rows, flat + 7.0], dim=1) + 0.5) / 255.0
            m = mask.to(image.dtype)
            return hole * m + (1.0 - image) * (1.0 - m)

    path = tmp_path_factory.mktemp("lama") / "stand-in.pt"
    torch.jit.script(StandIn()).save(str(path))
    return path


def test_lama_is_cropped_to_the_picture_and_paints_the_hole_only(weights):
    mask = box_mask((HEIGHT, WIDTH), [(50, 30, 11, 7), (3, 4, 5, 6)])
    painted = np.asarray(load("lama", model=weights, device="cpu")(picture(), mask))
    assert painted.shape == TEXTURE.shape and painted.dtype == np.uint8
    rows, columns = np.nonzero(mask)
    told = np.stack([columns, rows, np.full_like(rows, 7)], axis=1)
    assert np.array_equal(painted[rows, columns], told)
    assert np.array_equal(painted[mask == 0], TEXTURE[mask == 0])


@pytest.mark.parametrize("before", [None, "/elsewhere/big-lama.pt"])
def test_the_environment_is_as_before(weights, tmp_path, monkeypatch, before):
    if before is None:
        monkeypatch.delenv("LAMA_MODEL", raising=False)
    else:
        monkeypatch.setenv("LAMA_MODEL", before)
    load("lama", model=str(weights))
    assert os.environ.get("LAMA_MODEL") == before

    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"not TorchScript")
    with pytest.raises(ValueError, match="broken.pt"):
        load("lama", model=broken)
    assert os.environ.get("LAMA_MODEL") == before


@pytest.mark.parametrize("model", [None, "", "/nowhere/big-lama.pt"])
def test_missing_weights_name_their_address_and_nothing_is_downloaded(weights, monkeypatch, model):
    # Not even weights that lie in the environment are taken in place of those asked for.
    monkeypatch.setenv("LAMA_MODEL", str(weights))
    monkeypatch.setattr(
        "simple_lama_inpainting.models.model.download_model", lambda _: pytest.fail("download")
    )
    with pytest.raises(FileNotFoundError, match="https://.*/big-lama.pt"):
        load("lama", model=model)


# ------------------------------------------------------------------------------------ both backends


@pytest.fixture(params=["telea", "lama"])
def backend(request):
    if request.param == "telea":
        return load("telea")
    return load("lama", model=request.getfixturevalue("weights"))


@pytest.mark.parametrize("box", [(20, 10, 12, 9), (-3, -3, 8, 8), (55.5, 0, 99, 99), (9, 9, 0, 4)])
def test_pixels_outside_the_mask_stay_exactly(backend, box):
    mask = box_mask((HEIGHT, WIDTH), [box])
    original = picture()
    painted = backend(original, mask)
    assert painted.mode == "RGB" and painted.size == (WIDTH, HEIGHT)
    assert np.array_equal(np.asarray(painted)[mask == 0], TEXTURE[mask == 0])
    if mask.any():
        assert not np.array_equal(np.asarray(painted)[mask > 0], TEXTURE[mask > 0])
    assert np.array_equal(np.asarray(original), TEXTURE)


def test_a_mask_of_all_pixels_but_one_is_painted(backend):
    mask = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    mask[18, 30] = 0
    painted = np.asarray(backend(picture(), mask))
    assert np.array_equal(painted[18, 30], TEXTURE[18, 30])


def test_a_mask_of_the_whole_picture_is_refused(backend):
    with pytest.raises(NothingToPaintFrom):
        backend(picture(), box_mask((HEIGHT, WIDTH), [(0, 0, WIDTH, HEIGHT)]))


def test_a_mask_of_another_size_is_refused(backend):
    with pytest.raises(ValueError, match="differ"):
        backend(picture(), box_mask((WIDTH, HEIGHT), [(0, 0, 5, 5)]))


def test_a_gray_picture_is_painted_as_rgb(backend):
    gray = Image.fromarray(TEXTURE[..., 0])
    mask = box_mask((HEIGHT, WIDTH), [(20, 10, 12, 9)])
    painted = np.asarray(backend(gray, mask))
    assert np.array_equal(painted[mask == 0], np.repeat(TEXTURE[mask == 0][:, :1], 3, axis=1))


# ----------------------------------------------------------------------------------------- loading


def test_unknown_backends_and_options_are_refused():
    with pytest.raises(ValueError, match='"Tela".*"telea"'):
        load("Tela")
    with pytest.raises(TypeError, match="radios"):
        load("telea", radios=3)


def test_telea_does_not_import_torch():
    scripts = Path(mmneurons.__file__).parents[1]
    code = (
        "import sys; from mmneurons.inpainting.load import load; load('telea');"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {"PYTHONPATH": str(scripts)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
