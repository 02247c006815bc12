"""An environment of envs/ without conda: its pip pins in a virtual environment, by uv."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

INDEX_OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraints",
    "trusted-host": "--allow-insecure-host",
}
"""Settings of pip that say where packages are, each a list of words, and uv's options."""


def build(environment: Path, folder: Path) -> Path:
    """Install what an environment file and its post-deploy script ask for; its interpreter.

    Only Python is not conda's: of the same minor version where this machine has one. Raises
    CalledProcessError where something cannot be installed; what was said stands on stderr.
    """
    versions, by_pip = dependencies(environment)
    python = make(folder, versions["python"])
    install(python, f"pip=={versions['pip']}.*", *by_pip)
    script = environment.with_suffix(".post-deploy.sh")
    if script.exists():
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        active = os.environ | {"PATH": path, "CONDA_PREFIX": str(folder)}
        active |= {"PIP_QUIET": "1", "PIP_NO_COMPILE": "1"}
        subprocess.run(["bash", script], env=active, check=True, stdout=sys.stderr)
    return python


def dependencies(environment: Path) -> tuple[dict[str, str], list[str]]:
    """What comes from conda's channels, as {name: beginning of its version}, and pip's pins."""
    *by_conda, by_pip = yaml.safe_load(environment.read_text(encoding="utf-8"))["dependencies"]
    return dict(line.split(" =") for line in by_conda), by_pip["pip"]


def make(folder: Path, version: str) -> Path:
    """An empty environment, as far as possible of a version of Python; its interpreter."""
    _uv("venv", "--quiet", "--python", _python(version), str(folder))
    return folder / "bin/python"


def install(python: Path, *packages: str) -> None:
    """Install packages for an interpreter, from where pip would take them."""
    options, variables = as_uv(pip_settings())
    # pip takes the best version of all indexes, uv of the first one that has the package.
    options += ["--index-strategy", "unsafe-best-match", "--quiet"]
    _uv("pip", "install", "--python", str(python), *options, *packages, **variables)


def pip_settings() -> dict[str, list[str]]:
    """What pip has been told on this machine, in files and variables, in words."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    return parsed(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def parsed(listing: str) -> dict[str, list[str]]:
    """Settings of a `pip config list`; `install` wins over general ones, variables over both."""
    found: dict[str, list[str]] = {}
    rank = {"global": 0, "install": 1, ":env:": 2}
    rows = [re.fullmatch(r"(global|install|:env:)\.([^=]+)=(.*)", x) for x in listing.splitlines()]
    for row in sorted(filter(None, rows), key=lambda row: rank[row[1]]):
        found[row[2].strip("-").replace("_", "-")] = ast.literal_eval(row[3]).split()
    return found


def as_uv(settings: dict[str, list[str]]) -> tuple[list[str], dict[str, str]]:
    """The same for uv, which reads none of pip's settings: options and variables."""
    options = [
        word
        for name, option in INDEX_OPTIONS.items()
        for value in settings.get(name, [])
        for word in (option, value)
    ]
    if settings.get("no-index", ["0"])[0].lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
    names = {"cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY", "default-timeout": "UV_HTTP_TIMEOUT"}
    names["timeout"] = names["default-timeout"]
    return options, {names[key]: settings[key][0] for key in names.keys() & settings.keys()}


def _python(version: str) -> str:
    """An interpreter of this machine: of the version if there is one, else the running one."""
    command = ["uv", "python", "find", "--no-python-downloads", "--system", version]
    found = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    if found.returncode:
        print(f"there is no Python {version} here; {sys.version.split()[0]} takes its place")
    return found.stdout.strip() or sys.executable


def _uv(*arguments: str, **variables: str) -> None:
    command = [sys.executable, "-m", "uv", *arguments]
    subprocess.run(command, env=os.environ | variables, check=True)
