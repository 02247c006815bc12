"""One table of everything that was left out of two-stage filtering, and why."""

from pathlib import Path

import pandas as pd

from mmneurons.artifacts.tables import read_table, write_table
from mmneurons.console import log_to
from mmneurons.datasets.tables import EXCLUSION_COLUMNS

log_to(snakemake.log[0])
tables = [read_table(snakemake.input.prepare), read_table(snakemake.input.validity)]
for path in snakemake.input.thresholds:
    thresholds = read_table(path)
    _, site, variant, _ = Path(path).name.split(".")
    tables.append(
        thresholds.loc[thresholds["n_selected"] == 0, ["sample_id", "group"]].assign(
            stage="select",
            reason="empty-selection",
            detail=f"the {variant} thresholds select no neuron at site {site}",
        )
    )
write_table(pd.concat(tables, ignore_index=True)[list(EXCLUSION_COLUMNS)], snakemake.output[0])
