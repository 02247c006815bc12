"""What README and docs/ say: commands, paths, keys, packages and columns that they name exist."""

import ast
import json
import re
import runpy
import shlex
import shutil
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCHEMA = yaml.safe_load((REPOSITORY / "resources/schemas/config.schema.yaml").read_text())


def registry(name):
    return yaml.safe_load((REPOSITORY / f"resources/{name}.yaml").read_text())


def blocks(page, language):
    """The fenced blocks of a language."""
    return [text for name, text in FENCED.findall(PAGES[page]) if name == language]


def code_words(text):
    """What stands in backticks in running text."""
    return re.findall(r"`([^`\n]+)`", FENCED.sub("", text))


def tables(text):
    """Tables of a text as lists of rows, each a list of cells; the head is the first row."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [
        [
            [cell.strip() for cell in line.strip("|\n").split(" | ")]
            for line in table.splitlines()
            if not re.fullmatch(r"[|\s:-]+", line)
        ]
        for table in found
    ]


# ------------------------------------------------------------------------ rules and their files


def rule_texts():
    """{name: text} of every rule."""
    found = {}
    for path in [REPOSITORY / "Snakefile", *sorted((REPOSITORY / "rules").glob("*.smk"))]:
        _, *parts = re.split(r"^(?:rule|checkpoint) (\w+):$", path.read_text(), flags=re.MULTILINE)
        found |= dict(zip(parts[::2], parts[1::2], strict=True))
    return found


RULES = rule_texts()
PLACES = {
    "<results>": "results/{run}",
    "<two_stage>": "results/{run}/{dataset}/{model}",
    "<domains>": "results/{run}/domains",
}


def section_of(text, name):
    """What stands under a keyword of a rule, empty without it."""
    found = re.search(rf"^    {name}:\n(.*?)(?=^    \w+:)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def outputs():
    """Files that rules leave, with placeholders; temporary ones are not among them.

    A placeholder that a rule allows a few words for is replaced by each of them.
    """
    found = set()
    for text in RULES.values():
        kept = re.sub(r"temp\(.*?\)", "", section_of(text, "output"))
        files = re.findall(r'"((?:<\w+>|results/)[^"]*)"', kept)
        for name, words in re.findall(
            r'^ +(\w+)="([\w|-]+)",$', section_of(text, "wildcard_constraints"), re.MULTILINE
        ):
            files = [
                file.replace(f"{{{name}}}", word) for file in files for word in words.split("|")
            ]
        found |= set(files)
    for short, path in PLACES.items():
        found = {name.replace(short, path) for name in found}
    return found


OUTPUTS = outputs()


def fits(path, pattern):
    """Whether a path is what a pattern with placeholders stands for."""
    parts = re.split(r"\{[^}]*\}", pattern)
    return re.fullmatch("[^/]+".join(map(re.escape, parts)), path) is not None


def filled(pattern):
    """A path with something in place of every placeholder."""
    return re.sub(r"\{[^}]*\}", "x", pattern)


def is_output(path):
    """Whether a path, which may have placeholders, is an output, lies in one, or holds some."""
    path = path.rstrip("/")
    for output in OUTPUTS:
        known = [output, *map(str, Path(output).parents)]
        for other in known:
            if fits(filled(path), other) or fits(filled(other), path):
                return True
        if fits(filled(str(Path(path).parent)), output):
            return True
    return re.match(r"results/[^/]+/(logs|benchmarks)$", path) is not None


def test_the_rules_were_read():
    assert {"all", "demo", "two_stage", "choose_samples", "two_stage_figure1"} <= RULES.keys()
    assert "results/{run}/{dataset}/two_stage/samples.parquet" in OUTPUTS
    assert "results/{run}/domains/{model}/record/lens.parquet" in OUTPUTS
    assert not any("shards" in path for path in OUTPUTS)
    assert is_output("results/demo/figures/two_stage/figure2.svg")
    assert not is_output("results/demo/figures/two_stage/figure9.svg")
    assert not is_output("results/demo/figure/two_stage/figure2.svg")


# ------------------------------------------------------------------------------ paths and links

TOP = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} | {"results"}
PLACED_BY_HAND = [
    *(row["root"] for row in registry("datasets").values()),
    *(row["path"] for name in ("models", "encoders") for row in registry(name).values()),
    "resources/originals",
]
"""Where the registries expect what does not ship, and what it is made of."""


def path_exists(name):
    if name.startswith("results/"):
        return is_output(name)
    if any(name.rstrip("/") == place or name.startswith(f"{place}/") for place in PLACED_BY_HAND):
        return True
    pattern = re.sub(r"\{[^}]*\}", "*", name.rstrip("/"))
    roots = (REPOSITORY, REPOSITORY / "scripts/mmneurons")
    return any(any(root.glob(pattern)) for root in roots)


def named_paths(page):
    rooms = {path.name for path in (REPOSITORY / "scripts/mmneurons").iterdir() if path.is_dir()}
    for word in code_words(PAGES[page]):
        top = word.partition("/")[0]
        if re.fullmatch(r"[\w./{}*-]+", word) and "/" in word:
            if top in TOP or (top in rooms and word.endswith(".py")):
                yield word


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page):
    assert [name for name in named_paths(page) if not path_exists(name)] == []


def test_the_readme_names_every_preset():
    presets = {f"presets/{path.name}" for path in (REPOSITORY / "presets").glob("*.yaml")}
    assert presets <= set(named_paths("README.md"))


def test_paths_are_recognised():
    assert "slurm/config.yaml" in set(named_paths("README.md"))
    assert "methods/thresholds.py" in set(named_paths("docs/thresholds.md"))
    assert not path_exists("resources/model.yaml")
    assert not path_exists("methods/threshold.py")


def anchors(text):
    """The anchors that GitHub makes of headings."""
    heads = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        path = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        found = path.exists()
        if found and anchor:
            found = anchor in anchors(path.read_text(encoding="utf-8"))
        if not found:
            broken.append(target)
    assert broken == []


def test_the_readme_links_every_page():
    linked = set(re.findall(r"\]\((docs/[^)#]+\.md)\)", PAGES["README.md"]))
    assert linked == PAGES.keys() - {"README.md"}


def test_the_layout_of_the_repository():
    (layout,) = blocks("README.md", "text")
    lines = layout.splitlines()
    assert len(lines) == 10
    assert all((REPOSITORY / line.split()[0]).exists() for line in lines)


# ------------------------------------------------------------------------------------- commands


def commands():
    """(page, words) of every command line that the pages show."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in filter(str.strip, block.splitlines()):
                yield page, shlex.split(line)


COMMANDS = list(commands())


