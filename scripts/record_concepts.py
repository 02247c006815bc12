"""Caption this shard's pictures and record the neurons behind the nouns of each caption."""

from functools import partial
from pathlib import Path

import torch

from mmneurons.artifacts.provenance import versions
from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.console import log_to, progress
from mmneurons.datasets.nouns import concepts_of, load_tagger
from mmneurons.models.captions import fill_prompt, shard_of
from mmneurons.models.loading import number_format
from mmneurons.models.registry import ModelEntry, load_model
from mmneurons.probe.contribution import PanSettings, record_pictures

log_to(snakemake.log[0])
p = snakemake.params
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
table = read_table(snakemake.input.pictures)
pictures = [(row.picture_id, Path(p.root) / row.file) for row in table.itertuples()]
batches = shard_of(pictures, p.compute["batch_size"], int(snakemake.wildcards.shard), p.shards)
nouns = partial(
    concepts_of, tagger=load_tagger(p.tagger, p.stanza_models), prefix=p.prompt["prefix"]
)
settings = PanSettings(p.max_new_tokens, p.top_k, p.seed, sites=p.sites)
record = record_pictures(model, p.prompt, progress(batches, description="record"), nouns, settings)

facts = read_facts(snakemake.input.pictures) | record.facts
facts |= {"model": entry.name, "revision": entry.revision, "label": entry.label}
facts |= {
    "dtype": number_format(p.compute["loading"]),
    "prompt": fill_prompt(p.prompt),
    "tagger": p.tagger,
}
facts |= {"versions": versions("torch", "transformers")}
folder = Path(snakemake.output.folder)
write_tensors(record.maps, folder / "record/pan_maps.safetensors", facts)
del facts["sample_ids"], facts["boxes"]
for name, values in record.tables.items():
    write_table(values, folder / f"{name}.parquet", facts)
