"""Whether a reply answers a question: the measure of each dataset, official and as released.

"Official" is what the dataset's own evaluation computes, "released" what the code of MMNeuron (Huo
et al. 2024) computes instead. All give a float from 0 to 1 for one reply, but for the released
count of option letters, which can be larger. Two rules hold for all of them: a reply that says
nothing scores 0, and a question without anything to compare with has the score NaN, so that tables
can leave it out and count it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from anls import anls_score

VARIANTS = ("official", "released")
LABELS = {
    "vqa": ("VQA accuracy", "exact match with a confident answer"),
    "multiple_choice": ("accuracy of the named option", "letters of the reply that are the label"),
    "anls": ("ANLS, cut-off 0.5", "ANLS without cut-off"),
    "exact": ("exact match", "exact match"),
    "lingo_judge": ("Lingo-Judge", "Lingo-Judge, not truncated"),
    "no_judge": ("exact match (no Lingo-Judge configured)",) * 2,
}
"""What the two variants of each measure are called; the last stands in for the one before."""

OFFICIAL_CUT_OFF, NO_CUT_OFF = 0.5, 1.0
"""Thresholds of ANLS on the normalised distance, official and released."""

# ------------------------------------------------------------------------------------------ VQA

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = {"a", "an", "the"}
_NUMBERS = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}
_CONTRACTIONS = """
    ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't
    needn't oughtn't shan't shouldn't wasn't weren't won't wouldn't
    couldn't've hadn't've mightn't've shouldn't've wouldn't've
    could've might've must've not've should've they've we've what've where've who've would've you've
    he'd how'd it'd someone'd something'd there'd they'd where'd who'd you'd
    he'd've it'd've she'd've somebody'd've someone'd've something'd've there'd've they'd've we'd've
    who'd've you'd've
    how'll it'll somebody'll someone'll something'll they'll what'll who'll why'll you'll
    there're they're what're why're you're
    he's how's somebody's someone's that's there's what's when's where's who's why's
    ma'am o'clock 'ow's'at 'twas y'all y'all'd've y'all'll
