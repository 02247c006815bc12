"""The items of Pan et al. 2024 by name: what makes an item's data, and what sets or draws them.

`TABLES[name]` is (data, page), `FIGURES[name]` is (data, figure). Items of equal form share both
and differ in their options.
"""

from __future__ import annotations

from collections.abc import Callable

from mmneurons.figures import pan, pan_changes, pan_matrices, pan_supplement, pan_tables

Item = tuple[Callable, Callable]

TABLES: dict[str, Item] = {
    "table2": (pan_tables.methods_data, pan_tables.methods_page),
    "table3": (pan_tables.sensitivity_data, pan_tables.sensitivity_page),
    "table4": (pan_tables.specificity_data, pan_tables.specificity_page),
    "table5": (pan_changes.noise_data, pan_changes.noise_page),
    "table6": (pan_changes.edits_data, pan_changes.edits_page),
    "table7": (pan_changes.transfer_data, pan_changes.transfer_page),
    "table9": (pan_tables.concepts_data, pan_tables.concepts_page),
    "table10": (pan_tables.shuffled_data, pan_tables.shuffled_page),
    "tableS1": (pan_supplement.sites_data, pan_supplement.sites_page),
    "tableS2": (pan_changes.rates_data, pan_changes.rates_page),
}
TABLES |= {"table11": TABLES["table5"], "table12": TABLES["table6"]}

FIGURES: dict[str, Item] = {
    "figure2": (pan.layers_data, pan.layers_figure),
    "figure3": (pan.invariance_data, pan.invariance_figure),
    "figure4": (pan.cross_image_data, pan.cross_image_figure),
    "figure5": (pan_matrices.matrices_data, pan_matrices.matrices_figure),
}
FIGURES |= {"figure6": FIGURES["figure4"], "figure7": FIGURES["figure5"]}
