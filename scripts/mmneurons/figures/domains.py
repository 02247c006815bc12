"""What figures and tables call domains, modules and conditions of MMNeuron (Huo et al. 2024).

Tables of domains have a categorical column `group`, whose categories are all domains of the run in
the order in which they are shown, also those that have no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from mmneurons.figures.style import FAINT


class Domain(NamedTuple):
    """A domain for readers; colours are Okabe and Ito's, which any kind of eye tells apart."""

    label: str
    definition: str
    colour: str
    marker: str


DOMAINS = {
    "common": Domain("VQAv2 (common scenes)", "Everyday scenes and things", "#0072B2", "o"),
    "medical": Domain(
        "PMC-VQA (medical)", "Scans and other figures of medical articles", "#D55E00", "s"
    ),
    "driving": Domain(
        "LingoQA (driving)", "The road ahead of a car, several frames a question", "#009E73", "^"
    ),
    "document": Domain("DocVQA (documents)", "Pages of forms, letters and reports", "#CC79A7", "D"),
    "remote": Domain(
        "RSVQA-HR (remote sensing)", "The ground as seen from an aeroplane", "#E69F00", "v"
    ),
}
"""Domains by the names that the configuration has for them, in the order of every figure."""

MODULES = {
    "vision": "vision encoder",
    "projector": "projector",
    "qformer.query": "Q-Former, query branch",
    "qformer.text": "Q-Former, text branch",
    "language": "language model",
}
"""Modules in the order in which a picture's information passes through them."""

PARTS = {
    "vision": "vision encoder",
    "projector": "projector",
    "qformer": "Q-Former",
    "language": "language model",
    "all": "all modules",
}
"""Modules as tables and conditions count them: both branches of a Q-Former are one."""


VARIANTS = {"released": "as the released code computes it", "paper": "as the paper prints it"}
"""Variants of DAPE for readers."""


def domain(name: str) -> Domain:
    """How a domain is shown; one that is not among DOMAINS goes by its own name, in gray."""
    return DOMAINS.get(name, Domain(name, "", FAINT, "P"))


def domain_label(name: str) -> str:
    """A domain's name for readers, such as "DocVQA (documents)"."""
    return domain(name).label


def short_label(name: str) -> str:
    """A domain's name without the bracket, such as "DocVQA"."""
    return domain(name).label.split(" (")[0]


def part_of(module: str) -> str:
    """The key of PARTS that a module belongs to.

    >>> part_of("qformer.text")
    'qformer'
    """
    return module.partition(".")[0]


def in_domains(table: pd.DataFrame, domains: Sequence[str]) -> pd.DataFrame:
    """The table with `group` as a category of the run's domains."""
    return table.assign(group=pd.Categorical(table["group"], categories=list(domains)))


def domains_of(table: pd.DataFrame) -> list[str]:
    """All domains of a table, also those without a row."""
    return list(table["group"].cat.categories)


def selection(data: pd.DataFrame) -> str:
    """Sentences on how domain neurons were selected, from the columns `variant` and `share`."""
    found = data[["variant", "share"]].drop_duplicates()
    rules = " or ".join(VARIANTS.get(name, name) for name in found["variant"].unique())
    share = " or ".join(f"{share:g} %" for share in found["share"].unique())
    return (
        f"Selected: the {share} of each module's units with the lowest entropy of their activation "
        f"probabilities over the domains (DAPE, {rules}), among those that are often active in "
        "some domain; a neuron is specific to every domain in which it is often active, so it may "
        "count in several."
    )
