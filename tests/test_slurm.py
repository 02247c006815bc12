"""`snakemake --cores 8 --profile slurm` on a Slurm that these tests start, and things that die.

They install Debian packages and need root, so they run only if MMNEURONS_SLURM is "required", as it
is in .ci/run. One run of the smoke preset's `all` serves most of them: ten times something is
killed in it. Beside it go the few jobs of tests/slurm/Snakefile.
"""

import os
import re
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from slurm_cluster import Cluster, Killer, Run, processes_in, within
from smoke_run import REPOSITORY, SMOKE, copy_repository, planned

from mmneurons.costs import read_rules

if os.environ.get("MMNEURONS_SLURM") != "required":
    pytest.skip("starts a Slurm: only with MMNEURONS_SLURM=required", allow_module_level=True)

SEED = 2025
SMK = "\n".join(path.read_text() for path in sorted((REPOSITORY / "rules").glob("*.smk")))
GPU_RULES = {name for name, rule in read_rules(REPOSITORY / "rules").items() if rule.gpus}
LOCAL_RULES = {
    name
    for block in re.findall(r"^localrules:\n((?:    \w+,\n)+)", SMK, re.MULTILINE)
    for name in re.findall(r"\w+", block)
}
CUT_SHORT = {"CANCELLED", "NODE_FAIL", "PREEMPTED"}
"""How a job may end that has done its work."""


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
def beside(cluster, tmp_path_factory):
    """A run of tests/slurm/Snakefile, with the profile as it is."""
    folder = tmp_path_factory.mktemp("beside")
    shutil.copytree(REPOSITORY / "slurm", folder / "slurm")
    shutil.copy(REPOSITORY / "tests/slurm/Snakefile", folder)
    run = Run(folder)
    run.start()
    yield run
    run.end()


@pytest.fixture(scope="module")
def killed(cluster, beside, tmp_path_factory):
    """A copy of the repository in which `all` has run on Slurm, with ten things killed."""
    folder = copy_repository(tmp_path_factory.mktemp("clone"))
    run = Run(folder, "all", *SMOKE)
    killer = Killer(cluster, run, SEED)
    try:
        run.start()
        killer.finish(seconds=2400)
        assert run.process.returncode == 0, run.said()[-6000:]
        # From nothing to the end of `all`; meant to be less than 15 minutes on two cores.
        print(f"Slurm and the run on it took {time.monotonic() - cluster.started:.0f} s")
        yield killer
    finally:
        run.end()


def test_ten_things_were_killed(cluster, killed):
    assert Counter(kind for kind, _ in killed.killed) == Counter(Killer.KINDS)
    assert killed.refused
    states = Counter(job.state.partition(" ")[0] for job in cluster.accounted(killed.run.folder))
    assert states["CANCELLED"] >= 2
    assert states["FAILED"] >= 2
    assert states["NODE_FAIL"] >= 1
    assert states["PREEMPTED"] >= 1
    assert set(states) == {"CANCELLED", "FAILED", "NODE_FAIL", "PREEMPTED", "COMPLETED"}


MEASURED = r"metrics/comparison/costs\.csv$|figures/comparison/tableS2\."
"""Files that hold seconds, which no two runs share."""

LEFT_BY_A_KILL = r"(^|/)\.|shards/"
"""A file that was being written, and parts that Snakemake was killed before it could remove."""


def files_of(folder):
    results = folder / "results"
    parts = {path: path.relative_to(results) for path in results.rglob("*") if path.is_file()}
    kept = {path for path, part in parts.items() if not {"logs", "benchmarks"} & set(part.parts)}
    texts = {str(parts[path]): path for path in kept}
    return {n: path.read_bytes() for n, path in texts.items() if not re.search(MEASURED, n)}


def test_the_results_are_those_of_a_run_on_one_machine(killed, finished):
    here, there = files_of(killed.run.folder), files_of(finished)
    tables = [name for name in here if name.endswith((".csv", ".md", ".parquet"))]
    assert len(tables) > 150
    # Other tests ask the run on one machine for more than `all`.
    assert [n for n in here.keys() - there.keys() if not re.search(LEFT_BY_A_KILL, n)] == []
    assert [name for name in here.keys() & there.keys() if here[name] != there[name]] == []
    assert planned(killed.run.folder, "all", *SMOKE) == {}


