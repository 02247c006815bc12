"""Draw one of the figures of MMNeuron (Huo et al. 2024), of several models and domains."""

import numpy as np

from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.datasets.pictures import read_question_picture
from mmneurons.figures.mmneuron_cases import shown_samples
from mmneurons.figures.mmneuron_items import FIGURES, read_item
from mmneurons.figures.style import save

log_to(snakemake.log[0])
p, inputs, output = snakemake.params, dict(snakemake.input.items()), snakemake.output
item = FIGURES[p.item]
inputs.pop("pictures", None)  # Where DocVQA's pages are; roots has the folder.
data, source = read_item(item, inputs, p.options, p.models, p.datasets)
shown = [data]
if item.pictured:
    pictures = {
        sample_id: np.asarray(read_question_picture(p.roots[group], files))
        for sample_id, group, files in shown_samples(data)
    }
    shown.append(pictures)
save(item.show(*shown, source, **p.style), output.svg, output.png, p.dpi)
write_csv(data, output.csv)
