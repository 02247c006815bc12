"""Where a job's model runs: jobs that run at the same time each get a GPU of their own.

A GPU is claimed for the lifetime of the process by binding an abstract Unix socket that is named
after its UUID (unix(7)). The kernel lets one process bind a name and takes it back when the
process ends, whatever ends it, so nothing has to be cleaned up and no claim outlives a job.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass

log = logging.getLogger(__name__)

CLAIMS: dict[str, socket.socket] = {}
"""The GPUs that this process holds, by UUID; open sockets, which its programs do not inherit."""


class NoDeviceError(RuntimeError):
    """There is no GPU where one was asked for, or other jobs hold all of them."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that CUDA shows this process.

    index: CUDA's number, which CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER change; uuid: the GPU's
    own name, as CUDA and NVML both give it, without "GPU-".
    """

    index: int
    uuid: str


def pick_device(wanted: str) -> str:
    """The device for a model, as torch names it: "cpu", or a GPU such as "cuda:1".

    wanted: "cpu"; "cuda", a GPU; or "auto", a GPU where there is one. Where CUDA_VISIBLE_DEVICES
    leaves one GPU, as a cluster does for its jobs, it is taken. Of several, the one with the most
    free memory is taken that no other process has claimed, and kept until this process ends; a
    second call gives it again. The log says where "auto" goes, and warns where it goes to the CPU
    although the job was given a GPU. Raises NoDeviceError.
    """
    if wanted == "cpu":
        return "cpu"
    gpus = visible_gpus()
    if not gpus:
        if wanted == "auto":
            say_cpu()
            return "cpu"
        raise NoDeviceError(
            "compute.device is cuda, but torch sees no GPU: set it to auto or cpu, or look at the "
            f"driver, the build of torch and CUDA_VISIBLE_DEVICES ({_visible_devices()})"
        )
    import torch

    gpu = _own(gpus)
    torch.cuda.set_device(gpu.index)  # for what torch makes without being told where
    log.info("This job's GPU is cuda:%d of %d visible (%s)", gpu.index, len(gpus), gpu.uuid)
    return f"cuda:{gpu.index}"


def claim_gpus(wanted: Collection[int] | None = None) -> list[int]:
    """Hold several GPUs until this process ends, for a model that is spread over them.

    wanted: CUDA's numbers; None: every visible GPU. Returns the numbers, none where there is no
    GPU and none is named. Raises NoDeviceError where one is missing or other jobs hold one.
    """
    gpus = {gpu.index: gpu for gpu in visible_gpus()}
    numbers = sorted(gpus if wanted is None else wanted)
    missing = [number for number in numbers if number not in gpus]
    if missing:
        raise NoDeviceError(
            f"there is no GPU {missing[0]}: torch sees {len(gpus)} "
            f"(CUDA_VISIBLE_DEVICES {_visible_devices()})"
        )
    if any(not claim(gpus[number].uuid) for number in numbers):
        raise NoDeviceError(
            "other jobs of this workflow hold some of the GPUs that this one's model is spread "
            "over: start snakemake with --resources gpu=1, and one snakemake at a time"
        )
    return numbers


def visible_gpus() -> list[Gpu]:
    """The GPUs that CUDA shows this process, in CUDA's order."""
    import torch

    if not torch.cuda.is_available():
        return []
    numbers = range(torch.cuda.device_count())
    return [Gpu(i, str(torch.cuda.get_device_properties(i).uuid)) for i in numbers]


def claim(uuid: str) -> bool:
    """Hold a GPU until this process ends; False where another process holds it."""
    if uuid in CLAIMS:
        return True
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0mmneurons-gpu-{uuid}")
    except OSError as error:
        holder.close()
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    CLAIMS[uuid] = holder
    return True


def free_memory() -> dict[str, int]:
    """Free bytes of every GPU that NVML sees, by UUID; empty where NVML cannot be asked.

    NVML is asked and not CUDA, which would take some hundred MB of each GPU it looks at.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
            return {
                pynvml.nvmlDeviceGetUUID(handle).removeprefix("GPU-"): (
                    pynvml.nvmlDeviceGetMemoryInfo(handle).free
                )
                for handle in handles
            }
        finally:
            pynvml.nvmlShutdown()
    except Exception as error:  # no package, driver or permission: there may be a GPU all the same
        log.warning("NVML says nothing of free memory (%s): GPUs are tried in CUDA's order", error)
        return {}


def _own(gpus: list[Gpu]) -> Gpu:
    """The GPU that this process holds from now on."""
    held = [gpu for gpu in gpus if gpu.uuid in CLAIMS]
    if held:
        return held[0]
    if len(gpus) == 1 and "CUDA_VISIBLE_DEVICES" in os.environ:
        # Who set it has decided, perhaps that several jobs share the GPU.
        claim(gpus[0].uuid)
        return gpus[0]
    free = free_memory()
    for gpu in sorted(gpus, key=lambda gpu: -free.get(gpu.uuid, 0)):
        if claim(gpu.uuid):
            return gpu
    raise NoDeviceError(
        f"other jobs of this workflow hold every GPU that this one may use ({len(gpus)}): start "
        f"snakemake with --resources gpu={len(gpus)} or fewer, and one snakemake at a time"
    )


def say_cpu() -> None:
    """Tell the log that the CPU is used: a warning where a GPU was given to this job."""
    given = {
        name: os.environ[name]
        for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS")
        if os.environ.get(name, "-1") not in ("", "-1", "NoDevFiles")
    }
    if not given:
        log.info("This job runs on the CPU: torch sees no GPU")
        return
    log.warning(
        "THIS JOB WAS GIVEN A GPU AND RUNS ON THE CPU, which takes far longer: torch cannot use "
        "the GPU that %s names. Look at the driver and the build of torch. With compute.device "
        "set to cuda such a job stops",
        ", ".join(f"{name}={value}" for name, value in given.items()),
    )


def _visible_devices() -> str:
    return repr(os.environ.get("CUDA_VISIBLE_DEVICES", "not set"))
