"""Estimate what a configuration will take: disk, memory and GPU hours by stage.

    python scripts/estimate_costs.py presets/paper.yaml

The files are laid over config.yaml, as --configfile does. Nothing is fetched and no model loaded.
After the table come jobs that may be longer than what they ask of a cluster.
"""

import argparse
import sys
from pathlib import Path

from mmneurons.artifacts.yaml_files import read_yaml
from mmneurons.config import merge
from mmneurons.estimates import long_jobs, table

REPOSITORY = Path(__file__).parents[1]


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        description="Estimate what a configuration will take, by stage.",
        epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("configuration", type=Path, nargs="*", help="such as presets/paper.yaml")
    given = parser.parse_args(arguments)
    config = merge(read_yaml(REPOSITORY / "config.yaml"), *map(read_yaml, given.configuration))
    names = ("models", "encoders", "datasets")
    registries = [read_yaml(REPOSITORY / f"resources/{name}.yaml") for name in names]
    print(table(config, *registries))
    print("\nEstimates for one A100 with 80 GB, by the formulas of docs/models.md; not measured.")
    if long := long_jobs(config, registries[0]):
        print(
            "\nOn a cluster these jobs may not end in time; with more shards they are shorter:\n",
            *long,
            sep="\n",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
