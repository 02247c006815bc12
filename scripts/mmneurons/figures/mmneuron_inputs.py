"""What figures and tables of MMNeuron (Huo et al. 2024) read, and what they rest on.

Tables of several models have a categorical column `model` (`mmneurons.figures.inputs`), tables of
domains a categorical column `group` (`mmneurons.figures.domains`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mmneurons.artifacts.tensors import TensorFile
from mmneurons.figures.domains import domains_of, in_domains, short_label
from mmneurons.figures.inputs import by_model, models_of, read_inputs
from mmneurons.figures.shown import (
    Source,
    joined,
    left_out,
    left_out_of_models,
    short_names,
)

COUNTS_SUFFIX = ".safetensors"


def read_domain_inputs(
    inputs: Mapping[str, str | Sequence[str]], models: Sequence[str], domains: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """`read_inputs`, with domains as categories; files of summed counts become `counts_table`.

    What was left out keeps its groups as they are: some rows are about no domain.
    """
    of_counts = {
        name: paths
        for name, paths in inputs.items()
        if not isinstance(paths, str) and all(Path(p).suffix == COUNTS_SUFFIX for p in paths)
    }
    tables = read_inputs({n: p for n, p in inputs.items() if n not in of_counts}, models)
    tables |= {
        name: by_model(models, map(counts_table, paths)) for name, paths in of_counts.items()
    }
    return {
        name: table if name == "exclusions" or "group" not in table else in_domains(table, domains)
        for name, table in tables.items()
    }


def counts_table(path: str | Path) -> pd.DataFrame:
    """What a file of activation counts rests on: group, module, n (samples), tokens."""
    file = TensorFile(path)
    groups, samples = file.facts["groups"], file.facts["n_samples"]
    rows = [
        (group, module, n, int(tokens))
        for module in file.facts["layers"]
        for group, n, tokens in zip(groups, samples, file[f"tokens.{module}"], strict=True)
    ]
    return pd.DataFrame(rows, columns=["group", "module", "n", "tokens"])


def of_every_model(exclusions: pd.DataFrame, recorded: pd.DataFrame) -> pd.DataFrame:
    """What was left out of every model: by the choice of questions, then by the model's own steps.

    exclusions: stage, sample_id, group, reason, detail; recorded: the same and model.
    """
    columns = ["model", "stage", "sample_id", "group", "reason", "detail"]
    return by_model(
        models_of(recorded),
        [
            pd.concat([exclusions, recorded[recorded["model"] == model]], ignore_index=True)
            for model in models_of(recorded)
        ],
    )[columns]


# What a figure or table rests on.


def domains_source(
    models: Sequence[str], datasets: Sequence[str], n: str, exclusions: pd.DataFrame
) -> Source:
    """The source of what rests on the questions of several domains.

    datasets: labels of the domains' data. exclusions: of several models with a column `model`, or
    of the choice of questions alone.
    """
    several = "model" in exclusions
    left = left_out_of_models(models, exclusions) if several else left_out(exclusions)
    return Source(joined(models), joined(list(dict.fromkeys(datasets))), n, left)


def samples(table: pd.DataFrame, what: str) -> str:
    """How many samples a table has of each domain, such as "40 questions of each domain"."""
    heads = ["model", "group"] if "model" in table else ["group"]
    numbers = table.drop_duplicates([*heads, "sample_id"]).groupby(heads, observed=True).size()
    return counted(table, numbers.rename("n").reset_index(), what)


def largest(table: pd.DataFrame, what: str) -> str:
    """The same of a table that has numbers of samples, `n`: the largest of each domain."""
    return counted(table, table.groupby(["model", "group"], observed=True)["n"].max(), what)


def counted(table: pd.DataFrame, numbers: pd.DataFrame | pd.Series, what: str) -> str:
    """Say how many there are of each domain, and of each model where these differ.

    table: of which models and domains are taken; numbers: (model,) group, n. A domain without a
    row has none.
    """
    numbers = numbers.reset_index() if isinstance(numbers, pd.Series) else numbers
    domains = domains_of(table)
    models = models_of(table) if "model" in table else [None]
    phrases = {}
    for model in models:
        own = numbers if model is None else numbers[numbers["model"] == model]
        found = dict(zip(own["group"], own["n"], strict=True))
        phrases[model] = _phrase([int(found.get(name, 0)) for name in domains], domains, what)
    if len(set(phrases.values())) == 1:
        return next(iter(phrases.values()))
    names = short_names(models)
    return "; ".join(f"{phrase} ({names[model]})" for model, phrase in phrases.items())


def _phrase(numbers: Sequence[int], domains: Sequence[str], what: str) -> str:
    if len(set(numbers)) == 1 < len(numbers):
        return f"{numbers[0]} {what} of each domain"
    named = (f"{n} {short_label(name)}" for n, name in zip(numbers, domains, strict=True))
    return f"{', '.join(named)} {what}"
