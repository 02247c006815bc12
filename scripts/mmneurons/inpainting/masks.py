"""The pixels to paint, from boxes, and what every backend promises about the others."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image


class NothingToPaintFrom(ValueError):
    """The mask covers the whole picture, so that no pixel is left to fill it from."""


def box_mask(
    size: tuple[int, int], boxes: Iterable[Sequence[float]], dilate: int = 0
) -> np.ndarray:
    """Return the union of `boxes` as a mask, 255 within and 0 elsewhere (height x width, uint8).

    `size` is (height, width). A box (x, y, width, height) in pixels takes in every pixel it
    touches; `dilate` widens it by whole pixels on each side; what lies outside the picture is cut.
    A box without area takes in nothing. Raises ValueError for a negative `dilate`.
    """
    mask = np.zeros(size, dtype=np.uint8)
    for box in boxes:
        mask[box_window(size, box, dilate)] = 255
    return mask


def box_window(size: tuple[int, int], box: Sequence[float], dilate: int = 0) -> tuple[slice, slice]:
    """Return (rows, columns) that one box of `box_mask` takes in; both empty where it has no area.

    Raises ValueError for a negative `dilate` and for coordinates that are not finite.
    """
    if dilate < 0:
        raise ValueError(f"dilate must not be negative: {dilate}")
    if not all(math.isfinite(number) for number in box):
        raise ValueError(f"box {list(box)} has a coordinate that is not finite")
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return slice(0, 0), slice(0, 0)
    return _span(y, height, dilate, size[0]), _span(x, width, dilate, size[1])


def _span(start: float, extent: float, dilate: int, limit: int) -> slice:
    first = math.floor(start) - dilate
    last = math.ceil(start + extent) + dilate
    return slice(min(max(first, 0), limit), min(max(last, 0), limit))


def pixels_and_holes(picture: Image.Image, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (RGB pixels: height x width x 3, uint8; pixels to paint: height x width, bool).

    Raises ValueError where the mask has another size than the picture, NothingToPaintFrom where it
    covers all of it.
    """
    pixels, holes = np.array(picture.convert("RGB")), np.asarray(mask) != 0
    if holes.shape != pixels.shape[:2]:
        sizes = f"{holes.shape}, the picture {pixels.shape[:2]}"
        raise ValueError(f"mask and picture differ in (height, width): the mask has {sizes}")
    if holes.all():
        raise NothingToPaintFrom("the mask covers the whole picture")
    return pixels, holes


def fill_holes(pixels: np.ndarray, holes: np.ndarray, painted: np.ndarray) -> Image.Image:
    """Return `pixels` with the values of `painted` at `holes` and nowhere else."""
    return Image.fromarray(np.where(holes[..., None], painted, pixels))
