"""A stand-in for `conda`: it answers the calls that Snakemake 9 makes, and no others.

It is not conda. Environments are really solved and installed, by py-rattler, but from channels in
the folder $CONDA_STANDIN_CHANNELS alone, and pip's part by the pip that was installed.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

PREFIX = Path(__file__).parents[1]


def create(file: str, prefix: str) -> None:
    """`conda env create --file FILE --prefix PREFIX`."""
    import yaml
    from rattler import Channel, VirtualPackage, install, solve

    environment = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    folder = Path(os.environ["CONDA_STANDIN_CHANNELS"])
    names = [name for name in environment["channels"] if name != "nodefaults"]
    by_conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    by_pip = [
        line for part in environment["dependencies"] if part not in by_conda for line in part["pip"]
    ]

    async def solve_and_install() -> None:
        records = await solve(
            sources=[Channel((folder / name).as_uri()) for name in names],
            specs=by_conda,
            platforms=["linux-64", "noarch"],
            virtual_packages=VirtualPackage.detect(),
        )
        await install(records, prefix, cache_dir=PREFIX / "pkgs", show_progress=False)

    asyncio.run(solve_and_install())
    if by_pip:
        command = [f"{prefix}/bin/python", "-m", "pip", "install", "--quiet", *by_pip]
        subprocess.run(command, check=True)


def main(words: list[str]) -> None:
    """One call of conda."""
    match words:
        case ["--version"]:
            print("conda 24.7.1")  # the oldest that Snakemake takes
        case ["info", *_]:
            print(json.dumps({"conda_prefix": str(PREFIX), "platform": "linux-64"}))
        case ["config", "--get", "channel_priority", *_]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", *_]:
            create(words[words.index("--file") + 1], words[words.index("--prefix") + 1])
        case ["clean", *_]:
            pass
        case _:
            sys.exit(f"not known to the stand-in for conda: {' '.join(words)}")


if __name__ == "__main__":
    main(sys.argv[1:])
