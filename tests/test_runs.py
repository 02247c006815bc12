"""A run does not start beside what a killed run left going: its Slurm jobs and its processes."""

import os
import subprocess
import sys
import time

import pytest
from smoke_run import SMOKE, copy_repository, snakemake

from mmneurons.runs import RunError, left_over, processes, refuse_beside_others, slurm_jobs

TARGET = "results/smoke/coco-world/two_stage/samples.parquet"


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Puts a `squeue` before any other that prints given lines, or fails as often as is said.

    With `once` the jobs have ended when they are asked for again.
    """
    programs = tmp_path / "bin"
    programs.mkdir()

    def answers(*lines, failures=0, once=False):
        (programs / "left").write_text("x" * failures)
        (programs / "lines").write_text("".join(f"{line}\n" for line in lines))
        path = programs / "squeue"
        path.write_text(
            f'#!/bin/sh\ncd "{programs}"\n'
            "if [ -s left ]; then cut -c2- left > less; tr -d '\\n' < less > left;"
            " echo 'Unable to contact slurm controller' >&2; exit 1; fi\ncat lines\n"
            + ": > lines\n"
            * once
        )
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    return answers


@pytest.fixture
def script(tmp_path):
    """A process that runs a rule's script in a folder, as Snakemake starts it."""
    folder = tmp_path / "run"
    copy = folder / ".snakemake/scripts/tmp_a1b2.record_concepts.py"
    copy.parent.mkdir(parents=True)
    copy.write_text("import time; print('on', flush=True); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, ".snakemake/scripts/tmp_a1b2.record_concepts.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    try:
        yield folder, process
    finally:
        process.kill()
        process.wait()


def test_only_jobs_of_snakemake_in_this_folder_count(squeue, tmp_path):
    squeue(
        f"12|RUNNING|rule_record_concepts_wildcards_a_b|{tmp_path}",
        f"13_1|PENDING|rule_caption_pictures_wildcards_a|{tmp_path}",
        f"14|RUNNING|(null)|{tmp_path}",
        "15|RUNNING|rule_record_concepts_wildcards_a_b|/somewhere/else",
    )
    assert slurm_jobs(tmp_path, needed=True, patience=0) == {
        "12": "(running): record_concepts_wildcards_a_b",
        "13_1": "(pending): caption_pictures_wildcards_a",
    }


def test_a_controller_that_restarts_is_asked_again(squeue, tmp_path):
    squeue(f"12|RUNNING|rule_a|{tmp_path}", failures=2)
    started = time.monotonic()
    assert len(slurm_jobs(tmp_path, needed=True, patience=30)) == 1
    assert time.monotonic() - started < 15


def test_a_silent_slurm_stops_only_runs_that_need_it(squeue, tmp_path):
    squeue(failures=50)
    assert slurm_jobs(tmp_path, needed=False, patience=30) == {}
    with pytest.raises(RunError, match="Unable to contact slurm controller"):
        slurm_jobs(tmp_path, needed=True, patience=1)


def test_without_slurm_there_are_no_jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_jobs(tmp_path, needed=True, patience=0) == {}


def test_a_process_of_a_killed_run_is_found_until_it_ends(script, tmp_path):
    folder, process = script
    assert processes(tmp_path) == {}
    assert processes(folder) == {process.pid: "record_concepts"}
    with pytest.raises(RunError, match=f"process {process.pid}: record_concepts"):
        refuse_beside_others(folder)
    process.kill()
    process.wait()
    refuse_beside_others(folder)


def test_what_ended_while_a_run_was_planned_is_not_done_again(squeue, script, tmp_path):
    folder, process = script
    squeue(f"12|RUNNING|rule_a_wildcards_b|{folder}", once=True)
    before = left_over(folder, slurm=True)
    assert before == ({"12": "(running): a_wildcards_b"}, {process.pid: "record_concepts"})
    # What still goes on comes first.
    with pytest.raises(RunError, match=f"these still go on:\n  process {process.pid}"):
        refuse_beside_others(folder, slurm=True, before=before)
    process.kill()
    process.wait()
    with pytest.raises(RunError, match="ended only now:\n  Slurm job 12 .running.: a_wildcards_b"):
        refuse_beside_others(folder, slurm=True, before=before)
    refuse_beside_others(folder, slurm=True, before=left_over(folder))


def test_snakemake_refuses_to_work_beside_them_and_still_shows_what_it_would_do(squeue, tmp_path):
    folder = copy_repository(tmp_path / "clone")
    squeue(f"12|RUNNING|rule_choose_samples_wildcards_coco-world|{folder}")
    said = snakemake(folder, TARGET, *SMOKE, check=False)
    assert "Slurm job 12 (running): choose_samples_wildcards_coco-world" in said
    assert "scancel 12" in said and "Traceback" not in said
    assert not (folder / "results/smoke").exists() and not (folder / "results/world").exists()
    snakemake(folder, TARGET, *SMOKE, "--dry-run")
    snakemake(folder, "--unlock", *SMOKE)
    squeue(f"12|RUNNING|rule_choose_samples_wildcards_coco-world|{folder}", once=True)
    said = snakemake(folder, TARGET, *SMOKE, check=False)
    assert "ended only now" in said and "Slurm job 12" in said and "Traceback" not in said
    assert not (folder / "results/world").exists()
    squeue()
    snakemake(folder, TARGET, *SMOKE)
    assert (folder / TARGET).exists()
