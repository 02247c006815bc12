"""Measures of single replies, against the definitions and cases worked out by hand."""

import itertools
import math
import random

import pytest

from mmneurons.metrics.answers import (
    LABELS,
    VARIANTS,
    anls,
    exact_match,
    label_characters,
    multiple_choice,
    named_option,
    normalise,
    read_options,
    score,
    vqa_accuracy,
    vqa_confident,
)

OPTIONS = ["A: tumor", "B: left lung", "C: lung", "D: no finding."]
LONG = "a very long reply that never comes to the point " * 2000


# ------------------------------------------------------------------------ VQA: how answers compare


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes.", "yes"),
        ("  A  dog\n", "dog"),
        ("the an a", ""),
        ("Two", "2"),
        ("none", "0"),
        ("zero ten eleven", "0 10 eleven"),
        ("dont", "don't"),
        ("Isnt it the dog's?", "isn't it dog's"),
        ("couldn'tve", "couldn't've"),
        ("couldnt've", "couldn't've"),
        ("well id hell shell wed", "well id hell shell wed"),
        # Punctuation becomes a space; beside a space, or with a number such as 1,000, nothing.
        ("t-shirt", "t shirt"),
        ("red - blue", "red blue"),
        ("yes,no", "yes no"),
        ("yes, it is", "yes it is"),
        ("1,000", "1000"),
        ("x-ray of 1,000", "xray of 1000"),
        ("a- b-c", "bc"),
        ("2.5 m.", "2.5 m"),
        (".5", ".5"),
        ("3.", "3"),
        ("e.g. u.s.", "eg us"),
        ("2:50 pm", "2:50 pm"),
        ("what?!", "what"),
        ("\u00c9t\u00e9!", "\u00e9t\u00e9"),
        ("\u718a", "\u718a"),
        ("", ""),
    ],
)
def test_answers_as_they_are_compared(answer, expected):
    assert normalise(answer) == expected


@pytest.mark.parametrize("mark", ';/[]"{}()=+\\_-><@`,?!')
def test_every_mark_of_punctuation_goes(mark):
    assert normalise(f"red{mark}blue") == "red blue"
    assert normalise(f"red{mark} blue") == "red blue"
    assert normalise(f"red {mark}blue") == "red blue"


@pytest.mark.parametrize("mark", "':%$&*#~\u2019")
def test_other_signs_stay(mark):
    assert normalise(f"red{mark}blue") == f"red{mark}blue"


def test_what_is_normalised_stays_so():
    rng = random.Random(0)
    pieces = [*"abT29 .,;-_!?'()[]", "two", " the ", " dont ", "None", "\u00e9"]
    for _ in range(2000):
        once = normalise("".join(rng.choices(pieces, k=rng.randint(0, 12))))
        assert once == " ".join(once.split()) and not set(once) & set(",;-_!?()[]")
        assert not set(once.split()) & {"a", "an", "the", "two", "none", "dont"}


# -------------------------------------------------------------------------------- VQA: the formula


def leave_one_out(reply, references):
    """The definition: all ways to take all references but one, one after the other."""
    said, given = normalise(reply), [normalise(reference) for reference in references]
    sets = list(itertools.combinations(given, len(given) - 1))
    return sum(min(sum(text == said for text in own) / 3, 1) for own in sets) / len(sets)


@pytest.mark.parametrize("matches", range(11))
def test_vqa_accuracy_with_ten_references(matches):
    references = ["Red."] * matches + ["blue", "a green", "2", "no"] * 3
    references = references[:10]
    # 0; 0.9 * 1/3; (2 * 1/3 + 8 * 2/3) / 10; (3 * 2/3 + 7) / 10; then 1
    by_hand = [0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1][matches]
    assert vqa_accuracy("the red", references) == pytest.approx(by_hand)
    assert leave_one_out("the red", references) == pytest.approx(by_hand)


def test_vqa_accuracy_is_the_definitions_whatever_the_number_and_order_of_references():
    rng = random.Random(1)
    texts = ["red", "Red", "the red", "two", "2", "t-shirt", "t shirt", "no", ""]
    for _ in range(500):
        references = rng.choices(texts, k=rng.randint(1, 12))
        reply = rng.choice([text for text in texts if text])
        if any(references):
            found = vqa_accuracy(reply, references)
            assert found == pytest.approx(leave_one_out(reply, references))
            rng.shuffle(references)
            assert vqa_accuracy(reply, references) == found


