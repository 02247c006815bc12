"""What a run cost, from benchmark files made by hand; and that every rule leaves one."""

import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmneurons.costs import STAGES, markdown, read_jobs, read_rules, summarise

REPOSITORY = Path(__file__).parents[1]
RULES = read_rules(REPOSITORY / "rules")
SCRIPTED = sorted(name for name, rule in RULES.items() if re.search(r"^ +script:", rule.text, re.M))

HEAD = "s h:m:s max_rss max_vms max_uss max_pss io_in io_out mean_load cpu_time".split()


def benchmark(path, *rows):
    """A benchmark file as Snakemake writes it, of (wall time, peak memory, CPU time)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [[s, "0:00:00", rss, *"23456", 50.0, cpu] for s, rss, cpu in rows]
    text = "\n".join("\t".join(map(str, line)) for line in [HEAD, *lines])
    path.write_text(text + "\n")


@pytest.fixture
def results(tmp_path):
    run, world = tmp_path / "run", tmp_path / "world"
    of_model = run / "benchmarks/coco/tiny.1"
    benchmark(of_model / "record_two_stage.0.tsv", (1800.0, 4000.5, 900.25))
    benchmark(of_model / "record_two_stage.1.tsv", (5400.0, 2000, 700))
    benchmark(of_model / "caption_pictures.0.tsv", (3600, "NA", "NA"))
    benchmark(of_model / "merge_records.tsv", (2.5, "-", 1))
    benchmark(of_model / "edit_concepts.0.tsv", ("NA", "NA", "NA"))
    benchmark(run / "benchmarks/share.tsv", (1, 100, 1), (3, 300, 2))
    (run / "benchmarks/browser.tsv").write_text("")
    benchmark(run / "benchmarks/retired_rule.tsv", (7, 70, 7))
    benchmark(world / "benchmarks/draw_world_coco.tsv", (10, 50, 9))
    benchmark(world / "benchmarks/train_world_captioner.llava-world.tsv", (60, 500, 110))
    # A log without a benchmark: the job failed, was killed, or runs. One with it is that job's.
    for stem in ("record_two_stage.0", "record_two_stage.2", "reply_to_questions.0"):
        log = run / f"logs/coco/tiny.1/{stem}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    return [run, world]


def test_costs_by_stage(results):
    table = summarise(read_jobs(results, RULES), ["stage"]).set_index("stage")
    expected = {
        # jobs, unknown, wall, CPU, memory, GPU hours
        "fetch": (1, 0, 10, 9, 50, 0),
        "world": (1, 0, 60, 110, 500, 0),
        "caption": (1, 1, 3600, np.nan, np.nan, 1),
        "record": (4, 2, 7202.5, 1601.25, 4000.5, 2),
        "intervene": (2, 2, np.nan, np.nan, np.nan, np.nan),
        "share": (2, 0, 4, 3, 300, 0),
        "browser": (1, 1, np.nan, np.nan, np.nan, 0),
        "unknown": (1, 0, 7, 7, 70, 0),
        "all": (13, 6, 10883.5, 1730.25, 4000.5, 3),
    }
    assert list(table.index) == list(expected)
    np.testing.assert_allclose(table.to_numpy(float), np.array(list(expected.values())))


def test_costs_by_rule_add_up_to_those_of_their_stage(results):
    jobs = read_jobs(results, RULES)
    stages, rules = summarise(jobs, ["stage"]), summarise(jobs, ["stage", "rule"])
    assert list(rules["stage"].unique()) == list(stages["stage"])
    sums = rules.groupby("stage", sort=False)[["jobs", "unknown", "wall_seconds"]].sum()
    assert sums.to_dict("list") == stages[list(sums)].fillna(0).to_dict("list")
    of_record = rules[rules["stage"] == "record"].set_index("rule")
    assert of_record["jobs"].to_dict() == {"merge_records": 1, "record_two_stage": 3}
    assert of_record["gpu_hours"].to_dict() == {"merge_records": 0, "record_two_stage": 2}


def test_what_is_not_known_is_not_shown_as_nothing(results):
    text = markdown(summarise(read_jobs(results, RULES), ["stage"]))
    (caption,) = re.findall(r"^\| caption .*$", text, re.M)
    assert caption.replace(" ", "") == "|caption|1|1|1:00:00|unknown|unknown|1.000|"
    (record,) = re.findall(r"^\| record .*$", text, re.M)
    assert record.replace(" ", "") == "|record|4|2|2:00:02|0:26:41|4.19|2.000|"


def test_several_gpus_count_several_times(tmp_path):
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/record_more.smk").write_text("rule large:\n    resources:\n        gpu=4,\n")
    benchmark(tmp_path / "run/benchmarks/large.a.b.tsv", (900, 1, 1))
    jobs = read_jobs([tmp_path / "run"], read_rules(tmp_path / "rules"))
    assert summarise(jobs, ["stage"])["gpu_hours"].to_list() == [1, 1]
    assert summarise(jobs, ["stage"])["stage"].to_list() == ["record", "all"]


def test_the_command(results, tmp_path, capsys):
    main = runpy.run_path(str(REPOSITORY / "scripts/summarise_costs.py"))["main"]
    assert main([str(results[0]), "--csv", str(tmp_path / "costs.csv")]) == 0
    said = capsys.readouterr().out
    assert "| world " in said and "| train_world_captioner " in said
    table = pd.read_csv(tmp_path / "costs.csv").set_index("rule")
    assert table.loc["caption_pictures", "gpu_hours"] == 1
    assert np.isnan(table.loc["reply_to_questions", "wall_seconds"])
    (tmp_path / "alone/empty").mkdir(parents=True)
    assert main([str(tmp_path / "alone/empty")]) == 1
    assert "No job" in capsys.readouterr().err


# ---------------------------------------------------------------------------- rules of the workflow


def test_rules_are_read_with_their_stages_and_gpus():
    assert {rule.stage for rule in RULES.values()} == set(STAGES)
    assert RULES["select_domains"].stage == "select" and RULES["select_domains"].gpus == 0
    assert RULES["record_domains"].stage == "record" and RULES["record_domains"].gpus == 1
    assert RULES["train_world_clip"].stage == "world"


@pytest.mark.parametrize("name", SCRIPTED)
def test_every_rule_has_a_log_and_a_benchmark_named_after_it(name):
    rule = RULES[name]
    (log,) = re.findall(
        r'^    log:\n        "(?:<logs>|results/world/logs)/(.+)\.log",$', rule.text, re.M
    )
    (benchmark,) = re.findall(
        r'^    benchmark:\n        "(?:<benchmarks>|results/world/benchmarks)/(.+)\.tsv"$',
        rule.text,
        re.M,
    )
    assert log == benchmark
    assert log.rpartition("/")[2].partition(".")[0] == name


@pytest.mark.parametrize("name", SCRIPTED)
def test_every_script_says_what_it_says_in_its_log(name):
    for script in re.findall(r"\.\./(scripts/\w+\.py)", RULES[name].text):
        assert "\nlog_to(snakemake.log[0])\n" in (REPOSITORY / script).read_text(), script
