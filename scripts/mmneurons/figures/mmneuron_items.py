"""The items of MMNeuron (Huo et al. 2024) by name: their data, how they are shown, what n counts.

Items of equal form share an entry and differ in their options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd

from mmneurons.figures import mmneuron, mmneuron_cases, mmneuron_tables
from mmneurons.figures.mmneuron_inputs import (
    domains_source,
    largest,
    of_every_model,
    read_domain_inputs,
    samples,
)
from mmneurons.figures.shown import Source


class Item(NamedTuple):
    """One figure or table.

    data: from the inputs and options to the CSV's rows; None shows what was left out. show: from
    these to a figure, with the pictures in between where the item is `pictured`, or to a page. n:
    what the last line says of n, from the input `counted`, or from the data where there is none.
    """

    data: Callable[..., pd.DataFrame] | None
    show: Callable
    n: Callable[[pd.DataFrame], str]
    pictured: bool = False


_read = partial(samples, what="questions")
_counted = partial(largest, what="counted questions")
_answered = partial(largest, what="answered questions")


def _shown(data: pd.DataFrame) -> str:
    n = data["sample_id"].nunique()
    return f"{n} question{'' if n == 1 else 's'}, the first in the seeded order"


def read_item(
    item: Item,
    files: Mapping[str, str | Sequence[str]],
    options: Mapping,
    models: Sequence[str],
    datasets: Mapping[str, str],
) -> tuple[pd.DataFrame, Source]:
    """An item's data, and what it rests on.

    files: the arguments of `data` by name; `counted`, where n is not counted in the data;
    `exclusions`, of the choice of questions; and `recorded`, exclusions of each model, where the
    item is of models. options: the other arguments of `data`. models: labels, in the order of the
    files of each. datasets: labels of the data by domain.
    """
    inputs = read_domain_inputs(files, models, list(datasets))
    exclusions, counted = inputs.pop("exclusions"), inputs.pop("counted", None)
    if "recorded" in inputs:
        exclusions = of_every_model(exclusions, inputs.pop("recorded"))
    data = exclusions if item.data is None else item.data(**inputs, **options)
    n = item.n(data if counted is None else counted)
    return data, domains_source(models, list(datasets.values()), n, exclusions)


TABLES = {
    "table1": Item(mmneuron_tables.neurons_data, mmneuron_tables.neurons_page, _counted),
    "table2": Item(mmneuron_tables.accuracy_data, mmneuron_tables.accuracy_page, _answered),
    "table3": Item(mmneuron_tables.deviation_data, mmneuron_tables.deviation_page, _answered),
    "table5": Item(mmneuron_tables.prompts_data, mmneuron_tables.prompts_page, _read),
    "table9": Item(mmneuron_tables.entropy_data, mmneuron_tables.entropy_page, _read),
    "tableS1": Item(mmneuron_tables.variants_data, mmneuron_tables.variants_page, _counted),
    "exclusions": Item(None, mmneuron_tables.exclusions_page, _read),
}
TABLES |= {"table6": TABLES["table1"], "table7": TABLES["table1"], "table8": TABLES["table2"]}

FIGURES = {
    "figure2": Item(mmneuron.pca_data, mmneuron.pca_figure, partial(samples, what="pictures")),
    "figure5": Item(mmneuron.layers_data, mmneuron.layers_figure, _counted),
    "figure6": Item(mmneuron_cases.lens_data, mmneuron_cases.lens_figure, _shown, True),
    "figure7": Item(
        mmneuron.entropy_data, mmneuron.entropy_figure, partial(largest, what="questions")
    ),
    "figure8": Item(mmneuron_cases.prompts_data, mmneuron_cases.prompts_figure, _shown, True),
    "figure9": Item(mmneuron.silent_data, mmneuron.silent_figure, _counted),
    "table4": Item(mmneuron_cases.domains_data, mmneuron_cases.domains_figure, _read, True),
}
FIGURES |= dict.fromkeys(("figure10", "figure11", "figure12", "figure13"), FIGURES["figure6"])
