"""Draw one of the figures of Schwettmann et al. 2023 that show no picture."""

from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.figures.schwettmann_items import FIGURES, item_data
from mmneurons.figures.style import save

log_to(snakemake.log[0])
p = snakemake.params
inputs = dict(snakemake.input.items())
data, source = item_data(p.item, inputs, p.options, p.model, p.dataset_label)
_, draw = FIGURES[p.item]
save(draw(data, source, **p.style), snakemake.output.svg, snakemake.output.png, p.dpi)
write_csv(data, snakemake.output.csv)
