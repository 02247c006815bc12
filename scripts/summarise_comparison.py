"""Means over concepts, of every model and over all of them, with intervals."""

import pandas as pd

from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.metrics.comparison import CELL_COLUMNS, summary

log_to(snakemake.log[0])
p = snakemake.params
tables = zip(p.models, snakemake.input.cells, strict=True)
cells = [pd.read_csv(path, dtype=CELL_COLUMNS).assign(model=model) for model, path in tables]
together = pd.concat(cells)
write_csv(summary(together.reset_index(drop=True), seed=p.seed), snakemake.output.summary)
