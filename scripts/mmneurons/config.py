"""The configuration of a run: lay presets over it, and name every mistake before anything runs."""

import copy
import csv
import difflib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema

from mmneurons.artifacts.yaml_files import read_yaml

REGISTRIES = ("datasets", "models", "prompts", "encoders", "methods")
"""Tables of resources/ whose names a configuration uses."""

TYPE_NAMES = {
    "object": "a section with keys",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
"""JSON schema's types in words."""

_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)
"""JSON schema takes 2.0 for an integer; `range` does not."""


class ConfigError(ValueError):
    """Mistakes in the configuration; the message is for the person who wrote it."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Take the problems, one line each."""
        listed = sorted(set(problems))
        count = "1 problem" if len(listed) == 1 else f"{len(listed)} problems"
        super().__init__("\n  ".join([f"{count} in the configuration:", *listed]))


def merge(base: Mapping, *overlays: Mapping) -> dict:
    """A new dict: `base` with each overlay laid over it in turn, key by key; lists are replaced.

    This is what Snakemake does with `--configfile`: only two sections merge, and a key without a
    value (null) replaces what it stands over, a whole section too.
    """
    merged = copy.deepcopy(dict(base))
    for overlay in overlays:
        for key, value in overlay.items():
            if isinstance(value, Mapping):
                below = merged.get(key)
                value = merge(below if isinstance(below, Mapping) else {}, value)
            merged[key] = copy.deepcopy(value)
    return merged


def check_config(config: Mapping, root: Path) -> None:
    """Raise `ConfigError` that lists all that is wrong with the configuration of a run.

    First keys and values are checked against the schema, then names against the registries, and
    what has to hold between keys. root: the folder with resources/.
    """
    resources = root / "resources"
    validate(config, read_yaml(resources / "schemas" / "config.schema.yaml"))
    registries = {name: read_yaml(resources / f"{name}.yaml") for name in REGISTRIES}
    problems = [
        *_loading(config["compute"]),
        *_unknown_names(config, registries),
        *_unknown_objects(config, registries["datasets"], root),
        *_too_few_pictures(config["two_stage"]),
        *_missing_files(config["two_stage"]),
        *_threshold_rows(config["two_stage"]),
        *_pan(config["pan"], registries),
        *_mmneuron(config["mmneuron"], registries),
        *_schwettmann(config["schwettmann"], registries),
        *_truth(config["truth"], read_yaml(resources / "world.yaml")["plantings"]["models"]),
        *_comparison(config["comparison"], registries),
        *_missing_folders(config),
    ]
    if problems:
        raise ConfigError(problems)


def in_order(config: Mapping, root: Path) -> dict:
    """A valid configuration with its keys in the schema's order, whatever overlays did to it."""
    return _ordered(config, read_yaml(root / "resources" / "schemas" / "config.schema.yaml"))


def _ordered(config: Mapping, schema: Mapping) -> dict:
    return {
        key: _ordered(config[key], entry) if "properties" in entry else config[key]
        for key, entry in schema["properties"].items()
    }


def validate(config: Mapping, schema: Mapping) -> None:
    """Raise `ConfigError` that lists all that the schema refuses and all that is missing."""
    refused = [
        f"{_key(error.absolute_path)}{problem}"
        for error in _Validator(schema).iter_errors(config)
        for problem in _problems(error, schema)
    ]
    problems = [*refused, *_missing(config, schema)]
    if problems:
        raise ConfigError(problems)


def check_choice(value: str, valid: Iterable[str], what: str) -> None:
    """Raise `ConfigError` unless `value` is one of `valid`; `what` names it, such as "object"."""
    problems = list(_wrong_choice(value, valid, what))
    if problems:
        raise ConfigError(problems)


def _loading(compute: Mapping) -> Iterator[str]:
    if compute["quantization"] and compute["dtype"] == "float32":
        yield "compute.quantization: needs compute.dtype float16 or bfloat16, not float32"


def _unknown_names(config: Mapping, registries: Mapping[str, Mapping]) -> Iterator[str]:
    two_stage = config["two_stage"]
    for name in ("dataset", "model", "prompt"):
        yield from _wrong_choice(two_stage[name], registries[f"{name}s"], f"two_stage.{name}")
    of_text = [name for name, row in registries["encoders"].items() if "num_layers" in row]
    of_pictures = [name for name in registries["encoders"] if name not in of_text]
    yield from _wrong_choice(config["metrics"]["encoder"], of_text, "metrics.encoder")
    yield from _wrong_choice(config["metrics"]["clip"], of_pictures, "metrics.clip")


