"""What a bundle says of itself, and which names may stand in it.

The manifest is the member `mmneurons-bundle.json`. Everything else in the archive is listed in it
with SHA-256 and size, so that a reader knows what has to come before it opens any of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonschema

FORMAT = 1
"""Raised whenever a reader of the format before would lay down something wrong."""

KIND = "mmneurons bundle"
NAME = "mmneurons-bundle.json"
CONFIG, PROVENANCE, CRATE = "config.yaml", "provenance.json", "ro-crate-metadata.json"
WORKFLOW, README = "Snakefile", "README.md"
SUFFIX = ".mmneurons.zip"
SOURCES = ("resources/", "results/", "scripts/")
"""Below these are the files of the repository that a run is made from."""

DATA = ("results/world/", "resources/data/")
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Outside of its run a bundle may lay pictures of datasets only, below these folders."""

ARTIFACTS = (".csv", ".json", ".parquet", ".safetensors", *PICTURES)
"""What figures are drawn from. Nothing of this kind is opened by a browser or run by anybody."""

DRAWN = ("benchmarks", "browser", "figures", "logs", "share")
"""Folders of a run that are made from its artifacts or by restoring, never taken from a bundle."""

MOST = 2**26
"""Bytes that a manifest may have; one of a hundred thousand files has a fifth of them."""


_TEXTS = {"type": "array", "items": {"type": "string"}}
_WITHHELD = {
    "dataset": {"type": "string"},
    "label": {"type": "string"},
    "licence": {"type": "string"},
    "root": {"type": "string"},
    "folders": _TEXTS,
    "figures": _TEXTS,
}
_SHAPE = {
    "properties": {
        "run": {"type": "string"},
        "papers": _TEXTS,
        "folders": _TEXTS,
        "figures": {"type": "object", "additionalProperties": {"type": "string"}},
        "withheld": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": _WITHHELD,
                "required": list(_WITHHELD),
                "additionalProperties": False,
            },
        },
        "about": {"type": "object"},
    }
}
"""The kinds of the manifest's parts, as a JSON schema; files and sources are checked one by one."""


class BundleError(ValueError):
    """A bundle that cannot be used; the message is for the person who wanted to use it."""


@dataclass(frozen=True)
class Entry:
    """A file's SHA-256 in hexadecimal digits, and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds.

    run: its name; papers: whose figures it serves; files: every other member by its name;
    folders: those of the files' folders that a rule made as a whole; figures: SHA-256 of the
    figures and tables that were drawn from these files, by path, which are not in the bundle;
    sources: scripts, settings, weights and data that the files were made from and that are not in
    it; withheld: datasets whose pictures are not in it, with the figures that show them;
    about: datasets, models, licences and versions of software, for readers.
    """

    run: str
    papers: list[str]
    files: dict[str, Entry]
    folders: list[str]
    figures: dict[str, str]
    sources: dict[str, Entry]
    withheld: list[dict[str, Any]]
    about: dict[str, Any]

    @property
    def laid(self) -> list[str]:
        """Files that are laid into a clone; the others are about the bundle."""
        return [path for path in self.files if "/" in path]

    @property
    def own(self) -> str:
        """The run's folder."""
        return f"results/{self.run}/"

    def to_json(self) -> bytes:
        """The member's bytes; the same manifest always gives the same."""
        text = json.dumps(
            {"kind": KIND, "format": FORMAT, **asdict(self)},
            indent=1,
            sort_keys=True,
            ensure_ascii=False,
        )
        return f"{text}\n".encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read a manifest; raises `BundleError` with the reason where it cannot be trusted."""
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{NAME} cannot be read: {error}") from error
        if not isinstance(found, dict) or found.pop("kind", None) != KIND:
            raise BundleError(f"{NAME} is not the manifest of a bundle of mmneurons")
        written = found.pop("format", None)
        if not isinstance(written, int) or written < 1:
            raise BundleError(f"{NAME} names no format")
        if written > FORMAT:
            raise BundleError(
                f"the bundle has format {written}, and this version reads formats up to {FORMAT}: "
                "use a newer version of the repository"
            )
        try:
            found["files"] = _entries(found["files"])
            found["sources"] = _entries(found["sources"])
            manifest = cls(**found)
            jsonschema.validate(found, _SHAPE)
        except (KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"{NAME} is not complete: {error}") from error
        except jsonschema.ValidationError as error:
            raise BundleError(f"{NAME} is not complete: {error.message[:200]}") from error
        _check(manifest)
        return manifest


def file_entry(path: str | Path) -> Entry:
    """SHA-256 and size of a file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Entry(digest, file.tell())


