"""Compare neurons, soft prompts and captions with pictures and with what people say of them."""

from functools import partial
from pathlib import Path

import torch

from mmneurons.artifacts.tables import read_facts, read_table, write_csv, write_table
from mmneurons.console import log_to
from mmneurons.datasets.pictures import read_picture
from mmneurons.metrics import descriptions
from mmneurons.metrics.clipscore import ClipScorer
from mmneurons.metrics.similarity import bertscore

log_to(snakemake.log[0])
p, files, output = snakemake.params, snakemake.input, snakemake.output
torch.set_num_threads(p.threads)
captions, facts = read_table(files.captions), read_facts(files.captions)
captions = captions[captions["sampled"]]
units, tokens = read_table(files.units), read_table(files.tokens)
neurons = descriptions.neuron_texts(units, tokens, p.units, p.tokens)
prompt_tokens = read_table(files.prompt_tokens)
texts = descriptions.texts_to_score(
    captions, facts["prefix"], neurons, prompt_tokens, facts["seed"]
)
pictures = [read_picture(Path(p.root) / file) for file in captions["file"]]
clip = ClipScorer(p.clip["path"], pictures)
of_texts = partial(bertscore, encoder=p.encoder["path"], num_layers=p.encoder["num_layers"])
scored = descriptions.score_texts(texts, captions, clip.scores, of_texts)
scores = descriptions.picture_scores(scored)
labels = {"clipscore": p.clip["label"], "bertscore": p.encoder["label"]}
write_csv(scores, output.scores)
write_csv(descriptions.mean_scores(scores, labels), output.means)
write_csv(descriptions.ks_tests(scores), output.ks)
write_table(descriptions.prompt_scores(scored), output.prompts, facts)
write_table(descriptions.left_out(captions, neurons, p.units), output.exclusions)
