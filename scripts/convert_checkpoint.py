"""Make the directory of a checkpoint, as its adapter loads it, of the originals."""

from pathlib import Path

import torch

from mmneurons.checkpoints.convert import convert
from mmneurons.console import log_to

log_to(snakemake.log[0])
p = snakemake.params
torch.set_num_threads(snakemake.threads)
originals = {part: Path(folder) for part, folder in p.originals.items()}
convert(p.convert, originals, Path(snakemake.output.config).parent)
