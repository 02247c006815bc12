"""Caption this shard's pictures while the neurons of each method carry noise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.console import log_to, progress
from mmneurons.datasets.pictures import read_picture
from mmneurons.interventions.noisy_captions import (
    NoiseSettings,
    captioned_pictures,
    neuron_sets,
    noisy_captions,
)
from mmneurons.models.captions import fill_prompt
from mmneurons.models.registry import ModelEntry, load_model

log_to(snakemake.log[0])
p, site = snakemake.params, snakemake.wildcards.site
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
samples = read_table(snakemake.input.valid).query("role == 'evaluation'")
settings = NoiseSettings(
    levels=p.noise["levels"] or p.noise_scale["levels"],
    unit=p.noise_scale["unit"],
    draws=p.noise["draws"],
    vector=p.noise["vector"],
    mode=p.noise["mode"],
    seed=p.seed,
)
control = replace(settings, draws=p.control_draws)
record = TensorFile(snakemake.input.record)
mean_square = record[f"{site}/mean_square"].mean(axis=0, dtype=np.float64)

prompt = fill_prompt(p.prompt)
own = set(samples["sample_id"].iloc[int(snakemake.wildcards.shard) :: p.shards])
pictures = captioned_pictures(samples, p.other_pictures, p.seed)
needed = {picture for sample in own for picture in pictures[sample]}
image_tokens = {
    row.sample_id: model.embed_pictures([read_picture(Path(p.root) / row.file)], prompt)[0]
    for row in samples.itertuples()
    if row.sample_id in needed
}
groups = dict(zip(samples["sample_id"], samples["group"], strict=True))
sets = [
    neuron_set
    for name, path in zip(p.methods, snakemake.input.neurons, strict=True)
    for neuron_set in neuron_sets(*name.split("/"), read_table(path))
    if neuron_set.sample_id in own
]
rows = [
    row
    for neuron_set in progress(sets, description="noise")
    for row in noisy_captions(
        model,
        p.prompt,
        image_tokens,
        groups,
        neuron_set,
        pictures[neuron_set.sample_id],
        control if neuron_set.method == "random" else settings,
        mean_square,
        site,
        p.compute["noise_batch_size"],
        p.max_new_tokens,
    )
]
columns = ["method", "variant", "seed", "sample_id", "group", "picture_id", "picture_group"]
table = pd.DataFrame(rows, columns=[*columns, "level", "draw", "caption"])
facts = read_facts(snakemake.input.valid) | {"site": site, "noise_unit": settings.unit}
write_table(table, snakemake.output.noise, facts)