@pytest.fixture(scope="module")
def parser():
    from snakemake.cli import get_argument_parser

    return get_argument_parser()


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS]
)
def test_every_command_can_be_given(page, words, parser):
    program, *arguments = words if "=" not in words[0] else words[1:]
    if program == "make":
        (phony,) = re.findall(r"^\.PHONY: (.+)$", (REPOSITORY / "Makefile").read_text(), re.M)
        assert set(arguments) <= set(phony.split())
    elif program == "snakemake":
        given = parser.parse_args(arguments)
        # Options that take several words would swallow a target that comes after them.
        assert set(given.forcerun or []) <= RULES.keys()
        for target in given.targets:
            checkpoint = target.removesuffix("/config.json") in PLACED_BY_HAND
            assert target in RULES or is_output(target) or checkpoint, target
        own = re.findall(r"a file such as `([\w.]+)`", PAGES[page])
        for file in map(str, given.configfile or []):
            assert file in own or (REPOSITORY / file).is_file(), file
        for profile in given.profile or []:
            assert (REPOSITORY / profile / "config.yaml").is_file(), profile
    elif program == "python":
        assert (REPOSITORY / arguments[0]).is_file()
    elif program == ".":
        assert arguments == [".venv/bin/activate"]
    elif program == "sinfo":
        assert arguments  # the cluster's own
    elif program in {"docker", "apptainer"}:
        assert arguments[0] == "build"
        assert [word for word in arguments if (REPOSITORY / word).is_file()]
    else:
        assert program in {"cp", "rm"}
        assert all(path_exists(word) for word in arguments if not word.startswith("-"))


def test_a_command_that_cannot_be_given_is_noticed(parser):
    with pytest.raises(SystemExit):
        parser.parse_args(["--core", "2", "--no-such-option"])
    assert parser.parse_args(["--cores", "2", "all", "-n"]).targets == ["all"]


def test_make_has_what_the_readme_begins_with():
    first = blocks("README.md", "sh")[0]
    assert first.splitlines() == ["make demo", "make test"]


# --------------------------------------------------------------------- configuration and names


def key_paths(schema, above=""):
    for key, entry in schema.get("properties", {}).items():
        yield above + key
        yield from key_paths(entry, f"{above}{key}.")


KEYS = set(key_paths(SCHEMA))


def test_the_page_on_configuration_is_made_from_the_schema():
    from mmneurons.config_docs import configuration_page

    assert PAGES["docs/configuration.md"] == configuration_page(SCHEMA)


def test_the_page_on_configuration_has_every_key_with_its_default():
    text, config = PAGES["docs/configuration.md"], REPOSITORY / "config.yaml"
    values = yaml.safe_load(config.read_text())
    rows = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        name = section.splitlines()[0]
        prefix = "" if " " in name else f"{name}."
        for key, _, default, _ in (row for table in tables(section) for row in table[1:]):
            rows[prefix + key.strip("`")] = default.strip("`")
    leaves = {key for key in KEYS if not any(other.startswith(f"{key}.") for other in KEYS)}
    assert rows.keys() == leaves
    for path, default in rows.items():
        value = values
        for key in path.split("."):
            value = value[key]
        assert yaml.safe_load(default) == value, path


@pytest.mark.parametrize("page", PAGES)
def test_every_configuration_key_exists(page):
    sections = {key for key in SCHEMA["properties"] if "properties" in SCHEMA["properties"][key]}
    words = [w for w in code_words(PAGES[page]) if re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)+", w)]
    named = [w for w in words if w.partition(".")[0] in sections and not w.endswith(".py")]
    assert [word for word in named if word not in KEYS and word not in registry("prompts")] == []


def test_a_folder_of_own_pictures_is_read(tmp_path, monkeypatch, pictures):
    from mmneurons.datasets.folder import folder_pictures

    monkeypatch.chdir(tmp_path)
    row = yaml.safe_load(blocks("docs/howto.md", "yaml")[2])["mine"]
    assert row["reader"] == "folder"
    Path(row["root"]).mkdir(parents=True)
    for name, picture in zip("ab", pictures, strict=False):
        picture.save(f"{row['root']}/{name}.jpg")
    chosen, exclusions = folder_pictures(row["root"], 2)
    assert sorted(chosen["file"]) == ["a.jpg", "b.jpg"] and exclusions.empty


@pytest.mark.parametrize("page", ["README.md", "docs/howto.md"])
def test_examples_of_configurations_are_valid(page, tmp_path):
    from mmneurons.config import check_config, merge

    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(REPOSITORY / "resources", tmp_path / "resources", ignore=ignored)
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    for text in blocks(page, "yaml"):
        example = yaml.safe_load(text)
        if "run" in example:
            check_config(merge(config, example), tmp_path)
        else:  # a row of the registry, which later examples may name
            path = tmp_path / "resources/datasets.yaml"
            path.write_text(yaml.safe_dump(registry("datasets") | example))


def test_every_rule_stands_in_its_stage():
    stages, rules = (t for t in tables(PAGES["docs/architecture.md"]) if t[0][0] == "stage")
    assert [row[0] for row in stages] == [row[0] for row in rules]
    for (_, files, *_), (stage, *papers) in zip(stages[1:], rules[1:], strict=True):
        texts = [(REPOSITORY / file).read_text() for file in code_words(files)]
        own = re.findall(r"^(?:rule|checkpoint) (\w+):$", "".join(texts), re.MULTILINE)
        said = [word for cell in papers for word in code_words(cell)]
        # Each figure and table of two-stage filtering has a rule of its own; one is named.
        said += [name for name in own if name.startswith("two_stage_") and name not in said]
        assert sorted(said) == sorted(own), stage
    said = {file for _, files, *_ in stages[1:] for file in code_words(files)}
    with_rules = {
        f"rules/{path.name}"
        for path in (REPOSITORY / "rules").glob("*.smk")
        if re.search(r"^(?:rule|checkpoint) \w+:$", path.read_text(), re.MULTILINE)
    }
    assert said == with_rules - {"rules/world.smk"}


def test_rules_named_for_keys_exist():
    (table,) = tables(PAGES["docs/reruns.md"])
    named = [word for _, rules in table[1:] for word in code_words(rules)]
    assert len(named) > 10
    assert set(named) <= RULES.keys()


def test_packages_are_those_of_the_lock():
    lines = (REPOSITORY / "envs/requirements.txt").read_text().split("# what these need")[0]
    lines += (REPOSITORY / "envs/requirements-no-deps.txt").read_text()
    direct = set(re.findall(r"^([\w-]+)==", lines, re.MULTILINE))
    (table,) = [t for t in tables(PAGES["README.md"]) if t[0][0] == "package"]
    named = [name for row in table[1:] for name in row[0].split(", ")]
    assert len(named) == len(set(named))
    assert set(named) == direct


def test_rows_of_the_registries_are_described():
    for page, name in (("docs/models.md", "models"), ("docs/data.md", "datasets")):
        rows = [row[0].strip("`") for t in tables(PAGES[page]) if t[0][0] == "row" for row in t[1:]]
        assert rows == list(registry(name))
        fields = [r[0].strip("`") for t in tables(PAGES[page]) if t[0][0] == "field" for r in t[1:]]
        assert set(fields) == {key for row in registry(name).values() for key in row}
    prompts = [t for t in tables(PAGES["docs/models.md"]) if t[0][0] == "prompt"]
    assert [row[0].strip("`") for row in prompts[0][1:]] == list(registry("prompts"))


def test_categories_of_the_world_are_those_that_it_draws():
    from mmneurons.world.vocabulary import CATEGORIES, HELD_OUT

    (table,) = [t for t in tables(PAGES["docs/world.md"]) if t[0][0] == "super-category"]
    for column, categories in ((1, CATEGORIES), (2, HELD_OUT)):
        by_super = {row[0]: row[column].split(", ") for row in table[1:] if row[column]}
        said = {(group, name) for group, names in by_super.items() for name in names}
        assert said == {(c.supercategory, c.name) for c in categories}


