"""One door to the inpainting backends; each is imported only when it is asked for."""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

Inpaint = Callable[[Image.Image, np.ndarray], Image.Image]


def load(name: str, **options: object) -> Inpaint:
    """Return the backend `name` as a function of (picture, mask: height x width) to the picture.

    "telea" has the option `radius` (see `telea.inpaint`), "lama" has `model` and `device` (see
    `lama.Lama`). Raises ValueError for an unknown name, TypeError for an unknown option, and what
    the backend raises where its weights cannot be had.
    """
    if name not in BACKENDS:
        nearest = difflib.get_close_matches(name, BACKENDS, n=1, cutoff=0)[0]
        raise ValueError(f'no inpainting backend "{name}" (nearest: "{nearest}")')
    return BACKENDS[name](**options)


def _telea(radius: float = 3) -> Inpaint:
    from mmneurons.inpainting import telea

    return partial(telea.inpaint, radius=radius)


def _lama(model: str | Path | None = None, device: str = "cpu") -> Inpaint:
    from mmneurons.inpainting.lama import Lama

    return Lama(model, device)


BACKENDS: dict[str, Callable[..., Inpaint]] = {"telea": _telea, "lama": _lama}
