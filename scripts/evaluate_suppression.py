"""Suppression, retention and score from the captions under noise."""

from pathlib import Path

from mmneurons.artifacts.tables import read_facts, read_table, write_csv, write_table
from mmneurons.console import log_to
from mmneurons.metrics.naming import mark_hits
from mmneurons.metrics.suppression import suppression_table

log_to(snakemake.log[0])
categories = Path(snakemake.input.categories).read_text(encoding="utf-8").splitlines()
hits = mark_hits(read_table(snakemake.input.noise), categories)
write_table(hits, snakemake.output.hits, read_facts(snakemake.input.noise))
write_csv(suppression_table(hits), snakemake.output.suppression)
write_csv(suppression_table(hits, hit="named_loose"), snakemake.output.loose)
