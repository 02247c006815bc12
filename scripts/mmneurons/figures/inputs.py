"""Reading what figures and tables of several models show, side by side.

Every table of several models has a column `model`, categorical, whose categories are all the
models in the order in which they are shown, also those that have no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from mmneurons.artifacts.tables import read_table


def read_inputs(
    inputs: Mapping[str, str | Sequence[str]], models: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Read named inputs: one path is one table, several are one a model, put together.

    Paths end in .parquet or .csv; several are in the order of `models`, the models' labels.
    """
    return {
        name: _read(paths)
        if isinstance(paths, (str, Path))
        else by_model(models, [_read(path) for path in paths])
        for name, paths in inputs.items()
    }


def _read(path: str | Path) -> pd.DataFrame:
    # The name of a picture is a text, though most are made of digits.
    names = {"picture_id": str}
    return pd.read_csv(path, dtype=names) if Path(path).suffix == ".csv" else read_table(path)


def by_model(models: Sequence[str], tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Put one table a model together, with the column `model`."""
    labelled = list(zip(models, tables, strict=True))
    # Empty tables have no types of their own and would turn the others' columns into objects.
    filled = [(model, table) for model, table in labelled if len(table)] or labelled[:1]
    together = pd.concat([table.assign(model=model) for model, table in filled], ignore_index=True)
    return together.assign(model=pd.Categorical(together["model"], categories=list(models)))


def models_of(table: pd.DataFrame) -> list[str]:
    """All models of a table, also those without a row."""
    return list(table["model"].cat.categories)


def of_models(table: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    """The table with the models of another one as categories."""
    return table.assign(model=pd.Categorical(table["model"], categories=models_of(like)))
