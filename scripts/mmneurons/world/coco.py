"""The world's pictures in the file formats of COCO 2017."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mmneurons.world.scene import Scene, SceneObject, draw_scene
from mmneurons.world.vocabulary import CATEGORIES, Category

CaptionWriter = Callable[[Scene, np.random.Generator], list[str]]

SPLITS = ("train2017", "val2017")
CAPTIONS_PER_PICTURE = 5
IDS_PER_SPLIT = 500_000
JPEG_QUALITY = 95
DATE = "2017-01-01 00:00:00"


def write_coco(
    root: str | Path,
    split: str,
    n_pictures: int,
    seed: int,
    caption_writer: CaptionWriter,
    categories: Sequence[Category] = CATEGORIES,
) -> None:
    """Draw one split and write its pictures, instances and captions.

    Writes `{split}/%012d.jpg`, `annotations/instances_{split}.json` and
    `annotations/captions_{split}.json` under `root`. `caption_writer` gives five captions of a
    scene. Image and annotation ids do not recur between the splits, and a picture depends only on
    the seed, the split and its place in it, not on how many are drawn. Everything is written under
    temporary names and renamed when complete; what stood there before is replaced.

    Raises ValueError for an unknown split, too many pictures or another number of captions.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    if not 0 <= n_pictures < IDS_PER_SPLIT:
        raise ValueError(f"a split has 0 to {IDS_PER_SPLIT - 1} pictures, not {n_pictures}")
    root = Path(root)
    annotations = root / "annotations"
    partial = root / f"{split}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    annotations.mkdir(exist_ok=True)

    images, instances, captions = [], [], []
    first_id = SPLITS.index(split) * IDS_PER_SPLIT
    for number in range(n_pictures):
        rng = np.random.default_rng([seed, SPLITS.index(split), number])
        scene = draw_scene(rng, tuple(categories))
        sentences = caption_writer(scene, rng)
        if len(sentences) != CAPTIONS_PER_PICTURE:
            raise ValueError(f"expected {CAPTIONS_PER_PICTURE} captions, got {len(sentences)}")
        image = _image(first_id + number + 1, scene)
        scene.picture.save(partial / image["file_name"], quality=JPEG_QUALITY)
        images.append(image)
        first_instance = first_id * 3 + len(instances) + 1
        instances += [
            _instance(first_instance + i, image["id"], thing)
            for i, thing in enumerate(scene.objects)
        ]
        first_caption = first_id * CAPTIONS_PER_PICTURE + len(captions) + 1
        captions += [
            {"image_id": image["id"], "id": first_caption + i, "caption": sentence}
            for i, sentence in enumerate(sentences)
        ]

    shared = {"info": _info(), "licenses": [_licence()], "images": images}
    _rename_directory(partial, root / split)
    _write_json(
        annotations / f"instances_{split}.json",
        {**shared, "annotations": instances, "categories": _categories(categories)},
    )
    _write_json(annotations / f"captions_{split}.json", {**shared, "annotations": captions})


def _image(image_id: int, scene: Scene) -> dict:
    width, height = scene.picture.size
    return {
        "license": 1,
        "file_name": f"{image_id:012d}.jpg",
        "coco_url": "",
        "height": height,
        "width": width,
        "date_captured": DATE,
        "flickr_url": "",
        "id": image_id,
    }


def _instance(instance_id: int, image_id: int, thing: SceneObject) -> dict:
    return {
        "segmentation": thing.polygons,
        "area": thing.area,
        "iscrowd": 0,
        "image_id": image_id,
        "bbox": list(thing.bbox),
        "category_id": thing.category.coco_id,
        "id": instance_id,
    }


def _categories(categories: Sequence[Category]) -> list[dict]:
    return [
        {"supercategory": c.supercategory, "id": c.coco_id, "name": c.name}
        for c in sorted(categories, key=lambda c: c.coco_id)
    ]


def _info() -> dict:
    return {
        "description": "Embedded world in the format of COCO 2017",
        "url": "",
        "version": "1.0",
        "year": 2017,
        "contributor": "mmneurons",
        "date_created": DATE[:10].replace("-", "/"),
    }


def _licence() -> dict:
    return {"url": "", "id": 1, "name": "Drawn by this project"}


def _write_json(path: Path, content: dict) -> None:
    partial = path.with_suffix(".json.partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    os.replace(partial, path)


def _rename_directory(partial: Path, final: Path) -> None:
    if final.exists():
        shutil.rmtree(final)
    os.replace(partial, final)
