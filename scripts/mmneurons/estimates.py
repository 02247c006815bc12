"""What a configuration will take: disk, memory and GPU hours by stage, from the registries alone.

Estimates, to plan with: no number here was measured on the papers' models. docs/models.md has the
formulas. A forward pass costs 2 operations a weight and token, a backward pass twice that on top. A
generated token reads every weight once a batch, and at least `STEP` passes before the next one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from mmneurons.datasets.sbu import RELEASED_POOL

PEAK = 312e12 * 0.4
"""Operations a second: an A100's in float16, of which 40 % are reached."""
BANDWIDTH = 2.0e12 * 0.6
"""Bytes a second: an A100's (80 GB), of which 60 % are reached."""
STEP = 0.03
"""Seconds between two generated tokens, at least: what transformers and Python take."""
WEIGHT = {"float32": 4, "float16": 2, "bfloat16": 2}
IMAGE_TOKENS = {
    **{"minigpt4": 64, "llava": 256, "llava_next": 2340, "instructblip": 32},
    **{"mplug_owl2": 65, "qwen2_5_vl": 391, "limber": 196},
}
"""A picture's, of LLaVA-NeXT and Qwen2.5-VL one of 640 x 480 pixels."""
TEXT_TOKENS = 80
"""A prompt's, about."""
CONCEPTS = 3
"""Of a caption, about."""
REPLY = 16
"""Tokens of a reply, about: it ends long before max_new_tokens."""
PARTS = 4
"""Of a model whose neurons are deactivated: each of three modules, and all."""
WHOLE = ("record_gradcam",)
"""Rules that have one job, whatever the number of shards."""
PICTURE = 0.2
"""Megabytes of a picture on the disk, about, where its dataset's row says nothing else."""


@dataclass(frozen=True)
class Work:
    """What one rule does with one model, all shards together.

    sequences: how often a prompt is read, `prompt` tokens each, with a backward pass or without;
    generated: tokens after each prompt, about; batch: sequences that are generated side by side,
    each with all its beams; most: tokens that one may have, if that is more than `generated`; part:
    which of the rule's jobs of a shard does it, where there are several.
    """

    stage: str
    rule: str
    model: str
    sequences: float
    prompt: int
    generated: int = 0
    backward: bool = False
    batch: int = 1
    beams: int = 1
    most: int = 0
    part: str = ""

    def cached(self) -> int:
        """Tokens whose keys and values are held at once, at most."""
        longest = self.prompt + max(self.generated, self.most)
        return self.batch * self.beams * longest if self.generated else 0

    def hours(self, parameters: float, weight: int) -> float:
        """GPU hours of a model of so many parameters, of `weight` bytes each."""
        passes = 2 * parameters * self.prompt * (3 if self.backward else 1) / PEAK
        step = max(STEP, weight * parameters / BANDWIDTH)
        batches = math.ceil(self.sequences / self.batch)
        return (self.sequences * passes + batches * self.generated * step) / 3600


def work_of(config: Mapping, models: Mapping[str, Mapping]) -> Iterator[Work]:
    """Every rule that holds a model of the configuration, for the target `all`.

    Models without `parameters` are left out: those of the embedded world, which take minutes.
    """

    def prompt(model: str) -> int:
        return IMAGE_TOKENS[models[model]["family"]] + TEXT_TOKENS

    compute = config["compute"]
    for found in (
        _two_stage(config["two_stage"], compute, models, prompt),
        _pan(config["pan"], compute, models, prompt),
        _mmneuron(config["mmneuron"], compute, prompt),
        _schwettmann(config["schwettmann"], compute, models, prompt),
        _comparison(config["comparison"], config["two_stage"], compute, models, prompt),
    ):
        yield from (work for work in found if "parameters" in models[work.model])


