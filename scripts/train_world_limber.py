"""Train the world's LiMBeR and measure it on new pictures, after each of its prompts."""

import time
from pathlib import Path

import numpy as np
from transformers import CLIPModel

from mmneurons.artifacts.files import write_json
from mmneurons.artifacts.provenance import versions
from mmneurons.console import log_to, progress
from mmneurons.models.captions import fill_prompt
from mmneurons.world.grammar import world_text
from mmneurons.world.train_limber import byte_tokenizer, train
from mmneurons.world.training import evaluate

log_to(snakemake.log[0])
p = snakemake.params
start = time.time()
text = world_text(np.random.default_rng(p.seed), p.tokenizer["sentences"])
tokenizer = byte_tokenizer(text, p.tokenizer["vocab_size"])
tower = CLIPModel.from_pretrained(snakemake.input.tower).vision_model
prompts = [(fill_prompt(prompt), prompt["prefix"]) for prompt in p.prompts]
model = train(p.model, tower, tokenizer, prompts, p.seed, p.threads, progress)
measured = [
    evaluate(model, prompt, n=1000, seed=p.seed + 1, prefix=prefix) for prompt, prefix in prompts
]
facts = {
    "seed": p.seed,
    "seconds": round(time.time() - start),
    "cpu_seconds": round(time.process_time()),
    "parameters": sum(weight.numel() for weight in model.network.parameters()),
    "new_pictures": measured[0],
    "new_pictures_few_words": measured[1],
    "versions": versions("torch", "transformers", "tokenizers"),
}
folder = Path(snakemake.output.model)
model.save(folder)
write_json(facts, folder / "training.json")
