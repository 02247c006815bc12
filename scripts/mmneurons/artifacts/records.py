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
