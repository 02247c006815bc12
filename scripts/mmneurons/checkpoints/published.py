"""Checkpoints that are published for transformers: put into place as they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from mmneurons.checkpoints.convert import ConversionError, weight_files
from mmneurons.checkpoints.sources import RECEIPT
from mmneurons.downloads.space import require_space


def convert(originals: Mapping[str, Path], folder: Path) -> None:
    """Link every file of `checkpoint`, or copy it where the disk cannot, folders among them."""
    original = originals["checkpoint"]
    weight_files(original)
    if not (original / "config.json").is_file():
        raise ConversionError(f"{original} has no config.json")
    for path in sorted(original.rglob("*")):
        if path.is_dir() or path == original / RECEIPT or path.suffix == ".part":
            continue
        target = folder / path.relative_to(original)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            require_space(folder, path.stat().st_size, target.name)
            shutil.copyfile(path, target)
