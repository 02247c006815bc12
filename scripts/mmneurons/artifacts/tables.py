"""Tables: Parquet with the run's facts in the file's metadata, and CSV for readers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mmneurons.artifacts.files import atomic

_KEY = b"mmneurons"


def write_table(table: pd.DataFrame, path: str | Path, facts: dict | None = None) -> None:
    """Write Parquet; `facts` (model, dataset, seed, ...) go into the file's metadata as JSON."""
    arrow = pa.Table.from_pandas(table.reset_index(drop=True), preserve_index=False)
    # pandas' own metadata names library versions, which would make equal tables differ in bytes.
    arrow = arrow.replace_schema_metadata(facts_metadata(facts or {}))
    with atomic(path) as temporary:
        pq.write_table(arrow, temporary, compression="zstd")


def facts_metadata(facts: dict) -> dict[bytes, bytes]:
    """Facts as the metadata of an Arrow schema, in which `read_facts` finds them."""
    return {_KEY: json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()}


def read_table(path: str | Path) -> pd.DataFrame:
    """Read Parquet."""
    return pq.read_table(path).to_pandas()


def read_facts(path: str | Path) -> dict:
    """The facts that are in the file, as `write_table` and `CountsWriter` put them there."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata.get(_KEY, b"{}"))


def read_tables(paths: Iterable[str | Path], sort: list[str]) -> pd.DataFrame:
    """Shards put together in an order that does not depend on how they were cut."""
    return put_together([read_table(path) for path in paths], sort)


def put_together(tables: Sequence[pd.DataFrame], sort: list[str]) -> pd.DataFrame:
    """Tables of shards, of which some may be empty, as one in an order of its own."""
    return stacked(tables).sort_values(sort, kind="stable", ignore_index=True)


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables one below the other, of which some may be empty."""
    # Empty ones have no types of their own and would turn the others' columns into objects.
    filled = [table for table in tables if len(table)] or list(tables[:1])
    return pd.concat(filled, ignore_index=True)


def in_order(table: pd.DataFrame, column: str, order: Sequence[str]) -> pd.DataFrame:
    """The rows whose `column` is among some names, in the order of these.

    Rows of one name stay in the order in which they are.
    """
    places = {name: place for place, name in enumerate(order)}
    rows = table[table[column].isin(list(places))]
    return rows.sort_values(
        column, key=lambda names: names.map(places), kind="stable", ignore_index=True
    )


def read_neurons(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Neuron tables one after the other, with method, site and variant, which their names hold."""
    tables = []
    for path in paths:
        method, site, variant, _ = Path(path).name.split(".")
        tables.append(read_table(path).assign(method=method, site=site, variant=variant))
    return pd.concat(tables, ignore_index=True)


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write CSV without an index, floats with seven significant digits."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")
