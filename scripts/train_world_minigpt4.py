"""Train the world's MiniGPT-4 and measure it on new pictures."""

import time
from pathlib import Path

import numpy as np

from mmneurons.artifacts.files import write_json
from mmneurons.artifacts.provenance import versions
from mmneurons.console import log_to, progress
from mmneurons.models.captions import fill_prompt
from mmneurons.world.grammar import world_text
from mmneurons.world.tokenizer import train_tokenizer
from mmneurons.world.train_minigpt4 import train
from mmneurons.world.training import evaluate

log_to(snakemake.log[0])
p = snakemake.params
start = time.time()
text = world_text(np.random.default_rng(p.seed), p.tokenizer["sentences"])
tokenizer = train_tokenizer(text, p.tokenizer["vocab_size"])
prompt = fill_prompt(p.prompt)
model = train(p.model, tokenizer, prompt, p.seed, p.threads, progress)
facts = {
    "seed": p.seed,
    "seconds": round(time.time() - start),
    "parameters": sum(weight.numel() for weight in model.network.parameters()),
    "new_pictures": evaluate(model, prompt, n=1000, seed=p.seed + 1),
    "versions": versions("torch", "transformers", "tokenizers"),
}
folder = Path(snakemake.output.model)
model.network.save_pretrained(folder)
tokenizer.save_pretrained(folder)
write_json(facts, folder / "training.json")
