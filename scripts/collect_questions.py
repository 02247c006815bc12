"""Put the questions of all domains together, in the domains' order."""

import pandas as pd

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.console import log_to

log_to(snakemake.log[0])
files = snakemake.input
facts = {"datasets": [read_facts(path) for path in files.questions]}
for name in ("questions", "exclusions"):
    tables = [read_table(path) for path in files[name]]
    write_table(pd.concat(tables, ignore_index=True), snakemake.output[name], facts)
