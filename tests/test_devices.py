"""Which GPU a job takes: real processes and claims; stand-ins of torch and NVML show the GPUs."""

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from mmneurons.costs import read_rules

SCRIPTS = Path(__file__).parents[1] / "scripts"

TORCH = """
import os
from types import SimpleNamespace

uuids = [word.partition("=")[0] for word in os.environ["GPUS"].split()]
if "CUDA_VISIBLE_DEVICES" in os.environ:
    shown = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    uuids = [uuids[int(number)] for number in shown if number and uuids]

cuda = SimpleNamespace(
    is_available=lambda: bool(uuids),
    device_count=lambda: len(uuids),
    get_device_properties=lambda number: SimpleNamespace(uuid=uuids[number]),
    set_device=lambda number: print("current", number),
)
"""
"""A torch whose GPUs are words "UUID=FREE" of the variable GPUS."""

NVML = """
import os
from types import SimpleNamespace

# NVML numbers GPUs in another order than CUDA, and does not know CUDA_VISIBLE_DEVICES.
gpus = [word.split("=") for word in reversed(os.environ["GPUS"].split())]

def nvmlInit():
    if os.environ.get("NVML") == "fails":
        raise RuntimeError("Driver/library version mismatch")

nvmlShutdown = lambda: None
nvmlDeviceGetCount = lambda: len(gpus)
nvmlDeviceGetHandleByIndex = lambda number: gpus[number]
nvmlDeviceGetUUID = lambda gpu: f"GPU-{gpu[0]}"
nvmlDeviceGetMemoryInfo = lambda gpu: SimpleNamespace(free=int(gpu[1]))
"""

JOB = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="log %(levelname)s %(message)s", level="INFO")
from mmneurons.models.devices import NoDeviceError, pick_device
try:
    device = pick_device(sys.argv[1])
    assert pick_device(sys.argv[1]) == device
    print("device", device, flush=True)
