"""The readers of questions, on drawn miniatures and on files with the troubles of the real ones."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from mmneurons.artifacts.tables import read_table, write_table
from mmneurons.datasets import doc_vqa, lingo_qa, pmc_vqa, questions, rsvqa, vqav2
from mmneurons.datasets.pictures import UndecodablePicture, side_by_side
from mmneurons.datasets.question_files import annotation_files
from mmneurons.datasets.questions import (
    QUESTION_COLUMNS,
    choose_questions,
    question_order,
    read_question_picture,
)
from mmneurons.world import doc_vqa as world_doc_vqa
from mmneurons.world import lingo_qa as world_lingo_qa
from mmneurons.world import pmc_vqa as world_pmc_vqa
from mmneurons.world import rsvqa as world_rsvqa
from mmneurons.world import vqav2 as world_vqav2

DATASETS = {
    "vqav2": (vqav2, world_vqav2.write_vqav2, "vqa"),
    "pmc_vqa": (pmc_vqa, world_pmc_vqa.write_pmc_vqa, "multiple_choice"),
    "doc_vqa": (doc_vqa, world_doc_vqa.write_doc_vqa, "anls"),
    "lingo_qa": (lingo_qa, world_lingo_qa.write_lingo_qa, "lingo_judge"),
    "rsvqa": (rsvqa, world_rsvqa.write_rsvqa, "exact"),
}
REPOSITORY = Path(__file__).parents[1]
REGISTRY = yaml.safe_load((REPOSITORY / "resources/datasets.yaml").read_text())
SPLITS = {row["reader"]: row["splits"] for row in REGISTRY.values() if "splits" in row}
PICTURES = 6


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn")
    for name, (_, write, _) in DATASETS.items():
        write(root / name, PICTURES, 3)
    return root


def choose(name, root, pictures, identify=1, evaluate=1, seed=0, splits=None):
    reader = DATASETS[name][0]
    splits = splits or SPLITS[name]
    return choose_questions(reader.read, root, splits, "d", identify, evaluate, seed, pictures)


def picture(seed=0, size=(8, 6), mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def save(path, image):
    """An image, or the bytes of a file that is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image) if isinstance(image, bytes) else image.save(path)


def reasons(exclusions):
    told = zip(exclusions["sample_id"], exclusions["reason"], strict=True)
    return {name.removeprefix("d-"): reason for name, reason in told}


def detail(exclusions, name):
    (found,) = exclusions["detail"][exclusions["sample_id"] == (name and f"d-{name}")]
    return found


# ------------------------------------------------------------------------------- every dataset


@pytest.mark.parametrize("name", DATASETS)
def test_drawn_questions_are_chosen_by_the_seed(name, drawn, tmp_path):
    # In a domain with several questions a picture there are more than pictures.
    wanted = (8, 7) if name == "lingo_qa" else (5, 4)
    table, exclusions = choose(name, drawn / name, tmp_path / "a", *wanted, seed=1)
    assert exclusions.empty and len(table) == sum(wanted)
    for part, number in zip(("identify", "evaluate"), wanted, strict=True):
        own = table[table["part"] == part]
        assert own["order"].tolist() == list(range(number))
        assert set(own["split"]) == {SPLITS[name][part]}
    assert table["sample_id"].is_unique
    assert (table["sample_id"] == "d-" + table["source_id"]).all()
    assert set(table["group"]) == {"d"} and set(table["metric"]) == {DATASETS[name][2]}
    first_files = table["files"].map(lambda files: files[0])
    assert first_files.is_unique == (name != "lingo_qa")
    assert set(table["files"].map(len)) == {5 if name == "lingo_qa" else 1}
    root = tmp_path / "a" if name == "doc_vqa" else drawn / name
    for row in table.to_dict("records"):
        shown = read_question_picture(root, row["files"])
        assert shown.size == (row["width"], row["height"])
        assert len(row["confidence"]) == len(row["answers"])
        assert row["answer"] in row["answers"]

    fewer, _ = choose(name, drawn / name, tmp_path / "b", 2, 3, seed=1)
    for part, number in (("identify", 2), ("evaluate", 3)):
        own = table[table["part"] == part].head(number).reset_index(drop=True)
        assert fewer[fewer["part"] == part].reset_index(drop=True).equals(own)
    other, _ = choose(name, drawn / name, tmp_path / "c", *wanted, seed=2)
    assert other["source_id"].tolist() != table["source_id"].tolist()


