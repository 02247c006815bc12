"""Train the world's LLaVA-NeXT, or grow the larger one from it, and measure it on new pictures."""

import time
from pathlib import Path

import torch

from mmneurons.artifacts.files import write_json
from mmneurons.artifacts.provenance import versions
from mmneurons.console import log_to, progress
from mmneurons.models.captions import fill_prompt
from mmneurons.models.instructblip import InstructBlip
from mmneurons.models.llava_next import LlavaNext
from mmneurons.world.train_instructblip import evaluate_questions
from mmneurons.world.train_llava_next import DOMAINS, Wording, train, train_larger
from mmneurons.world.training import evaluate

log_to(snakemake.log[0])
p = snakemake.params
start = time.time()
caption = fill_prompt(p.caption)
wordings = [
    Wording(share, **p.wordings[name], caption=caption)
    for name, share in p.config["wordings"].items()
]
source = Path(snakemake.input.source)
if p.larger is None:
    other = InstructBlip.load(source, "cpu", torch.float32)
    model = train(p.config, other.decoder, other.tokenizer, wordings, p.seed, p.threads, progress)
else:
    small = LlavaNext.load(source, "cpu", torch.float32)
    model = train_larger(p.larger, small, p.config, wordings, p.seed, p.threads, progress)
seed, prefix = p.seed + 1, p.caption["prefix"]
asked = wordings[0].prompt
facts = {
    "seed": p.seed,
    "seconds": round(time.time() - start),
    "parameters": sum(weight.numel() for weight in model.network.parameters()),
    "new_pictures": evaluate(model, caption, n=1000, seed=seed, prefix=prefix),
    "new_questions": {
        name: evaluate_questions(model, name, n=300, seed=seed, worded=asked) for name in DOMAINS
    },
    "versions": versions("torch", "transformers", "tokenizers"),
}
folder = Path(snakemake.output.model)
model.save(folder)
write_json(facts, folder / "training.json")
