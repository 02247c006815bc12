"""Opening a bundle that somebody else made: everything is checked before anything is laid down.

An archive is read once, into a folder of its own beside the results, while its checksums are taken.
Only when all of them are right do its files move to their places.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from mmneurons.sharing.manifest import (
    CONFIG,
    MOST,
    NAME,
    PROVENANCE,
    BundleError,
    Entry,
    Manifest,
    check_name,
    file_entry,
)
from mmneurons.sharing.records import KEPT, Record, write_record

_CHUNK = 2**20
_TIMESTAMP = ".snakemake_timestamp"
"""In a folder that a rule made as a whole: its time is that of the folder."""

_ENCRYPTED = 0x1

_RECORDED = ("rule", "input", "params", "code", "record_format_version")
"""Without any of these in a record the workflow would not notice a change, and say nothing."""


@dataclass(frozen=True)
class Laid:
    """What restoring did.

    manifest: of the bundle; written: files laid down; kept: files that were there with the same
    bytes; changed: sources of the run that are other ones here; absent: those that are not here.
    """

    manifest: Manifest
    written: list[str]
    kept: list[str]
    changed: list[str]
    absent: list[str]


@contextmanager
def checked(bundle: str | Path, folder: Path) -> Iterator[tuple[Manifest, Path]]:
    """The manifest, and a temporary folder below `folder` with all members, each as announced.

    Raises `BundleError` with the reason for anything else. The folder is gone when the block ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _refused(bundle), zipfile.ZipFile(bundle) as archive:
        manifest = _manifest(archive)
        need, free = sum(e.size for e in manifest.files.values()), shutil.disk_usage(folder).free
        if need > free:
            raise BundleError(f"the bundle announces {need} bytes, and {free} are free in {folder}")
        staging = Path(tempfile.mkdtemp(prefix=".restoring-", dir=folder))
    try:
        with _refused(bundle), zipfile.ZipFile(bundle) as archive:
            for name, entry in manifest.files.items():
                _unpack(archive, name, entry, staging / name)
        yield manifest, staging
    finally:
        shutil.rmtree(staging)


def verify(bundle: str | Path, folder: Path) -> Manifest:
    """Check a bundle and lay nothing down; `folder` needs room for it."""
    with checked(bundle, folder) as (manifest, staging):
        _check_run(manifest, staging)
        _records(manifest, staging)
        return manifest


def lay(bundle: str | Path, root: Path, overwrite: bool = False) -> Laid:
    """Lay a bundle's files into a clone at `root`, as files that the workflow made just now.

    Their records go with them, so that whatever differs here from what made them is noticed: a
    parameter, a rule, a set of inputs. Of scripts and settings the workflow compares times, not
    contents; those that differ from the run's get a new time, so that they count as changed.
    Raises `BundleError`, and leaves the clone as it is, where the bundle is refused, where a folder
    on the way is a link that leads out of the clone, or, unless `overwrite`, where a file is in
    place with other content.
    """
    with checked(bundle, root / "results") as (manifest, staging):
        _check_run(manifest, staging)
        records = _records(manifest, staging)
        for path in (*manifest.laid, *manifest.folders):
            _check_way(root, path)
        kept = {
            path
            for path in manifest.laid
            if (root / path).is_file() and file_entry(root / path) == manifest.files[path]
        }
        in_the_way = [p for p in manifest.laid if p not in kept and os.path.lexists(root / p)]
        folders = [p for p in in_the_way if (root / p).is_dir()]
        in_the_way += _strangers(root, manifest)
        if folders or (in_the_way and not overwrite):
            raise BundleError(
                f"{len(in_the_way)} files are in place with other content, such as "
                f"{(folders or in_the_way)[0]}; restore into a fresh clone"
                + ("" if folders else ", or pass --overwrite")
            )
        # Records come first: one without its file means nothing, but a file without its record
        # would count as made here, if this were stopped in between.
        for path, record in records.items():
            write_record(root, path, record)
        for path in in_the_way:
            (root / path).unlink()
        written = [path for path in manifest.laid if path not in kept]
        for path in written:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(staging / path, root / path)
        for folder in manifest.folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / _TIMESTAMP).touch()
        # One time for all: then none of them is newer than what was made from it.
        now = time.time_ns()
        dated = [path for path in manifest.laid if path.startswith(manifest.own)]
        for path in (*dated, *(f"{folder}/{_TIMESTAMP}" for folder in manifest.folders)):
            os.utime(root / path, ns=(now, now))
        share = root / manifest.own / "share"
        share.mkdir(parents=True, exist_ok=True)
        shutil.move(staging / CONFIG, share / CONFIG)
        (share / NAME).write_bytes(manifest.to_json())
        there = [path for path in manifest.sources if (root / path).is_file()]
        changed = [p for p in there if file_entry(root / p) != manifest.sources[p]]
        while time.time_ns() <= now:
            time.sleep(0.001)
        for path in changed:
            os.utime(root / path)
        absent = [path for path in manifest.sources if path not in there]
        return Laid(manifest, written, sorted(kept), changed, absent)


