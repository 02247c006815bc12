"""Units of every layer that no token of any domain activates."""

from mmneurons.artifacts.counts import read_counts
from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.metrics.silent import silent_table

log_to(snakemake.log[0])
total, facts = read_counts(snakemake.input.counts)
write_csv(silent_table(total.counts, facts["layers"], facts["inert"]), snakemake.output.silent)
