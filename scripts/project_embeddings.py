"""The pictures' embeddings on their first two principal components."""

from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.metrics.pca import principal_plane

log_to(snakemake.log[0])
write_csv(principal_plane(read_table(snakemake.input.embeddings)), snakemake.output.pca)
