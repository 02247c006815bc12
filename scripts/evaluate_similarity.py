"""BLEU, ROUGE and BERTScore of captions under noise with the inpainted picture's caption."""

from functools import partial

import torch

from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.metrics.similarity import bertscore, bleu, rouge
from mmneurons.metrics.similarity_table import similarity_table

log_to(snakemake.log[0])
p = snakemake.params
torch.set_num_threads(p.threads)
valid = read_table(snakemake.input.valid)
encoder = p.encoder
measures = {
    "bleu1": partial(bleu, order=1),
    "bleu4": partial(bleu, order=4),
    "rouge1": partial(rouge, kind="rouge1"),
    "rougeL": partial(rouge, kind="rougeL"),
    "bertscore": partial(bertscore, encoder=encoder["path"], num_layers=encoder["num_layers"]),
}
inpainted = dict(zip(valid["sample_id"], valid["caption_inpainted"], strict=True))
table = similarity_table(read_table(snakemake.input.noise), inpainted, measures)
write_csv(table.assign(encoder=encoder["label"]), snakemake.output.similarity)
