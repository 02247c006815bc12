"""Set similarity to the inpainted picture's caption as a table (Sato & Takagi 2025, table III)."""

import pandas as pd

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.figures.shown import evaluation_source, method_pairs
from mmneurons.figures.tables import similarity_data, similarity_page

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
exclusions = read_table(files.exclusions)
data = similarity_data(pd.read_csv(files.similarity), method_pairs(p.methods))
source = evaluation_source(p.model_label, p.dataset_label, read_table(files.valid), exclusions)
write_csv(data, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(similarity_page(data, source, p.title), encoding="utf-8")
