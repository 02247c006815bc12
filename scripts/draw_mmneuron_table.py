"""Set one of the tables of MMNeuron (Huo et al. 2024), of several models and domains."""

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.figures.mmneuron_items import TABLES, read_item

log_to(snakemake.log[0])
p, item = snakemake.params, TABLES[snakemake.params.item]
inputs = dict(snakemake.input.items())
data, source = read_item(item, inputs, p.options, p.models, p.datasets)
write_csv(data, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(item.show(data, source, p.title), encoding="utf-8")
