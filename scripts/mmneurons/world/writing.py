"""Writing drawn datasets, so that nobody sees half of one, and seeding their pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

JPEG_QUALITY = 95

# Streams 0 and 1 are COCO's two splits.
_STREAMS = {"sbu": 2, "vqav2": 3, "pmc_vqa": 4, "doc_vqa": 5, "lingo_qa": 6, "rsvqa": 7}


def picture_rng(seed: int, dataset: str, number: int, split: int = 0) -> np.random.Generator:
    """The random numbers of one picture: of the seed, the dataset, the split and its number only.

    No two datasets or splits share a picture.
    """
    return np.random.default_rng([seed, _STREAMS[dataset], number, split])


@contextmanager
def fresh_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder that takes `folder`'s place if the block ends without an exception."""
    folder = Path(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial, folder)


def check_number(n: int, most: int) -> None:
    """Raise ValueError for a number of pictures that the file names or ids have no room for."""
    if not 0 <= n <= most:
        raise ValueError(f"a drawn dataset has 0 to {most} pictures, not {n}")


def hex_id(rng: np.random.Generator) -> str:
    """A made-up identifier of 32 hexadecimal digits."""
    return rng.bytes(16).hex()


def choose(rng: np.random.Generator, options, n: int) -> list:
    """Up to `n` different ones of `options`, in their order."""
    return [options[i] for i in sorted(rng.permutation(len(options))[:n])]
