"""Train the world's text encoder and measure it on scenes that it has not seen."""

import time
from pathlib import Path

from mmneurons.artifacts.files import write_json
from mmneurons.console import log_to, progress
from mmneurons.world.train_text_encoder import save, separation, train

log_to(snakemake.log[0])
p = snakemake.params
start = time.time()
folder = Path(snakemake.output.model)
save(*train(p.model, p.seed, p.threads, progress), folder)
num_layers = p.model["encoder"]["num_hidden_layers"]
facts = {
    "seed": p.seed,
    "seconds": round(time.time() - start),
    "steps": p.model["training"]["steps"],
    "num_layers": num_layers,
    "separation": separation(folder, num_layers, seed=p.seed, n=500),
}
write_json(facts, folder / "training.json")