def test_one_reference_leaves_an_empty_set():
    assert vqa_accuracy("red", ["red"]) == 0
    assert vqa_accuracy("red", ["red", "red"]) == pytest.approx(1 / 3)


def test_reply_and_references_are_normalised_alike():
    assert vqa_accuracy("2 t-shirts", ["Two t shirts."] * 10) == 1
    assert vqa_accuracy("Two T-shirts!", ["2 t shirts"] * 10) == 1
    # An article alone says something, though nothing of it is left; so it matches its like.
    assert vqa_accuracy("the", ["a"] * 10) == 1


def test_the_released_measure_takes_any_confident_answer():
    answers, sure = ["red", "Blue", "green"], ["maybe", "yes", "no"]
    assert vqa_confident("blue", answers, sure) == 1
    assert vqa_confident("BLUE", answers, sure) == 1
    assert vqa_confident("red", answers, sure) == vqa_confident("green", answers, sure) == 0
    assert vqa_confident("blue.", answers, sure) == vqa_confident("a blue", answers, sure) == 0
    # One annotator out of ten is enough for it, where VQA accuracy gives 0.3.
    assert vqa_confident("pink", ["pink"] + ["red"] * 9, ["yes"] * 10) == 1
    assert vqa_confident("red", ["red"] * 10, [""] * 10) == 0
    with pytest.raises(ValueError, match="zip"):
        vqa_confident("red", ["red"] * 10, ["yes"])


# -------------------------------------------------------------------------------------------- ANLS


def levenshtein(first, second):
    """Edit distance by its recursion."""
    table = {}

    def distance(i, j):
        if not i or not j:
            return i + j
        if (i, j) not in table:
            replaced = distance(i - 1, j - 1) + (first[i - 1] != second[j - 1])
            table[i, j] = min(replaced, distance(i - 1, j) + 1, distance(i, j - 1) + 1)
        return table[i, j]

    return distance(len(first), len(second))


def similarity(reply, references, threshold):
    best = 0.0
    for reference in references:
        one, other = (" ".join(text.lower().split()) for text in (reply, reference))
        distance = levenshtein(one, other) / max(len(one), len(other))
        best = max(best, 1 - distance if distance < threshold else 0)
    return best


@pytest.mark.parametrize(
    ("reply", "references", "official", "released"),
    [
        ("coca cola", ["Coca  Cola"], 1, 1),
        ("march", ["mars"], 3 / 5, 3 / 5),
        # Distance 2 of 4 is not below 0.5; 3 of 4 is far off, and the released code rewards it.
        ("abcd", ["abxy"], 0, 0.5),
        ("abcd", ["axyz"], 0, 0.25),
        ("abcd", ["wxyz"], 0, 0),
        ("12", ["99", "12.", "x"], 2 / 3, 2 / 3),
        ("caf\u00e9", ["cafe"], 0.75, 0.75),
        # As two signs, the accent makes the text longer.
        ("cafe\u0301", ["caf\u00e9"], 0.6, 0.6),
        ("\u718a", ["\u718a\u732b"], 0, 0.5),
    ],
)
def test_anls_by_hand(reply, references, official, released):
    assert anls(reply, references) == pytest.approx(official)
    assert anls(reply, references, 1.0) == pytest.approx(released)


def test_anls_is_that_of_the_definition_in_any_order():
    rng = random.Random(2)

    def text():
        return "".join(rng.choices("abAB \u00e9", k=rng.randint(1, 8))) + rng.choice("ab")

    for _ in range(500):
        reply, references = text(), [text() for _ in range(rng.randint(1, 4))]
        for threshold in (0.5, 1.0):
            found = anls(reply, references, threshold)
            assert found == pytest.approx(similarity(reply, references, threshold))
            assert anls(reply, references[::-1], threshold) == found
        assert anls(reply, references) <= anls(reply, references, 1.0)


# ------------------------------------------------------------------------------------- exact match


def test_exact_match():
    assert exact_match(" Yes\n", ["no", "yes"]) == exact_match("yes", ["YES "]) == 1
    assert exact_match("yes.", ["yes"]) == exact_match("yes", ["yes it is"]) == 0
    assert exact_match("0m2", ["0m2"]) == 1
    assert score("exact", "Yes", "yes", ["yes"]) == (1, 1)


# --------------------------------------------------------------------------------- multiple choice


