"""The three constraints of Sato & Takagi 2025 (III-A), and where the object's name begins."""

import pandas as pd
import pytest

from mmneurons.datasets.coco import sample_id
from mmneurons.datasets.validity import valid_samples

CATEGORIES = ["bear", "teddy bear", "bus", "fire hydrant", "banana", "car", "bed", "knife"]
PREFIX = "The image shows a"


def caption(picture_id, *tokens):
    """A row of captions.parquet; each token is given as its own text, its id is its length."""
    text, ends = PREFIX, []
    for token in tokens:
        text += token
        ends.append(len(text))
    ids = list(range(100, 100 + len(tokens)))
    return {"picture_id": picture_id, "caption": text, "token_ids": ids, "token_ends": ends}


def words(text):
    """Tokens of a text in which every word is one token."""
    return [f" {word}" for word in text.split()]


def one(group, original, inpainted, image_id=1):
    """A sample and its two captions; the captions are lists of tokens."""
    name = sample_id(image_id, group)
    sample = {"sample_id": name, "image_id": image_id, "group": group, "order": 0, "role": ""}
    return sample, [caption(f"{image_id:012d}", *original), caption(name, *inpainted)]


def check(group, original, inpainted, categories=CATEGORIES):
    sample, captions = one(group, original, inpainted)
    return valid_samples(pd.DataFrame([sample]), pd.DataFrame(captions), categories, 1, 0)


# ----------------------------------------------------------------------------------- constraints


def test_a_sample_that_keeps_all_three_constraints():
    original, inpainted = words("red bear and a car on grass"), words("car on grass")
    valid, exclusions = check("bear", original, inpainted)
    assert exclusions.empty
    assert exclusions.columns.tolist() == ["stage", "sample_id", "group", "reason", "detail"]
    row = valid.iloc[0]
    assert row["caption_original"] == "The image shows a red bear and a car on grass"
    assert row["caption_inpainted"] == "The image shows a car on grass"
    assert row["role"] == "evaluation"
    assert row["sample_id"] == "000000000001-bear"


@pytest.mark.parametrize(
    ("group", "original", "inpainted", "reason"),
    [
        ("bear", "car", "car", "original-does-not-name"),
        ("bear", "teddy bear", "car", "original-does-not-name"),
        ("bed", "bedroom", "car", "original-does-not-name"),
        ("bear", "bear", "bear", "inpainted-still-names"),
        ("bear", "bear", "group of bears", "inpainted-still-names"),
        ("bear", "bear and a car", "meadow", "inpainting-removes-others"),
        ("bear", "bear and a bus and a car", "car", "inpainting-removes-others"),
        ("bear", "bear and a teddy bear", "meadow", "inpainting-removes-others"),
        ("bear", "bear and a teddy bear", "teddy bear", None),
        ("bear", "bear", "teddy bear", None),
        ("bear", "bear", "car", None),  # A new object is no loss.
        ("bear", "bear and two cars", "car", None),
        ("knife", "set of knives", "car", None),
        ("teddy bear", "teddy bear", "bear", None),
        ("bear", "bear on a meadow", "beach", None),  # A meadow is no category.
    ],
)
def test_constraints(group, original, inpainted, reason):
    valid, exclusions = check(group, words(original), words(inpainted))
    if reason is None:
        assert len(valid) == 1
        assert exclusions.empty
        return
    assert len(valid) == 0
    assert exclusions["reason"].tolist() == [reason, "too-few-valid-samples"]
    assert exclusions["sample_id"].tolist() == [f"000000000001-{group.replace(' ', '_')}", ""]
    assert exclusions["stage"].tolist() == ["validity"] * 2
    assert original in exclusions["detail"][0]
    assert inpainted in exclusions["detail"][0]


# --------------------------------------------------------------------------------- target token


