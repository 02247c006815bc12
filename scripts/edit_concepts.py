"""Edit concepts of this shard's samples into others, and caption pictures under each edit."""

from pathlib import Path

import pandas as pd
import torch

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.console import log_to, progress
from mmneurons.datasets.pictures import read_picture
from mmneurons.datasets.tables import EXCLUSION_COLUMNS
from mmneurons.interventions.edit import EditSettings
from mmneurons.interventions.edited_captions import (
    EditTrial,
    edited_captions,
    known_targets,
    plan_edits,
)
from mmneurons.models.captions import fill_prompt
from mmneurons.models.registry import ModelEntry, load_model

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
concepts, captions = read_table(files.concepts), read_table(files.captions)
plain = captions.query("variant == 'plain'").set_index("picture_id")["caption"]
paths = read_table(files.pictures).set_index("picture_id")["file"]
neurons = read_table(files.neurons).query(f"rank < {p.edit['neurons']}")
words = p.edit["targets"] or sorted(concepts["group"].unique())
targets, unknown = known_targets(model, p.prompt["prefix"], words)
plans, impossible = plan_edits(
    concepts,
    captions,
    targets,
    p.edit["pairs"],
    p.edit["targets_per_sample"],
    p.edit["transfer_pictures"],
    p.edit["locality_pictures"],
    p.seed,
    p.prompt["prefix"],
)
trial = EditTrial(
    EditSettings(**p.algorithm),
    p.site,
    p.edit["neurons"],
    ["token", "word"],
    p.edit["control_seeds"],
    p.seed,
)
rows = []
for plan in progress(plans[int(snakemake.wildcards.shard) :: p.shards], description="edit"):
    pictures = [read_picture(Path(p.root) / paths[name]) for name in plan.roles]
    tokens = model.embed_pictures(pictures, fill_prompt(p.prompt))
    own = neurons.loc[neurons["sample_id"] == plan.sample_id].sort_values("rank")
    rows += edited_captions(
        model,
        p.prompt,
        dict(zip(plan.roles, tokens, strict=True)),
        plain,
        plan,
        own[["layer", "unit"]].to_numpy(),
        trial,
        p.max_new_tokens,
    )
columns = ["edit_id", "sample_id", "source", "target", "kind", "method", "seed", "picture_id"]
columns += ["role", "n_neurons", "n_unedited", "n_opposed", "beta", "caption_before", "caption"]
write_table(pd.DataFrame(rows, columns=columns), snakemake.output.edits, read_facts(files.captions))
left_out = pd.DataFrame([*unknown, *impossible], columns=list(EXCLUSION_COLUMNS))
write_table(left_out, snakemake.output.exclusions)
