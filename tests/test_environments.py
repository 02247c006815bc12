"""What is installed where: the lock, the conda environments, and what the rules' scripts import."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import metadata

import pytest
import yaml
from environments import build, check
from environments.imports import reached
from environments.rules import REPOSITORY, RULES, SCRIPTED, paths
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import containerize

LIBRARY = REPOSITORY / "scripts"
ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))
OF_TORCH = re.compile("nvidia-|cuda-|triton$")
"""What a torch built for CUDA brings, and the lock therefore leaves out."""

OWN_PINS = {
    "stanza": {"stanza"},
    "bleurt": {"bleurt-pytorch", "huggingface-hub", "sentencepiece", "tokenizers", "transformers"},
}
"""What an environment pins by itself: BLEURT needs transformers 4, Stanza is optional."""

IMPORTED_BY = {
    "accelerate": {"transformers"},
    "hf-xet": {"huggingface-hub"},
    "huggingface-hub": {"transformers"},
    "matplotlib": {"grad-cam"},
    "opencv-python-headless": {"grad-cam"},
    "protobuf": {"transformers"},
    "safetensors": {"transformers"},
    "scikit-learn": {"grad-cam"},
    "sentencepiece": {"bleurt-pytorch", "transformers"},
    "tabulate": {"pandas"},
    "tokenizers": {"transformers"},
    "ttach": {"grad-cam"},
}
"""Packages that environments pin though no script imports them, and what imports them instead."""


def pins(lines):
    """{package: version} of lines `package==version`; anything else is refused."""
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    names = [canonicalize_name(match[1]) for match in found]
    assert len(set(names)) == len(names)
    return {name: match[2] for name, match in zip(names, found, strict=True)}


def lines_of(name):
    lines = (REPOSITORY / "envs" / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


LOCK = pins(lines_of("requirements.txt"))
NO_DEPS = pins(lines_of("requirements-no-deps.txt"))


def environment_pins(path):
    """What an environment installs by pip, in its file and after it."""
    *_, by_pip = yaml.safe_load(path.read_text())["dependencies"]
    found = pins(by_pip["pip"])
    script = path.with_suffix(".post-deploy.sh")
    if script.exists():
        found |= pins(re.findall(r"\S+==\S+", script.read_text()))
    return found


@cache
def packages_of_modules():
    """{module: packages that install it}; slow to find out."""
    return metadata.packages_distributions()


@cache
def packages_needed(script):
    """{package: whether it is imported whenever the script runs}, also those of the library."""
    needed = {}
    for one in reached(script, LIBRARY):
        for module in one.packages - {"mmneurons"}:
            for package in map(canonicalize_name, packages_of_modules().get(module, [module])):
                needed[package] = needed.get(package, False) or one.at_start
    return needed


def test_the_lock_is_complete():
    missing = {}
    for package in LOCK:
        assert metadata.version(package).partition("+")[0] == LOCK[package], package
        for line in metadata.requires(package) or []:
            requirement = Requirement(line)
            needed = canonicalize_name(requirement.name)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                if needed not in LOCK and not OF_TORCH.match(needed):
                    missing.setdefault(package, []).append(needed)
    assert not missing


def test_the_lock_and_the_rest_do_not_overlap():
    assert not LOCK.keys() & NO_DEPS.keys()
    assert {name: metadata.version(name) for name in NO_DEPS} == NO_DEPS


def test_pre_commit_checks_with_the_versions_of_the_lock():
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    found = pins({line for hook in hooks for line in hook["additional_dependencies"]})
    assert found == {name: LOCK[name] for name in ("ruff", "snakefmt")}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environment(path):
    environment = yaml.safe_load(path.read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *by_conda, _ = environment["dependencies"]
    assert [line.partition(" ")[0] for line in by_conda] == ["python", "pip"]
    assert all(re.fullmatch(r"\w+ =\d+(\.\d+)+", line) for line in by_conda)
    found = environment_pins(path)
    own = OWN_PINS.get(path.stem, set())
    assert own <= found.keys()
    locked = {name: (LOCK | NO_DEPS).get(name) for name in found.keys() - own}
    assert {name: found[name] for name in locked} == locked


def test_there_are_rules_to_check():
    assert SCRIPTED


def test_every_environment_is_that_of_a_rule():
    assert {path for rule in SCRIPTED for path in paths(rule, "envs")} == set(ENVIRONMENTS)


@pytest.mark.parametrize("rule", SCRIPTED)
def test_the_environments_of_a_rule_have_what_its_script_imports(rule):
    environments = {path: environment_pins(path).keys() for path in paths(rule, "envs")}
    scripts = paths(rule, "scripts")
    assert environments and scripts
    for script in scripts:
        needed = packages_needed(script)
        in_all = {package for package, at_start in needed.items() if at_start}
        for path, declared in environments.items():
            assert not in_all - declared, f"{path.name} lacks what {script.name} imports"
        in_one = needed.keys() - set().union(*environments.values())
        assert not in_one, f"no environment of {rule} has what {script.name} imports"


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment_has_nothing_that_its_rules_do_not_need(path):
    declared = environment_pins(path).keys()
    unused = declared - {p for script in check.scripts_of(path) for p in packages_needed(script)}
    assert {name for name in unused if not IMPORTED_BY.get(name, set()) & declared} == set()


@pytest.fixture
def project(tmp_path):
    """Write a script and the modules of its library; returns what `reached` is asked for."""

    def write(script, **modules):
        (tmp_path / "library").mkdir()
        for name, text in modules.items() | {("__init__", "")}:
            (tmp_path / f"library/{name}.py").write_text(text)
        (tmp_path / "script.py").write_text(script)
        return tmp_path / "script.py", tmp_path

    return write


def test_imports_in_functions_count_where_the_function_is_reached(project):
    written = project(
        "from library import tools\nfrom library.loading import load\ntools.used()\nload('a')",
        tools="import first\ndef used():\n    import in_used\ndef unused():\n    import in_unused",
        loading="FAMILIES = {'a': 'library.a'}\ndef load(name):\n    __import__(FAMILIES[name])",
        a="import of_a\nclass A:\n    def method(self):\n        import in_method",
    )
    found = {name: one.at_start for one in reached(*written) for name in one.packages}
    del found["library"]
    assert found == {"first": True, "in_used": False, "of_a": False, "in_method": False}


def test_imports_for_type_checkers_do_not_count(project):
    script = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import not_needed"
    assert reached(*project(script)) == []


def test_a_package_that_an_environment_lacks_is_missed(tmp_path):
    """A real script in an interpreter that has nothing, though the one that asks has everything."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    path, script = REPOSITORY / "envs/data.yaml", LIBRARY / "merge_tables.py"
    found = {script: [] for script in map(check.name_of, check.scripts_of(path))}
    assert check.missing({path: found}) == []
    wrong = check.missing({path: found | check.failures(tmp_path / "bin/python", [script])})
    at = "data.yaml: scripts/merge_tables.py: scripts/"
    said = "ModuleNotFoundError: No module named"
    assert f"{at}mmneurons/artifacts/tables.py: {said} 'pandas'" in wrong
    assert f"{at}mmneurons/console.py: {said} 'tqdm'" in wrong
    assert all(line.startswith(at) for line in wrong)


