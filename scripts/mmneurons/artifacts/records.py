"""Recordings: shards, and the one file that they make.

A shard of two-stage filtering holds `{group}/{name}` arrays (see
`mmneurons.probe.two_stage.record_group`); the merged file holds `{name}` with the samples of all
groups one after the other, in the order of `facts["sample_ids"]`, and what belongs to a concept as
`{name}/{group}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmneurons.artifacts.tables import read_table, write_table
from mmneurons.artifacts.tensors import TensorFile, write_tensors

OF_A_CONCEPT = ("map_units", "maps")


def merge_records(shards: Iterable[str | Path], groups: Sequence[str], path: str | Path) -> None:
    """Put shards together; the result does not depend on how the groups were dealt to them."""
    files = [TensorFile(shard) for shard in shards]
    of_group = {group: file for file in files for group in file.facts["sample_ids"]}
    names = {name.split("/", 1)[1] for file in files for name in file.names}
    tensors: dict[str, np.ndarray] = {}
    for name in names:
        parts = {group: of_group[group][f"{group}/{name}"] for group in groups}
        if name.rsplit("/", 1)[-1] in OF_A_CONCEPT:
            tensors |= {f"{name}/{group}": part for group, part in parts.items()}
        else:
            tensors[name] = np.concatenate(list(parts.values()))
    sample_ids = [s for group in groups for s in of_group[group].facts["sample_ids"][group]]
    write_tensors(tensors, path, {**files[0].facts, "sample_ids": sample_ids})


def merge_maps(shards: Iterable[str | Path], path: str | Path) -> None:
    """Put shards of `{name}`, `samples x ...`, together, sorted by `facts["sample_ids"]`.

    `facts["boxes"]`, by picture, are those of all shards.
    """
    files = [TensorFile(shard) for shard in shards]
    sample_ids = np.array([s for file in files for s in file.facts["sample_ids"]], dtype=str)
    order = np.argsort(sample_ids, kind="stable")
    tensors = {
        name: np.concatenate([file[name] for file in files])[order] for name in files[0].names
    }
    own = {
        "sample_ids": sample_ids[order].tolist(),
        "boxes": {name: box for file in files for name, box in file.facts["boxes"].items()},
    }
    write_tensors(tensors, path, files[0].facts | own)


def merge_ranked_maps(
    folders: Iterable[str | Path], path: str | Path, table_path: str | Path
) -> None:
    """Put shards of maps.safetensors (`maps`, `rows x patches`) and maps.parquet together.

    Rows are sorted by picture, kind and rank and numbered anew; `facts["boxes"]` are those of all
    shards.
    """
    files, tables, start = [], [], 0
    for folder in map(Path, folders):
        files.append(TensorFile(folder / "maps.safetensors"))
        table = read_table(folder / "maps.parquet")
        tables.append(table.assign(row=table["row"] + start))
        start += len(files[-1]["maps"])
    filled = [table for table in tables if len(table)] or tables[:1]
    together = pd.concat(filled, ignore_index=True)
    together = together.sort_values(["picture_id", "kind", "rank"], ignore_index=True)
    maps = np.concatenate([file["maps"] for file in files])[together["row"]]
    boxes = {name: box for file in files for name, box in file.facts["boxes"].items()}
    write_tensors({"maps": maps}, path, files[0].facts | {"boxes": boxes})
    facts = {key: value for key, value in files[0].facts.items() if key != "boxes"}
    write_table(together.assign(row=np.arange(len(together))), table_path, facts)


def merge_means(shards: Iterable[str | Path], path: str | Path) -> None:
    """Add shards of `sums`, `categories x units`, and `counts` up; exact in any order."""
    files = [TensorFile(shard) for shard in shards]
    tensors = {name: sum(file[name] for file in files) for name in ("sums", "counts")}
    write_tensors(tensors, path, files[0].facts)
