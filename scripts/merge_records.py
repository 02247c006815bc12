"""Put the shards of a recording together."""

from mmneurons.artifacts.records import merge_records
from mmneurons.artifacts.tables import read_facts, read_table, read_tables, write_table
from mmneurons.console import log_to

log_to(snakemake.log[0])
groups = list(read_table(snakemake.input.valid)["group"].unique())
merge_records(snakemake.input.tensors, groups, snakemake.output.tensors)
tokens = read_tables(snakemake.input.tokens, sort=["group", "layer", "unit"])
facts = {k: v for k, v in read_facts(snakemake.input.tokens[0]).items() if k != "sample_ids"}
write_table(tokens, snakemake.output.tokens, facts)
