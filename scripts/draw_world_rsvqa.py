"""Draw the RSVQA part of the embedded world in RSVQA's file format."""

from pathlib import Path

from mmneurons.console import log_to
from mmneurons.world.rsvqa import write_rsvqa

log_to(snakemake.log[0])
root = Path(snakemake.output.lists[0]).parent
write_rsvqa(root, snakemake.params.pictures, snakemake.params.seed)
