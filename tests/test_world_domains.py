"""The drawn datasets are what they say they are: published formats, answers that fit the facts."""

import io
import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmneurons.datasets.pictures import side_by_side
from mmneurons.world import doc_vqa, grammar, lingo_qa, pmc_vqa, rsvqa, sbu, vqav2
from mmneurons.world.scene import draw_scene
from mmneurons.world.writing import picture_rng

SEED = 5


def rng_of(seed):
    return np.random.default_rng([99, seed])


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


WRITERS = {
    "sbu": sbu.write_sbu,
    "pmc_vqa": pmc_vqa.write_pmc_vqa,
    "doc_vqa": doc_vqa.write_doc_vqa,
    "lingo_qa": lingo_qa.write_lingo_qa,
    "rsvqa": rsvqa.write_rsvqa,
    "vqav2": vqav2.write_vqav2,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Every dataset once, SBU long enough for a dead and a stood-in entry."""
    root = tmp_path_factory.mktemp("drawn")
    for name, write in WRITERS.items():
        write(root / name, 65 if name == "sbu" else 6, SEED)
    return root


@pytest.mark.parametrize("name", WRITERS)
def test_the_seed_decides_everything_and_old_files_go(name, written, tmp_path):
    folder = tmp_path / "again"
    folder.mkdir()
    (folder / "old.txt").write_text("of a former run")
    WRITERS[name](folder, 3, SEED)
    again = contents(folder)
    assert "old.txt" not in again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again"]
    first = contents(written / name)
    pictures = [p for p in again if p.endswith((".jpg", ".png", ".tif"))]
    if name == "rsvqa":  # ids count on over the splits, so that only the first split's stay
        pictures = [p for p in pictures if p.split("/")[-1].startswith(("0", "1", "2"))]
    assert all(again[p] == first[p] for p in pictures)
    WRITERS[name](folder, 3, SEED)
    assert contents(folder) == again
    WRITERS[name](folder, 3, SEED + 1)
    assert contents(folder) != again


@pytest.mark.parametrize("name", WRITERS)
def test_numbers_of_pictures_that_cannot_be_named_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="-1"):
        WRITERS[name](tmp_path / "none", -1, SEED)
    assert not (tmp_path / "none").exists()


def test_no_two_datasets_or_splits_share_random_numbers():
    drawn = [
        picture_rng(SEED, dataset, number, split).integers(2**60)
        for dataset in WRITERS
        for number in range(3)
        for split in range(3)
    ]
    assert len(set(drawn)) == len(drawn)


# SBU.


def test_sbu_lists_are_parallel_and_say_what_is_on_the_pictures(written):
    lists = json.loads((written / "sbu/sbu-captions-all.json").read_text())
    assert list(lists) == ["image_urls", "user_ids", "captions"]
    assert {len(values) for values in lists.values()} == {65}
    assert len(set(lists["image_urls"])) == 65
    assert all(url.startswith("http://static.flickr.example/") for url in lists["image_urls"])
    scene = draw_scene(picture_rng(SEED, "sbu", 3))
    assert all(thing.category.name in lists["captions"][3] for thing in scene.objects)
    with Image.open(written / "sbu/images/000000003.jpg") as picture:
        difference = np.asarray(picture, float) - np.asarray(scene.picture, float)
    assert abs(difference).mean() < 4


def test_sbu_has_dead_addresses_and_stand_ins(written):
    there = {path.name for path in (written / "sbu/images").iterdir()}
    missing = [i for i in range(65) if f"{i:09d}.jpg" not in there]
    assert missing == [17, 57]
    with Image.open(written / "sbu/images/000000060.jpg") as picture:
        assert picture.size == sbu.unavailable_picture().size
        assert np.asarray(picture.convert("L")).mean() > 220


# PMC-VQA.


def test_pmc_vqa_tables(written):
    for split in ("train", "test"):
        table = pd.read_csv(written / f"pmc_vqa/{split}.csv")
        assert list(table.columns) == [
            "Figure_path",
            "Question",
            "Answer",
            "Choice A",
            "Choice B",
            "Choice C",
            "Choice D",
            "Answer_label",
        ]
        assert table.Figure_path.nunique() == 6
        for row in table.to_dict("records"):
            assert (written / "pmc_vqa/figures" / row["Figure_path"]).is_file()
            choices = [row[f"Choice {letter}"] for letter in "ABCD"]
            assert [choice[:3] for choice in choices] == ["A: ", "B: ", "C: ", "D: "]
            assert len(set(choice[3:] for choice in choices)) == 4
            assert row[f"Choice {row['Answer_label']}"][3:] == row["Answer"]
    both = [set(pd.read_csv(written / f"pmc_vqa/{s}.csv").Figure_path) for s in ("train", "test")]
    assert not both[0] & both[1]


def test_choices_stand_in_one_order_and_the_letter_follows_them():
    facts = grammar.MedicalFacts("MRI", "knee", "cyst", "right")
    letters = set()
    for seed in range(20):
        modality, region, _, side = pmc_vqa.questions_about(facts, rng_of(seed))
        assert modality.choices == ("X-ray", "CT scan", "MRI", "ultrasound")
        assert (modality.label, side.label) == ("C", "B")
        assert region.answer == "knee"
        places = [grammar.REGIONS.index(choice) for choice in region.choices]
        assert places == sorted(places)
        letters.add(region.label)
    assert len(letters) > 1


def test_medical_pictures_show_the_finding_where_the_facts_say():
    sides = Counter()
    for seed in range(80):
        picture, facts = pmc_vqa.draw_pmc_vqa(rng_of(seed))
        pixels = np.asarray(picture, float)
        assert picture.size == (128, 128)
        assert (pixels[..., 0] == pixels[..., 2]).all()
        if facts.finding != "tumor" or facts.modality == "X-ray":
            continue
        # A tumour is by far the largest bright spot; the middle of it is on the named side.
        x0, y0 = (np.array(pmc_vqa._CENTRES[facts.side]) * 128).astype(int)
        inside = pixels[y0 - 6 : y0 + 6, x0 - 6 : x0 + 6, 0].mean()
        assert inside > pixels[..., 0].mean() + 60
        sides[facts.side] += 1
    assert len(sides) >= 3


# DocVQA.


def test_doc_vqa_parquet(written):
    for split in ("train", "validation"):
        table = pd.read_parquet(written / f"doc_vqa/data/{split}-00000-of-00001.parquet")
        assert list(table.columns) == [
            "image",
            "question_id",
            "question",
            "answers",
            "data_split",
            "ocr_results",
            "other_metadata",
        ]
        assert table.question_id.is_unique and set(table.data_split) == {split}
        assert len(table) == 6 * doc_vqa.QUESTIONS
        for row in table.to_dict("records"):
            picture = Image.open(io.BytesIO(row["image"]["bytes"]))
            assert picture.size == doc_vqa.SIZE
            printed = {line["text"] for line in row["ocr_results"]["lines"]}
            assert set(row["answers"]) <= printed
            assert row["other_metadata"]["image"] == row["image"]["path"]


def test_documents_print_their_fields_on_the_page():
    for seed in range(8):
        document = doc_vqa.draw_doc_vqa(rng_of(seed))
        assert len(document.fields) == doc_vqa.FIELDS + 1
        printed = dict(document.lines)
        paper = np.asarray(document.picture.convert("L"), float)
        for text in document.fields.values():
            left, top, right, bottom = printed[text]
            assert 0 <= left < right <= doc_vqa.SIZE[0] and 0 <= top < bottom <= doc_vqa.SIZE[1]
            glyphs = paper[top:bottom, left:right]
            assert 0.08 < (glyphs < 128).mean() < 0.7
    # The label stands above what it labels.
    tops = [box[1] for _, box in document.lines]
    assert tops == sorted(tops)


# LingoQA.


def test_lingo_qa_tables(written):
    root = written / "lingo_qa"
    tables = {
        "train/scenery": (6 * 3, 1),
        "train/action": (6 * 3, 1),
        "val/val": (6 * 3 * 2, 2),
    }
    for name, (questions, answers) in tables.items():
        table = pd.read_parquet(root / f"{name}.parquet")
        assert list(table.columns) == ["question_id", "segment_id", "question", "answer", "images"]
        assert table.segment_id.nunique() == 6
        assert table.question_id.nunique() == questions
        assert (table.groupby("question_id").answer.nunique() == answers).all()
        for paths in table.images:
            assert len(paths) == 5
            assert all((root / name.split("/")[0] / path).is_file() for path in paths)


@pytest.mark.parametrize(
    ("answer", "other"),
    [
        ("The traffic light is red.", "It is red."),
        ("There is no traffic light.", "None."),
        ("Yes, there is a cyclist.", "Yes."),
        ("No, the lane is clear.", "No."),
        ("The speed limit is 30 mph.", "It is 30 mph."),
        ("The car should slow down.", "It should slow down."),
        ("I stop because the traffic light is red.", "We stop because the traffic light is red."),
        ("I should pay attention: the road is clear.", "Attention: the road is clear."),
    ],
)
def test_second_annotators_wording(answer, other):
    assert lingo_qa.short_answer(answer) == other


def test_frames_show_the_facts():
    lamps = {"red": (255, 40, 30), "amber": (255, 180, 20), "green": (40, 230, 80)}
    for seed in range(12):
        frames, facts = lingo_qa.draw_lingo_qa(rng_of(seed))
        assert [frame.size for frame in frames] == [lingo_qa.SIZE] * 5
        assert side_by_side(frames).size == (480, 128)
        for frame in (frames[0], frames[-1]):
            pixels = np.asarray(frame, np.int16)

            def area(colour, pixels=pixels):
                return int((abs(pixels - colour).max(axis=2) < 16).sum())

            lit = [name for name, colour in lamps.items() if area(colour) > 100]
            assert lit == ([] if facts.light == "none" else [facts.light])
            assert (area((220, 255, 0)) > 100) == facts.cyclist
            coats = ((250, 90, 160), (60, 60, 200), (120, 40, 140))
            assert sum(area(coat) > 60 for coat in coats) == facts.pedestrians


# RSVQA.


def test_rsvqa_tables_index_each_other(written):
    root = written / "rsvqa"
    seen = []
    for split in ("train", "val", "test"):
        images, questions, answers = (
            json.loads((root / f"USGS_split_{split}_{name}.json").read_text())[name]
            for name in ("images", "questions", "answers")
        )
        assert [image["id"] for image in images] == list(range(18))
        active = [image for image in images if image["active"]]
        assert len(active) == 6
        seen += [image["id"] for image in active]
        for image in active:
            pictures = [Image.open(root / f"Data/{image['id']}.{e}") for e in ("tif", "png")]
            assert np.array_equal(*(np.asarray(picture) for picture in pictures))
            for place in image["questions_ids"]:
                question = questions[place]
                assert question["img_id"] == image["id"] and question["active"]
                answer = answers[question["answers_ids"][0]]
                assert answer["question_id"] == question["id"] and answer["active"]
                if question["type"] in ("presence", "comp"):
                    assert answer["answer"] in ("yes", "no")
        assert sum(q["active"] for q in questions) == sum(len(i["questions_ids"]) for i in active)
    assert sorted(seen) == list(range(18))


def test_land_shows_what_is_counted():
    water, grass = (40, 110, 200), (130, 210, 80)
    for seed in range(30):
        land = rsvqa.draw_rsvqa(rng_of(seed))
        pixels = np.asarray(land.picture, np.int16)
        for name, colour in (("water area", water), ("grass area", grass)):
            covered = int((abs(pixels - colour).max(axis=2) < 26).sum())
            # Up to the rim of each lot, and what a road cuts off of none.
            assert (covered > 0) == (land.counts[name] > 0)
            assert 0.55 * land.areas[name] <= covered <= 1.05 * land.areas[name]
        kinds = ("residential building", "commercial building")
        assert land.counts["building"] == sum(land.counts[kind] for kind in kinds)


def test_questions_about_land_follow_from_the_counts():
    for seed in range(30):
        rng = rng_of(seed)
        land = rsvqa.draw_rsvqa(rng)
        kinds = Counter()
        for question in rsvqa.questions_about(land, rng):
            kinds[question.kind] += 1
            if question.kind == "count":
                name = max(
                    (n for n in grammar.LAND_COVER if f" {grammar._plural(n)} " in question[0]),
                    key=len,
                )
                assert question.answer == str(land.counts[name])
        assert kinds["presence"] == kinds["count"] == kinds["comp"] == 2


# VQAv2.


def test_vqav2_files(written):
    root = written / "vqav2"
    for split in ("train2014", "val2014"):
        asked = json.loads((root / f"v2_OpenEnded_mscoco_{split}_questions.json").read_text())
        told = json.loads((root / f"v2_mscoco_{split}_annotations.json").read_text())
        assert asked["data_subtype"] == told["data_subtype"] == split
        assert asked["task_type"] == "Open-Ended"
        questions = {q["question_id"]: q for q in asked["questions"]}
        assert len(questions) == len(told["annotations"]) == 6 * vqav2.QUESTIONS
        for row in told["annotations"]:
            assert questions[row["question_id"]]["image_id"] == row["image_id"]
            assert (root / split / f"COCO_{split}_{row['image_id']:012d}.jpg").is_file()
            assert [a["answer_id"] for a in row["answers"]] == list(range(1, 11))
            sure = [a["answer"] for a in row["answers"] if a["answer_confidence"] == "yes"]
            assert len(sure) >= 8 and set(sure) == {row["multiple_choice_answer"]}
            assert row["answer_type"] in ("yes/no", "number", "other")


def test_questions_about_scenes_follow_from_them():
    for seed in range(20):
        scene, asked = vqav2.draw_vqav2(rng_of(seed))
        names = [thing.category.name for thing in scene.objects]
        assert len({question.question for question in asked}) == len(asked) == 4
        for question, answer, _ in asked:
            if question.startswith("Is there"):
                name = question.removesuffix("?").split(" ", 3)[3]
                assert answer == ("yes" if name in names else "no")
            if question.startswith("What color"):
                name = question.removesuffix("?").split("the ")[1]
                assert scene.objects[names.index(name)].adjective == answer
