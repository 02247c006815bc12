"""Caption this shard's pictures, originals and inpainted ones."""

import pandas as pd
import torch

from mmneurons.artifacts.provenance import versions
from mmneurons.artifacts.tables import read_table, write_table
from mmneurons.console import log_to, progress
from mmneurons.models.captions import caption_pictures, fill_prompt, pictures_to_caption, shard_of
from mmneurons.models.loading import number_format
from mmneurons.models.registry import ModelEntry, load_model

log_to(snakemake.log[0])
p = snakemake.params
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
pictures = pictures_to_caption(
    read_table(snakemake.input.samples), p.root, snakemake.input.inpainted
)
batches = shard_of(pictures, p.compute["batch_size"], int(snakemake.wildcards.shard), p.shards)
captions = [
    row
    for batch in progress(batches, description="caption")
    for row in caption_pictures(model, batch, p.prompt, p.max_new_tokens)
]
columns = ["picture_id", "caption", "token_ids", "token_ends"]
facts = {"model": entry.name, "revision": entry.revision, "label": entry.label}
facts |= {"dtype": number_format(p.compute["loading"]), "prompt": fill_prompt(p.prompt)}
facts |= {"versions": versions("torch", "transformers")}
write_table(pd.DataFrame(captions, columns=columns), snakemake.output.captions, facts)
