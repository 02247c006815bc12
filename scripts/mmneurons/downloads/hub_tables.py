"""Some columns of tables on the hub, read by range, with the place that each row came from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmneurons.artifacts.files import atomic
from mmneurons.console import progress
from mmneurons.downloads.errors import DownloadError
from mmneurons.downloads.http import by_hand
from mmneurons.downloads.hub import HubRepo

ORIGIN = ("piece", "row_group", "row")
"""Where a row comes from: the file in the repository, its row group, its place in that."""


def write_columns(repo: HubRepo, pattern: str, columns: Sequence[str], path: Path) -> None:
    """Write columns of all pieces of a table that fit the pattern, and ORIGIN of each row.

    Of the pieces only these columns are read. Raises `DownloadError` where pieces are missing, as
    their names tell.
    """
    pieces = repo.files(pattern)
    said = re.search(r"-of-(\d+)", pieces[0]) if pieces else None
    if said is None or len(pieces) != int(said[1]):
        failed = [f"{len(pieces)} pieces {pattern} of {said[1] if said else 'an unknown number'}"]
        raise DownloadError(by_hand(path, failed, repo.page))
    tables = []
    for piece in progress(pieces, description=pattern):
        with repo.open(piece) as stream, pq.ParquetFile(stream) as parquet:
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=list(columns))
                origin = (
                    pa.array([piece] * len(table), pa.string()),
                    pa.array([group] * len(table), pa.int32()),
                    pa.array(range(len(table)), pa.int32()),
                )
                for name, column in zip(ORIGIN, origin, strict=True):
                    table = table.append_column(name, column)
                tables.append(table.replace_schema_metadata(None))
    with atomic(path) as temporary:
        pq.write_table(pa.concat_tables(tables), temporary, compression="zstd")
