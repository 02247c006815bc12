"""What a killed run left going, so that the next one does not write the same files beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_SCRIPT = re.compile(r"\.snakemake/scripts/\w+\.(\w+)\.py")
"""Snakemake runs a copy of a rule's script under such a name."""


class RunError(RuntimeError):
    """Another run is at work in the folder; the message is for the person who started this one."""


def left_over(
    folder: str | Path, slurm: bool = False, patience: float = 60
) -> tuple[dict[str, str], dict[int, str]]:
    """Slurm jobs and processes that an earlier run started in `folder`, both by number.

    slurm, patience: as `refuse_beside_others` has them.
    """
    return slurm_jobs(folder, slurm, patience), processes(folder)


def refuse_beside_others(
    folder: str | Path,
    slurm: bool = False,
    patience: float = 60,
    before: tuple[Mapping[str, str], Mapping[int, str]] = ({}, {}),
) -> None:
    """Raise `RunError` if jobs that an earlier run started in `folder` go on, or just did.

    Snakemake's own lock says only that a run was killed, and is taken away by hand; the jobs that
    it had started know nothing of that. slurm: whether this run needs Slurm, so that a Slurm that
    does not answer for `patience` seconds is an error. before: what `left_over` found before this
    run was planned. A job that has ended since then was planned again, as if it had done nothing.
    """
    jobs, others = left_over(folder, slurm, patience)
    ended = [
        *(f"Slurm job {job} {what}" for job, what in before[0].items() if job not in jobs),
        *(f"process {job}: {what}" for job, what in before[1].items() if job not in others),
    ]
    if jobs or others:
        lines = [
            f"An earlier run in {folder} was killed, and of its jobs these still go on:",
            *(f"Slurm job {job} {what}" for job, what in jobs.items()),
            *(f"process {process}: {what}" for process, what in others.items()),
            "Two jobs would write the same files. Wait until they have ended, what they finish is "
            "kept; or stop them, and start again:",
            *([f"scancel {' '.join(jobs)}"] if jobs else []),
            *([f"kill {' '.join(map(str, others))}"] if others else []),
        ]
        raise RunError("\n  ".join(lines))
    if ended:
        lines = [
            f"An earlier run in {folder} was killed, and of its jobs these ended only now:",
            *ended,
            "This run was planned before, and would do their work again. Start it again.",
        ]
        raise RunError("\n  ".join(lines))


def slurm_jobs(folder: str | Path, needed: bool, patience: float) -> dict[str, str]:
    """What this user's Slurm jobs of Snakemake in `folder` are, by number; {} without Slurm."""
    if not shutil.which("squeue"):
        return {}
    answer = _ask(["squeue", "--me", "--noheader", "--format=%i|%T|%k|%Z"], needed, patience)
    found = {}
    for line in answer.splitlines():
        job, state, comment, place = line.strip().split("|", 3)
        if re.match("(rule|group)_", comment) and Path(place).resolve() == Path(folder).resolve():
            found[job] = f"({state.lower()}): {comment.partition('_')[2]}"
    return found


def processes(folder: str | Path) -> dict[int, str]:
    """What the processes of this machine are that run a rule's script in `folder`, by number."""
    found = {}
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        script = _SCRIPT.search(" ".join(process.info["cmdline"] or ()))
        if script and process.info["cwd"] and Path(process.info["cwd"]) == Path(folder).resolve():
            found[process.info["pid"]] = script[1]
    return found


def _ask(command: Sequence[str], needed: bool, patience: float) -> str:
    """What a command prints. A controller that is just restarting is asked again."""
    end = time.monotonic() + patience
    while True:
        try:
            return subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=max(patience, 1)
            ).stdout
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
            if not needed:
                return ""
            if time.monotonic() >= end:
                said = (getattr(error, "stderr", None) or str(error)).strip()
                raise RunError(f"Slurm does not say which jobs are running: {said}") from error
        time.sleep(2)
