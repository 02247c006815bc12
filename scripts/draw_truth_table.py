"""Set one of the tables of the truth benchmark."""

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.figures.inputs import read_inputs
from mmneurons.figures.truth import TABLES, truth_source

log_to(snakemake.log[0])
p = snakemake.params
inputs = read_inputs(dict(snakemake.input.items()), p.models)
make_data, make_page = TABLES[p.item]
data = make_data(**inputs)
source = truth_source(p.models, inputs["plantings"], inputs["exclusions"])
write_csv(data, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(make_page(data, source, p.title), encoding="utf-8")
