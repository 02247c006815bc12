"""presets/paper.yaml in a fresh clone without a network: its plan, and how many jobs it has."""

import os
import re
import resource
import shutil
import subprocess
import sys

import pytest
import yaml
from smoke_run import REPOSITORY, copy_repository

PRESETS = {
    path.stem: yaml.safe_load(path.read_text()) for path in REPOSITORY.glob("presets/*.yaml")
}
NO_NETWORK = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HF_ENDPOINT")}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return copy_repository(tmp_path_factory.mktemp("clone"))


def dry_run(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "-n", *arguments]
    environment = os.environ | NO_NETWORK
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def jobs(folder, *arguments):
    """{rule: number of jobs} of a plan."""
    done = dry_run(folder, *arguments)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", done.stdout, re.MULTILINE | re.DOTALL)[1]
    return {name: int(count) for name, count in (line.split() for line in table.splitlines())}


def overlaid(folder, name, settings):
    """A preset with other settings, as a file."""
    path = folder / f"{name}.yaml"
    preset = PRESETS["paper"] | {"shards": settings["shards"]}
    for paper in ("two_stage", "pan", "mmneuron", "schwettmann"):
        preset[paper] = preset[paper] | settings.get(paper, {})
    path.write_text(yaml.safe_dump(preset))
    return path.name


def test_the_plan_takes_seconds_and_grows_with_shards_alone(clone):
    more = {
        "shards": 1,
        "two_stage": {"candidates_per_object": 120},
        "pan": {"pictures": 2000},
        "mmneuron": {"questions": {"identify": 42000, "evaluate": 2000}},
    }
    one = jobs(clone, "--configfile", overlaid(clone, "one", more))
    eight = overlaid(clone, "eight", {"shards": 8})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    many = jobs(clone, "--configfile", eight)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = sum(after[:2]) - sum(before[:2])  # of the processor: this machine does other things
    print(
        f"{sum(many.values())} jobs planned in {seconds:.1f} s; with one shard {sum(one.values())}"
    )
    assert seconds <= 30
    assert one.keys() == many.keys()
    sharded = {name for name in one if many[name] != one[name]}
    assert {"caption_pictures", "record_two_stage", "record_concepts", "record_domains"} <= sharded
    assert all(many[name] == 8 * one[name] for name in sharded)
    assert sum(many.values()) < 400
    # COCO twice (of its validation pictures captions too), SBU, and two splits each of VQAv2
    # (questions and answers), PMC-VQA, LingoQA (of its training part two tables), DocVQA and RSVQA
    # (questions and answers).
    assert many["download_dataset_file"] == 1 + 2 + 1 + 4 + 2 + 3 + 2 + 4
    # The archives that some are members of: COCO's, SBU's, and four of VQAv2.
    assert many["download_dataset_archive"] == 1 + 1 + 4
    # Every checkpoint, and what it is made of, once; the larger LLaVA-NeXT is for `all`.
    assert (many["convert_checkpoint"], many["fetch_original"]) == (7, 12)


def test_the_preset_is_those_of_the_papers_together():
    together = PRESETS["paper"]
    for name in ("two_stage", "pan", "mmneuron", "schwettmann"):
        assert together[name] == PRESETS[f"{name}_paper"][name]
    assert together["metrics"] == PRESETS["schwettmann_paper"]["metrics"]
    for key in ("dtype", "batch_size"):
        alone = [
            PRESETS[f"{paper}_paper"]["compute"].get(key) for paper in ("two_stage", "mmneuron")
        ]
        smallest = min(value for value in alone if value)
        assert together["compute"][key] == smallest
    # Smaller than in any paper's own: in the comparison LLaVA-NeXT has captions of this size too.
    alone = [PRESETS[f"{paper}_paper"]["compute"] for paper in ("two_stage", "schwettmann")]
    assert together["compute"]["noise_batch_size"] < min(own["noise_batch_size"] for own in alone)


