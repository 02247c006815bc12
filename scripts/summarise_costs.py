"""Summarise what a run cost, by stage and by rule, from Snakemake's benchmark files.

    python scripts/summarise_costs.py results/demo

Jobs of the world, which all runs share, are read from results/world beside it. Times are sums over
jobs; GPU hours are those of jobs that ask for a GPU, whether or not there was one.
"""

import argparse
import sys
from pathlib import Path

from mmneurons.artifacts.tables import write_csv
from mmneurons.costs import markdown, read_jobs, read_rules, summarise

RULES = Path(__file__).parents[1] / "rules"


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        description="Summarise what a run cost, by stage and by rule.",
        epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="a run's folder, such as results/demo")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table by rule")
    given = parser.parse_args(arguments)
    world = given.results.resolve().parent / "world"
    folders = {given.results.resolve(), world}
    jobs = read_jobs([folder for folder in sorted(folders) if folder.is_dir()], read_rules(RULES))
    if jobs.empty:
        print(f"No job has left a benchmark file or a log in {given.results}.", file=sys.stderr)
        return 1
    by_rule = summarise(jobs, ["stage", "rule"])
    print(f"{markdown(summarise(jobs, ['stage']))}\n\n{markdown(by_rule)}")
    print(
        "\nGPU hours: of jobs that ask for a GPU. Unknown: jobs without a number, not in the sums."
    )
    if given.csv:
        write_csv(by_rule, given.csv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
