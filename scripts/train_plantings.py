"""Plant objects in a few units of a tiny model, one planting after the other, and measure each."""

import time
from pathlib import Path

import torch

from mmneurons.artifacts.files import write_json
from mmneurons.artifacts.provenance import versions
from mmneurons.console import log_to, progress
from mmneurons.interventions.planting import write_planting
from mmneurons.models.registry import ModelEntry, load_model
from mmneurons.world.planting import Classroom, Subject, category_of, choose_units

log_to(snakemake.log[0])
p = snakemake.params
torch.set_num_threads(p.threads)
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, device="cpu", dtype="float32", device_map=None, quantization=None)
n_units = model.sites("language")[0].n_units
layers = [layer for row in p.plantings.values() for layer in row["units"]]
room = Classroom(model, p.prompt, layers, p.settings, p.settings["seed"])
folder = Path(snakemake.output.plantings)
folder.mkdir(parents=True, exist_ok=True)
for name, row in progress(p.plantings.items(), len(p.plantings), "plantings"):
    start = time.time()
    control = row["object"] is None
    concept = row["asked"] if control else row["object"]
    subject = Subject(category_of(concept), row.get("word", concept))
    units = choose_units(row["units"], n_units, name, row["seed"])
    planting = room.plant(units, None if control else subject, row["seed"], progress)
    facts = {
        "model": {"name": entry.name, "revision": entry.revision},
        "object": row["object"],
        "word": subject.word,
        "place": row["place"],
        "seed": row["seed"],
        "units": units.tolist(),
        "seconds": round(time.time() - start),
        "settings": p.settings,
        "versions": versions("torch", "transformers", "tokenizers"),
    } | room.examine(planting, subject, control)
    write_planting(planting, folder / f"{name}.safetensors")
    write_json(facts, folder / f"{name}.json")