@pytest.mark.parametrize("paper", ["two_stage", "pan", "mmneuron", "schwettmann"])
def test_the_preset_of_a_paper_names_its_target_and_shares_that_paper_alone(clone, paper):
    """A bundle or a browser of all papers would make the others' figures on the tiny models."""
    file = f"presets/{paper}_paper.yaml"
    command = f"snakemake {paper} --cores 8 --configfile {file}"
    for said in (REPOSITORY / file, REPOSITORY / "docs/models.md"):
        assert command in said.read_text("utf-8")
    preset = PRESETS[f"{paper}_paper"]
    assert preset["share"]["papers"] == preset["browser"]["papers"] == [paper]
    planned = jobs(clone, paper, "share", "browser", "--configfile", file)
    assert not {"draw_world_coco", "draw_world_sbu", "draw_world_vqav2"} & planned.keys()


def test_a_checkpoint_that_was_placed_is_never_made_again(clone):
    placed = clone / "resources/models/mplug-owl2-llama2-7b"
    placed.mkdir(parents=True)
    (placed / "config.json").write_text("{}")
    (placed / "pytorch_model.bin").write_bytes(b"mine")
    preset = ["--configfile", "presets/pan_paper.yaml"]
    tokens = "results/pan-paper/models/mplug-owl2-llama2-7b/neuron_tokens.parquet"
    assert jobs(clone, tokens, *preset) == {"decode_neurons": 1}


def test_the_rules_fetch_and_convert(tmp_path):
    """The rules on a tiny mPLUG-Owl2 in its published layout, of a hub on this machine."""
    import torch
    from hub_server import COMMIT, Hub, serving
    from test_checkpoints_convert import tiny_owl

    from mmneurons.models.mplug_owl2 import MPlugOwl2

    folder = copy_repository(tmp_path / "clone")
    originals, _, _ = tiny_owl(tmp_path)
    files = {path.name: path.read_bytes() for path in originals["checkpoint"].iterdir()}
    registry = folder / "resources/models.yaml"
    rows = yaml.safe_load(registry.read_text("utf-8"))
    (part,) = rows["mplug-owl2-llama2-7b"]["source"]["originals"].values()
    part["revision"] = COMMIT
    registry.write_text(yaml.safe_dump(rows, sort_keys=False))
    made = folder / "resources/models/mplug-owl2-llama2-7b"
    original = folder / "resources/originals/MAGAer13--mplug-owl2-llama2-7b"
    with serving(Hub(repositories={part["repo"]: files})) as hub:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "snakemake",
                "--cores",
                "1",
                f"{made.relative_to(folder)}/config.json",
            ],
            cwd=folder,
            env=os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    MPlugOwl2.load(made, "cpu", torch.float32).check({"language": 3 * 40, "vision": 2 * 32})
    receipt = yaml.safe_load((made / "source.json").read_text())["originals"]["checkpoint"]
    assert receipt["commit"] == COMMIT
    assert receipt["files"].keys() == {path.name for path in original.iterdir()} - {"download.json"}
    tokens = "results/pan-paper/models/mplug-owl2-llama2-7b/neuron_tokens.parquet"
    preset = ["--configfile", "presets/pan_paper.yaml"]
    shutil.rmtree(original)  # no longer needed, and never fetched again
    assert jobs(folder, tokens, *preset) == {"decode_neurons": 1}


def test_replies_alone_take_their_own_batch_size(clone):
    """Without one the parameters are what they were, so that no replies are made again."""
    rules = ("reply_to_questions", "ablate_units", "caption_under_noise")
    shown = "".join(f'print("{rule}", rules.{rule}.params.compute)\n' for rule in rules)
    (clone / "Shown").write_text((clone / "Snakefile").read_text("utf-8") + shown)

    def sizes(*arguments):
        done = dry_run(clone, "--snakefile", "Shown", *arguments)
        found = re.findall(r"^(\w+) \{.*'noise_batch_size': (\d+)\}$", done.stdout, re.MULTILINE)
        return {rule: int(size) for rule, size in found}

    (clone / "three.yaml").write_text("mmneuron: {evaluate: {batch_size: 3}}\n")
    own = sizes("--configfile", "three.yaml")
    assert sizes() == dict.fromkeys(rules, 105)
    assert own == sizes() | {"reply_to_questions": 3}
