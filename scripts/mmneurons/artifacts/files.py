"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it if the block ends without an exception."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix
    )
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp's file is the owner's alone; a result is for whoever the umask allows.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(value: object, path: str | Path) -> None:
    """Write indented JSON with sorted keys."""
    with atomic(path) as temporary:
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def update_json(path: str | Path, change: Callable[[dict], dict]) -> dict:
    """Have `change` make the new object of a JSON file out of the old one, {} where there is none.

    No other process that updates a file of the same folder comes between reading and writing, as
    far as the disk has locks. Nothing is written where nothing changes. Returns the new object.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # some network disks lock no folders; then an update is only very short
        before = read_json(path) if path.exists() else {}
        after = change(dict(before))
        if after != before:
            write_json(after, path)
        return after
    finally:
        os.close(descriptor)


def read_json(path: str | Path) -> object:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
