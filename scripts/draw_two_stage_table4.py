"""Set every sample's thresholds as a table (Sato & Takagi 2025, table IV)."""

import pandas as pd

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.figures.shown import Source, left_out
from mmneurons.figures.tables import thresholds_data, thresholds_page

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
valid = read_table(files.valid)
exclusions = read_table(files.exclusions)
tables = map(read_table, files.thresholds)
thresholds = dict(zip(p.rules, tables, strict=True))
data = thresholds_data(thresholds, pd.read_csv(files.paper), valid, exclusions, p.objects)
n = f"{len(valid)} valid samples, {(valid['role'] == 'evaluation').sum()} of them for evaluation"
source = Source(p.model_label, p.dataset_label, n, left_out(exclusions))
write_csv(data, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(thresholds_page(data, source, p.title), encoding="utf-8")