def test_options_are_read_by_their_letters():
    assert read_options(OPTIONS) == {
        "A": "tumor",
        "B": "left lung",
        "C": "lung",
        "D": "no finding.",
    }
    assert read_options([" a) one: two ", "B:"]) == {"A": "one: two", "B": ""}
    assert read_options([]) == {}
    for wrong in (["tumor"], ["A: x", "A: y"], ["AB: x"]):
        with pytest.raises(ValueError, match="letter"):
            read_options(wrong)


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        *((text, "B") for text in ("B", "b", " B ", "B:", "B.", "B)", "(B)", "(b).", "(B):")),
        *((text, "B") for text in ("B: left lung", "b. Left  Lung.", "(B) left lung", "B) it")),
        *((text, "B") for text in ("left lung", "Left lung.", "LEFT\nLUNG")),
        ("lung", "C"),
        ("no finding", "D"),
        ("A: a growth that is no option", "A"),
        # A letter and another option's text name two.
        ("A: lung", None),
        ("E", None),
        ("E: lung", None),
        # An article is no letter of an option.
        ("A tumor", None),
        ("BB", None),
        ("A B C D", None),
        ("the left lung", None),
        ("", None),
        (" \n", None),
        (".", None),
        ("\u0411", None),
        (LONG, None),
    ],
)
def test_the_option_that_a_reply_names(reply, letter):
    assert named_option(reply, OPTIONS) == letter
    assert named_option(reply, OPTIONS[::-1]) == letter
    for label in "ABCD":
        assert multiple_choice(reply, OPTIONS, label) == (label == letter)


def test_a_letter_comes_before_a_text_that_is_a_letter():
    options = ["A: B", "B: C", "C: V"]
    assert named_option("B", options) == "B"
    assert named_option("v", options) == "C"
    assert named_option("B: C", options) == "B"


def test_an_option_without_a_text_is_named_by_its_letter_only():
    options = ["A: tumor", "B:"]
    assert named_option("", options) is None and named_option(".", options) is None
    assert named_option("B", options) == "B"


def test_a_text_that_two_options_have_names_neither():
    options = ["A: same", "B: Same", "C: other"]
    assert named_option("same", options) is None
    assert named_option("B: same", options) == "B"


@pytest.mark.parametrize(
    ("reply", "label", "released"),
    [
        ("B", "B", 1),
        ("b", "B", 0),
        ("BBB", "B", 3),
        ("A, B, C or D", "B", 1),
        ("Big Brown Bear", "B", 3),
        ("B: left lung", "B", 1),
        ("left lung", "B", 0),
        ("", "B", 0),
    ],
)
def test_the_released_measure_counts_letters(reply, label, released):
    assert label_characters(reply, OPTIONS, label) == released
    assert score("multiple_choice", reply, label, [], [], OPTIONS)[1] == released


def test_a_label_that_is_no_option_has_no_score():
    for label in ("E", "", "tumor"):
        assert all(map(math.isnan, score("multiple_choice", "A", label, [label], [""], OPTIONS)))
    assert score("multiple_choice", "A", "a", ["a"], [""], OPTIONS) == (1, 1)


# --------------------------------------------------------------------------- what holds for all


@pytest.mark.parametrize("metric", ["vqa", "anls", "exact", "no_judge"])
@pytest.mark.parametrize("references", [[], [""], [" ", "\n"]])
def test_without_a_reference_there_is_no_score(metric, references):
    for reply in ("", "yes"):
        found = score(metric, reply, "", references, ["yes"] * len(references))
        assert all(map(math.isnan, found))


@pytest.mark.parametrize("metric", ["vqa", "anls", "exact", "no_judge", "multiple_choice"])
@pytest.mark.parametrize("reply", ["", " ", "\n\t"])
def test_a_reply_that_says_nothing_scores_0(metric, reply):
    assert score(metric, reply, "A", ["A", ""], ["yes", "yes"], OPTIONS) == (0, 0)


@pytest.mark.parametrize("metric", ["vqa", "anls", "exact", "no_judge", "multiple_choice"])
def test_a_reply_that_does_not_end(metric):
    official, released = score(metric, LONG, "A", ["yes"] * 10, ["yes"] * 10, OPTIONS)
    assert official == 0 and released < 0.001


def test_every_measure_has_a_label_for_both_variants():
    assert VARIANTS == ("official", "released")
    assert all(len(labels) == len(VARIANTS) and all(labels) for labels in LABELS.values())
    assert "no Lingo-Judge" in LABELS["no_judge"][0]
    with pytest.raises(ValueError, match="'bleu' is no measure"):
        score("bleu", "yes", "yes", ["yes"])
