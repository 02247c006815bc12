"""Tables beyond the paper: every variant, both sites, and what was left out."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from mmneurons.figures.shown import Source, method_label
from mmneurons.figures.tables import MEASURES, escaped, interval, left_out_page, page

Pair = tuple[str, str]


def averages(suppression: pd.DataFrame) -> pd.DataFrame:
    """The rows of a suppression table that average over objects and levels."""
    return suppression[suppression["group"].fillna("").eq("") & suppression["level"].isna()]


def variants_data(
    suppression: pd.DataFrame,
    neurons: Mapping[Pair, pd.DataFrame],
    samples: Collection[str],
    inert_layers: Collection[int],
) -> pd.DataFrame:
    """Averages of every method and variant, with the size and the inert share of its selection.

    neurons: the table of each (method, variant); samples: those for evaluation. Adds
    neurons_per_sample (mean) and inert_share, the share of neurons in layers that cannot reach the
    logit.
    """
    rows = []
    for (method, variant), table in neurons.items():
        table = table[table["sample_id"].isin(samples)]
        seeds = table["seed"].nunique() if "seed" in table and len(table) else 1
        inert = table["layer"].isin(inert_layers).mean() if len(table) else np.nan
        rows.append(
            {
                "method": method,
                "variant": variant,
                "neurons_per_sample": len(table) / seeds / len(samples),
                "inert_share": inert,
            }
        )
    means = averages(suppression).drop(columns=["group", "level"])
    return pd.DataFrame(rows).merge(means, on=["method", "variant"], how="left")


def sites_data(
    suppression: Mapping[str, pd.DataFrame],
    neurons: Mapping[str, Mapping[Pair, pd.DataFrame]],
    samples: Collection[str],
) -> pd.DataFrame:
    """Averages of every method at every site, and how much its selection shares with the first.

    suppression and neurons: by site. shared_with_first is the mean over samples of the Jaccard
    index of the neurons here and at the first site; NaN where a sample has none at either.
    """
    first = next(iter(neurons))
    rows = []
    for site, tables in neurons.items():
        means = averages(suppression[site]).set_index(["method", "variant"])
        for pair, table in tables.items():
            row = {"site": site, "method": pair[0], "variant": pair[1]}
            row["shared_with_first"] = _shared(table, neurons[first][pair], samples)
            rows.append(row | (means.loc[pair].to_dict() if pair in means.index else {}))
    return pd.DataFrame(rows).drop(columns=["group", "level"], errors="ignore")


def _shared(one: pd.DataFrame, other: pd.DataFrame, samples: Collection[str]) -> float:
    columns = ["sample_id", "layer", "unit", *(["seed"] if "seed" in one else [])]
    sets = [
        {
            sample: set(rows[columns].itertuples(index=False, name=None))
            for sample, rows in table.groupby("sample_id")
        }
        for table in (one, other)
    ]
    pairs = [(sets[0].get(sample, set()), sets[1].get(sample, set())) for sample in samples]
    return float(np.mean([len(a & b) / len(a | b) if a | b else np.nan for a, b in pairs]))


def averages_page(data: pd.DataFrame, source: Source, title: str, caption: str) -> str:
    """Set `variants_data` or `sites_data` as a page."""
    rows = []
    for row in data.to_dict("records"):
        cells = {"site": row["site"]} if "site" in row else {}
        cells["neurons"] = method_label(row["method"], row["variant"])
        for name, head in (
            ("neurons_per_sample", "neurons a sample"),
            ("inert_share", "inert share"),
            ("shared_with_first", "shared with first site"),
        ):
            if name in row:
                cells[head] = f"{row[name]:.2f}"
        cells["objects"] = f"{row.get('n_groups', np.nan):.0f}"
        for measure in MEASURES:
            bounds = (row.get(f"{measure}{end}", np.nan) for end in ("", "_low", "_high"))
            cells[measure] = interval(*bounds)
        rows.append(cells)
    return page(title, escaped(caption), {"": pd.DataFrame(rows)}, source)


def exclusions_page(exclusions: pd.DataFrame, source: Source, title: str) -> str:
    """Set the exclusions as a page."""
    caption = "Pictures and objects that were tried and left out, with the stage and the reason."
    return left_out_page(exclusions, source, title, caption)