except NoDeviceError as error:
    print("error", error, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Start a job that picks a device and holds it until its stdin is closed."""
    (tmp_path / "torch.py").write_text(TORCH)
    (tmp_path / "pynvml.py").write_text(NVML)
    with ExitStack() as jobs:

        def start(wanted="auto", gpus=(), **variables):
            # Names of this test alone, so that tests can run beside each other.
            words = " ".join(f"{tmp_path.name}-{os.getpid()}-{gpu}" for gpu in gpus)
            names = os.environ.keys() - {"CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS"}
            kept = {name: os.environ[name] for name in names}
            path = os.pathsep.join([str(tmp_path), str(SCRIPTS)])
            job = subprocess.Popen(
                [sys.executable, "-c", JOB, wanted],
                env=kept | {"PYTHONPATH": path, "GPUS": words} | variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            jobs.callback(job.communicate)
            return job

        yield start


def said(job):
    """What a job said until it had a device or none: {kind of line: words}."""
    lines = {}
    while not lines.keys() & {"device", "error"}:
        kind, _, words = job.stdout.readline().strip().partition(" ")
        assert kind, "the job ended"
        lines.setdefault(kind, words)
    return lines


FOUR = ("a=10", "b=40", "c=30", "d=20")


def test_jobs_that_start_together_never_share_a_gpu(start):
    jobs = [start(gpus=FOUR) for _ in range(8)]
    answers = [said(job) for job in jobs]
    devices = [answer.get("device") for answer in answers]
    assert sorted(filter(None, devices)) == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    refused = [answer["error"] for answer in answers if "error" in answer]
    assert len(refused) == 4 and all("--resources gpu=4" in error for error in refused)

    # The kernel frees what a killed job held, and nothing else.
    killed = devices.index("cuda:2")
    jobs[killed].send_signal(signal.SIGKILL)
    jobs[killed].wait()
    assert said(start(gpus=FOUR))["device"] == "cuda:2"
    assert "error" in said(start(gpus=FOUR))


def test_the_gpu_with_most_free_memory_comes_first_whatever_the_numbering(start):
    jobs = [start(gpus=FOUR)]
    answers = [said(jobs[0])]
    for _ in range(3):
        jobs.append(start(gpus=FOUR))
        answers.append(said(jobs[-1]))
    assert [answer["device"] for answer in answers] == ["cuda:1", "cuda:2", "cuda:3", "cuda:0"]
    assert [answer["current"] for answer in answers] == ["1", "2", "3", "0"]


@pytest.mark.parametrize("how", ["fails", "missing"])
def test_without_nvml_gpus_are_taken_in_cudas_order(start, how, tmp_path):
    if how == "missing":
        (tmp_path / "pynvml.py").write_text("raise ModuleNotFoundError('No module named pynvml')")
    answers = [said(start(gpus=FOUR, NVML=how)) for _ in range(2)]
    assert [answer["device"] for answer in answers] == ["cuda:0", "cuda:1"]
    reason = "version mismatch" if how == "fails" else "No module named pynvml"
    assert "NVML" in answers[0]["log"] and reason in answers[0]["log"]


def test_a_job_keeps_to_the_gpus_that_it_is_shown(start):
    # CUDA counts from 0 among the visible ones: of c and a, c has more free memory.
    assert said(start(gpus=FOUR, CUDA_VISIBLE_DEVICES="0,2"))["device"] == "cuda:1"
    second = start(gpus=FOUR, CUDA_VISIBLE_DEVICES="2,0")
    assert said(second)["device"] == "cuda:1"
    assert "gpu=2" in said(start(gpus=FOUR, CUDA_VISIBLE_DEVICES="2,0"))["error"]
    assert said(start(gpus=FOUR))["device"] == "cuda:1"


def test_the_only_gpu_that_a_cluster_shows_is_taken_without_asking(start):
    first = start(gpus=FOUR, CUDA_VISIBLE_DEVICES="3")
    assert said(first)["device"] == "cuda:0"
    # Clusters can give several jobs parts of one GPU.
    assert said(start(gpus=FOUR, CUDA_VISIBLE_DEVICES="3"))["device"] == "cuda:0"
    others = [said(start(gpus=FOUR))["device"] for _ in range(3)]
    assert "cuda:3" not in others


@pytest.mark.parametrize("hidden", [{}, {"CUDA_VISIBLE_DEVICES": ""}])
def test_without_a_gpu(start, hidden):
    gpus = FOUR if hidden else ()
    answer = said(start("auto", gpus, **hidden))
    assert answer["device"] == "cpu" and answer["log"].startswith("INFO This job runs on the CPU")
    error = said(start("cuda", gpus, **hidden))["error"]
    assert "compute.device is cuda" in error and "CUDA_VISIBLE_DEVICES" in error


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS"])
def test_a_job_whose_gpu_torch_cannot_use_warns(start, name):
    answer = said(start("auto", (), **{name: "0"}))
    assert answer["device"] == "cpu" and f"{name}=0" in answer["log"]
    assert answer["log"].startswith("WARNING THIS JOB WAS GIVEN A GPU AND RUNS ON THE CPU")


def test_the_cpu_is_taken_without_torch(start, tmp_path):
    (tmp_path / "torch.py").write_text("raise AssertionError('torch was imported')")
    assert said(start("cpu", FOUR)) == {"device": "cpu"}


def test_the_stand_in_has_nothing_that_nvml_lacks():
    pynvml = pytest.importorskip("pynvml")
    names = re.findall(r"\b(nvml[A-Z]\w+)", NVML)
    assert names and all(callable(getattr(pynvml, name)) for name in names)


def test_jobs_that_hold_a_model_can_ask_nvml():
    rules = read_rules(SCRIPTS.parent / "rules").values()
    texts = [rule.text for rule in rules if "load_model(" in script_of(rule)]
    environments = set(re.findall(r"\.\./(envs/\w+\.yaml)", "".join(texts)))
    assert environments
    for environment in environments:
        assert "nvidia-ml-py==" in (SCRIPTS.parent / environment).read_text(), environment


def script_of(rule):
    """The text of a rule's script, empty without one."""
    found = re.search(r"\.\./(scripts/\w+\.py)", rule.text)
    return (SCRIPTS.parent / found[1]).read_text() if found else ""
