"""What the tables of all datasets have in common: typed columns, and those of exclusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

EXCLUSION_COLUMNS = dict.fromkeys(("stage", "sample_id", "group", "reason", "detail"), "str")
"""Columns of every table of exclusions, and their types."""


def typed_table(rows: Sequence, columns: Mapping[str, object]) -> pd.DataFrame:
    """A table of rows with these columns, of these types also where there is no row."""
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
