"""Set the averages of every method at every site as a table."""

import pandas as pd

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.figures.shown import Source, evaluation_samples, left_out, method_pairs
from mmneurons.figures.supplement import averages_page, sites_data

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
samples = evaluation_samples(read_table(files.valid))["sample_id"].tolist()
pairs = method_pairs(p.methods)
tables = iter(map(read_table, files.neurons))
neurons = {site: {pair: next(tables) for pair in pairs} for site in p.sites}
suppression = dict(zip(p.sites, map(pd.read_csv, files.suppression), strict=True))
data = sites_data(suppression, neurons, samples)
n = f"{len(samples)} valid samples for evaluation"
source = Source(p.model_label, p.dataset_label, n, left_out(read_table(files.exclusions)))
caption = (
    "Averages over objects and noise levels, with activations read, and noise added, at each site: "
    "act is the activation function's output, post the input of the output projection. Noise is in "
    "units of the site's own size where the model's noise is relative."
)
write_csv(data, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(averages_page(data, source, p.title, caption), encoding="utf-8")
