"""SBU Captions as published: which pictures a run uses, one row per picture.

Read are `sbu-captions-all.json` (parallel lists `image_urls`, `user_ids`, `captions`) and the
picture files `images/{index:09d}.jpg` under one root; the index is the place in the lists. Most of
the list's addresses are dead today, so what is missing or useless is passed over, the next entry
takes its place, and a second table says why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mmneurons.datasets.pictures import UndecodablePicture, read_picture
from mmneurons.datasets.tables import EXCLUSION_COLUMNS, typed_table
from mmneurons.downloads.pictures import Pictures

CAPTIONS = "https://www.cs.rice.edu/~vo9/sbucaptions/sbu-captions-all.tar.gz"
CAPTIONS_FILE = "sbu-captions-all.json"

PICTURE_COLUMNS = {"picture_id": "str", "file": "str", "caption": "str", "order": "int64"}
STAGE = "prepare"

RELEASED_POOL, RELEASED_TRIED, RELEASED_SEED = 1400, 2800, 2023
UNIFORM_SHARE = 0.9
"""A picture with this share of its pixels in one colour shows nothing."""

_UNIFORM_LEVELS = 8  # of 256, around the median colour: what JPEG adds to a plain area
_SAME_LEVELS = 16  # of 256, at every place of the thumbnail: what another JPEG quality changes
_THUMBNAIL = (16, 16)


def sbu_pictures(
    root: str | Path,
    pictures: int,
    seed: int = 0,
    variant: str = "paper",
    source: Callable[[Sequence[str]], Pictures] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose `pictures` entries of the list that have a picture worth captioning.

    Entries are tried in the order of `entry_order`. With `variant` "paper" this is a random order
    of the whole list, and the first `pictures` usable ones are taken. "released" is the choice of
    the code of Pan et al. 2024, which does not sample from the list: of the first 2,800 entries the
    first 1,400 usable ones, permuted with numpy's seed 2023 (`seed` has no effect), of these the
    first `pictures`.

    source: from the list's addresses to where pictures come from that are not on disk; without it
    they are passed over. As many are fetched at a time as are missing, in the order of the entries,
    so that the same seed takes the same pictures as long as they exist.

    An entry is not usable, with the reason given, if it has no file ("no-picture"), the file does
    not decode to the last row ("undecodable-picture"), or it is a "placeholder" such as Flickr
    serves for deleted photographs: at least 90 % of the pixels within 8 of 256 levels of one
    colour, or the same picture under several entries (thumbnails of 16 x 16 pixels that differ
    nowhere by more than 16 levels, so that another compression does not hide it). A photograph
    that a user uploaded twice looks no different; all its entries are left out. A repetition can
    only be seen among the entries tried, so choosing more pictures may drop one chosen before.

    Returns (pictures, exclusions) with the columns PICTURE_COLUMNS (`file` relative to `root`,
    `caption` the photographer's, `order` 0, 1, ...) and EXCLUSION_COLUMNS (`sample_id` is the
    picture's id; "too-few-pictures" stands for the dataset as a whole). Raises FileNotFoundError
    for a missing list and ValueError for a broken one, an unknown variant, fewer than one picture.
    """
    if pictures < 1:
        raise ValueError(f"pictures must be at least 1, not {pictures}")
    captions, addresses = _captions(Path(root))
    order = entry_order(len(captions), seed, variant)
    wanted = RELEASED_POOL if variant == "released" else pictures
    search = _Search(Path(root), source(addresses) if source else None)
    waiting = map(int, order)
    while tried := list(islice(waiting, wanted - len(search.kept))):
        search.add_all(tried)
    chosen = search.kept
    if variant == "released":
        permuted = np.random.RandomState(RELEASED_SEED).permutation(len(chosen))
        chosen = [chosen[place] for place in permuted[:pictures]]
    exclusions = search.exclusions
    if len(chosen) < pictures:
        detail = f"wanted {pictures}, found {len(chosen)} among {len(order)} entries"
        exclusions = [*exclusions, (STAGE, "", "", "too-few-pictures", detail)]
    rows = [
        (picture_id(index), picture_file(index), captions[index], place)
        for place, index in enumerate(chosen)
    ]
    return typed_table(rows, PICTURE_COLUMNS), typed_table(exclusions, EXCLUSION_COLUMNS)


