"""The workflow as a user meets it: a whole small run, and what a change runs again.

One run of the smoke preset, in a copy of the repository, serves all tests; each change is tried as
a dry run and taken back.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pandas as pd
import pytest
from smoke_run import REPOSITORY, SMOKE, changed, copy_repository, overlay, planned, snakemake

RESULTS = "results/smoke/coco-world/minigpt4-world"
PAN = "results/smoke/sbu-world/llava-world"
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


def test_report_holds_every_figure_with_its_caption(finished):
    report = finished / "report.zip"
    snakemake(finished, "all", "--report", str(report), *SMOKE)
    with zipfile.ZipFile(report) as archive:
        (page,) = [name for name in archive.namelist() if name.endswith("report.html")]
        text = archive.read(page).decode()

    def variable(name):
        return json.JSONDecoder().raw_decode("{" + text.split(f"var {name} = {{", 1)[1])[0]

    shown = variable("results")
    figures = finished / "results/smoke/figures"
    drawn = [path for path in figures.rglob("*") if path.suffix in (".svg", ".md")]
    for path in drawn:
        caption = shown[str(path.relative_to(finished))]["caption"]
        captions = REPOSITORY / "resources/captions" / path.parent.name
        title = (captions / f"{path.stem}.rst").read_text().split("\n")[0]
        assert title.split("'")[0] in html.unescape(caption), path.name
        assert "of the embedded world" in caption and "left out" in caption, path.name
        assert "{{" not in caption
    assert len(drawn) >= 51
    assert len([name for name in variable("categories") if "et al." in name or "Sato" in name]) == 3


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
