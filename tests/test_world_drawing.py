"""The world's drawing program: annotations fit what is drawn, and the files are COCO's."""

import contextlib
import io
import json
from itertools import combinations

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmneurons.world.coco import write_coco
from mmneurons.world.scene import category_map, draw_background, draw_scene
from mmneurons.world.shapes import SHAPES
from mmneurons.world.vocabulary import (
    ALL_CATEGORIES,
    BACKGROUNDS,
    CATEGORIES,
    COLOURS,
    HELD_OUT,
)


def scenes(n, **options):
    return [draw_scene(np.random.default_rng(seed), **options) for seed in range(n)]


def true_mask(thing, picture):
    """The silhouette as pycocotools rasterises it (height x width, bool)."""
    rle = coco_mask.frPyObjects(thing.polygons, picture.height, picture.width)
    return coco_mask.decode([coco_mask.merge(rle)])[..., 0].astype(bool)


def five_captions(scene, rng):
    words = " and ".join(f"a {o.adjective} {o.category.name}" for o in scene.objects)
    return [f"{words} {scene.background.phrase} {rng.integers(10)}"] * 5


# Words.


def test_vocabulary_is_consistent():
    names = [c.name for c in ALL_CATEGORIES]
    assert len(set(names)) == len({c.coco_id for c in ALL_CATEGORIES}) == len(names)
    assert len(CATEGORIES) >= 20 and len(HELD_OUT) >= 4
    assert len({c.supercategory for c in CATEGORIES}) >= 5
    assert set(SHAPES) == set(names)
    for category in ALL_CATEGORIES:
        assert 2 <= len(category.adjectives) <= 4
        assert set(category.adjectives) <= set(COLOURS)
    assert not [word for word in COLOURS if word[0] in "aeiou"]
    assert len({b.phrase for b in BACKGROUNDS}) == len(BACKGROUNDS) >= 8


def test_ids_are_those_of_coco():
    ids = {c.name: (c.coco_id, c.supercategory) for c in ALL_CATEGORIES}
    assert ids["car"] == (3, "vehicle")
    assert ids["fire hydrant"] == (11, "outdoor")
    assert ids["umbrella"] == (28, "accessory")
    assert ids["teddy bear"] == (88, "indoor")


# Scenes.


def test_scene_limits():
    for scene in scenes(60):
        assert 1 <= len(scene.objects) <= 3
        assert len({o.category for o in scene.objects}) == len(scene.objects)
        assert all(128 <= side <= 192 for side in scene.picture.size)
        assert all(o.adjective in o.category.adjectives for o in scene.objects)
        assert not {o.category for o in scene.objects} & set(HELD_OUT)
        centres = [o.bbox[0] + o.bbox[2] / 2 for o in scene.objects]
        assert centres == sorted(centres)
    sizes = [s.picture.size for s in scenes(60)]
    assert any(w == h for w, h in sizes) and any(w > h for w, h in sizes)
    assert {len(s.objects) for s in scenes(60)} == {1, 2, 3}


def test_boxes_lie_in_the_picture_and_apart():
    for scene in scenes(80, n_objects=3, size=(128, 160)):
        for thing in scene.objects:
            x, y, w, h = thing.bbox
            assert x >= 0 and y >= 0 and x + w <= 128 and y + h <= 160
            assert 0.2 * 128 < np.sqrt(w * h) < 0.45 * 128
        for a, b in combinations(scene.objects, 2):
            apart_x = max(a.bbox[0], b.bbox[0]) - min(a.bbox[0] + a.bbox[2], b.bbox[0] + b.bbox[2])
            apart_y = max(a.bbox[1], b.bbox[1]) - min(a.bbox[1] + a.bbox[3], b.bbox[1] + b.bbox[3])
            assert max(apart_x, apart_y) >= 1


def test_box_is_the_extent_of_the_polygons_and_of_the_mask():
    for scene in scenes(60):
        for thing in scene.objects:
            points = np.concatenate([np.reshape(p, (-1, 2)) for p in thing.polygons])
            x, y, w, h = thing.bbox
            assert np.allclose([x, y], points.min(0), atol=0.011)
            assert np.allclose([x + w, y + h], points.max(0), atol=0.011)
            rows, columns = np.nonzero(true_mask(thing, scene.picture))
            reach = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.allclose(reach, [x, y, x + w, y + h], atol=1.6)


def test_area_and_category_map_agree_with_pycocotools():
    for scene in scenes(60):
        labels = category_map(scene)
        assert labels.shape == scene.picture.size[::-1] and labels.dtype == np.uint8
        inside = np.zeros(labels.shape, bool)
        for thing in scene.objects:
            mask = true_mask(thing, scene.picture)
            inside |= mask
            assert thing.area == pytest.approx(mask.sum(), rel=0.08)
            ours = labels == 1 + ALL_CATEGORIES.index(thing.category)
            assert (ours & mask).sum() / (ours | mask).sum() > 0.9
        assert ((labels > 0) & ~inside).sum() < 0.1 * inside.sum()


@pytest.mark.parametrize("category", ALL_CATEGORIES, ids=lambda c: c.name)
def test_every_category_draws_on_every_background(category):
    """Outside box and mask the picture is the bare background, inside most of it changes."""
    for seed, background in enumerate(BACKGROUNDS):
        scene = draw_scene(np.random.default_rng(seed), (category,), 1, (128, 136), background)
        bare = draw_background(background, (128, 136), np.random.default_rng(seed))
        bare = np.asarray(bare).astype(int)
        changed = np.abs(np.asarray(scene.picture).astype(int) - bare).max(-1) > 12
        mask = true_mask(scene.objects[0], scene.picture)
        grown = mask.copy()
        for axis in (0, 1):
            grown |= np.roll(grown, 1, axis) | np.roll(grown, -1, axis)
        x, y, w, h = scene.objects[0].bbox
        rows, columns = np.nonzero(changed)
        assert np.floor(x) <= columns.min() and columns.max() < np.ceil(x + w)
        assert np.floor(y) <= rows.min() and rows.max() < np.ceil(y + h)
        # pycocotools' raster leaves out the last pixel of narrow tips.
        assert (changed & ~grown).sum() <= 5
        assert (changed & mask).sum() > 0.75 * mask.sum()


