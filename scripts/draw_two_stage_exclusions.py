"""Set everything that was left out as a table."""

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.figures.shown import evaluation_source
from mmneurons.figures.supplement import exclusions_page

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
exclusions = read_table(files.exclusions)
source = evaluation_source(p.model_label, p.dataset_label, read_table(files.valid), exclusions)
write_csv(exclusions, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(exclusions_page(exclusions, source, p.title), encoding="utf-8")
