"""Reading YAML. Apart from the other files, since few environments have a package for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML has it: ten times as fast, and every job reads the registries."""


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file of plain values."""
    with open(path, encoding="utf-8") as file:
        return yaml.load(file, LOADER)
