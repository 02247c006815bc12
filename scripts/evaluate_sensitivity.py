"""Semantic sensitivity by BERTScore and MoverScore."""

from functools import partial

import pandas as pd
import torch

from mmneurons.artifacts.tables import read_neurons, read_table, write_csv
from mmneurons.console import log_to
from mmneurons.metrics.moverscore import moverscore
from mmneurons.metrics.semantics import sensitivity_table
from mmneurons.metrics.similarity import bertscore

log_to(snakemake.log[0])
p, encoder = snakemake.params, snakemake.params.encoder
torch.set_num_threads(p.threads)
neurons, tokens = read_neurons(snakemake.input.neurons), read_table(snakemake.input.tokens)
similarities = {"bertscore": bertscore, "moverscore": moverscore}
tables = [
    sensitivity_table(
        neurons,
        tokens,
        metric,
        partial(similarity, encoder=encoder["path"], num_layers=encoder["num_layers"]),
        encoder["label"],
        p.sensitivity["neurons"],
        p.sensitivity["tokens"],
    )
    for metric, similarity in similarities.items()
]
write_csv(pd.concat(tables, ignore_index=True), snakemake.output.sensitivity)
