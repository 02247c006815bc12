"""Set one of the tables of the comparison of methods."""

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.figures.comparison_items import set_table
from mmneurons.figures.inputs import read_inputs

log_to(snakemake.log[0])
p = snakemake.params
inputs = read_inputs(dict(snakemake.input.items()), p.models)
data, text = set_table(
    p.item, inputs, p.options, p.methods, p.models, p.dataset_label, p.title, p.caption
)
write_csv(data, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(text, encoding="utf-8")
