"""Set the averages of every method and variant as a table."""

import pandas as pd

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.console import log_to
from mmneurons.figures.shown import Source, evaluation_samples, left_out, method_pairs
from mmneurons.figures.supplement import averages_page, variants_data

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
samples = evaluation_samples(read_table(files.valid))["sample_id"].tolist()
suppression = pd.concat(map(pd.read_csv, files.suppression), ignore_index=True)
neurons = dict(zip(method_pairs(p.methods), map(read_table, files.neurons), strict=True))
inert = TensorFile(files.record).facts["inert_layers"]
data = variants_data(suppression, neurons, samples, inert)
n = f"{len(samples)} valid samples for evaluation"
source = Source(p.model_label, p.dataset_label, n, left_out(read_table(files.exclusions)))
caption = (
    "Averages over objects and noise levels. Every selection but the manual one has as many "
    "neurons a sample as two-stage filtering. The inert share of the neurons cannot reach the "
    "logit."
)
write_csv(data, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(averages_page(data, source, p.title, caption), encoding="utf-8")
