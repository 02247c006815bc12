"""Pictures and activation maps as the pages hold them: small WebP files, maps in base64."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from mmneurons.browser.parts import Shown

QUALITY = 72
SMALLEST = 64
"""Pixels of the longest side below which a picture shows nothing any more."""
PROBED = 64
"""Pictures that are encoded to find a side at which all of them fit."""


class Pictures:
    """The pictures that pages ask for, each stored once."""

    def __init__(self) -> None:
        self._asked: dict[str, Shown] = {}

    def file(self, shown: Shown) -> str:
        """Ask for a picture; returns its file's name below the site."""
        name = f"pictures/{sha256(shown.name.encode()).hexdigest()[:16]}.webp"
        self._asked.setdefault(name, shown)
        return name

    def __len__(self) -> int:
        return len(self._asked)

    def write(self, folder: Path, side: int, most_bytes: int) -> int:
        """Write all pictures, the longest side at most `side` pixels; returns that side.

        All together take at most `most_bytes`, for which the side is made smaller where it has to
        be, down to SMALLEST.
        """
        side = self._likely_side(side, most_bytes)
        while True:
            total = 0
            for name, shown in self._asked.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(shown.read(), side))
                total += path.stat().st_size
                if total > most_bytes and side > SMALLEST:
                    break
            else:
                return side
            side = max(SMALLEST, side * 19 // 20)

    def _likely_side(self, side: int, most_bytes: int) -> int:
        """The side at which some of the pictures, spread evenly, weigh their part of the bytes."""
        asked = list(self._asked.values())
        some = [shown.read() for shown in asked[:: max(1, len(asked) // PROBED)]]
        while side > SMALLEST and some:
            weight = sum(len(encoded(picture, side)) for picture in some) / len(some)
            if weight * len(asked) <= most_bytes:
                break
            side = max(SMALLEST, side * 9 // 10)
        return side


def encoded(picture: Image.Image, side: int) -> bytes:
    """A picture as WebP, its longest side at most `side` pixels."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=QUALITY, method=4)
    return stream.getvalue()


def packed(values: np.ndarray, low: float, high: float) -> str:
    """Values as base64 of bytes, 0 for `low` and 255 for `high`."""
    length = high - low if high > low else 1.0
    scaled = np.clip((np.asarray(values, np.float64) - low) / length, 0, 1)
    return base64.b64encode(np.rint(scaled * 255).astype(np.uint8).tobytes()).decode("ascii")


def scale(maps: Iterable[np.ndarray]) -> tuple[float, float]:
    """The least and the largest value of several maps."""
    together = [np.asarray(values, np.float64).ravel() for values in maps]
    together = [values for values in together if values.size]
    if not together:
        return 0.0, 0.0
    return float(min(v.min() for v in together)), float(max(v.max() for v in together))


def best_at_patches(values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The neurons that are most active at each patch.

    values: `n x P`. Returns places (`P x k`, k at most `most`) and their values, largest first.
    """
    order = np.argsort(-values, axis=0, kind="stable")[:most]
    return order.T, np.take_along_axis(values, order, axis=0).T


def packed_places(places: np.ndarray) -> str:
    """Whole numbers as base64: a byte each where all are below 256, else two, the lower first."""
    wide = np.max(places, initial=0) > 255
    kept = np.asarray(places).astype("<u2" if wide else "u1")
    return base64.b64encode(kept.tobytes()).decode("ascii")