def _unknown_objects(config: Mapping, datasets: Mapping, root: Path) -> Iterator[str]:
    objects, dataset = config["two_stage"]["objects"], config["two_stage"]["dataset"]
    if dataset in datasets and "categories" not in datasets[dataset]:
        yield (
            f"two_stage.dataset: {dataset} has no categories of objects (reader: coco, or folder "
            "with annotations)"
        )
    elif dataset in datasets and not {"split", "annotations"} & datasets[dataset].keys():
        yield f"two_stage.dataset: {dataset} has no annotations of objects"
    elif dataset in datasets:
        text = (root / datasets[dataset]["categories"]).read_text(encoding="utf-8")
        for name in objects:
            yield from _wrong_choice(name, text.splitlines(), "two_stage.objects")


def _too_few_pictures(two_stage: Mapping) -> Iterator[str]:
    tried = two_stage["candidates_per_object"]
    needed = two_stage["pictures_per_object"] + two_stage["calibration_pictures"]
    if tried < needed:
        yield (
            f"two_stage.candidates_per_object: {tried} pictures cannot become the {needed} of "
            "pictures_per_object and calibration_pictures"
        )


def _missing_files(two_stage: Mapping) -> Iterator[str]:
    inpainting = two_stage["inpainting"]
    if inpainting["backend"] == "lama" and not Path(inpainting["lama_model"] or "").is_file():
        yield f"two_stage.inpainting.lama_model: there is no file {inpainting['lama_model']}"


def _pan(pan: Mapping, registries: Mapping[str, Mapping]) -> Iterator[str]:
    """Names that are unknown, and models and data that cannot carry the method."""
    yield from _wrong_choice(pan["dataset"], registries["datasets"], "pan.dataset")
    reader = registries["datasets"].get(pan["dataset"], {"reader": "sbu"})["reader"]
    if reader not in ("sbu", "folder"):
        yield (
            f"pan.dataset: {pan['dataset']} is neither a list of captioned pictures (reader: sbu) "
            "nor a folder"
        )
    if reader == "folder" and pan["variant"] == "released":
        yield "pan.variant: released takes the first entries of a list; a folder has none"
    for name in pan["models"]:
        yield from _wrong_choice(name, registries["models"], "pan.models")
        row = registries["models"].get(name)
        if row is None:
            continue
        for constant in ("top_k", "weight_noise", "edit"):
            if constant not in row:
                yield f"pan.models: the row of {name} in resources/models.yaml has no {constant}"
        prompt = f"{row['family']}.{pan['prompt']}"
        if prompt not in registries["prompts"]:
            yield f"pan.prompt: there is no prompt {prompt}, which {name} needs"


def _mmneuron(mmneuron: Mapping, registries: Mapping[str, Mapping]) -> Iterator[str]:
    """Names that are unknown, models that cannot be asked, data that are no questions."""
    domains = {name: dataset for name, dataset in mmneuron["domains"].items() if dataset}
    if len(domains) < 2:
        yield "mmneuron.domains: domain neurons need at least two domains"
    for domain, dataset in domains.items():
        key = f"mmneuron.domains.{domain}"
        yield from _wrong_choice(dataset, registries["datasets"], key)
        if dataset in registries["datasets"] and "splits" not in registries["datasets"][dataset]:
            yield f"{key}: {dataset} is no dataset of questions"
    if len(set(domains.values())) < len(domains):
        yield "mmneuron.domains: a dataset stands for two domains"
    for key in ("models", "larger"):
        for name in mmneuron[key]:
            yield from _wrong_choice(name, registries["models"], f"mmneuron.{key}")
            row = registries["models"].get(name)
            if row is not None and f"{row['family']}.question" not in registries["prompts"]:
                prompt = f"{row['family']}.question"
                yield f"mmneuron.{key}: there is no prompt {prompt}, which {name} needs"
    models = [*mmneuron["models"], *mmneuron["larger"]]
    for item, case in mmneuron["lens"]["cases"].items():
        key = f"mmneuron.lens.cases.{item}"
        yield from _wrong_choice(case["model"], models, f"{key}.model")
        yield from _wrong_choice(case["domain"], domains, f"{key}.domain")


