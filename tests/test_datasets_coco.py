"""The COCO reader and the picture reader, on hand-made files with the quirks of the real ones."""

import io
import json
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFile

import mmneurons
from mmneurons.datasets import coco
from mmneurons.datasets.coco import assign_roles, category_names, object_samples
from mmneurons.datasets.pictures import UndecodablePicture, read_picture

SPLIT = "val2017"
CAR, HYDRANT, BANANA, TOOTHBRUSH = 3, 11, 52, 90
CATEGORIES = [
    {"id": BANANA, "name": "banana", "supercategory": "food"},
    {"id": CAR, "name": "car", "supercategory": "vehicle"},
    {"id": HYDRANT, "name": "fire hydrant", "supercategory": "outdoor"},
    {"id": TOOTHBRUSH, "name": "toothbrush", "supercategory": "indoor"},
]
TEXTURE = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)


class Miniature:
    """A COCO root of pictures 100 wide and 80 high (unless said otherwise), written by hand."""

    def __init__(self, root: Path) -> None:
        self.root, self.images, self.annotations = root, [], []
        (root / "annotations").mkdir(parents=True)
        (root / SPLIT).mkdir()

    def add(self, image_id, *objects, size=(100, 80), picture=None):
        """Add a picture with `objects` (category id, box[, iscrowd]); `picture` are file bytes."""
        name = f"{image_id:012d}.jpg"
        self.images.append({"id": image_id, "file_name": name, "width": size[0], "height": size[1]})
        for category, box, *crowd in objects:
            x, y, w, h = box
            outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            runs = {"size": [size[1], size[0]], "counts": [0, size[0] * size[1]]}
            self.annotations.append(
                {
                    "id": 1000 + len(self.annotations),
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": list(box),
                    "area": w * h,
                    "iscrowd": int(bool(crowd)),
                    "segmentation": runs if crowd else outline,
                }
            )
        if picture:
            (self.root / SPLIT / name).write_bytes(picture)
        return self

    def write(self):
        """Write the annotations and return the root."""
        content = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": CATEGORIES,
        }
        path = self.root / "annotations" / f"instances_{SPLIT}.json"
        path.write_text(json.dumps(content))
        return self.root


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated(size):
    """Return a JPEG stored as `size` that its EXIF entry turns by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", size), exif=exif)


@pytest.fixture
def miniature(tmp_path):
    return Miniature(tmp_path / "coco")


def reasons(exclusions):
    return dict(zip(exclusions["sample_id"], exclusions["reason"], strict=True))


# ------------------------------------------------------------------------------------- the reader


def test_category_names_are_in_the_order_of_their_ids(miniature):
    names = category_names(miniature.write(), SPLIT)
    assert list(names.items()) == [
        ("car", "vehicle"),
        ("fire hydrant", "outdoor"),
        ("banana", "food"),
        ("toothbrush", "indoor"),
    ]


def test_a_changed_annotation_file_is_read_anew(miniature):
    root = miniature.add(1, (CAR, (0, 0, 50, 40))).write()
    assert len(object_samples(root, SPLIT, ["car"], 5, seed=0)[0]) == 1
    miniature.add(2, (CAR, (0, 0, 50, 40))).write()
    assert len(object_samples(root, SPLIT, ["car"], 5, seed=0)[0]) == 2


def test_a_sample_has_all_instances_and_the_other_categories(miniature):
    miniature.add(
        139,
        (HYDRANT, (10.5, 20.25, 30, 40)),
        (CAR, (60, 0, 40, 20)),
        (HYDRANT, (50, 50, 10, 10)),
        (BANANA, (0, 70, 5, 5)),
        (CAR, (0, 0, 100, 10), "crowd"),
    )
    samples, exclusions = object_samples(miniature.write(), SPLIT, ["fire hydrant"], 1, seed=0)
    assert exclusions.empty
    assert samples.to_dict("records") == [
        {
            "sample_id": "000000000139-fire_hydrant",
            "image_id": 139,
            "file": "val2017/000000000139.jpg",
            "width": 100,
            "height": 80,
            "group": "fire hydrant",
            "supercategory": "outdoor",
            "boxes": [[10.5, 20.25, 30.0, 40.0], [50.0, 50.0, 10.0, 10.0]],
            "other_groups": ["banana", "car"],
            "covered": 0.0,
            "role": "evaluation",
            "order": 0,
        }
    ]


def test_a_picture_serves_every_group_in_it_and_none_without_annotations(miniature):
    miniature.add(1, (CAR, (0, 0, 50, 40)), (BANANA, (50, 40, 50, 40))).add(2)
    samples, _ = object_samples(miniature.write(), SPLIT, ["car", "banana"], 3, seed=0)
    assert samples[["image_id", "group", "order"]].values.tolist() == [
        [1, "car", 0],
        [1, "banana", 0],
    ]


def test_a_repeated_group_is_one_group(miniature):
    miniature.add(1, (CAR, (0, 0, 50, 40)))
    samples, _ = object_samples(miniature.write(), SPLIT, ["car", "car"], 1, seed=0)
    assert len(samples) == 1


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ([(CAR, (0, 0, 50, 40)), (CAR, (50, 0, 50, 40), "crowd")], "crowd"),
        ([(CAR, (0, 0, 50, 40)), (CAR, (60, 60, 0, 10))], "empty-box"),
        ([(CAR, (100, 10, 20, 20))], "empty-box"),  # touches the right edge from outside
        ([(CAR, (90, 70, 1000, 1000))], "small-target"),  # 10 x 10 of 8000 pixels lie inside
        ([(CAR, (10, 10, 15, 10))], "small-target"),
        ([(CAR, (0, 0, 100, 65))], "large-target"),
        ([(CAR, (0, 0, 50, 40)), (BANANA, (20, 0, 40, 40))], "covers-other"),  # 30 of 40 columns
    ],
)
def test_pictures_that_do_not_serve_are_listed_with_the_reason(miniature, objects, reason):
    samples, exclusions = object_samples(
        miniature.add(7, *objects).write(), SPLIT, ["car"], 1, seed=0
    )
    assert samples.empty
    assert exclusions.values.tolist()[0][:4] == ["prepare", "000000000007-car", "car", reason]
    assert exclusions.values.tolist()[1] == [
        "prepare",
        "",
        "car",
        "too-few-pictures",
        "wanted 1, found 0 among 1 pictures",
    ]


@pytest.mark.parametrize(
    "objects",
    [
        [(CAR, (10, 10, 16, 10))],  # 160 of 8000 pixels: exactly 0.02
        [(CAR, (0, 0, 100, 64))],  # exactly 0.8
        [(CAR, (0, 0, 50, 40)), (BANANA, (30, 0, 40, 40))],  # exactly half of the banana
        [(CAR, (0, 0, 50, 40)), (BANANA, (60, 60, 0, 0))],  # the other one's box is empty
        [(CAR, (10, 10, 10, 10)), (CAR, (40, 10, 10, 10))],  # 0.0125 each, 0.025 together
    ],
)
def test_pictures_at_the_limits_serve(miniature, objects):
    samples, exclusions = object_samples(
        miniature.add(7, *objects).write(), SPLIT, ["car"], 1, seed=0
    )
    assert len(samples) == 1 and exclusions.empty
    assert samples["covered"].between(0, 0.5).all()


def test_overlapping_boxes_count_once(miniature):
    # The two cars share columns 30..39; their union covers columns 10..59 of the banana's 0..99,
    # their sum would cover 60 %.
    miniature.add(1, (CAR, (10, 0, 30, 40)), (CAR, (30, 0, 30, 40)), (BANANA, (0, 0, 100, 40)))
    samples, _ = object_samples(miniature.write(), SPLIT, ["car"], 1, seed=0)
    assert samples["covered"].tolist() == [0.5]


def test_covered_is_the_largest_share_over_the_other_objects(miniature):
    miniature.add(1, (CAR, (0, 0, 50, 40)), (BANANA, (40, 0, 40, 40)), (HYDRANT, (45, 0, 50, 40)))
    samples, _ = object_samples(miniature.write(), SPLIT, ["car"], 1, seed=0)
    assert samples["covered"].tolist() == [0.25]


def many_pictures(root, car_ids, banana_ids):
    miniature = Miniature(root)
    for image_id in sorted({*car_ids, *banana_ids}):
        car = [(CAR, (0, 0, 40, 40))] if image_id in car_ids else []
        banana = [(BANANA, (50, 40, 40, 40))] if image_id in banana_ids else []
        miniature.add(image_id, *car, *banana)
    return miniature.write()


def order_of(root, groups, per_group, seed=0, group="car"):
    samples, _ = object_samples(root, SPLIT, groups, per_group, seed)
    chosen = samples[samples["group"] == group]
    assert chosen["order"].tolist() == list(range(len(chosen)))
    return chosen["image_id"].tolist()


def test_the_order_hangs_on_seed_group_and_picture_only(tmp_path):
    cars = range(1, 31)
    root = many_pictures(tmp_path / "a", cars, range(1, 31))
    order = order_of(root, ["car"], 30)
    assert sorted(order) == list(cars) and order != list(cars)
    assert order_of(root, ["car"], 7) == order[:7]
    assert order_of(root, ["banana", "car"], 30) == order
    assert order_of(root, ["car"], 30, seed=1) != order
    assert order_of(root, ["banana"], 30, group="banana") != order

    more = many_pictures(tmp_path / "b", range(1, 41), range(20, 61))
    assert [image for image in order_of(more, ["car"], 40) if image in cars] == order


def test_too_few_pictures_are_told_with_counts(tmp_path):
    root = many_pictures(tmp_path / "a", [1, 2], [])
    samples, exclusions = object_samples(root, SPLIT, ["car", "toothbrush"], 3, seed=0)
    assert sorted(samples["image_id"]) == [1, 2]
    assert exclusions[["group", "reason", "detail"]].values.tolist() == [
        ["car", "too-few-pictures", "wanted 3, found 2 among 2 pictures"],
        ["toothbrush", "too-few-pictures", "wanted 3, found 0 among 0 pictures"],
    ]


def test_tables_keep_their_columns_and_types_when_empty(miniature):
    samples, exclusions = object_samples(miniature.write(), SPLIT, ["toothbrush"], 1, seed=0)
    assert samples.empty
    assert samples.dtypes.astype(str).to_dict() == coco.SAMPLE_COLUMNS
    assert list(exclusions) == ["stage", "sample_id", "group", "reason", "detail"]
    assert assign_roles(samples, 1).dtypes.astype(str).to_dict() == coco.SAMPLE_COLUMNS


def test_samples_survive_parquet(miniature, tmp_path):
    miniature.add(1, (CAR, (0, 0, 50, 40)), (BANANA, (60, 40, 20, 20)))
    samples, _ = object_samples(miniature.write(), SPLIT, ["car"], 1, seed=0)
    samples.to_parquet(tmp_path / "samples.parquet")
    back = pd.read_parquet(tmp_path / "samples.parquet")
    assert [box.tolist() for box in back["boxes"][0]] == [[0, 0, 50, 40]]
    assert back["other_groups"][0].tolist() == ["banana"]


# ------------------------------------------------------------------------ checking of the pictures


def test_only_chosen_pictures_are_checked_and_the_next_takes_the_place(tmp_path):
    miniature = Miniature(tmp_path / "coco")
    good = encoded(Image.fromarray(TEXTURE))
    car = (CAR, (0, 0, 50, 40))
    for image_id in range(1, 9):
        miniature.add(image_id, car)
    root = miniature.write()
    order = order_of(root, ["car"], 8)
    contents = {
        order[0]: good[: len(good) // 2],
        order[1]: good,
        order[2]: None,  # the file is missing
        order[3]: encoded(Image.fromarray(TEXTURE[..., 0])),  # grayscale
        order[4]: rotated((100, 80)),  # shows 80 x 100, the annotations say 100 x 80
        order[5]: rotated((80, 100)),  # shows 100 x 80
    }
    for image_id, content in contents.items():
        if content:
            (root / SPLIT / f"{image_id:012d}.jpg").write_bytes(content)

    samples, exclusions = object_samples(root, SPLIT, ["car"], 3, seed=0, check=True)
    assert samples["image_id"].tolist() == [order[1], order[3], order[5]]
    assert samples["order"].tolist() == [0, 1, 2]
    assert reasons(exclusions) == {
        f"{order[0]:012d}-car": "undecodable-picture",
        f"{order[2]:012d}-car": "undecodable-picture",
        f"{order[4]:012d}-car": "size-mismatch",
    }
    details = exclusions["detail"].tolist()
    assert "truncated" in details[0]
    assert details[1:] == [
        "no such file",
        "the picture has 80x100 pixels, the annotations 100x80",
    ]


def test_without_check_no_picture_is_opened(miniature, monkeypatch):
    def opened(*_):
        raise AssertionError("a picture was opened")

    monkeypatch.setattr(coco, "read_picture", opened)
    root = miniature.add(1, (CAR, (0, 0, 50, 40))).write()
    assert len(object_samples(root, SPLIT, ["car"], 1, seed=0)[0]) == 1
    with pytest.raises(AssertionError, match="opened"):
        object_samples(root, SPLIT, ["car"], 1, seed=0, check=True)


# -------------------------------------------------------------------------------------- bad input


def test_unknown_groups_are_named_with_the_nearest_spelling(miniature):
    with pytest.raises(ValueError) as error:
        object_samples(miniature.write(), SPLIT, ["car", "fire_hydrant", "Bananna"], 1, seed=0)
    assert '"fire_hydrant" (nearest: "fire hydrant")' in str(error.value)
    assert '"Bananna" (nearest: "banana")' in str(error.value)
    assert '"car"' not in str(error.value)


@pytest.mark.parametrize(
    ("groups", "per_group", "options", "message"),
    [
        ([], 1, {}, "no object category"),
        (["car"], 0, {}, "per_group"),
        (["car"], 1, {"min_area": 0.9}, "min_area"),
        (["car"], 1, {"max_area": 1.1}, "max_area"),
        (["car"], 1, {"max_covered": -0.1}, "max_covered"),
    ],
)
def test_values_out_of_range_are_refused(miniature, groups, per_group, options, message):
    with pytest.raises(ValueError, match=message):
        object_samples(miniature.write(), SPLIT, groups, per_group, 0, **options)


def test_missing_files_name_the_address_of_the_download(miniature):
    with pytest.raises(FileNotFoundError, match="instances_val2017.json.*annotations_trainval2017"):
        category_names(miniature.root, SPLIT)
    (miniature.write() / SPLIT).rmdir()
    with pytest.raises(FileNotFoundError, match="zips/val2017.zip"):
        object_samples(miniature.root, SPLIT, ["car"], 1, seed=0, check=True)


@pytest.mark.parametrize("text", ['{"images": [', "[]", "{}", '{"annotations": [{"id": 1}]}'])
def test_other_files_than_coco_instances_are_named(miniature, text):
    path = miniature.write() / "annotations" / f"instances_{SPLIT}.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="instances_val2017.json is not a file of COCO instances"):
        category_names(miniature.root, SPLIT)


def test_the_reader_is_silent(miniature, capsys):
    category_names(miniature.write(), SPLIT)
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------------------- roles


def test_the_last_of_each_group_are_for_calibration():
    samples = pd.DataFrame(
        {"group": ["car", "car", "banana", "car", "banana"], "order": [2, 0, 0, 1, 1]},
        index=[9, 8, 7, 6, 5],
    )
    roles = assign_roles(samples, 1)
    assert roles["role"].tolist() == [
        "calibration",
        "evaluation",
        "evaluation",
        "evaluation",
        "calibration",
    ]
    assert "role" not in samples
    assert set(assign_roles(samples, 0)["role"]) == {"evaluation"}
    assert assign_roles(samples, 2)["role"].tolist().count("evaluation") == 1
    with pytest.raises(ValueError, match="negative"):
        assign_roles(samples, -1)


# ---------------------------------------------------------------------------------------- pictures


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("image", "kind", "options", "pixel"),
    [
        (Image.new("L", (2, 2), 70), "PNG", {}, (70, 70, 70)),
        (Image.new("1", (2, 2), 1), "PNG", {}, (255, 255, 255)),
        # 128 of 256 steps of 16-bit gray: 32896 = 128 * 257
        (Image.fromarray(np.full((2, 2), 32896, np.uint16)), "PNG", {}, (128, 128, 128)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), "PNG", {}, (255, 255, 255)),
        # 51/255 = 0.2 black on white: 0.8 * 255
        (Image.new("RGBA", (2, 2), (0, 0, 0, 51)), "PNG", {}, (204, 204, 204)),
        (Image.new("LA", (2, 2), (0, 51)), "PNG", {}, (204, 204, 204)),
        (Image.new("RGB", (2, 2), (9, 8, 7)), "PNG", {"transparency": (9, 8, 7)}, (255,) * 3),
        (Image.new("CMYK", (2, 2), (255, 0, 255, 0)), "TIFF", {}, (0, 255, 0)),
    ],
)
def test_every_kind_of_picture_becomes_rgb(tmp_path, image, kind, options, pixel):
    picture = read_picture(write(tmp_path / "x.jpg", encoded(image, kind, **options)))
    assert (picture.mode, picture.size, picture.info) == ("RGB", (2, 2), {})
    assert picture.getpixel((1, 1)) == pixel


def test_a_palette_with_a_transparent_entry_lies_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    picture = read_picture(write(tmp_path / "x.png", encoded(image, "PNG", transparency=0)))
    assert [picture.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 100, 50)]


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path):
    image = Image.new("CMYK", (16, 16), (255, 0, 255, 0))
    red, green, blue = read_picture(write(tmp_path / "x.jpg", encoded(image))).getpixel((8, 8))
    assert red < 10 and green > 245 and blue < 10


def test_the_exif_orientation_is_applied(tmp_path):
    # Orientation 6: the first stored row is the right column of the shown picture.
    stored = np.zeros((32, 48, 3), dtype=np.uint8)
    stored[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write(tmp_path / "x.jpg", encoded(Image.fromarray(stored), quality=95, exif=exif))
    shown = read_picture(path)
    assert shown.size == (32, 48)
    assert np.asarray(shown)[:, 20:].min() > 200 and np.asarray(shown)[:, :12].max() < 55


@pytest.mark.parametrize("switched_on", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("BMP", {})],
)
def test_a_cut_file_is_refused_or_whole(tmp_path, monkeypatch, kind, options, switched_on):
    """Also where some other library has told Pillow to fill truncated pictures with gray."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", switched_on)
    content = encoded(Image.fromarray(TEXTURE), kind, **options)
    path = tmp_path / "x.jpg"
    whole = np.asarray(read_picture(write(path, content)))
    refused = 0
    for length in np.linspace(1, len(content) - 1, 25, dtype=int):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, of cut EXIF entries
            try:
                picture = read_picture(write(path, content[:length]))
            except UndecodablePicture:
                refused += 1
            else:
                assert np.array_equal(np.asarray(picture), whole)
    assert refused >= 24  # at most the cut of the last byte leaves every pixel whole
    assert ImageFile.LOAD_TRUNCATED_IMAGES is switched_on


def png_of_size(width, height):
    """Return a PNG that claims to have width x height pixels and holds almost none."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<html>404 Not Found</html>", "not a picture"),
        (png_of_size(10_000, 10_000), "decompression bomb"),  # Pillow only warns of this one
        (png_of_size(60_000, 60_000), "decompression bomb"),
        (encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "no 8-bit range"),
    ],
)
def test_what_cannot_be_decoded_is_named_with_the_reason(tmp_path, content, reason):
    path = write(tmp_path / "x.jpg", content)
    with pytest.raises(UndecodablePicture) as error:
        read_picture(path)
    assert error.value.path == str(path)
    assert reason in error.value.reason and "\n" not in error.value.reason
    assert str(error.value) == f"{path}: {error.value.reason}"


@pytest.mark.parametrize("name", ["missing.jpg", ""])
def test_no_file_is_undecodable_too(tmp_path, name):
    with pytest.raises(UndecodablePicture, match="no such file"):
        read_picture(tmp_path / name)


def test_the_reader_does_not_import_torch():
    scripts = Path(mmneurons.__file__).parents[1]
    code = "import sys, mmneurons.datasets.coco; sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": str(scripts)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