@pytest.mark.parametrize("name", DATASETS)
def test_the_table_is_written_with_its_types_and_read_back(name, drawn, tmp_path):
    table, exclusions = choose(name, drawn / name, tmp_path / "pictures", 3, 99)
    assert reasons(exclusions) == {"": "too-few-questions"}
    assert (
        table.dtypes.to_dict()
        == pd.Series(QUESTION_COLUMNS).map(pd.api.types.pandas_dtype).to_dict()
    )
    write_table(table, tmp_path / "table.parquet")
    schema = pq.read_schema(tmp_path / "table.parquet")
    for column in ("files", "options", "answers", "confidence"):
        assert pa.types.is_string(schema.field(column).type.value_type)
    again = read_table(tmp_path / "table.parquet").astype(QUESTION_COLUMNS)
    assert again.equals(table)
    empty = table.head(0)
    assert empty.astype(QUESTION_COLUMNS).dtypes.equals(table.dtypes)


@pytest.mark.parametrize("name", DATASETS)
def test_annotation_files_are_those_of_the_drawn_dataset(name, drawn):
    for split in SPLITS[name].values():
        files = annotation_files(name, drawn / name, split)
        assert files and all(Path(file).is_file() for file in files)
    # Before it is drawn the same names are asked for.
    nowhere = drawn / "nothing" / name
    split = SPLITS[name]["identify"]
    asked = [Path(file).relative_to(nowhere) for file in annotation_files(name, nowhere, split)]
    there = annotation_files(name, drawn / name, split)
    assert asked == [Path(file).relative_to(drawn / name) for file in there]


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_annotation_file_is_named_with_its_source(name, drawn, tmp_path):
    for file in annotation_files(name, drawn / name, SPLITS[name]["identify"]):
        path = tmp_path / Path(file).relative_to(drawn / name)
        with pytest.raises(FileNotFoundError) as error:
            choose(name, tmp_path, tmp_path / "pictures")
        assert str(path) in str(error.value) and DATASETS[name][0].SOURCE in str(error.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path(file).read_bytes())


