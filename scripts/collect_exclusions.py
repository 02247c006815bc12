"""One table of everything that was left out of two-stage filtering, and why."""

import pandas as pd

from mmneurons.artifacts.tables import read_table, write_table
from mmneurons.console import log_to

log_to(snakemake.log[0])
thresholds = read_table(snakemake.input.thresholds)
empty = thresholds.loc[thresholds["n_selected"] == 0, ["sample_id", "group"]].assign(
    stage="select", reason="empty-selection", detail="the thresholds select no neuron"
)
tables = [read_table(snakemake.input.prepare), read_table(snakemake.input.validity), empty]
columns = ["stage", "sample_id", "group", "reason", "detail"]
write_table(pd.concat(tables, ignore_index=True)[columns], snakemake.output[0])
