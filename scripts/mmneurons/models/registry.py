"""Models by name, as `resources/models.yaml` lists them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml

from mmneurons.models.base import MultimodalModel

ADAPTERS = {"minigpt4": ("mmneurons.models.minigpt4", "MiniGPT4")}


@dataclass(frozen=True)
class ModelEntry:
    """A row of the registry.

    path: directory written by `save_pretrained`; revision: what pins the weights; label: how
    figures call the model; units: neurons per module, checked at load; memory_mb and runtime
    (minutes): what a job with the model asks of a cluster; noise: unit ("absolute" or "rms",
    multiples of the layer's root mean square) and levels that fit the model's scale.
    """

    name: str
    family: str
    path: Path
    revision: str
    label: str
    memory_mb: int
    runtime: int
    units: dict[str, int] = field(default_factory=dict)
    noise: dict = field(default_factory=dict)


def read_registry(path: str | Path) -> dict[str, ModelEntry]:
    """All rows of the registry file."""
    rows = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return {
        name: ModelEntry(name=name, **{**row, "path": Path(row["path"])})
        for name, row in rows.items()
    }


def load_model(entry: ModelEntry, device: str, dtype: str) -> MultimodalModel:
    """Load and check a model; only its own family's adapter is imported."""
    module, name = ADAPTERS[entry.family]
    adapter: type[MultimodalModel] = getattr(importlib.import_module(module), name)
    if not (entry.path / "config.json").is_file():
        raise FileNotFoundError(
            f"model {entry.name}: no checkpoint in {entry.path}; docs/models.md says how to get it"
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = adapter.load(entry.path, device, getattr(torch, dtype))
    model.check(entry.units)
    return model