@pytest.mark.parametrize("name", DATASETS)
def test_a_broken_annotation_file_is_named_with_its_source(name, drawn, tmp_path):
    files = annotation_files(name, drawn / name, SPLITS[name]["identify"])
    for broken in files:
        for file in files:
            path = tmp_path / Path(file).relative_to(drawn / name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(Path(file).read_bytes())
        path = tmp_path / Path(broken).relative_to(drawn / name)
        for content in (b"", b"[", b'{"a": [1]}', b"\x00\xff"):
            path.write_bytes(content)
            with pytest.raises(ValueError) as error:
                choose(name, tmp_path, tmp_path / "pictures")
            assert str(path) in str(error.value) and DATASETS[name][0].SOURCE in str(error.value)


@pytest.mark.parametrize("name", sorted(DATASETS.keys() - {"doc_vqa"}))
def test_a_missing_folder_of_pictures_is_no_list_of_exclusions(name, drawn, tmp_path):
    for file in annotation_files(name, drawn / name, SPLITS[name]["identify"]):
        path = tmp_path / Path(file).relative_to(drawn / name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path(file).read_bytes())
    with pytest.raises(FileNotFoundError, match="no folder of pictures .*https://"):
        choose(name, tmp_path, tmp_path / "pictures")


def test_numbers_out_of_range_are_refused(drawn, tmp_path):
    with pytest.raises(ValueError, match="identify: must be at least 1, not 0"):
        choose("rsvqa", drawn / "rsvqa", tmp_path, 0, 1)
    with pytest.raises(ValueError, match="evaluate: must be at least 1, not -1"):
        choose("rsvqa", drawn / "rsvqa", tmp_path, 1, -1)


def test_the_order_hangs_on_seed_split_and_name_only():
    ids = [str(number) for number in range(50)]
    order = question_order(ids, 7, "train")
    assert sorted(order) == list(range(50)) and order != list(range(50))
    assert question_order(ids, 8, "train") != order != question_order(ids, 7, "val")
    more = [*ids[:20], "new", *ids[20:]]
    named = [more[place] for place in question_order(more, 7, "train")]
    assert [name for name in named if name != "new"] == [ids[place] for place in order]


# --------------------------------------------------------------------- pictures that are shown


def test_frames_stand_in_a_row_at_the_height_of_the_first(tmp_path):
    frames = [picture(1, (10, 6)), picture(2, (8, 6)), picture(3, (10, 12))]
    strip = np.asarray(side_by_side(frames))
    assert strip.shape == (6, 10 + 8 + 5, 3)
    assert (strip[:, :10] == np.asarray(frames[0])).all()
    assert (strip[:, 10:18] == np.asarray(frames[1])).all()
    assert (strip[:, 18:] == np.asarray(frames[2].resize((5, 6), Image.Resampling.BICUBIC))).all()

    for number, frame in enumerate(frames):
        save(tmp_path / f"{number}.png", frame)
    shown = read_question_picture(tmp_path, ["0.png", "1.png", "2.png"])
    assert (np.asarray(shown) == strip).all()
    alone = read_question_picture(tmp_path, ["2.png"])
    assert (np.asarray(alone) == np.asarray(frames[2])).all()
    with pytest.raises(UndecodablePicture, match="7.png"):
        read_question_picture(tmp_path, ["0.png", "7.png"])


# ---------------------------------------------------------------------------------------- VQAv2


def make_vqav2(root, rows, pictures, splits=("train2014", "val2014")):
    """rows: (question_id, image_id, question, [(answer, confidence), ...] or None)."""
    for split in splits:
        asked = [{"question_id": q, "image_id": i, "question": text} for q, i, text, _ in rows]
        told = [
            {
                "question_id": q,
                "image_id": i,
                "question_type": "what is",
                "answer_type": "other",
                "multiple_choice_answer": answers[0][0],
                "answers": [
                    {"answer": a, "answer_confidence": c, "answer_id": place}
                    for place, (a, c) in enumerate(answers, start=1)
                ],
            }
            for q, i, _, answers in rows
            if answers is not None
        ]
        root.mkdir(exist_ok=True)
        path = root / f"v2_OpenEnded_mscoco_{split}_questions.json"
        path.write_text(json.dumps({"info": {}, "questions": asked}))
        path = root / f"v2_mscoco_{split}_annotations.json"
        path.write_text(json.dumps({"info": {}, "annotations": told}))
        (root / split).mkdir(exist_ok=True)
        for number, image in pictures.items():
            save(root / split / f"COCO_{split}_{number:012d}.jpg", image)
    return root


TEN = [("red", "yes")] * 6 + [("dark red", "maybe")] * 3 + [("no", "no")]


def test_vqav2_has_ten_answers_with_confidence(tmp_path):
    root = make_vqav2(tmp_path / "vqa", [(42000, 42, "What color?", TEN)], {42: picture()})
    table, exclusions = choose("vqav2", root, tmp_path / "pictures")
    row = table.iloc[0].to_dict()
    assert row | {"sample_id": ""} == {
        "sample_id": "",
        "group": "d",
        "part": "identify",
        "order": 0,
        "files": ["train2014/COCO_train2014_000000000042.jpg"],
        "width": 8,
        "height": 6,
        "question": "What color?",
        "options": [],
        "answer": "red",
        "answers": [answer for answer, _ in TEN],
        "confidence": [confidence for _, confidence in TEN],
        "kind": "other",
        "metric": "vqa",
        "source_id": "42000",
        "split": "train2014",
    }
    assert row["sample_id"] == "d-42000"
    # The same question in both splits would be a sample of two parts.
    assert reasons(exclusions) == {"42000": "repeated-question", "": "too-few-questions"}
    assert list((tmp_path / "pictures").iterdir()) == []


def test_vqav2_passes_over_what_cannot_be_asked(tmp_path):
    rows = [
        (1000, 1, "Good?", TEN),
        (2000, 2, "No such file?", TEN),
        (3000, 3, "  ", TEN),
        (4000, 4, "Not annotated?", None),
        (5000, 5, "Not a picture?", TEN),
        (6000, 6, None, TEN),
    ]
    pictures = {number: picture(number) for number in (1, 3, 4, 6)} | {5: b"<html>gone</html>"}
    root = make_vqav2(tmp_path / "vqa", rows, pictures, ["train2014"])
    make_vqav2(root, [(9000, 9, "Other?", TEN)], {9: picture()}, ["val2014"])
    table, exclusions = choose("vqav2", root, tmp_path / "p", 6, 1)
    assert table["source_id"].tolist() == ["1000", "9000"]
    assert reasons(exclusions) == {
        "2000": "no-picture",
        "3000": "empty-question",
        "4000": "no-answer",
        "5000": "undecodable-picture",
        "6000": "empty-question",
        "": "too-few-questions",
    }
    assert set(exclusions["stage"]) == {"prepare"} and set(exclusions["group"]) == {"d"}
    file = "train2014/COCO_train2014_000000000005.jpg"
    assert detail(exclusions, "5000") == f"{file}: not a picture in a known format"
    told = "identify: wanted 6, found 1 among 6 questions of train2014"
    assert detail(exclusions, "") == told


def test_one_question_a_picture_and_the_next_one_for_a_refused_picture(tmp_path, monkeypatch):
    opened = []
    real = questions.read_question_picture
    monkeypatch.setattr(
        questions, "read_question_picture", lambda r, f: opened.append(f[0]) or real(r, f)
    )
    rows = [(image * 1000 + q, image, f"{q}?", TEN) for image in range(1, 9) for q in range(3)]
    ids = [str(row[0]) for row in rows]
    order = [ids[place] for place in question_order(ids, 0, "train2014")]
    images = list(dict.fromkeys(int(name) // 1000 for name in order))
    bad = images[1]
    pictures = {image: b"no picture" if image == bad else picture(image) for image in images}
    root = make_vqav2(tmp_path / "vqa", rows, pictures, ["train2014"])
    make_vqav2(root, [(99000, 99, "Other?", TEN)], {99: picture()}, ["val2014"])
    table, exclusions = choose("vqav2", root, tmp_path / "p", 3, 1)
    first_of = {image: next(n for n in order if int(n) // 1000 == image) for image in images}
    chosen = [images[0], images[2], images[3]]
    assert table["source_id"].tolist() == [*(first_of[image] for image in chosen), "99000"]
    # The bad picture's other questions are neither tried nor listed, and no other picture is read.
    assert reasons(exclusions) == {first_of[bad]: "undecodable-picture"}
    assert len(opened) == 5


def test_a_question_without_text_leaves_its_picture_to_the_next(tmp_path):
    rows = [(1000 + q, 1, "", TEN) for q in range(5)] + [(1005, 1, "Why?", TEN)]
    root = make_vqav2(tmp_path / "vqa", rows, {1: picture()}, ["train2014"])
    make_vqav2(root, [(9000, 9, "Other?", TEN)], {9: picture()}, ["val2014"])
    table, exclusions = choose("vqav2", root, tmp_path / "p", 1, 1)
    assert table["source_id"].tolist() == ["1005", "9000"]
    ids = [str(row[0]) for row in rows]
    order = [ids[place] for place in question_order(ids, 0, "train2014")]
    before = order[: order.index("1005")]
    assert reasons(exclusions) == dict.fromkeys(before, "empty-question")


def test_vqav2_answers_without_confidence_are_another_format(tmp_path):
    root = make_vqav2(tmp_path / "vqa", [(1000, 1, "Why?", TEN)], {1: picture()})
    path = root / "v2_mscoco_train2014_annotations.json"
    path.write_text(path.read_text().replace("answer_confidence", "sure"))
    with pytest.raises(ValueError, match="train2014_annotations.json .*no 'answer_confidence'"):
        choose("vqav2", root, tmp_path / "p")


# -------------------------------------------------------------------------------------- PMC-VQA

PMC = ["Figure_path", "Question", "Answer", "Choice A", "Choice B", "Choice C", "Choice D"]


def make_pmc(root, rows, pictures, columns=(*PMC, "Answer_label")):
    """The same table for both splits; pictures: by path below the root."""
    root.mkdir(exist_ok=True)
    for split in ("train", "test"):
        with open(root / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])
    for path, image in pictures.items():
        save(root / path, image)
    return root


CHOICES = ["A:chest ", " B: NA", "C:the knee, left", "D: A: both"]


def test_pmc_vqa_choices_and_letters(tmp_path):
    rows = [
        ["1.jpg", "Which region?", "NA", *CHOICES, "B"],
        ["2.jpg", "Which region?", "D", *CHOICES, "the knee"],
        ["3.jpg", "Which region?", "C", *CHOICES, ""],
        ["4.jpg", "Which region?", "chest", *CHOICES, " A "],
    ]
    pictures = {f"figures/{n}.jpg": picture(n, (9, 7), "L") for n in (1, 2)}
    pictures |= {f"images/{n}.jpg": picture(n) for n in (2, 3, 4)}
    root = make_pmc(tmp_path / "pmc", rows, pictures)
    table, exclusions = choose("pmc_vqa", root, tmp_path / "p", 4, 4)
    assert exclusions.empty
    train = table[table["part"] == "identify"].set_index("source_id").sort_index()
    assert train.index.tolist() == ["train-0", "train-1", "train-2", "train-3"]
    assert train["answer"].tolist() == ["B", "D", "C", "A"]
    assert train["answers"].tolist() == [["B"], ["D"], ["C"], ["A"]]
    options = ["A: chest", "B: NA", "C: the knee, left", "D: A: both"]
    assert train["options"].tolist() == [options] * 4
    files = ["figures/1.jpg", "figures/2.jpg", "images/3.jpg", "images/4.jpg"]
    assert [paths[0] for paths in train["files"]] == files
    assert train["width"].tolist() == [9, 9, 8, 8]
    test = table[table["part"] == "evaluate"]
    assert set(test["source_id"]) == {f"test-{row}" for row in range(4)}


def test_pmc_vqa_labels_that_are_no_option(tmp_path):
    rows = [
        ["1.jpg", "Q?", "chest", *CHOICES, "E"],
        ["2.jpg", "Q?", "", *CHOICES, ""],
        ["3.jpg", "Q?", "x", "A:a", "B:b", "C:c", "D: ", "D"],  # the letter of no choice
        ["4.jpg", "Q?", "a", *CHOICES, "b"],
        ["", "Q?", "a", *CHOICES, "A"],
        ["", "Q?", "a", *CHOICES, "A"],
        ["7.jpg", "Q?", "a", *CHOICES, "A"],
        ["8.jpg", "Q?", "a", "A:a", "B:b", "", "", "A"],
    ]
    root = make_pmc(tmp_path / "pmc", rows, {f"images/{n}.jpg": picture() for n in (1, 2, 3, 4, 8)})
    table, exclusions = choose("pmc_vqa", root, tmp_path / "p", 9, 1)
    train = table[table["part"] == "identify"]
    assert train["source_id"].tolist() == ["train-7"]
    assert train["options"].tolist() == [["A: a", "B: b"]]
    told = {name: why for name, why in reasons(exclusions).items() if not name.startswith("test")}
    labels = dict.fromkeys((f"train-{row}" for row in range(4)), "label-is-no-option")
    pictures = dict.fromkeys((f"train-{row}" for row in (4, 5, 6)), "no-picture")
    assert told == {**labels, **pictures, "": "too-few-questions"}
    assert detail(exclusions, "train-0") == "label 'E', answer 'chest', choices A, B, C, D"
    assert detail(exclusions, "train-2") == "label 'D', answer 'x', choices A, B, C"
    assert detail(exclusions, "train-4") == "none is named"
    assert detail(exclusions, "train-6") == "no file images/7.jpg"


def test_pmc_vqa_second_version_has_letters_as_answers(tmp_path):
    rows = [["1.jpg", "Q?", "B", *CHOICES]]
    root = make_pmc(tmp_path / "pmc", rows, {"figures/1.jpg": picture()}, PMC)
    table, _ = choose("pmc_vqa", root, tmp_path / "p")
    assert table["answer"].tolist() == ["B", "B"]
    make_pmc(root, rows, {}, [*PMC[:-1], "Choice E"])
    with pytest.raises(ValueError, match=r"train.csv is no table .*Choice D"):
        choose("pmc_vqa", root, tmp_path / "p")


# --------------------------------------------------------------------------------------- DocVQA


def png(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def make_doc(root, rows, split="train", pieces=1, row_group_size=3, schema=world_doc_vqa.SCHEMA):
    """rows: (question_id, question, answers, name of the picture, its bytes or None)."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    content = [
        {
            "image": None if image is None else {"bytes": image, "path": name},
            "question_id": number,
            "question": question,
            "answers": answers,
            "data_split": split,
            "ocr_results": None,
            "other_metadata": {"image": name},
        }
        for number, question, answers, name, image in rows
    ]
    for piece in range(pieces):
        table = pa.Table.from_pylist(content[piece::pieces], schema=schema)
        path = root / f"data/{split}-{piece:05d}-of-{pieces:05d}.parquet"
        pq.write_table(table, path, row_group_size=row_group_size)
    return root


def make_validation(root):
    return make_doc(root, [(900, "V?", ["v"], "v_1.png", png(picture()))], "validation")


def test_doc_vqa_pictures_are_extracted_as_they_are(tmp_path):
    pages = {number: png(picture(number), compress_level=number % 9) for number in range(10)}
    rows = [
        (number * 10 + q, f"{q}?", ["a", "b", "a"], f"documents/{number}.png", pages[number])
        for number in pages
        for q in range(2)
    ]
    root = make_validation(make_doc(tmp_path / "doc", rows, pieces=3))
    table, exclusions = choose("doc_vqa", root, tmp_path / "p", 7, 1)
    assert exclusions.empty
    train = table[table["part"] == "identify"]
    numbers = train["source_id"].astype(int)
    assert len(numbers) == 7 and (numbers // 10).is_unique
    assert train["answers"].tolist() == [["a", "b", "a"]] * 7 and set(train["answer"]) == {"a"}
    files = {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()}
    expected = {f"{number}.png": pages[number // 10] for number in numbers}
    assert files == expected | {"900.png": png(picture())}
    assert [paths[0] for paths in train["files"]] == [f"{number}.png" for number in numbers]


def test_doc_vqa_passes_over_what_cannot_be_asked(tmp_path):
    good = png(picture())
    rows = [
        (1, "Q?", ["", "x"], "1.png", good),
        (2, "Q?", ["x"], "2.png", None),
        (3, "Q?", ["x"], "3.png", b""),
        (4, "Q?", ["x"], "4.png", good[: len(good) // 2]),
        (5, None, ["x"], "5.png", good),
        (6, "Q?", None, "6.png", good),
        (7, "Q?", [], "7.png", good),
        (8, "Q?", ["x"], None, good),
        (9, "Q?", ["x"], None, good),
    ]
    root = make_validation(make_doc(tmp_path / "doc", rows))
    table, exclusions = choose("doc_vqa", root, tmp_path / "p", 9, 1)
    # Of pictures without a name it is not known that they are the same.
    assert set(table["source_id"]) == {"1", "8", "9", "900"}
    assert table.set_index("source_id").loc["1", "answers"] == ["x"]
    assert reasons(exclusions) == {
        "2": "no-picture",
        "3": "no-picture",
        "4": "undecodable-picture",
        "5": "empty-question",
        "6": "no-answer",
        "7": "no-answer",
        "": "too-few-questions",
    }
    left = {path.name for path in (tmp_path / "p").iterdir()}
    assert left == {"1.png", "8.png", "9.png", "900.png"}


def test_doc_vqa_reads_only_row_groups_with_a_wanted_picture_and_each_once(tmp_path, monkeypatch):
    rows = [(n, "Q?", ["x"], f"{n}.png", png(picture(n))) for n in range(40)]
    root = make_validation(make_doc(tmp_path / "doc", rows, pieces=2, row_group_size=4))
    listed, extracted = [], []

    class Watched(pq.ParquetFile):
        def read(self, columns=None, **options):
            listed.append(columns)
            return super().read(columns=columns, **options)

        def iter_batches(self, batch_size, row_groups, columns):
            for batch in super().iter_batches(batch_size, row_groups=row_groups, columns=columns):
                extracted.append((self.metadata.num_rows, *row_groups, len(batch)))
                assert columns == ["image.bytes"]
                yield batch

    monkeypatch.setattr(doc_vqa.pq, "ParquetFile", Watched)
    monkeypatch.setattr(doc_vqa, "_BATCH", 2)
    table, _ = choose("doc_vqa", root, tmp_path / "p", 3, 1)
    assert all(not any(name.startswith("image") for name in columns) for columns in listed)
    assert len(listed) == 3  # two pieces and the validation part
    numbers = table["source_id"][table["part"] == "identify"].astype(int)
    # Row n is in piece n % 2 at place n // 2, four rows a group.
    groups = {(n % 2, n // 2 // 4) for n in numbers}
    of_train = [entry for entry in extracted if entry[0] == 20]
    assert len(of_train) == 2 * len(groups) and {entry[2] for entry in of_train} == {2}


def test_doc_vqa_with_pieces_missing_is_no_smaller_dataset(tmp_path):
    rows = [(n, "Q?", ["x"], f"{n}.png", png(picture(n))) for n in range(6)]
    root = make_validation(make_doc(tmp_path / "doc", rows, pieces=3))
    (root / "data/train-00001-of-00003.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="2 of 3 pieces like .*train-00000-of-00003"):
        choose("doc_vqa", root, tmp_path / "p")


def test_a_table_that_is_broken_where_the_pictures_are_is_named(tmp_path):
    rows = [(n, "Q?", ["x"], f"{n}.png", png(picture(n, (64, 64)))) for n in range(3)]
    root = make_validation(make_doc(tmp_path / "doc", rows))
    path = root / "data/train-00000-of-00001.parquet"
    content = path.read_bytes()
    # The picture column is the first one and by far the largest.
    path.write_bytes(content[:4] + bytes(9000) + content[9004:])
    with pytest.raises(ValueError, match="train-00000-of-00001.parquet is no table"):
        choose("doc_vqa", root, tmp_path / "p")


def test_a_table_without_pictures_is_named(tmp_path):
    rows = [(1, "Q?", ["x"], "1.png", None)]
    schema = world_doc_vqa.SCHEMA.remove(0)
    root = make_validation(make_doc(tmp_path / "doc", rows, schema=schema))
    with pytest.raises(ValueError, match="train-00000-of-00001.parquet .*image"):
        choose("doc_vqa", root, tmp_path / "p")


# -------------------------------------------------------------------------------------- LingoQA


def make_lingo(root, tables, frames):
    """tables: rows (question_id, question, answer, images) by name; frames: by path."""
    for name, rows in tables.items():
        keys = ("question_id", "question", "answer", "images", "segment_id")
        content = [dict(zip(keys, (*row, "s"), strict=True)) for row in rows]
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.Table.from_pylist(content, schema=world_lingo_qa.SCHEMA), root / f"{name}.parquet"
        )
    for path, image in frames.items():
        save(root / path, image)
    return root


def drive(name, frames=5):
    return [f"images/{name}/{time}.jpg" for time in range(frames)]


def test_lingo_qa_rows_of_a_question_are_its_references(tmp_path):
    tables = {
        "train/scenery": [("a", "Light?", "Red.", drive("s"))],
        "train/action": [("b", "Go?", "No.", drive("s"))],
        "val/val": [
            ("c", "Light?", "It is red.", drive("t")),
            ("d", "Go?", "Stop.", drive("t")),
            ("c", "Light?", "Red.", drive("t")),
            ("d", "Go?", None, drive("t")),
        ],
    }
    frames = {f"train/{path}": picture(n, (10, 6)) for n, path in enumerate(drive("s"))}
    frames |= {f"val/{path}": picture(n, (4, 3)) for n, path in enumerate(drive("t"))}
    frames["val/images/t/3.jpg"] = picture(3, (8, 6))
    root = make_lingo(tmp_path / "lingo", tables, frames)
    table, exclusions = choose("lingo_qa", root, tmp_path / "p", 2, 2)
    assert exclusions.empty
    table = table.set_index("source_id").sort_index()
    assert table.index.tolist() == ["a", "b", "c", "d"]
    assert table["kind"].tolist() == ["scenery", "action", "", ""]
    assert table["answers"].tolist() == [["Red."], ["No."], ["It is red.", "Red."], ["Stop."]]
    assert table["answer"].tolist() == ["Red.", "No.", "It is red.", "Stop."]
    assert table["files"]["a"] == [f"train/images/s/{time}.jpg" for time in range(5)]
    assert table["width"].tolist() == [50, 50, 20, 20]
    assert table["height"].tolist() == [6, 6, 3, 3]


def test_lingo_qa_passes_over_what_cannot_be_asked(tmp_path):
    tables = {
        "train/scenery": [
            ("good", "Q?", "A.", drive("s")),
            ("file", "Q?", "A.", drive("gone")),
            ("four", "Q?", "A.", drive("s", 4)),
            ("none", "Q?", "A.", []),
            ("null", "Q?", "A.", None),
        ],
        "train/action": [
            ("html", "Q?", "A.", drive("html")),
            ("mute", None, "A.", drive("s")),
            ("open", "Q?", "", drive("s")),
        ],
        "val/val": [("v", "Q?", "A.", drive("s"))],
    }
    names = ("s", "gone", "html")
    frames = {f"train/{path}": picture() for name in names for path in drive(name)}
    frames |= {f"val/{path}": picture() for path in drive("s")}
    frames["train/images/html/2.jpg"] = b"<html>"
    root = make_lingo(tmp_path / "lingo", tables, frames)
    (root / "train/images/gone/3.jpg").unlink()
    table, exclusions = choose("lingo_qa", root, tmp_path / "p", 8, 1)
    assert table["source_id"].tolist() == ["good", "v"]
    assert reasons(exclusions) == {
        "file": "missing-frame",
        "four": "missing-frame",
        "none": "no-picture",
        "null": "no-picture",
        "html": "undecodable-picture",
        "mute": "empty-question",
        "open": "no-answer",
        "": "too-few-questions",
    }
    assert detail(exclusions, "file") == "no file for 1 of 5 frames, first train/images/gone/3.jpg"
    assert detail(exclusions, "four") == "4 of 5 frames are named"
    assert detail(exclusions, "html").startswith("train/images/html/2.jpg: ")


# ---------------------------------------------------------------------------------------- RSVQA


def make_rsvqa(root, asked, told, pictures, split="train"):
    """asked: (img_id, question, answers_ids), told: (question_id, answer[, active]), or None."""
    root.mkdir(exist_ok=True)
    lists = {
        "questions": [
            {"id": n, "active": False}
            if row is None
            else {"id": n, "active": True, "type": "count", "people_id": 0}
            | dict(zip(("img_id", "question", "answers_ids"), row, strict=True))
            for n, row in enumerate(asked)
        ],
        "answers": [
            {"id": n, "active": False}
            if row is None
            else {"id": n, "active": True}
            | dict(zip(("question_id", "answer", "active"), row, strict=False))
            for n, row in enumerate(told)
        ],
    }
    for name, rows in lists.items():
        (root / f"USGS_split_{split}_{name}.json").write_text(json.dumps({name: rows}))
    for path, image in pictures.items():
        save(root / "Data" / path, image)
    return root


def test_rsvqa_reads_active_questions_and_their_first_answer(tmp_path):
    asked = [
        None,
        (10, "How many?", [3, 4]),
        (11, "Area?", [2]),
        (12, "Where?", [9]),  # behind the last answer
        (13, "What?", [4]),  # of another question
        (14, "Which?", []),
        (15, "Whose?", [5]),  # not active
        (16, "No file?", [6]),
        (17, "", [7]),
    ]
    told = [None, None, (2, 25), (1, "3"), (1, "4"), (6, "x", False), (7, "x"), (8, "x")]
    pictures = {f"{n}.tif": picture(n) for n in (10, 12, 13, 14, 15, 17)}
    pictures |= {f"{n}.png": picture(n, (5, 4)) for n in (10, 11)}
    root = make_rsvqa(tmp_path / "rs", asked, told, pictures)
    other = [None] * len(asked) + [(20, "Val?", [0])]
    make_rsvqa(root, other, [(len(asked), "yes")], {"20.tif": picture()}, "val")
    table, exclusions = choose("rsvqa", root, tmp_path / "p", 8, 1)
    assert table["part"].tolist() == ["identify", "identify", "evaluate"]
    table = table.set_index("source_id").sort_index()
    assert table.index.tolist() == ["1", "2", "9"]
    assert table["answers"].tolist() == [["3"], ["25"], ["yes"]]
    assert table["files"].tolist() == [["Data/10.tif"], ["Data/11.png"], ["Data/20.tif"]]
    assert table["width"].tolist() == [8, 5, 8]
    assert set(table["kind"]) == {"count"}
    assert reasons(exclusions) == {
        "3": "no-answer",
        "4": "no-answer",
        "5": "no-answer",
        "6": "no-answer",
        "7": "no-picture",
        "8": "empty-question",
        "": "too-few-questions",
    }
    assert detail(exclusions, "7") == "no file Data/16.tif"
    told = "identify: wanted 8, found 2 among 8 questions of train"
    assert detail(exclusions, "") == told
