"""COCO 2017 with its human captions: the pictures of Schwettmann et al. 2023, one row a picture.

Read are `annotations/instances_{split}.json`, `annotations/captions_{split}.json` and the picture
files `{split}/*.jpg` under one root.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
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


def described_pictures(
    root: str | Path,
    split: str,
    pictures: int,
    seed: int,
    categories: int,
    per_category: int,
    source: Pictures | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose `pictures` of a split at random, and the categories whose neurons are compared.

    The order hangs on (seed, image id) only, so that a larger number only appends. A picture
    without a caption ("no-caption"), that does not decode ("undecodable-picture") or that has
    another size than annotated ("size-mismatch") is passed over and the next one takes its place.

    Returns (pictures, exclusions) with the columns PICTURE_COLUMNS and EXCLUSION_COLUMNS.
    `references`: the human captions; `supercategory`: of the object with the largest area, "" where
    there is none; `category`: of the only object of the picture, "" where there are none, several,
    or a crowd. `part`: of the at most `categories` categories with the most such pictures, and
    with at least `per_category` of them, every other one is to "identify" neurons by, the others to
    "evaluate" them on; "" for all other pictures. Categories with fewer are excluded
    ("too-few-pictures").

    Raises FileNotFoundError or ValueError where the annotations are missing or not COCO's.
    """
    root = Path(root)
    coco = read_annotations(root / instances_file(split))
    captions = _captions(root / captions_file(split))
    waiting = iter(sorted(coco.imgs, key=lambda image_id: (_digest(seed, image_id), image_id)))
    kept: list[dict] = []
    exclusions: list[tuple] = []
    while tried := list(islice(waiting, pictures - len(kept))):
        rows = [_picture(coco, split, image_id, captions) for image_id in tried]
        why = source.bring([row["file"] for row in rows if row["references"]]) if source else {}
        for row in rows:
            problem = _problem(root, row, why)
            if problem is None:
                kept.append(row)
            else:
                exclusions.append((STAGE, row["picture_id"], "", *problem))
    if len(kept) < pictures:
        detail = f"wanted {pictures}, found {len(kept)} among {len(coco.imgs)} pictures"
        exclusions.append((STAGE, "", "", "too-few-pictures", detail))
    parts, too_few = _parts([row["category"] for row in kept], categories, per_category)
    rows = [row | {"part": part} for row, part in zip(kept, parts, strict=True)]
    return typed_table(rows, PICTURE_COLUMNS), typed_table(
        [*exclusions, *too_few], EXCLUSION_COLUMNS
    )


def object_mask(root: str | Path, split: str, picture_id: str) -> np.ndarray:
    """Pixels of all annotated objects of a picture: `height x width`, by pycocotools."""
    coco = read_annotations(Path(root) / instances_file(split))
    image = coco.imgs[int(picture_id)]
    mask = np.zeros((image["height"], image["width"]), dtype=bool)
    for annotation in coco.imgToAnns[int(picture_id)]:
        mask |= coco.annToMask(annotation).astype(bool)
    return mask


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


def _digest(seed: int, image_id: int) -> bytes:
    # A hash of each picture by itself, not a shuffle of the list: see `described_pictures`.
    return hashlib.blake2b(f"{seed}/{image_id}".encode(), digest_size=8).digest()


def _picture(coco, split: str, image_id: int, captions: Mapping[int, list[str]]) -> dict:
    image, objects = coco.imgs[image_id], coco.imgToAnns[image_id]
    largest = max(objects, key=lambda thing: (thing["area"], -thing["id"]), default=None)
    single = len(objects) == 1 and not objects[0].get("iscrowd", 0)
    return {
        "picture_id": original_id(image_id),
        "file": (PurePosixPath(split) / image["file_name"]).as_posix(),
        "width": image["width"],
        "height": image["height"],
        "references": [text for text in captions.get(image_id, []) if text],
        "supercategory": coco.cats[largest["category_id"]]["supercategory"] if largest else "",
        "category": coco.cats[objects[0]["category_id"]]["name"] if single else "",
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


def _parts(found: list[str], categories: int, per_category: int) -> tuple[list[str], list[tuple]]:
    """The part of each picture, and the categories that too few pictures have."""
    counts = Counter(name for name in found if name)
    enough = [name for name in sorted(counts) if counts[name] >= per_category]
    chosen = sorted(enough, key=lambda name: -counts[name])[:categories]
    seen: Counter = Counter()
    parts = []
    for name in found:
        parts.append(PARTS[seen[name] % 2] if name in chosen else "")
        seen[name] += 1
    too_few = [
        (STAGE, "", name, "too-few-pictures", f"{counts[name]} with no other object, of {needed}")
        for needed in [per_category]
        for name in sorted(counts.keys() - set(enough))
    ]
    return parts, too_few