def bytes_entry(data: bytes) -> Entry:
    """SHA-256 and size of what a file would hold."""
    return Entry(hashlib.sha256(data).hexdigest(), len(data))


def check_name(name: str) -> None:
    """Raise `BundleError` unless a name is a plain path that stays below the folder it is put in.

    Refused are absolute paths, steps upwards, empty parts, hidden files and folders, drives,
    backslashes and control characters: nothing that a bundle needs has any of them.
    """
    parts = name.split("/")
    if (
        re.search(r"[\\:\x00-\x1f\x7f]", name)
        or any(part in ("", "..") or part.startswith(".") for part in parts)
        or len(name) > 1000
    ):
        raise BundleError(f"the bundle has a member with a forbidden name: {name[:200]!r}")


def _entries(found: Mapping[str, Mapping]) -> dict[str, Entry]:
    entries = {name: Entry(**entry) for name, entry in found.items()}
    for name, entry in entries.items():
        if not re.fullmatch("[0-9a-f]{64}", entry.sha256) or type(entry.size) is not int:
            raise BundleError(f"{NAME} has no checksum and size of {name[:200]!r}")
        if entry.size < 0:
            raise BundleError(f"{NAME} announces a negative size of {name[:200]!r}")
    return entries


def _check(manifest: Manifest) -> None:
    """What has to hold of names, before any of them becomes a path or is shown."""
    own = manifest.own
    if not re.fullmatch("[a-z0-9-]+", manifest.run) or manifest.run == "world":
        raise BundleError(f"the bundle is of a run with a forbidden name: {manifest.run!r}")
    for name in (*manifest.files, *manifest.folders, *manifest.figures, *manifest.sources):
        check_name(name)
    for name in manifest.laid:
        _check_place(name, own)
    strangers = {name for name in manifest.files if "/" not in name} - {
        *(CONFIG, PROVENANCE, CRATE, WORKFLOW, README)
    }
    if strangers:
        raise BundleError(f"the bundle has a member outside of its run: {sorted(strangers)[0]}")
    missing = {CONFIG, PROVENANCE} - manifest.files.keys()
    if missing:
        raise BundleError(f"the bundle lacks {' and '.join(sorted(missing))}")
    for name in manifest.folders:
        if not name.startswith(own) or name.split("/")[2] in DRAWN:
            raise BundleError(f"the bundle has a folder outside of its run: {name}")
    for name in manifest.sources:
        if not name.startswith(SOURCES):
            raise BundleError(f"the bundle names a source outside of the repository: {name}")
    for name in manifest.figures:
        # These are named in commands that people copy.
        if not re.fullmatch(rf"{own}figures/[\w./-]+", name, re.ASCII):
            raise BundleError(f"the bundle names a figure outside of its run: {name!r}")
    shown = [row[key] for row in manifest.withheld for key in ("label", "licence", "root")]
    shown += [name for row in manifest.withheld for name in row["figures"]]
    for text in shown:
        if not text.isprintable():
            raise BundleError(f"the bundle has a text that cannot be shown: {text!r}")


def _check_place(name: str, own: str) -> None:
    """Raise `BundleError` unless a file is of a kind and at a place where a bundle may lay one."""
    kind = Path(name).suffix.lower()
    if name.startswith(own):
        if name.split("/")[2] in DRAWN:
            raise BundleError(f"the bundle has a member where none may be: {name}")
        if kind not in ARTIFACTS:
            raise BundleError(f"the bundle has a member of a kind that none may have: {name}")
    elif not name.startswith(DATA):
        raise BundleError(f"the bundle has a member outside of its run and of the data: {name}")
    elif kind not in PICTURES:
        raise BundleError(f"the bundle has a member among the data that is no picture: {name}")
