"""COCO 2017 as published: pictures that contain a wanted object, one row per (picture, object).

Read are `annotations/instances_{split}.json` and the picture files `{split}/*.jpg` under one root.
A picture may serve several objects; each is a sample of its own. What is passed over, and why, goes
into a second table, never away silently.
"""

import difflib
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from pycocotools.coco import COCO

from mmneurons.datasets.pictures import UndecodablePicture, read_picture
from mmneurons.datasets.tables import EXCLUSION_COLUMNS, typed_table
from mmneurons.downloads.pictures import Pictures
from mmneurons.inpainting.masks import box_mask, box_window

ANNOTATIONS = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
PICTURES = "http://images.cocodataset.org/zips/{split}.zip"

SAMPLE_COLUMNS = {
    "sample_id": "str",
    "image_id": "int64",
    "file": "str",
    "width": "int64",
    "height": "int64",
    "group": "str",
    "supercategory": "str",
    "boxes": "object",
    "other_groups": "object",
    "covered": "float64",
    "role": "str",
    "order": "int64",
}
STAGE = "prepare"


def instances_file(split: str) -> str:
    """Where COCO has the annotations of a split, below the root."""
    return f"annotations/instances_{split}.json"


def category_names(root: str | Path, split: str) -> dict[str, str]:
    """Return {object category: supercategory} in the order of the category ids.

    Raises FileNotFoundError or ValueError where the annotation file is missing or not COCO's.
    """
    categories = read_annotations(Path(root) / instances_file(split)).cats
    return {categories[key]["name"]: categories[key]["supercategory"] for key in sorted(categories)}


