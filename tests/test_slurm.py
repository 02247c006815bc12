"""`snakemake --cores 8 --profile slurm` on a Slurm that these tests start, and things that die.

They install Debian packages and need root, so they run only if MMNEURONS_SLURM is "required", as it
is in .ci/run. One run of the smoke preset's `all`, in two shards, serves most of them: ten times
something is killed in it, and beside it two jobs stay over their limits.
"""

import os
import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from slurm_cluster import Cluster, Killer, Run, processes_in, within
from smoke_run import REPOSITORY, SMOKE, copy_repository, planned

if os.environ.get("MMNEURONS_SLURM") != "required":
    pytest.skip("starts a Slurm: only with MMNEURONS_SLURM=required", allow_module_level=True)

SEED = 2025
SMK = "\n".join(path.read_text() for path in sorted((REPOSITORY / "rules").glob("*.smk")))
GPU_RULES = {
    name
    for name, text in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", SMK, re.MULTILINE | re.DOTALL)
    if "gpu=" in text
}
LOCAL_RULES = set(
    re.findall(
        r"^    (\w+),$", "".join(re.findall(r"localrules:\n(.*?)\n\n", SMK, re.DOTALL)), re.M
    )
)


@pytest.fixture(scope="module")
def cluster():
    # munged wants every folder above its socket open to all, which those of pytest are not.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    cluster = Cluster(folder)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def over_limits(cluster, tmp_path_factory):
    """A run of two jobs that stay over a limit at first, with the profile as it is."""
    folder = tmp_path_factory.mktemp("over_limits")
    shutil.copytree(REPOSITORY / "slurm", folder / "slurm")
    shutil.copy(REPOSITORY / "tests/slurm/Snakefile", folder)
    run = Run(folder)
    run.start()
    yield run
    run.end()


@pytest.fixture(scope="module")
def killed(cluster, over_limits, tmp_path_factory):
    """A copy of the repository in which `all` has run on Slurm, with ten things killed."""
    folder = copy_repository(tmp_path_factory.mktemp("clone"))
    run = Run(folder, "all", *SMOKE, "--config", "shards=2")
    killer = Killer(cluster, run, SEED)
    try:
        run.start()
        killer.finish(seconds=2400)
        assert run.process.returncode == 0, run.said()[-6000:]
        killer.seconds = time.monotonic() - cluster.started
        yield killer
    finally:
        run.end()


def test_ten_things_were_killed(cluster, killed):
    assert Counter(kind for kind, _ in killed.killed) == Counter(Killer.KINDS)
    assert killed.refused
    states = Counter(job.state.partition(" ")[0] for job in cluster.accounted(killed.run.folder))
    assert states["CANCELLED"] >= 2
    assert states["FAILED"] == 2
    assert states["NODE_FAIL"] >= 1
    assert states["PREEMPTED"] >= 1
    assert set(states) == {"CANCELLED", "FAILED", "NODE_FAIL", "PREEMPTED", "COMPLETED"}


def files_of(folder):
    results = folder / "results"
    parts = {path: path.relative_to(results) for path in results.rglob("*") if path.is_file()}
    kept = {path for path, part in parts.items() if not {"logs", "benchmarks"} & set(part.parts)}
    return {str(parts[path]): path.read_bytes() for path in kept}


def test_the_results_are_those_of_a_run_on_one_machine(killed, finished):
    here, there = files_of(killed.run.folder), files_of(finished)
    tables = [name for name in there if name.endswith((".csv", ".md", ".parquet"))]
    assert len(tables) > 150
    assert here.keys() == there.keys()
    assert [name for name in there if here[name] != there[name]] == []
    assert planned(killed.run.folder, "all", *SMOKE, "--config", "shards=2") == {}


def test_gpu_rules_and_only_they_held_a_gpu(cluster, killed):
    jobs = cluster.accounted(killed.run.folder)
    assert GPU_RULES == {job.rule for job in jobs if "gres/gpu=1" in job.resources}
    assert not GPU_RULES & {job.rule for job in jobs if "gres/gpu" not in job.resources}
    assert {job.partition for job in jobs if job.rule in GPU_RULES} == {"gpu"}
    assert {job.partition for job in jobs if job.rule not in GPU_RULES} == {"cpu"}


def test_every_job_was_finished_once(cluster, killed, tmp_path):
    """One job a (stage, model, shard), however much dies, and drawing needs none."""
    fresh = copy_repository(tmp_path)
    expected = planned(fresh, "all", *SMOKE, "--config", "shards=2")
    expected = {rule: count for rule, count in expected.items() if rule not in LOCAL_RULES}
    jobs = cluster.accounted(killed.run.folder)
    completed = Counter(job.rule for job in jobs if job.state == "COMPLETED")
    assert completed == expected
    models = {"record_two_stage": 1, "record_concepts": 3, "record_domains": 3}
    assert {rule: completed[rule] for rule in models} == {r: n * 2 for r, n in models.items()}


def test_shards_of_one_model_are_an_array(cluster, killed):
    jobs = cluster.accounted(killed.run.folder)
    assert {"caption_pictures", "record_two_stage"} <= {j.rule for j in jobs if "_" in j.identity}


def test_over_a_limit_a_job_is_tried_again_with_more(cluster, over_limits):
    within(400, lambda: not over_limits.goes_on(), "the run has ended")
    assert over_limits.process.returncode == 0, over_limits.said()[-3000:]
    jobs = cluster.accounted(over_limits.folder)
    lasting = [job for job in jobs if job.state not in ("NODE_FAIL", "PREEMPTED")]
    time_of = [(j.state, j.minutes) for j in lasting if j.rule == "over_time"]
    assert time_of == [("TIMEOUT", "1"), ("COMPLETED", "2")]
    memory_of = [(j.state, j.memory) for j in lasting if j.rule == "over_memory"]
    assert [memory for _, memory in memory_of] == ["450M", "900M"]
    assert [state in ("FAILED", "OUT_OF_MEMORY") for state, _ in memory_of] == [True, False]
    assert memory_of[-1][0] == "COMPLETED"


def test_nothing_is_left_running(cluster, killed, over_limits):
    for folder in (killed.run.folder, over_limits.folder):
        assert cluster.queue(folder) == {}
        within(30, lambda folder=folder: not processes_in(folder), "no process is left")


def test_it_took_no_more_than_a_quarter_of_an_hour(killed):
    assert killed.seconds < 900
