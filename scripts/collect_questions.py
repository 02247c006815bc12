"""Put the questions of all domains together, in the domains' order."""

import pandas as pd

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.console import log_to
from mmneurons.datasets.questions import QUESTION_COLUMNS
from mmneurons.datasets.tables import EXCLUSION_COLUMNS

log_to(snakemake.log[0])
files = snakemake.input
facts = {"datasets": [read_facts(path) for path in files.questions]}
for name, columns in (("questions", QUESTION_COLUMNS), ("exclusions", EXCLUSION_COLUMNS)):
    tables = [read_table(path) for path in files[name]]
    together = pd.concat(tables, ignore_index=True).astype(columns)
    write_table(together, snakemake.output[name], facts)
