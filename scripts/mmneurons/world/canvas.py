"""What several kinds of drawn picture need: grain, and text of a given width."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

RGB = tuple[int, int, int]


def with_grain(picture: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """The picture with the same random lightness added to all three colours of a pixel."""
    pixels = np.asarray(picture.convert("RGB"), dtype=float)
    grain = rng.normal(0, strength, (*pixels.shape[:2], 1))
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def fitted_text(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, width: int, fill: RGB
) -> tuple[int, int, int, int]:
    """Write `text` with its left top at `place`, smaller than `size` if wider than `width`.

    Returns the box that the text fills: left, top, right, bottom.
    """
    while size > 6 and draw.textlength(text, font=ImageFont.load_default(size)) > width:
        size -= 1
    font = ImageFont.load_default(size)
    draw.text(place, text, fill, font=font, anchor="lt", stroke_width=0.4)
    return tuple(int(side) for side in draw.textbbox(place, text, font=font, anchor="lt"))
