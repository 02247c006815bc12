"""Tokens as words: which neurons are interpretable (Schwettmann et al. 2023, section 3.1).

The paper calls a neuron interpretable if at least seven of its ten most probable tokens are words
of a dictionary (SCOWL's English words) with at least three letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import pandas as pd

BEGINNINGS = "\u2581\u0120"
"""How tokenizers mark that a token begins a word: SentencePiece's and byte-level BPE's."""


def token_text(token: str) -> str:
    """What a token says, without the mark of a word's beginning."""
    for mark in BEGINNINGS:
        token = token.replace(mark, " ")
    return token.strip()


def neuron_text(tokens: Iterable[str]) -> str:
    """A neuron's tokens as one text, separated by commas as in the paper; empty ones left out."""
    return ", ".join(text for text in map(token_text, tokens) if text)


def dictionary(names: Sequence[str], letters: int) -> Callable[[str], bool]:
    """Whether a word of letters only, at least so many, is in one of these Hunspell dictionaries.

    names: of a dictionary that spylls ships ("en_US", whose words are SCOWL's), or paths of an .aff
    and a .dic file without the ending. Hunspell knows inflected words, and a word may be
    capitalised. Raises FileNotFoundError, naming the dictionary that is not there.
    """
    from spylls.hunspell import Dictionary

    loaded = []
    for name in names:
        try:
            loaded.append(Dictionary.from_files(name))
        except (FileNotFoundError, LookupError) as error:
            raise FileNotFoundError(f"no Hunspell dictionary {name}") from error

    @cache
    def known(word: str) -> bool:
        long_enough = word.isalpha() and len(word) >= letters
        return long_enough and any(found.lookup(word) for found in loaded)

    return known


def mark_interpretable(
    neurons: pd.DataFrame,
    neuron_tokens: pd.DataFrame,
    known: Callable[[str], bool],
    words: int,
    of: int,
) -> pd.DataFrame:
    """The neurons with a column `interpretable`: `words` of their `of` best tokens are known.

    neurons: module, layer, unit; neuron_tokens: those and tokens, best first. Raises ValueError for
    a neuron without tokens.
    """
    columns = ["module", "layer", "unit"]
    used = neurons[columns].drop_duplicates()
    found = used.merge(neuron_tokens[[*columns, "tokens"]], how="left", validate="1:1")
    if found["tokens"].isna().any():
        lost = found.loc[found["tokens"].isna().idxmax(), columns].tolist()
        raise ValueError("no top tokens of the neuron {}/L{}.U{}".format(*lost))
    found["interpretable"] = [
        sum(known(token_text(token)) for token in tokens[:of]) >= words
        for tokens in found["tokens"]
    ]
    return neurons.merge(found.drop(columns="tokens"), how="left", on=columns, validate="m:1")
