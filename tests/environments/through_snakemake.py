"""Run a rule by Snakemake's own `--sdm conda`, with a stand-in for conda: `make environments`.

Shows that Snakemake reads the environment files, has them created, runs their post-deploy scripts
and starts a rule's script with the interpreter of its environment. It does not show that conda
solves them or that conda-forge has Python and pip: nothing of either is used (see conda.py).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from environments.build import dependencies, install, make
from environments.rules import REPOSITORY

HERE = Path(__file__).parent
STANDIN = ("py-rattler==0.28.0", "pyyaml==6.0.3", "zstandard==0.25.0")
"""What channel.py and conda.py need, in an environment of their own."""

TARGET = "results/world/rsvqa/Data"
"""A target that one job makes, in seconds, with envs/data.yaml."""

ACTIVATE = 'export CONDA_PREFIX="$1" CONDA_SHLVL=1 PATH="$1/bin:$PATH"\n'
WITNESS = "import sys\nprint(sys.executable, file=open({!r}, 'a'))\n"
"""Run by every interpreter that starts in the environment."""


def stand_in(root: Path) -> dict[str, str]:
    """Build the channel and the stand-in below a folder; the variables with which it is found."""
    versions, _ = dependencies(REPOSITORY / "envs/data.yaml")
    python = make(root / "standin", versions["python"])
    pip = f"pip=={versions['pip']}"
    install(python, *STANDIN, pip)
    channel = root / "channels/conda-forge"
    subprocess.run([python, HERE / "channel.py", channel, pip], check=True)
    program = root / "conda/bin/conda"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{python}\n{(HERE / 'conda.py').read_text(encoding='utf-8')}")
    program.chmod(0o755)
    (root / "conda/bin/activate").write_text(ACTIVATE)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "CONDA_STANDIN_CHANNELS": str(root / "channels")}


def workflow(folder: Path) -> None:
    """The workflow, whose environment in question gets the post-deploy script of envs/torch.yaml.

    That of torch itself would take minutes to make, and shows no more.
    """
    folder.mkdir()
    for name in ("Snakefile", "CITATION.cff", "config.yaml", "profiles", "resources", "scripts"):
        (folder / name).symlink_to(REPOSITORY / name)
    for name in ("envs", "rules"):  # rules/../envs is that of the repository, if rules is a link
        shutil.copytree(REPOSITORY / name, folder / name)
    shutil.copy(folder / "envs/torch.post-deploy.sh", folder / "envs/data.post-deploy.sh")


def main() -> None:
    """Create the environment, run the job, and see which interpreter ran it."""
    place = (REPOSITORY / ".venv").resolve()
    with tempfile.TemporaryDirectory(prefix="conda-", dir=place) as name:
        folder = Path(name)
        variables = stand_in(folder)
        workflow(folder / "workflow")

        def snakemake(*words: str) -> None:
            command = [sys.executable, "-m", "snakemake", *words, "--cores", "1", "--sdm", "conda"]
            command += ["--quiet", "all"]
            subprocess.run(command, cwd=folder / "workflow", env=variables, check=True)

        snakemake(TARGET, "--conda-create-envs-only")
        (environment,) = (folder / "workflow/.snakemake/conda").glob("*_/")
        (packages,) = environment.glob("lib/python*/site-packages")
        assert (packages / "pytorch_grad_cam").is_dir(), "the post-deploy script has not run"
        witness = folder / "witness"
        (packages / "sitecustomize.py").write_text(WITNESS.format(str(witness)))
        snakemake(TARGET)
        assert any((folder / "workflow" / TARGET).iterdir())
        interpreters = {Path(line).parents[1] for line in witness.read_text().split()}
        assert interpreters == {environment}, interpreters
        print(
            "--sdm conda: an environment was created, and the interpreter in it ran a rule's script"
        )


if __name__ == "__main__":
    main()
