"""Draw selected neurons per layer (Sato & Takagi 2025, figure 2)."""

from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.console import log_to
from mmneurons.figures.shown import Source, evaluation_samples, left_out, method_pairs
from mmneurons.figures.style import save
from mmneurons.figures.two_stage import layers_data, layers_figure

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
samples = evaluation_samples(read_table(files.valid))["sample_id"]
record = TensorFile(files.record)
selections = {
    method: read_table(path)
    for method, path in zip(method_pairs(p.methods), files.neurons, strict=True)
}
n_layers = record[f"{p.site}/mean_square"].shape[-1]
data = layers_data(selections, samples, n_layers, record.facts["inert_layers"])
exclusions = read_table(files.exclusions)
n = f"{len(samples)} valid samples for evaluation"
source = Source(p.model_label, p.dataset_label, n, left_out(exclusions))
save(layers_figure(data, source, **p.style), snakemake.output.svg, snakemake.output.png, p.dpi)
write_csv(data, snakemake.output.csv)
