"""Choose the pictures that are captioned, from a list of pictures with captions."""

from mmneurons.artifacts.provenance import fingerprint
from mmneurons.artifacts.tables import write_table
from mmneurons.console import log_to
from mmneurons.datasets.sbu import sbu_pictures

log_to(snakemake.log[0])
p = snakemake.params
pictures, exclusions = sbu_pictures(p.root, p.pictures, p.seed, p.variant)
facts = {"dataset": snakemake.wildcards.dataset, "seed": p.seed, "variant": p.variant}
facts |= {"dataset_fingerprint": fingerprint(snakemake.input.captions)}
write_table(pictures, snakemake.output.pictures, facts)
write_table(exclusions, snakemake.output.exclusions, facts)