def _comparison(comparison: Mapping, registries: Mapping[str, Mapping]) -> Iterator[str]:
    """Names that are unknown; what a model cannot carry is left out later, with the reason."""
    for name in comparison["methods"]:
        yield from _wrong_choice(name, registries["methods"]["methods"], "comparison.methods")
    for name in comparison["prompts"]:
        yield from _wrong_choice(name, registries["models"], "comparison.prompts")
    for name in comparison["models"]:
        yield from _wrong_choice(name, registries["models"], "comparison.models")
        row = registries["models"].get(name)
        if row is None:
            continue
        prompt = f"{row['family']}.{comparison['prompts'].get(name, comparison['prompt'])}"
        if prompt not in registries["prompts"]:
            yield f"comparison.prompt: there is no prompt {prompt}, which {name} needs"


def _truth(truth: Mapping, planted: Mapping[str, Mapping]) -> Iterator[str]:
    """Models without plantings, and names of plantings that none of the models has."""
    for name in truth["models"]:
        yield from _wrong_choice(name, planted, "truth.models")
    known = {
        name for model in truth["models"] for name in planted.get(model, {}).get("plantings", ())
    }
    for name in truth["plantings"] or ():
        yield from _wrong_choice(name, sorted(known), "truth.plantings")
    if truth["candidates"] < truth["pictures"]:
        yield (
            f"truth.candidates: {truth['candidates']} pictures cannot become the "
            f"{truth['pictures']} of pictures"
        )


def _schwettmann(schwettmann: Mapping, registries: Mapping[str, Mapping]) -> Iterator[str]:
    """Names that are unknown, a model or data that cannot carry the method, numbers that clash."""
    for name in ("dataset", "model", "prompt"):
        yield from _wrong_choice(schwettmann[name], registries[f"{name}s"], f"schwettmann.{name}")
    dataset = registries["datasets"].get(schwettmann["dataset"])
    if dataset is not None and dataset["reader"] != "coco":
        name = schwettmann["dataset"]
        yield f"schwettmann.dataset: {name} is not in COCO's format (reader: coco)"
    row = registries["models"].get(schwettmann["model"])
    if row is not None and "ablation" not in row:
        name = schwettmann["model"]
        yield f"schwettmann.model: the row of {name} in resources/models.yaml has no ablation"
    elif row is not None:
        yield from _ablation(schwettmann["model"], row)
    alone = schwettmann["single_objects"]
    if alone["pictures"] < alone["fewest"]:
        yield (
            f"schwettmann.single_objects.fewest: {alone['fewest']} is more than the "
            f"{alone['pictures']} pictures of a category"
        )
    rule = schwettmann["interpretable"]
    if rule["words"] > rule["of"]:
        yield f"schwettmann.interpretable.words: {rule['words']} of {rule['of']} tokens"


def _ablation(name: str, row: Mapping) -> Iterator[str]:
    """Numbers of units that the model does not have, or that do not grow."""
    numbers, units = row["ablation"], row.get("units", {}).get("language")
    where = f"schwettmann.model: ablation in the row of {name} in resources/models.yaml"
    if not numbers or min(numbers) < 1 or sorted(set(numbers)) != list(numbers):
        yield f"{where}: {_show(numbers)} are not numbers from 1, each above the one before"
    elif units is not None and numbers[-1] > units:
        yield f"{where}: {numbers[-1]} units of {units}"


def _missing_folders(config: Mapping) -> Iterator[str]:
    """Folders that are named, or that the chosen tagger needs, and that do not exist."""
    folders = {
        "metrics.bleurt": config["metrics"]["bleurt"],
        "mmneuron.lingo_judge": config["mmneuron"]["lingo_judge"],
    }
    if config["pan"]["tagger"] == "stanza":
        folders["pan.stanza_models"] = config["pan"]["stanza_models"] or ""
    for key, folder in folders.items():
        # An empty path would be the folder that the workflow runs in.
        if folder is not None and not (folder and Path(folder).is_dir()):
            yield f"{key}: there is no folder {folder or '(none given)'}"


