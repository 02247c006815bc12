"""Where fetched files of datasets stand: names only, so that rules can ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath


def archive_of(entry: Mapping) -> str | None:
    """The archive, below the root, that a file is a member of; None where it is published alone.

    entry: of `source.files` in the registry. Several files may be members of one archive.
    """
    return f"archives/{address_name(entry['url'])}" if "member" in entry else None


def address_name(url: str) -> str:
    """The name of the file at an address."""
    return PurePosixPath(url.partition("?")[0]).name
