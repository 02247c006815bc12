"""A small conda channel made of what is at hand: this interpreter, and pure wheels.

    python channel.py CHANNEL [NAME==VERSION ...]

Runs where py-rattler, zstandard and pip are installed. Python is packed as it stands below
sys.base_prefix, without its tests; each wheel becomes a noarch package. A package is a zip of two
archives: https://docs.conda.io/projects/conda-build/en/latest/resources/package-spec.html
"""

import asyncio
import configparser
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import zstandard
from rattler import index

LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "site-packages"}
LEFT_OUT |= {"__pycache__", "dist-packages"}

Files = dict[str, tuple[bytes, int]]
"""Contents and permissions by the path in the environment."""


def write_package(folder: Path, facts: dict, files: Files) -> None:
    """Write one package into its part of the channel, such as noarch/."""
    stem = f"{facts['name']}-{facts['version']}-{facts['build']}"
    paths = [
        {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(data).hexdigest(),
            "size_in_bytes": len(data),
        }
        for path, (data, _) in files.items()
    ]
    info = {"index.json": facts, "paths.json": {"paths": paths, "paths_version": 1}}
    if facts.get("noarch"):
        link = {"type": "python", "entry_points": facts.pop("entry_points")}
        info["link.json"] = {"noarch": link, "package_metadata_version": 1}
    about = {f"info/{name}": (json.dumps(value).encode(), 0o644) for name, value in info.items()}
    with zipfile.ZipFile(folder / f"{stem}.conda", "w") as package:
        package.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
        package.writestr(f"pkg-{stem}.tar.zst", _packed(files))
        package.writestr(f"info-{stem}.tar.zst", _packed(about))


def _packed(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (data, mode) in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), mode
            archive.addfile(member, io.BytesIO(data))
    return zstandard.compress(buffer.getvalue(), 1)


def write_python(folder: Path) -> None:
    """The interpreter and its standard library."""
    base, name = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = base / "lib" / name
    found = [*(base / "lib").glob("libpython*.so*")]
    found += [
        path
        for path in library.rglob("*")
        if path.is_file()
        and path.suffix not in (".a", ".pyc")
        and not LEFT_OUT & set(path.relative_to(library).parts)
    ]
    files = {str(p.relative_to(base)): (p.read_bytes(), p.stat().st_mode & 0o777) for p in found}
    files[f"lib/{name}/site-packages/README.txt"] = (b"", 0o644)
    program = (base / "bin" / name).resolve().read_bytes()
    files |= {f"bin/{called}": (program, 0o755) for called in ("python", "python3", name)}
    version = ".".join(map(str, sys.version_info[:3]))
    facts = {"name": "python", "version": version, "build": "local_0", "build_number": 0}
    write_package(folder, facts | {"depends": [], "subdir": folder.name}, files)


def write_wheel(folder: Path, wheel: Path) -> None:
    """A pure wheel as a package that needs Python only."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        files = {f"site-packages/{name}": (archive.read(name), 0o644) for name in names}
    programs = configparser.ConfigParser(delimiters="=")
    for path, (data, _) in files.items():
        if path.endswith(".dist-info/entry_points.txt"):
            programs.read_string(data.decode())
    found = programs["console_scripts"] if programs.has_section("console_scripts") else {}
    name, version = wheel.name.split("-")[:2]
    facts = {"name": name.lower(), "version": version, "build": "local_0", "build_number": 0}
    facts |= {"depends": ["python"], "subdir": folder.name, "noarch": "python"}
    facts["entry_points"] = [f"{called} = {place}" for called, place in found.items()]
    write_package(folder, facts, files)


def main(channel: Path, packages: list[str]) -> None:
    """Write the channel and its index."""
    for part in ("linux-64", "noarch"):
        (channel / part).mkdir(parents=True)
    write_python(channel / "linux-64")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", folder, *packages], check=True)
        for wheel in Path(folder).glob("*.whl"):
            write_wheel(channel / "noarch", wheel)
    asyncio.run(index.index_fs(channel))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
