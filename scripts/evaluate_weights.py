"""Rates of what noise on output rows and edits did to the captions."""

from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.metrics.edits import edits_table
from mmneurons.metrics.weight_noise import weight_noise_table

log_to(snakemake.log[0])
files, prefix = snakemake.input, snakemake.params.prompt["prefix"]
concepts = read_table(files.concepts).query("variant == 'plain'")
noise = weight_noise_table(read_table(files.weight_noise), concepts, prefix)
write_csv(noise, snakemake.output.weight_noise)
write_csv(edits_table(read_table(files.edits), concepts, prefix), snakemake.output.edits)
