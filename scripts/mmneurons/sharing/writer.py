"""Packing a run: from its figures back to everything that they were drawn from, into one archive.

The same files, records and settings give the same bytes: members are sorted, and have one date, one
mode and one level of compression. (Another build of zlib may compress to other bytes; the checksums
in the manifest are of what is compressed, so they stay.)
"""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.tables import read_facts, read_table
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.sharing.crate import describe
from mmneurons.sharing.manifest import (
    CONFIG,
    CRATE,
    NAME,
    PROVENANCE,
    README,
    WORKFLOW,
    Entry,
    Manifest,
    bytes_entry,
    check_name,
    file_entry,
)
from mmneurons.sharing.records import Record, upstream

_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX, _MODE = 3, 0o100644
_CHUNK = 2**20


@dataclass(frozen=True)
class Pictures:
    """The pictures of a dataset that figures of a run show.

    dataset, label, licence: of the registry; share: whether the licence lets them go into a bundle;
    root: the folder of the published files; tables: the run's tables that name pictures below it,
    with the column; folders: the run's folders of pictures made from them; figures: names of the
    figures that show some, such as two_stage/figure1.
    """

    dataset: str
    label: str
    licence: str
    share: bool
    root: str
    tables: Sequence[tuple[str, str]]
    folders: Sequence[str]
    figures: Sequence[str]


@dataclass(frozen=True)
class Subject:
    """What a bundle is of.

    run, papers: its name and the papers whose figures it serves; figures: the files drawn; pages:
    the folders drawn, such as the neuron browser; config: the merged configuration; pictures: of
    every dataset; models: their rows for readers; workflow: the Snakefile; version, licence: of the
    software; engine: version of the workflow engine.
    """

    run: str
    papers: Sequence[str]
    figures: Sequence[str]
    pages: Sequence[str]
    config: Mapping[str, Any]
    pictures: Sequence[Pictures]
    models: Sequence[Mapping[str, str]]
    workflow: str
    version: str
    licence: str
    engine: str


def write_bundle(root: Path, path: str | Path, subject: Subject) -> Manifest:
    """Pack a run; all paths but `path` are relative to `root`, the repository's folder.

    Raises ValueError where a file has no record of its making, is a link, or has a name that no
    bundle may hold, and FileNotFoundError where a picture is missing that the tables name.
    """
    own = f"results/{subject.run}/"
    records, others = upstream(
        root, (*subject.figures, *subject.pages), lambda name: name.startswith(own)
    )
    files, folders = _artifacts(root, records, subject.pictures)
    files |= {name: root / name for name in _pictures(root, subject.pictures)}
    entries = {name: file_entry(file) for name, file in files.items()}
    sources = {name: file_entry(root / name) for name in _sources(root, records, others)}
    about = _about(subject, files)
    kept = {name: record for name, record in records.items() if name in files or name in folders}
    texts = {
        # In the order of the run: parameters are compared as they are written.
        CONFIG: yaml.safe_dump(_plain(subject.config), sort_keys=False, allow_unicode=True),
        PROVENANCE: json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
        WORKFLOW: (root / subject.workflow).read_text(encoding="utf-8"),
    }
    withheld = [
        {
            "dataset": pictures.dataset,
            "label": pictures.label,
            "licence": pictures.licence,
            "root": pictures.root,
            "folders": sorted(pictures.folders),
            "figures": sorted(pictures.figures),
        }
        for pictures in subject.pictures
        if not pictures.share
    ]
    texts[README] = _readme(subject, entries, withheld)
    members = {name: text.encode() for name, text in texts.items()}
    entries |= {name: bytes_entry(data) for name, data in members.items()}
    crate = describe(subject, entries, sources, kept, about, withheld)
    members[CRATE] = (json.dumps(crate, indent=1, ensure_ascii=False) + "\n").encode()
    entries[CRATE] = bytes_entry(members[CRATE])
    manifest = Manifest(
        run=subject.run,
        papers=sorted(subject.papers),
        files=dict(sorted(entries.items())),
        folders=sorted(folders),
        figures={name: file_entry(root / name).sha256 for name in sorted(subject.figures)},
        sources=dict(sorted(sources.items())),
        withheld=withheld,
        about=about,
    )
    for name in manifest.files:
        check_name(name)
    _write(path, manifest, files, members)
    return manifest


