"""Fetch one published part of a checkpoint; what is there already is not fetched again."""

from pathlib import Path

from mmneurons.checkpoints.hub import fetch
from mmneurons.checkpoints.sources import Original
from mmneurons.console import log_to

log_to(snakemake.log[0])
fetch(Original(**snakemake.params.original), Path(snakemake.output.receipt).parent)
