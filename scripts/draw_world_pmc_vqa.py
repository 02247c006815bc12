"""Draw the PMC-VQA part of the embedded world in PMC-VQA's file format."""

from pathlib import Path

from mmneurons.console import log_to
from mmneurons.world.pmc_vqa import write_pmc_vqa

log_to(snakemake.log[0])
root = Path(snakemake.output.tables[0]).parent
write_pmc_vqa(root, snakemake.params.pictures, snakemake.params.seed)
