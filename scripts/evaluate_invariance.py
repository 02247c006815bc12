"""Region invariance, cross-image invariance and specificity of a model's neurons."""

from mmneurons.artifacts.tables import read_neurons, read_table, write_csv
from mmneurons.console import log_to
from mmneurons.metrics.invariance import cross_image_table, region_invariance_table
from mmneurons.metrics.specificity import specificity_table

log_to(snakemake.log[0])
p, files, output = snakemake.params, snakemake.input, snakemake.output
plain, shuffled = read_neurons(files.plain), read_neurons(files.shuffled)
write_csv(region_invariance_table(plain, shuffled, p.top_k), output.invariance)
cross_image = cross_image_table(
    plain, p.cross_image["top_k"], p.cross_image["pictures"], p.cross_image["sets"], p.seed
)
write_csv(cross_image, output.cross_image)
write_csv(specificity_table(read_table(files.specificity)), output.specificity)
