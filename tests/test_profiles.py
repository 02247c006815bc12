"""Profiles of other executors: dry runs, and jobs through stand-ins of the batch systems' commands.

The stand-ins run on this machine what they are given; which options they are given is looked at.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mmneurons.costs import read_rules

REPOSITORY = Path(__file__).parents[1]
GPU_RULES = {name for name, rule in read_rules(REPOSITORY / "rules").items() if rule.gpus}
OTHERS = ("lsf", "cluster-generic", "kubernetes")
PROFILES = {
    name: yaml.safe_load((REPOSITORY / f"profiles/{name}/config.yaml").read_text())
    for name in ("default", *OTHERS)
}


@pytest.mark.parametrize("name", OTHERS)
def test_no_key_stands_in_the_default_profile_too(name):
    # The default profile is read beside every other one and would win.
    assert not PROFILES["default"].keys() & PROFILES[name].keys()
    assert PROFILES[name]["retries"] == 2


def test_lsf_sends_the_gpu_rules_and_only_them_to_gpus():
    rules = PROFILES["lsf"]["set-resources"]
    assert rules.keys() == GPU_RULES
    assert all("-gpu num=1" in resources["lsf_extra"] for resources in rules.values())


def test_the_kubernetes_profile_gives_every_gpu_a_limit():
    # Its plugin takes gpu=1 of the rules; with `scale` it would set requests alone.
    resources = PROFILES["kubernetes"]["default-resources"]
    assert resources["gpu_manufacturer"] == "'nvidia'" and resources["scale"] == 0
    assert "set-resources" not in PROFILES["kubernetes"]


def snakemake(folder, *arguments, **variables):
    """Run Snakemake in a folder; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.parametrize("name", ["lsf", "cluster-generic"])
def test_the_workflow_can_be_planned(name, tmp_path):
    # With results of its own, so that what is planned does not depend on what is there.
    (tmp_path / "run.yaml").write_text("run: never-made\n")
    said = snakemake(
        REPOSITORY,
        *("--dry-run", "--profile", f"profiles/{name}", "--nolock"),
        *("--configfile", "presets/smoke.yaml", str(tmp_path / "run.yaml")),
    )
    assert f"profiles/{name} and workflow specific profile profiles/default" in said
    planned = set(re.findall(r"^(\w+) +\d+$", said, re.MULTILINE))
    assert {"caption_pictures", "record_concepts", "record_domains", "total"} <= planned


# --------------------------------------------------------------- jobs through stand-ins of commands

SNAKEFILE = """
rule all:
    input: "caption_pictures.txt", "merge_records.txt"

rule caption_pictures:
    output: "caption_pictures.txt"
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 5000 * 2 ** (attempt - 1),
        runtime=90,
    shell: "test -e once && echo done > {output} || (touch once; exit 1)"

rule merge_records:
    output: "merge_records.txt"
    shell: "echo done > {output}"
"""
"""Names of the workflow's rules; the one with a GPU fails at its first attempt."""

QSUB = r"""#!/bin/bash
printf '%s ' "${@:1:$#-1}" >> "$JOBS/submitted"; echo >> "$JOBS/submitted"
bash "${@: -1}" > "$JOBS/out.$$" 2>&1 &
echo "$$.server"
"""

BSUB = r"""#!/bin/bash
printf '%s ' "${@:1:$#-1}" >> "$JOBS/submitted"; echo >> "$JOBS/submitted"
echo RUN > "$JOBS/$$.state"
run() {
  if bash -c "$1" > "$JOBS/out.$$" 2>&1; then s=DONE; else s=EXIT; fi
  echo $s > "$JOBS/$$.state"
}
run "${@: -1}" > /dev/null 2>&1 &
echo "Job <$$> is submitted to queue <gpu>."
"""

BJOBS = r"""#!/bin/bash
for file in "$JOBS"/*.state; do n=${file##*/}; echo "${n%.state} $(cat "$file")"; done
"""

BADMIN = r"""#!/bin/bash
echo "MBD configuration"; echo "LSB_SHAREDIR = $JOBS"; echo "LSF_CONFDIR = $JOBS"
"""

LSCLUSTERS = r"""#!/bin/bash
echo "CLUSTER_NAME STATUS"; echo "stand-in ok"
"""

PBS = {"qsub": QSUB, "qdel": "#!/bin/bash\n"}
LSF = {"bsub": BSUB, "bjobs": BJOBS, "badmin": BADMIN, "lsclusters": LSCLUSTERS}


