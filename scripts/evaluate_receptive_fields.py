"""Compare where units are active with where the object of a picture is."""

from mmneurons.artifacts.tables import read_table, write_csv, write_table
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.console import log_to
from mmneurons.datasets.object_masks import ObjectMasks
from mmneurons.metrics.localisation import iou_table, left_out, localise

log_to(snakemake.log[0])
p, files, output = snakemake.params, snakemake.input, snakemake.output
pictures, maps = read_table(files.pictures), TensorFile(files.maps)
masks = ObjectMasks(files.annotations)
single = pictures[pictures["category"] != ""]
table = localise(
    single,
    read_table(files.rows),
    maps["maps"],
    maps.facts["grid"],
    maps.facts["boxes"],
    read_table(files.units),
    p.percentile,
    lambda picture_id: masks.mask(int(picture_id)),
)
write_csv(table, output.localisation)
write_csv(iou_table(table), output.iou)
write_table(left_out(single, table, maps.facts["grid"]), output.exclusions)
