"""Measure which pictures excite the units of a category, and count units by layer."""

from mmneurons.artifacts.tables import read_table, write_csv, write_table
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.console import log_to
from mmneurons.metrics.selectivity import (
    category_units,
    evaluated_pictures,
    layer_counts,
    selectivity_table,
)

log_to(snakemake.log[0])
p, files, output = snakemake.params, snakemake.input, snakemake.output
pictures, units, means = (
    read_table(files.pictures),
    read_table(files.units),
    TensorFile(files.means),
)
table, exclusions = selectivity_table(
    category_units(pictures, units, p.most, p.n_units),
    means["sums"],
    means["counts"],
    means.facts["categories"],
    means.facts["layers"],
    means.facts["units_per_layer"],
)
sampled = units["sample_id"].isin(pictures.loc[pictures["sampled"], "picture_id"])
write_csv(table, output.selectivity)
write_csv(evaluated_pictures(pictures), output.pictures)
write_csv(layer_counts(units[sampled], means.facts["layers"], p.most), output.layers)
write_table(exclusions, output.exclusions)