def _two_stage(two_stage, compute, models, prompt) -> Iterator[Work]:
    model, objects = two_stage["model"], len(two_stage["objects"])
    read, new = prompt(model), two_stage["max_new_tokens"]
    pictures = objects * two_stage["candidates_per_object"] * 2  # and each with its object removed
    batch = compute["batch_size"]
    yield Work("caption", "caption_pictures", model, pictures, read, new, batch=batch)
    samples = objects * (two_stage["pictures_per_object"] + two_stage["calibration_pictures"])
    yield Work("record", "record_two_stage", model, samples * 2, read, backward=True)
    shown = objects * two_stage["gradcam_pictures"]
    yield Work("record", "record_gradcam", model, shown, read, backward=True)
    levels = len(two_stage["noise"]["levels"] or models[model]["noise"]["levels"])
    control = two_stage["control"]
    captioned = two_stage["pictures_per_object"] + two_stage["other_pictures"]
    evaluated = objects * two_stage["pictures_per_object"]
    batch, rule = compute["noise_batch_size"], "caption_under_noise"
    for part, methods in two_stage["methods"].items():
        chance = sum(method.startswith("random") for method in methods)
        draws = (len(methods) - chance) * two_stage["noise"]["draws"]
        draws += chance * control["seeds"] * control["draws"]
        captions = evaluated * captioned * levels * draws
        # The paper's methods at every site, the others at the first one.
        for site in two_stage["sites"] if part == "main" else two_stage["sites"][:1]:
            own = f"{site}.{part}"
            yield Work("intervene", rule, model, captions, read, new, batch=batch, part=own)


def _pan(pan, compute, models, prompt) -> Iterator[Work]:
    for model in pan["models"]:
        read, new, batch = prompt(model), pan["max_new_tokens"], compute["batch_size"]
        # Each picture as it is and with its image tokens shuffled.
        pictures = 2 * pan["pictures"]
        yield Work("record", "record_concepts", model, pictures, read, new, batch=batch)
        concepts = pictures * CONCEPTS
        yield Work("record", "record_concepts", model, concepts, read + new, backward=True)
        noise = pan["weight_noise"]
        levels = sum(len(scale["levels"]) for scale in models[model]["weight_noise"])
        captions = noise["samples"] * levels * noise["draws"] * (1 + noise["control_seeds"])
        rule = "caption_under_weight_noise"
        yield Work("intervene", rule, model, captions, read, new, batch=batch)
        edit = pan["edit"]
        shown = 1 + edit["transfer_pictures"] + edit["locality_pictures"]
        captions = edit["pairs"] * shown * (2 + edit["control_seeds"])
        yield Work("intervene", "edit_concepts", model, captions, read, new, batch=shown)


def _mmneuron(mmneuron, compute, prompt) -> Iterator[Work]:
    domains = sum(1 for name in mmneuron["domains"].values() if name)
    for model in [*mmneuron["models"], *mmneuron["larger"]]:
        read, asked = prompt(model), mmneuron["questions"]
        questions = asked["identify"]
        if mmneuron["tokens"]:
            questions = min(questions, mmneuron["tokens"] / read)
        lens = min(mmneuron["lens"]["questions"], asked["evaluate"])
        yield Work("record", "record_domains", model, domains * (questions + lens), read)
        replies = (
            domains * asked["evaluate"] * (1 + PARTS * (1 + mmneuron["evaluate"]["control_seeds"]))
        )
        decoding = mmneuron["evaluate"]
        most = decoding["max_new_tokens"]
        beams = decoding["num_beams"] if decoding["strategy"] == "beam" else 1
        batch = decoding["batch_size"] or compute["noise_batch_size"]
        held = {"batch": batch, "beams": beams, "most": most}
        new = min(REPLY, most)
        yield Work("intervene", "reply_to_questions", model, replies, read, new, **held)


