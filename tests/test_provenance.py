"""What a script imports, and whether a change of code is one."""

import hashlib
import sys
from importlib.metadata import version
from modulefinder import ModuleFinder
from pathlib import Path

import pytest

from mmneurons.artifacts.provenance import code_digest, fingerprint, imported_modules, versions

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture()
def library(tmp_path):
    """A package `lib` whose modules import one another in every way, and a script beside it."""
    files = {
        "lib/__init__.py": '"""Top."""\n',
        "lib/a.py": "import lib.deep.c\n",
        "lib/b.py": "from lib import a\n",
        "lib/deep/__init__.py": "",
        "lib/deep/c.py": "def f():\n    from lib.deep.d import thing\n    return thing\n",
        "lib/deep/d.py": "import os\nimport lib.loop\nthing = 1\n",
        "lib/loop.py": "from lib.deep import d\n",
        "lib/only_if.py": "",
        "lib/unused.py": "import lib.also_unused\n",
        "lib/also_unused.py": "",
        "library/__init__.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "lib"


def found(library, text):
    script = library.parent / "script.py"
    script.write_text(text)
    return [str(path.relative_to(library)) for path in imported_modules(script, library)]


TOP, DEEP = "__init__.py", "deep/__init__.py"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("import os, numpy\nfrom library import x\n", []),
        ("import lib\n", [TOP]),
        ("from lib.only_if import name\n", [TOP, "only_if.py"]),
        ("from lib import only_if\n", [TOP, "only_if.py"]),
        ("import lib.only_if as o\n", [TOP, "only_if.py"]),
        ("if False:\n    import lib.only_if\n", [TOP, "only_if.py"]),
        ("def f():\n    import lib.only_if\n", [TOP, "only_if.py"]),
        (
            "class A:\n    async def f(self):\n        from lib import only_if\n",
            [TOP, "only_if.py"],
        ),
        # b -> a -> deep.c -> (in a function) deep.d -> loop -> deep.d
        ("import lib.b\n", [TOP, "a.py", "b.py", DEEP, "deep/c.py", "deep/d.py", "loop.py"]),
        ("from lib.deep import c\n", [TOP, DEEP, "deep/c.py", "deep/d.py", "loop.py"]),
        ("from lib.deep.d import thing\n", [TOP, DEEP, "deep/d.py", "loop.py"]),
        ("# import lib.unused\ntext = 'import lib.unused'\n", []),
    ],
)
def test_imports_are_followed(library, text, expected):
    assert found(library, text) == expected


def test_imports_of_a_package_itself_are_followed(library):
    (library / "deep" / "__init__.py").write_text("from lib import only_if\n")
    assert found(library, "import lib.deep\n") == [TOP, DEEP, "only_if.py"]


@pytest.mark.parametrize("name", ["merge_tables.py", "collect_exclusions.py", "choose_samples.py"])
def test_imports_of_real_scripts_are_those_that_python_finds(name):
    """Against the standard library's own module finder, told to look at this library only."""
    library = SCRIPTS / "mmneurons"
    sources = [SCRIPTS / name, *library.rglob("*.py")]
    names = {line.split()[1].split(".")[0] for s in sources for line in import_lines(s)}
    finder = ModuleFinder([str(SCRIPTS), *sys.path], excludes=sorted(names - {"mmneurons"}))
    finder.run_script(str(SCRIPTS / name))
    expected = {Path(m.__file__) for n, m in finder.modules.items() if n.startswith("mmneurons")}
    assert set(imported_modules(SCRIPTS / name, library)) == expected
    assert len(expected) > 3


def import_lines(path):
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [
        line for line in lines if line.startswith(("import ", "from ")) and len(line.split()) > 1
    ]


CODE = '''"""Module."""

import os  # why


class A:
    """Class."""

    x = 1

    def f(self, a):
        """Function."""
        return a + 1  # one more
'''


def digest(tmp_path, *texts):
    paths = []
    for number, text in enumerate(texts):
        paths.append(tmp_path / f"{number}.py")
        paths[-1].write_text(text, encoding="utf-8")
    return code_digest(paths)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# why", "# another reason"),
        ("  # one more", ""),
        ('"""Module."""', '"""Module.\n\nAt more length.\n"""'),
        ('"""Class."""', "'Another class.'"),
        ('"""Function."""', '"""Another."""'),
        ("a + 1", "(a   +\n            1)"),
        ("\n\n\nclass", "\n\n\n\n\nclass"),
        ('        """Function."""\n', ""),
        ('    """Class."""\n\n', ""),
        ('"""Module."""\n', ""),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(tmp_path, old, new):
    assert old in CODE
    assert digest(tmp_path, CODE) == digest(tmp_path, CODE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a + 1", "a + 2"),
        ("a + 1", "1 + a"),
        ("x = 1", 'x = "1"'),
        ("x = 1", "x = 1.0"),
        ("f(self, a)", "f(self, a=0)"),
        ("import os", "import sys"),
        ("return a + 1", "return 'text'"),
    ],
)
def test_code_counts(tmp_path, old, new):
    assert old in CODE
    assert digest(tmp_path, CODE) != digest(tmp_path, CODE.replace(old, new))


def test_texts_that_are_no_docstrings_count(tmp_path):
    code = "def f():\n    x = 'a'\n    return x\n"
    assert digest(tmp_path, code) != digest(tmp_path, code.replace("'a'", "'b'"))


def test_a_body_of_a_docstring_alone_is_still_code(tmp_path):
    only = 'class A(Exception):\n    """Why."""\n'
    assert digest(tmp_path, only) == digest(tmp_path, only.replace("Why.", "Because."))
    assert digest(tmp_path, only) != digest(tmp_path, only.replace("A(", "B("))


def test_digest_is_of_all_files(tmp_path):
    assert digest(tmp_path, CODE, "x = 1") != digest(tmp_path, CODE, "x = 2")
    assert digest(tmp_path, CODE) != digest(tmp_path, CODE, "x = 1")
    assert len(digest(tmp_path, CODE)) == 16


def test_fingerprint_is_the_beginning_of_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    # The first 16 digits of FIPS 180-2's example for "abc".
    assert fingerprint(tmp_path / "a") == "ba7816bf8f01cfea"
    (tmp_path / "b").write_bytes(bytes(3_000_000))
    assert fingerprint(tmp_path / "b") == hashlib.sha256(bytes(3_000_000)).hexdigest()[:16]


def test_versions_are_those_of_the_installed_packages():
    assert versions("numpy", "pandas") == {"numpy": version("numpy"), "pandas": version("pandas")}
