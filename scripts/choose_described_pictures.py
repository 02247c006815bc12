"""Choose pictures that people described, and the categories whose neurons are compared."""

from mmneurons.artifacts.provenance import fingerprint
from mmneurons.artifacts.tables import write_table
from mmneurons.console import log_to
from mmneurons.datasets.coco_captions import SingleObjects, described_pictures
from mmneurons.downloads.sources import pictures_of

log_to(snakemake.log[0])
p = snakemake.params
pictures, exclusions = described_pictures(
    p.dataset["root"],
    p.dataset["split"],
    p.pictures,
    SingleObjects(**p.single_objects, compared=p.compared),
    p.seed,
    pictures_of(p.dataset),
)
facts = {
    "dataset": snakemake.wildcards.dataset,
    "dataset_fingerprint": fingerprint(snakemake.input.annotations),
    "seed": p.seed,
}
write_table(pictures, snakemake.output.pictures, facts)
write_table(exclusions, snakemake.output.exclusions, facts)
