"""The page on config.yaml, made from its schema, so that page and schema cannot disagree."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mmneurons.config import TYPE_NAMES

INTRODUCTION = """\
# Configuration

`config.yaml` holds every key of a run with its default. A preset in `presets/`, or a file of your
own, is laid over it key by key: sections merge, a list is replaced as a whole.

```sh
snakemake --cores 2 --configfile presets/smoke.yaml
```

Before anything runs, the configuration is checked. An unknown key, a value of the wrong kind or a
name that is in no registry stops the run with a line that names the key and the nearest valid
spelling. What has to hold between keys is checked as well: every name in `two_stage.objects` is a
category of the dataset; `two_stage.candidates_per_object` is at least
`two_stage.pictures_per_object` and `two_stage.calibration_pictures` together; the backend `lama`
has its file of weights.

Constants that depend on the scale of a model, such as noise levels, are in `resources/models.yaml`
([models.md](models.md)).

This page is made from `resources/schemas/config.schema.yaml` by `scripts/write_config_docs.py`.
"""

_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}


def configuration_page(schema: Mapping) -> str:
    """The page in Markdown: a table for each section of the schema, a row for each of its keys.

    schema: JSON schema of objects with `properties`; every key that is no section has a
    `description` and a `default`.
    """
    parts = [INTRODUCTION.rstrip()]
    for name, section in _sections(schema):
        heading = f"## {name}" if name else "## Keys outside a section"
        introduction = [section["description"]] if name else []
        keys = {k: v for k, v in section["properties"].items() if "properties" not in v}
        parts += [heading, *introduction, *([_table(keys)] if keys else [])]
    return "\n\n".join(parts) + "\n"


def _sections(schema: Mapping, path: str = "") -> Iterator[tuple[str, Mapping]]:
    """The schema and its sections by dotted name, each before those inside it."""
    yield path, schema
    for key, entry in schema["properties"].items():
        if "properties" in entry:
            yield from _sections(entry, f"{path}.{key}".removeprefix("."))


def _table(keys: Mapping[str, Mapping]) -> str:
    rows = [
        (f"`{key}`", _type(entry), f"`{_shown(entry['default'])}`", entry["description"])
        for key, entry in keys.items()
    ]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [["key", "type", "default", "description"], ["---"] * 4, *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _type(entry: Mapping) -> str:
    """What a value may be, in words: "a whole number, at least 1"."""
    if "enum" in entry:
        return f"one of {_choices(entry)}"
    names = [entry["type"]] if isinstance(entry["type"], str) else entry["type"]
    words = " or ".join(TYPE_NAMES[name] for name in names)
    if "array" in names:
        items = entry["items"]
        of = _choices(items) if "enum" in items else _of_each(items)
        words = words.replace(TYPE_NAMES["array"], f"{TYPE_NAMES['array']} of {of}")
        words += ", not empty" * bool(entry.get("minItems"))
        words += ", no entry twice" * bool(entry.get("uniqueItems"))
    return words + _limits(entry)


def _of_each(items: Mapping) -> str:
    """A list's entries in words: "numbers, more than 0"."""
    name = TYPE_NAMES[items["type"]].removeprefix("a ")
    plural = name if name == "text" else f"{name}s"
    limits = _limits(items)
    return f"{plural} (each{limits.removeprefix(',')})" if limits else plural


def _limits(entry: Mapping) -> str:
    bounds = [f", {words} {entry[key]}" for key, words in _BOUNDS.items() if key in entry]
    form = [f" of the form `{entry['pattern']}`"] if "pattern" in entry else []
    return "".join(form + bounds)


def _choices(entry: Mapping) -> str:
    return ", ".join(f"`{value}`" for value in entry["enum"])


def _shown(value: Any) -> str:
    """A value as YAML's flow style writes it, plain words without quotation marks."""
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
