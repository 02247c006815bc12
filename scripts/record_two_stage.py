"""Record this shard's concepts: what two-stage filtering and its baselines select from."""

from pathlib import Path

import pandas as pd
import torch

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.console import log_to, progress
from mmneurons.datasets.pictures import read_picture
from mmneurons.models.captions import fill_prompt
from mmneurons.models.registry import ModelEntry, load_model
from mmneurons.probe.decode import unit_tokens
from mmneurons.probe.two_stage import Case, record_group

log_to(snakemake.log[0])
p = snakemake.params
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
valid = read_table(snakemake.input.valid)
groups = list(valid["group"].unique())[int(snakemake.wildcards.shard) :: p.shards]

tensors, tokens = {}, []
for group in progress(groups, description="record"):
    samples = valid[valid["group"] == group]
    cases = [
        Case(
            read_picture(Path(p.root) / sample.file),
            read_picture(Path(snakemake.input.inpainted) / f"{sample.sample_id}.png"),
            sample.prefix_tokens,
            sample.target_token,
        )
        for sample in samples.itertuples()
    ]
    recorded = record_group(
        model,
        fill_prompt(p.prompt),
        cases,
        p.sites,
        p.map_units,
        p.compute["batch_size"],
        full=p.record == "full",
    )
    tensors |= {f"{group}/{name}": values for name, values in recorded.items()}
    tokens += unit_tokens(model, group, [recorded[f"{site}/map_units"] for site in p.sites], k=10)

facts = read_facts(snakemake.input.valid) | {
    "sample_ids": {g: valid.loc[valid["group"] == g, "sample_id"].tolist() for g in groups},
    "grid": model.grid(),
    "inert_layers": sorted(model.inert_layers("language", "image")),
}
write_tensors(tensors, snakemake.output.tensors, facts)
columns = ["group", "layer", "unit", "tokens", "probabilities"]
write_table(pd.DataFrame(tokens, columns=columns), snakemake.output.tokens, facts)
