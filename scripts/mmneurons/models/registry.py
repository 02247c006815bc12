"""Models by name, as `resources/models.yaml` lists them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch

from mmneurons.artifacts.yaml_files import read_yaml
from mmneurons.models.base import MultimodalModel
from mmneurons.models.loading import placement

ADAPTERS = {
    "minigpt4": ("mmneurons.models.minigpt4", "MiniGPT4"),
    "llava": ("mmneurons.models.llava", "Llava"),
    "llava_next": ("mmneurons.models.llava_next", "LlavaNext"),
    "instructblip": ("mmneurons.models.instructblip", "InstructBlip"),
    "qwen2_5_vl": ("mmneurons.models.qwen2_5_vl", "Qwen25VL"),
    "mplug_owl2": ("mmneurons.models.mplug_owl2", "MPlugOwl2"),
    "limber": ("mmneurons.models.limber", "Limber"),
}


@dataclass(frozen=True)
class ModelEntry:
    """What of a registry row the loading of a model needs.

    path: directory written by `save_pretrained`; revision: what pins the weights; label: how
    figures call the model; units: neurons per module, checked at load.
    """

    name: str
    family: str
    path: Path
    revision: str
    label: str
    units: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_row(cls, name: str, row: dict) -> ModelEntry:
        """The entry of a row of the registry file; what it does not need is left out."""
        known = {f.name for f in fields(cls)} - {"name", "path"}
        kept = {key: value for key, value in row.items() if key in known}
        return cls(name=name, path=Path(row["path"]), **kept)


def read_registry(path: str | Path) -> dict[str, ModelEntry]:
    """All rows of the registry file."""
    rows = read_yaml(path)
    return {name: ModelEntry.from_row(name, row) for name, row in rows.items()}


def adapter_of(family: str) -> type[MultimodalModel]:
    """The adapter of a family; no other one is imported."""
    module, name = ADAPTERS[family]
    return getattr(importlib.import_module(module), name)


def load_model(
    entry: ModelEntry,
    device: str,
    dtype: str,
    device_map: str | Mapping[str, int | str] | None = None,
    quantization: str | None = None,
) -> MultimodalModel:
    """Load and check a model.

    device: "cpu", "cuda" or "auto"; dtype: a number format as torch calls it; device_map and
    quantization: as `compute` of the configuration has them and `loading.placement` explains.
    """
    adapter = adapter_of(entry.family)
    if not (entry.path / "config.json").is_file():
        raise FileNotFoundError(
            f"model {entry.name}: no checkpoint in {entry.path}; docs/models.md says how to get it"
        )
    form = getattr(torch, dtype)
    home, arguments = placement(device, form, device_map, quantization, adapter.kept_precise)
    model = adapter.load(entry.path, home, form, **arguments)
    model.check(entry.units)
    return model
