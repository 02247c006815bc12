"""What a script imports, itself and through the library, and what of it an environment lacks.

    python -I tests/environments/imports.py scripts SCRIPT...

tries all of it in the interpreter that runs this file and prints what failed, as JSON. It uses the
standard library only, because the interpreter is that of the environment in question.

What is reached is found by reading. A module runs when it is imported, with everything that stands
outside of its functions and classes; a function or class counts as soon as code that is reached
names it. So an import inside a function counts for the scripts that can come to it and for no
others, and a library module whose name is a string, as in a table of model families, counts where
the table is used.
"""

import ast
import importlib
import json
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

DOORS = {"pytorch_grad_cam": ("mmneurons.probe.gradcam", "import_gradcam")}
"""Packages that a function of the library imports, after it has prepared for it."""

DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Import(NamedTuple):
    """An import statement that a script can reach.

    holder: the file where it stands; at_start: whether it runs whenever the script does.
    """

    statement: str
    holder: Path
    at_start: bool

    @property
    def packages(self) -> set[str]:
        """First parts of the names that are imported."""
        (node,) = ast.parse(self.statement).body
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
        return {name.partition(".")[0] for name in names}

    def run(self) -> None:
        """Import it; whatever goes wrong is raised."""
        for module, function in (DOORS[name] for name in self.packages & DOORS.keys()):
            return getattr(importlib.import_module(module), function)()
        exec(self.statement, {})


def reached(script: Path, folder: Path) -> list[Import]:
    """Every import that a script can come to, but for the standard library's.

    `folder` holds the library's package.
    """
    reader = _Reader(script, folder)
    while reader.waiting:
        reader.follow(*reader.waiting.pop())
    return list(reader.found.values())


def failures(script: Path, folder: Path) -> list[dict]:
    """What cannot be imported here, each error once: module, error, whether it is at the start."""
    found = {}
    for one in reached(script, folder):
        try:
            one.run()
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            row = {"module": str(one.holder), "error": said, "at_start": one.at_start}
            found.setdefault((said, one.at_start), row)
    return list(found.values())


class _Source:
    """A file: what it defines, what runs when it is imported, and what its imports call things."""

    def __init__(self, path: Path):
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.definitions: dict[str, ast.stmt] = {}
        self.run: list[ast.stmt] = []
        for node in self.tree.body:
            names = _names_defined(node)
            self.definitions |= dict.fromkeys(names, node)
            if not names:
                self.run.append(node)

    @cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """(module, name in it) by the name in this file, of imports in functions too."""
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom)]
        return {a.asname or a.name: (node.module, a.name) for node in nodes for a in node.names}


class _Reader(ast.NodeVisitor):
    """Follows a script through the library. `waiting` is code yet to be followed."""

    def __init__(self, script: Path, folder: Path):
        self.folder = folder
        self.sources: dict[str, _Source] = {}
        self.found: dict[str, Import] = {}
        self.seen: set[ast.stmt] = set()
        self.waiting: list[tuple[_Source, ast.stmt]] = []
        self.source = _Source(script)
        self.at_start = True
        self._start(self.source)
        self.at_start = False
        self.waiting += [(self.source, node) for node in self.source.tree.body]

    def follow(self, source: _Source, node: ast.stmt) -> None:
        """What a statement or definition reaches once the script has started."""
        if node not in self.seen:
            self.seen.add(node)
            self.source = source
            self.visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._import(alias.name, ast.Import([alias]))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._import(node.module, node)
        for alias in node.names:
            self._module(f"{node.module}.{alias.name}")

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """`module.name` reaches that name only, where the module is the library's."""
        module = self._module_called(node.value.id) if isinstance(node.value, ast.Name) else None
        if module:
            self._name(self.sources[module], node.attr)
        else:
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        module = self._module_called(node.id)
        if module:
            self._all_of(module)
        else:
            self._name(self.source, node.id)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and re.fullmatch(r"\w+(\.\w+)+", node.value):
            if self._file(node.value):
                self._import(node.value, ast.Import([ast.alias(node.value)]))
                self._all_of(node.value)

    def _start(self, source: _Source) -> None:
        """The imports that run first; the rest of what runs waits."""
        outer, self.source = self.source, source
        for node in source.run:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.visit(node)
        self.source = outer
        self.waiting += [(source, node) for node in source.run]

    def _import(self, module: str, node: ast.stmt) -> None:
        if module.partition(".")[0] not in sys.stdlib_module_names:
            self._module(module)  # first, so that what fails is first found where it stands
            one = Import(ast.unparse(node), self.source.path, self.at_start)
            self.found.setdefault(one.statement, one)

    def _module(self, name: str) -> None:
        """A module of the library runs, after the packages that it is in."""
        path = self._file(name)
        if path and name not in self.sources:
            if "." in name:
                self._module(name.rpartition(".")[0])
            self.sources[name] = _Source(path)
            self._start(self.sources[name])

    def _file(self, module: str) -> Path | None:
        path = self.folder.joinpath(*module.split("."))
        files = (path / "__init__.py", path.with_name(f"{path.name}.py"))
        return next((file for file in files if file.is_file()), None)

    def _module_called(self, name: str) -> str | None:
        """The module of the library that a name of this file stands for."""
        module = ".".join(self.source.imported.get(name, ()))
        return module if module in self.sources else None

    def _all_of(self, module: str) -> None:
        for name in self.sources[module].definitions:
            self._name(self.sources[module], name)

    def _name(self, source: _Source, name: str) -> None:
        if name in source.definitions:
            self.waiting.append((source, source.definitions[name]))
        elif name in source.imported:
            module, inner = source.imported[name]
            if module in self.sources:
                self._name(self.sources[module], inner)


def _names_defined(node: ast.stmt) -> list[str]:
    """Names of a function, class or value; none for a statement that defines nothing."""
    if isinstance(node, DEFINITIONS):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


if __name__ == "__main__":
    folder, *scripts = map(Path, sys.argv[1:])
    sys.path.insert(0, str(folder.resolve()))
    print(json.dumps({str(script): failures(script, folder) for script in scripts}))
