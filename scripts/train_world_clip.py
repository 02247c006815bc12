"""Train the world's CLIP and measure it on new pictures."""

import time
from pathlib import Path

from transformers import AutoTokenizer

from mmneurons.artifacts.files import write_json
from mmneurons.artifacts.provenance import versions
from mmneurons.console import log_to, progress
from mmneurons.world.train_clip import retrieval, save, train

log_to(snakemake.log[0])
p = snakemake.params
start = time.time()
tokenizer = AutoTokenizer.from_pretrained(snakemake.input.tokenizer)
model, tokenizer = train(p.model, tokenizer, p.seed, p.threads, progress)
facts = {
    "seed": p.seed,
    "seconds": round(time.time() - start),
    "parameters": sum(weight.numel() for weight in model.parameters()),
    "new_pictures": retrieval(model, tokenizer, n=1024, seed=p.seed + 1),
    "versions": versions("torch", "transformers", "tokenizers"),
}
folder = Path(snakemake.output.model)
save(model, tokenizer, folder)
write_json(facts, folder / "training.json")
