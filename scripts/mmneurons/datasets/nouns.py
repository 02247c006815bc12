"""The nouns of a caption, and the generated token that begins each of them.

Concepts in Pan et al. 2024 are the nouns of a model's own caption, each scored at the step that
generates its first token. Here a concept is one word: of a compound ("fire hydrant") every noun is
a concept of its own, as in the paper, whose tagger tags single words. Unlike in the released code
all sentences count, and each noun keeps its own token (see `align`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from textblob.taggers import PatternTagger

from mmneurons.metrics.naming import spans

_WORD = re.compile(r"[^\W_]+(?:[-\u2010\u2011'\u2019][^\W_]+)*")
_STANZA_PROCESSORS = "tokenize,mwt,pos"


class TaggedWord(NamedTuple):
    """A word of a caption, its Penn Treebank tag, and the characters [start, end) it stands at."""

    word: str
    tag: str
    start: int
    end: int


Tagger = Callable[[str], list[TaggedWord]]


def load_tagger(name: str = "textblob", models: str | Path | None = None) -> Tagger:
    """A tagger by name: "textblob" (`tag`, needs no download) or "stanza".

    `models` is the folder of Stanza's downloaded models. Raises ValueError for another name,
    ImportError where Stanza is not installed, FileNotFoundError where its models are missing.
    """
    if name == "textblob":
        return tag
    if name == "stanza":
        return _stanza_tagger(models)
    raise ValueError(f'no such tagger: "{name}" (there are "textblob" and "stanza")')


def tag(caption: str) -> list[TaggedWord]:
    """The words of a caption, tagged by textblob's PatternTagger and the lexicon it ships with."""
    words: list[TaggedWord] = []
    cursor = 0
    for token, its_tag in PatternTagger().tag(caption):
        start = caption.find(token, cursor)
        if start < 0:  # The tokenizer rewrites a few contractions, of which none is a noun.
            continue
        cursor = start + len(token)
        words += _words(caption, start, cursor, its_tag)
    return words


def _words(caption: str, start: int, end: int, its_tag: str) -> list[TaggedWord]:
    """What is a word in one token of the tagger: none in punctuation, two in "buses/cars"."""
    found = _WORD.finditer(caption, start, end)
    return [TaggedWord(hit.group(), its_tag, *hit.span()) for hit in found]


def _stanza_tagger(models: str | Path | None) -> Tagger:
    try:
        import stanza
    except ImportError as error:
        raise ImportError(
            "the tagger stanza is not installed: pip install stanza==1.15.0, "
            'or choose the tagger "textblob"'
        ) from error
    folder = {} if models is None else {"dir": str(models)}
    try:
        pipeline = stanza.Pipeline(
            "en", processors=_STANZA_PROCESSORS, download_method=None, verbose=False, **folder
        )
    except Exception as error:  # Stanza has several classes for what is missing.
        where = f", model_dir={str(models)!r}" if models is not None else ""
        raise FileNotFoundError(
            f"no English models of stanza ({' '.join(str(error).split())}); download them: "
            f"python -c \"import stanza; stanza.download('en'{where})\""
        ) from error

    def tag_by_stanza(caption: str) -> list[TaggedWord]:
        words: list[TaggedWord] = []
        for sentence in pipeline(caption).sentences:
            for token in sentence.tokens:
                cursor = token.start_char
                for word in token.words:
                    start = caption.find(word.text, cursor, token.end_char)
                    if start < 0:  # A contraction's part may be written out ("will" of "won't").
                        continue
                    cursor = start + len(word.text)
                    words += _words(caption, start, cursor, word.xpos)
        return words

    return tag_by_stanza