def _schwettmann(schwettmann, compute, models, prompt) -> Iterator[Work]:
    model = schwettmann["model"]
    read, new = prompt(model), schwettmann["max_new_tokens"]
    pictures, batch = _described(schwettmann), compute["batch_size"]
    rule = "record_attribution"
    yield Work("record", rule, model, pictures, read, new, batch=batch)
    yield Work("record", rule, model, pictures, read + new, backward=True)
    ablation = schwettmann["ablation"]
    # The best units, the interpretable ones and every random selection, at every number of units.
    each = len(models[model].get("ablation", ())) * (2 + ablation["control_seeds"])
    captions = ablation["pictures"] * each
    batch = compute["noise_batch_size"]
    yield Work("intervene", "ablate_units", model, captions, read, new, batch=batch)


def _described(schwettmann) -> int:
    """Pictures that are captioned: random ones, and those of single objects."""
    alone = schwettmann["single_objects"]
    return schwettmann["pictures"] + alone["categories"] * alone["pictures"]


def _comparison(comparison, two_stage, compute, models, prompt) -> Iterator[Work]:
    objects, asked = len(two_stage["objects"]), comparison["pictures"]
    for model in comparison["models"]:
        read, new = prompt(model), comparison["max_new_tokens"]
        candidates = objects * two_stage["candidates_per_object"] * 2
        batch, rule = compute["batch_size"], "record_comparison"
        yield Work("record", rule, model, candidates, read, new, batch=batch)
        # With the object and without it, and once more with shuffled image tokens.
        recorded = objects * asked["identify"] * 3
        yield Work("record", rule, model, recorded, read + new, backward=True)
        # Every method has random neurons of its layers beside it, drawn as often as those of all.
        methods, controls = len(comparison["methods"]) - 1, comparison["control_seeds"]
        selections = methods * (1 + controls) + controls
        levels = len(models[model].get("noise", {}).get("levels", ()))
        conditions = levels * comparison["noise_draws"] + 1
        shown = objects * (asked["test"] + comparison["other_pictures"])
        # Under each edit its own picture is captioned, and one of another object.
        edits = objects * asked["test"] * 2 * selections
        captions = shown * selections * conditions + edits
        batch, rule = compute["noise_batch_size"], "intervene_comparison"
        yield Work("intervene", rule, model, captions, read, new, batch=batch)


def job_hours(config: Mapping, models: Mapping[str, Mapping]) -> dict[tuple[str, str, str], float]:
    """Hours on one A100 of a job, by rule, model and part, if the shards are of one size.

    Loading the model is not counted: minutes, by the disk.
    """
    weight = WEIGHT[config["compute"]["dtype"]]
    found: Counter[tuple[str, str, str]] = Counter()
    for work in work_of(config, models):
        shards = 1 if work.rule in WHOLE else config["shards"]
        hours = work.hours(models[work.model]["parameters"], weight)
        found[work.rule, work.model, work.part] += hours / shards
    return dict(found)


def long_jobs(config: Mapping, models: Mapping[str, Mapping]) -> list[str]:
    """A line for every kind of job that may not end within what its first attempt asks for.

    That is `runtime` of the model's row. Estimates may be wrong by a factor of two, so half of it
    has to suffice.
    """
    return [
        f"{rule} with {model}{f' ({part})' if part else ''}: {_hours(hours)} hours a job, and "
        f"{_hours(models[model]['runtime'] / 60)} are asked for"
        for (rule, model, part), hours in job_hours(config, models).items()
        if hours * 2 > models[model]["runtime"] / 60
    ]


