"""Draw suppression, retention and score against the noise level."""

import pandas as pd

from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.figures.levels import levels_data, levels_figure
from mmneurons.figures.shown import Source, evaluation_samples, left_out, method_pairs
from mmneurons.figures.style import save

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
data = levels_data(pd.read_csv(files.suppression), method_pairs(p.methods))
n = f"{len(evaluation_samples(read_table(files.valid)))} valid samples for evaluation"
source = Source(p.model_label, p.dataset_label, n, left_out(read_table(files.exclusions)))
figure = levels_figure(data, source, p.noise_unit, **p.style)
save(figure, snakemake.output.svg, snakemake.output.png, p.dpi)
write_csv(data, snakemake.output.csv)
