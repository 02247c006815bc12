"""Prove every conda environment of envs/ without conda: `make environments`.

    cd tests && python -m environments.check [ENVIRONMENT...]

conda's channels hold only Python and pip of these environments. The rest comes by pip, so it is
installed here as conda would have it done, each environment into a fresh one of its own, with its
post-deploy script. There every script of the rules that name the environment imports all that it
can reach, with nothing but the environment and scripts/ to find it in.

With `--sdm conda`, Snakemake appends its own packages to the path of a script. A package that an
environment lacks is therefore often found after all, at whatever version Snakemake's environment
has. Here it is missed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from environments.build import build
from environments.rules import REPOSITORY, SCRIPTED, paths

ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))
IMPORTS = Path(__file__).with_name("imports.py")


def scripts_of(environment: Path) -> list[Path]:
    """The scripts of the rules that name an environment."""
    rules = [rule for rule in SCRIPTED if environment in paths(rule, "envs")]
    return sorted({script for rule in rules for script in paths(rule, "scripts")})


def name_of(path: Path) -> str:
    """A file by its path in the repository."""
    return path.relative_to(REPOSITORY).as_posix()


def failures(python: Path, scripts: list[Path]) -> dict[str, list[dict]]:
    """By script, what it can reach and the interpreter cannot import."""
    # Compiled files would be written for nothing, and be most of what there is to remove again.
    command = [python, "-I", "-B", IMPORTS, "scripts", *map(name_of, scripts)]
    said = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(said.stdout.splitlines()[-1])


def missing(found: dict[Path, dict[str, list[dict]]]) -> list[str]:
    """What is wrong, in words, given the `failures` of environments.

    A rule that chooses among environments chooses what it imports on the way as well, as Stanza for
    `pan.tagger: stanza`. Such an import need not succeed in an environment if it does in another.
    """
    wrong = []
    for rule in SCRIPTED:
        environments = paths(rule, "envs")
        for script in map(name_of, paths(rule, "scripts")):
            for path in filter(found.__contains__, environments):
                others = [other for other in environments if other != path]
                for row in found[path][script]:
                    if row["at_start"] or all(_fails(row, found, o, script) for o in others):
                        wrong.append(f"{path.name}: {script}: {row['module']}: {row['error']}")
    return list(dict.fromkeys(wrong))


def _fails(row: dict, found: dict, environment: Path, script: str) -> bool:
    """Whether another environment, if it has been examined, fails in the same way."""
    return any(r["error"] == row["error"] for r in found.get(environment, {}).get(script, []))


def examine(environment: Path, folder: Path) -> dict[str, list[dict]]:
    """Build an environment below a folder; the `failures` there of its scripts."""
    start = time.monotonic()
    found = failures(build(environment, folder / environment.stem), scripts_of(environment))
    seconds = time.monotonic() - start
    print(f"{environment.name}: installed, {len(found)} scripts tried, {seconds:.0f} s", flush=True)
    return found


def main(names: list[str]) -> int:
    """Exit status: 0 if every environment has all that its rules' scripts import."""
    chosen = [path for path in ENVIRONMENTS if not names or path.stem in names]
    place = REPOSITORY / ".venv"
    with (
        tempfile.TemporaryDirectory(prefix="environments-", dir=place) as folder,
        ThreadPoolExecutor(min(4, os.cpu_count())) as pool,
    ):
        jobs = {path: pool.submit(examine, path, Path(folder)) for path in chosen}
        found = {path: job.result() for path, job in jobs.items()}
    wrong = missing(found)
    for line in wrong:
        print(line, file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