def test_what_one_environment_of_a_choice_lacks_another_has_to_have():
    torch, stanza = (REPOSITORY / f"envs/{name}.yaml" for name in ("torch", "stanza"))
    row = {"module": "nouns.py", "error": "no stanza", "at_start": False}

    def missing(in_torch, in_stanza):
        found = {}
        for path, rows in ((torch, in_torch), (stanza, in_stanza)):
            found[path] = {script: [] for script in map(check.name_of, check.scripts_of(path))}
            found[path]["scripts/record_concepts.py"] = rows
        return [line.partition(":")[0] for line in check.missing(found)]

    assert missing([row], []) == []
    assert missing([row], [row]) == ["torch.yaml", "stanza.yaml"]
    assert missing([row | {"at_start": True}], []) == ["torch.yaml"]


def test_uv_is_told_what_pip_is():
    listing = """
    global.index-url='https://one.example/simple'
    global.extra-index-url='https://two.example/a https://two.example/b'
    global.timeout='60'
    install.find-links='/wheels'
    :env:.index-url='https://three.example/simple'
    :env:.no-index='false'
    :env:.cert='/certificates.pem'
    """
    lines = "\n".join(line.strip() for line in listing.splitlines())
    options, variables = build.as_uv(build.parsed(lines))
    words = "--default-index https://three.example/simple"
    words += " --index https://two.example/a --index https://two.example/b --find-links /wheels"
    assert options == words.split()
    assert variables == {"SSL_CERT_FILE": "/certificates.pem", "UV_HTTP_TIMEOUT": "60"}


@pytest.mark.parametrize("form", containerize.RECIPES)
def test_the_recipe_of_an_image_is_that_of_the_environments(form):
    """`.venv/bin/python scripts/containerize.py` writes it anew."""
    text = (REPOSITORY / "envs" / containerize.RECIPES[form]).read_text(encoding="utf-8")
    assert text == containerize.recipe(form)
    assert ":latest" not in text
    for path in [*ENVIRONMENTS, *(REPOSITORY / "envs").glob("*.post-deploy.sh")]:
        (copied,) = re.findall(rf"^(?:COPY|   ) ?envs/{path.name} (\S+)$", text, re.MULTILINE)
        command = "bash" if path.suffix == ".sh" else "--file"
        assert text.count(f"{command} {copied}") == 1, "copied, but not used"


def test_the_profiles_share_no_key():
    local, slurm = (
        yaml.safe_load((REPOSITORY / folder / "config.yaml").read_text())
        for folder in ("profiles/default", "slurm")
    )
    assert not local.keys() & slurm.keys()


def test_slurm_sends_the_gpu_rules_and_only_them_to_the_gpu_partition():
    slurm = yaml.safe_load((REPOSITORY / "slurm/config.yaml").read_text())
    sent = {rule for rule, r in slurm["set-resources"].items() if r["slurm_partition"] == "gpu"}
    assert sent == {name for name, text in RULES.items() if re.search(r"\bgpu=", text)}


@pytest.mark.parametrize("rule", sorted(name for name, text in RULES.items() if "gpu=" in text))
def test_a_job_with_a_gpu_loads_its_model_once(rule):
    """Whatever it sweeps: its script calls `load_model` once, in no loop and no function."""
    (script,) = paths(rule, "scripts")
    calls = [
        node
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "load_model"
    ]
    top = [ast.unparse(line) for line in ast.parse(script.read_text()).body]
    assert len(calls) == 1
    assert f"model = {ast.unparse(calls[0])}" in top
