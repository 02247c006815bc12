"""Set everything that was left out of Pan et al.'s measures as a table."""

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import write_csv
from mmneurons.console import log_to
from mmneurons.figures.inputs import read_inputs
from mmneurons.figures.pan_supplement import exclusions_page
from mmneurons.figures.shown import models_source

log_to(snakemake.log[0])
p = snakemake.params
inputs = read_inputs(dict(snakemake.input.items()), p.models)
exclusions = inputs["exclusions"]
source = models_source(p.models, p.dataset_label, inputs["counted"], exclusions)
write_csv(exclusions, snakemake.output.csv)
with atomic(snakemake.output.md) as path:
    path.write_text(exclusions_page(exclusions, source, p.title), encoding="utf-8")
