"""Put the shards of the truth benchmark together."""

from mmneurons.artifacts.tables import read_facts, read_tables, write_table
from mmneurons.console import log_to

log_to(snakemake.log[0])
orders = {
    "standings": ["planting", "method", "site", "picture_id", "layer", "unit"],
    "plantings": ["planting"],
    "exclusions": ["group", "sample_id", "reason"],
}
for name, order in orders.items():
    shards = snakemake.input[name]
    write_table(read_tables(shards, sort=order), snakemake.output[name], read_facts(shards[0]))
