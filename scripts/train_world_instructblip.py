"""Train the world's InstructBLIP on captions and questions, and measure it on new pictures."""

import time
from pathlib import Path

import torch
from transformers import AutoTokenizer

from mmneurons.artifacts.files import write_json
from mmneurons.artifacts.provenance import versions
from mmneurons.console import log_to, progress
from mmneurons.models.captions import fill_prompt
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.world.lessons import DRAWN
from mmneurons.world.train_instructblip import evaluate_questions, train
from mmneurons.world.training import evaluate

log_to(snakemake.log[0])
p = snakemake.params
start = time.time()
other = MiniGPT4.load(Path(snakemake.input.decoder), "cpu", torch.float32)
qformer_tokenizer = AutoTokenizer.from_pretrained(snakemake.input.qformer_tokenizer)
prompt = fill_prompt(p.prompt)
model = train(p.model, other, qformer_tokenizer, prompt, p.seed, p.threads, progress)
seed, prefix = p.seed + 1, p.prompt["prefix"]
facts = {
    "seed": p.seed,
    "seconds": round(time.time() - start),
    "parameters": sum(weight.numel() for weight in model.network.parameters()),
    "new_pictures": evaluate(model, prompt, n=1000, seed=seed, prefix=prefix),
    "new_questions": {name: evaluate_questions(model, name, n=300, seed=seed) for name in DRAWN},
    "versions": versions("torch", "transformers", "tokenizers"),
}
folder = Path(snakemake.output.model)
model.save(folder)
write_json(facts, folder / "training.json")
