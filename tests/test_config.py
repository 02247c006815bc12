from pathlib import Path

import pytest
import yaml

from mmneurons.config import (
    ConfigError,
    _ablation,
    check_choice,
    check_config,
    in_order,
    merge,
    validate,
)

REPOSITORY = Path(__file__).parents[1]
SCHEMA = yaml.safe_load((REPOSITORY / "resources/schemas/config.schema.yaml").read_text())
PRESETS = sorted((REPOSITORY / "presets").glob("*.yaml"))

CONFIG = yaml.safe_load((REPOSITORY / "config.yaml").read_text())

TOY = yaml.safe_load("""
type: object
additionalProperties: false
properties:
  run: {type: string, pattern: "^[a-z]+$", default: demo}
  shards: {type: integer, minimum: 1, default: 1}
  noise:
    type: object
    additionalProperties: false
    properties:
      levels: {type: array, items: {type: number, exclusiveMinimum: 0}, minItems: 1, default: [1]}
      mode: {enum: [add, replace], default: add}
      table: {type: [string, "null"], default: null}
""")


def defaults(schema):
    """What the schema says of someone who sets nothing."""
    return {
        key: defaults(entry) if "properties" in entry else entry["default"]
        for key, entry in schema["properties"].items()
    }


def problems(change, base=None, check=lambda config: validate(config, TOY)):
    """The lines of the error about a configuration that is valid but for a change."""
    with pytest.raises(ConfigError) as raised:
        check(merge(base or defaults(TOY), change))
    return str(raised.value).splitlines()


def problems_of_a_run(change):
    """The same for a whole configuration."""
    return problems(change, CONFIG, lambda config: check_config(config, REPOSITORY))[1:]


def sections(schema, path=""):
    """Every (path, schema) of a section, the root included."""
    yield path, schema
    for key, entry in schema["properties"].items():
        if "properties" in entry:
            yield from sections(entry, f"{path}{key}.")


def test_merge_goes_key_by_key_and_replaces_lists():
    base = {"run": "demo", "a": {"x": 1, "list": [1, 2, 3], "deep": {"p": 1, "q": 2}}}
    merged = merge(base, {"a": {"list": [9], "deep": {"q": 5}}}, {"run": "smoke"})
    assert merged == {"run": "smoke", "a": {"x": 1, "list": [9], "deep": {"p": 1, "q": 5}}}


def test_merge_leaves_what_it_is_given_alone():
    base, overlay = {"a": {"list": [1]}}, {"b": {"list": [2]}}
    merged = merge(base, overlay)
    merged["a"]["list"].append(0)
    merged["b"]["list"].append(0)
    assert base == {"a": {"list": [1]}}
    assert overlay == {"b": {"list": [2]}}


def test_merge_agrees_with_snakemake():
    from snakemake.utils import update_config

    base = {"a": {"x": 1, "l": [1, 2], "d": {"p": 1, "q": 2}}, "b": {"y": 1}, "c": 3, "e": {"z": 1}}
    overlay = {"a": {"l": [3], "d": {"p": 5}}, "b": None, "c": {"new": 1}, "d": {}, "e": {}}
    merged = merge(base, overlay)
    update_config(base, overlay)
    assert merged == base


def test_keys_stand_in_the_schemas_order_whatever_an_overlay_begins_with():
    def turned(section):
        """The same with its keys the other way round, and a list left as it is."""
        pairs = reversed(section.items())
        return {k: turned(v) if isinstance(v, dict) else v for k, v in pairs}

    other = merge(turned(CONFIG), {"mmneuron": {"domains": {"remote": None}, "seed": 1}})
    expected = merge(CONFIG, {"mmneuron": {"domains": {"remote": None}, "seed": 1}})
    assert yaml.safe_dump(other, sort_keys=False) != yaml.safe_dump(expected, sort_keys=False)
    ordered = in_order(other, REPOSITORY)
    assert yaml.safe_dump(ordered, sort_keys=False) == yaml.safe_dump(expected, sort_keys=False)


def test_a_valid_configuration_passes():
    validate(defaults(TOY), TOY)


def test_missing_keys_are_named_with_their_defaults():
    with pytest.raises(ConfigError) as raised:
        validate({"shards": 1, "noise": {"levels": [1], "table": None}}, TOY)
    assert str(raised.value).splitlines()[1:] == [
        '  noise.mode: missing; its default is "add"',
        '  run: missing; its default is "demo"',
    ]