def submitted(folder, profile, commands):
    """Run the two rules by a profile; the options of each submission, in order."""
    jobs = folder / "jobs"
    (jobs / "lsbatch/stand-in/configdir").mkdir(parents=True)
    (jobs / "lsbatch/stand-in/configdir/lsb.params").touch()
    for name, text in commands.items():
        (jobs / name).write_text(text)
        (jobs / name).chmod(0o755)
    (folder / "Snakefile").write_text(SNAKEFILE)
    snakemake(
        folder,
        *("--profile", str(REPOSITORY / "profiles" / profile), "--latency-wait", "5"),
        *("--seconds-between-status-checks", "1"),
        PATH=f"{jobs}{os.pathsep}{os.environ['PATH']}",
        JOBS=str(jobs),
    )
    assert (folder / "caption_pictures.txt").exists() and (folder / "merge_records.txt").exists()
    time.sleep(0.2)  # the last stand-in ends just after its job
    return (jobs / "submitted").read_text().splitlines()


def test_jobs_of_cluster_generic(tmp_path):
    lines = submitted(tmp_path, "cluster-generic", PBS)
    assert sorted(line.strip() for line in lines) == [
        "-l select=1:ncpus=1:mem=10000mb:ngpus=1 -l walltime=90:00",
        "-l select=1:ncpus=1:mem=4000mb:ngpus=0 -l walltime=60:00",
        "-l select=1:ncpus=1:mem=5000mb:ngpus=1 -l walltime=90:00",
    ]


def test_jobs_of_lsf(tmp_path):
    lines = submitted(tmp_path, "lsf", LSF)
    found = sorted(
        (*re.findall(r"-q (\w+)|rusage\[mem=(\d+)|-W (\S+)", line), "-gpu num=1" in line)
        for line in lines
    )
    assert [(q[0], w[2], mem[1], gpu) for q, w, mem, gpu in found] == [
        ("gpu", "90", "10000", True),
        ("gpu", "90", "5000", True),
        ("normal", "60", "4000", False),
    ]


# ------------------------------------------------------------------- what docs/cluster.md says

TWO_GPUS = """
executor: cluster-generic
jobs: 4
cluster-generic-submit-cmd: >-
  echo {resources.gpu} {resources.nodes} {resources.slurm_partition} >> submitted; bash
set-resources:
  caption_pictures: {gpu: 2, nodes: 1, slurm_partition: "'open'"}
"""


@pytest.mark.parametrize(("given", "asked"), [([], "1"), (["--resources", "gpu=2"], "2")])
def test_two_gpus_for_a_job_need_the_command_line(given, asked, tmp_path):
    """The default profile's limit holds for what is submitted; in the job gpu is 2 either way."""
    (tmp_path / "profiles/default").mkdir(parents=True)
    default = (REPOSITORY / "profiles/default/config.yaml").read_text()
    (tmp_path / "profiles/default/config.yaml").write_text(default)
    (tmp_path / "two").mkdir()
    (tmp_path / "two/config.yaml").write_text(TWO_GPUS)
    (tmp_path / "Snakefile").write_text(
        'rule caption_pictures:\n    output: "a.txt"\n    resources: gpu=1\n'
        '    shell: "echo {resources.gpu} > {output}"\n'
    )
    snakemake(tmp_path, "--profile", "two", *given)
    # `open` is a function of Python: in two kinds of quotes it is a name all the same.
    assert (tmp_path / "submitted").read_text() == f"{asked} 1 open\n"
    assert (tmp_path / "a.txt").read_text() == "2\n"


NVIDIA_SMI = """#!/bin/sh
echo "GPU 0: NVIDIA A100 (UUID: GPU-a)"
echo "  MIG 1g.10gb Device 0: (UUID: MIG-a)"
echo "GPU 1: NVIDIA A100 (UUID: GPU-b)"
"""


@pytest.mark.parametrize(
    ("visible", "counted"),
    [(None, 2), ("", 7), ("-1", 7), ("3", 1), ("0,1,2", 3), ("MIG-a,GPU-b", 2)],
)
def test_make_counts_the_gpus_that_jobs_can_use(visible, counted, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for name in ("CUDA_VISIBLE_DEVICES", "GPUS", "MAKEFLAGS", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    command = ["make", "--silent", "--eval=said: ; @echo $(GPUS)", "CORES=7", "said"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == f"{counted}\n"
