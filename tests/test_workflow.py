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
import yaml
from smoke_run import REPOSITORY, SMOKE, changed, copy_repository, overlay, planned, snakemake

RESULTS = "results/smoke/coco-world/minigpt4-world"
PAN = "results/smoke/sbu-world/llava-world"
DOMAINS = "results/smoke/domains"
LIMBER = "results/smoke/coco-world/limber-world"
COMPARED, TRUTH = "results/smoke/coco-world/llava-world", "results/smoke/truth"
NEXT, BLIP = f"{DOMAINS}/llava-next-world", f"{DOMAINS}/instructblip-world"


def copy_with_world(finished, folder):
    """The repository, and the drawn data of the finished run."""
    copy_repository(folder)
    shutil.copytree(finished / "results/world", folder / "results/world", dirs_exist_ok=True)
    return folder


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


def files_of(folder):
    """All files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_shards_do_not_change_a_byte(finished, tmp_path):
    """Captions, recordings, neurons, what follows from them and metrics for 1 and 4 shards."""
    folder = copy_with_world(finished, tmp_path)
    arguments = overlay(folder, {"shards": 4})
    targets = [
        f"{RESULTS}/metrics/two_stage/suppression.act.main.csv",
        f"{RESULTS}/record/tokens.parquet",
        *(f"{PAN}/metrics/pan/{name}.csv" for name in ("invariance", "weight_noise", "edits")),
        f"{PAN}/record/pan_maps.safetensors",
        *(str(path.relative_to(finished)) for path in files_of(finished / NEXT)),
        f"{LIMBER}/schwettmann/metrics/iou.csv",
        f"{LIMBER}/schwettmann/metrics/ablation.csv",
        f"{COMPARED}/metrics/comparison/cells.csv",
        f"{TRUTH}/minigpt4-world/metrics/scores.csv",
    ]
    snakemake(folder, *targets, *arguments)
    parts = (RESULTS, PAN, DOMAINS, LIMBER, COMPARED, TRUTH)
    compared = [path for part in parts for path in files_of(folder / part)]
    for path in compared:
        if path.name != "costs.csv":  # measured seconds
            same = (finished / path.relative_to(folder)).read_bytes()
            assert path.read_bytes() == same, path.name
    assert len(compared) >= 32 + 15 + 20


def test_full_recording_leads_to_the_same_selection(finished, tmp_path):
    folder = copy_with_world(finished, tmp_path)
    arguments = overlay(folder, {"two_stage": {"record": "full"}})
    names = ["two_stage.act.auto", "two_stage.post.auto", "two_stage.act.gradact"]
    targets = [f"{RESULTS}/neurons/{name}.parquet" for name in names]
    snakemake(folder, *targets, *arguments)
    for target in targets:
        assert (folder / target).read_bytes() == (finished / target).read_bytes()


def test_counts_kept_by_group_lead_to_the_same_neurons(finished, tmp_path):
    """And the rest of the recording does not hang on how counts are kept, nor on two shards."""
    folder = copy_with_world(finished, tmp_path)
    arguments = overlay(folder, {"shards": 2, "mmneuron": {"record": "groups"}})
    parts = [path for kind in ("record", "neurons") for path in files_of(finished / BLIP / kind)]
    targets = [str(path.relative_to(finished)) for path in parts]
    snakemake(folder, *targets, *arguments)
    kept = f"{BLIP}/record/sample_counts.parquet"
    for target in targets:
        same = (folder / target).read_bytes() == (finished / target).read_bytes()
        assert same == (target != kept), target
    columns = ["sample_id", "group", "n_samples"]
    samples, groups = (pd.read_parquet(at / kept, columns=columns) for at in (finished, folder))
    assert samples["n_samples"].eq(1).all() and samples["sample_id"].is_unique
    assert groups["sample_id"].eq("").all()
    summed = groups.groupby("group")["n_samples"].sum()
    assert summed.to_dict() == samples["group"].value_counts().to_dict()


READING_QUESTIONS = {"draw_world_vqav2", "choose_questions", "collect_questions"}


@pytest.mark.parametrize(
    ("shares", "again"),
    [
        ([2, 5], {"select_domains", "reply_to_questions", "evaluate_deviation"}),
        ([1, 9], {"select_domains"}),
    ],
)
def test_shares_rerun_selection_and_what_follows(finished, shares, again):
    arguments = overlay(finished, {"mmneuron": {"select": {"shares": shares}}})
    jobs = planned(finished, "mmneuron", *arguments)
    assert again <= jobs.keys()
    assert not jobs.keys() & {*READING_QUESTIONS, "record_domains", "merge_counts"}
    # The second share is that of a table, the first that of everything else.
    assert ("reply_to_questions" in jobs) == ("reply_to_questions" in again)
    assert jobs.get("draw_mmneuron_table") == (1 if shares[0] == 1 else 6)
    assert jobs.get("draw_mmneuron_figure") == (None if shares[0] == 1 else 1)


def test_another_token_in_a_lens_figure_records_that_model_again(finished):
    case = {"mmneuron": {"lens": {"cases": {"figure6": {"text": -2}}}}}
    jobs = planned(finished, "mmneuron", *overlay(finished, case))
    assert jobs["record_domains"] == jobs["merge_counts"] == jobs["reply_to_questions"] == 1
    assert not READING_QUESTIONS & jobs.keys()


def test_size_of_a_figure_of_domains_redraws_it_alone(finished):
    size = {"figures": {"mmneuron": {"figure5": {"height": 2.2}}}}
    assert planned(finished, "mmneuron", *overlay(finished, size)) == {"draw_mmneuron_figure": 1}


def spoil(finished, folder):
    """Copies of the drawn data with a fault each; questions of three domains that have one."""

    def first(dataset):
        questions = pd.read_parquet(
            finished / f"results/smoke/{dataset}/mmneuron/questions.parquet"
        )
        return questions.iloc[0]

    world = folder / "results/world"
    for name in ("vqav2", "pmc_vqa", "lingo_qa", "rsvqa"):
        shutil.copytree(world / name, folder / "spoilt" / name)
    common, medical, driving = map(first, ("vqav2-world", "pmc-vqa-world", "lingo-qa-world"))
    (folder / "spoilt/vqav2" / common["files"][0]).unlink()
    (folder / "spoilt/lingo_qa" / driving["files"][2]).unlink()
    rows = folder / "spoilt/pmc_vqa/train.csv"
    table = pd.read_csv(rows, dtype="str", keep_default_na=False)
    table.loc[int(medical["source_id"].removeprefix("train-")), ["Answer", "Answer_label"]] = "E"
    table.to_csv(rows, index=False)
    asked = folder / "spoilt/rsvqa/USGS_split_train_questions.json"
    listed = json.loads(asked.read_text())
    active = [question for question in listed["questions"] if question["active"]]
    pictures = sorted({question["img_id"] for question in active})[:2]
    for question in active:
        question["active"] = question["img_id"] in pictures
    asked.write_text(json.dumps(listed))
    registry = folder / "resources/datasets.yaml"
    datasets = yaml.safe_load(registry.read_text())
    for name in ("vqav2", "pmc-vqa", "lingo-qa", "rsvqa"):
        row = datasets[f"{name}-world"] | {"root": f"spoilt/{name.replace('-', '_')}"}
        datasets[f"{name}-spoilt"] = row
    registry.write_text(yaml.safe_dump(datasets))
    return [row["sample_id"] for row in (common, medical, driving)]


def test_questions_and_domains_that_lack_something_are_listed(finished, tmp_path):
    folder = copy_with_world(finished, tmp_path)
    common, medical, driving = spoil(finished, folder)
    case = {"model": "llava-next-world", "text": -1}
    settings = {
        "domains": {
            "common": "vqav2-spoilt",
            "medical": "pmc-vqa-spoilt",
            "driving": "lingo-qa-spoilt",
            "remote": "rsvqa-spoilt",
        },
        "models": ["llava-next-world"],
        "larger": [],
        "questions": {"identify": 4, "evaluate": 2},
        # A question of 128 x 128 pixels and more has about a hundred.
        "tokens": 300,
        # Of 96 units of the projector none, of 1,536 and 2,304 one each.
        "select": {"shares": [0.05, 5]},
        "evaluate": {"max_new_tokens": 2, "control_seeds": 1},
        "lens": {
            "questions": 1,
            "cases": dict.fromkeys(["figure10", "figure11", "figure12", "figure13"], case)
            | {"figure6": case | {"text": -999}},
        },
    }
    items = ["exclusions.csv", "table1.md", "table3.csv", "figure6.csv"]
    figures = folder / "results/smoke/figures/mmneuron"
    targets = [f"results/smoke/figures/mmneuron/{item}" for item in items]
    snakemake(folder, *targets, *overlay(folder, {"mmneuron": settings}))
    excluded = pd.read_csv(figures / "exclusions.csv", keep_default_na=False)
    columns = ["stage", "sample_id", "group", "reason"]
    remote = pd.read_parquet(folder / DOMAINS / "questions.parquet").query("group == 'remote'")
    (shown,) = remote.query("part == 'evaluate' and order == 0")["sample_id"]
    assert sorted(excluded[columns].itertuples(index=False, name=None)) == sorted(
        [
            ("prepare", common, "common", "no-picture"),
            ("prepare", medical, "medical", "label-is-no-option"),
            ("prepare", driving, "driving", "missing-frame"),
            ("prepare", "", "remote", "too-few-questions"),
            ("record", "", "remote", "fewer-tokens"),
            ("record", shown, "remote", "no-such-token"),
        ]
    )
    details = dict(zip(excluded["reason"], excluded["detail"], strict=True))
    assert "wanted 4, found 2" in details["too-few-questions"]
    assert "300 are the budget" in details["fewer-tokens"]
    assert "figure6: text token 999 from the end" in details["no-such-token"]
    # Domains without a neuron are there, and lose nothing.
    neurons = pd.read_csv(figures / "table1.csv").query("group != 'any'")
    neurons = neurons.set_index(["part", "group"])["neurons"]
    assert (neurons["projector"] == 0).all() and len(neurons["projector"]) == 5
    assert 1 <= neurons["language"].sum() <= 5 and (neurons["language"] == 0).any()
    page = (figures / "table1.md").read_text()
    (line,) = re.findall(r"^\| projector .*$", page, re.MULTILINE)
    assert line.count("none") == 5
    said = ", ".join(f"1 {reason}" for reason in sorted(excluded["reason"]))
    assert f"Left out: LLaVA-NeXT of the embedded world: {said}." in page
    moved = pd.read_csv(figures / "table3.csv").query("condition == 'projector'")
    assert len(moved) and (moved["value"] == 0).all()


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
        ({"mmneuron": {"domains": {"remote": "sbu-world"}}}, ["mmneuron.domains.remote", "sbu"]),
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
    assert len([name for name in variable("categories") if "et al." in name or "Sato" in name]) == 4


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
