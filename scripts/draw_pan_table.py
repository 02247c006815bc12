"""Set one of the tables of Pan et al. 2024, of several models."""

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.figures.inputs import read_inputs
from mmneurons.figures.pan_items import TABLES
from mmneurons.figures.shown import models_source

log_to(snakemake.log[0])
p = snakemake.params
inputs = read_inputs(dict(snakemake.input.items()), p.models)
concepts, exclusions = inputs.pop("counted"), inputs.pop("exclusions")
make_data, make_page = TABLES[p.item]
data = make_data(**inputs, **p.options)
source = models_source(p.models, p.dataset_label, concepts, exclusions)
write_csv(data, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(make_page(data, source, p.title), encoding="utf-8")
