"""Put the recordings together, add the neurons of DAPE and random ones, and say what cannot run."""

from pathlib import Path

from mmneurons.artifacts.comparison import read_recordings
from mmneurons.artifacts.tables import write_csv, write_table
from mmneurons.console import log_to
from mmneurons.methods.comparison import select_all

log_to(snakemake.log[0])
p = snakemake.params
recorded = read_recordings([Path(folder) for folder in snakemake.input.folders])
selected = select_all(recorded, p.methods, p.measures, p.pictures["identify"], p.halves,
                      p.control_seeds, p.seed)  # fmt: skip
facts = recorded.facts | {"mean_square": recorded.mean_square}
write_table(recorded.valid, snakemake.output.valid, facts)
write_table(selected.neurons, snakemake.output.neurons, facts)
write_table(selected.exclusions, snakemake.output.exclusions, facts)
write_csv(selected.capabilities, snakemake.output.capabilities)
write_csv(recorded.costs, snakemake.output.costs)
