"""The world's pictures in the file formats of the SBU Captioned Photo Dataset.

SBU is one JSON file of parallel lists; its pictures are fetched by address, and some are gone by
the time they are: no file, or the "no longer available" picture that the host sends instead.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mmneurons.world import grammar
from mmneurons.world.scene import Scene, draw_scene
from mmneurons.world.writing import JPEG_QUALITY, check_number, fresh_folder, picture_rng

CAPTIONS_FILE = "sbu-captions-all.json"
FOLDER = "images"
DEAD = (40, 17)
"""One entry in 40 has no file: number 17, 57, 97 and so on."""
UNAVAILABLE = (200, 60)
"""One entry in 200 has the host's stand-in instead of the picture: number 60, 260 and so on."""


def write_sbu(folder: str | Path, n: int, seed: int) -> None:
    """Draw `n` entries: `sbu-captions-all.json` and `images/{index:09d}.jpg` under `folder`.

    The JSON has the parallel lists image_urls, user_ids and captions; dead and stood-in entries
    keep their places in them. An entry depends only on the seed and its index, not on `n`. What
    stood there before is replaced when everything is written.

    Raises ValueError for more entries than nine digits can name.
    """
    check_number(n, 999_999_999)
    lists: dict[str, list[str]] = {"image_urls": [], "user_ids": [], "captions": []}
    with fresh_folder(folder) as partial:
        (partial / FOLDER).mkdir()
        for index in range(n):
            rng = picture_rng(seed, "sbu", index)
            scene = draw_scene(rng)
            caption = grammar.sbu_caption(scene, rng)
            for name, value in (
                ("image_urls", _address(rng)),
                ("user_ids", _user(rng)),
                ("captions", caption),
            ):
                lists[name].append(value)
            picture = _fetched(scene, index)
            if picture is not None:
                picture.save(partial / FOLDER / f"{index:09d}.jpg", quality=JPEG_QUALITY)
        (partial / CAPTIONS_FILE).write_text(json.dumps(lists), encoding="utf-8")


def unavailable_picture() -> Image.Image:
    """What the host sends for a picture that its owner took back; always the same."""
    picture = Image.new("RGB", (160, 120), (240, 240, 240))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((54, 20, 105, 58), outline=(190, 190, 190), width=2)
    draw.line((54, 58, 105, 20), fill=(190, 190, 190), width=2)
    draw.multiline_text(
        (80, 86), "This photo is\nno longer available", (120, 120, 120), anchor="mm", align="center"
    )
    return picture


def _fetched(scene: Scene, index: int) -> Image.Image | None:
    if index % DEAD[0] == DEAD[1]:
        return None
    if index % UNAVAILABLE[0] == UNAVAILABLE[1]:
        return unavailable_picture()
    return scene.picture


def _address(rng: np.random.Generator) -> str:
    farm, server, photo = int(rng.integers(1, 10)), int(rng.integers(1000, 10_000)), _digits(rng)
    secret = "".join("0123456789abcdef"[i] for i in rng.integers(0, 16, 10))
    return f"http://static.flickr.example/{farm}/{server}/{photo}_{secret}.jpg"


def _user(rng: np.random.Generator) -> str:
    return f"{int(rng.integers(10**7, 10**8))}@N{int(rng.integers(0, 10)):02d}"


def _digits(rng: np.random.Generator) -> str:
    return str(int(rng.integers(10**9, 10**10)))
