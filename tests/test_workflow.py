"""The workflow as a user meets it: a whole small run, and what a change runs again.

One run of the smoke preset, in a copy of the repository, serves all tests; each change is tried as
a dry run and taken back.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
SMOKE = ["--configfile", "presets/smoke.yaml"]  # after the targets: it takes all that follow
RESULTS = "results/smoke/coco-world/minigpt4-world"
PAN = "results/smoke/sbu-world/llava-world"


def snakemake(folder, *arguments, check=True):
    """Run Snakemake in a copy of the repository; its whole output as text."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    assert not check or done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def planned(folder, *arguments):
    """Numbers of jobs by rule that a dry run announces; empty where there is nothing to do."""
    text = snakemake(folder, "--dry-run", *arguments)
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", text, re.MULTILINE | re.DOTALL)
    if table is None:
        assert "Nothing to be done" in text, text[-3000:]
        return {}
    rows = (line.split() for line in table[1].splitlines())
    targets = {"all", "two_stage", "pan", "demo"}
    return {name: int(count) for name, count in rows if name not in targets}


def copy_repository(folder):
    """The files that git would put into a commit now."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A copy of the repository in which the smoke preset's `all` has run."""
    folder = copy_repository(tmp_path_factory.mktemp("workflow"))
    snakemake(folder, "all", *SMOKE)
    return folder


@contextmanager
def changed(folder, name, change):
    """A file with its text changed, for the length of a test."""
    path = folder / name
    text, state = path.read_text(), path.stat()
    path.write_text(change(text))
    assert path.read_text() != text
    try:
        yield
    finally:
        path.write_text(text)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def overlay(folder, settings):
    """Arguments that lay settings over the smoke preset."""
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(settings))
    return [*SMOKE, "overlay.yaml"]


RECORDING = {"draw_world_coco", "choose_samples", "inpaint_objects", "caption_pictures"}
RECORDING |= {"keep_valid_samples", "record_two_stage", "merge_records", "record_gradcam"}


def test_nothing_to_do_after_a_run(finished):
    assert planned(finished, "all", *SMOKE) == {}


def test_threshold_reruns_selection_and_what_follows(finished):
    arguments = overlay(finished, {"two_stage": {"thresholds": {"share": 0.02}}})
    jobs = planned(finished, "all", *arguments)
    assert {"select_two_stage", "select_baselines", "caption_under_noise"} <= jobs.keys()
    assert not RECORDING & jobs.keys()


def test_style_reruns_one_figure(finished):
    with changed(finished, "scripts/draw_two_stage_figure2.py", lambda text: text + "\n# colour\n"):
        os.utime(finished / "scripts/draw_two_stage_figure2.py")
        jobs = planned(finished, "all", *SMOKE)
    assert jobs == {"two_stage_figure2": 1}


def test_library_change_reruns_the_rules_that_import_it(finished):
    def importers(module):
        """Rules whose scripts import a module, found otherwise than the workflow finds them."""
        library = finished / "scripts/mmneurons"
        reached = {f"mmneurons.{module}"}
        sources = {
            "mmneurons."
            + ".".join(path.relative_to(library).with_suffix("").parts): path.read_text()
            for path in library.rglob("*.py")
        }
        while True:
            more = {
                name
                for name, text in sources.items()
                if any(re.search(rf"(from|import) {re.escape(r)}\b", text) for r in reached)
            } - reached
            if not more:
                break
            reached |= more
        rules = set()
        for smk in (finished / "rules").glob("*.smk"):
            for name, text in re.findall(
                r"^rule (\w+):\n(.*?)(?=^rule |\Z)", smk.read_text(), re.S | re.M
            ):
                script = re.search(r'"\.\./scripts/(\w+\.py)"', text)
                if not script:
                    continue
                source = (finished / "scripts" / script[1]).read_text()
                if any(re.search(rf"(from|import) {re.escape(r)}\b", source) for r in reached):
                    rules.add(name)
        return rules

    all_rules = set(planned(finished, "all", "--forceall", *SMOKE))
    for module in ("methods.selection", "metrics.suppression", "interventions.noise"):
        name = f"scripts/mmneurons/{module.replace('.', '/')}.py"
        with changed(finished, name, lambda text: text + "\nADDED = 1\n"):
            jobs = planned(finished, "all", "--rerun-triggers", "params", *SMOKE)
        expected = importers(module) & all_rules
        assert expected and expected <= jobs.keys(), module
        # What stands in the plan beside them only follows from their new outputs.
        assert not (RECORDING - expected) & jobs.keys(), module


def test_adapter_change_reruns_what_holds_the_model(finished):
    name = "scripts/mmneurons/models/minigpt4.py"
    with changed(finished, name, lambda text: text + "\nADDED = 1\n"):
        jobs = planned(finished, "all", *SMOKE)
    assert {"caption_pictures", "record_two_stage", "caption_under_noise"} <= jobs.keys()
    assert "choose_samples" not in jobs


