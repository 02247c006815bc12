"""Registries, validation and the functions that rules share; no rule stands here.

In: config.yaml, presets, resources/*.yaml. Out: names used by every other .smk.
"""

import re
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path

sys.path.append(str(Path(workflow.basedir) / "scripts"))

from mmneurons.artifacts import provenance
from mmneurons.artifacts.yaml_files import read_yaml
from mmneurons.checkpoints import sources
from mmneurons.config import check_config, in_order
from mmneurons.datasets.question_files import annotation_files
from mmneurons.downloads.names import archive_of
from mmneurons.runs import left_over, refuse_beside_others

SCRIPTS = Path(workflow.basedir) / "scripts"
RESOURCES = Path(workflow.basedir) / "resources"


def registry(name):
    """A table of resources/ by its file's name."""
    return read_yaml(RESOURCES / f"{name}.yaml")


DATASETS, MODELS, PROMPTS = registry("datasets"), registry("models"), registry("prompts")
ENCODERS, WORLD = registry("encoders"), registry("world")
check_config(config, Path(workflow.basedir))
config = in_order(config, Path(workflow.basedir))
TWO_STAGE, PAN, MMNEURON = config["two_stage"], config["pan"], config["mmneuron"]
SCHWETTMANN = config["schwettmann"]
DOMAINS = {domain: dataset for domain, dataset in MMNEURON["domains"].items() if dataset}
DOMAIN_OF = {dataset: domain for domain, dataset in DOMAINS.items()}
THRESHOLDS = TWO_STAGE["thresholds"]["variant"]
ENCODER = dict(ENCODERS[config["metrics"]["encoder"]])
ENCODER.pop("source", None)
CLIP = dict(ENCODERS[config["metrics"]["clip"]])
CLIP.pop("source", None)
SOURCES = sources.sources(MODELS, ENCODERS)
ORIGINALS = sources.originals(SOURCES)
# A checkpoint that is there is never made again, so no rule is said to make it.
ABSENT = {path: s for path, s in SOURCES.items() if not (Path(path) / "config.json").exists()}
SHARDS = [str(shard) for shard in range(config["shards"])]
FORMATS = ["svg", "png"]


def code(script, adapter=False):
    """Digest of the library modules that a script imports, as a param: a change there re-runs the
    rules whose scripts import it, and no others. With `adapter`, also the model family's module,
    which the scripts load by name.
    """
    return lambda wildcards: digest(script, MODELS[wildcards.model]["family"] if adapter else None)


@cache
def digest(script, family):
    """What `code` promises; the same for every job of a rule, so it is computed once."""
    library = SCRIPTS / "mmneurons"
    modules = provenance.imported_modules(SCRIPTS / script, library)
    if family:
        path = library / "models" / f"{family}.py"
        modules = sorted({*modules, path, *provenance.imported_modules(path, library)})
    return provenance.code_digest(modules)


# Files of datasets that are not there, by path, with the dataset and the file's name below its root.
# Only these have a rule: what is there, placed by hand or fetched, is an input like any other and
# never made anew.
FETCHED = {
    f"{row['root']}/{file}": (name, file)
    for name, row in DATASETS.items()
    for file in row.get("source", {}).get("files", ())
    if not Path(row["root"], file).exists()
}


# The archives that some of them are members of, by path: each is fetched once for all of its members
# that a run wants, and goes afterwards. One that was placed by hand stays.
ARCHIVES = {
    f"{DATASETS[name]['root']}/{archive}": (name, archive)
    for name, file in FETCHED.values()
    if (archive := archive_of(DATASETS[name]["source"]["files"][file]))
    if not Path(DATASETS[name]["root"], archive).exists()
}


def one_of(names):
    """A wildcard's pattern: one of some names, none if there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def from_the_web(*datasets):
    """Whether pictures of one of these may have to be fetched, which compute nodes often cannot."""
    return any("source" in DATASETS[name] for name in datasets)


def source_of(name):
    """What fetching has to know of a dataset."""
    return {key: DATASETS[name][key] for key in ("root", "source")}


def fetched_row(wildcards):
    return source_of(FETCHED[wildcards.file][0])


def fetched_name(wildcards):
    return FETCHED[wildcards.file][1]


def fetched_archive(wildcards):
    """The archive that a file is a member of, if it is in one."""
    name, file = FETCHED[wildcards.file]
    archive = archive_of(DATASETS[name]["source"]["files"][file])
    return f"{DATASETS[name]['root']}/{archive}" if archive else []


def dataset_annotations(wildcards):
    """The annotation file that a dataset's reader opens."""
    row = DATASETS[wildcards.dataset]
    if row["reader"] == "folder":
        return f"{row['root']}/{row['annotations']}"
    return f"{row['root']}/annotations/instances_{row['split']}.json"


def dataset_captions(wildcards):
    """The file of human captions of a dataset in COCO's format."""
    row = DATASETS[wildcards.dataset]
    return f"{row['root']}/annotations/captions_{row['split']}.json"


def dataset_categories(wildcards):
    """The names that an object of the dataset may have, one a line."""
    return DATASETS[wildcards.dataset]["categories"]