def object_samples(
    root: str | Path,
    split: str,
    groups: Sequence[str],
    per_group: int,
    seed: int,
    min_area: float = 0.02,
    max_area: float = 0.8,
    max_covered: float = 0.5,
    check: bool = False,
    instances: str | None = None,
    source: Pictures | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose for each of `groups` up to `per_group` pictures in which it can be painted out alone.

    The pictures of a group are tried in an order that hangs on (seed, group, image id) only: other
    groups never change it, and a larger `per_group` only appends. Areas are shares of pixels: the
    group's boxes together, rasterised as `inpainting.masks.box_mask` does, must cover `min_area` to
    `max_area` of the picture and at most `max_covered` of any other annotated object's box, else
    painting cannot remove the group, or removes more than it (Sato & Takagi 2025, section III).

    split: the folder of the pictures below `root`, "." for the root itself. instances: the file of
    annotations below `root`, unless it is COCO's. source: where pictures come from that are not on
    disk; without one they are passed over. Only as many are fetched as are to be opened.

    Returns (samples, exclusions). Samples have the columns SAMPLE_COLUMNS: `boxes` (x, y, width,
    height in pixels) of every instance of the group, `covered` the largest share of another
    object's box under them, `order` 0, 1, ... within the group, `role` "evaluation" throughout (see
    `assign_roles`). Exclusions have the columns EXCLUSION_COLUMNS; reasons of a picture, of those
    tried only: "crowd" (instances of the group are not boxed one by one), "empty-box" (a box of the
    group has no area within the picture), "small-target", "large-target", "covers-other" and, with
    `check`, which opens the pictures chosen, "undecodable-picture" and "size-mismatch" (the boxes
    were not drawn on this picture). "too-few-pictures" stands for a group as a whole.

    Raises ValueError for a name no category has, naming the nearest, and for values out of range;
    FileNotFoundError where the annotations or, with `check`, the folder of pictures is missing.
    """
    if per_group < 1:
        raise ValueError(f"per_group must be at least 1, not {per_group}")
    limits = _Limits(min_area, max_area, max_covered)
    coco = read_annotations(Path(root) / (instances or instances_file(split)))
    if check and source is None and not (Path(root) / split).is_dir():
        archive = PICTURES.format(split=split)
        raise FileNotFoundError(f"no folder of pictures {Path(root) / split}; COCO's: {archive}")

    samples, exclusions = [], []
    for category in _wanted_categories(coco, groups):
        group, kept = category["name"], []
        pictures = _ordered_pictures(coco, category, seed)
        excluded: dict[int, _Excluded] = {}
        waiting = _usable(coco, split, category, pictures, limits, excluded)
        # As many at once as are missing, so that not one is fetched that is not to be opened.
        while tried := list(islice(waiting, per_group - len(kept))):
            why = source.bring([sample["file"] for sample in tried]) if check and source else {}
            for sample in tried:
                try:
                    if check:
                        _check_decodes(Path(root), sample, why)
                    kept.append(sample | {"order": len(kept)})
                except _Excluded as error:
                    excluded[sample["image_id"]] = error
        samples += kept
        for image_id in (image_id for image_id in pictures if image_id in excluded):
            error, name = excluded[image_id], sample_id(image_id, group)
            exclusions.append((STAGE, name, group, error.reason, error.detail))
        if len(kept) < per_group:
            detail = f"wanted {per_group}, found {len(kept)} among {len(pictures)} pictures"
            exclusions.append((STAGE, "", group, "too-few-pictures", detail))
    return typed_table(samples, SAMPLE_COLUMNS), typed_table(exclusions, EXCLUSION_COLUMNS)


def assign_roles(samples: pd.DataFrame, calibration_per_group: int) -> pd.DataFrame:
    """Return `samples` with `role` set: the last of each group by `order` are "calibration".

    All others are "evaluation". A group with no more than `calibration_per_group` samples has no
    evaluation sample; the "too-few-pictures" row of `object_samples` tells of such groups.
    """
    if calibration_per_group < 0:
        raise ValueError(f"calibration_per_group must not be negative: {calibration_per_group}")
    from_last = samples.groupby("group")["order"].rank(ascending=False)
    role = np.where(from_last <= calibration_per_group, "calibration", "evaluation")
    return samples.assign(role=pd.Series(role, index=samples.index, dtype="str"))


def sample_id(image_id: int, group: str) -> str:
    """Return the written name of one (picture, object) pair, as "000000000139-fire_hydrant"."""
    return f"{image_id:012d}-{group.replace(' ', '_')}"


@dataclass(frozen=True)
class _Limits:
    min_area: float
    max_area: float
    max_covered: float

    def __post_init__(self) -> None:
        if not 0 <= self.min_area <= self.max_area <= 1 or not 0 <= self.max_covered <= 1:
            raise ValueError(f"need 0 <= min_area <= max_area <= 1 and max_covered in 0..1: {self}")


def read_annotations(path: Path) -> COCO:
    """A file of COCO instances, read once; FileNotFoundError or ValueError where it is none."""
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"no annotations {path}; COCO's: {ANNOTATIONS}")
    state = path.stat()
    return _load(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _load(path: Path, mtime_ns: int, size: int) -> COCO:
    """Read one annotation file; time and size are in the key so that a changed file is read anew.

    Reading all of train2017 takes half a minute, hence the cache.
    """
    try:
        with redirect_stdout(io.StringIO()):  # pycocotools reports its progress on stdout.
            coco = COCO(str(path))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"{path} is not a file of COCO instances: {error}") from error
    missing = {"images", "annotations", "categories"} - coco.dataset.keys()
    if missing:
        raise ValueError(f"{path} is not a file of COCO instances: no {', '.join(sorted(missing))}")
    return coco


def _wanted_categories(coco: COCO, groups: Sequence[str]) -> list[dict]:
    if not groups:
        raise ValueError("no object category asked for")
    by_name = {category["name"]: category for category in coco.cats.values()}
    unknown = [group for group in groups if group not in by_name]
    if unknown:
        hints = [f'"{group}" (nearest: "{_nearest(group, by_name)}")' for group in unknown]
        raise ValueError(f"no such object category: {', '.join(hints)}")
    return [by_name[group] for group in dict.fromkeys(groups)]


def _nearest(group: str, names: Iterable[str]) -> str:
    lowered = {name.lower(): name for name in names}
    return lowered[difflib.get_close_matches(group.lower(), lowered, n=1, cutoff=0)[0]]


def _ordered_pictures(coco: COCO, category: dict, seed: int) -> list[int]:
    # A hash of each picture by itself, not a shuffle of the list: see `object_samples`.
    def key(image_id: int) -> tuple[bytes, int]:
        text = f"{seed}/{category['name']}/{image_id}"
        return hashlib.blake2b(text.encode(), digest_size=8).digest(), image_id

    return sorted(set(coco.catToImgs.get(category["id"], ())), key=key)


class _Excluded(Exception):
    """A picture is not taken; `reason` is one of those listed at `object_samples`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def _usable(
    coco: COCO,
    split: str,
    category: dict,
    pictures: Iterable[int],
    limits: _Limits,
    excluded: dict[int, _Excluded],
) -> Iterator[dict]:
    """Samples as far as annotations tell; why pictures are none goes into `excluded`."""
    for image_id in pictures:
        try:
            yield _sample(coco, split, category, image_id, limits)
        except _Excluded as error:
            excluded[image_id] = error