def test_the_real_models_configuration_has_the_registrys_neurons():
    (text,) = blocks("docs/models.md", "json")
    config = json.loads(text)
    units = {
        part: config[f"{key}_config"]["num_hidden_layers"]
        * config[f"{key}_config"]["intermediate_size"]
        for part, key in (("language", "text"), ("vision", "vision"))
    }
    assert units == registry("models")["minigpt4-llama2-7b"]["units"]


def test_named_parameters_exist(model):
    names = list(model.network.state_dict())
    found = re.findall(
        r"`((?:visual_encoder|ln_vision|llama_proj|llama_model)\.[\w.*]+)`", PAGES["docs/models.md"]
    )
    assert len(found) >= 5
    for pattern in found:
        assert any(fits(name, pattern.replace("*", "{x}")) for name in names), pattern
    assert all(any(fits(n, p.replace("*", "{x}")) for p in found) for n in names)


def test_reasons_of_exclusion_are_those_that_are_given():
    assert reasons_described("reason") == {
        *reasons_given("prepare", "scripts/mmneurons/datasets/coco.py"),
        *reasons_given("validity", "scripts/mmneurons/datasets/validity.py"),
        *reasons_given("select", "scripts/collect_exclusions.py"),
    }
    readers = ("questions", "vqav2", "pmc_vqa", "doc_vqa", "lingo_qa", "rsvqa")
    assert reasons_described("cause") == {
        reason
        for name in readers
        for reason in reasons_given("prepare", f"scripts/mmneurons/datasets/{name}.py")
    } | {
        *reasons_given("record", "scripts/mmneurons/probe/budget.py"),
        *reasons_given("record", "scripts/mmneurons/probe/domains.py"),
    }
    assert reasons_described("ground") == {
        *reasons_given("prepare", "scripts/mmneurons/datasets/coco_captions.py"),
        *reasons_given("nouns", "scripts/mmneurons/datasets/nouns.py"),
        *reasons_given("ablation", "scripts/mmneurons/interventions/ablation.py"),
        *reasons_given("descriptions", "scripts/mmneurons/metrics/descriptions.py"),
        *reasons_given(
            "localisation", "scripts/mmneurons/metrics/localisation.py", r"no(-[a-z]+)+"
        ),
        *reasons_given("selectivity", "scripts/mmneurons/metrics/selectivity.py"),
    }
    words = r"(target|no)( [a-z]+)+"
    assert reasons_described("why") == {
        *reasons_given("prepare", "scripts/mmneurons/datasets/sbu.py"),
        *reasons_given("prepare", "scripts/mmneurons/datasets/folder.py"),
        *reasons_given("nouns", "scripts/mmneurons/datasets/nouns.py"),
        *reasons_given("edits", "scripts/mmneurons/interventions/edited_captions.py", words),
    }


def reasons_described(head):
    """Pairs of reason and stage of the table with this head."""
    (table,) = [t for t in tables(PAGES["docs/artifacts.md"]) if t[0][0] == head]
    return {(row[0].strip("`"), row[1]) for row in table[1:]}


def reasons_given(stage, name, pattern=r"[a-z]+(-[a-z]+)+|crowd|placeholder"):
    """The same of a source file: its strings that fit a pattern are reasons."""
    nodes = ast.walk(ast.parse((REPOSITORY / name).read_text()))
    strings = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return {(text, stage) for text in strings if re.fullmatch(pattern, text)}


# ------------------------------------------------------------------------------------ artifacts

KINDS = {"large_string": "str", "string": "str", "double": "float64", "float": "float32"}


def described(heads):
    """{path: rows} of the sections of docs/artifacts.md that have a table with one of the heads."""
    found = {}
    for section in re.split(r"^### ", PAGES["docs/artifacts.md"], flags=re.MULTILINE)[1:]:
        head, _, body = section.partition("\n")
        rows = [row for t in tables(body) if t[0][0] in heads for row in t[1:]]
        for path in code_words(head):
            found[path] = [[row[0].strip("`"), *row[1:]] for row in rows]
    return found


COLUMNS, TENSORS = described(["column"]), described(["tensor"])


def test_every_file_that_rules_leave_is_described():
    assert [path for path in COLUMNS if not is_output(path)] == []
    # Of a figure or table that is there in several formats, the CSV file is described.
    files = [path for path in OUTPUTS if not path.endswith((".svg", ".png", ".md"))]
    assert [path for path in files if not any(fits(filled(path), p) for p in COLUMNS)] == []


LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def kind_of(arrow):
    """An Arrow type in the words of the page."""
    if any(is_one(arrow) for is_one in LISTS):
        inner = kind_of(arrow.value_type)
        return f"list of {inner.replace('list', 'lists', 1)}"
    return KINDS.get(str(arrow), str(arrow))


