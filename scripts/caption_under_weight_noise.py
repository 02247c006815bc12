"""Caption this shard's samples while the output rows of their best neurons carry noise."""

from pathlib import Path

import pandas as pd
import torch

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.console import log_to, progress
from mmneurons.datasets.pictures import read_picture
from mmneurons.interventions.weight_noise import (
    WeightNoiseSettings,
    disturbed_sets,
    noised_captions,
    whole_pictures,
)
from mmneurons.models.captions import fill_prompt
from mmneurons.models.registry import ModelEntry, load_model

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
concepts = read_table(files.concepts).query("variant == 'plain'")
chosen = whole_pictures(concepts, p.noise["samples"], p.seed)
samples = chosen.iloc[int(snakemake.wildcards.shard) :: p.shards]
captions = read_table(files.captions).query("variant == 'plain'").set_index("picture_id")["caption"]
paths = read_table(files.pictures).set_index("picture_id")["file"]
neurons = read_table(files.neurons).query(f"rank < {p.noise['neurons']}")
neurons = neurons[neurons["sample_id"].isin(set(samples["sample_id"]))]
sets = disturbed_sets(neurons, model.sites("language")[0].n_units, p.noise["control_seeds"], p.seed)
scales = [WeightNoiseSettings(**scale, draws=p.noise["draws"], seed=p.seed) for scale in p.scales]
rows = []
for sample in progress(list(samples.itertuples()), description="noise on weights"):
    picture = read_picture(Path(p.root) / paths[sample.picture_id])
    tokens = model.embed_pictures([picture], fill_prompt(p.prompt))
    for settings in scales:
        rows += noised_captions(
            model,
            p.prompt,
            tokens,
            sample.picture_id,
            captions[sample.picture_id],
            sets[sample.sample_id],
            settings,
            p.compute["batch_size"],
            p.max_new_tokens,
        )
columns = ["sample_id", "group", "picture_id", "method", "seed", "unit", "level", "draw"]
table = pd.DataFrame(rows, columns=[*columns, "caption_before", "caption"])
write_table(table, snakemake.output.weight_noise, read_facts(files.captions))
