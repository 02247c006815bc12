"""Compare where units are active with where the object of a picture is."""

from functools import partial

from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.console import log_to
from mmneurons.datasets.coco_captions import object_mask
from mmneurons.metrics.localisation import iou_table, localise

log_to(snakemake.log[0])
p, files, output = snakemake.params, snakemake.input, snakemake.output
pictures, maps = read_table(files.pictures), TensorFile(files.maps)
table = localise(
    pictures[pictures["category"] != ""],
    read_table(files.rows),
    maps["maps"],
    maps.facts["grid"],
    maps.facts["boxes"],
    read_table(files.units),
    p.percentile,
    partial(object_mask, p.dataset["root"], p.dataset["split"]),
)
write_csv(table, output.localisation)
write_csv(iou_table(table), output.iou)
