"""The items of Schwettmann et al. 2023 by name: what makes their data, and what sets or draws them.

`TABLES[name]` is (data, page), `FIGURES[name]` is (data, figure) and `PICTURED[name]` too, but its
figure also takes the pictures, whose files the data name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from mmneurons.artifacts.tensors import TensorFile
from mmneurons.figures import schwettmann, schwettmann_pictures, schwettmann_tables
from mmneurons.figures.inputs import read_inputs
from mmneurons.figures.schwettmann_inputs import source_of
from mmneurons.figures.shown import Source

Item = tuple[Callable, Callable]


def _as_they_are(left_out: pd.DataFrame) -> pd.DataFrame:
    return left_out


TABLES: dict[str, Item] = {
    "table1": (schwettmann_tables.descriptions_data, schwettmann_tables.descriptions_page),
    "table2": (schwettmann_tables.prompts_data, schwettmann_tables.prompts_page),
    "tableS1": (schwettmann_tables.pairs_data, schwettmann_tables.pairs_page),
    "tableS2": (schwettmann_tables.nearest_data, schwettmann_tables.nearest_page),
    "tableS3": (schwettmann_tables.captions_data, schwettmann_tables.captions_page),
    "exclusions": (_as_they_are, schwettmann_tables.exclusions_page),
}

FIGURES: dict[str, Item] = {
    "figure3": (schwettmann.prompts_data, schwettmann.prompts_figure),
    "figure5": (schwettmann.localisation_data, schwettmann.localisation_figure),
    "figure6": (schwettmann.ablation_and_case, schwettmann.probability_figure),
    "figureS3": (schwettmann.ablation_data, schwettmann.similarity_figure),
    "figureS4": (schwettmann.layers_data, schwettmann.layers_figure),
}

PICTURED: dict[str, Item] = {
    "figure2": (
        schwettmann_pictures.supercategories_data,
        schwettmann_pictures.supercategories_figure,
    ),
    "figure4": (schwettmann_pictures.examples_data, schwettmann_pictures.examples_figure),
    "figureS1": (schwettmann_pictures.masks_data, schwettmann_pictures.masks_figure),
    "figureS2": (schwettmann_pictures.selectivity_data, schwettmann_pictures.selectivity_figure),
}


OF_OBJECTS = ("figure5", "figureS1", "figureS2")
"""Items that show pictures with a single object as well; all others show the random ones alone."""


def item_data(
    item: str, inputs: Mapping[str, str], options: Mapping, model: str, dataset: str
) -> tuple[pd.DataFrame, Source]:
    """Read an item's inputs by name and make its data, with what they rest on.

    `counted` (the captions) and what begins with `excluded` serve the line at the foot, `maps` is a
    tensor file, everything else a table.
    """
    files = dict(inputs)
    maps = {"maps": TensorFile(files.pop("maps"))} if "maps" in files else {}
    tables = read_inputs(files, [model])
    left_out = [tables.pop(name) for name in list(tables) if name.startswith("excluded")]
    exclusions = pd.concat(left_out, ignore_index=True)
    objects = item in OF_OBJECTS
    source = source_of(model, dataset, tables.pop("counted"), exclusions, objects)
    if "captions" in tables and not objects:
        tables["captions"] = tables["captions"].query("sampled")
    make, _ = (TABLES | FIGURES | PICTURED)[item]
    return make(**maps, **tables, **options), source