@pytest.mark.parametrize(
    ("group", "tokens", "index"),
    [
        # Tokens that carry the space before them, as Llama's do.
        ("bear", [" red", " bear", " on", " grass"], 1),
        ("bear", [" bear"], 0),
        # A name of several words, and words of several tokens.
        ("fire hydrant", [" red", " fire", " hydrant"], 1),
        ("fire hydrant", [" red", " f", "ire", " hyd", "r", "ant", "."], 1),
        ("banana", [" b", "an", "ana", " here"], 0),
        ("banana", [" a", " yellow", " b", "an", "ana"], 2),
        # A plural names the object, and begins where its word begins.
        ("bus", [" two", " bus", "es"], 1),
        ("knife", [" two", " kni", "ves"], 1),
        # The space as a token of its own, punctuation before the word.
        ("bear", [" red", " ", "bear"], 2),
        ("bear", [" red", ",", " ", "be", "ar"], 3),
        ("bear", [' "', "bear", '"'], 1),
        # The first of several mentions.
        ("bear", [" bear", " and", " a", " bear"], 0),
        # The shorter name inside a longer category is not a mention; the later one is.
        ("bear", [" teddy", " bear", " and", " a", " bear"], 4),
        ("bear", [" teddy", " bear", " near", " bears"], 3),
        ("teddy bear", [" bear", " and", " a", " teddy", " bear"], 3),
        # A capital.
        ("bear", [".", " Bear", " here"], 1),
    ],
)
def test_target_is_the_first_token_of_the_objects_name(group, tokens, index):
    other = {"bear": "teddy bear", "teddy bear": "bear"}.get(group, "meadow")
    valid, exclusions = check(group, tokens, words(other))
    assert exclusions.empty
    row = valid.iloc[0]
    assert row["target_index"] == index
    assert row["target_token"] == 100 + index
    assert row["prefix_tokens"] == list(range(100, 100 + index))


# ------------------------------------------------------------------------------------ roles, rows


def table(*groups, valid=()):
    """Samples of the groups, in the given order; those whose image id is in `valid` are valid."""
    samples, captions, orders = [], [], {}
    for image_id, group in enumerate(groups):
        inpainted = "meadow" if image_id in valid else group
        sample, rows = one(group, words(group), words(inpainted), image_id)
        sample["order"] = orders[group] = orders.get(group, -1) + 1
        samples.append(sample | {"role": "evaluation", "file": f"{image_id}.jpg"})
        captions += rows
    return pd.DataFrame(samples), pd.DataFrame(captions)


def test_first_by_order_evaluate_and_the_next_calibrate():
    samples, captions = table(*["car"] * 6, valid={0, 2, 3, 4, 5})
    samples = samples.sample(frac=1, random_state=1)
    valid, exclusions = valid_samples(samples, captions, CATEGORIES, 2, 2)
    assert valid["image_id"].tolist() == [0, 2, 3, 4]
    assert valid["role"].tolist() == ["evaluation"] * 2 + ["calibration"] * 2
    assert exclusions["sample_id"].tolist() == ["000000000001-car"]
    assert valid["file"].tolist() == ["0.jpg", "2.jpg", "3.jpg", "4.jpg"]


def test_no_calibration_pictures_wanted():
    samples, captions = table(*["car"] * 3, valid={0, 1, 2})
    valid, exclusions = valid_samples(samples, captions, CATEGORIES, 2, 0)
    assert valid["role"].tolist() == ["evaluation"] * 2
    assert exclusions.empty


def test_a_group_with_too_few_is_said_and_kept():
    samples, captions = table("car", "bus", "car", "bus", "bus", valid={0, 1, 3, 4})
    valid, exclusions = valid_samples(samples, captions, CATEGORIES, 2, 1)
    assert valid["image_id"].tolist() == [0, 1, 3, 4]  # groups in the table's order
    assert valid["role"].tolist() == ["evaluation", "evaluation", "evaluation", "calibration"]
    assert exclusions["reason"].tolist() == ["inpainted-still-names", "too-few-valid-samples"]
    row = exclusions.iloc[1]
    assert (row["sample_id"], row["group"]) == ("", "car")
    assert row["detail"] == "wanted 3, found 1 among 2"


def test_no_valid_sample_at_all_gives_an_empty_table_and_all_reasons():
    samples, captions = table("car", "bus")
    valid, exclusions = valid_samples(samples, captions, CATEGORIES, 1, 1)
    assert valid.empty
    assert (
        sorted(exclusions["reason"])
        == ["inpainted-still-names"] * 2 + ["too-few-valid-samples"] * 2
    )


def test_two_objects_of_one_picture_share_its_caption():
    _, captions = one("car", words("car and a bus"), words("bus"))
    name = sample_id(1, "bus")
    captions.append(caption(name, *words("car")))
    samples = pd.DataFrame(
        {
            "sample_id": [sample_id(1, "car"), name],
            "image_id": [1, 1],
            "group": ["car", "bus"],
            "order": [0, 0],
        }
    )
    valid, exclusions = valid_samples(samples, pd.DataFrame(captions), CATEGORIES, 1, 0)
    assert exclusions.empty
    assert valid["target_index"].tolist() == [0, 3]
