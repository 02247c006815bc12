"""The words that every neuron of the language model raises."""

from functools import partial

import torch

from mmneurons.artifacts.tables import write_table
from mmneurons.console import log_to, progress
from mmneurons.models.registry import ModelEntry, load_model
from mmneurons.probe.decode import neuron_tokens

log_to(snakemake.log[0])
p = snakemake.params
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
facts = {"model": entry.name, "revision": entry.revision, "label": entry.label}
tokens = neuron_tokens(model, k=10, progress=partial(progress, description="decode"))
write_table(tokens, snakemake.output.tokens, facts)
