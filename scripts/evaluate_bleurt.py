"""Semantic sensitivity by BLEURT, or the rows that say that it was not computed."""

from functools import partial

from mmneurons.artifacts.tables import read_neurons, read_table, write_csv
from mmneurons.console import log_to
from mmneurons.metrics.bleurt import bleurt
from mmneurons.metrics.semantics import sensitivity_table

log_to(snakemake.log[0])
p = snakemake.params
table = sensitivity_table(
    read_neurons(snakemake.input.neurons),
    read_table(snakemake.input.tokens),
    "bleurt",
    partial(bleurt, checkpoint=p.checkpoint, threads=p.threads) if p.checkpoint else None,
    str(p.checkpoint or ""),
    p.sensitivity["neurons"],
    p.sensitivity["tokens"],
)
write_csv(table, snakemake.output.sensitivity)
