"""Whether a caption names a concept: the one noun-hit function of the project.

`names` is the whole-word rule: case-folded, singular and plural, both taken from textblob's
inflections. `names_loosely` is the substring rule, under which "bedroom" names "bed"; the papers do
not say which of the two they used. Neither knows synonyms: "sofa" does not name "couch".
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import pandas as pd

_HYPHENS = "-\u2010\u2011"
_APOSTROPHES = "'\u2019"
# A word joined by a hyphen ("cat-shaped") or an apostrophe ("o'clock", "can't") is one word, so
# its parts are not named; the possessive ("the cat's tail") is not part of the word.
_WORD_START = rf"(?<!\w)(?<!\w[{_HYPHENS}{_APOSTROPHES}])"
_WORD_END = rf"(?!\w)(?![{_HYPHENS}]\w)(?![{_APOSTROPHES}](?!s\b)\w)"
_BETWEEN_WORDS = rf"[{_HYPHENS}\s]+"


def names(caption: str, concept: str) -> bool:
    """Whether the caption has the concept as a whole word, in singular or plural.

    Of a name of several words the last one may be inflected, and a hyphen may stand for the space
    ("fire-hydrants" names "fire hydrant"). Raises ValueError for a concept without letters. Other
    concepts play no part: "teddy bear" names "bear" here; `named` knows better.
    """
    return _pattern(concept).search(_folded(caption)[0]) is not None


def named_after(caption: str, concept: str, prefix: str) -> bool:
    """Whether the caption `names` the concept after its prefix, which names nothing."""
    return names(caption.removeprefix(prefix), concept)


def names_loosely(caption: str, concept: str) -> bool:
    """Whether the concept is a substring of the caption, case-folded ("bedroom" names "bed")."""
    return bool(_words(concept)) and _folded(concept)[0].strip() in _folded(caption)[0]


def spans(caption: str, concept: str) -> list[tuple[int, int]]:
    """The (start, end) characters of the caption at which `names` finds the concept."""
    folded, starts, ends = _folded(caption)
    hits = _pattern(concept).finditer(folded)
    return [(starts[hit.start()], ends[hit.end() - 1]) for hit in hits]


def mentions(caption: str, concepts: Iterable[str]) -> dict[str, list[tuple[int, int]]]:
    """Where the caption names each concept, the longer ones masking the shorter inside them.

    With "bear" and "teddy bear" among the concepts, "a teddy bear" names only the teddy bear and
    "a bear with a teddy bear" both. Returns the (start, end) characters of every concept's
    mentions, in order; a concept without any has an empty list.
    """
    hits = {concept: spans(caption, concept) for concept in concepts}
    everywhere = {span for found in hits.values() for span in found}
    return {
        concept: [
            span for span in found if not any(_lies_inside(span, other) for other in everywhere)
        ]
        for concept, found in hits.items()
    }


def named(caption: str, concepts: Iterable[str]) -> set[str]:
    """The concepts that the caption names, by `mentions`."""
    return {concept for concept, found in mentions(caption, concepts).items() if found}


def _lies_inside(span: tuple[int, int], other: tuple[int, int]) -> bool:
    return span != other and other[0] <= span[0] and span[1] <= other[1]


@lru_cache(maxsize=4096)
def _pattern(concept: str) -> re.Pattern:
    words = _words(concept)
    if not words:
        raise ValueError(f"no letters in the concept {concept!r}")
    *head, last = words
    inflected = "|".join(sorted(map(re.escape, _inflections(last)), key=len, reverse=True))
    parts = [*map(re.escape, head), f"(?:{inflected})"]
    return re.compile(_WORD_START + _BETWEEN_WORDS.join(parts) + _WORD_END)


def _words(concept: str) -> list[str]:
    pieces = re.split(_BETWEEN_WORDS, _folded(concept)[0])
    return [piece for piece in pieces if re.search(r"\w", piece)]


@lru_cache(maxsize=4096)
def _inflections(word: str) -> frozenset[str]:
    """The word, its plurals, and its singular if it is a plural itself.

    textblob takes "bus" for a plural and pluralises plurals ("skiss"). So both of its directions
    are compared: the form in -s is a plural if `singularize` undoes it ("persons" beside
    "people"), and the singular is taken only if the word is its plural and has itself no plural
    but one more s ("skis"; "bus" has "buses"). Some forms are no words ("kine"), which no caption
    has. Not known: the plural of most words in -us ("cactuses") and the singular of "ties".
    """
    # Here, since it brings nltk, scipy and scikit-learn along: a second, for most jobs in vain.
    from textblob.inflect import pluralize, singularize

    plurals = {pluralize(word), pluralize(word, classical=False)}
    forms = {word} | plurals
    if singularize(word + "s") == word:
        forms.add(word + "s")
    singular = singularize(word)
    is_its_plural = word in (pluralize(singular), pluralize(singular, classical=False))
    if is_its_plural and plurals <= {word, word + "s"}:
        forms.add(singular)
    return frozenset(forms)


def _folded(text: str) -> tuple[str, list[int] | range, list[int] | range]:
    """The text in composed form (NFKC) and case-folded, and where its characters come from.

    The second and third items give, for each folded character, start and end in `text`: folding
    changes lengths, and an accent may be a character of its own.
    """
    if text.isascii():
        return text.lower(), range(len(text)), range(1, len(text) + 1)
    folded, starts, ends = [], [], []
    for start, end in _with_their_marks(text):
        piece = unicodedata.normalize("NFKC", text[start:end]).casefold()
        folded.append(piece)
        starts += [start] * len(piece)
        ends += [end] * len(piece)
    return "".join(folded), starts, ends


def _with_their_marks(text: str) -> list[tuple[int, int]]:
    """(start, end) of every character together with the combining marks that follow it."""
    heads = [i for i, letter in enumerate(text) if i == 0 or not unicodedata.combining(letter)]
    return list(zip(heads, [*heads[1:], len(text)], strict=True))


def mark_hits(captions: pd.DataFrame, concepts: Iterable[str]) -> pd.DataFrame:
    """Replace `caption` by whether it names `picture_group`: `named` and `named_loose`.

    Equal pairs of caption and concept are looked at once.
    """
    concepts = list(concepts)
    pairs = captions[["caption", "picture_group"]].drop_duplicates()
    pairs = pairs.assign(
        named=[group in named(caption, concepts) for caption, group in pairs.to_numpy()],
        named_loose=[names_loosely(caption, group) for caption, group in pairs.to_numpy()],
    )
    marked = captions.merge(pairs, on=["caption", "picture_group"], how="left", validate="m:1")
    return marked.drop(columns="caption")
