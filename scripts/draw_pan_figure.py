"""Draw one of the figures of Pan et al. 2024, of several models."""

from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.figures.inputs import read_inputs
from mmneurons.figures.pan_items import FIGURES
from mmneurons.figures.shown import models_source
from mmneurons.figures.style import save

log_to(snakemake.log[0])
p = snakemake.params
inputs = read_inputs(dict(snakemake.input.items()), p.models)
concepts, exclusions = inputs.pop("counted"), inputs.pop("exclusions")
make_data, draw = FIGURES[p.item]
data = make_data(**inputs, **p.options)
source = models_source(p.models, p.dataset_label, concepts, exclusions)
save(draw(data, source, **p.style), snakemake.output.svg, snakemake.output.png, p.dpi)
write_csv(data, snakemake.output.csv)
