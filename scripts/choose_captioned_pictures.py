"""Choose the pictures that are captioned, from a list with captions or from a folder."""

from mmneurons.artifacts.provenance import fingerprint
from mmneurons.artifacts.tables import write_table
from mmneurons.console import log_to
from mmneurons.datasets.folder import folder_pictures
from mmneurons.datasets.sbu import picture_index, sbu_pictures
from mmneurons.downloads.sources import listed_pictures_of

log_to(snakemake.log[0])
p = snakemake.params
root, facts = p.dataset["root"], {"dataset": snakemake.wildcards.dataset, "seed": p.seed}
if p.dataset["reader"] == "folder":
    pictures, exclusions = folder_pictures(root, p.pictures, p.seed)
else:
    source = listed_pictures_of(p.dataset, picture_index)
    pictures, exclusions = sbu_pictures(root, p.pictures, p.seed, p.variant, source)
    facts |= {"variant": p.variant, "dataset_fingerprint": fingerprint(snakemake.input.captions)}
write_table(pictures, snakemake.output.pictures, facts)
write_table(exclusions, snakemake.output.exclusions, facts)
