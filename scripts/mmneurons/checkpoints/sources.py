"""Where a registry's checkpoints come from: the `source` of a row, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

ORIGINALS = "resources/originals"
"""What is fetched stands here, a folder an original, until it is converted."""

RECEIPT = "download.json"
"""Written last into such a folder: what was fetched. Where it is, the original is whole."""

MADE_OF = "source.json"
"""In a checkpoint's directory that was made here: the originals' receipts."""

CONVERSIONS = {
    "minigpt4": "mmneurons.checkpoints.minigpt4",
    "llava": "mmneurons.checkpoints.llava",
    "mplug_owl2": "mmneurons.checkpoints.mplug_owl2",
    "limber": "mmneurons.checkpoints.limber",
    "transformers": "mmneurons.checkpoints.published",
}
"""Modules with `convert(originals, folder)`; originals: the part that each plays and its folder."""

KEYS = {"repo", "revision", "files", "url", "sha256", "gigabytes", "licence", "gated"}


class SourceError(ValueError):
    """A `source` in a registry says too little, or something that nothing here understands."""


@dataclass(frozen=True)
class Original:
    """One published part of a checkpoint.

    folder: its name below `ORIGINALS`, the same for all rows that need it; repo, revision: of the
    hub, the revision a commit or the name of a branch; files: patterns of the names to fetch; url:
    of a single file that is on no hub; sha256: of that file, or of files of the hub that are
    known by it, None where nobody published it; gigabytes: 10^9 bytes to fetch, about; licence: in
    words; gated: whether the hub asks for an account that has accepted the licence.
    """

    folder: str
    gigabytes: float
    licence: str
    repo: str | None = None
    revision: str | None = None
    files: tuple[str, ...] = ()
    url: str | None = None
    sha256: str | None = None
    gated: bool = False

    @classmethod
    def from_row(cls, row: Mapping) -> Original:
        """Raises SourceError, naming what is wrong."""
        wrong = sorted(row.keys() - KEYS)
        if wrong:
            raise SourceError(f"an original has no {', '.join(wrong)}")
        on_hub = "repo" in row
        needed = {"gigabytes", "licence"} | ({"repo", "revision", "files"} if on_hub else {"url"})
        if missing := sorted(needed - row.keys()):
            name = row.get("repo", row.get("url", "an original"))
            raise SourceError(f"{name}: the registry lacks {', '.join(missing)}")
        if on_hub:
            folder = row["repo"].replace("/", "--")
        else:
            folder = PurePosixPath(row["url"].partition("?")[0]).stem
        return cls(folder, **dict(row) | {"files": tuple(row.get("files", ()))})

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.repo or self.url


@dataclass(frozen=True)
class Source:
    """The `source` of a row: the conversion and its originals by the part that they play."""

    convert: str
    originals: dict[str, Original]

    @classmethod
    def from_row(cls, row: Mapping) -> Source:
        """Raises SourceError."""
        if row.keys() != {"convert", "originals"}:
            raise SourceError(f"a source has convert and originals, not {', '.join(sorted(row))}")
        if row["convert"] not in CONVERSIONS:
            known = ", ".join(CONVERSIONS)
            raise SourceError(f"there is no conversion {row['convert']}; there are {known}")
        parts = {part: Original.from_row(each) for part, each in row["originals"].items()}
        return cls(row["convert"], parts)


def sources(*registries: Mapping[str, Mapping]) -> dict[str, Source]:
    """The sources of all rows that have one, by the directory that the row expects."""
    return {
        row["path"]: Source.from_row(row["source"])
        for rows in registries
        for row in rows.values()
        if "source" in row
    }


def originals(found: Mapping[str, Source]) -> dict[str, Original]:
    """All originals of some sources by their folders.

    Raises SourceError where two rows want different files of one repository.
    """
    by_folder: dict[str, Original] = {}
    for source in found.values():
        for original in source.originals.values():
            if by_folder.setdefault(original.folder, original) != original:
                raise SourceError(f"two rows describe {original.name} differently")
    return by_folder
