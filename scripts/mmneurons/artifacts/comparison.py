"""Shards of the comparison's recording, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmneurons.artifacts.tables import read_facts, read_table, stacked
from mmneurons.artifacts.tensors import TensorFile


@dataclass(frozen=True)
class Recordings:
    """Of all concepts, in the samples' order, whatever the number of shards.

    valid, exclusions, neurons, costs: tables; counts: by variant ("plain", "shuffled") active
    tokens `samples x units` and tokens `samples`, empty where they were not recorded; mean_square:
    of every layer; facts: of the recording.
    """

    valid: pd.DataFrame
    exclusions: pd.DataFrame
    neurons: pd.DataFrame
    costs: pd.DataFrame
    counts: dict[str, tuple[np.ndarray, np.ndarray]]
    mean_square: list[float]
    facts: dict


def read_recordings(folders: Sequence[Path]) -> Recordings:
    """Read the shards' folders. Where no concept has a valid picture, all tables are empty."""
    facts = read_facts(folders[0] / "valid.parquet")
    groups = facts["groups"]
    files = [TensorFile(folder / "counts.safetensors") for folder in folders]
    of_group = {name.split("/", 1)[0]: file for file in files for name in file.names}
    recorded = [group for group in groups if group in of_group]

    def array(name: str) -> np.ndarray:
        return np.concatenate([of_group[group][f"{group}/{name}"] for group in recorded])

    counts = {}
    for variant in ("plain", "shuffled"):
        if recorded and f"{recorded[0]}/tokens/{variant}/image" in of_group[recorded[0]]:
            both = [array(f"counts/{variant}/{kind}") for kind in ("image", "text")]
            n = [array(f"tokens/{variant}/{kind}") for kind in ("image", "text")]
            counts[variant] = sum(both).reshape(len(n[0]), -1), sum(n)
    tables = {
        name: [read_table(folder / f"{name}.parquet") for folder in folders]
        for name in ("valid", "exclusions", "neurons", "costs")
    }
    squares = array("mean_square").mean(axis=0, dtype=np.float64) if recorded else []
    return Recordings(
        valid=_in_order(tables["valid"], groups),
        exclusions=_in_order(tables["exclusions"], groups),
        neurons=_in_order(tables["neurons"], groups),
        costs=next((own for own in tables["costs"] if len(own)), tables["costs"][0]),
        counts=counts,
        mean_square=[float(value) for value in squares],
        facts=facts,
    )


def _in_order(tables: Sequence[pd.DataFrame], groups: Sequence[str]) -> pd.DataFrame:
    """Rows by concept, each concept's in their own order."""
    together = stacked(tables)
    if together.empty:
        return together
    place = together["group"].map({group: number for number, group in enumerate(groups)})
    return together.iloc[np.argsort(place.to_numpy(), kind="stable")].reset_index(drop=True)
