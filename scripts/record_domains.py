"""Count this shard's activations, and read the residual stream of its questions."""

from collections import defaultdict
from pathlib import Path

import pandas as pd
import torch

from mmneurons.artifacts.counts import CountsWriter
from mmneurons.artifacts.provenance import versions
from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.console import log_to, progress
from mmneurons.datasets.pictures import read_question_picture
from mmneurons.datasets.tables import EXCLUSION_COLUMNS
from mmneurons.models.captions import shard_of
from mmneurons.models.loading import number_format
from mmneurons.models.questions import question_prompt
from mmneurons.models.registry import ModelEntry, load_model
from mmneurons.probe.budget import within_budget
from mmneurons.probe.counts import ActivationCounter
from mmneurons.probe.domains import (
    ENTROPY_COLUMNS,
    LENS_COLUMNS,
    GroupCounts,
    read_questions,
)

log_to(snakemake.log[0])
p, output, shard = snakemake.params, snakemake.output, int(snakemake.wildcards.shard)
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
questions = read_table(snakemake.input.questions)


def batches_of(table):
    """This shard's batches of a table: rows and pictures."""
    rows = shard_of(list(table.index), p.compute["batch_size"], shard, p.shards)
    for chosen in progress(rows, description="questions"):
        batch = table.loc[chosen]
        yield (
            batch,
            [
                read_question_picture(Path(p.roots[row.group]), row.files)
                for row in batch.itertuples()
            ],
        )


identify = questions.query("part == 'identify'").copy()
identify["prompt"] = [p.prompt["identify"].format(question=q) for q in identify["question"]]
identify["n_tokens"] = [
    model.n_tokens(row.prompt, (row.width, row.height)) for row in identify.itertuples()
]
counted, budget, short = within_budget(identify, p.tokens)

counter = ActivationCounter(model)
groups = list(p.roots)
inert = {module: sorted(model.inert_layers(module, "last")) for module in counter.sites}
facts = read_facts(snakemake.input.questions) | {"groups": groups, "budget": budget}
facts |= {"model": entry.name, "revision": entry.revision, "label": entry.label}
facts |= {
    "dtype": number_format(p.compute["loading"]),
    "inert": inert,
    "versions": versions("torch", "transformers"),
}
rows = defaultdict(list)
by_group = GroupCounts()
with CountsWriter(output.counts, counter.layers, facts) as writer:
    for batch, pictures in batches_of(counted):
        found = counter.count(pictures, list(batch["prompt"]))
        names = list(batch["sample_id"]), list(batch["group"])
        if p.record == "samples":
            writer.add(*names, [1] * len(batch), found.tokens, found.counts)
        else:
            by_group.add(names[1], found)
        if found.embeddings is not None:
            embeddings = zip(*names, batch["order"], found.embeddings.numpy().tolist(), strict=True)
            rows["embeddings"] += [
                (name, group, values)
                for name, group, order, values in embeddings
                if order < p.embeddings
            ]
    if p.record == "groups":
        writer.add(*by_group.rows())

first = questions.query(f"part == 'evaluate' and order < {p.lens['questions']}")
wording = p.prompt[p.wording]
for batch, pictures in batches_of(first.reset_index(drop=True)):
    prompts = [
        question_prompt(wording, row.question, row.options, p.roles[row.group])
        for row in batch.itertuples()
    ]
    read = read_questions(model, batch, pictures, prompts, p.cases, p.lens["top"])
    for name, found in zip(("entropy", "lens", "exclusions"), read, strict=True):
        rows[name] += found

if shard == 0:  # what concerns all shards alike is said once
    rows["exclusions"] += short
columns = {
    "embeddings": ["sample_id", "group", "embedding"],
    "entropy": ENTROPY_COLUMNS,
    "lens": LENS_COLUMNS,
    "exclusions": EXCLUSION_COLUMNS,
}
for name, names in columns.items():
    write_table(pd.DataFrame(rows[name], columns=list(names)), output[name], facts)
