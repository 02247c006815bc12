"""Inpainting by the fast marching method of Telea 2004, reference [20] of Sato & Takagi 2025."""

import cv2
import numpy as np
from PIL import Image

from mmneurons.inpainting.masks import fill_holes, pixels_and_holes


def inpaint(picture: Image.Image, mask: np.ndarray, radius: float = 3) -> Image.Image:
    """Return `picture` as RGB with the pixels at nonzero `mask` (height x width) painted.

    All other pixels stay as they are; what the painted ones showed before has no influence.
    `radius` in pixels is the neighbourhood a pixel is painted from; the paper does not state it.
    Raises ValueError for a radius outside 1..100 (OpenCV would silently take the nearest of these)
    and for a mask of another size, NothingToPaintFrom for a mask of the whole picture.
    """
    if not 1 <= radius <= 100:
        raise ValueError(f"radius must be 1 to 100 pixels, not {radius}")
    pixels, holes = pixels_and_holes(picture, mask)
    # Near the top and left border OpenCV reads pixels it has still to paint, so that a trace of the
    # object would stay in the picture; a plain colour in the hole leaves none.
    blank = pixels.copy()
    blank[holes] = pixels[~holes].mean(axis=0).round()
    painted = cv2.inpaint(blank, holes.astype(np.uint8), radius, cv2.INPAINT_TELEA)
    return fill_holes(pixels, holes, painted)
