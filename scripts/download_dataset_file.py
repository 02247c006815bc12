"""Fetch one file that a dataset's reader opens."""

from mmneurons.console import log_to
from mmneurons.downloads.sources import fetch_file

log_to(snakemake.log[0])
p = snakemake.params
fetch_file(p.dataset, p.file)
