"""The SBU reader on hand-made lists and pictures with the troubles of the real ones."""

import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mmneurons.datasets import sbu
from mmneurons.datasets.sbu import entry_order, picture_id, sbu_pictures


def texture(seed, size=(48, 40)):
    """A picture unlike any other: coarse noise, so that JPEG keeps it."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def make(root, entries, pictures):
    """A list of `entries` and, for each index in `pictures`, an image or the bytes of a file."""
    (root / "images").mkdir(parents=True)
    content = {
        "image_urls": [f"http://static.flickr.com/{i}.jpg" for i in range(entries)],
        "user_ids": ["x"] * entries,
        "captions": [f"caption {i}" for i in range(entries)],
    }
    (root / "sbu-captions-all.json").write_text(json.dumps(content))
    for index, picture in pictures.items():
        path = root / "images" / f"{index:09d}.jpg"
        if isinstance(picture, bytes):
            path.write_bytes(picture)
        else:
            picture.save(path, quality=90)
    return root


def reasons(exclusions):
    return dict(zip(exclusions["sample_id"], exclusions["reason"], strict=True))


def test_pictures_come_in_the_seeded_order_and_a_larger_choice_appends(tmp_path):
    root = make(tmp_path, 12, {i: texture(i) for i in range(12)})
    pictures, exclusions = sbu_pictures(root, 12, seed=3)
    assert exclusions.empty
    assert sorted(pictures["picture_id"]) == [f"{i:09d}" for i in range(12)]
    assert pictures["order"].tolist() == list(range(12))
    indices = pictures["picture_id"].astype(int).tolist()
    assert indices == entry_order(12, seed=3).tolist() != sorted(indices)
    first = pictures.iloc[0]
    assert first["file"] == f"images/{first['picture_id']}.jpg"
    assert first["caption"] == f"caption {indices[0]}"

    fewer, _ = sbu_pictures(root, 5, seed=3)
    assert fewer.equals(pictures.head(5))
    other, _ = sbu_pictures(root, 5, seed=4)
    assert other["picture_id"].tolist() != fewer["picture_id"].tolist()


def test_dead_broken_and_empty_pictures_are_passed_over(tmp_path):
    order = entry_order(10, seed=0).tolist()
    good = [texture(i) for i in range(10)]
    white_with_text = Image.new("RGB", (50, 40), "white")
    white_with_text.paste("black", (10, 10, 20, 20))  # 5 % of the pixels
    pictures = {
        # order[0] has no file
        order[1]: good[1],
        order[2]: b"<html>This photo is no longer available</html>",
        order[3]: b"",
        order[4]: white_with_text,
        order[5]: good[5],
        order[6]: good[6],
    }
    table, exclusions = sbu_pictures(make(tmp_path, 10, pictures), 2, seed=0)
    assert table["picture_id"].tolist() == [picture_id(order[1]), picture_id(order[5])]
    assert reasons(exclusions) == {
        picture_id(order[0]): "no-picture",
        picture_id(order[2]): "undecodable-picture",
        picture_id(order[3]): "undecodable-picture",
        picture_id(order[4]): "placeholder",
    }
    assert "of one colour" in exclusions["detail"].tolist()[-1]
    assert set(exclusions["stage"]) == {"prepare"} and set(exclusions["group"]) == {""}


@pytest.mark.parametrize("share", [0.85, 0.95])
def test_a_picture_with_nine_tenths_in_one_colour_is_a_placeholder(tmp_path, share):
    picture = Image.new("RGB", (100, 100), (120, 130, 140))
    picture.paste((250, 20, 20), (0, 0, 100, round(100 * (1 - share))))
    table, _ = sbu_pictures(make(tmp_path / "sbu", 1, {0: picture}), 1)
    assert len(table) == (share < 0.9)


def test_one_picture_under_several_entries_is_a_placeholder_everywhere(tmp_path):
    order = entry_order(8, seed=0).tolist()
    pictures = {index: texture(index) for index in order}
    gone = texture(99).filter(ImageFilter.GaussianBlur(4))
    for place in (0, 2, 5):
        pictures[order[place]] = gone
    root = make(tmp_path, 8, pictures)
    gone.save(root / "images" / f"{order[5]:09d}.jpg", quality=60)  # another compression
    table, exclusions = sbu_pictures(root, 5, seed=0)
    kept = [order[place] for place in (1, 3, 4, 6, 7)]
    assert table["picture_id"].tolist() == [picture_id(index) for index in kept]
    assert table["order"].tolist() == [0, 1, 2, 3, 4]
    placeholders = {picture_id(order[place]): "placeholder" for place in (0, 2, 5)}
    assert reasons(exclusions) == placeholders
    assert exclusions["detail"].str.startswith("the same picture as").all()


def test_pictures_that_differ_in_one_place_are_different(tmp_path):
    one = texture(1, (64, 64))
    other = one.copy()
    other.paste((255, 255, 255), (20, 20, 28, 28))  # 1.6 % of the pixels
    table, exclusions = sbu_pictures(make(tmp_path, 2, {0: one, 1: other}), 2)
    assert len(table) == 2 and exclusions.empty


def test_too_few_pictures_are_told_with_counts(tmp_path):
    table, exclusions = sbu_pictures(make(tmp_path, 3, {1: texture(1)}), 2)
    assert table["picture_id"].tolist() == ["000000001"]
    assert exclusions[["sample_id", "reason", "detail"]].values.tolist()[-1] == [
        "",
        "too-few-pictures",
        "wanted 2, found 1 among 3 entries",
    ]


def test_a_list_without_any_picture_gives_empty_tables_of_the_right_types(tmp_path):
    root = make(tmp_path, 2, {})
    (root / "images").rmdir()
    table, exclusions = sbu_pictures(root, 1)
    assert table.empty and table.dtypes.astype(str).to_dict() == sbu.PICTURE_COLUMNS
    assert sorted(exclusions["reason"]) == ["no-picture", "no-picture", "too-few-pictures"]


# ---------------------------------------------------------------------- the released code's choice


def test_the_released_choice_permutes_the_first_that_exist(tmp_path, monkeypatch):
    monkeypatch.setattr(sbu, "RELEASED_POOL", 4)
    monkeypatch.setattr(sbu, "RELEASED_TRIED", 7)
    present = [1, 2, 4, 5, 6, 8, 9]
    root = make(tmp_path, 10, {i: texture(i) for i in present})
    np.random.seed(2023)
    pool = np.array([1, 2, 4, 5])[np.random.permutation(4)]
    table, exclusions = sbu_pictures(root, 3, seed=5, variant="released")
    assert table["picture_id"].tolist() == [picture_id(i) for i in pool[:3]]
    assert table["order"].tolist() == [0, 1, 2]
    assert reasons(exclusions) == {picture_id(0): "no-picture", picture_id(3): "no-picture"}

    # Entries 8 and 9 lie behind the last one tried.
    monkeypatch.setattr(sbu, "RELEASED_POOL", 6)
    table, exclusions = sbu_pictures(root, 6, variant="released")
    assert sorted(table["picture_id"].astype(int)) == [1, 2, 4, 5, 6]
    assert exclusions["detail"].tolist()[-1] == "wanted 6, found 5 among 7 entries"


def test_the_orders_of_the_full_list():
    assert entry_order(1_000_000, variant="released").tolist() == list(range(2800))
    assert sbu.RELEASED_POOL == 1000 + 200 + 200
    order = entry_order(1000, seed=1)
    assert sorted(order) == list(range(1000)) and order.tolist() != list(range(1000))


# ------------------------------------------------------------------------------------- bad input


def test_a_missing_list_names_the_address_of_the_download(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no captions .*sbu-captions-all.tar.gz"):
        sbu_pictures(tmp_path, 1)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        "{}",
        '{"captions": [], "image_urls": []}',
        '{"captions": ["a"], "image_urls": ["b", "c"]}',
    ],
)
def test_other_files_than_the_list_are_named(tmp_path, text):
    (tmp_path / "sbu-captions-all.json").write_text(text)
    with pytest.raises(ValueError, match="sbu-captions-all.json is not SBU's list"):
        sbu_pictures(tmp_path, 1)


def test_values_out_of_range_are_refused(tmp_path):
    root = make(tmp_path, 1, {})
    with pytest.raises(ValueError, match="at least 1"):
        sbu_pictures(root, 0)
    with pytest.raises(ValueError, match='no such variant: "relased".*paper.*released'):
        sbu_pictures(root, 1, variant="relased")
