"""Set captions under noise as a table (Sato & Takagi 2025, tables I and V)."""

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.figures.shown import Source, left_out, method_pairs
from mmneurons.figures.tables import captions_data, captions_page

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
exclusions = read_table(files.exclusions)
data = captions_data(
    read_table(files.valid), read_table(files.noise), exclusions, p.objects, method_pairs(p.methods)
)
n = f"{data.loc[data['sample_id'] != '', 'sample_id'].nunique()} samples"
source = Source(p.model_label, p.dataset_label, n, left_out(exclusions))
write_csv(data, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(captions_page(data, source, p.noise_unit, p.title), encoding="utf-8")