def test_gpu_rules_and_only_they_held_a_gpu(cluster, killed):
    # What was cancelled in the queue was on no node and held nothing.
    jobs = [job for job in cluster.accounted(killed.run.folder) if "node=" in job.resources]
    assert GPU_RULES == {job.rule for job in jobs if "gres/gpu=1" in job.resources}
    assert not GPU_RULES & {job.rule for job in jobs if "gres/gpu" not in job.resources}
    assert {job.partition for job in jobs if job.rule in GPU_RULES} == {"gpu"}
    assert {job.partition for job in jobs if job.rule not in GPU_RULES} == {"cpu"}


def test_every_job_was_finished_once_and_none_draws(cluster, killed, tmp_path):
    """However much dies. More shards are more jobs of the stages that hold a model, no others."""
    fresh = copy_repository(tmp_path)
    expected = planned(fresh, "all", *SMOKE)
    states, rules = defaultdict(list), {}
    for job in cluster.accounted(killed.run.folder):
        states[job.comment].append(job.state.partition(" ")[0])
        rules[job.comment] = job.rule
    sent = {rule: n for rule, n in expected.items() if rule not in LOCAL_RULES}
    assert Counter(rules.values()) == sent
    # One that ended while the next Snakemake was planning was not known to be done.
    twice = {name for name in states if states[name].count("COMPLETED") > 1}
    assert twice <= killed.outlived
    # A job that is hit when its files are whole, or that waits to see that they are when it is
    # cancelled, is not done again: Slurm never calls it completed.
    unseen = {name: ended for name, ended in states.items() if "COMPLETED" not in ended}
    assert [name for name, ended in unseen.items() if not set(ended) & CUT_SHORT] == []
    assert len(unseen) <= len(Killer.KINDS), unseen
    more = planned(fresh, "all", *SMOKE, "--config", "shards=3")
    sharded = {rule for rule in expected if more[rule] != expected[rule]}
    assert {rule: more[rule] for rule in sharded} == {r: 3 * expected[r] for r in sharded}
    assert more.keys() == expected.keys()
    assert sharded == GPU_RULES - {"record_gradcam", "decode_neurons"}


def test_jobs_with_a_gpu_see_one_of_their_own(cluster, killed, beside):
    within(600, lambda: not beside.goes_on(), "the run has ended")
    jobs = [job for job in cluster.accounted(beside.folder) if job.rule == "record_two_stage"]
    assert {job.partition for job in jobs} == {"gpu"}
    assert all("gres/gpu=1" in job.resources for job in jobs)
    devices = {(beside.folder / f"shard{shard}.txt").read_text().strip() for shard in range(3)}
    assert devices == {"0", "1"}


def test_over_a_limit_a_job_is_tried_again_with_more(cluster, beside):
    within(600, lambda: not beside.goes_on(), "the run has ended")
    assert beside.process.returncode == 0, beside.said()[-3000:]
    jobs = cluster.accounted(beside.folder)
    lasting = [job for job in jobs if job.state not in ("NODE_FAIL", "PREEMPTED")]
    time_of = [(j.state, j.minutes) for j in lasting if j.rule == "over_time"]
    assert time_of == [("TIMEOUT", "1"), ("COMPLETED", "4")]
    memory_of = [(j.state, j.memory) for j in lasting if j.rule == "over_memory"]
    assert [memory for _, memory in memory_of] == ["450M", "900M"]
    assert [state in ("FAILED", "OUT_OF_MEMORY") for state, _ in memory_of] == [True, False]
    assert memory_of[-1][0] == "COMPLETED"


def test_nothing_is_left_running(cluster, killed, beside):
    for folder in (killed.run.folder, beside.folder):
        assert cluster.queue(folder) == {}
        cluster.end_lost(folder)
        within(30, lambda folder=folder: not processes_in(folder), "no process is left")
