"""The items of the comparison by name: which data, and what draws or sets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from mmneurons.figures import comparison, comparison_tables

MEASURED = ("figure1", "figureS1", "figureS2", "table1", "tableS1")


def draw_figure(
    item: str,
    inputs: Mapping[str, pd.DataFrame],
    options: Mapping,
    methods: Mapping[str, str],
    models: Sequence[str],
    dataset: str,
    title: str,
    caption: str,
    style: Mapping,
) -> tuple[pd.DataFrame, Figure]:
    """The data of a figure and the figure; caption: its title is its first line."""
    source = _source(inputs, models, dataset)
    explanation = _explanation(caption)
    if item in MEASURED:
        data = comparison.measures_data(inputs["summary"], methods, models, **options)
        return data, comparison.measures_figure(
            data, source, methods, models, title, explanation, **style
        )
    if item == "figureS3":
        data = comparison.agreement_data(inputs["agreement"], methods)
        return data, comparison.agreement_figure(data, source, methods, title, explanation, **style)
    data = comparison.layers_data(inputs["layers"], methods)
    return data, comparison.layers_figure(data, source, methods, title, explanation, **style)


def set_table(
    item: str,
    inputs: Mapping[str, pd.DataFrame],
    options: Mapping,
    methods: Mapping[str, str],
    models: Sequence[str],
    dataset: str,
    title: str,
    caption: str,
) -> tuple[pd.DataFrame, str]:
    """The data of a table and its page."""
    source, explanation = _source(inputs, models, dataset), _explanation(caption)
    if item in MEASURED:
        data = comparison.measures_data(inputs["summary"], methods, models, **options)
        return data, comparison_tables.measures_page(
            data, source, methods, models, title, explanation
        )
    if item == "tableS2":
        data = comparison_tables.costs_data(inputs["costs"], methods)
        return data, comparison_tables.costs_page(data, source, methods, title, explanation)
    if item == "tableS3":
        data = comparison_tables.capabilities_data(inputs["capabilities"])
        return data, comparison_tables.capabilities_page(data, source, methods, title, explanation)
    data = inputs["exclusions"]
    return data, comparison_tables.exclusions_page(data, source, title, explanation)


def _source(inputs: Mapping[str, pd.DataFrame], models: Sequence[str], dataset: str):
    return comparison.comparison_source(models, dataset, inputs["counted"], inputs["exclusions"])


def _explanation(caption: str) -> str:
    """A caption without its first line, on one line."""
    return " ".join(caption.split("\n", 1)[1].split())
