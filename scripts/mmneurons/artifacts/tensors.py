"""Tensors: safetensors with the run's facts in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from mmneurons.artifacts.files import atomic


def write_tensors(
    tensors: Mapping[str, np.ndarray], path: str | Path, facts: dict | None = None
) -> None:
    """Write arrays by name; `facts` go into the header as JSON."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in sorted(tensors.items())}
    text = json.dumps(facts or {}, sort_keys=True, ensure_ascii=False)
    with atomic(path) as temporary:
        save_file(contiguous, temporary, metadata={"mmneurons": text})


class TensorFile:
    """Arrays of one file, each read when asked for."""

    def __init__(self, path: str | Path):
        self._file = safe_open(path, framework="numpy")
        self.names = frozenset(self._file.keys())
        self.facts: dict = json.loads((self._file.metadata() or {}).get("mmneurons", "{}"))

    def __getitem__(self, name: str) -> np.ndarray:
        return self._file.get_tensor(name)

    def __contains__(self, name: str) -> bool:
        return name in self.names
