"""Picture-level GradCAM maps of the target word, for the samples that figures show."""

from pathlib import Path

import numpy as np
import torch

from mmneurons.artifacts.tables import read_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.console import log_to, progress
from mmneurons.datasets.pictures import read_picture
from mmneurons.models.captions import fill_prompt
from mmneurons.models.registry import ModelEntry, load_model
from mmneurons.probe.gradcam import gradcam_map

log_to(snakemake.log[0])
p = snakemake.params
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
samples = read_table(snakemake.input.valid).query("role == 'evaluation'")
samples = samples.groupby("group", sort=False).head(p.pictures)
maps = [
    gradcam_map(
        model,
        fill_prompt(p.prompt),
        read_picture(Path(p.root) / sample.file),
        sample.prefix_tokens,
        sample.target_token,
    )
    for sample in progress(samples.itertuples(), len(samples), "gradcam")
]
facts = {"sample_ids": samples["sample_id"].tolist(), "model": entry.name, "label": entry.label}
write_tensors({"maps": np.stack(maps).astype(np.float16)}, snakemake.output.maps, facts)
