"""Inpainting by LaMa (Suvorov et al. 2022) through the package simple-lama-inpainting."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from simple_lama_inpainting import SimpleLama
from simple_lama_inpainting.models.model import LAMA_MODEL_URL

from mmneurons.inpainting.masks import fill_holes, pixels_and_holes

_VARIABLE = "LAMA_MODEL"


class Lama:
    """A loaded LaMa: `Lama(model, device)(picture, mask)` paints what the mask marks."""

    def __init__(self, model: str | Path | None, device: str = "cpu") -> None:
        """Load the TorchScript file `model` onto `device`; nothing is ever downloaded.

        Raises FileNotFoundError, with the address of the published weights, where `model` is not
        given or not a file; ValueError where it is not TorchScript.
        """
        if not model or not Path(model).is_file():
            given = f"no file {model}" if model else "no path of weights configured"
            raise FileNotFoundError(f"LaMa: {given}; big-lama.pt is published at {LAMA_MODEL_URL}")
        try:
            # The package takes the path from the environment only, and downloads without it.
            with _environment(_VARIABLE, str(model)):
                self._model = SimpleLama(device=torch.device(device))
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"LaMa: cannot load {model} on {device}: {error}") from error

    def __call__(self, picture: Image.Image, mask: np.ndarray) -> Image.Image:
        """Return `picture` as RGB with the pixels at nonzero `mask` (height x width) painted.

        All other pixels stay as they are. Raises ValueError for a mask of another size,
        NothingToPaintFrom for a mask of the whole picture.
        """
        pixels, holes = pixels_and_holes(picture, mask)
        # The answer is padded at the bottom and right to multiples of 8 pixels.
        height, width = holes.shape
        painted = np.asarray(self._model(pixels, holes.astype(np.uint8)))[:height, :width]
        return fill_holes(pixels, holes, painted)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
