"""Put the shards of captions, ranked units and pairs, maps and means together."""

from pathlib import Path

from mmneurons.artifacts.records import merge_means, merge_ranked_maps
from mmneurons.artifacts.tables import read_facts, read_tables, write_table
from mmneurons.console import log_to

log_to(snakemake.log[0])
sorts = {
    "captions": ["picture_id"],
    "pairs": ["sample_id", "rank"],
    "ranking": ["sample_id", "rank"],
    "prompt_tokens": ["picture_id", "kind", "patch"],
    "exclusions": ["stage", "sample_id", "group", "reason", "detail"],
}
folders = [Path(shard) for shard in snakemake.input.shards]
for name, sort in sorts.items():
    parts = [folder / f"{name}.parquet" for folder in folders]
    write_table(read_tables(parts, sort), snakemake.output[name], read_facts(parts[0]))
merge_ranked_maps(folders, snakemake.output.maps, snakemake.output.map_rows)
merge_means([folder / "means.safetensors" for folder in folders], snakemake.output.means)
