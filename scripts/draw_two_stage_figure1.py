"""Draw pictures with and without their object (Sato & Takagi 2025, figure 1)."""

from pathlib import Path

import numpy as np

from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.datasets.pictures import read_picture
from mmneurons.figures.shown import Source, evaluation_samples, left_out
from mmneurons.figures.style import save
from mmneurons.figures.two_stage import pairs_data, pairs_figure

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
valid = read_table(files.valid)
data = pairs_data(valid, p.objects)
originals, inpainted = (
    {s.sample_id: np.asarray(read_picture(path(s))) for s in data.itertuples()}
    for path in (
        lambda sample: Path(p.root) / sample.file,
        lambda sample: Path(files.inpainted) / f"{sample.sample_id}.png",
    )
)
n = f"{len(data)} of {len(evaluation_samples(valid))} valid samples for evaluation"
exclusions = read_table(files.exclusions)
source = Source(p.model_label, p.dataset_label, n, left_out(exclusions))
figure = pairs_figure(data, originals, inpainted, source, **p.style)
save(figure, snakemake.output.svg, snakemake.output.png, p.dpi)
write_csv(data, snakemake.output.csv)
