"""Draw heatmaps and masks of concepts' neurons (Pan et al. 2024, tables 1 and 8)."""

from pathlib import Path

import numpy as np

from mmneurons.artifacts.tables import write_csv
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.console import log_to
from mmneurons.datasets.pictures import read_picture
from mmneurons.figures.inputs import read_inputs
from mmneurons.figures.pan_pictures import concept_maps, maps_data, maps_figure
from mmneurons.figures.shown import models_source
from mmneurons.figures.style import save

log_to(snakemake.log[0])
p, files = snakemake.params, dict(snakemake.input.items())
records = dict(zip(p.models, map(TensorFile, files.pop("maps")), strict=True))
inputs = read_inputs(files, p.models)
exclusions = inputs.pop("exclusions")
entries = concept_maps(records, **inputs, **p.options)
paths = inputs["pictures"].set_index("picture_id")["file"]
shown = {entry.picture_id for entry in entries}
pictures = {name: np.asarray(read_picture(Path(p.root) / paths[name])) for name in shown}
source = models_source(p.models, p.dataset_label, inputs["concepts"], exclusions)
figure = maps_figure(entries, pictures, p.models, source, **p.style)
save(figure, snakemake.output.svg, snakemake.output.png, p.dpi)
write_csv(maps_data(entries), snakemake.output.csv)
