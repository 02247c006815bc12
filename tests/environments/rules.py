"""The rules as their files state them: names, scripts, environments."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def rules() -> dict[str, str]:
    """The text of every rule by its name."""
    found = {}
    for path in sorted((REPOSITORY / "rules").glob("*.smk")):
        text = path.read_text(encoding="utf-8")
        _, *parts = re.split(r"^(?:rule|checkpoint) (\w+):$", text, flags=re.MULTILINE)
        found |= zip(parts[::2], parts[1::2], strict=True)
    return found


RULES = rules()
SCRIPTED = [name for name, text in RULES.items() if re.search(r"^ +script:", text, re.MULTILINE)]


def paths(rule: str, kind: str) -> list[Path]:
    """Files of a kind that a rule names, such as ../envs/plot.yaml; a branch() names several."""
    return [REPOSITORY / path for path in re.findall(rf'"\.\./({kind}/[^"]+)"', RULES[rule])]
