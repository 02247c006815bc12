"""A bundle described for other programs: a Workflow Run RO-Crate, as JSON-LD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.file import File
from rocrate.rocrate import ROCrate

from mmneurons.sharing.manifest import CONFIG, CRATE, PROVENANCE, README, WORKFLOW, Entry
from mmneurons.sharing.records import Record

if TYPE_CHECKING:
    from mmneurons.sharing.writer import Subject

_VERSION = "1.1"
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_ENCODINGS = {
    "csv": "text/csv",
    "jpg": "image/jpeg",
    "json": "application/json",
    "md": "text/markdown",
    "parquet": "application/vnd.apache.parquet",
    "png": "image/png",
    "tif": "image/tiff",
    "yaml": "application/yaml",
}
_DESCRIBED = {
    CONFIG: "merged configuration of the run",
    PROVENANCE: "rule, inputs and parameters of every file",
    README: "what this is",
}


def describe(
    subject: Subject,
    entries: Mapping[str, Entry],
    sources: Mapping[str, Entry],
    records: Mapping[str, Record],
    about: Mapping[str, Any],
    withheld: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The crate's JSON-LD; the same for the same bundle, its date that of the newest file's making.

    entries: every member but the crate and the manifest; sources: what the run was made from and
    the bundle has not; records: of the run's files; about, withheld: as in the manifest.
    """
    crate = ROCrate(version=_VERSION)
    crate.metadata.extra_terms["sha256"] = "https://schema.org/sha256"
    start, end = _span(records)
    crate.name = f"Artifacts of the run {subject.run} of mmneurons"
    crate.description = _description(subject, withheld)
    crate.license = f"https://spdx.org/licenses/{subject.licence}"
    crate.datePublished = end
    crate.root_dataset["conformsTo"] = [
        crate.add(
            ContextEntity(crate, url, {"@type": "CreativeWork", "name": name, "version": version})
        )
        for url, (name, version) in _PROFILES.items()
    ]
    software = [
        crate.add(
            ContextEntity(
                crate,
                f"#software-{package}-{version}",
                {"@type": "SoftwareApplication", "name": package, "softwareVersion": version},
            )
        )
        for package, versions in about["software"].items()
        for version in versions
    ]
    workflow = crate.add_workflow(
        dest_path=WORKFLOW,
        main=True,
        lang="snakemake",
        lang_version=subject.engine,
        properties={"name": "mmneurons", "version": subject.version, **_content(entries[WORKFLOW])},
    )
    workflow["softwareRequirements"] = software
    files = {
        name: crate.add(File(crate, dest_path=name, properties=_file(name, entry)))
        for name, entry in sorted(entries.items())
        if name not in (WORKFLOW, CRATE)
    }
    used = [
        crate.add(
            ContextEntity(
                crate, f"#source/{name}", {"@type": "CreativeWork", "name": name, **_content(entry)}
            )
        )
        for name, entry in sorted(sources.items())
    ]
    action = {"@type": "CreateAction", "name": f"run {subject.run}", "startTime": start}
    done = "http://schema.org/CompletedActionStatus"
    run = crate.add(ContextEntity(crate, "#run", {**action, "endTime": end, "actionStatus": done}))
    run["instrument"] = workflow
    run["object"] = [files[CONFIG], *used]
    run["result"] = [file for name, file in files.items() if name in records] or [files[PROVENANCE]]
    crate.root_dataset["mentions"] = [run]
    found = crate.metadata.generate()
    first = {CRATE: 0, "./": 1}
    found["@graph"].sort(key=lambda entity: (first.get(entity["@id"], 2), entity["@id"]))
    return found


def _description(subject: Subject, withheld: Sequence[Mapping[str, Any]]) -> str:
    papers = ", ".join(subject.papers)
    text = f"What the figures and tables of {papers} are drawn from; no weights of models."
    if withheld:
        labels = "; ".join(f"{row['label']} ({row['licence']})" for row in withheld)
        text += f" Pictures that are not part of it: {labels}."
    return text


def _span(records: Mapping[str, Record]) -> tuple[str, str]:
    """When the first file was begun and the last one finished, UTC."""
    starts = [record["starttime"] for record in records.values() if record.get("starttime")]
    ends = [record["endtime"] for record in records.values() if record.get("endtime")]
    return tuple(
        datetime.fromtimestamp(round(time), UTC).isoformat()
        for time in (min(starts, default=0), max(ends, default=0))
    )


def _content(entry: Entry) -> dict[str, str]:
    return {"sha256": entry.sha256, "contentSize": str(entry.size)}


def _file(name: str, entry: Entry) -> dict[str, str]:
    ending = name.rpartition(".")[2].lower()
    described = {"name": name, **_content(entry)}
    if name in _DESCRIBED:
        described["description"] = _DESCRIBED[name]
    return described | {"encodingFormat": _ENCODINGS.get(ending, "application/octet-stream")}