def write_picture(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def little_coco(root):
    """Four pictures, two with a bear and two with a banana, and a car in each."""
    names = {1: "bear", 2: "banana", 3: "car"}
    images, annotations = [], []
    for number in range(1, 5):
        write_picture(root / f"val2017/{number:012d}.png", (40, 32))
        file = f"{number:012d}.png"
        images.append({"id": number, "file_name": file, "width": 40, "height": 32})
        for category, box in ((1 + number % 2, [2, 2, 15, 12]), (3, [25, 18, 10, 10])):
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
            annotations.append({**entry, "bbox": box, "iscrowd": 0, "area": 1.0})
    categories = [{"id": i, "name": name, "supercategory": "thing"} for i, name in names.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = root / "annotations/instances_val2017.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return list(names.values())


PROMPT = {
    "template": "[INST] <ImageHere> {instruction} [/INST] {prefix}",
    "instruction": "Describe this image",
    "prefix": "The image shows a",
}
RUN, BASE = "results/{run}", "results/{run}/{dataset}"
BY_MODEL = f"{BASE}/{{model}}"
BY_DOMAIN = f"{RUN}/domains/{{model}}"


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """Tables, CSV tables and recordings by the paths of docs/artifacts.md.

    Made by the library as the rules make them, on four pictures, with a random model.
    """
    from mmneurons.artifacts.records import merge_records
    from mmneurons.artifacts.tensors import TensorFile, write_tensors
    from mmneurons.datasets.coco import object_samples
    from mmneurons.datasets.pictures import read_picture
    from mmneurons.datasets.validity import valid_samples
    from mmneurons.figures import levels, supplement, tables, two_stage
    from mmneurons.interventions.noisy_captions import NoiseSettings, neuron_sets, noisy_captions
    from mmneurons.methods.two_stage_selection import (
        automatic_thresholds,
        select_neurons,
        select_random,
        select_top,
    )
    from mmneurons.metrics.naming import mark_hits
    from mmneurons.metrics.similarity_table import similarity_table
    from mmneurons.metrics.suppression import suppression_table
    from mmneurons.models.captions import caption_text, fill_prompt
    from mmneurons.probe.decode import unit_tokens
    from mmneurons.probe.two_stage import Case, record_group

    root = tmp_path_factory.mktemp("docs")
    categories = little_coco(root)
    groups = categories[:2]
    samples, too_few = object_samples(root, "val2017", groups, 3, seed=0, check=True)

    def caption(picture_id, words):
        ids = model.tokenizer(words, add_special_tokens=False).input_ids
        return {"picture_id": picture_id, **caption_text(model, PROMPT["prefix"], ids)}

    captions = pd.DataFrame(
        row
        for s in samples.itertuples()
        for row in (
            caption(f"{s.image_id:012d}", f"red {s.group} and car"),
            caption(s.sample_id, "red car"),
        )
    )
    valid, unfit = valid_samples(samples, captions, categories, 1, 1)

    shards, tokens, full = [], [], None
    for group in groups:
        own = valid[valid["group"] == group]
        pictures = [read_picture(root / file) for file in own["file"]]
        cases = [
            Case(picture, Image.new("RGB", picture.size), s.prefix_tokens, s.target_token)
            for picture, s in zip(pictures, own.itertuples(), strict=True)
        ]
        sites = ["act", "post"]
        text = fill_prompt(PROMPT)
        recorded = record_group(model, text, cases, sites, 40, 4)
        full = record_group(model, text, cases[:1], sites, 40, 4, full=True)
        tokens += unit_tokens(model, group, [recorded["act/map_units"]], k=10)
        facts = {"sample_ids": {group: own["sample_id"].tolist()}, "grid": model.grid()}
        arrays = {f"{group}/{name}": values for name, values in recorded.items()}
        shards.append(root / f"{group}.safetensors")
        write_tensors(arrays, shards[-1], facts)
    merge_records(shards, groups, root / "record.safetensors")
    record = TensorFile(root / "record.safetensors")
    # The file of maps is only read here; tests/test_probe.py makes a map.
    write_tensors(
        {"maps": np.zeros((1, 32, 32), np.float16)},
        root / "gradcam.safetensors",
        {"sample_ids": [valid["sample_id"].iloc[0]]},
    )
    gradcam = TensorFile(root / "gradcam.safetensors")

    difference, gradact = record["act/difference"], record["act/gradact"]
    thresholds, _ = automatic_thresholds(valid, difference, gradact, [2], 0.05)
    neurons, thresholds = select_neurons(thresholds, difference, gradact)
    counts = neurons["sample_id"].value_counts().reindex(valid["sample_id"], fill_value=0)
    attribution = select_top(valid, record["attribution"], counts)
    random = select_random(valid, neurons, difference.shape[-1], 2, 0)

    evaluated = valid[valid["role"] == "evaluation"]
    image_tokens = {
        s.sample_id: model.embed_pictures([read_picture(root / s.file)])[0]
        for s in evaluated.itertuples()
    }
    settings = NoiseSettings([1.0], "rms", 1, "per-position", "add", 0)
    mean_square = record["act/mean_square"].mean(axis=0)
    noise = pd.DataFrame(
        row
        for method, variant, table in (
            ("two_stage", "auto", neurons),
            ("random", "matched", random),
        )
        for chosen in neuron_sets(method, variant, table)
        if chosen.sample_id in image_tokens
        for row in noisy_captions(
            model,
            PROMPT,
            image_tokens,
            dict(zip(evaluated["sample_id"], evaluated["group"], strict=True)),
            chosen,
            list(image_tokens),
            settings,
            mean_square,
            "act",
            16,
            3,
        )
    )
    hits = mark_hits(noise, categories)
    suppression = suppression_table(hits, draws=10)
    names = ("bleu1", "bleu4", "rouge1", "rougeL", "bertscore")
    measures = {name: lambda candidates, _: np.zeros(len(candidates)) for name in names}
    inpainted = dict(zip(valid["sample_id"], valid["caption_inpainted"], strict=True))
    similarity = similarity_table(noise, inpainted, measures).assign(encoder="none")

    methods = [("two_stage", "auto"), ("random", "matched")]
    selections = dict(zip(methods, (neurons, random), strict=True))
    ids = evaluated["sample_id"].tolist()
    decoded = pd.DataFrame(tokens)
    maps = two_stage.object_maps(valid, neurons, decoded, record, gradcam, "act", groups)
    paper = pd.read_csv(REPOSITORY / "resources/thresholds/two_stage_paper.csv")
    captions_data = tables.captions_data(valid, noise, unfit, groups, methods)
    figures, metrics = f"{RUN}/figures/two_stage", f"{BY_MODEL}/metrics/two_stage"
    return types.SimpleNamespace(
        parquet={
            f"{BASE}/two_stage/samples.parquet": samples,
            f"{BASE}/two_stage/exclusions.parquet": too_few,
            f"{BY_MODEL}/captions/exclusions.parquet": unfit,
            f"{metrics}/exclusions.parquet": unfit,
            f"{BY_MODEL}/captions/captions.parquet": captions,
            f"{BY_MODEL}/captions/valid.parquet": valid,
            f"{BY_MODEL}/record/tokens.parquet": decoded,
            f"{BY_MODEL}/neurons/{{method}}.{{site}}.{{variant}}.parquet": random,
            f"{BY_MODEL}/neurons/thresholds.{{site}}.{{variant}}.parquet": thresholds,
            f"{BY_MODEL}/interventions/noise.{{site}}.{{part}}.parquet": noise,
            f"{metrics}/hits.{{site}}.{{part}}.parquet": hits,
        },
        without_seed=[neurons, attribution],
        csv={
            f"{metrics}/suppression.{{site}}.{{part}}.csv": suppression,
            f"{metrics}/suppression_loose.{{site}}.{{part}}.csv": suppression,
            f"{metrics}/similarity.{{site}}.{{part}}.csv": similarity,
            f"{figures}/figure1.csv": two_stage.pairs_data(valid, groups),
            f"{figures}/figure2.csv": two_stage.layers_data(selections, ids, 3, [2]),
            f"{figures}/figure3.csv": two_stage.heatmaps_data(maps),
            f"{figures}/figureS1.csv": levels.levels_data(suppression, methods),
            f"{figures}/table1.csv": captions_data,
            f"{figures}/table5.csv": captions_data,
            f"{figures}/table2.csv": tables.suppression_data(
                suppression, valid, unfit, groups, methods
            ),
            f"{figures}/table4.csv": tables.thresholds_data(
                {"auto": thresholds}, paper, valid, unfit, groups
            ),
            f"{figures}/tableS1.csv": supplement.variants_data(suppression, selections, ids, [2]),
            f"{figures}/tableS2.csv": supplement.sites_data(
                {"act": suppression}, {"act": selections}, ids
            ),
        },
        similarity_columns=list(tables.similarity_data(similarity, methods)),
        record=record,
        full=full,
    )


def little_sbu(root, pictures):
    """A list of some pictures, and one whose address is dead."""
    (root / "images").mkdir(parents=True)
    for number, picture in enumerate(pictures):
        picture.save(root / f"images/{number:09d}.jpg", quality=95)
    captions = ["a picture"] * (len(pictures) + 1)
    content = {"captions": captions, "image_urls": captions, "user_ids": captions}
    (root / "sbu-captions-all.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def pan(model, pictures, tmp_path_factory):
    """The same of Pan et al. 2024: recorded, changed, measured and drawn with the random model."""
    from mmneurons.artifacts.tables import read_neurons, write_table
    from mmneurons.artifacts.tensors import TensorFile, write_tensors
    from mmneurons.datasets.nouns import concepts_of
    from mmneurons.datasets.sbu import sbu_pictures
    from mmneurons.probe.contribution import PanSettings, record_pictures
    from mmneurons.probe.decode import neuron_tokens

    root = tmp_path_factory.mktemp("pan")
    little_sbu(root, pictures[:8])
    chosen, unusable = sbu_pictures(root, 9)
    nouns = partial(concepts_of, prefix=PROMPT["prefix"])
    batches = [[(row.picture_id, root / row.file) for row in chosen.itertuples()]]
    recorded = record_pictures(model, PROMPT, batches, nouns, PanSettings(10, TOP_K, 0))
    # Captions of one word, of which some are no noun.
    brief = record_pictures(model, PROMPT, batches, nouns, PanSettings(1, [1], 0, maps=False))
    for name, table in recorded.tables.items():
        write_table(table, root / f"{name}.parquet")
    write_tensors(recorded.maps, root / "pan_maps.safetensors", recorded.facts)
    made = {
        "pictures": chosen,
        "captions": recorded.tables["captions/pan"],
        "concepts": recorded.tables["captions/concepts"],
        "specificity": recorded.tables["record/specificity"],
        "cross_scores": recorded.tables["record/cross_scores"],
        "tokens": neuron_tokens(model),
        "plain": read_neurons(sorted((root / "neurons").glob("*.plain.parquet"))),
        "shuffled": read_neurons(sorted((root / "neurons").glob("*.shuffled.parquet"))),
        "maps": TensorFile(root / "pan_maps.safetensors"),
    }
    made["noise"] = captions_under_weight_noise(model, root, made)
    made["edits"], impossible = captions_under_edits(model, root, made)
    left_out = [unusable, brief.tables["exclusions"], impossible]
    made["exclusions"] = pd.concat(left_out, ignore_index=True)
    csv = measures_of_pan(made)
    neurons = [t for name, t in recorded.tables.items() if name.startswith("neurons/")]
    return types.SimpleNamespace(
        parquet={
            f"{BASE}/pan/pictures.parquet": chosen,
            f"{BASE}/pan/exclusions.parquet": unusable,
            f"{BY_MODEL}/captions/pan_exclusions.parquet": brief.tables["exclusions"],
            f"{BY_MODEL}/metrics/pan/exclusions.captions.parquet": made["exclusions"],
            f"{BY_MODEL}/metrics/pan/exclusions.parquet": made["exclusions"],
            f"{BY_MODEL}/captions/pan.parquet": made["captions"],
            f"{BY_MODEL}/captions/concepts.parquet": made["concepts"],
            f"{BY_MODEL}/record/specificity.parquet": made["specificity"],
            f"{BY_MODEL}/record/cross_scores.parquet": made["cross_scores"],
            f"{RUN}/models/{{model}}/neuron_tokens.parquet": made["tokens"],
            f"{BY_MODEL}/interventions/weight_noise.parquet": made["noise"],
            f"{BY_MODEL}/interventions/edits.parquet": made["edits"],
        },
        csv={f"{BY_MODEL}/metrics/pan/{name}.csv": table for name, table in csv.items()}
        | {f"{RUN}/figures/pan/{n}.csv": t for n, t in figures_of_pan(made, csv).items()},
        without_seed=neurons,
        maps=made["maps"],
        exclusions=made["exclusions"],
    )


TOP_K = [1, 3, 6]


def captions_under_weight_noise(model, root, made):
    """All concepts of one picture, its two best neurons each."""
    from mmneurons.datasets.pictures import read_picture
    from mmneurons.interventions.weight_noise import (
        WeightNoiseSettings,
        disturbed_sets,
        noised_captions,
        whole_pictures,
    )

    samples = whole_pictures(made["concepts"].query("variant == 'plain'"), 1, 0)
    neurons = made["plain"].query("method == 'contribution' and site == 'act' and rank < 2")
    neurons = neurons[neurons["sample_id"].isin(set(samples["sample_id"]))]
    sets = disturbed_sets(neurons, 40, 1, 0)
    captions = made["captions"].query("variant == 'plain'").set_index("picture_id")["caption"]
    files = made["pictures"].set_index("picture_id")["file"]
    settings = WeightNoiseSettings([1.0, 2.0], "row", 1, 0)
    return pd.DataFrame(
        row
        for sample in samples.itertuples()
        for row in noised_captions(
            model,
            PROMPT,
            model.embed_pictures([read_picture(root / files[sample.picture_id])]),
            sample.picture_id,
            captions[sample.picture_id],
            sets[sample.sample_id],
            settings,
            8,
            10,
        )
    )


def captions_under_edits(model, root, made):
    """One edit that has a picture of every role, and what was left out of the edits."""
    from mmneurons.datasets.pictures import read_picture
    from mmneurons.interventions.edit import EditSettings
    from mmneurons.interventions.edited_captions import (
        EditTrial,
        edited_captions,
        known_targets,
        plan_edits,
    )

    targets, unknown = known_targets(model, PROMPT["prefix"], ["car", "zeppelin"])
    plans, impossible = plan_edits(made["concepts"], made["captions"], targets, 99, 1, 1, 1, 0)
    plan = next(plan for plan in plans if plan.transfer and plan.locality)
    files = made["pictures"].set_index("picture_id")["file"]
    shown = model.embed_pictures([read_picture(root / files[name]) for name in plan.roles])
    own = made["plain"].query("method == 'contribution' and site == 'act'")
    own = own[own["sample_id"] == plan.sample_id]
    rows = edited_captions(
        model,
        PROMPT,
        dict(zip(plan.roles, shown, strict=True)),
        made["captions"].query("variant == 'plain'").set_index("picture_id")["caption"],
        plan,
        own[["layer", "unit"]].to_numpy(),
        EditTrial(EditSettings(1.0, "median", 0.01, 20), "act", 3, ["token", "word"], 1, 0),
        10,
    )
    edits = pd.DataFrame(rows)
    # The order in which scripts/edit_concepts.py writes them.
    first = ["edit_id", "sample_id", "source", "target", "kind", "method", "seed", "picture_id"]
    columns = [*first, "role", *(name for name in edits if name not in {*first, "role"})]
    return edits[columns], pd.DataFrame([*unknown, *impossible])


def measures_of_pan(made):
    """The CSV tables of measures by name."""
    from mmneurons.metrics.edits import edits_table
    from mmneurons.metrics.invariance import cross_image_table, region_invariance_table
    from mmneurons.metrics.semantics import sensitivity_table
    from mmneurons.metrics.specificity import specificity_table
    from mmneurons.metrics.weight_noise import weight_noise_table

    def sensitivity(metric, similarity, encoder):
        plain, tokens = made["plain"], made["tokens"]
        return sensitivity_table(plain, tokens, metric, similarity, encoder, 3, 5)

    plain = made["plain"]
    concepts = made["concepts"].query("variant == 'plain'")
    return {
        "sensitivity.encoder": pd.concat(
            sensitivity(metric, lambda candidates, _: np.zeros(len(candidates)), "none")
            for metric in ("bertscore", "moverscore")
        ),
        "sensitivity.bleurt": sensitivity("bleurt", None, ""),
        "invariance": region_invariance_table(plain, made["shuffled"], TOP_K),
        "cross_image": cross_image_table(plain, TOP_K, [2]),
        "specificity": specificity_table(made["specificity"]),
        "weight_noise": weight_noise_table(made["noise"], concepts, PROMPT["prefix"]),
        "edits": edits_table(made["edits"], concepts, PROMPT["prefix"]),
    }


def figures_of_pan(made, csv):
    """The data of all figures and tables by name, of one model."""
    from mmneurons.figures import (
        pan,
        pan_changes,
        pan_matrices,
        pan_pictures,
        pan_supplement,
        pan_tables,
    )
    from mmneurons.figures.inputs import by_model

    def of_model(table):
        return by_model(["tiny"], [table])

    def neurons(table, method, site="act"):
        return of_model(made[table].query(f"method == '{method}' and site == '{site}'"))

    names = ("captions", "concepts", "tokens", "noise", "edits", "exclusions")
    captions, concepts, tokens, noise, edits, exclusions = (of_model(made[name]) for name in names)
    rates = {name: of_model(table) for name, table in csv.items()}
    pictures, best = made["pictures"], neurons("plain", "contribution")
    context = (captions, concepts, pictures)
    maps = pan_pictures.concept_maps({"tiny": made["maps"]}, *context, "act")
    cross_image = pan.cross_image_data(rates["cross_image"], concepts, "act", [2], [3])
    matrices = pan_matrices.matrices_data(of_model(made["cross_scores"]), *context, "act")
    on_pictures = pan_pictures.maps_data(maps)
    under_noise = pan_changes.noise_data(noise, pictures, rates["weight_noise"])
    under_edits = pan_changes.edits_data(edits, pictures, rates["edits"])
    attribution = neurons("plain", "attribution", "pre")
    return {
        "figure2": pan.layers_data(best, TOP_K),
        "figure3": pan.invariance_data(
            rates["invariance"], "act", {"tiny": made["maps"].facts["n_units"]}
        ),
        "figure4": cross_image,
        "figure5": matrices,
        "figure6": cross_image,
        "figure7": matrices,
        "table1": on_pictures,
        "table2": pan_tables.methods_data(
            best, attribution, neurons("plain", "activation"), tokens, *context
        ),
        "table3": pan_tables.sensitivity_data(
            rates["sensitivity.encoder"], rates["sensitivity.bleurt"], "act"
        ),
        "table4": pan_tables.specificity_data(rates["specificity"], "act"),
        "table5": under_noise,
        "table6": under_edits,
        "table7": pan_changes.transfer_data(edits, pictures),
        "table8": on_pictures,
        "table9": pan_tables.concepts_data(best, tokens, *context),
        "table10": pan_tables.shuffled_data(best, neurons("shuffled", "contribution"), *context),
        "table11": under_noise,
        "table12": under_edits,
        "tableS1": pan_supplement.sites_data(
            rates["sensitivity.encoder"],
            rates["invariance"],
            rates["cross_image"],
            rates["specificity"],
            act=best,
            post=neurons("plain", "contribution", "post"),
        ),
        "tableS2": pan_changes.rates_data(rates["edits"]),
        "exclusions": exclusions,
    }


def run_script(name, wildcards, inputs, outputs, **params):
    """Run the script of a rule as Snakemake would, in a folder for its log."""
    from snakemake.iocontainers import InputFiles, OutputFiles

    outputs = {key: str(path) for key, path in outputs.items()}
    folder = Path(next(iter(outputs.values()))).parent
    folder.mkdir(parents=True, exist_ok=True)
    job = types.SimpleNamespace(
        input=InputFiles(fromdict=inputs),
        output=OutputFiles(fromdict=outputs),
        wildcards=types.SimpleNamespace(**wildcards),
        params=types.SimpleNamespace(**params),
        log=[str(folder / f"{name}.log")],
    )
    streams = sys.stdout, sys.stderr
    try:
        runpy.run_path(str(REPOSITORY / f"scripts/{name}.py"), init_globals={"snakemake": job})
    finally:
        sys.stdout, sys.stderr = streams


@pytest.fixture(scope="module")
def domains(tmp_path_factory):
    """Files of two domains of few questions, made by the rules' scripts with a random LLaVA-NeXT.

    The judge's table is one by hand; tests/test_lingo_judge.py has a judge.
    """
    import llava_next_world

    from mmneurons.artifacts.tensors import TensorFile
    from mmneurons.datasets.question_files import annotation_files
    from mmneurons.metrics.lingo_judge import COLUMNS as JUDGED
    from mmneurons.world.pmc_vqa import write_pmc_vqa
    from mmneurons.world.vqav2 import write_vqav2

    root = tmp_path_factory.mktemp("domains")
    rows = {
        domain: registry("datasets")[name] | {"root": str(root / name)}
        for domain, name in (("common", "vqav2-world"), ("medical", "pmc-vqa-world"))
    }
    for write, row in zip((write_vqav2, write_pmc_vqa), rows.values(), strict=True):
        write(row["root"], 2, 0)
    tables = {"questions": [], "exclusions": []}
    for domain, row in rows.items():
        own = {name: root / f"{domain}/{name}.parquet" for name in tables}
        files = [annotation_files(row["reader"], row["root"], s) for s in row["splits"].values()]
        run_script(
            "choose_questions",
            {"dataset": f"{domain}-tiny"},
            {"annotations": sum(files, [])},
            own | {"pictures": root / domain / "pictures"},
            dataset=row,
            domain=domain,
            questions={"identify": 2, "evaluate": 3},
            seed=0,
        )
        for name, path in own.items():
            tables[name].append(str(path))
    together = {name: root / f"{name}.parquet" for name in tables}
    run_script("collect_questions", {}, tables, together)

    llava_next_world.build().save(root / "model")
    asked = {name: str(path) for name, path in together.items() if name == "questions"}
    prompts = registry("prompts")["llava_next.question"]
    model = {"family": "llava_next", "path": str(root / "model"), "revision": "", "label": "tiny"}
    case = {"domain": "medical", "image": 1, "text": -1}
    loading = {"device": "cpu", "dtype": "float32"}
    compute = {"loading": loading, "threads": 1, "batch_size": 2}
    shared = {
        "model": model,
        "compute": compute | {"noise_batch_size": 8},
        "roots": {domain: row["root"] for domain, row in rows.items()},
        "roles": dict.fromkeys(rows, ""),
        "shards": 1,
    }
    record = ["embeddings", "entropy", "lens", "exclusions"]
    made = {name: root / f"record/{name}.parquet" for name in record}
    run_script(
        "record_domains",
        {"model": "tiny", "shard": "0"},
        asked,
        {"counts": root / "shards/counts.parquet"}
        | {name: root / f"shards/{name}.parquet" for name in record},
        **shared,
        prompt=prompts,
        wording="paper",
        tokens=10**6,
        record="samples",
        embeddings=1,
        lens={"questions": 1, "top": 2},
        cases={"figure6": case, "figure10": case | {"image": 10**6}},
    )
    for name, path in made.items():
        merged = {"shard": str(root / f"shards/{name}.parquet")}
        run_script("merge_tables", {}, merged, {"table": path}, sort=["group", "sample_id"])
    sums, samples = root / "record/counts.safetensors", root / "record/sample_counts.parquet"
    shards = asked | {"shards": [str(root / "shards/counts.parquet")]}
    run_script("merge_counts", {}, shards, {"samples": samples, "counts": sums}, record="samples")
    counts, neurons = {"counts": str(sums)}, root / "neurons.parquet"
    variant, rule = {"variant": "released-20"}, {"percentile": 50, "inert": "keep"}
    run_script("select_domains", variant, counts, {"neurons": neurons}, **rule)
    replied = {name: root / f"replies/{name}.parquet" for name in ("answers", "deviation")}
    run_script(
        "reply_to_questions",
        {"model": "tiny", "shard": "0"},
        asked | {"neurons": str(neurons)},
        replied,
        **shared,
        prompt=prompts["paper"],
        evaluate={"masks": "paper", "max_new_tokens": 2, "control_seeds": 1},
        decoding={"strategy": "greedy"},
        seed=0,
    )
    csv = {name: root / f"{name}.csv" for name in ("accuracy", "deviation", "silent", "pca")}
    for script, inputs, output in (
        (
            "evaluate_answers",
            asked | {"answers": str(replied["answers"]), "judged": []},
            "accuracy",
        ),
        ("evaluate_deviation", {"deviation": str(replied["deviation"])}, "deviation"),
        ("evaluate_silent", counts, "silent"),
        ("project_embeddings", {"embeddings": str(made["embeddings"])}, "pca"),
    ):
        run_script(script, {}, inputs, {output: csv[output]})
    interventions = replied | {
        "judged": pd.DataFrame([("q", "yes", "no", -0.5, 0.4)], None, JUDGED)
    }
    return types.SimpleNamespace(
        # The files themselves: a table of pandas does not know lists of a fixed length.
        parquet={
            **{f"{BASE}/mmneuron/{name}.parquet": tables[name][0] for name in tables},
            **{f"{RUN}/domains/{name}.parquet": path for name, path in together.items()},
            **{f"{BY_DOMAIN}/record/{name}.parquet": path for name, path in made.items()},
            f"{BY_DOMAIN}/record/sample_counts.parquet": samples,
            f"{BY_DOMAIN}/neurons/dape.act.{{variant}}.parquet": neurons,
            **{f"{BY_DOMAIN}/interventions/{name}.parquet": t for name, t in interventions.items()},
        },
        csv={f"{BY_DOMAIN}/metrics/mmneuron/{n}.csv": pd.read_csv(path) for n, path in csv.items()},
        sums=TensorFile(sums),
    )


@pytest.fixture(scope="module")
def domain_figures(tmp_path_factory):
    """The data of all figures and tables of MMNeuron, of artifacts made by hand."""
    import mmneuron_world as world

    paths = world.write(tmp_path_factory.mktemp("mmneuron"))
    found = {item: world.made(item, paths)[0] for item in world.ITEMS}
    found |= {f"figure1{number}": found["figure6"] for number in range(4)}
    found |= {"table6": found["table1"], "table7": found["table1"], "table8": found["table2"]}
    assert not any(table.empty for table in found.values())
    return {f"{RUN}/figures/mmneuron/{item}.csv": table for item, table in found.items()}


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """Files of the truth benchmark, made by the rules' scripts with plantings of small changes."""
    import truth_world

    folder = tmp_path_factory.mktemp("truth")
    made = truth_world.write(folder)
    below, figures = f"{RUN}/truth", f"{RUN}/figures/truth"
    items = {
        item: truth_world.draw(made, item, folder)["csv"]
        for item in ("figure1", "figure2", "table1", "table2", "table3")
    }
    return types.SimpleNamespace(
        parquet={
            f"{below}/pictures.parquet": made["drawn"]["table"],
            **{
                f"{below}/{{model}}/record/{name}.parquet": made["record"][name]
                for name in ("standings", "plantings")
            },
        },
        csv={
            **{
                f"{below}/{{model}}/metrics/{name}.csv": pd.read_csv(path)
                for name, path in made["metrics"].items()
            },
            **{f"{figures}/{item}.csv": pd.read_csv(path) for item, path in items.items()},
        },
    )


@pytest.fixture(scope="module")
def schwettmann_figures(tmp_path_factory):
    """The data of all figures and tables of Schwettmann et al. 2023, by the name on the page."""
    import schwettmann_world as world

    paths = world.write(tmp_path_factory.mktemp("schwettmann"))
    found = {item: world.made(item, paths) for item in world.READS}
    assert not any(table.empty for table in found.values())
    return {f"{RUN}/figures/schwettmann/{item}.csv": table for item, table in found.items()}


@pytest.fixture(scope="module")
def compared():
    """Tables of the comparison of methods, by what makes them, of neurons made up here."""
    from mmneurons.interventions.comparison import CAPTION_COLUMNS
    from mmneurons.methods.comparison import select_scored
    from mmneurons.methods.needs import capability_table
    from mmneurons.metrics import comparison
    from mmneurons.probe.comparison import COST_COLUMNS

    scores = np.random.default_rng(0).normal(size=(3, 2, 8)).astype(np.float32)
    neurons = select_scored("activation", "bear", ["a", "b", "c"], scores, scores, 3, 2, 1, 0)
    captions = pd.DataFrame(columns=list(CAPTION_COLUMNS)).astype(CAPTION_COLUMNS)
    rows = pd.DataFrame(
        {"method": ["activation"], "part": "concept", "seed": 0, "group": "bear", "sample_id": "a"}
    )
    box, mask = {"a": (0, 0, 4, 4)}, np.eye(4, dtype=bool)
    fields = comparison.field_table(rows, np.eye(4)[:1], (2, 2), box, lambda _: mask)
    cells = comparison.cells(captions, neurons, fields, ["bear"], ["activation"], ["bear"], 3)
    needs = {"method": {"activation": {"needs": ["sites"]}}}
    metrics = {
        "cells": cells,
        "fields": fields,
        "agreement": comparison.agreement(neurons, ["bear"]),
        "layers": comparison.layer_profile(neurons, 2),
        "costs": pd.DataFrame(columns=list(COST_COLUMNS)),
        "capabilities": capability_table(needs, {"method": {"activation": ""}}),
    }
    summary = comparison.summary(cells.assign(model="a model"))
    parquet = {"neurons": neurons, "captions": captions}
    return types.SimpleNamespace(
        parquet={f"{BY_MODEL}/comparison/{name}.parquet": t for name, t in parquet.items()},
        csv={f"{BY_MODEL}/metrics/comparison/{name}.csv": t for name, t in metrics.items()}
        | {f"{BASE}/comparison/summary.csv": summary},
    )


def attribution_tables():
    """A row of every table of Schwettmann et al. 2023, whose columns the library has in one place.

    All of its tables are made with these columns and types.
    """
    from mmneurons.artifacts import schwettmann

    lists = {"references": ["a"], "tokens": ["a"], "token_ids": [1], "cosines": [1.0]}

    def row(columns):
        values = {
            name: [lists[name]] if kind == "object" else [1] for name, kind in columns.items()
        }
        return pd.DataFrame(values).astype(columns)

    recorded, tables = schwettmann.RECORDED, schwettmann.TABLES
    left_out = ("record/attribution/exclusions", "schwettmann/left_out")
    measures = (".descriptions", ".localisation", ".selectivity", "")
    left_out += tuple(f"schwettmann/metrics/exclusions{name}" for name in measures)
    made = {f"{BY_MODEL}/{name}.parquet": recorded["exclusions"] for name in left_out}
    made[f"{BASE}/schwettmann/exclusions.parquet"] = recorded["exclusions"]
    made[f"{BASE}/schwettmann/pictures.parquet"] = schwettmann.PICTURE_COLUMNS
    for name in ("pairs", "ranking"):
        made[f"{BY_MODEL}/record/attribution/{name}.parquet"] = recorded[name]
    for name, columns in tables.items():
        as_csv = name.startswith("metrics/") and name != "metrics/prompts"
        made[f"{BY_MODEL}/schwettmann/{name}.{'csv' if as_csv else 'parquet'}"] = columns
    made[f"{BY_MODEL}/schwettmann/metrics/ablation.parquet"] = schwettmann.ABLATED
    made = {path: row(columns) for path, columns in made.items()}
    return types.SimpleNamespace(
        parquet={path: table for path, table in made.items() if path.endswith(".parquet")},
        csv={path: table for path, table in made.items() if path.endswith(".csv")},
    )


ATTRIBUTION = attribution_tables()


def columns_of(table, folder):
    """Columns and their types, in the words of the page, of a table as it is written."""
    from mmneurons.artifacts.tables import write_table

    path = table
    if isinstance(table, pd.DataFrame):
        path = folder / "table.parquet"
        write_table(table, path)
    return {field.name: kind_of(field.type) for field in pq.read_schema(path)}


def for_modules(rows, modules):
    """Rows of a table of the page, those with {module} for every module of a file."""
    plain = [row for row in rows if "{module}" not in row[0]]
    return plain + [
        [row[0].format(module=module), *row[1:]]
        for module in modules
        for row in rows
        if "{module}" in row[0]
    ]


def test_columns_of_parquet_tables(written, pan, domains, truth, compared, tmp_path):
    described_here = {
        path: rows for path, rows in COLUMNS.items() if path.endswith(".parquet") and rows
    }
    made = written.parquet | pan.parquet | domains.parquet | ATTRIBUTION.parquet
    made |= truth.parquet | compared.parquet
    assert described_here.keys() == made.keys()
    of_samples = described_here[f"{BASE}/two_stage/samples.parquet"]
    for path, table in made.items():
        found = columns_of(table, tmp_path)
        rows = for_modules(described_here[path], ["vision", "projector", "language"])
        said = {row[0]: row[1] for row in rows}
        if path.endswith("valid.parquet"):
            said = {row[0]: row[1] for row in of_samples} | said
        assert list(said) == list(found), path
        assert said == found, path


def test_only_random_neurons_have_a_seed(written, pan, tmp_path):
    path = f"{BY_MODEL}/neurons/{{method}}.{{site}}.{{variant}}.parquet"
    *said, seed = ((row[0], row[1]) for row in COLUMNS[path])
    assert seed == ("seed", "int64")
    for table in [*written.without_seed, *pan.without_seed]:
        assert list(columns_of(table, tmp_path).items()) == said


def test_no_table_of_pan_et_al_is_empty(pan):
    """Columns of a table without rows may have other types than those of a full one."""
    made = pan.parquet | pan.csv
    assert [path for path, table in made.items() if table.empty] == []


def test_stages_of_exclusion_are_those_of_the_tables(pan):
    path = f"{BY_MODEL}/metrics/pan/exclusions.parquet"
    (meaning,) = [row[2] for row in COLUMNS[path] if row[0] == "stage"]
    assert set(code_words(meaning)) == set(pan.exclusions["stage"])


def test_columns_of_csv_tables(
    written, pan, domains, domain_figures, schwettmann_figures, truth, compared
):
    described_here = {
        path: rows for path, rows in COLUMNS.items() if path.endswith(".csv") and rows
    }
    made = written.csv | pan.csv | domains.csv | domain_figures | ATTRIBUTION.csv
    made |= schwettmann_figures | truth.csv | compared.csv
    assert described_here.keys() == made.keys()
    for path, table in made.items():
        said = [row[0] for row in described_here[path]]
        plain = [name for name in said if "{" not in name]
        assert [name for name in table if name in plain] == plain, path
        # Measures are words: without this, "{measure}" would stand for every column.
        patterns = [name.replace("{measure}", m) for name in said for m in MEASURES if "{" in name]
        others = [name for name in table if name not in plain]
        for name in others:
            assert any(re.fullmatch(pattern_of(p), name) for p in patterns), (path, name)
        for pattern in patterns:
            assert any(re.fullmatch(pattern_of(pattern), name) for name in others), (path, pattern)


MEASURES = ("suppression", "retention", "score")


def pattern_of(name):
    """A column's name with {method} and {variant} as a regular expression."""
    return "[^/ ]+".join(map(re.escape, re.split(r"\{\w+\}", name)))


def test_table3_has_the_columns_of_the_similarities(written):
    path = "results/{run}/{dataset}/{model}/metrics/two_stage/similarity.{site}.{part}.csv"
    assert written.similarity_columns == [row[0] for row in COLUMNS[path]]


def test_tensors_of_a_recording(written):
    path = "results/{run}/{dataset}/{model}/record/two_stage.safetensors"
    said = {row[0]: (row[1], row[2].count(" x ") + 1) for row in TENSORS[path]}
    arrays = {name: written.record[name] for name in written.record.names}
    # As `record: full` writes them, of one group and without its name.
    arrays |= {n: a for n, a in written.full.items() if not n.endswith(("map_units", "maps"))}
    for name, array in arrays.items():
        (pattern,) = [pattern for pattern in said if fits(name, pattern)]
        assert said[pattern] == (str(array.dtype), array.ndim), name
    assert all(any(fits(name, pattern) for name in arrays) for pattern in said)


def test_tensors_of_the_maps(pan):
    ((pattern, kind, shape, _),) = TENSORS[f"{BY_MODEL}/record/pan_maps.safetensors"]
    rows, columns = pan.maps.facts["grid"]
    sizes = (len(pan.maps.facts["sample_ids"]), len(TOP_K) + 5, rows * columns)
    assert shape == "N x (K + 5) x P"
    names = sorted(name for name in pan.maps.names if fits(name, pattern))
    assert names == sorted(pan.maps.names) == ["act/maps", "post/maps"]
    for name in names:
        assert (str(pan.maps[name].dtype), pan.maps[name].shape) == (kind, sizes), name


def test_tensors_of_the_counts(domains):
    layers = domains.sums.facts["layers"]
    rows = for_modules(TENSORS[f"{BY_DOMAIN}/record/counts.safetensors"], layers)
    sizes = {"G": len(domains.sums.facts["groups"])}
    said = {}
    for name, kind, shape, _ in rows:
        units = sum(layers[name.partition(".")[2]])
        said[name] = (kind, tuple((sizes | {"U": units})[n] for n in shape.split(" x ")))
    names = domains.sums.names
    assert said == {n: (str(domains.sums[n].dtype), domains.sums[n].shape) for n in names}


def test_no_table_of_domains_is_empty(domains):
    """Columns of a table without rows may have other types than those of a full one."""
    read = {p: pq.read_table(t) for p, t in domains.parquet.items() if not hasattr(t, "columns")}
    assert [path for path, table in (read | domains.csv).items() if not len(table)] == []
    recorded = read[f"{BY_DOMAIN}/record/exclusions.parquet"]["reason"].to_pylist()
    assert set(recorded) == {"fewer-tokens", "no-such-token"}
