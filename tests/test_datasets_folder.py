"""Anybody's own pictures: with annotations for objects, without them for captions."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from smoke_run import REPOSITORY

from mmneurons.config import ConfigError, check_config, merge
from mmneurons.datasets import folder
from mmneurons.datasets.coco import object_samples
from mmneurons.datasets.folder import folder_pictures, picture_id


def draw(path, seed, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def mine(tmp_path):
    root = tmp_path / "mine"
    for place, name in enumerate(
        ["Küche 1.JPG", "trip/IMG_0001.png", "trip/b/IMG_0001.png", "z.webp"]
    ):
        draw(root / name, place)
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    draw(root / ".hidden/x.png", 9)
    return root


def test_every_picture_below_the_folder_is_found(mine):
    table, exclusions = folder_pictures(mine, 4)
    assert sorted(table["file"]) == [
        "Küche 1.JPG",
        "trip/IMG_0001.png",
        "trip/b/IMG_0001.png",
        "z.webp",
    ]
    assert exclusions.empty and table["order"].tolist() == [0, 1, 2, 3]
    assert table["picture_id"].is_unique
    assert table["picture_id"].str.fullmatch(r"[a-z0-9-]+").all()


def test_names_and_order_hang_on_seed_and_path_only(mine):
    table, _ = folder_pictures(mine, 4, seed=1)
    fewer, _ = folder_pictures(mine, 2, seed=1)
    assert fewer.equals(table.head(2))
    orders = {tuple(folder_pictures(mine, 4, seed=seed)[0]["file"]) for seed in range(8)}
    assert len(orders) > 1
    draw(mine / "new.png", 50)
    more, _ = folder_pictures(mine, 5, seed=1)
    rest = more[more["file"] != "new.png"]
    assert rest["picture_id"].tolist() == table["picture_id"].tolist()
    assert picture_id("a/b.png") != picture_id("a-b.png") == picture_id("a-b.png")
    assert picture_id("Küche 1.JPG").startswith("kuche-1-")
    assert picture_id("日本.png").startswith("picture-")


def test_broken_and_repeated_pictures_are_listed(mine):
    (mine / "broken.png").write_bytes((mine / "trip/IMG_0001.png").read_bytes()[:500])
    (mine / "copy.png").write_bytes((mine / "trip/IMG_0001.png").read_bytes())
    table, exclusions = folder_pictures(mine, 9)
    assert len(table) == 4
    assert sorted(exclusions["reason"]) == [
        "repeated-picture",
        "too-few-pictures",
        "undecodable-picture",
    ]
    (detail,) = exclusions["detail"][exclusions["reason"] == "too-few-pictures"]
    assert detail == "wanted 9, found 4 among 6 files"


def test_only_pictures_that_are_taken_are_opened(mine, monkeypatch):
    for seed in range(100, 140):
        draw(mine / f"{seed}.png", seed)
    opened = []
    read = folder.read_picture
    monkeypatch.setattr(folder, "read_picture", lambda path: opened.append(path) or read(path))
    assert len(folder_pictures(mine, 3)[0]) == 3 == len(opened)


def test_no_folder_and_no_picture_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of pictures"):
        folder_pictures(tmp_path / "nowhere", 1)
    with pytest.raises(FileNotFoundError, match="no file in .* is a picture"):
        folder_pictures(tmp_path, 1)
    with pytest.raises(ValueError, match="at least 1"):
        folder_pictures(tmp_path, 0)


def annotate(root):
    names = ["Küche 1.JPG", "trip/IMG_0001.png", "trip/b/IMG_0001.png"]
    images = [{"id": n, "file_name": f, "width": 40, "height": 30} for n, f in enumerate(names)]
    boxes = [
        {
            "id": n,
            "image_id": n,
            "category_id": 1,
            "bbox": [0, 0, 20, 20],
            "area": 400,
            "iscrowd": 0,
        }
        for n in range(3)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cup"}]}
    content["categories"][0]["supercategory"] = "kitchen"
    (root / "objects.json").write_text(json.dumps(content))


def test_with_annotations_objects_are_found_in_the_same_folder(mine):
    annotate(mine)
    samples, exclusions = object_samples(
        mine, ".", ["cup"], 3, seed=0, check=True, instances="objects.json"
    )
    assert exclusions.empty
    assert sorted(samples["file"]) == ["Küche 1.JPG", "trip/IMG_0001.png", "trip/b/IMG_0001.png"]


ROW = {"reader": "folder", "label": "mine", "licence": "mine", "pictures": "withhold"}


@pytest.mark.parametrize(
    ("row", "config", "said"),
    [
        ({}, {"two_stage": {"dataset": "mine"}}, "no categories of objects"),
        (
            {"categories": "resources/categories/coco-2017.txt"},
            {"two_stage": {"dataset": "mine"}},
            "no annotations of objects",
        ),
        ({}, {"pan": {"dataset": "mine", "variant": "released"}}, "pan.variant: released"),
        ({}, {"pan": {"dataset": "vqav2-world"}}, "nor a folder"),
        ({}, {"mmneuron": {"domains": {"common": "mine"}}}, "no dataset of questions"),
    ],
)
def test_what_a_folder_cannot_be_used_for_is_said(tmp_path, row, config, said):
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(REPOSITORY / "resources", tmp_path / "resources", ignore=ignored)
    registry = tmp_path / "resources/datasets.yaml"
    rows = yaml.safe_load(registry.read_text()) | {"mine": ROW | {"root": "x"} | row}
    registry.write_text(yaml.safe_dump(rows))
    default = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    with pytest.raises(ConfigError, match=said):
        check_config(merge(default, config), tmp_path)
