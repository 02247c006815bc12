"""Put the shards of captions, ranked units and pairs, maps and means together."""

from pathlib import Path

from mmneurons.artifacts.records import merge_means, merge_ranked_maps
from mmneurons.artifacts.tables import in_order, read_facts, read_table, read_tables, write_table
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
    table = read_tables(parts, sort)
    if name == "captions":  # "the first pictures", in figures, are those that the seed drew first
        table = in_order(table, "picture_id", read_table(snakemake.input.pictures)["picture_id"])
    write_table(table, snakemake.output[name], read_facts(parts[0]))
merge_ranked_maps(folders, snakemake.output.maps, snakemake.output.map_rows)
merge_means([folder / "means.safetensors" for folder in folders], snakemake.output.means)
