"""A whole small run in a copy of the repository, and what tests ask of it.

One run of the smoke preset serves all tests that need one: the fixture `finished` in conftest.py.
"""

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]
SMOKE = ["--configfile", "presets/smoke.yaml"]  # after the targets: it takes all that follow


def python(folder, *arguments, check=True):
    """Run Python in a copy of the repository; its whole output as text."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    assert not check or done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def snakemake(folder, *arguments, check=True):
    """Run Snakemake in a copy of the repository; its whole output as text.

    Two jobs with a model at a time: the machines of these tests have no GPU that they could share.
    """
    words = ("-m", "snakemake", "--resources", "gpu=2", "--cores", "2")
    return python(folder, *words, *arguments, check=check)


def planned(folder, *arguments):
    """Numbers of jobs by rule that a dry run announces; empty where there is nothing to do."""
    text = snakemake(folder, "--dry-run", *arguments)
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", text, re.MULTILINE | re.DOTALL)
    if table is None:
        assert "Nothing to be done" in text, text[-3000:]
        return {}
    rows = (line.split() for line in table[1].splitlines())
    targets = {"all", "two_stage", "pan", "mmneuron", "schwettmann", "demo"}
    return {name: int(count) for name, count in rows if name not in targets}


def copy_repository(folder):
    """The files that git would put into a commit now."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


@contextmanager
def changed(folder, name, change):
    """A file with its text changed, for the length of a test."""
    path = folder / name
    text, state = path.read_text(), path.stat()
    path.write_text(change(text))
    assert path.read_text() != text
    try:
        yield
    finally:
        path.write_text(text)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def overlay(folder, settings):
    """Arguments that lay settings over the smoke preset."""
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(settings))
    return [*SMOKE, "overlay.yaml"]
