"""The records that the workflow keeps of its files: the rule, the inputs and the parameters.

They are JSON files in `.snakemake/metadata`, one for every output, named by the output's path. A
bundle takes them along, so that in another clone the same comparison says what is up to date: a
changed parameter, rule or set of inputs is noticed there as it would be here.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

FOLDER = ".snakemake/metadata"
KEPT = (
    "rule",
    "input",
    "log",
    "shellcmd",
    "params",
    "code",
    "record_format_version",
    "conda_env",
    "container_img_url",
    "software_stack_hash",
    "starttime",
    "endtime",
    "incomplete",
    "input_checksums",
)
"""Fields of a record that mean something elsewhere; numbers of jobs and processes do not."""

_LONGEST = 254
"""Characters of a file's name, after which a record's name goes on in a folder below."""

Record = dict[str, Any]


def record_path(root: Path, output: str) -> Path:
    """The file in which the record of an output is."""
    name = urlsafe_b64encode(output.encode()).decode()
    parts = [name[start : start + _LONGEST] for start in range(0, len(name), _LONGEST)]
    return Path(root, FOLDER, *(f"@{part}" for part in parts[:-1]), parts[-1])


def read_record(root: Path, output: str) -> Record | None:
    """The record of an output, None where there is none."""
    path = record_path(root, output)
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return {key: found[key] for key in KEPT if key in found}


def write_record(root: Path, output: str, record: Mapping[str, Any]) -> None:
    """Write the record of an output."""
    path = record_path(root, output)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: record[key] for key in KEPT if key in record}
    path.write_text(json.dumps(kept), encoding="utf-8")


def upstream(
    root: Path, outputs: Iterable[str], own: Callable[[str], bool]
) -> tuple[dict[str, Record], list[str]]:
    """What outputs were made from, directly or through one another.

    own: whether a path is the run's; the way back ends at files that are not. Returns the records
    of the run's files, temporary ones that are gone among them, and the paths of all other inputs,
    both sorted. The outputs themselves are in neither. Raises ValueError where a file of the run
    is there and has no record, since nothing is known of its making.
    """
    records: dict[str, Record] = {}
    others: set[str] = set()
    targets = set(outputs)
    waiting = sorted(targets)
    seen = set(waiting)
    while waiting:
        output = waiting.pop()
        record = read_record(root, output)
        if record is None and (root / output).exists():
            raise ValueError(
                f"there is no record of how {output} was made; delete it, and let the workflow "
                "make it again"
            )
        if record is None:
            continue  # a temporary file whose record is gone with it
        if output not in targets:
            records[output] = record
        for path in record["input"] or ():
            if path not in seen:
                seen.add(path)
                if own(path):
                    waiting.append(path)
                else:
                    others.add(path)
    return dict(sorted(records.items())), sorted(others)
