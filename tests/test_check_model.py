"""The capability check on the tiny models that ship, and on directories that are broken."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mmneurons.models.capabilities import (
    CapabilityError,
    capabilities,
    guess_family,
    load_for_check,
)

REPOSITORY = Path(__file__).parents[1]
MODELS = REPOSITORY / "resources/models"


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("minigpt4-world", {"language": 2304, "vision": 840}),
        ("llava-next-world", {"language": 2304, "vision": 1536, "projector": 96}),
        ("mplug-owl2-world", {"language": 2304}),
    ],
)
def test_tiny_models(name, units):
    family = guess_family(MODELS / name)
    found = capabilities(load_for_check(MODELS / name, family), [f"{family}.few-words", "x.y"])
    assert {m: found["modules"][m]["units"] for m in units} == units
    assert found["problems"] == [] and found["prompts"] == [f"{family}.few-words"]
    assert all(0 < own["self-check"]["error"] < 1e-5 for own in found["modules"].values())
    assert found["methods"]["dape"] == f"resources/prompts.yaml has no prompt {family}.question"
    varying = len(set(found["image tokens"].values())) > 1
    assert varying == (family == "llava_next") == (found["methods"]["contribution"] != "yes")


def test_the_command_prints_and_writes_what_it_found(tmp_path):
    command = [sys.executable, "scripts/check_model.py", "resources/models/llava-world"]
    made = subprocess.run(
        [*command, "--json", tmp_path / "found.json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    assert "units: {language: 2304}" not in made.stdout  # the vision tower is counted as well
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["row"] in made.stdout and found["modules"]["language"]["units"] == 2304
    gone = subprocess.run(
        [*command[:2], tmp_path / "nothing"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert gone.returncode == 2 and "is no directory" in gone.stderr and not gone.stdout


@pytest.fixture
def broken(tmp_path):
    return Path(shutil.copytree(MODELS / "llava-world", tmp_path / "model"))


def test_directories_that_are_no_models(broken):
    with pytest.raises(CapabilityError, match="holds a 'clip' .*none of minigpt4"):
        guess_family(MODELS / "clip-world")
    (broken / "config.json").write_text("{")
    with pytest.raises(CapabilityError, match="no JSON object"):
        guess_family(broken)
    (broken / "config.json").unlink()
    with pytest.raises(CapabilityError, match=r"lacks config\.json"):
        guess_family(broken)
    with pytest.raises(CapabilityError, match="there is no family 'gpt'"):
        load_for_check(broken, "gpt")


def test_checkpoints_that_lack_or_misshape_weights(broken):
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if name.endswith("down_proj.weight"))
    whole = weights.pop(name)
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(CapabilityError, match="no weights in .*down_proj"):
        load_for_check(broken, "llava")
    weights[name] = whole[:, :5].contiguous()
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(CapabilityError, match="down_proj|mismatch"):
        load_for_check(broken, "llava")
    (broken / "model.safetensors").write_bytes(b"<html>")
    with pytest.raises(CapabilityError, match="cannot be loaded as llava"):
        load_for_check(broken, "llava")
