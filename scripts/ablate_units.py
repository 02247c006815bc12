"""Measure this shard's nouns and captions while the best units of each picture are zero."""

from pathlib import Path

import pandas as pd
import torch

from mmneurons.artifacts.schwettmann import RECORDED, TABLES
from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.console import log_to, progress
from mmneurons.datasets.pictures import read_picture
from mmneurons.interventions.ablation import Case, ablate, plan_ablation
from mmneurons.models.captions import fill_prompt, shard_of
from mmneurons.models.registry import ModelEntry, load_model

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
captions = read_table(files.captions).set_index("picture_id")
sampled = read_table(files.pictures).query("sampled")["picture_id"]
order = [name for name in sampled if name in captions.index]
chosen = order[: p.ablation["pictures"]]
units = read_table(files.units)
units = units[units["sample_id"].isin(chosen)]
of_picture = {name: table for name, table in units.groupby("sample_id")}
units_per_layer = {site.layer: site.n_units for site in model.sites("language")}
batches = shard_of(chosen, p.compute["batch_size"], int(snakemake.wildcards.shard), p.shards)
rows, left_out = [], []
for batch in progress(batches, description="ablate"):
    pictures = [read_picture(Path(p.root) / captions.loc[name, "file"]) for name in batch]
    image_tokens = model.embed_pictures(pictures, fill_prompt(p.prompt))
    cases = []
    for name, tokens in zip(batch, image_tokens, strict=True):
        trials, lacking = plan_ablation(
            of_picture[name],
            p.numbers,
            units_per_layer,
            p.ablation["control_seeds"],
            p.seed,
        )
        left_out += lacking
        said = captions.loc[name]
        prefix = said["token_ids"][: said["position"]].tolist()
        cases.append(Case(name, said["group"], tokens, prefix, int(said["token"]), trials))
    rows += ablate(
        model,
        p.prompt,
        cases,
        p.max_new_tokens,
        p.ablation["positions"],
        p.compute["noise_batch_size"],
    )
facts = read_facts(files.units) | {"positions": p.ablation["positions"]}
for table, columns, path in (
    (rows, TABLES["ablation"], snakemake.output.ablation),
    (left_out, RECORDED["exclusions"], snakemake.output.exclusions),
):
    write_table(pd.DataFrame(table, columns=list(columns)).astype(columns), path, facts)
