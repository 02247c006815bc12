"""Write envs/Dockerfile and envs/apptainer.def from envs/*.yaml: `containerize.py`.

They come from `snakemake --containerize`, which prints a recipe for an image that holds the conda
environments where Snakemake looks for them. It leaves out their post-deploy scripts, though it
counts them in the names of the environments, and takes the base image of the day.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from mmneurons.artifacts.files import atomic

ROOT = Path(__file__).parents[1]
BASE = "condaforge/miniforge3:26.3.2-3"
HEAD = "# Written by scripts/containerize.py from envs/*.yaml.\n"

RECIPES = {"dockerfile": "Dockerfile", "apptainer": "apptainer.def"}
"""The formats that Snakemake knows, and files of envs/."""

THEN = {"dockerfile": " && \\\n    ", "apptainer": "\n    "}
"""What stands between two commands."""

CONDA = """#!/bin/sh
case "$*" in
  "info --json") echo '{"conda_prefix": "/opt/conda", "platform": "linux-64"}' ;;
  "--version") echo "conda 24.7.1" ;;
  *) echo '{"get": {"channel_priority": "strict"}}' ;;
esac
"""
"""Answers in place of a missing conda, which Snakemake asks for the platform of lock files."""


def printed(form: str) -> str:
    """What Snakemake prints in a format for all of envs/.

    It is asked about a workflow with a rule for each environment, because it refuses those that
    this workflow's rules choose by the configuration.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rules = (
            f"rule {path.stem}:\n    output: {path.stem!r}\n    conda: {str(path)!r}\n"
            f"    shell: 'touch {{output}}'\n"
            for path in sorted((ROOT / "envs").glob("*.yaml"))
        )
        (folder / "Snakefile").write_text("".join(rules), encoding="utf-8")
        (folder / "conda").write_text(CONDA, encoding="utf-8")
        (folder / "conda").chmod(0o755)
        options = ["--snakefile", folder / "Snakefile", "--containerize", form]
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *options, "--workflow-profile", "none"],
            cwd=ROOT,
            env=os.environ | {"PATH": f"{os.environ['PATH']}{os.pathsep}{folder}"},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def recipe(form: str) -> str:
    """The recipe in a format, with the base image pinned and the post-deploy scripts."""
    lines = [line for line in printed(form).splitlines() if not line.startswith("#")]
    text = HEAD + "\n".join(lines).replace("condaforge/miniforge3:latest", BASE) + "\n"
    clean = "conda clean --all -y"
    text = text.replace(clean, f"{clean}{THEN[form]}rm -rf ~/.cache/pip")
    for script in sorted((ROOT / "envs").glob("*.post-deploy.sh")):
        name = script.name.removesuffix(".post-deploy.sh")
        pattern = rf"^( *(?:COPY )?)envs/{name}\.yaml (\S+)/environment\.yaml$"
        copied = re.search(pattern, text, re.MULTILINE)
        copy, prefix = copied.groups()
        created = f"conda env create --prefix {prefix} --file {prefix}/environment.yaml"
        run = f"conda run --prefix {prefix} bash {prefix}/post-deploy.sh"
        also = f"{copied[0]}\n{copy}envs/{script.name} {prefix}/post-deploy.sh"
        text = text.replace(copied[0], also).replace(created, f"{created}{THEN[form]}{run}")
    return text


if __name__ == "__main__":
    for form, file in RECIPES.items():
        with atomic(ROOT / "envs" / file) as path:
            path.write_text(recipe(form), encoding="utf-8")
