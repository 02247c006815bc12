"""What is installed where: the lock, the conda environments, and what the rules' scripts import."""

import ast
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
LIBRARY = REPOSITORY / "scripts"
ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))
OF_TORCH = re.compile("nvidia-|cuda-|triton$")
"""What a torch built for CUDA brings, and the lock therefore leaves out."""

OWN_PINS = {
    "stanza": {"stanza"},
    "bleurt": {"bleurt-pytorch", "huggingface-hub", "sentencepiece", "tokenizers", "transformers"},
}
"""What an environment pins by itself: BLEURT needs transformers 4, Stanza is optional."""


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


def rules():
    """(name, text) of every rule."""
    for path in sorted((REPOSITORY / "rules").glob("*.smk")):
        _, *parts = re.split(r"^(?:rule|checkpoint) (\w+):$", path.read_text(), flags=re.MULTILINE)
        yield from zip(parts[::2], parts[1::2], strict=True)


RULES = dict(rules())
SCRIPTED = [name for name, text in RULES.items() if re.search(r"^ +script:", text, re.MULTILINE)]


def paths(rule, kind):
    """Files of a kind that a rule's text names, such as ../envs/plot.yaml."""
    return [REPOSITORY / path for path in re.findall(rf'"\.\./({kind}/[^"]+)"', RULES[rule])]


@cache
def imported_at_start(path):
    """Names of the modules that a file imports when it is imported, not those that functions do."""
    names, statements = [], list(ast.parse(path.read_text()).body)
    while statements:
        statement = statements.pop()
        if isinstance(statement, ast.Import):
            names += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            names += [statement.module]
            names += [f"{statement.module}.{alias.name}" for alias in statement.names]
        elif isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue  # only type checkers run it
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            children = ast.iter_child_nodes(statement)
            statements += [child for child in children if isinstance(child, ast.stmt)]
    return names


@cache
def packages_of_modules():
    """{module: packages that install it}; slow to find out."""
    return metadata.packages_distributions()


def packages_needed(script):
    """Packages that a script imports, itself or through the library."""
    of_modules = packages_of_modules()
    seen, waiting, needed = set(), [script], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for name in imported_at_start(path):
            top = name.partition(".")[0]
            if top == "mmneurons":
                file = LIBRARY / name.replace(".", "/")
                found = {file.with_suffix(".py"), file / "__init__.py"}
                waiting += [path for path in found if path.exists() and path not in seen]
            elif top not in sys.stdlib_module_names:
                needed |= {canonicalize_name(package) for package in of_modules.get(top, [top])}
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
    assert all(re.fullmatch(r"\w+ =\d[\d.]*\*?", line) for line in by_conda)
    found = environment_pins(path)
    own = OWN_PINS.get(path.stem, set())
    assert own <= found.keys()
    locked = {name: (LOCK | NO_DEPS).get(name) for name in found.keys() - own}
    assert {name: found[name] for name in locked} == locked


def test_there_are_rules_to_check():
    assert SCRIPTED


@pytest.mark.parametrize("rule", SCRIPTED)
def test_the_environment_of_a_rule_has_what_its_script_imports(rule):
    environments = paths(rule, "envs")
    scripts = paths(rule, "scripts")
    assert environments and scripts
    for environment in environments:
        declared = environment_pins(environment)
        for script in scripts:
            missing = packages_needed(script) - declared.keys()
            assert not missing, f"{environment.name} lacks what {script.name} imports"


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
