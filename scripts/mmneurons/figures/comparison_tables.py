"""Tables of the comparison of methods, as pages of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mmneurons.figures.comparison import MEASURE_NAMES
from mmneurons.figures.inputs import models_of
from mmneurons.figures.shown import Source, short_names
from mmneurons.figures.tables import DASH, escaped, interval, least_to_most, left_out_page, page
from mmneurons.metrics.comparison import ALL_MODELS

CONTROL, DIFFERENCE = "random, same layers", "difference"


def measures_page(
    data: pd.DataFrame,
    source: Source,
    methods: Mapping[str, str],
    models: Sequence[str],
    title: str,
    explanation: str,
) -> str:
    """A block a model, that of all models first; a row a method, a column a measure.

    Under a method stand its control, random neurons from the same layers, and the difference.
    data: of `figures.comparison.measures_data`.
    """
    names = short_names(models)
    blocks: dict[str, pd.DataFrame | str] = {}
    for model in (ALL_MODELS, *models):
        own = data[data["model"] == model].set_index("method")
        rows = []
        for method in methods:
            cells = own.loc[[method]].set_index("measure")
            counts = {"concepts": _counts(cells["n_groups"])}
            if model == ALL_MODELS:
                counts["models"] = _counts(cells["n_models"])
            rows.append({"method": escaped(methods[method])} | _line(cells, "value") | counts)
            if cells["control"].notna().any():
                rows.append({"method": CONTROL} | _line(cells, "control", "control_"))
                rows.append({"method": DIFFERENCE} | _line(cells, "difference", "difference_"))
        heading = "Mean over models" if model == ALL_MODELS else escaped(names[model])
        blocks[heading] = pd.DataFrame(rows).fillna("")
    caption = (
        f"{explanation} In brackets 95 % bootstrap intervals over concepts, the same concepts "
        f"drawn for every method. *{CONTROL}*: as many random neurons as the method has in each "
        f"layer. *{DIFFERENCE}*: of the two, concept by concept and model by model; where its "
        "interval spans 0, this run does not tell the method's neurons from random ones of their "
        "layers. models: those that carry the method, the fewest and the most over the measures; "
        "means over different models are not one comparison. "
        f"{DASH}: the model or the data cannot carry it (capabilities, table S3), it has no "
        "control, or no interval, because there are fewer than two concepts."
    )
    return page(title, caption, blocks, source)


def _line(cells: pd.DataFrame, value: str, bounds: str = "") -> dict[str, str]:
    """A number of every measure with its interval, whose columns' names begin with `bounds`."""
    names = [value, f"{bounds}low", f"{bounds}high"]
    return {MEASURE_NAMES[measure]: interval(*row[names]) for measure, row in cells.iterrows()}


def _counts(counts: pd.Series) -> str:
    """The fewest and the most over the measures that have a value."""
    known = counts[counts > 0].astype(int)
    return least_to_most(known) if len(known) else "0"


def costs_data(costs: pd.DataFrame, methods: Mapping[str, str]) -> pd.DataFrame:
    """costs.csv of all models; seconds also relative to the cheapest method of the model."""
    own = costs[costs["method"].isin(list(methods))].reset_index(drop=True)
    cheapest = own.groupby("model", observed=True)["seconds"].transform("min")
    return own.assign(relative=own["seconds"] / cheapest)


def costs_page(
    data: pd.DataFrame, source: Source, methods: Mapping[str, str], title: str, explanation: str
) -> str:
    """A block a model, a row a method."""
    blocks = {}
    for model, name in short_names(models_of(data)).items():
        own = data[data["model"] == model]
        blocks[escaped(name)] = pd.DataFrame(
            {
                "method": own["method"].map(lambda m: escaped(methods[m])),
                "seconds a sample": own["seconds"].map("{:.4f}".format),
                "times the cheapest": own["relative"].map("{:.1f}".format),
                "peak memory, MB": (own["bytes"] / 1e6).map("{:,.1f}".format),
                "samples a batch": own["n_samples"],
            }
        )
    return page(title, explanation, blocks, source)


def capabilities_data(capabilities: pd.DataFrame) -> pd.DataFrame:
    """capabilities.csv of all models."""
    return capabilities.assign(reason=capabilities["reason"].fillna(""))


def capabilities_page(
    data: pd.DataFrame, source: Source, methods: Mapping[str, str], title: str, explanation: str
) -> str:
    """A row a method or measure, a column a model: yes, or why not."""
    names = short_names(models_of(data))
    rows = []
    for (kind, name), own in data.groupby(["kind", "name"], sort=False):
        label = methods.get(name, name) if kind == "method" else name
        row = {"": f"{kind} {escaped(label)}", "needs": own["needs"].iloc[0]}
        for model, short in names.items():
            cell = own[own["model"] == model]
            runs = bool(cell["runs"].all()) and len(cell) > 0
            row[escaped(short)] = "yes" if runs else escaped("; ".join(cell["reason"]))
        rows.append(row)
    return page(title, explanation, {"": pd.DataFrame(rows)}, source)


def exclusions_page(exclusions: pd.DataFrame, source: Source, title: str, explanation: str) -> str:
    """Everything that was left out."""
    return left_out_page(exclusions, source, title, explanation)
