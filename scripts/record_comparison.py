"""Caption this shard's concepts, score their neurons by every method, and keep the best."""

from pathlib import Path

import pandas as pd
import torch

from mmneurons.artifacts.provenance import versions
from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.console import log_to, progress
from mmneurons.datasets.tables import EXCLUSION_COLUMNS, typed_table
from mmneurons.methods.comparison import NEURON_COLUMNS
from mmneurons.models.captions import fill_prompt
from mmneurons.models.loading import number_format
from mmneurons.models.provides import lacks_of_model
from mmneurons.models.registry import ModelEntry, load_model
from mmneurons.probe.comparison import COST_COLUMNS, ComparisonSettings, costs, record_concept

log_to(snakemake.log[0])
p, folder = snakemake.params, Path(snakemake.output.folder)
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
samples = read_table(snakemake.input.samples)
categories = Path(snakemake.input.categories).read_text(encoding="utf-8").splitlines()
groups = list(samples["group"].unique())[int(snakemake.wildcards.shard) :: p.shards]
text, sites = fill_prompt(p.prompt), model.sites("language")
lacks = lacks_of_model(model, text, p.constants)
n_units = sum(site.n_units for site in sites)
settings = ComparisonSettings(
    methods={
        name: row["score"].format(site=p.site)
        for name, row in p.methods.items()
        if not any(lacks.get(need) for need in row["needs"])
    },
    site=p.site,
    k=max(1, round(p.share * n_units)),
    identify=p.pictures["identify"],
    test=p.pictures["test"],
    draws=p.halves,
    seed=p.seed,
    max_new_tokens=p.max_new_tokens,
    batch_size=p.compute["batch_size"],
)

valid, exclusions, neurons, arrays, measured = [], [], [], {}, []
for group in progress(groups, description="record"):
    own = samples[samples["group"] == group]
    root, inpainted = p.root, snakemake.input.inpainted
    recorded = record_concept(model, p.prompt, own, root, inpainted, categories, settings)
    exclusions.append(recorded.exclusions)
    if recorded.valid.empty:
        continue
    valid.append(recorded.valid)
    neurons.append(recorded.neurons)
    arrays |= {f"{group}/{name}": values for name, values in recorded.arrays.items()}
    if int(snakemake.wildcards.shard) == 0:  # One timing is read, and others would only take time.
        measured = measured or costs(model, text, recorded.cases, settings, p.cost_repeats)

facts = read_facts(snakemake.input.samples)
facts |= {"model": entry.name, "revision": entry.revision, "label": entry.label}
facts |= {"dtype": number_format(p.compute["loading"]), "prompt": text}
facts |= {"versions": versions("torch", "transformers"), "lacks": lacks, "site": p.site}
facts |= {"k": settings.k, "n_units": n_units, "groups": list(samples["group"].unique())}
facts |= {"layers": [site.n_units for site in sites], "grid": model.patch_grid()}
facts |= {"inert_layers": sorted(model.inert_layers("language", "image"))}
folder.mkdir(parents=True, exist_ok=True)
# Without a row it still has the columns that whatever reads it asks for.
together = pd.concat(valid, ignore_index=True) if valid else samples[:0].assign(role="")
write_table(together, folder / "valid.parquet", facts)
none = typed_table([], EXCLUSION_COLUMNS)
write_table(pd.concat([none, *exclusions], ignore_index=True), folder / "exclusions.parquet", facts)
none = pd.DataFrame(columns=list(NEURON_COLUMNS)).astype(NEURON_COLUMNS)
found = [table for table in neurons if len(table)]
together = pd.concat(found, ignore_index=True) if found else none
write_table(together, folder / "neurons.parquet", facts)
write_table(pd.DataFrame(measured, columns=list(COST_COLUMNS)), folder / "costs.parquet", facts)
write_tensors(arrays, folder / "counts.safetensors", facts)
