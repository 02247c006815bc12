"""Put the shards of captions, concepts, neurons and maps together."""

from pathlib import Path

from mmneurons.artifacts.records import merge_maps
from mmneurons.artifacts.tables import read_facts, read_tables, write_table
from mmneurons.console import log_to

log_to(snakemake.log[0])
output = snakemake.output
sorts = {
    "captions/pan": ["picture_id", "variant"],
    "captions/concepts": ["picture_id", "variant", "position"],
    "exclusions": ["stage", "sample_id", "group"],
    "record/specificity": ["sample_id", "site"],
    "record/cross_scores": ["picture_id", "site", "group", "neuron_group"],
}
targets = {
    "captions/pan": output.captions,
    "captions/concepts": output.concepts,
    "exclusions": output.exclusions,
    "record/specificity": output.specificity,
    "record/cross_scores": output.cross_scores,
} | {f"neurons/{Path(path).stem}": path for path in output.neurons}
for name, target in targets.items():
    parts = [Path(shard) / f"{name}.parquet" for shard in snakemake.input.shards]
    table = read_tables(parts, sorts.get(name, ["sample_id", "rank"]))
    write_table(table, target, read_facts(parts[0]))
maps = [Path(shard) / "record/pan_maps.safetensors" for shard in snakemake.input.shards]
merge_maps(maps, output.maps)
