"""What jobs say: logs, progress with and without a terminal, and what a full GPU leads to."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmneurons.console import GPU_IS_FULL, gpu_is_full
from mmneurons.costs import read_rules

REPOSITORY = Path(__file__).parents[1]
RULES = read_rules(REPOSITORY / "rules")

LOOP = """
import logging, sys, time
from mmneurons import console
console.SECONDS = 0.25
console.log_to(sys.argv[1])
print("said")
print("complained", file=sys.stderr)
logging.getLogger("mmneurons.models").info("a fact")
for number in (bar := console.progress(range(100), description="squares")):
    time.sleep(0.01)
    bar.set_postfix(loss=f"{number}.5", refresh=False)
    if len(sys.argv) > 2 and number == 50:
        raise ValueError("half way")
"""


def run(code, *arguments, **streams):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, timeout=120, **streams)


def on_terminal(code, *arguments):
    """What a terminal of 80 columns shows of a program."""
    ours, its = pty.openpty()
    shown = b""
    try:
        run(code, *arguments, stdin=its, stdout=its, stderr=its, check=True)
        os.set_blocking(ours, False)
        while piece := os.read(ours, 65536):
            shown += piece
    except BlockingIOError:
        pass
    finally:
        os.close(its)
        os.close(ours)
    return shown.decode()


def lines_of_progress(text, name="squares"):
    return re.findall(rf"^{name}: .*$", text, re.MULTILINE)


def test_without_a_terminal_progress_is_lines_now_and_then(tmp_path):
    log = tmp_path / "rule.log"
    done = run(LOOP, log, capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
    text = log.read_bytes().decode()
    assert {"said", "complained", "a fact"} <= set(text.splitlines())
    assert "\r" not in text
    # About a second of work, and a line every quarter of one.
    between, last = lines_of_progress(text)[:-1], lines_of_progress(text)[-1]
    assert 2 <= len(between) <= 12
    assert re.fullmatch(
        r"squares: +\d+% \d+/100 \[00:0\d<00:0\d, .*it/s, loss=\d+\.5\]", between[0]
    )
    assert re.fullmatch(r"squares: 100% 100/100 \[.*, loss=99\.5\]", last)


def test_a_loop_that_fails_says_how_far_it_came(tmp_path):
    log = tmp_path / "rule.log"
    assert run(LOOP, log, "fail").returncode == 1
    text = log.read_text()
    assert " 50/100 " in lines_of_progress(text)[-1]
    assert text.endswith("ValueError: half way\n")


def test_a_terminal_shows_a_bar_and_the_log_does_not(tmp_path):
    log = tmp_path / "rule.log"
    shown = on_terminal(LOOP, log)
    assert shown.count("\rsquares: ") >= 3 and "|" in shown and "\n" not in shown.strip()
    assert log.read_text().splitlines() == ["said", "complained", "a fact"]


def test_progress_of_what_has_no_length(tmp_path):
    code = LOOP.replace("range(100)", "iter(range(100))")
    run(code, tmp_path / "rule.log", check=True)
    last = lines_of_progress((tmp_path / "rule.log").read_text())[-1]
    assert re.fullmatch(r"squares: 100 \[.*it/s, loss=99\.5\]", last)


def test_progress_of_nothing_is_one_line(tmp_path):
    code = LOOP.replace("range(100)", "[]")
    run(code, tmp_path / "rule.log", check=True)
    (line,) = lines_of_progress((tmp_path / "rule.log").read_text())
    assert re.fullmatch(r"squares: 0 \[00:00, \?it/s\]", line)
    assert "0it" in on_terminal(code, tmp_path / "rule.log")


# ----------------------------------------------------------------------- in Snakemake's jobs

SNAKEFILE = """
rule loop:
    output: "loop.txt"
    log: "loop.log"
    script: "loop.py"

rule full:
    output: "full.txt"
    log: "full.log"
    script: "full.py"
"""

IN_JOB = """
from pathlib import Path
from mmneurons.console import log_to, progress
log_to(snakemake.log[0])
for _ in progress(range(5000), description="items"):
    pass
Path(snakemake.output[0]).touch()
"""

FULL = """
import torch
from mmneurons.console import log_to
log_to(snakemake.log[0])
raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
"""


def test_jobs_of_snakemake_say_so_in_their_logs(tmp_path):
    for name, text in {"Snakefile": SNAKEFILE, "loop.py": IN_JOB, "full.py": FULL}.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", "--show-failed-logs"]
        + ["loop", "full"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1
    said = (tmp_path / "loop.log").read_bytes().decode()
    assert re.fullmatch(r"items: 100% 5000/5000 \[00:00<00:00, .*it/s\]\n", said)
    log = (tmp_path / "full.log").read_text()
    assert 'raise torch.OutOfMemoryError("CUDA out of memory' in log
    assert "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n" in log
    assert log.rstrip().endswith(GPU_IS_FULL.rstrip())
    for key in ("compute.batch_size", "compute.noise_batch_size", "compute.dtype", "gpu_model"):
        assert key in done.stdout


LOOPING = re.compile(r"\bgpu=|train_world_|inpaint_")
"""Rules whose jobs take long: those that hold a model, train one, or paint over many pictures."""


@pytest.mark.parametrize("rule", [name for name, r in RULES.items() if LOOPING.search(r.text)])
def test_jobs_that_take_long_show_progress(rule):
    for script in re.findall(r"\.\./(scripts/\w+\.py)", RULES[rule].text):
        assert re.search(r"\bprogress\b", (REPOSITORY / script).read_text()), script


# --------------------------------------------------------------------------------- a full GPU


def test_errors_of_a_full_gpu_are_told_from_others():
    import torch

    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.")
    assert gpu_is_full(full)
    assert gpu_is_full(RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"))
    assert gpu_is_full(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling create"))
    handle = "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"
    assert gpu_is_full(RuntimeError(handle))
    assert not gpu_is_full(RuntimeError(handle.replace("cublasCreate", "cublasGemmEx")))
    assert gpu_is_full(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not gpu_is_full(MemoryError())
    assert not gpu_is_full(RuntimeError("CUDA error: device-side assert triggered"))
    assert not gpu_is_full(ValueError("CUDA error: out of memory"))
    with pytest.raises(ValueError) as raised:
        try:
            raise full
        except torch.OutOfMemoryError as error:
            raise ValueError("batch 3 failed") from error
    assert gpu_is_full(raised.value)
