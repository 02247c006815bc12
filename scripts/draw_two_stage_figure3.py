"""Draw heatmaps and decoded tokens of the top neurons (Sato & Takagi 2025, figure 3)."""

from pathlib import Path

import numpy as np

from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.console import log_to
from mmneurons.datasets.pictures import read_picture
from mmneurons.figures.shown import Source, evaluation_samples, left_out
from mmneurons.figures.style import save
from mmneurons.figures.two_stage import heatmaps_data, heatmaps_figure, object_maps

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
valid = read_table(files.valid)
objects = object_maps(
    valid,
    read_table(files.neurons),
    read_table(files.tokens),
    TensorFile(files.record),
    TensorFile(files.gradcam),
    p.site,
    p.objects,
)
shown = {s for entry in objects for s in (entry.sample_id, *entry.maps)}
rows = list(valid[valid["sample_id"].isin(shown)].itertuples())
pictures = {s.sample_id: np.asarray(read_picture(Path(p.root) / s.file)) for s in rows}
boxes = {s.sample_id: s.boxes for s in rows}
n = f"{len(rows)} of {len(evaluation_samples(valid))} valid samples for evaluation"
exclusions = read_table(files.exclusions)
source = Source(p.model_label, p.dataset_label, n, left_out(exclusions))
figure = heatmaps_figure(objects, pictures, boxes, source, **p.style)
save(figure, snakemake.output.svg, snakemake.output.png, p.dpi)
write_csv(heatmaps_data(objects), snakemake.output.csv)
