"""COCO 2017 with its human captions: the pictures of Schwettmann et al. 2023, one row a picture.

Read are `annotations/instances_{split}.json`, `annotations/captions_{split}.json` and the picture
files `{split}/*.jpg` under one root.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import pandas as pd

from mmneurons.artifacts.schwettmann import PICTURE_COLUMNS
from mmneurons.datasets.coco import instances_file, read_annotations
from mmneurons.datasets.pictures import UndecodablePicture, original_id, read_picture
from mmneurons.datasets.tables import EXCLUSION_COLUMNS, typed_table
from mmneurons.downloads.pictures import Pictures

STAGE = "prepare"
PARTS = ("identify", "evaluate")


def captions_file(split: str) -> str:
    """Where COCO has the human captions of a split, below the root."""
    return f"annotations/captions_{split}.json"


@dataclass(frozen=True)
class SingleObjects:
    """Which pictures with a single object are wanted: of how many categories, and how many of each.

    fewest: a category with fewer of them is left out; compared: of how many of the categories one
    half of the pictures is to identify units by, the other to evaluate them on.
    """

    categories: int
    pictures: int
    fewest: int
    compared: int


def described_pictures(
    root: str | Path,
    split: str,
    pictures: int,
    single: SingleObjects,
    seed: int,
    source: Pictures | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose `pictures` of a split at random, and more of them with a single object.

    The order hangs on (seed, image id) only, so that a larger number only appends. A picture
    without a caption ("no-caption"), that does not decode ("undecodable-picture") or that has
    another size than annotated ("size-mismatch") is passed over and the next one takes its place.

    Returns (pictures, exclusions) with the columns PICTURE_COLUMNS and EXCLUSION_COLUMNS.
    `references`: the human captions; `supercategory`: of the object with the largest area, "" where
    there is none; `sampled`: whether the picture is one of the random ones; `category`: of a
    picture with a single object, that is no crowd, if it is one of the pictures that are wanted of
    its category, else "". Categories are those with the most such pictures in the split.
    `part`: of the first of them every other picture is to "identify" units by, the others to
    "evaluate" them on; "" for all other pictures. Categories with fewer than `fewest`
    usable pictures are excluded ("too-few-pictures").

    Raises FileNotFoundError or ValueError where the annotations are missing or not COCO's.
    """
    search = _Search(Path(root), split, seed, source)
    sampled = search.take(search.order, pictures)
    if len(sampled) < pictures:
        detail = f"wanted {pictures}, found {len(sampled)} among {len(search.order)} pictures"
        search.exclude("", "", "too-few-pictures", detail)
    of_category: dict[str, str] = {}
    part: dict[str, str] = {}
    compared = 0
    for name, own in search.single_objects()[: single.categories]:
        found = search.take(own, single.pictures)
        if len(found) < single.fewest:
            detail = f"{len(found)} with no other object, of {single.fewest}"
            search.exclude("", name, "too-few-pictures", detail)
            continue
        of_category |= dict.fromkeys(found, name)
        if compared < single.compared:
            part |= {picture: PARTS[place % 2] for place, picture in enumerate(found)}
            compared += 1
    rows = [
        search.kept[name]
        | {"sampled": name in sampled}
        | {"category": of_category.get(name, ""), "part": part.get(name, "")}
        for name in dict.fromkeys([*sampled, *of_category])
    ]
    return typed_table(rows, PICTURE_COLUMNS), typed_table(search.exclusions, EXCLUSION_COLUMNS)


def _captions(path: Path) -> dict[int, list[str]]:
    """The captions of each picture, in the order of their ids."""
    if not path.is_file():
        raise FileNotFoundError(f"no captions {path}")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["annotations"]
        found: dict[int, list[str]] = {}
        for row in sorted(rows, key=lambda row: row["id"]):
            found.setdefault(row["image_id"], []).append(row["caption"].strip())
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a file of COCO captions: {error}") from error
    return found


class _Search:
    """Pictures of a split that were opened; kept: rows by picture id."""

    def __init__(self, root: Path, split: str, seed: int, source: Pictures | None):
        self.root, self.split, self.source = root, split, source
        self.coco = read_annotations(root / instances_file(split))
        self.captions = _captions(root / captions_file(split))

        def key(image_id: int) -> tuple[bytes, int]:
            # A hash of each picture by itself, not a shuffle of the list: see above.
            text = f"{seed}/{image_id}"
            return hashlib.blake2b(text.encode(), digest_size=8).digest(), image_id

        self.order = sorted(self.coco.imgs, key=key)
        self.kept: dict[str, dict] = {}
        self.refused: set[str] = set()
        self.exclusions: list[tuple] = []

    def exclude(self, picture_id: str, group: str, reason: str, detail: str) -> None:
        self.exclusions.append((STAGE, picture_id, group, reason, detail))

    def take(self, image_ids: Iterable[int], wanted: int) -> list[str]:
        """The first `wanted` of these pictures that can be used, of which as few are opened."""
        found: list[str] = []
        waiting = iter(image_ids)
        while tried := list(islice(waiting, wanted - len(found))):
            rows = [self._row(image_id) for image_id in tried]
            new = [row for row in rows if row["picture_id"] not in self.kept.keys() | self.refused]
            files = [row["file"] for row in new if row["references"]]
            why = self.source.bring(files) if self.source and files else {}
            for row in new:
                problem = _problem(self.root, row, why)
                if problem is None:
                    self.kept[row["picture_id"]] = row
                else:
                    self.refused.add(row["picture_id"])
                    self.exclude(row["picture_id"], "", *problem)
            found += [row["picture_id"] for row in rows if row["picture_id"] in self.kept]
        return found

    def single_objects(self) -> list[tuple[str, list[int]]]:
        """Categories, most pictures first, each with its pictures that have no other object."""
        found: dict[str, list[int]] = {}
        for image_id in self.order:
            objects = self.coco.imgToAnns[image_id]
            if len(objects) == 1 and not objects[0].get("iscrowd", 0):
                name = self.coco.cats[objects[0]["category_id"]]["name"]
                found.setdefault(name, []).append(image_id)
        return sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0]))

    def _row(self, image_id: int) -> dict:
        image, objects = self.coco.imgs[image_id], self.coco.imgToAnns[image_id]
        largest = max(objects, key=lambda thing: (thing["area"], -thing["id"]), default=None)
        supercategory = self.coco.cats[largest["category_id"]]["supercategory"] if largest else ""
        return {
            "picture_id": original_id(image_id),
            "file": (PurePosixPath(self.split) / image["file_name"]).as_posix(),
            "width": image["width"],
            "height": image["height"],
            "references": [text for text in self.captions.get(image_id, []) if text],
            "supercategory": supercategory,
        }


def _problem(root: Path, row: Mapping, why: Mapping[str, str]) -> tuple[str, str] | None:
    """Reason and detail where a picture cannot be taken."""
    if not row["references"]:
        return "no-caption", "the file of captions has none"
    try:
        size = read_picture(root / row["file"]).size
    except UndecodablePicture as error:
        told = f"; {why[row['file']]}" if row["file"] in why else ""
        return "undecodable-picture", error.reason + told
    annotated = row["width"], row["height"]
    if size != annotated:
        said = "the picture has {}x{} pixels, the annotations {}x{}".format(*size, *annotated)
        return "size-mismatch", said
    return None
