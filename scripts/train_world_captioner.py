"""Train the world's LLaVA or mPLUG-Owl2 and measure it on new pictures."""

import time
from pathlib import Path

import torch
from transformers import CLIPModel

from mmneurons.artifacts.files import write_json
from mmneurons.artifacts.provenance import versions
from mmneurons.console import log_to, progress
from mmneurons.models.captions import fill_prompt
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.world import train_llava, train_mplug_owl2
from mmneurons.world.training import evaluate

log_to(snakemake.log[0])
p = snakemake.params
start = time.time()
train = {"llava": train_llava.train, "mplug_owl2": train_mplug_owl2.train}[p.family]
tower = CLIPModel.from_pretrained(snakemake.input.tower).vision_model
other = MiniGPT4.load(Path(snakemake.input.decoder), "cpu", torch.float32)
prompt, prefix = fill_prompt(p.prompt), p.prompt["prefix"]
model = train(
    p.model, tower, other.decoder, other.tokenizer, prompt, prefix, p.seed, p.threads, progress
)
facts = {
    "seed": p.seed,
    "seconds": round(time.time() - start),
    "parameters": sum(weight.numel() for weight in model.network.parameters()),
    "new_pictures": evaluate(model, prompt, n=1000, seed=p.seed + 1, prefix=prefix),
    "versions": versions("torch", "transformers", "tokenizers"),
}
folder = Path(snakemake.output.model)
model.save(folder)
write_json(facts, folder / "training.json")