def test_all_problems_are_listed_with_their_keys():
    wrong = {"run": "Demo", "shards": 0, "noise": {"levels": [1, -2], "modes": "add"}}
    assert problems(wrong) == [
        "4 problems in the configuration:",
        "  noise.levels[1]: must be more than 0, not -2",
        '  noise.modes: unknown key; did you mean "mode"?',
        '  run: "Demo" does not have the form ^[a-z]+$',
        "  shards: must be at least 1, not 0",
    ]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"shard": 2}, 'shard: unknown key; did you mean "shards"?'),
        ({"Shards": 2}, 'Shards: unknown key; did you mean "shards"?'),
        ({"levels": [1]}, 'levels: unknown key; did you mean "noise.levels"?'),
        ({"xyz": 1}, "xyz: unknown key; known here: run, shards, noise"),
        ({"noise": {"mode": "ad"}}, 'noise.mode: cannot be "ad"; did you mean "add"?'),
        ({"noise": {"mode": "Add"}}, 'noise.mode: cannot be "Add"; did you mean "add"?'),
        ({"noise": {"mode": 7}}, "noise.mode: cannot be 7; it can be add, replace"),
        ({"noise": None}, "noise: must be a section with keys, not null"),
        ({"noise": {"levels": []}}, "noise.levels: must not be empty"),
        ({"noise": {"levels": ["1"]}}, 'noise.levels[0]: must be a number, not "1"'),
        ({"noise": {"table": 3}}, "noise.table: must be text or null, not 3"),
        ({"shards": "4"}, 'shards: must be a whole number, not "4"'),
        ({"shards": 2.0}, "shards: must be a whole number, not 2.0"),
        ({"shards": True}, "shards: must be a whole number, not true"),
    ],
)
def test_a_problem_names_the_key_and_the_nearest_spelling(wrong, problem):
    assert problems(wrong) == ["1 problem in the configuration:", f"  {problem}"]


def test_check_choice():
    names = ["fire hydrant", "car", "banana"]
    check_choice("car", names, "object")
    for wrong, hint in [
        ("fire hidrant", 'did you mean "fire hydrant"?'),
        ("Car", 'did you mean "car"?'),
        ("zzz", "it can be fire hydrant, car, banana"),
    ]:
        with pytest.raises(ConfigError) as raised:
            check_choice(wrong, iter(names), "object")
        assert str(raised.value).endswith(f'\n  object: there is no "{wrong}"; {hint}')


def test_the_schema_refuses_unknown_keys_and_describes_known_ones():
    for path, section in sections(SCHEMA):
        assert section["additionalProperties"] is False, path
        for key, entry in section["properties"].items():
            assert entry["description"].endswith("."), path + key
            assert ("default" in entry) != ("properties" in entry), path + key


def test_the_schemas_defaults_are_what_ships():
    assert defaults(SCHEMA) == CONFIG


@pytest.mark.parametrize("preset", [None, *PRESETS], ids=lambda path: path.stem if path else "")
def test_what_ships_is_valid(preset):
    overlay = yaml.safe_load(preset.read_text()) if preset else {}
    check_config(merge(CONFIG, overlay), REPOSITORY)


def test_names_and_numbers_that_a_run_cannot_have():
    wrong = {
        "two_stage": {
            "model": "minigpt4-wrold",
            "objects": ["bed", "bananna"],
            "candidates_per_object": 4,
            "pictures_per_object": 3,
            "calibration_pictures": 2,
        },
        "metrics": {"encoder": "roberta-largo"},
    }
    assert problems_of_a_run(wrong) == [
        '  metrics.encoder: there is no "roberta-largo"; did you mean "roberta-large"?',
        "  two_stage.candidates_per_object: 4 pictures cannot become the 5 of pictures_per_object"
        " and calibration_pictures",
        '  two_stage.model: there is no "minigpt4-wrold"; did you mean "minigpt4-world"?',
        '  two_stage.objects: there is no "bananna"; did you mean "banana"?',
        "  two_stage.thresholds.table: resources/thresholds/two_stage_world.csv has no row for"
        " bananna",
    ]


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ([4, 8, 8], "[4, 8, 8] are not numbers from 1, each above the one before"),
        ([0, 8], "[0, 8] are not numbers from 1, each above the one before"),
        ([8, 2305], "2305 units of 2304"),
        ([8, 2304], None),
    ],
)
def test_numbers_of_units_that_cannot_be_ablated(numbers, problem):
    rows = {"ablation": numbers, "units": {"language": 2304, "vision": 9000}}
    where = "schwettmann.model: ablation in the row of m in resources/models.yaml"
    assert list(_ablation("m", rows)) == ([f"{where}: {problem}"] if problem else [])


def test_names_that_a_comparison_cannot_have():
    wrong = {
        "comparison": {
            "models": ["llava-wrold", "llava-world"],
            "methods": ["atribution", "random"],
            "prompts": {"llava-world": "question"},
        }
    }
    assert problems_of_a_run(wrong) == [
        '  comparison.methods: there is no "atribution"; did you mean "attribution"?',
        '  comparison.models: there is no "llava-wrold"; did you mean "llava-world"?',
        "  comparison.prompt: there is no prompt llava.question, which llava-world needs",
    ]


