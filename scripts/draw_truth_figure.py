"""Draw one of the figures of the truth benchmark."""

from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.figures.inputs import read_inputs
from mmneurons.figures.style import save
from mmneurons.figures.truth import FIGURES, truth_source

log_to(snakemake.log[0])
p = snakemake.params
inputs = read_inputs(dict(snakemake.input.items()), p.models)
make_data, draw = FIGURES[p.item]
data = make_data(**inputs)
source = truth_source(p.models, inputs["plantings"], inputs["exclusions"])
save(draw(data, source, **p.style), snakemake.output.svg, snakemake.output.png, p.dpi)
write_csv(data, snakemake.output.csv)
