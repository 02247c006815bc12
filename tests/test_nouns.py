"""Nouns of captions and their tokens, on captions whose nouns and tokens are read off by eye."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

import mmneurons
from mmneurons.datasets.nouns import (
    TaggedWord,
    align,
    caption_nouns,
    concepts_of,
    load_tagger,
    tag,
)

PREFIX = "An image of"


def words(caption, **options):
    return [noun.word for noun in caption_nouns(caption, **options)]


def tokens(prefix, *texts):
    """Ids 100, 101, ... and the ends of tokens with these texts after the prefix."""
    ends, at = [], len(prefix)
    for text in texts:
        at += len(text)
        ends.append(at)
    return list(range(100, 100 + len(texts))), ends


# -------------------------------------------------------------------------------------- tagging


def test_words_stand_where_their_characters_say():
    caption = 'A dog, the man\'s "hat" (blue) & two CARS on a bus/taxi.'
    found = tag(caption)
    assert [caption[word.start : word.end] for word in found] == [word.word for word in found]
    nouns = [word.word for word in found if word.tag.startswith("N")]
    assert nouns == ["dog", "man", "hat", "CARS", "bus", "taxi"]
    assert not any(word.word in '",.()&' for word in found)


def test_repeated_words_stand_at_their_own_place():
    caption = "a cat and a cat in a catalogue"
    assert [w.start for w in tag(caption) if w.word == "cat"] == [2, 12]


@pytest.mark.parametrize("caption", ["", "   ", "...", "—"])
def test_a_caption_without_words_has_no_nouns(caption):
    assert caption_nouns(caption) == []


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("An image of a red car on a street.", ["car", "street"]),
        ("An image of a dog. A car is near the sea.", ["dog", "car", "sea"]),  # two sentences
        ("An image of a fire hydrant", ["fire", "hydrant"]),  # one noun a word
        ("An image of two dogs and a dog", ["dogs", "dog"]),  # as written
        ("An image of a Dog near a dog", ["dog"]),
        ("An image of Paris", ["paris"]),  # proper nouns count, as in the released code
        ("An image of an image of a house", ["image", "house"]),  # the second image is generated
        ("An image of a tree at five o'clock", ["tree"]),  # the clock is part of a word
        ("An image of", []),
        ("An image of it", []),
    ],
)
def test_nouns_of_the_generated_part(caption, nouns):
    assert words(caption, prefix=PREFIX) == nouns


def test_the_first_occurrence_is_taken():
    caption = "An image of a car, a tree and a Car"
    car, tree = caption_nouns(caption, prefix=PREFIX)
    assert car == TaggedWord("car", "NN", 14, 17)
    assert caption[tree.start : tree.end] == "tree"


def test_a_caption_without_its_prefix_is_refused():
    with pytest.raises(ValueError, match="does not start with 'An image of'"):
        caption_nouns("A car", prefix=PREFIX)


def test_a_tagger_can_be_given():
    def second_word(caption):
        word = caption.split()[1]
        return [TaggedWord(word, "NNS", caption.index(word), caption.index(word) + len(word))]

    assert words("Not This one", tagger=second_word) == ["this"]


# ----------------------------------------------------------------------------------- the taggers


def test_taggers_go_by_name(monkeypatch):
    assert load_tagger() is tag and load_tagger("textblob") is tag
    with pytest.raises(ValueError, match='no such tagger: "nltk".*textblob.*stanza'):
        load_tagger("nltk")
    monkeypatch.setitem(sys.modules, "stanza", None)  # what an import of it meets when it is absent
    with pytest.raises(ImportError, match=r"pip install stanza==.*textblob"):
        load_tagger("stanza")


def fake_stanza(monkeypatch, pipeline):
    monkeypatch.setitem(sys.modules, "stanza", types.SimpleNamespace(Pipeline=pipeline))


def test_missing_models_of_stanza_say_what_to_download(monkeypatch):
    def pipeline(*_, **options):
        assert options["download_method"] is None and options["dir"] == "/models"
        raise RuntimeError("Resources file not found")

    fake_stanza(monkeypatch, pipeline)
    with pytest.raises(FileNotFoundError, match=r"stanza.download\('en', model_dir='/models'\)"):
        load_tagger("stanza", "/models")


def test_stanzas_words_are_placed_within_their_tokens(monkeypatch):
    def word(text, xpos):
        return types.SimpleNamespace(text=text, xpos=xpos)

    def token(start, end, *parts):
        return types.SimpleNamespace(start_char=start, end_char=end, words=parts)

    # "won't" is one token of two words, of which the first is written otherwise.
    first = [
        token(0, 5, word("Men", "NNS"), word("'s", "POS")),
        token(6, 9, word("dog", "NN")),
        token(10, 15, word("will", "MD"), word("n't", "RB")),
        token(16, 19, word("run", "VB")),
        token(19, 20, word(".", ".")),
    ]
    second = [token(21, 24, word("Dog", "NN"))]
    sentences = [types.SimpleNamespace(tokens=found) for found in (first, second)]
    fake_stanza(monkeypatch, lambda *_, **__: lambda _: types.SimpleNamespace(sentences=sentences))
    tagger = load_tagger("stanza")
    found = tagger("Men's dog won't run. Dog")
    assert [tuple(one) for one in found if one.tag[0] == "N"] == [
        ("Men", "NNS", 0, 3),
        ("dog", "NN", 6, 9),
        ("Dog", "NN", 21, 24),
    ]
    assert words("Men's dog won't run. Dog", tagger=tagger) == ["men", "dog"]


def test_tagging_does_not_import_torch_or_stanza():
    code = (
        "import sys; from mmneurons.datasets.nouns import tag; tag('a car'); "
        "sys.exit(bool({'torch', 'stanza'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": str(Path(mmneurons.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


# -------------------------------------------------------------------------------------- alignment


def aligned(caption, prefix, *texts):
    assert prefix + "".join(texts) == caption
    nouns = caption_nouns(caption, prefix=prefix)
    return align(nouns, caption, *tokens(prefix, *texts), prefix=prefix)


def test_a_noun_has_the_token_that_begins_it():
    caption = "An image of a red car on a street."
    rows, left_out = aligned(caption, PREFIX, " a", " red", " car", " on", " a", " str", "eet", ".")
    assert left_out == []
    assert rows == [
        {"group": "car", "position": 2, "token": 102, "n_tokens": 1, "start": 18, "end": 21},
        {"group": "street", "position": 5, "token": 105, "n_tokens": 2, "start": 27, "end": 33},
    ]


@pytest.mark.parametrize(
    ("texts", "position", "n_tokens"),
    [
        (("a", " car", "."), 1, 1),  # the token carries the space
        (("a", " ", "car", "."), 2, 1),  # the space is a token of its own
        (("a ", "c", "a", "r", "."), 1, 3),
        (("a c", "ar."), 0, 2),  # the token before the noun begins it, the last one ends later
        (("a car.",), 0, 1),
        (("a", " car", "", "."), 1, 1),  # a token without text, such as a special one
    ],
)
def test_whatever_the_cuts_the_token_of_the_first_character_counts(texts, position, n_tokens):
    rows, _ = aligned("a car.", "", *texts)
    assert [(row["position"], row["n_tokens"]) for row in rows] == [(position, n_tokens)]


def test_unfinished_characters_do_not_shift_nouns():
    # The bytes of "é" are tokens 1 to 3; alone, two of them decode to more characters than one.
    caption = "a é car"
    ends = [2, 3, 4, 3, 4, 7]
    noun = TaggedWord("car", "NN", 4, 7)
    rows, _ = align([noun, TaggedWord("é", "NN", 2, 3)], caption, range(10, 16), ends)
    assert [(row["position"], row["token"], row["n_tokens"]) for row in rows] == [
        (5, 15, 1),
        (1, 11, 3),
    ]


def test_a_noun_whose_first_token_is_missing_is_left_out_with_the_reason():
    caption = "A photograph of a car and a tree"
    prefix = "A photo"
    nouns = [TaggedWord(*one) for one in [("photograph", "NN", 2, 12), ("car", "NN", 18, 21)]]
    nouns.append(TaggedWord("tree", "NN", 28, 32))
    ids, ends = tokens(prefix, "graph", " of", " a", " car", " and")
    rows, left_out = align(nouns, caption, ids, ends, prefix)
    assert [(row["group"], row["position"]) for row in rows] == [("car", 3)]
    assert [(one["group"], one["reason"]) for one in left_out] == [
        ("photograph", "starts-in-prefix"),
        ("tree", "not-generated"),
    ]
    assert "the tokens end at 25" in left_out[1]["detail"]


def test_without_tokens_every_noun_is_left_out():
    rows, left_out = align([TaggedWord("car", "NN", 2, 5)], "a car", [], [])
    assert rows == [] and left_out[0]["reason"] == "not-generated"


def test_nouns_keep_their_own_token_where_the_released_code_shifts_them():
    """The released code looks nouns up by the token they have when written alone.

    It drops a noun whose token is not in the output from nouns and positions, but not from tokens.
    Here "bee" is generated as "be", "e", while alone it is one token: every noun sorted after it
    then gets the token of the noun before it.
    """
    caption = "An image of an ant, a bee and a cat"
    texts = (" an", " ant", ",", " a", " be", "e", " and", " a", " cat")
    ids, ends = tokens(PREFIX, *texts)
    id_of = dict(zip(texts, ids, strict=True)) | {" bee": 99}

    nouns = sorted(words(caption, prefix=PREFIX))
    noun_tokens = [id_of[f" {noun}"] for noun in nouns]
    kept = [noun for noun, token in zip(nouns, noun_tokens, strict=True) if token in ids]
    positions = [ids.index(token) for token in noun_tokens if token in ids]
    released = [
        (noun, position, token)
        for token, noun, position in zip(noun_tokens, kept, positions, strict=False)
    ]
    assert released == [("ant", 1, id_of[" ant"]), ("cat", 8, 99)]

    rows, left_out = align(caption_nouns(caption, prefix=PREFIX), caption, ids, ends, PREFIX)
    assert left_out == []
    assert [(row["group"], row["position"], row["token"]) for row in rows] == [
        ("ant", 1, id_of[" ant"]),
        ("bee", 4, id_of[" be"]),
        ("cat", 8, id_of[" cat"]),
    ]


# ----------------------------------------------------------------------------- whole captions


def test_concepts_of_a_caption():
    caption = "An image of a car and a car."
    ids, ends = tokens(PREFIX, " a", " car", " and", " a", " car", ".")
    assert concepts_of(caption, ids, ends, prefix=PREFIX) == (
        [{"group": "car", "position": 1, "token": 101, "n_tokens": 1, "start": 14, "end": 17}],
        [],
    )
    rows, left_out = concepts_of("An image of a tree", *tokens(PREFIX, " a"), prefix=PREFIX)
    assert rows == [] and left_out[0]["reason"] == "not-generated"


def test_a_caption_without_a_noun_is_left_out_as_a_whole():
    # The tagger's only noun, "image", belongs to the prefix.
    assert concepts_of("An image of it", [7], [14], prefix=PREFIX) == (
        [],
        [{"group": "", "reason": "no-noun", "detail": "An image of it"}],
    )