NO_QUESTIONS = "mmneuron.{}: there is no prompt {}.question, which {} needs"
NO_DOMAIN = "mmneuron.lens.cases.{}.domain: there is no {}; it can be {}"
NO_MODEL = "mmneuron.lens.cases.{}.model: there is no {}; it can be {}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"domains": {"medical": "pmc-vqa-wrold"}},
            [
                'mmneuron.domains.medical: there is no "pmc-vqa-wrold"; '
                'did you mean "pmc-vqa-world"?'
            ],
        ),
        (
            {"domains": {"common": "coco-world", "driving": "sbu-world"}},
            [
                "mmneuron.domains.common: coco-world is no dataset of questions",
                "mmneuron.domains.driving: sbu-world is no dataset of questions",
            ],
        ),
        (
            {"domains": {"common": "rsvqa-world"}},
            ["mmneuron.domains: a dataset stands for two domains"],
        ),
        (
            {"domains": dict.fromkeys(["medical", "driving", "document", "remote"])},
            [
                "mmneuron.domains: domain neurons need at least two domains",
                NO_DOMAIN.format("figure10", '"medical"', "common"),
                NO_DOMAIN.format("figure11", '"document"', "common"),
                NO_DOMAIN.format("figure13", '"driving"', "common"),
                NO_DOMAIN.format("figure6", '"remote"', "common"),
            ],
        ),
        (
            {"models": ["llava-next-world", "instructblip-world", "llava-next-wrold"]},
            ['mmneuron.models: there is no "llava-next-wrold"; did you mean "llava-next-world"?'],
        ),
        (
            {"larger": ["gpt"]},
            [
                f'mmneuron.larger: there is no "gpt"; it can be '
                f"{', '.join(yaml.safe_load((REPOSITORY / 'resources/models.yaml').read_text()))}"
            ],
        ),
        (
            {
                "models": ["llava-next-world", "instructblip-world", "minigpt4-world"],
                "larger": ["llava-world", "mplug-owl2-world"],
            },
            [
                NO_QUESTIONS.format("larger", "llava", "llava-world"),
                NO_QUESTIONS.format("larger", "mplug_owl2", "mplug-owl2-world"),
                NO_QUESTIONS.format("models", "minigpt4", "minigpt4-world"),
            ],
        ),
        (
            {"models": ["instructblip-world"], "larger": []},
            [
                NO_MODEL.format(figure, '"llava-next-world"', "instructblip-world")
                for figure in ("figure11", "figure12", "figure13")
            ],
        ),
        (
            {"lens": {"cases": {"figure6": {"model": "llava-v1.6-vicuna-7b"}}}},
            [
                NO_MODEL.format(
                    "figure6",
                    '"llava-v1.6-vicuna-7b"',
                    "llava-next-world, instructblip-world, llava-next-large-world",
                )
            ],
        ),
        ({"lingo_judge": "nowhere"}, ["mmneuron.lingo_judge: there is no folder nowhere"]),
        ({"lingo_judge": ""}, ["mmneuron.lingo_judge: there is no folder (none given)"]),
        ({"select": {"shares": [1, 1]}}, ["mmneuron.select.shares: has an entry twice in [1, 1]"]),
        ({"select": {"shares": [0, 5]}}, ["mmneuron.select.shares[0]: must be more than 0, not 0"]),
        ({"lens": {"cases": {"figure6": {"text": 0}}}}, ["mmneuron.lens.cases.figure6.text"]),
    ],
)
def test_what_mmneuron_cannot_run(change, expected):
    found = problems_of_a_run({"mmneuron": change})
    assert len(found) == len(expected)
    for line, problem in zip(found, expected, strict=True):
        assert line.startswith(f"  {problem}"), found


def test_other_domains_models_and_judge_can_be_run(tmp_path):
    """Two domains, one of them on other data, a larger model in the place of a small one."""
    change = {
        "domains": {
            "common": "vqav2", "medical": None, "driving": None, "document": None,
            "remote": "rsvqa-world",
        },
        "models": ["llava-next-large-world"],
        "larger": [],
        "tokens": 10_000,
        "record": "groups",
        "select": {"shares": [5, 0.5], "variant": "paper"},
        "lens": {
            "cases": {
                figure: {"model": "llava-next-large-world", "domain": "remote"}
                for figure in CONFIG["mmneuron"]["lens"]["cases"]
            }
        },
        "lingo_judge": str(tmp_path),
    }  # fmt: skip
    check_config(merge(CONFIG, {"mmneuron": change}), REPOSITORY)


def test_objects_need_data_with_categories():
    """A list of captioned pictures, and questions, name no objects."""
    for name in ("sbu-world", "vqav2-world"):
        assert problems_of_a_run({"two_stage": {"dataset": name}}) == [
            f"  two_stage.dataset: {name} has no categories of objects "
            "(reader: coco, or folder with annotations)"
        ]


def test_lama_needs_its_weights(tmp_path):
    def lama(model):
        return {"two_stage": {"inpainting": {"backend": "lama", "lama_model": model}}}

    key, weights = "  two_stage.inpainting.lama_model", tmp_path / "big-lama.pt"
    assert problems_of_a_run(lama(None)) == [
        f"{key}: must be text, not null (backend: lama needs this file)"
    ]
    assert problems_of_a_run(lama(str(weights))) == [f"{key}: there is no file {weights}"]
    weights.touch()
    check_config(merge(CONFIG, lama(str(weights))), REPOSITORY)
