"""Set one of the tables of Schwettmann et al. 2023."""

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.figures.schwettmann_items import TABLES, item_data

log_to(snakemake.log[0])
p = snakemake.params
inputs = dict(snakemake.input.items())
data, source = item_data(p.item, inputs, p.options, p.model, p.dataset_label)
write_csv(data, snakemake.output.csv)
_, make_page = TABLES[p.item]
with atomic(snakemake.output.md) as path:
    path.write_text(make_page(data, source, p.title), encoding="utf-8")
