"""Put the shards of a table together."""

from mmneurons.artifacts.tables import read_facts, read_tables, write_table
from mmneurons.console import log_to

log_to(snakemake.log[0])
table = read_tables(snakemake.input, sort=list(snakemake.params.sort))
write_table(table, snakemake.output[0], read_facts(snakemake.input[0]))