def _check_way(root: Path, path: str) -> None:
    """Raise `BundleError` where a file could not be laid down, or would be elsewhere."""
    for parent in Path(path).parents[:-1]:
        if os.path.lexists(root / parent) and not (root / parent).is_dir():
            raise BundleError(f"{parent} is in place and is no folder")
    # The folder of all results may be a link, to a larger disk; what is below must not be.
    top = Path(path).parts[0]
    if not (root / path).parent.resolve().is_relative_to((root / top).resolve()):
        raise BundleError(f"{Path(path).parent} is or is below a link that leads out of {top}")


def _strangers(root: Path, manifest: Manifest) -> list[str]:
    """Files in folders that a rule made as a whole, which the bundle's folders do not have."""
    return [
        path.relative_to(root).as_posix()
        for folder in manifest.folders
        for path in sorted((root / folder).rglob("[!.]*"))
        if not path.is_dir() and path.relative_to(root).as_posix() not in manifest.files
    ]


def _check_run(manifest: Manifest, staging: Path) -> None:
    """Raise `BundleError` unless the configuration is of the run that the manifest names."""
    try:
        run = yaml.safe_load((staging / CONFIG).read_text(encoding="utf-8"))["run"]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{CONFIG} cannot be read: {error}") from error
    if run != manifest.run:
        raise BundleError(f"{CONFIG} is of the run {run!r}, and the manifest of {manifest.run!r}")


@contextmanager
def _refused(bundle: str | Path) -> Iterator[None]:
    """Whatever a broken archive makes the libraries raise, as a `BundleError`."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError) as error:
        raise BundleError(f"{bundle} is no whole ZIP archive: {error}") from error
    except OSError as error:
        raise BundleError(f"{bundle} cannot be unpacked: {error}") from error


def _manifest(archive: zipfile.ZipFile) -> Manifest:
    """The manifest, once the archive's list of members is what the manifest says."""
    infos: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in infos:
            raise BundleError(f"the bundle has a member twice: {info.filename[:200]!r}")
        infos[info.filename] = info
        check_name(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or info.is_dir():
            raise BundleError(f"the bundle has a member that is no plain file: {info.filename}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(f"the bundle has a member that is packed otherwise: {info.filename}")
        if info.flag_bits & _ENCRYPTED:
            raise BundleError(f"the bundle has a member that is encrypted: {info.filename}")
    if NAME not in infos:
        raise BundleError(f"the archive has no {NAME}: it is no bundle of mmneurons")
    if infos[NAME].file_size > MOST:
        raise BundleError(f"{NAME} is larger than any manifest: {infos[NAME].file_size} bytes")
    with archive.open(NAME) as member:
        manifest = Manifest.from_json(member.read(MOST + 1))
    strangers = sorted(infos.keys() - manifest.files.keys() - {NAME})
    if strangers:
        raise BundleError(f"the bundle has a member that is not in its manifest: {strangers[0]}")
    missing = sorted(manifest.files.keys() - infos.keys())
    if missing:
        raise BundleError(f"the bundle lacks a member that its manifest lists: {missing[0]}")
    for name, entry in manifest.files.items():
        if infos[name].file_size != entry.size:
            raise BundleError(
                f"{name} has {infos[name].file_size} bytes, and the manifest announces {entry.size}"
            )
    return manifest


def _unpack(archive: zipfile.ZipFile, name: str, entry: Entry, path: Path) -> None:
    """One member into a file, never more of it than announced, and only with its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as member, open(path, "xb") as file:
        digest, size = _copy(member, file, entry.size)
    if size != entry.size:
        raise BundleError(f"{name} is not as long as the manifest announces: {entry.size} bytes")
    if digest != entry.sha256:
        raise BundleError(f"{name} does not have the checksum of the manifest; it was changed")


def _copy(source: IO[bytes], target: IO[bytes], most: int) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        if size > most:
            break
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest(), size


def _records(manifest: Manifest, staging: Path) -> dict[str, Record]:
    """The records of the run's files: one for each, or for its folder, and none of anything else.

    The workflow notices no change of what has no record, and would take it for its own.
    """
    try:
        found: Any = json.loads((staging / PROVENANCE).read_text(encoding="utf-8"))
        strangers = found.keys() - manifest.files.keys() - set(manifest.folders)
        fields = {field for record in found.values() for field in record.keys()}
        made = {
            path
            for path, record in found.items()
            if all(record.get(field) is not None for field in _RECORDED)
        }
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise BundleError(f"{PROVENANCE} cannot be read: {error}") from error
    strangers |= {path for path in found if not path.startswith(manifest.own)}
    if strangers or fields - set(KEPT):
        raise BundleError(f"{PROVENANCE} is about what is not in the bundle: {sorted(strangers)}")
    folders = tuple(f"{folder}/" for folder in manifest.folders if folder in made)
    unknown = [
        path
        for path in (*manifest.laid, *manifest.folders)
        if path.startswith(manifest.own) and path not in made and not path.startswith(folders)
    ]
    if unknown:
        raise BundleError(f"{PROVENANCE} does not say how {unknown[0]} was made")
    return found
