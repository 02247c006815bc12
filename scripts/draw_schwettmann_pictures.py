"""Draw one of the figures of Schwettmann et al. 2023 that show pictures."""

from pathlib import Path

import numpy as np

from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.datasets.pictures import read_picture
from mmneurons.figures.schwettmann_items import PICTURED, item_data
from mmneurons.figures.style import save

log_to(snakemake.log[0])
p = snakemake.params
inputs = dict(snakemake.input.items())
data, source = item_data(p.item, inputs, p.options, p.model, p.dataset_label)
files = data.dropna(subset="file").drop_duplicates("picture_id").set_index("picture_id")["file"]
pictures = {name: np.asarray(read_picture(Path(p.root) / file)) for name, file in files.items()}
_, draw = PICTURED[p.item]
figure = draw(data, pictures, source, **p.style)
save(figure, snakemake.output.svg, snakemake.output.png, p.dpi)
write_csv(data, snakemake.output.csv)
