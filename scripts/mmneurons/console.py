"""What a job says while it runs: a log file, and progress that fits a terminal or a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm


def log_to(path: str | Path) -> None:
    """Send everything that the process says, tracebacks included, to a rule's log."""
    log = open(path, "w", buffering=1, encoding="utf-8")  # noqa: SIM115 - open for the whole process
    sys.stderr = sys.stdout = log


def progress(items: Iterable, total: int | None = None, description: str = "") -> tqdm:
    """A bar on the terminal, even where messages go to a log; without a terminal, log lines."""
    terminal = sys.__stderr__ is not None and sys.__stderr__.isatty()
    return tqdm(
        items,
        total=total,
        desc=description,
        file=sys.__stderr__ if terminal else sys.stderr,
        mininterval=0.2 if terminal else 10,
        leave=not terminal,
    )