def test_categories_look_different():
    """On a grid of 24 x 24, no two categories' silhouettes coincide."""

    def outline(category):
        scene = draw_scene(np.random.default_rng(5), (category,), 1, (128, 128))
        x, y, w, h = scene.objects[0].bbox
        mask = Image.fromarray(category_map(scene)).crop((x, y, x + w, y + h))
        side = max(mask.size)
        canvas = Image.new("L", (side, side))
        canvas.paste(mask, ((side - mask.width) // 2, (side - mask.height) // 2))
        return np.asarray(canvas.resize((24, 24))) > 0

    outlines = {c.name: outline(c) for c in ALL_CATEGORIES}
    for (one, a), (other, b) in combinations(outlines.items(), 2):
        assert (a & b).sum() / (a | b).sum() < 0.93, (one, other)


def test_same_seed_same_bytes():
    one, again, other = (draw_scene(np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert one.picture.tobytes() == again.picture.tobytes()
    assert one.objects == again.objects and one.background == again.background
    assert one.picture.tobytes() != other.picture.tobytes()


def test_number_of_objects_is_checked():
    with pytest.raises(ValueError, match="one to three"):
        draw_scene(np.random.default_rng(0), n_objects=4)
    assert len(draw_scene(np.random.default_rng(0), CATEGORIES[:1]).objects) == 1


# Files.


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    write_coco(root, "train2017", 8, 3, five_captions, CATEGORIES)
    write_coco(root, "val2017", 5, 3, five_captions, CATEGORIES)
    return root


def load(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


@pytest.mark.parametrize(("split", "n"), [("train2017", 8), ("val2017", 5)])
def test_files_load_with_pycocotools(dataset, split, n):
    instances = load(dataset / "annotations" / f"instances_{split}.json")
    assert len(instances.getImgIds()) == n
    assert len(instances.getCatIds()) == len(CATEGORIES)
    for image in instances.loadImgs(instances.getImgIds()):
        assert image["file_name"] == f"{image['id']:012d}.jpg"
        with Image.open(dataset / split / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
            assert picture.format == "JPEG" and picture.mode == "RGB"
    for annotation in instances.loadAnns(instances.getAnnIds()):
        assert instances.annToMask(annotation).sum() == pytest.approx(annotation["area"], rel=0.08)
        assert annotation["iscrowd"] == 0

    captions = load(dataset / "annotations" / f"captions_{split}.json")
    for image_id in captions.getImgIds():
        sentences = [a["caption"] for a in captions.loadAnns(captions.getAnnIds([image_id]))]
        assert len(sentences) == 5
        named = instances.loadCats(
            [a["category_id"] for a in instances.loadAnns(instances.getAnnIds([image_id]))]
        )
        assert all(f" {c['name']} " in sentences[0] for c in named)


def test_files_have_the_fields_of_coco(dataset):
    instances = json.loads((dataset / "annotations" / "instances_val2017.json").read_text())
    assert set(instances) == {"info", "licenses", "images", "annotations", "categories"}
    assert set(instances["annotations"][0]) == {
        "segmentation", "area", "iscrowd", "image_id", "bbox", "category_id", "id",
    }  # fmt: skip
    assert set(instances["images"][0]) == {
        "license", "file_name", "coco_url", "height", "width", "date_captured", "flickr_url", "id",
    }  # fmt: skip
    assert set(instances["categories"][0]) == {"supercategory", "id", "name"}
    captions = json.loads((dataset / "annotations" / "captions_val2017.json").read_text())
    assert set(captions["annotations"][0]) == {"image_id", "id", "caption"}


def test_ids_are_unique_across_splits(dataset):
    for kind in ("instances", "captions"):
        both = [
            json.loads((dataset / "annotations" / f"{kind}_{split}.json").read_text())
            for split in ("train2017", "val2017")
        ]
        for field in ("images", "annotations"):
            ids = [entry["id"] for part in both for entry in part[field]]
            assert len(set(ids)) == len(ids)


def test_pictures_do_not_depend_on_their_number_and_leave_nothing_over(dataset, tmp_path):
    write_coco(tmp_path, "val2017", 3, 3, five_captions, CATEGORIES)
    write_coco(tmp_path, "val2017", 2, 3, five_captions, CATEGORIES)
    names = sorted(p.name for p in (tmp_path / "val2017").iterdir())
    assert len(names) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["annotations", "val2017"]
    assert not list(tmp_path.rglob("*.partial"))
    for name in names:
        again = (tmp_path / "val2017" / name).read_bytes()
        assert again == (dataset / "val2017" / name).read_bytes()
    train = sorted((dataset / "train2017").iterdir())[0].read_bytes()
    assert train != (tmp_path / "val2017" / names[0]).read_bytes()


def test_a_failed_writer_leaves_no_split(tmp_path):
    with pytest.raises(ValueError, match="5 captions"):
        write_coco(tmp_path, "val2017", 2, 0, lambda scene, rng: ["one"], CATEGORIES)
    assert not (tmp_path / "val2017").exists()
    assert not list((tmp_path / "annotations").iterdir())
    with pytest.raises(ValueError, match="unknown split"):
        write_coco(tmp_path, "test2017", 1, 0, five_captions, CATEGORIES)
