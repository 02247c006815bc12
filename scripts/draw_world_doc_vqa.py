"""Draw the DocVQA part of the embedded world in DocVQA's file format."""

from pathlib import Path

from mmneurons.console import log_to
from mmneurons.world.doc_vqa import write_doc_vqa

log_to(snakemake.log[0])
root = Path(snakemake.output.tables[0]).parent.parent
write_doc_vqa(root, snakemake.params.pictures, snakemake.params.seed)