def _sample(coco: COCO, split: str, category: dict, image_id: int, limits: _Limits) -> dict:
    image = coco.imgs[image_id]
    annotations = coco.imgToAnns[image_id]
    targets = [a for a in annotations if a["category_id"] == category["id"]]
    others = [a for a in annotations if a["category_id"] != category["id"]]
    if any(target.get("iscrowd", 0) for target in targets):
        raise _Excluded("crowd", "a crowd annotation stands for several instances")
    boxes = [[float(number) for number in target["bbox"]] for target in targets]
    mask = _target_mask((image["height"], image["width"]), boxes, limits)
    covered = max((_covered_share(mask, other["bbox"]) for other in others), default=0.0)
    if covered > limits.max_covered:
        detail = f"boxes cover {covered:.4f} of another object's box, above {limits.max_covered}"
        raise _Excluded("covers-other", detail)
    return {
        "sample_id": sample_id(image_id, category["name"]),
        "image_id": image_id,
        "file": (PurePosixPath(split) / image["file_name"]).as_posix(),
        "width": image["width"],
        "height": image["height"],
        "group": category["name"],
        "supercategory": category["supercategory"],
        "boxes": boxes,
        "other_groups": sorted({coco.cats[other["category_id"]]["name"] for other in others}),
        "covered": covered,
        "role": "evaluation",
    }


def _target_mask(size: tuple[int, int], boxes: list[list[float]], limits: _Limits) -> np.ndarray:
    """Return the mask of the group's boxes (height x width) if its area is within `limits`."""
    mask = box_mask(size, boxes)
    for box in boxes:
        if mask[box_window(size, box)].size == 0:
            raise _Excluded("empty-box", f"box {box} has no area within the picture")
    area = float(np.count_nonzero(mask) / mask.size)
    if area < limits.min_area:
        detail = f"boxes cover {area:.4f} of the picture, below {limits.min_area}"
        raise _Excluded("small-target", detail)
    if area > limits.max_area:
        detail = f"boxes cover {area:.4f} of the picture, above {limits.max_area}"
        raise _Excluded("large-target", detail)
    return mask


def _covered_share(mask: np.ndarray, box: Sequence[float]) -> float:
    """Return the share of the pixels of `box` that are set in `mask`; 0 for a box without any."""
    window = mask[box_window(mask.shape, box)]
    return float(np.count_nonzero(window) / window.size) if window.size else 0.0


def _check_decodes(root: Path, sample: dict, why: Mapping[str, str]) -> None:
    try:
        size = read_picture(root / sample["file"]).size
    except UndecodablePicture as error:
        told = f"; {why[sample['file']]}" if sample["file"] in why else ""
        raise _Excluded("undecodable-picture", error.reason + told) from error
    annotated = sample["width"], sample["height"]
    if size != annotated:
        detail = "the picture has {}x{} pixels, the annotations {}x{}".format(*size, *annotated)
        raise _Excluded("size-mismatch", detail)
