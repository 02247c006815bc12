"""What a run cost: time, memory and GPU hours of its jobs, from Snakemake's benchmark files.

A job's benchmark file is named after its rule, `{rule}.tsv` or `{rule}.{wildcards}.tsv`, and so is
its log. The file of rules in which a rule stands says its stage; its text says how many GPUs it
asks for. Whether there was a GPU no benchmark says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

STAGES = (
    *("fetch", "world", "prepare", "caption", "record", "select", "intervene", "evaluate"),
    *("draw", "share", "browser"),
)
"""In the order of the workflow. A file of rules is named after its stage: select_domains.smk."""

UNKNOWN = "unknown"
MEASURES = {"s": "wall_seconds", "cpu_time": "cpu_seconds", "max_rss": "memory_mb"}
"""Columns of a benchmark file that are read (memory in MiB), and what they are called here."""


@dataclass(frozen=True)
class Rule:
    """A rule as it is written: its stage, the GPUs that each of its jobs asks for, its text."""

    name: str
    stage: str
    gpus: int
    text: str


def read_rules(folder: Path) -> dict[str, Rule]:
    """The rules of all .smk files of a folder, by name."""
    rules = {}
    for path in sorted(folder.glob("*.smk")):
        stage = path.stem.partition("_")[0]
        _, *parts = re.split(r"^(?:rule|checkpoint) (\w+):$", path.read_text("utf-8"), flags=re.M)
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            asked = re.search(r"\bgpu=(\w+)", text)
            rules[name] = Rule(name, stage, int(asked[1]) if asked else 0, text)
    return rules


def read_jobs(results: list[Path], rules: dict[str, Rule]) -> pd.DataFrame:
    """One row a job: stage, rule, gpus, wall_seconds, cpu_seconds, memory_mb (its peak).

    results: folders with `benchmarks/` and `logs/`. What is not known is NaN: Snakemake writes "NA"
    where a job ended before it was looked at, and no file at all for a job that has a log but
    failed, was killed or still runs. A rule that `rules` lacks is of the stage "unknown".
    """
    rows = []
    for folder in results:
        for path in _stems(folder / "benchmarks", ".tsv") | _stems(folder / "logs", ".log"):
            name = path.name.partition(".")[0]
            rule = rules.get(name, Rule(name, UNKNOWN, 0, ""))
            own = {"stage": rule.stage, "rule": name, "gpus": rule.gpus}
            for measures in _measures(folder / "benchmarks" / f"{path}.tsv"):
                rows.append(own | measures)
    table = pd.DataFrame(rows, columns=["stage", "rule", "gpus", *MEASURES.values()])
    return table.astype(dict.fromkeys(MEASURES.values(), float))


def summarise(jobs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Costs by stage, or by stage and rule, in the workflow's order, and a row for all of them.

    Columns: those of `by`; jobs; unknown, of how many jobs a number is missing; wall_seconds and
    cpu_seconds, sums; memory_mb, the highest peak; gpu_hours, wall time times GPUs asked for. Sums
    and peaks are of what is known, NaN where nothing is.
    """
    jobs = jobs.assign(
        unknown=jobs[list(MEASURES.values())].isna().any(axis=1),
        # Without a GPU a job of unknown length costs none.
        gpu_hours=(jobs["wall_seconds"] * jobs["gpus"] / 3600).where(jobs["gpus"] > 0, 0.0),
    )
    order = {stage: place for place, stage in enumerate((*STAGES, UNKNOWN))}
    table = pd.DataFrame(
        [dict(zip(by, key, strict=True)) | _total(own) for key, own in jobs.groupby(by)]
        + [dict.fromkeys(by, "") | {by[0]: "all"} | _total(jobs)]
    )
    return table.sort_values(
        by, key=lambda c: c.map(lambda w: order.get(w, len(order))) if c.name == "stage" else c
    ).reset_index(drop=True)


def markdown(table: pd.DataFrame) -> str:
    """A summary for reading: hours as h:mm:ss, memory in GB."""
    gigabytes = table["memory_mb"] * 2**20 / 1e9
    shown = table.loc[:, :"unknown"].assign(
        **{
            "wall time": table["wall_seconds"].map(_clock),
            "CPU time": table["cpu_seconds"].map(_clock),
            "peak memory (GB)": gigabytes.map(lambda gb: UNKNOWN if pd.isna(gb) else f"{gb:.2f}"),
            "GPU hours": table["gpu_hours"].map(lambda h: UNKNOWN if pd.isna(h) else f"{h:.3f}"),
        }
    )
    left = shown.columns.isin(["stage", "rule"])
    align = ["left" if of_words else "right" for of_words in left]
    return shown.to_markdown(index=False, disable_numparse=True, colalign=align)


def _stems(folder: Path, suffix: str) -> set[Path]:
    """Paths below a folder without their suffix, which logs and benchmarks have in common."""
    found = folder.rglob(f"*{suffix}")
    return {path.relative_to(folder).with_name(path.name.removesuffix(suffix)) for path in found}


def _measures(path: Path) -> Iterator[dict[str, float]]:
    """What is known of the jobs of a benchmark file; nothing, of one job, without the file."""
    try:
        table = pd.read_csv(path, sep="\t", na_values=["-", "NA"], usecols=list(MEASURES))
    except (FileNotFoundError, ValueError):  # pandas' EmptyDataError is a ValueError
        table = pd.DataFrame()
    yield from table.rename(columns=MEASURES).to_dict("records") or [{}]


def _total(jobs: pd.DataFrame) -> dict[str, float]:
    times = {name: jobs[name].sum(min_count=1) for name in ("wall_seconds", "cpu_seconds")}
    peak = {"memory_mb": jobs["memory_mb"].max()}
    hours = {"gpu_hours": jobs["gpu_hours"].sum(min_count=1)}
    return {"jobs": len(jobs), "unknown": int(jobs["unknown"].sum())} | times | peak | hours


def _clock(seconds: float) -> str:
    if pd.isna(seconds):
        return UNKNOWN
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
