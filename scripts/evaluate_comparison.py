"""Measure what every method's neurons did, how stable they are and where they lie."""

from pathlib import Path

import numpy as np
import pandas as pd

from mmneurons.artifacts.tables import (
    put_together,
    read_facts,
    read_table,
    read_tables,
    write_csv,
    write_table,
)
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.console import log_to
from mmneurons.datasets.object_masks import ObjectMasks
from mmneurons.metrics.comparison import agreement, cells, field_table, layer_profile, missing

log_to(snakemake.log[0])
p, folders = snakemake.params, [Path(folder) for folder in snakemake.input.folders]
facts = read_facts(snakemake.input.neurons)
neurons, valid = read_table(snakemake.input.neurons), read_table(snakemake.input.valid)
categories = Path(snakemake.input.categories).read_text(encoding="utf-8").splitlines()
sort = ["intervention", "method", "part", "seed", "group", "picture_id", "level", "draw"]
captions = read_tables([folder / "captions.parquet" for folder in folders], sort=sort)

masks = ObjectMasks(snakemake.input.annotations)
samples = valid.set_index("sample_id")
parts = []
for folder in folders:
    rows, boxes = read_table(folder / "maps.parquet"), read_facts(folder / "maps.parquet")["boxes"]
    maps = TensorFile(folder / "maps.safetensors")["maps"]

    def mask_of(name: str) -> np.ndarray:
        """The object's pixels on a sample's picture."""
        return masks.mask(int(samples.at[name, "image_id"]), samples.at[name, "group"])

    parts.append(field_table(rows, maps, facts["grid"], boxes, mask_of))
fields = put_together(parts, ["method", "part", "seed", "group", "sample_id"])

groups = facts["groups"]
methods = [name for name in p.methods if name in set(neurons["method"])]
found = cells(captions, neurons, fields, categories, methods, groups, facts["k"])
exclusions = pd.concat(
    [read_table(snakemake.input.exclusions), missing(found, valid)], ignore_index=True
)
write_table(captions, snakemake.output.captions, facts)
write_table(exclusions, snakemake.output.exclusions, facts)
write_csv(found, snakemake.output.cells)
write_csv(fields, snakemake.output.fields)
write_csv(agreement(neurons, groups, p.rbo), snakemake.output.agreement)
write_csv(layer_profile(neurons, len(facts["layers"])), snakemake.output.layers)
