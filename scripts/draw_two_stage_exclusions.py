"""Set everything that was left out as a table."""

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.figures.shown import Source, evaluation_samples, left_out
from mmneurons.figures.supplement import exclusions_page

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
exclusions = read_table(files.exclusions)
n = f"{len(evaluation_samples(read_table(files.valid)))} valid samples for evaluation"
source = Source(p.model_label, p.dataset_label, n, left_out(exclusions))
write_csv(exclusions, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(exclusions_page(exclusions, source, p.title), encoding="utf-8")