def _write(
    path: str | Path, manifest: Manifest, files: Mapping[str, Path], members: Mapping[str, bytes]
) -> None:
    """The archive: the manifest first, then what it lists, in the order of names."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(_member(NAME), manifest.to_json())
        for name, entry in manifest.files.items():
            if name in members:
                archive.writestr(_member(name), members[name])
                continue
            info = _member(name)
            info.file_size = entry.size  # so that very large files get the fields they need
            with open(files[name], "rb") as source, archive.open(info, "w") as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.create_system, info.external_attr = _UNIX, _MODE << 16
    info.compress_type = zipfile.ZIP_DEFLATED  # at zlib's usual level
    return info


def _artifacts(
    root: Path, records: Mapping[str, Record], pictures: Sequence[Pictures]
) -> tuple[dict[str, Path], list[str]]:
    """The run's files that are there, by name, and the folders that rules made as a whole."""
    withheld = {folder for row in pictures if not row.share for folder in row.folders}
    files: dict[str, Path] = {}
    folders = []
    for name in records:
        path = root / name
        if name in withheld or not path.exists():
            continue
        if path.is_dir():
            folders.append(name)
            inside = sorted(p for p in path.rglob("*") if not p.name.startswith("."))
            files |= {p.relative_to(root).as_posix(): p for p in inside if not p.is_dir()}
        else:
            files[name] = path
    links = [name for name, path in files.items() if path.is_symlink()]
    if links:
        raise ValueError(f"a bundle holds no links, and {links[0]} is one")
    return files, folders


def _pictures(root: Path, pictures: Sequence[Pictures]) -> set[str]:
    """The pictures of datasets that may be shared, of those that tables of the run name."""
    return {
        f"{row.root}/{file}"
        for row in pictures
        if row.share
        for table, column in row.tables
        for named in read_table(root / table)[column]
        for file in (named if isinstance(named, list | np.ndarray) else [named])
    }


def _sources(root: Path, records: Mapping[str, Record], others: Sequence[str]) -> list[str]:
    """Files that the run was made from and no bundle holds: scripts, settings, weights, data."""
    scripts = set()
    for record in records.values():
        code = (record.get("code") or "").strip().strip("\"',")
        if code.startswith("../"):
            scripts.add(code.removeprefix("../"))
    inside = {name for name in others if not Path(name).is_absolute()}
    return sorted(name for name in inside | scripts if (root / name).is_file())


def _about(subject: Subject, files: Mapping[str, Path]) -> dict[str, Any]:
    """What a reader wants to know of a bundle without opening its files."""
    software = defaultdict(set)
    for path in files.values():
        for package, version in _facts(path).get("versions", {}).items():
            software[package].add(version)
    return {
        "software": {package: sorted(found) for package, found in sorted(software.items())},
        "engine": subject.engine,
        "version": subject.version,
        "licence": subject.licence,
        "models": sorted((dict(row) for row in subject.models), key=lambda row: row["name"]),
        "datasets": [
            {
                "name": row.dataset,
                "label": row.label,
                "licence": row.licence,
                "pictures": "share" if row.share else "withhold",
            }
            for row in sorted(subject.pictures, key=lambda row: row.dataset)
        ],
    }


def _facts(path: Path) -> dict[str, Any]:
    """Facts of a table or recording, none of other files."""
    if path.suffix == ".parquet":
        return read_facts(path)
    return TensorFile(path).facts if path.suffix == ".safetensors" else {}


def _plain(value: Any) -> Any:
    """Sections of a configuration as plain dicts and lists."""
    return json.loads(json.dumps(value))


def _readme(
    subject: Subject, entries: Mapping[str, Entry], withheld: Sequence[Mapping[str, Any]]
) -> str:
    size = sum(entry.size for entry in entries.values())
    lines = [
        f"# Artifacts of the run {subject.run}",
        "",
        "Made by the workflow mmneurons. In a clone of its repository",
        "",
        f"    python scripts/restore.py {subject.run}.mmneurons.zip",
        "",
        "checks this file and lays it down; docs/sharing.md there says more.",
        "",
        f"- {len(entries)} files, {size / 1e6:.1f} MB, with checksums in {NAME}",
        f"- configuration of the run: {CONFIG}; how each file was made: {PROVENANCE}",
        "",
        "| dataset | licence | pictures |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {row.label} | {row.licence} | {'here' if row.share else 'not here'} |"
        for row in subject.pictures
    ]
    if withheld:
        names = sorted({name for row in withheld for name in row["figures"]})
        lines += ["", f"Drawn only where the pictures are in place: {', '.join(names)}."]
    return "\n".join(lines) + "\n"
