"""Whether a disk has room for what is to be written, asked before anything is."""

from __future__ import annotations

import shutil
from pathlib import Path

from mmneurons.downloads.errors import DownloadError

RESERVE = 256 * 1024**2
"""Bytes that are left free on every disk."""


def require_space(folder: str | Path, missing: int, what: str) -> None:
    """Raise `DownloadError` unless the disk of `folder` takes `missing` more bytes.

    missing: what is still to be written; what is there already counts as written. folder: need not
    exist yet.
    """
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if missing + RESERVE > free:
        raise DownloadError(
            f"{what} needs {in_words(missing)} more in {folder}, and {in_words(free)} are free "
            f"there, of which {in_words(RESERVE)} stay free; make room, or let the folder be a "
            "link to a larger disk"
        )


def in_words(number: int) -> str:
    """A number of bytes as people read it: 252907541 is "253 MB"."""
    size = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
