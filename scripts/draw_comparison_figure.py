"""Draw one of the figures of the comparison of methods."""

from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.figures.comparison_items import draw_figure
from mmneurons.figures.inputs import read_inputs
from mmneurons.figures.style import save

log_to(snakemake.log[0])
p = snakemake.params
inputs = read_inputs(dict(snakemake.input.items()), p.models)
data, figure = draw_figure(
    p.item, inputs, p.options, p.methods, p.models, p.dataset_label, p.title, p.caption, p.style
)
save(figure, snakemake.output.svg, snakemake.output.png, p.dpi)
write_csv(data, snakemake.output.csv)