def table(config: Mapping, models: Mapping, encoders: Mapping, datasets: Mapping) -> str:
    """The estimates as a table in Markdown, a row a stage and model, and a sum.

    Columns: disk that is taken (GB), main memory of the largest job (GB), of a GPU (GB: the
    weights, half as much for activations, and keys and values of what is generated), hours on one
    A100. Pictures are those of the papers whose models are in the table.
    """
    weight = WEIGHT[config["compute"]["dtype"]]
    rows = [("stage", "of", "disk, GB", "memory, GB", "GPU memory, GB", "GPU hours")]
    work = list(work_of(config, models))
    named = dict.fromkeys(each.model for each in work)
    disk = 0.0
    used = [config["metrics"]["encoder"], config["metrics"]["clip"]]
    sources = [(name, models[name]) for name in named] + [(name, encoders[name]) for name in used]
    there: set[tuple[str, str]] = set()
    for name, row in sources:
        if "source" not in row:
            continue
        taken = _taken(row["source"], there)
        disk += taken
        rows.append(("fetch", f"`{name}`", f"{taken:.0f}", "", "", ""))
    for name, samples in _samples(config, named).items():
        if "source" not in datasets[name]:
            continue
        taken = _gigabytes(samples, datasets[name]["source"].get("kept", {}))
        disk += taken
        rows.append(("fetch", f"pictures of `{name}`", f"{taken:.1f}", "", "", ""))
    total = 0.0
    for stage in ("caption", "record", "intervene"):
        for model in named:
            own = [each for each in work if (each.stage, each.model) == (stage, model)]
            if not own:
                continue
            hours = sum(each.hours(models[model]["parameters"], weight) for each in own)
            total += hours
            memory = models[model]["memory_mb"] / 1000
            cache = max(each.cached() for each in own) * models[model]["kv"]
            gpu = weight * (1.5 * models[model]["parameters"] + cache) / 1e9
            figures = ("", f"{memory:.0f}", f"{gpu:.0f}", _hours(hours))
            rows.append((stage, f"`{model}`", *figures))
    rows.append(("all", "", f"{disk:.0f}", "", "", _hours(total)))
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "| --- | --- | ---: | ---: | ---: | ---: |", *body])


def _samples(config: Mapping, named: Container[str]) -> dict[str, int]:
    """Samples of each dataset that the papers with these models need, before any is left out."""
    two_stage, pan, mmneuron = config["two_stage"], config["pan"], config["mmneuron"]
    found: Counter[str] = Counter()
    if two_stage["model"] in named:
        found[two_stage["dataset"]] += (
            len(two_stage["objects"]) * two_stage["candidates_per_object"]
        )
    if any(model in named for model in pan["models"]):
        # The released code chooses of the first so many, which have to be there.
        pool = RELEASED_POOL if pan["variant"] == "released" else 0
        found[pan["dataset"]] += max(pool, pan["pictures"])
    if any(model in named for model in mmneuron["models"]):
        asked = mmneuron["questions"]
        for name in filter(None, mmneuron["domains"].values()):
            found[name] += asked["identify"] + asked["evaluate"]
    if config["schwettmann"]["model"] in named:
        found[config["schwettmann"]["dataset"]] += _described(config["schwettmann"])
    return dict(found)


def _taken(source: Mapping, there: set[tuple[str, str]]) -> float:
    """Gigabytes of a checkpoint: what is fetched, once more where it is converted.

    there: originals that another checkpoint has fetched already; those of this one are added.
    """
    parts = {
        (part.get("repo", ""), part.get("url", "")): part["gigabytes"]
        for part in source["originals"].values()
    }
    fetched = sum(size for part, size in parts.items() if part not in there)
    there.update(parts)
    # What is published for transformers is linked; of the others the originals may go afterwards.
    return fetched if source["convert"] == "transformers" else fetched + sum(parts.values())


def _gigabytes(samples: int, kept: Mapping) -> float:
    """What pictures of a dataset take; kept: as its row in the registry says."""
    pictures = min(samples * kept.get("frames", 1), kept.get("pictures", math.inf))
    return kept.get("gigabytes", 0) + pictures * kept.get("megabytes", PICTURE) / 1000


def _hours(hours: float) -> str:
    """Two figures: more would pretend to be known."""
    if hours < 0.1:
        return "< 0.1"
    digits = max(0, 1 - math.floor(math.log10(hours)))
    return f"{round(hours, 1 - math.floor(math.log10(hours))):,.{digits}f}"
