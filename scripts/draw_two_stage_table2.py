"""Set suppression, retention and score as a table (Sato & Takagi 2025, table II)."""

import pandas as pd

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.figures.shown import evaluation_source, method_pairs
from mmneurons.figures.tables import suppression_data, suppression_page

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
valid = read_table(files.valid)
exclusions = read_table(files.exclusions)
suppression = pd.read_csv(files.suppression)
data = suppression_data(suppression, valid, exclusions, p.objects, method_pairs(p.methods))
source = evaluation_source(p.model_label, p.dataset_label, valid, exclusions)
write_csv(data, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(suppression_page(data, source, p.noise_unit, p.title), encoding="utf-8")
