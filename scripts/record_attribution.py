"""Caption this shard's pictures and record the units and patches behind each caption's noun."""

from functools import partial
from pathlib import Path

import torch

from mmneurons.artifacts.provenance import versions
from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.console import log_to, progress
from mmneurons.datasets.nouns import concepts_of
from mmneurons.datasets.pictures import read_picture
from mmneurons.models.captions import fill_prompt, shard_of
from mmneurons.models.loading import number_format
from mmneurons.models.registry import ModelEntry, load_model
from mmneurons.probe.attribution import AttributionSettings, Described, record_attribution
from mmneurons.probe.soft_prompts import PromptSettings

log_to(snakemake.log[0])
p = snakemake.params
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
pictures = read_table(snakemake.input.pictures)
rows = list(pictures.itertuples())
batches = shard_of(rows, p.compute["batch_size"], int(snakemake.wildcards.shard), p.shards)
evaluated = pictures.loc[pictures["part"] == "evaluate", "category"].unique()


def described(row):
    """A row of the table with its picture."""
    category = row.category if row.part == "evaluate" else ""
    picture = read_picture(Path(p.root) / row.file)
    own = (row.references, row.supercategory, row.sampled, category)
    return Described(row.picture_id, row.file, picture, *own)


recording = record_attribution(
    model,
    p.prompt,
    ([described(row) for row in batch] for batch in progress(batches, description="record")),
    partial(concepts_of, prefix=p.prompt["prefix"]),
    # Four times as many units as the largest ablation takes, so that enough of them are
    # interpretable, of which the paper has about half; of pictures that are never ablated fewer
    # are kept.
    AttributionSettings(
        p.max_new_tokens,
        p.pairs,
        max(4 * max(p.numbers), p.pairs, p.map_units),
        p.map_units,
        PromptSettings(**p.soft_prompts),
        p.seed,
    ),
    evaluated,
)

facts = read_facts(snakemake.input.pictures) | recording.facts
facts |= {"model": entry.name, "revision": entry.revision, "label": entry.label}
facts |= {
    "dtype": number_format(p.compute["loading"]),
    "prompt": fill_prompt(p.prompt),
    "prefix": p.prompt["prefix"],
    "seed": p.seed,
    "versions": versions("torch", "transformers"),
}
folder = Path(snakemake.output.folder)
write_tensors(recording.tensors(), folder / "maps.safetensors", facts)
categories = {"categories": list(recording.sums)}
del facts["boxes"]
write_tensors(recording.means(), folder / "means.safetensors", facts | categories)
for name, table in recording.tables().items():
    write_table(table, folder / f"{name}.parquet", facts)