def entry_order(entries: int, seed: int = 0, variant: str = "paper") -> np.ndarray:
    """The order in which entries are tried, an integer array; see `sbu_pictures`.

    Raises ValueError for a variant other than "paper" and "released".
    """
    if variant == "paper":
        return np.random.default_rng(seed).permutation(entries)
    if variant == "released":
        return np.arange(min(entries, RELEASED_TRIED))
    raise ValueError(f'no such variant: "{variant}" (there are "paper" and "released")')


def picture_id(index: int) -> str:
    """The written name of an entry of the list, nine digits."""
    return f"{index:09d}"


def picture_file(index: int) -> str:
    """Where an entry's picture lies under the root."""
    return f"images/{picture_id(index)}.jpg"


def picture_index(file: str) -> int:
    """The entry whose picture lies at `file` under the root."""
    return int(Path(file).stem)


def _captions(root: Path) -> tuple[list[str], list[str]]:
    """The photographers' captions and the addresses of the list."""
    path = root / CAPTIONS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no captions {path}; SBU's: {CAPTIONS}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        captions, urls = content["captions"], content["image_urls"]
        if len(captions) != len(urls):
            raise ValueError(f"{len(captions)} captions, but {len(urls)} addresses")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not SBU's list of captions: {error}") from error
    if not captions:
        raise ValueError(f"{path} is not SBU's list of captions: it is empty")
    return captions, urls


class _Search:
    """The usable entries among those tried so far, and why the others are none."""

    def __init__(self, root: Path, source: Pictures | None) -> None:
        self.root, self.source = root, source
        files = root / "images"
        # One listing in place of a look-up for each of a million entries.
        self.files = {path.name for path in files.iterdir()} if files.is_dir() else set()
        self.kept: list[int] = []
        self.exclusions: list[tuple] = []
        self._seen: list[int] = []
        self._thumbnails = np.empty((0, 3 * _THUMBNAIL[0] * _THUMBNAIL[1]), dtype=np.int16)

    def add_all(self, indices: Sequence[int]) -> None:
        """Try entries, in their order."""
        why: Mapping[str, str] = {}
        if self.source is not None:
            files = [picture_file(index) for index in indices]
            why = self.source.bring(files)
            self.files |= {Path(file).name for file in files if file not in why}
        for index in indices:
            self._add(index, why)

    def _add(self, index: int, why: Mapping[str, str]) -> None:
        file = picture_file(index)
        if Path(file).name not in self.files:
            reason = "placeholder" if "placeholder" in why.get(file, "") else "no-picture"
            told = f"; {why[file]}" if file in why else ""
            self._exclude(index, reason, f"no file {file}{told}")
            return
        try:
            picture = read_picture(self.root / picture_file(index))
        except UndecodablePicture as error:
            self._exclude(index, "undecodable-picture", error.reason)
            return
        uniform = _uniform_share(picture)
        if uniform >= UNIFORM_SHARE:
            self._exclude(index, "placeholder", f"{uniform:.0%} of the picture is of one colour")
            return
        twin = self._twin(index, picture)
        if twin is None:
            self.kept.append(index)
            return
        self._exclude(index, "placeholder", f"the same picture as {picture_id(twin)}")
        if twin in self.kept:
            self.kept.remove(twin)
            self._exclude(twin, "placeholder", f"the same picture as {picture_id(index)}")

    def _exclude(self, index: int, reason: str, detail: str) -> None:
        self.exclusions.append((STAGE, picture_id(index), "", reason, detail))

    def _twin(self, index: int, picture: Image.Image) -> int | None:
        """The first entry with the same picture; a new picture is remembered."""
        small = picture.resize(_THUMBNAIL, Image.Resampling.BOX)
        thumbnail = np.asarray(small, dtype=np.int16).reshape(-1)
        differences = np.abs(self._thumbnails - thumbnail).max(axis=1, initial=0)
        same = np.flatnonzero(differences <= _SAME_LEVELS)
        if same.size:
            return self._seen[same[0]]
        self._seen.append(index)
        self._thumbnails = np.vstack([self._thumbnails, thumbnail])
        return None


def _uniform_share(picture: Image.Image) -> float:
    """The share of pixels that lie, in every channel, near the picture's median colour."""
    pixels = np.asarray(picture, dtype=np.int16)
    median = np.median(pixels, axis=(0, 1))
    return float((np.abs(pixels - median) <= _UNIFORM_LEVELS).all(axis=-1).mean())