"""


def _without_one_apostrophe(word: str) -> list[str]:
    places = [place for place, sign in enumerate(word) if sign == "'"]
    return [word[:place] + word[place + 1 :] for place in places]


_MISSPELT = {
    wrong: word for word in _CONTRACTIONS.split() for wrong in _without_one_apostrophe(word)
}


@lru_cache(maxsize=2**16)  # the same few texts come again and again
def normalise(answer: str) -> str:
    """An answer as VQA's evaluation compares it.

    Lower case; punctuation becomes a space, or nothing where it stands beside a space or where the
    answer has a comma between digits; apostrophes and colons stay, and periods before a digit;
    number words up to ten become digits, and "none" 0; articles go; contractions get the apostrophe
    that they lack, but for those of the first person and those that would be another word ("well").
    """
    text = " ".join(answer.split())
    joined = re.search(r"\d,\d", text) is not None
    marks = {
        ord(mark): "" if joined or f"{mark} " in text or f" {mark}" in text else " "
        for mark in _PUNCTUATION
    }
    plain = re.sub(r"\.(?!\d)", "", text.translate(marks)).lower()
    words = (_NUMBERS.get(word, word) for word in plain.split())
    return " ".join(_MISSPELT.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(reply: str, references: Sequence[str]) -> float:
    """VQA accuracy: the mean of min(matches / 3, 1) over all sets that leave one reference out.

    Reply and references are compared as `normalise` gives them. With n references, m of which
    match, m sets have m - 1 matches and n - m sets have m. One reference alone leaves an empty set,
    so it can only give 0.
    """
    if _nothing_in(references):
        return math.nan
    if not reply.strip():
        return 0.0
    said = normalise(reply)
    n, m = len(references), sum(normalise(reference) == said for reference in references)
    return (m * min((m - 1) / 3, 1) + (n - m) * min(m / 3, 1)) / n


def vqa_confident(reply: str, references: Sequence[str], confidence: Sequence[str]) -> float:
    """1 if the reply is, but for case, one of the references whose `confidence` is "yes".

    The released measure for VQAv2. Raises ValueError if there are more of one than of the other.
    """
    pairs = list(zip(references, confidence, strict=True))
    if _nothing_in(references):
        return math.nan
    if not reply.strip():
        return 0.0
    sure = {reference.lower() for reference, how in pairs if how == "yes"}
    return float(reply.lower() in sure)


# ------------------------------------------------------------------------ other open questions


def anls(reply: str, references: Sequence[str], threshold: float = OFFICIAL_CUT_OFF) -> float:
    """Similarity to the closest reference: 1 - d, or 0 where d is not below the threshold.

    d is Levenshtein's distance over the length of the longer text, without regard to case and to
    how much white space there is, by the package anls. A letter and its accent as two signs differ
    from both as one. The package would call two empty texts alike; an empty reply scores 0 here.
    """
    if _nothing_in(references):
        return math.nan
    return float(anls_score(reply, list(references), threshold)) if reply.strip() else 0.0


def exact_match(reply: str, references: Sequence[str]) -> float:
    """1 if the reply is one of the references, but for case and white space around it."""
    if _nothing_in(references):
        return math.nan
    said = _plain(reply)
    return float(said != "" and said in map(_plain, references))


def _plain(text: str) -> str:
    return text.strip().lower()


def _nothing_in(references: Sequence[str]) -> bool:
    return not any(reference.strip() for reference in references)


# -------------------------------------------------------------------------------- multiple choice

_OPTION = re.compile(r"\s*([A-Za-z])\s*[:.)]\s*(.*?)\s*", re.DOTALL)
_LETTER = re.compile(r"\(?([A-Za-z])\)?[:.)]*")
_LETTER_AND_TEXT = re.compile(r"(?:\(([A-Za-z])\)[:.]?|([A-Za-z])[:.)])\s*(\S.*)", re.DOTALL)


def read_options(options: Sequence[str]) -> dict[str, str]:
    """{letter: text} of options such as "A: tumor"; letters are upper case.

    Raises ValueError for an option without a letter and for a letter that two options have.
    """
    found: dict[str, str] = {}
    for option in options:
        match = _OPTION.fullmatch(option)
        if match is None or match[1].upper() in found:
            raise ValueError(
                f"{option!r} is no option with a letter of its own, in {list(options)}"
            )
        found[match[1].upper()] = match[2]
    return found


def named_option(reply: str, options: Sequence[str]) -> str | None:
    """The letter of the option that a reply names, or None if it names none or more than one.

    A reply names an option by its letter alone ("B", "b", "B:", "B.", "(b)"), by its text alone, or
    by both ("B: tumor", "(B) tumor"). Case, white space and a period at the end do not matter. A
    letter with a text that is another option's names two. A letter with any other text names its
    option, but only behind a sign: "A dog" begins with an article.
    """
    texts = {letter: _text(text) for letter, text in read_options(options).items()}
    said = _text(reply)
    alone, both = _LETTER.fullmatch(said), _LETTER_AND_TEXT.fullmatch(said)
    if alone and alone[1].upper() in texts:
        return alone[1].upper()
    by_text = [letter for letter, text in texts.items() if text and text == said]
    if by_text or not both:
        return by_text[0] if len(by_text) == 1 else None
    letter, text = (both[1] or both[2]).upper(), _text(both[3])
    of_others = {other for name, other in texts.items() if name != letter}
    contradicted = text in of_others and text != texts.get(letter)
    return letter if letter in texts and not contradicted else None


def _text(text: str) -> str:
    return " ".join(text.split()).rstrip(".").rstrip().casefold()


def multiple_choice(reply: str, options: Sequence[str], label: str) -> float:
    """1 if the reply names the option with the letter `label`, NaN if no option has it."""
    if label.strip().upper() not in read_options(options):
        return math.nan
    return float(named_option(reply, options) == label.strip().upper())


def label_characters(reply: str, options: Sequence[str], label: str) -> float:
    """How many characters of the reply are the label, NaN if no option has it.

    The released measure for PMC-VQA: "BBB" counts three times for B, and any word with a capital B
    counts, too.
    """
    if label.strip().upper() not in read_options(options):
        return math.nan
    return float(reply.count(label.strip().upper()))


# ------------------------------------------------------------------------------------------- all


def score(
    metric: str,
    reply: str,
    answer: str,
    answers: Sequence[str],
    confidence: Sequence[str] = (),
    options: Sequence[str] = (),
) -> tuple[float, float]:
    """Official and released score of a reply by one of the measures that need no model.

    The arguments are what a row of questions.parquet has. Raises ValueError for another metric.
    """
    if metric == "vqa":
        return vqa_accuracy(reply, answers), vqa_confident(reply, answers, confidence)
    if metric == "multiple_choice":
        return multiple_choice(reply, options, answer), label_characters(reply, options, answer)
    if metric == "anls":
        return anls(reply, answers, OFFICIAL_CUT_OFF), anls(reply, answers, NO_CUT_OFF)
    if metric in ("exact", "no_judge"):
        matches = exact_match(reply, answers)
        return matches, matches
    raise ValueError(f"{metric!r} is no measure of replies")