def captioned_list(wildcards):
    """The list of pictures and captions that a dataset's reader opens, or the folder of pictures."""
    row = DATASETS[wildcards.dataset]
    if row["reader"] == "folder":
        return row["root"]
    return f"{row['root']}/{row['annotations']}"


def question_annotations(wildcards):
    """The files of questions and answers that a dataset's reader opens."""
    row = DATASETS[wildcards.dataset]
    return [
        path
        for split in row["splits"].values()
        for path in annotation_files(row["reader"], row["root"], split, "source" in row)
    ]


def dataset_row(wildcards):
    """The dataset's row, without what only sharing asks."""
    row = DATASETS[wildcards.dataset]
    return {key: row[key] for key in row if key not in ("licence", "pictures")}


def dataset_root(wildcards):
    return DATASETS[wildcards.dataset]["root"]


def checkpoint_files(path):
    """The files of a checkpoint, so that another one re-runs what it made.

    One that was made here stands for itself by config.json, which is as new as the rest: what a job
    depends on is then the same before and after the checkpoint was made.
    """
    folder = Path(path)
    if (folder / sources.MADE_OF).exists() or not (folder / "config.json").exists():
        return [str(folder / "config.json")]
    kinds = {".json", ".safetensors", ".bin", ".model", ".txt"}
    return sorted(str(path) for path in folder.rglob("*") if path.suffix in kinds)


ENCODER_FILES = checkpoint_files(ENCODER["path"])
CLIP_FILES = checkpoint_files(CLIP["path"])


def model_files(wildcards):
    return checkpoint_files(MODELS[wildcards.model]["path"])


def original_folders(wildcards):
    """Where the parts of a checkpoint stand as they were published."""
    parts = ABSENT[wildcards.checkpoint].originals
    return {part: f"{sources.ORIGINALS}/{each.folder}" for part, each in parts.items()}


def conversion_memory(wildcards, attempt):
    """MB, doubled at every new attempt: one and a half times the largest file, which has 10 GB at
    most, and Python with torch.
    """
    parts = ABSENT[wildcards.checkpoint].originals.values()
    needed = int(1500 * min(10, max(each.gigabytes for each in parts))) + 3000
    return doubled(needed, attempt, config["compute"]["max_mem_mb"])


def model_row(wildcards):
    """What a job has to know to load the model, and nothing that would re-run it needlessly."""
    row = MODELS[wildcards.model]
    return {key: row[key] for key in ("family", "path", "revision", "label", "units")}


def compute(*keys):
    """Settings of `compute` that a job uses; others do not make it run again."""
    settings = config["compute"]
    loading = {key: settings[key] for key in ("device", "dtype", "device_map", "quantization")}
    return {"loading": loading} | {key: settings[key] for key in ("threads", *keys)}


def reply_compute():
    """Settings of `compute` for replies, which may have a batch size of their own."""
    settings = compute("batch_size", "noise_batch_size")
    own = MMNEURON["evaluate"]["batch_size"]
    return settings | ({"noise_batch_size": own} if own else {})


def model_noise(wildcards):
    """Unit and levels of noise that fit the model's scale."""
    return MODELS[wildcards.model]["noise"]


def model_constant(name):
    """A setting that is bound to the model's scale and so stands in its row of the registry."""
    return lambda wildcards: MODELS[wildcards.model][name]


def pan_prompt(wildcards):
    """The configured prompt in the words of the model's family."""
    return PROMPTS[f"{MODELS[wildcards.model]['family']}.{PAN['prompt']}"]


def next_source(wildcards):
    """What the training of one of the world's LLaVA-NeXT models starts from."""
    settings = WORLD[wildcards.model]
    return f"results/world/models/{settings.get('grown_from') or settings['decoder']}"


def larger_settings(wildcards):
    """The section of the larger LLaVA-NeXT, None for the one that it grows from."""
    settings = WORLD[wildcards.model]
    return settings if "grown_from" in settings else None


def question_prompts(wildcards):
    """The templates in which the model's family is asked questions."""
    return PROMPTS[f"{MODELS[wildcards.model]['family']}.question"]


def question_wording(wildcards):
    """The templates of the configured evaluation."""
    return question_prompts(wildcards)[MMNEURON["evaluate"]["prompt"]]


def question_roots():
    """Where the pictures of each domain are: among the published files, or taken out of them."""
    extracted = f"results/{config['run']}/{{}}/mmneuron/pictures"
    return {
        domain: (
            extracted.format(dataset)
            if DATASETS[dataset]["reader"] == "doc_vqa"
            else DATASETS[dataset]["root"]
        )
        for domain, dataset in DOMAINS.items()
    }


def question_roles():
    """What is said to the model before the questions of each domain."""
    roles = PROMPTS["mmneuron.roles"]
    return {domain: roles.get(DATASETS[name]["reader"], "") for domain, name in DOMAINS.items()}


