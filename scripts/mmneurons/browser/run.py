"""Reading what a run has recorded of every paper and model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mmneurons.artifacts.tables import read_table
from mmneurons.browser.domains import domains_part
from mmneurons.browser.pan import pan_part
from mmneurons.browser.parts import Part
from mmneurons.browser.schwettmann import schwettmann_part
from mmneurons.browser.two_stage import two_stage_part

Paths = str | Sequence[str]


def read_tokens(paths: Paths, models: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Tables of decoded neurons by model, in whose order the paths are."""
    return {model: read_table(path) for model, path in zip(models, _listed(paths), strict=True)}


def read_parts(
    inputs: Mapping[str, Paths], parts: Sequence[Mapping], tokens: Mapping[str, pd.DataFrame]
) -> list[Part]:
    """One part a paper and model.

    inputs: paths by "{paper}_{name}". One path is the same for all models of a paper, several are
    as many for each model, in their order. parts: paper, model, label, options (keyword arguments
    of the paper's function) of each. tokens: by model, which also tell the layers of the language
    model.
    """
    readers = {"two_stage": two_stage_part, "pan": pan_part, "mmneuron": domains_part}
    readers["schwettmann"] = schwettmann_part
    found = []
    for part in parts:
        paper, model = part["paper"], part["model"]
        models = [own["model"] for own in parts if own["paper"] == paper]
        own = of_model(inputs, paper, models.index(model), len(models))
        options = dict(part["options"])
        if paper != "mmneuron":
            options["layers"] = {"language": language_layers(tokens[model])}
        found.append(readers[paper](own, model, part["label"], **options))
    return found


def of_model(inputs: Mapping[str, Paths], paper: str, place: int, n: int) -> dict[str, list[str]]:
    """The paths of one of `n` models of a paper, by name.

    Raises ValueError where a list cannot be dealt to the models.
    """
    found = {}
    for name, paths in inputs.items():
        if not name.startswith(f"{paper}_"):
            continue
        listed, name = _listed(paths), name.removeprefix(f"{paper}_")
        if len(listed) > 1 and name != "pictures":
            if len(listed) % n:
                raise ValueError(f"{len(listed)} paths of {name} for {n} models of {paper}")
            each = len(listed) // n
            listed = listed[place * each : (place + 1) * each]
        found[name] = listed
    return found


def language_layers(tokens: pd.DataFrame) -> list[int]:
    """Units of every language layer, from a table that has a row for each neuron."""
    own = tokens[tokens["module"] == "language"]
    return [int(n) for n in own.groupby("layer").size().sort_index()]


def _listed(paths: Paths) -> list[str]:
    return [paths] if isinstance(paths, str) else [str(path) for path in paths]
