"""Reply to this shard's questions with domain neurons, and with random ones, deactivated."""

from pathlib import Path

import pandas as pd
import torch

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.console import log_to, progress
from mmneurons.datasets.pictures import read_question_picture
from mmneurons.interventions.deactivate import conditions
from mmneurons.interventions.replies import (
    DEVIATION_COLUMNS,
    REPLY_COLUMNS,
    Asked,
    plan_trials,
    reply_under,
)
from mmneurons.methods.dape import same_layer_random
from mmneurons.models.base import Decoding
from mmneurons.models.captions import in_batches
from mmneurons.models.questions import question_prompt
from mmneurons.models.registry import ModelEntry, load_model
from mmneurons.probe.counts import ActivationCounter

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
questions = read_table(files.questions).query("part == 'evaluate'")
neurons = read_table(files.neurons)
layers = ActivationCounter(model).layers
random = {
    seed: same_layer_random(neurons, layers, p.seed, seed)
    for seed in range(p.evaluate["control_seeds"])
}
parts = conditions(layers, p.evaluate["masks"])
decoding = Decoding(seed=p.seed, **p.decoding)

# A batch is of one domain: its neurons are those that are deactivated.
batches = [
    batch
    for _, table in questions.groupby("group", sort=False)
    for batch in in_batches(list(table.itertuples()), p.compute["batch_size"])
]
replies, deviations = [], []
for batch in progress(batches[int(snakemake.wildcards.shard) :: p.shards], description="replies"):
    group = batch[0].group
    own = {seed: table.query("group == @group") for seed, table in random.items()}
    found = reply_under(
        model,
        [
            Asked(
                row.sample_id,
                group,
                read_question_picture(Path(p.roots[group]), row.files),
                question_prompt(p.prompt, row.question, row.options, p.roles[group]),
            )
            for row in batch
        ],
        plan_trials(neurons.query("group == @group"), own, parts),
        p.evaluate["max_new_tokens"],
        decoding,
        p.compute["noise_batch_size"],
    )
    replies += found[0]
    deviations += found[1]
facts = read_facts(files.neurons) | {"evaluate": p.evaluate}
for rows, columns, path in (
    (replies, REPLY_COLUMNS, snakemake.output.answers),
    (deviations, DEVIATION_COLUMNS, snakemake.output.deviation),
):
    write_table(pd.DataFrame(rows, columns=list(columns)), path, facts)
