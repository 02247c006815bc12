"""Keep the samples whose captions satisfy the paper's three constraints."""

from pathlib import Path

from mmneurons.artifacts.tables import read_facts, read_table, read_tables, write_table
from mmneurons.console import log_to
from mmneurons.datasets.validity import valid_samples

log_to(snakemake.log[0])
p = snakemake.params
captions = read_tables(snakemake.input.captions, sort=["picture_id"])
categories = Path(snakemake.input.categories).read_text(encoding="utf-8").splitlines()
valid, exclusions = valid_samples(
    read_table(snakemake.input.samples), captions, categories, p.pictures, p.calibration_pictures
)
if valid.empty:
    raise SystemExit(
        "no sample satisfies the three constraints (the original's caption names the object, the "
        "inpainted picture's does not, and nothing else disappears); reasons: "
        f"{exclusions['reason'].value_counts().to_dict()}"
    )
facts = read_facts(snakemake.input.samples) | read_facts(snakemake.input.captions[0])
write_table(captions, snakemake.output.captions, facts)
write_table(valid, snakemake.output.valid, facts)
write_table(exclusions, snakemake.output.exclusions, facts)
