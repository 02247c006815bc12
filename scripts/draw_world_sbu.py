"""Draw the SBU part of the embedded world in SBU's file format."""

from pathlib import Path

from mmneurons.console import log_to
from mmneurons.world.sbu import write_sbu

log_to(snakemake.log[0])
p = snakemake.params
write_sbu(Path(snakemake.output.captions).parent, p.entries, p.seed)
