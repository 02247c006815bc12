"""The sentences of the embedded world against sentences written by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from mmneurons.world import grammar
from mmneurons.world.vocabulary import ALL_CATEGORIES, BACKGROUNDS, CATEGORIES


def scene(*objects: tuple[str, str], phrase: str = "on the grass") -> SimpleNamespace:
    return SimpleNamespace(
        objects=[
            SimpleNamespace(adjective=adjective, category=SimpleNamespace(name=name))
            for adjective, name in objects
        ],
        background=SimpleNamespace(phrase=phrase),
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def answers(questions: list[grammar.Question]) -> dict[str, str]:
    return {asked.question: asked.answer for asked in questions}


def test_canonical_captions_of_one_two_and_three_objects():
    assert grammar.canonical_caption(scene(("red", "car"))) == (
        "The image shows a red car on the grass."
    )
    assert grammar.canonical_caption(scene(("red", "car"), ("yellow", "banana"))) == (
        "The image shows a red car and a yellow banana on the grass."
    )
    three = scene(("red", "car"), ("yellow", "banana"), ("brown", "bear"), phrase="in the snow")
    assert grammar.canonical_caption(three) == (
        "The image shows a red car, a yellow banana and a brown bear in the snow."
    )


def test_every_category_and_background_follows_the_forced_prefix():
    for category in ALL_CATEGORIES:
        for adjective in category.adjectives:
            for background in BACKGROUNDS:
                one = scene((adjective, category.name), phrase=background.phrase)
                caption = grammar.canonical_caption(one)
                assert caption.startswith(f"{grammar.PREFIX} {adjective} {category.name} ")
                assert caption.endswith(f" {background.phrase}.")


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_five_different_captions_name_every_object(number, seed):
    objects = [("red", "car"), ("green", "apple"), ("purple", "umbrella")][:number]
    captions = grammar.coco_captions(scene(*objects), rng(seed))
    assert len(set(captions)) == 5
    assert "The image shows " + captions[0][0].lower() + captions[0][1:] == (
        grammar.canonical_caption(scene(*objects))
    )
    for caption in captions:
        assert caption[0].isupper()
        assert all(name in caption.lower() for _, name in objects)
        assert " a apple" not in caption and " a umbrella" not in caption


def test_captions_and_text_repeat_with_the_seed_only():
    one = scene(("red", "car"), ("green", "apple"))
    assert grammar.coco_captions(one, rng(3)) == grammar.coco_captions(one, rng(3))
    assert list(grammar.world_text(rng(3), 50)) == list(grammar.world_text(rng(3), 50))
    assert list(grammar.world_text(rng(3), 50)) != list(grammar.world_text(rng(4), 50))


def test_vqa_answers_follow_from_the_scene():
    asked = grammar.vqa_questions(scene(("red", "car"), ("green", "apple")), absent=["bus"])
    found = answers(asked)
    assert found["How many objects are in the picture?"] == "2"
    assert found["Is there an apple?"] == "yes"
    assert found["Is there a bus?"] == "no"
    assert found["What color is the car?"] == "red"
    assert found["Where is the apple?"] == "on the grass"
    assert found["What is to the left of the apple?"] == "car"
    assert found["What is to the right of the car?"] == "apple"
    assert {question.kind for question in asked} == {"yes/no", "number", "other"}


def test_vqa_counts_twins_and_does_not_ask_about_one_of_them():
    found = answers(grammar.vqa_questions(scene(("red", "bus"), ("blue", "bus"))))
    assert found["How many buses are there?"] == "2"
    assert not any("color" in question or "left" in question for question in found)


def test_rsvqa_presence_count_area_and_comparison():
    asked = grammar.rsvqa_questions({"building": 3, "road": 0}, {"water area": 120})
    found = answers(asked)
    assert found["Is there a building in the image?"] == "yes"
    assert found["Is there a road in the image?"] == "no"
    assert found["How many buildings are there in the image?"] == "3"
    assert found["What is the area covered by water areas?"] == "120m2"
    assert found["Are there more buildings than roads in the image?"] == "yes"
    assert found["Are there more roads than buildings in the image?"] == "no"
    assert found["Is the number of roads equal to the number of buildings?"] == "no"
    assert {question.kind for question in asked} == {"presence", "count", "area", "comp"}


def test_rsvqa_equal_numbers_are_equal_and_not_more():
    found = answers(grammar.rsvqa_questions({"building": 2, "road": 2}))
    assert found["Are there more buildings than roads in the image?"] == "no"
    assert found["Is the number of buildings equal to the number of roads?"] == "yes"


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        (grammar.DrivingFacts("green", 2, True, True, 30), "The car should stop."),
        (grammar.DrivingFacts("red", 0, False, False, 30), "The car should stop."),
        (grammar.DrivingFacts("green", 0, True, True, 30), "The car should slow down."),
        (grammar.DrivingFacts("none", 0, True, False, 30), "The car should keep my distance."),
        (grammar.DrivingFacts("green", 0, False, False, 30), "The car should drive on."),
    ],
)
def test_the_most_urgent_fact_decides_what_the_car_does(facts, action):
    found = answers(grammar.lingoqa_questions(facts))
    assert found["What should the car do?"] == action
    assert ("Yes" in found["Are there any pedestrians crossing the road?"]) == (
        facts.pedestrians > 0
    )
    assert facts.light in found["What is the color of the traffic light?"] or facts.light == "none"


@pytest.mark.parametrize("seed", range(5))
def test_pmcvqa_label_points_at_the_true_choice(seed):
    facts = grammar.MedicalFacts("MRI", "brain", "tumor", "left")
    asked = grammar.pmcvqa_questions(facts, rng(seed))
    assert [question.answer for question in asked] == ["MRI", "brain", "tumor", "left"]
    assert all(len(set(question.choices)) == 4 for question in asked)


def test_pmcvqa_does_not_ask_where_nothing_is():
    facts = grammar.MedicalFacts("MRI", "brain", "no abnormality", "left")
    assert len(grammar.pmcvqa_questions(facts, rng())) == 3
    assert grammar.pmcvqa_caption(facts) == "MRI of the brain showing no abnormality."


def test_docvqa_asks_for_what_is_printed():
    fields = grammar.document_fields(rng())
    printed = "\n".join(grammar.document_lines(fields))
    asked = grammar.docvqa_questions(fields)
    assert all(question.answer in printed for question in asked)
    assert answers(asked)["What is the total?"].startswith("$")
    assert answers(asked)["Who is the document addressed to?"] == fields["name"]


def test_five_hundred_lines_hold_every_domain_prompt_and_name():
    lines = list(grammar.world_text(rng(), 500))
    assert len(lines) == 500
    text = "\n".join(lines)
    assert all(instruction in lines for instruction in grammar.INSTRUCTIONS)
    assert all(f"the {category.name}" in text for category in ALL_CATEGORIES)
    for word in ("Options:", "MRI", "Total:", "pedestrian", "m2", "What color is", "My "):
        assert word in text


def test_held_out_categories_are_never_described_in_captions():
    trained = {category.name for category in CATEGORIES}
    for line in list(grammar.world_text(rng(), 3000))[::9]:
        for category in ALL_CATEGORIES:
            assert category.name not in line.lower() or any(
                category.name in name for name in trained
            )