def test_comment_and_docstring_rerun_nothing(finished):
    name = "scripts/mmneurons/methods/two_stage.py"
    with changed(
        finished, name, lambda text: text.replace('"""Two-stage', '"""The two-stage', 1) + "# x\n"
    ):
        assert planned(finished, "all", *SMOKE) == {}


def test_shards_do_not_change_a_byte(finished, tmp_path):
    """Captions, recordings, neurons, captions under noise and metrics for 1 and 4 shards."""
    folder = copy_repository(tmp_path)
    shutil.copytree(finished / "results/world", folder / "results/world", dirs_exist_ok=True)
    arguments = overlay(folder, {"shards": 4})
    targets = [
        f"{RESULTS}/metrics/two_stage/suppression.act.main.csv",
        f"{RESULTS}/record/tokens.parquet",
        *(f"{PAN}/metrics/pan/{name}.csv" for name in ("invariance", "weight_noise", "edits")),
        f"{PAN}/record/pan_maps.safetensors",
    ]
    snakemake(folder, *targets, *arguments)
    compared = 0
    for path in sorted(path for part in (RESULTS, PAN) for path in (folder / part).rglob("*")):
        if path.is_file():
            twin = finished / path.relative_to(folder)
            assert path.read_bytes() == twin.read_bytes(), path.name
            compared += 1
    assert compared >= 32


def test_full_recording_leads_to_the_same_selection(finished, tmp_path):
    folder = copy_repository(tmp_path)
    shutil.copytree(finished / "results/world", folder / "results/world", dirs_exist_ok=True)
    arguments = overlay(folder, {"two_stage": {"record": "full"}})
    names = ["two_stage.act.auto", "two_stage.post.auto", "two_stage.act.gradact"]
    targets = [f"{RESULTS}/neurons/{name}.parquet" for name in names]
    snakemake(folder, *targets, *arguments)
    for target in targets:
        assert (folder / target).read_bytes() == (finished / target).read_bytes()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"two_stagee": {}}, ["two_stagee", "two_stage"]),
        ({"two_stage": {"objects": ["bananna"]}}, ["bananna", "banana"]),
        ({"two_stage": {"model": "minigpt4-wrld"}}, ["minigpt4-wrld", "minigpt4-world"]),
        ({"two_stage": {"noise": {"draws": 0}}}, ["two_stage.noise.draws", "at least 1"]),
        ({"two_stage": {"sites": ["acts"]}}, ["two_stage.sites", "act"]),
        ({"pan": {"models": ["lava-world"]}}, ["pan.models", "llava-world"]),
        ({"pan": {"dataset": "coco-world"}}, ["pan.dataset", "coco-world", "sbu"]),
        ({"pan": {"tagger": "stanza"}}, ["pan.stanza_models"]),
        ({"metrics": {"bleurt": "nowhere"}}, ["metrics.bleurt", "nowhere"]),
    ],
)
def test_bad_configuration_is_named_before_anything_runs(finished, settings, words):
    text = snakemake(finished, "--dry-run", *overlay(finished, settings), check=False)
    assert all(word in text for word in words), text[-2000:]
    assert "Traceback" not in text


def test_thresholds_that_select_nothing_are_listed(finished, tmp_path):
    folder = copy_repository(tmp_path)
    for part in ("world", "smoke"):
        shutil.copytree(
            finished / f"results/{part}", folder / f"results/{part}", dirs_exist_ok=True
        )
    (folder / "never.csv").write_text(
        "object,threshold_a,threshold_g\nbear,1e9,0\nbanana,-1e9,-1e9\n"
    )
    arguments = overlay(
        folder, {"two_stage": {"thresholds": {"variant": "manual", "table": "never.csv"}}}
    )
    target = f"{RESULTS}/metrics/two_stage/exclusions.parquet"
    # Only what depends on the thresholds is to run, whatever the clock of the copy says.
    snakemake(folder, target, "--rerun-triggers", "mtime", "params", *arguments)
    excluded = pd.read_parquet(folder / target).query("reason == 'empty-selection'")
    # Two samples for evaluation and one for calibration, at each of the two sites.
    assert excluded["group"].tolist() == ["bear"] * 6
    assert excluded["detail"].str.contains("manual").all()


def test_report_holds_the_figures(finished):
    report = finished / "report.zip"
    snakemake(finished, "all", "--report", str(report), *SMOKE)
    assert report.stat().st_size > 100_000


def test_facts_name_model_and_site(finished):
    sys_path = str(REPOSITORY / "scripts")
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]);"
        "from mmneurons.artifacts.tables import read_facts;"
        "print(json.dumps(read_facts(sys.argv[2])))"
    )
    path = finished / RESULTS / "neurons/two_stage.act.auto.parquet"
    facts = json.loads(
        subprocess.run(
            [sys.executable, "-c", code, sys_path, str(path)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert facts["model"] == "minigpt4-world"
    assert facts["site"] == "act"
    assert facts["rule"]["n_calibration"] == 2
