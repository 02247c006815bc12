"""The artifacts of the truth benchmark, made by the rules' scripts on a tiny model.

Nothing has to be learnt for that: two plantings of small random changes, one for an object that the
model knows and one as a control.
"""

import runpy
import sys
import types
from pathlib import Path

import numpy as np
from snakemake.iocontainers import InputFiles, OutputFiles

from mmneurons.artifacts.files import write_json
from mmneurons.artifacts.yaml_files import read_yaml
from mmneurons.interventions.planting import Planting, write_planting

REPOSITORY = Path(__file__).parents[1]
MODEL = "minigpt4-world"
LABEL = "MiniGPT-4 of a made-up world (tiny)"
PLANTINGS = {
    "cat-early": {"object": "cat", "place": "early", "layers": [1, 1]},
    "cat-last": {"object": "cat", "place": "last", "layers": [5, 5]},
    "control-last": {"object": None, "place": "last", "layers": [5, 5]},
}


def run_script(name, inputs, outputs, wildcards=None, **params):
    """Run the script of a rule as Snakemake would."""
    folder = Path(next(iter(outputs.values()))).parent
    folder.mkdir(parents=True, exist_ok=True)
    job = types.SimpleNamespace(
        input=InputFiles(fromdict={key: value for key, value in inputs.items()}),
        output=OutputFiles(fromdict={key: str(path) for key, path in outputs.items()}),
        wildcards=types.SimpleNamespace(**wildcards or {}),
        params=types.SimpleNamespace(**params),
        log=[str(folder / f"{name}.log")],
    )
    streams = sys.stdout, sys.stderr
    try:
        runpy.run_path(str(REPOSITORY / f"scripts/{name}.py"), init_globals={"snakemake": job})
    finally:
        sys.stdout, sys.stderr = streams


def write_plantings(folder):
    """Small random plantings; params of `record_truth` that name them."""
    folder.mkdir(parents=True)
    rows = {}
    for number, (name, row) in enumerate(PLANTINGS.items()):
        rng = np.random.default_rng(number)
        units = np.array([(layer, 3 * i) for i, layer in enumerate(row["layers"])], np.int32)
        shapes = {"inputs": (2, 2, 96), "output": (2, 96)}
        values = {k: rng.normal(0, 0.01, s).astype(np.float32) for k, s in shapes.items()}
        planting = Planting(units, biases=np.zeros((2, 2), np.float32), **values)
        write_planting(planting, folder / f"{name}.safetensors")
        facts = {"object": row["object"], "place": row["place"], "seed": 0, "old_kept": 1.0}
        facts |= {"old_exact": 0.7, "old_exact_before": 0.7, "naming": 0.9}
        facts |= (
            {"naming_before": 0.0, "false_alarms": 0.0} if row["object"] else {"naming_before": 0.9}
        )
        write_json(facts, folder / f"{name}.json")
        rows[name] = {"path": str(folder / name), "concept": "cat", "word": "cat"}
    return rows


def write(folder, shards=1):
    """All artifacts below a folder, by rule; each is what the rule leaves."""
    drawn = {"table": folder / "pictures.parquet", "pictures": folder / "pictures"}
    run_script("draw_truth_pictures", {}, drawn, concepts={"bus": 2, "cat": 4}, seed=1)
    plantings = write_plantings(folder / "plantings")
    row = read_yaml(REPOSITORY / "resources/models.yaml")[MODEL]
    prompts = read_yaml(REPOSITORY / "resources/prompts.yaml")
    names = ("standings", "plantings", "exclusions")
    for shard in range(shards):
        run_script(
            "record_truth",
            {key: str(path) for key, path in drawn.items()}
            | {"categories": str(REPOSITORY / "resources/categories/coco-world.txt")},
            {name: folder / f"shards/{shard}.{name}.parquet" for name in names},
            {"model": MODEL, "shard": str(shard)},
            model=row,
            compute={
                "loading": {"device": "cpu", "dtype": "float32"},
                "threads": 1,
                "batch_size": 2,
            },
            plantings=plantings,
            prompt=prompts["minigpt4.training"],
            others=["bus"],
            n_others=2,
            pictures=2,
            max_new_tokens=24,
            sites=["act", "post"],
            seed=1,
            shards=shards,
        )
    cut = {n: [str(folder / f"shards/{s}.{n}.parquet") for s in range(shards)] for n in names}
    record = {name: folder / f"record/{name}.parquet" for name in names}
    run_script("merge_truth", cut, record)
    metrics = {n: folder / f"metrics/{n}.csv" for n in ("scores", "summary", "curves")}
    inputs = {name: str(record[name]) for name in ("standings", "plantings")}
    run_script("evaluate_truth", inputs, metrics, seed=1)
    return {"drawn": drawn, "record": record, "metrics": metrics}


ITEM_INPUTS = {"figure2": "curves"} | dict.fromkeys(["figure1", "table1", "table3"], "summary")


def draw(made, item, folder):
    """One figure or table, with the script of its rule; its files by their ends."""
    kind = "figure" if item.startswith("figure") else "table"
    ends = ("svg", "png", "csv") if kind == "figure" else ("csv", "md")
    outputs = {end: folder / f"{item}.{end}" for end in ends}
    inputs = {name: [str(made["record"][name])] for name in ("plantings", "exclusions")}
    if item in ITEM_INPUTS:
        name = ITEM_INPUTS[item]
        inputs[name] = [str(made["metrics"][name])]
    params = {"item": item, "models": [LABEL]}
    params |= {"style": {}, "dpi": 60} if kind == "figure" else {"title": "A title"}
    run_script(f"draw_truth_{kind}", inputs, outputs, **params)
    return outputs
