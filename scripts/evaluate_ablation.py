"""Measure what is left of nouns and captions while units are zero."""

from functools import partial

import torch

from mmneurons.artifacts.tables import read_facts, read_table, write_csv, write_table
from mmneurons.console import log_to
from mmneurons.metrics.ablation import ablation_table, with_similarity
from mmneurons.metrics.similarity import bertscore

log_to(snakemake.log[0])
p = snakemake.params
torch.set_num_threads(p.threads)
path = snakemake.input.ablation
facts = read_facts(path)
similarity = partial(bertscore, encoder=p.encoder["path"], num_layers=p.encoder["num_layers"])
ablated = with_similarity(read_table(path), facts["prefix"], similarity)
write_table(ablated, snakemake.output.ablated, facts | {"encoder": p.encoder["label"]})
write_csv(ablation_table(ablated), snakemake.output.table)
