"""Paint the object of each sample out of its picture."""

from pathlib import Path

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import read_table
from mmneurons.console import log_to, progress
from mmneurons.datasets.pictures import read_picture
from mmneurons.inpainting.load import load
from mmneurons.inpainting.masks import box_mask

log_to(snakemake.log[0])
p = snakemake.params
inpaint = load(p.backend, **p.options)
samples = read_table(snakemake.input.samples)
for sample in progress(samples.itertuples(), len(samples), "inpaint"):
    picture = read_picture(Path(p.root) / sample.file)
    mask = box_mask((picture.height, picture.width), sample.boxes)
    with atomic(Path(snakemake.output.pictures) / f"{sample.sample_id}.png") as path:
        inpaint(picture, mask).save(path, compress_level=6)
