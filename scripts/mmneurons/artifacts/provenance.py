"""Where a file comes from: software versions and fingerprints of what it was made from."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple


def versions(*packages: str) -> dict[str, str]:
    """Versions of installed packages by name."""
    return {package: version(package) for package in packages}


def fingerprint(path: str | Path) -> str:
    """First 16 hexadecimal digits of a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def imported_modules(script: Path, library: Path) -> list[Path]:
    """Files of the library that a script imports, directly or through one another, sorted.

    Found by reading, not by running: imports inside functions count, imports by a computed name do
    not. `library` is the package's folder.
    """
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        for name in _imported_names(waiting.pop(), library.name):
            for path in _files(name, library):
                if path not in found:
                    found.add(path)
                    waiting.append(path)
    return sorted(found)


def code_digest(paths: list[Path]) -> str:
    """A digest of what the files do: comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\n{_module(path).text}\n".encode())
    return digest.hexdigest()[:16]


class _Module(NamedTuple):
    """What a module's file says: its text without comments and docstrings, and what it imports."""

    text: str
    imports: frozenset[str]


def _module(path: Path) -> _Module:
    """A file as it is now; read once, however many scripts import it."""
    return _read(path, path.stat().st_mtime_ns)


@cache
def _read(path: Path, modified: int) -> _Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            del body[0]
    return _Module(ast.unparse(tree), frozenset(imports))


def _imported_names(path: Path, package: str) -> set[str]:
    return {name for name in _module(path).imports if name.split(".")[0] == package}


def _files(name: str, library: Path) -> list[Path]:
    """The module's file and the `__init__.py` of the packages on the way to it."""
    parts = name.split(".")[1:]
    packages = [library.joinpath(*parts[:i], "__init__.py") for i in range(len(parts) + 1)]
    module = library.joinpath(*parts).with_suffix(".py") if parts else None
    return [path for path in [*packages, module] if path is not None and path.is_file()]


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
