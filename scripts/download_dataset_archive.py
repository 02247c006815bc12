"""Fetch one archive of which a dataset's reader opens members."""

from mmneurons.console import log_to
from mmneurons.downloads.sources import fetch_archive

log_to(snakemake.log[0])
p = snakemake.params
fetch_archive(p.dataset, p.archive)
