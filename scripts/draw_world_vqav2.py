"""Draw the VQAv2 part of the embedded world in VQAv2's file format."""

from pathlib import Path

from mmneurons.console import log_to
from mmneurons.world.vqav2 import write_vqav2

log_to(snakemake.log[0])
root = Path(snakemake.output.questions[0]).parent
write_vqav2(root, snakemake.params.pictures, snakemake.params.seed)
