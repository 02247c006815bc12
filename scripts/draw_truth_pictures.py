"""Draw the pictures on which methods are asked for planted units, with and without the object."""

from pathlib import Path

import numpy as np
import pandas as pd

from mmneurons.artifacts.tables import write_table
from mmneurons.console import log_to
from mmneurons.world.planting import category_of, pair_with

log_to(snakemake.log[0])
p = snakemake.params
folder = Path(snakemake.output.pictures)
folder.mkdir(parents=True, exist_ok=True)
rows = []
for concept, n in p.concepts.items():
    category = category_of(concept)
    rng = np.random.default_rng([p.seed, category.coco_id])
    for number in range(n):
        shown, hidden = pair_with(rng, category)
        picture_id = f"{concept.replace(' ', '-')}-{number:03d}"
        for scene, part in ((shown, "with"), (hidden, "without")):
            scene.picture.save(folder / f"{picture_id}.{part}.png")
        files = (f"{picture_id}.with.png", f"{picture_id}.without.png")
        rows.append((picture_id, concept, number, *files))
columns = ["picture_id", "concept", "number", "file", "file_without"]
write_table(pd.DataFrame(rows, columns=columns), snakemake.output.table, {"seed": p.seed})