def lens_cases(wildcards):
    """The tokens that figures follow through this model, by figure."""
    cases = MMNEURON["lens"]["cases"].items()
    return {
        item: {key: case[key] for key in ("domain", "image", "text")}
        for item, case in cases
        if case["model"] == wildcards.model
    }


def decoding():
    """How replies are generated, and nothing of the strategies that are not taken."""
    chosen = MMNEURON["evaluate"]
    own = {"greedy": (), "beam": ("num_beams", "length_penalty"), "sample": ("temperature",)}
    return {key: chosen[key] for key in ("strategy", *own[chosen["strategy"]])}


def domain_questions(table):
    """A table of the questions of every domain, in the domains' order."""
    return [f"<results>/{dataset}/mmneuron/{table}.parquet" for dataset in DOMAINS.values()]


def share_name(percent):
    """A share as it stands in files' names: 0.5 is "0_5"."""
    return f"{percent:g}".replace(".", "_")


def model_memory(wildcards, attempt):
    """Main memory in MB: what the registry says of the model, doubled at every new attempt."""
    needed = MODELS[wildcards.model]["memory_mb"]
    return doubled(needed, attempt, config["compute"]["max_mem_mb"])


def model_runtime(wildcards, attempt):
    """Minutes: what the registry says of the model, doubled at every new attempt."""
    needed = MODELS[wildcards.model]["runtime"]
    return doubled(needed, attempt, config["compute"]["max_runtime"])


def doubled(needed, attempt, most):
    """Twice as much at every new attempt, up to what the cluster has; the first gets its need."""
    return max(needed, min(needed * 2 ** (attempt - 1), most))


def inpainting_options():
    """Options of the configured inpainting backend, and nothing of the other."""
    settings = TWO_STAGE["inpainting"]
    if settings["backend"] == "lama":
        return {"model": settings["lama_model"], "device": "cpu"}
    return {"radius": settings["radius"]}


def shards_of(path):
    """A path with {shard} for every shard; other wildcards stay."""
    return [path.replace("{shard}", shard) for shard in SHARDS]


def two_stage_variants(part):
    """method/variant names of a part; plain "two_stage" means the configured thresholds."""
    main = f"two_stage/{THRESHOLDS}"
    names = [main if name == "two_stage" else name for name in TWO_STAGE["methods"][part]]
    before = two_stage_variants("main") if part == "more" else []
    return [name for name in dict.fromkeys(names) if name not in before]


def thresholds_table(wildcards):
    """The table of thresholds by hand, for the variant that reads one."""
    return TWO_STAGE["thresholds"]["table"] if wildcards.variant == "manual" else []


def two_stage_part(wildcards):
    return two_stage_variants(wildcards.part)


def neuron_tables(wildcards):
    """The neuron tables whose neurons get noise, in the order of the methods."""
    return [
        f"<results>/{{dataset}}/{{model}}/neurons/{method}.{wildcards.site}.{variant}.parquet"
        for method, variant in (name.split("/") for name in two_stage_variants(wildcards.part))
    ]


def pan_neurons(variant, methods=("contribution", "activation", "attribution")):
    """Neuron tables of Pan et al. 2024; attribution is read before the activation function."""
    return [
        f"<results>/{{dataset}}/{{model}}/neurons/{method}.{site}.{variant}.parquet"
        for method in methods
        for site in (["pre"] if method == "attribution" else PAN["sites"])
    ]


DAPE_VARIANTS = [
    f"{MMNEURON['select']['variant']}-{share_name(share)}" for share in MMNEURON["select"]["shares"]
]
SITE = TWO_STAGE["sites"][0]
METHODS_DRAWN = [
    f"two_stage/{THRESHOLDS}",
    "attribution/all-layers",
    "attribution/no-last",
    "contribution/all-layers",
    "contribution/no-last",
]


METHODS_MAIN = two_stage_variants("main")
METHODS_ALL = [*METHODS_MAIN, *two_stage_variants("more")]
PARTS = [part for part in ("main", "more") if two_stage_variants(part)]
THRESHOLD_TABLES = [
    f"<results>/{{dataset}}/{{model}}/neurons/thresholds.{site}.{variant}.parquet"
    for site in TWO_STAGE["sites"]
    for variant in ("auto", "manual")
    if f"two_stage/{variant}" in METHODS_ALL
]


def two_stage_neurons(names, site=SITE):
    """Neuron tables of method/variant names, at the site that figures show unless told."""
    return [
        f"<two_stage>/neurons/{method}.{site}.{variant}.parquet"
        for method, variant in (name.split("/") for name in names)
    ]


def figure(name, formats=(*FORMATS, "csv")):
    """The files of one two-stage figure."""
    return [f"<results>/figures/two_stage/{name}.{end}" for end in formats]


TWO_STAGE_FIGURES = [
    path for name in ("figure1", "figure2", "figure3", "figureS1") for path in figure(name)
] + [
    path
    for name in ("table1", "table2", "table3", "table4", "table5")
    for path in figure(name, ("csv", "md"))
]
TWO_STAGE_MORE = [
    path for name in ("tableS1", "tableS2", "exclusions") for path in figure(name, ("csv", "md"))
]
