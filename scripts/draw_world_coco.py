"""Draw the COCO part of the embedded world in COCO 2017's file format."""

from pathlib import Path

from mmneurons.console import log_to
from mmneurons.world.coco import write_coco
from mmneurons.world.grammar import coco_captions

log_to(snakemake.log[0])
root = Path(snakemake.output.instances).parent.parent
for split, n_pictures in snakemake.params.pictures.items():
    write_coco(root, split, n_pictures, snakemake.params.seed, coco_captions)
