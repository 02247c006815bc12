"""Accuracy of the replies in every domain, by each measure's official and released variant."""

from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.metrics.accuracy import accuracy_table

log_to(snakemake.log[0])
files = snakemake.input
judged = read_table(files.judged) if files.judged else None
table = accuracy_table(read_table(files.questions), read_table(files.answers), judged)
write_csv(table, snakemake.output.accuracy)
