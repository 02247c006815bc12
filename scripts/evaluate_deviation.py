"""How far deactivated neurons move the last hidden states."""

from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.metrics.deviation import deviation_table

log_to(snakemake.log[0])
write_csv(deviation_table(read_table(snakemake.input.deviation)), snakemake.output.deviation)
