"""Draw the LingoQA part of the embedded world in LingoQA's file format."""

from pathlib import Path

from mmneurons.console import log_to
from mmneurons.world.lingo_qa import write_lingo_qa

log_to(snakemake.log[0])
root = Path(snakemake.output.tables[0]).parent.parent
write_lingo_qa(root, snakemake.params.pictures, snakemake.params.seed)
