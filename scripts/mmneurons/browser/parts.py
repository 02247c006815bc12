"""What the browser shows of one model in one paper, in a form that all papers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from PIL import Image

NEURON = ["module", "layer", "unit"]
FOUND = ["method", "sample_id", "group", *NEURON, "score", "rank", "key"]
EFFECTS = ["method", "key", "measure", "value", "n", "control", "n_control", "best"]
EXCLUSIONS = ["stage", "sample_id", "group", "reason", "detail"]
SHORT = 24
UNRANKED = -1
"""The rank of random neurons, and of whatever else is drawn rather than ranked."""

Where = tuple[str, int, int]
"""Module, layer and unit."""


@dataclass(frozen=True)
class Method:
    """A way of finding neurons, such as "two_stage/auto".

    label: its name for readers. short: the same in SHORT characters at most, for the table, where
    longer names would be cut and could not be told apart. note: what its rank and score are, in a
    sentence. site: where activations are read, "" where that is not a choice. counted: what its
    neurons are found for.
    """

    key: str
    label: str
    short: str
    note: str
    site: str = ""
    ranked: bool = True
    counted: str = "samples"


@dataclass(frozen=True)
class Shown:
    """A picture as one model sees it: where its pixels come from, and what is said about it.

    name: what the file is stored under; equal names have equal pixels. read: returns the picture,
    already cut to what the model sees.
    """

    name: str
    alt: str
    read: Callable[[], Image.Image]


@dataclass(frozen=True)
class View:
    """One picture in one paper and model.

    picture: name of the picture, the same in every model. heading: what readers call it. text:
    (piece, sample_id or "") of the caption or question, in order. samples: its samples in order.
    others: further pictures and their captions, such as the inpainted one. details: (name, text)
    shown beside it, for instance replies. data: label of its data, where a part has several.
    """

    picture: str
    heading: str
    shown: Shown
    text: Sequence[tuple[str, str]]
    samples: Sequence[str]
    others: Sequence[tuple[Shown, str]] = ()
    details: Sequence[tuple[str, str]] = ()
    data: str = ""


@dataclass(frozen=True)
class SampleMaps:
    """Recorded activations of one sample: neurons (layer, unit) and `n x P` values.

    means: (what they are, P values) of maps that are means over several neurons.
    """

    neurons: Sequence[tuple[int, int]]
    values: np.ndarray
    means: Sequence[tuple[str, np.ndarray]] = ()


@dataclass(frozen=True)
class Part:
    """One model in one paper.

    layers: units of every layer, by module. found: the neurons of every method, with the columns
    FOUND; `key` says to which row of `effects` they belong. effects: what changing neurons did, and
    what random ones did, with the columns EFFECTS; it holds for neurons of rank below `best`.
    recorded: for which neurons and pictures there are maps, in a sentence. tops: for neurons
    without maps, (sample_id, value) of the samples where they are most active.
    shares: (what, share, of how many) by neuron. groups: what concepts, objects or domains are
    called here.
    """

    paper: str
    model: str
    label: str
    data: str
    groups: str
    layers: Mapping[str, Sequence[int]]
    inert: Mapping[str, Sequence[int]]
    methods: Sequence[Method]
    found: pd.DataFrame
    views: Sequence[View]
    group_of: Mapping[str, str]
    effects: pd.DataFrame
    measures: Mapping[str, str]
    exclusions: pd.DataFrame
    grid: tuple[int, int] | None = None
    maps: Mapping[str, SampleMaps] = field(default_factory=dict)
    no_maps: str = ""
    recorded: str = ""
    spread: bool = False
    top_label: str = "activation"
    tops: Callable[[Sequence[Where], int], Mapping[Where, list[tuple[str, float]]]] | None = None
    no_tops: str = ""
    shares: Callable[[Sequence[Where]], Mapping[Where, list[tuple[str, float, str]]]] | None = None
    rates: pd.DataFrame = field(default_factory=pd.DataFrame)


def with_control(effects: pd.DataFrame, keys: Sequence[str], control: str) -> pd.DataFrame:
    """Put the rows of the method `control` beside those of the others, by `keys` and measure.

    effects: method, the keys, measure, value, n. Returns the rows of the other methods with
    `control` and `n_control`, NaN and 0 where there is no control.
    """
    of_control = effects[effects["method"] == control].drop(columns="method")
    of_control = of_control.rename(columns={"value": "control", "n": "n_control"})
    others = effects[effects["method"] != control]
    together = others.merge(of_control, on=[*keys, "measure"], how="left")
    return together.assign(n_control=together["n_control"].fillna(0).astype(int))
