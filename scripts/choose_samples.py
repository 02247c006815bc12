"""Choose pictures that contain each object and from which it can be painted out alone."""

from mmneurons.artifacts.provenance import fingerprint
from mmneurons.artifacts.tables import write_table
from mmneurons.console import log_to
from mmneurons.datasets.coco import object_samples
from mmneurons.downloads.sources import pictures_of

log_to(snakemake.log[0])
p = snakemake.params
samples, exclusions = object_samples(
    p.dataset["root"],
    p.dataset.get("split", "."),
    p.objects,
    p.candidates,
    p.seed,
    check=True,
    instances=p.dataset.get("annotations"),
    source=pictures_of(p.dataset),
)
facts = {
    "dataset": snakemake.wildcards.dataset,
    "dataset_fingerprint": fingerprint(snakemake.input.annotations),
    "seed": p.seed,
}
write_table(samples, snakemake.output.samples, facts)
write_table(exclusions, snakemake.output.exclusions, facts)
