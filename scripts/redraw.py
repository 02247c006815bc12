"""Draw the figures and tables of a restored run that need no model, and name those that need one.

    python scripts/redraw.py demo
    python scripts/redraw.py demo --configfile mine.yaml

The configuration is the restored run's, with the given files laid over it. What changed in it runs
selection, measures and drawing again where that holds no model.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mmneurons.sharing.manifest import CONFIG, NAME, BundleError, Manifest, file_entry
from mmneurons.sharing.records import read_record

ROOT = Path(__file__).parents[1]


class PlanError(Exception):
    """Why it cannot be planned, such as what the workflow says."""


class Planned(NamedTuple):
    """A file on the way to the targets: its rule, whether it is to be made, and from what."""

    rule: str
    pending: bool
    inputs: set[str]


def model_rules() -> set[str]:
    """Rules that hold a model: those that ask for a GPU."""
    found = set()
    for path in sorted((ROOT / "rules").glob("*.smk")):
        _, *parts = re.split(r"^rule (\w+):$", path.read_text(encoding="utf-8"), flags=re.M)
        rules = zip(parts[::2], parts[1::2], strict=True)
        found |= {name for name, text in rules if re.search(r"\bgpu=", text)}
    return found


def snakemake(configfiles: list[str], *arguments: str) -> list[str]:
    """The command; targets come first, since several options take all words that follow."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    return [*command, "--configfile", *configfiles]


def planned(targets: list[str], configfiles: list[str], *options: str) -> dict[str, Planned]:
    """All files on the way to the targets, by name."""
    command = snakemake(configfiles, *targets, "--detailed-summary", *options)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise PlanError(done.stderr.strip())
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    head = lines[0]
    rows = [dict(zip(head, line, strict=True)) for line in lines[1:] if len(line) == len(head)]
    return {
        row["output_file"]: Planned(
            row["rule"], row["plan"] == "update pending", set(row["input-file(s)"].split(","))
        )
        for row in rows
    }


def stands_in(path: Path) -> bool:
    """Whether a file is one of `stand_ins`, which a run that was stopped may have left."""
    return path.is_file() and path.stat().st_size == 0 and path.stat().st_mtime == 0


@contextmanager
def stand_ins(manifest: Manifest) -> Iterator[set[str]]:
    """Empty files in place of weights and data that are not here, while it is planned; their names.

    Without the files that a job reads, the workflow takes what the job once made for given, and
    would not notice that another threshold asks for other captions under noise.
    """
    absent = [ROOT / name for name in manifest.sources if name.startswith("resources/")]
    absent = [path for path in absent if not os.path.lexists(path) or stands_in(path)]
    folders = []
    try:
        for path in absent:
            folders += [parent for parent in path.parents if not parent.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.utime(path, (0, 0))  # older than everything that was made from it
        yield {path.relative_to(ROOT).as_posix() for path in absent}
    finally:
        for path in absent:
            path.unlink(missing_ok=True)
        for folder in sorted(set(folders), key=lambda folder: -len(folder.parts)):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def elsewhere(manifest: Manifest) -> list[str]:
    """Files outside of the repository that the run was made from and that are not here."""
    made = (*manifest.laid, *manifest.folders)
    records = filter(None, (read_record(ROOT, path) for path in made))
    inputs = {path for record in records for path in record["input"] or ()}
    return sorted(path for path in inputs if Path(path).is_absolute() and not os.path.exists(path))


def drawable(
    targets: list[str], configfiles: list[str], absent: set[str]
) -> tuple[list[str], list[str], list[str]]:
    """Targets to draw, those that need a model first, and the rules that would hold one.

    What reads a file that is absent cannot run either: a text encoder's or a judge's.
    """
    plan = planned(targets, configfiles)
    holding = model_rules()
    held = {
        path: job.rule
        for path, job in plan.items()
        if job.pending and (job.rule in holding or job.inputs & absent)
    }
    if held:
        free = planned(targets, configfiles, "--omit-from", *held)
    else:
        free = plan
    pending = [path for path in targets if path in plan and plan[path].pending]
    return (
        [path for path in pending if path in free],
        [path for path in pending if path not in free],
        sorted(set(held.values())),
    )


def missing_pictures(manifest: Manifest) -> dict[str, str]:
    """Figures that show pictures that are neither in the bundle nor here, and whose they are."""
    return {
        figure: row["label"]
        for row in manifest.withheld
        if not (ROOT / row["root"]).is_dir()
        for figure in row["figures"]
    }


def names(paths: list[str]) -> str:
    """Figures and tables by name, such as two_stage/figure3, each once."""
    stems = {"/".join(Path(path).with_suffix("").parts[-2:]) for path in paths}
    return ", ".join(sorted(stems))


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        description="Draw what needs no model.",
        epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="name of a restored run")
    parser.add_argument("--configfile", nargs="+", default=[], help="laid over the run's own")
    parser.add_argument("--cores", default="2")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    given = parser.parse_args(arguments)
    share = ROOT / "results" / given.run / "share"
    if not (share / NAME).is_file():
        print(f"{given.run} is not restored here: there is no {share / NAME}", file=sys.stderr)
        return 1
    configfiles = [str((share / CONFIG).relative_to(ROOT)), *given.configfile]
    try:
        manifest = Manifest.from_json((share / NAME).read_bytes())
        unseen = missing_pictures(manifest)
        wanted = [path for path in manifest.figures if names([path]) not in unseen]
        outside = elsewhere(manifest) if given.configfile else []
        if outside:
            raise PlanError(
                f"The run was made from {outside[0]} too, outside of the repository, which is not "
                "here, so it cannot be told what a change leaves undone. Draw without "
                "--configfile, or put it there."
            )
        with stand_ins(manifest) as absent:
            now, later, rules = drawable(wanted, configfiles, absent)
    except (BundleError, PlanError) as error:
        print(error, file=sys.stderr)
        return 1
    for label in sorted(set(unseen.values())):
        figures = ", ".join(sorted(name for name, whose in unseen.items() if whose == label))
        print(f"Not drawn without the pictures of {label}: {figures}")
    if later:
        print(f"Not drawn, since a model is needed first ({', '.join(rules)}): {names(later)}")
    print(f"{'To draw' if given.dry_run else 'Drawing'}: {names(now) or 'nothing'}", flush=True)
    if given.dry_run:
        return 0
    if now:
        quiet = ("--quiet", "host", "reason", "--show-failed-logs")
        command = snakemake(configfiles, *now, "--cores", given.cores, *quiet)
        status = subprocess.run(command, cwd=ROOT).returncode
        if status:
            return status
    drawn = [path for path in wanted if path not in later and (ROOT / path).is_file()]
    same = [p for p in drawn if file_entry(ROOT / p).sha256 == manifest.figures[p]]
    print(f"{len(same)} of {len(drawn)} files have the bytes of those of the bundle's maker.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
