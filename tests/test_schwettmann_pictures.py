"""The choice of described pictures, on a COCO that the world draws."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mmneurons.datasets.coco import read_annotations
from mmneurons.datasets.coco_captions import (
    PARTS,
    SingleObjects,
    described_pictures,
)
from mmneurons.datasets.object_masks import ObjectMasks
from mmneurons.world.coco import write_coco

SPLIT = "val2017"
SINGLE = SingleObjects(categories=2, pictures=3, fewest=2, compared=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    write_coco(folder, SPLIT, 60, 1, lambda scene, rng: [f" caption {n} " for n in range(5)])
    return folder


def choose(root, pictures=10, single=SINGLE, seed=0):
    return described_pictures(root, SPLIT, pictures, single, seed)


def alone(root):
    """{picture id: category} of pictures with one object, from the file itself."""
    content = json.loads((root / f"annotations/instances_{SPLIT}.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    objects = {}
    for annotation in content["annotations"]:
        objects.setdefault(annotation["image_id"], []).append(annotation)
    return {
        f"{image_id:012d}": names[found[0]["category_id"]]
        for image_id, found in objects.items()
        if len(found) == 1
    }


def test_pictures_and_what_is_said_of_them(root):
    pictures, exclusions = choose(root)
    assert pictures["sampled"].sum() == 10 and pictures["picture_id"].is_unique
    assert pictures["references"].map(list).tolist() == [[f"caption {n}" for n in range(5)]] * len(
        pictures
    )
    for row in pictures.itertuples():
        assert Image.open(root / row.file).size == (row.width, row.height)
    single = alone(root)
    used = pictures[pictures["category"] != ""]
    assert all(single[row.picture_id] == row.category for row in used.itertuples())
    assert set(pictures.loc[~pictures["sampled"], "picture_id"]) <= set(used["picture_id"])
    most = sorted(Counter(single.values()).items(), key=lambda entry: (-entry[1], entry[0]))[:2]
    assert Counter(used["category"]) == {name: min(n, 3) for name, n in most}
    # Of the first category every other picture evaluates.
    parts = used.loc[used["category"] == most[0][0], "part"]
    assert parts.value_counts().to_dict() == Counter((PARTS * 2)[: len(parts)])
    assert (pictures.loc[pictures["category"] != most[0][0], "part"] == "").all()
    assert exclusions.empty


def test_a_larger_number_only_appends(root):
    few, many = choose(root, 5)[0], choose(root, 20)[0]
    assert few["picture_id"].tolist()[:5] == many["picture_id"].tolist()[:5]
    assert choose(root, 5, seed=1)[0]["picture_id"].tolist() != few["picture_id"].tolist()


def test_what_is_left_out_is_said(root, tmp_path):
    import shutil

    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    first, second = choose(root)[0]["file"][:2]
    (tmp_path / first).write_bytes(b"no picture")
    captions = tmp_path / f"annotations/captions_{SPLIT}.json"
    content = json.loads(captions.read_text())
    number = int(second.rpartition("/")[2].partition(".")[0])
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != number]
    captions.write_text(json.dumps(content))
    single = SingleObjects(categories=40, pictures=30, fewest=30, compared=1)
    pictures, exclusions = choose(tmp_path, 200, single)
    assert len(pictures) == 58
    reasons = exclusions.groupby("reason").size()
    assert reasons["undecodable-picture"] == reasons["no-caption"] == 1
    assert "found 58 among 60" in exclusions.loc[exclusions["group"] == "", "detail"].iloc[-1]
    assert reasons["too-few-pictures"] == 1 + len(set(alone(tmp_path).values()))
    assert (pictures["category"] == "").all()
    captions.unlink()
    with pytest.raises(FileNotFoundError, match="no captions"):
        choose(tmp_path)


def test_the_mask_is_that_of_the_polygons(root):
    name, _ = next(iter(alone(root).items()))
    coco = read_annotations(root / f"annotations/instances_{SPLIT}.json")
    (annotation,) = coco.imgToAnns[int(name)]
    mask = ObjectMasks(root / f"annotations/instances_{SPLIT}.json").mask(int(name))
    assert mask.sum() == pytest.approx(annotation["area"], rel=0.1)
    x, y, width, height = annotation["bbox"]
    rows, columns = np.nonzero(mask)
    assert x - 1 <= columns.min() and columns.max() <= x + width + 1
    assert y - 1 <= rows.min() and rows.max() <= y + height + 1