def _threshold_rows(two_stage: Mapping) -> Iterator[str]:
    """What the table of thresholds by hand lacks, where the run reads it."""
    names = [name for part in two_stage["methods"].values() for name in part]
    if two_stage["thresholds"]["variant"] != "manual" and "two_stage/manual" not in names:
        return
    key, name = "two_stage.thresholds.table", two_stage["thresholds"]["table"]
    if not Path(name or "").is_file():
        yield f"{key}: there is no file {name}"
        return
    with open(name, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lacking = {"object", "threshold_a", "threshold_g"} - set(rows[0] if rows else ())
    if lacking:
        yield f"{key}: {name} has no column {', '.join(sorted(lacking))}"
        return
    without = [group for group in two_stage["objects"] if group not in {r["object"] for r in rows}]
    if without:
        yield f"{key}: {name} has no row for {', '.join(without)}"


def _missing(config: Any, schema: Mapping, above: str = "") -> Iterator[str]:
    """A problem for each key that the schema has and the configuration has not."""
    if not isinstance(config, Mapping):
        return
    for key, entry in schema["properties"].items():
        if key not in config:
            default = f"; its default is {_show(entry['default'])}" if "default" in entry else ""
            yield f"{above}{key}: missing{default}"
        elif "properties" in entry:
            yield from _missing(config[key], entry, f"{above}{key}.")


def _wrong_choice(value: str, valid: Iterable[str], what: str) -> Iterator[str]:
    valid = list(valid)
    if value not in valid:
        yield f"{what}: there is no {_show(value)}{_hint(value, valid)}"


def _problems(error: jsonschema.ValidationError, schema: Mapping) -> Iterator[str]:
    """What is wrong, as texts that follow the key's path; an error may be about several keys."""
    given, limit = error.instance, error.validator_value
    section = "." if error.absolute_path else ""
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        for key in given:
            if key not in known:
                yield f"{section}{key}: unknown key{_key_hint(key, known, schema)}"
    elif error.validator == "enum":
        yield f": cannot be {_show(given)}{_hint(given, limit)}"
    elif error.validator == "type":
        types = [limit] if isinstance(limit, str) else limit
        expected = " or ".join(TYPE_NAMES[name] for name in types)
        meaning = error.schema.get("description")
        yield f": must be {expected}, not {_show(given)}" + (f" ({meaning})" if meaning else "")
    elif error.validator == "maximum":
        yield f": must be at most {limit}, not {_show(given)}"
    elif error.validator == "minimum":
        yield f": must be at least {limit}, not {_show(given)}"
    elif error.validator == "exclusiveMinimum":
        yield f": must be more than {limit}, not {_show(given)}"
    elif error.validator == "pattern":
        yield f": {_show(given)} does not have the form {limit}"
    elif error.validator == "minItems":
        yield ": must not be empty"
    elif error.validator == "uniqueItems":
        yield f": has an entry twice in {_show(given)}"
    else:
        yield f": {error.message}"


def _key(path: Iterable[str | int]) -> str:
    """`two_stage.sites[0]` from its parts."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def _show(value: Any) -> str:
    return (
        "a section"
        if isinstance(value, Mapping)
        else json.dumps(value, ensure_ascii=False, default=str)
    )


def _hint(value: Any, valid: Collection[Any]) -> str:
    """The nearest valid spelling, or all valid values where none is near."""
    nearest = _nearest(value, valid)
    if nearest:
        return f"; did you mean {_show(nearest)}?"
    return f"; it can be {', '.join(str(entry) for entry in valid)}"


def _key_hint(key: Any, known: Collection[str], schema: Mapping) -> str:
    """The nearest key of the same section, the same key of another section, or all keys here."""
    elsewhere = (path for path in _paths(schema) if path.rpartition(".")[2] == key)
    nearest = _nearest(key, known) or next(elsewhere, None)
    if nearest:
        return f"; did you mean {_show(nearest)}?"
    return f"; known here: {', '.join(known)}"


def _nearest(value: Any, valid: Iterable[Any]) -> str | None:
    """The entry of `valid` that `value` most likely stands for, whatever its case."""
    spelt = {str(entry).lower(): str(entry) for entry in valid}
    found = difflib.get_close_matches(str(value).lower(), spelt, n=1)
    return spelt[found[0]] if found else None


def _paths(schema: Mapping, above: str = "") -> Iterator[str]:
    """All keys of the schema as paths."""
    for key, entry in schema.get("properties", {}).items():
        yield above + key
        yield from _paths(entry, f"{above}{key}.")