def caption_nouns(caption: str, tagger: Tagger = tag, prefix: str = "") -> list[TaggedWord]:
    """The distinct nouns (tags N*) of a whole caption, lower-cased, in the order of the text.

    A noun that occurs twice is taken where it first occurs. The words of `prefix`, which the model
    is made to say, help to tag the others but are no nouns of the caption; a word that only begins
    in the prefix is. Parts of a joined word ("clock" in "o'clock") are not nouns, since
    `metrics.naming.names` would not find them. Raises ValueError for a caption without its prefix.
    """
    if not caption.startswith(prefix):
        raise ValueError(f"the caption {caption!r} does not start with {prefix!r}")
    nouns: dict[str, TaggedWord] = {}
    for word in tagger(caption):
        concept = word.word.lower()
        if word.tag.startswith("N") and word.end > len(prefix) and concept not in nouns:
            if any(letter.isalpha() for letter in concept) and (
                (word.start, word.end) in spans(caption, concept)
            ):
                nouns[concept] = word._replace(word=concept)
    return list(nouns.values())


def align(
    nouns: Sequence[TaggedWord],
    caption: str,
    token_ids: Sequence[int],
    token_ends: Sequence[int],
    prefix: str = "",
) -> tuple[list[dict], list[dict]]:
    """Find for each noun the generated token that covers its first character.

    `token_ends[i]` is the character of `caption` at which generated token i ends; the first token
    starts where `prefix` ends. A token usually carries the space before its word. Returns (rows,
    left out). Rows: group, position (index of the noun's first token in `token_ids`), token (its
    id), n_tokens (tokens that the noun takes, the last one perhaps shared with what follows it),
    start, end (characters). Left out: group, reason, detail, with the reasons "starts-in-prefix"
    (its first token is not generated) and "not-generated" (the tokens end before the noun).

    Every noun is handled by itself. The released code pairs three lists, of which only two lose
    the nouns without a token, so that all later nouns are scored with another noun's token.
    """
    ends = _settled(token_ends)
    rows, left_out = [], []
    for noun in nouns:
        group = {"group": noun.word}
        position = int(np.searchsorted(ends, noun.start, side="right"))
        if noun.start < len(prefix):
            detail = f"begins at character {noun.start}, the prefix ends at {len(prefix)}"
            left_out.append(group | {"reason": "starts-in-prefix", "detail": detail})
        elif position == len(ends):
            detail = f"begins at character {noun.start}, the tokens end at {max(ends, default=0)}"
            left_out.append(group | {"reason": "not-generated", "detail": detail})
        else:
            last = _last_token(ends, noun.end, caption)
            rows.append(
                group
                | {"position": position, "token": int(token_ids[position])}
                | {"n_tokens": last - position + 1, "start": noun.start, "end": noun.end}
            )
    return rows, left_out


def _settled(token_ends: Sequence[int]) -> np.ndarray:
    """Ends that never fall: a character's first bytes decode to more characters than it has."""
    ends = np.asarray(token_ends, dtype=np.int64)
    return np.minimum.accumulate(ends[::-1])[::-1]


def _last_token(ends: np.ndarray, end: int, caption: str) -> int:
    """The token that completes the text up to `end`, or the last one if the tokens end before.

    A character beyond ASCII may take several tokens, whose settled ends are equal; the last of them
    completes it. After any other character, tokens with the same end have no text.
    """
    last = min(int(np.searchsorted(ends, end, side="left")), len(ends) - 1)
    if ends[last] == end and not caption[end - 1].isascii():
        return int(np.searchsorted(ends, end, side="right")) - 1
    return last


def concepts_of(
    caption: str,
    token_ids: Sequence[int],
    token_ends: Sequence[int],
    tagger: Tagger = tag,
    prefix: str = "",
) -> tuple[list[dict], list[dict]]:
    """The concepts of one caption: its nouns with their tokens, and what was left out.

    Both as `align` gives them; a caption without any noun is left out as a whole, with the reason
    "no-noun" and the group "".
    """
    nouns = caption_nouns(caption, tagger, prefix)
    if not nouns:
        return [], [{"group": "", "reason": "no-noun", "detail": caption}]
    return align(nouns, caption, token_ids, token_ends, prefix)
