"""Say what the adapter finds in a model's directory: `check_model.py DIRECTORY [--family NAME]`.

Prints modules, image tokens, methods that apply and a row for resources/models.yaml, or what is
wrong. Ends with 0, with 1 where the model was loaded but cannot be used, and with 2 where it was
not.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

from mmneurons.artifacts.yaml_files import read_yaml
from mmneurons.models.capabilities import (
    CapabilityError,
    capabilities,
    guess_family,
    load_for_check,
    registry_row,
    report,
    timed,
)

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Check the directory that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="as save_pretrained writes it")
    parser.add_argument("--family", help="instead of what config.json says")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was found")
    chosen = parser.parse_args()
    try:
        family = chosen.family or guess_family(chosen.directory)
        start = time.perf_counter()
        model = load_for_check(chosen.directory, family)
    except CapabilityError as error:
        print(f"check_model: {error}", file=sys.stderr)
        return 2
    found = {"directory": str(chosen.directory)}
    found |= capabilities(model, read_yaml(ROOT / "resources/prompts.yaml"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    seconds = {"loading and checking": round(time.perf_counter() - start, 1)} | timed(model)
    found |= {"seconds": seconds, "peak memory MB": peak}
    name = chosen.directory.resolve().name
    found["row"] = registry_row(name, chosen.directory, found, peak)
    print(report(found))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
