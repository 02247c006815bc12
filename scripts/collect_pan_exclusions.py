"""One table of everything that was left out of Pan et al.'s measures, and why."""

import pandas as pd

from mmneurons.artifacts.tables import read_table, write_table
from mmneurons.console import log_to
from mmneurons.datasets.tables import EXCLUSION_COLUMNS

log_to(snakemake.log[0])
files = snakemake.input
tables = [read_table(path) for path in (files.prepare, files.captions, *files.edits)]
table = pd.concat(tables, ignore_index=True)[list(EXCLUSION_COLUMNS)].drop_duplicates(
    ignore_index=True
)
write_table(table, snakemake.output[0])
