"""DocVQA's questions without its pictures, read by range out of the tables on the hub."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmneurons.artifacts.files import atomic
from mmneurons.console import progress
from mmneurons.datasets.doc_vqa import COLUMNS, ORIGIN
from mmneurons.downloads.errors import DownloadError
from mmneurons.downloads.http import by_hand
from mmneurons.downloads.hub import HubRepo


def write_table_of_questions(repo: HubRepo, pattern: str, path: Path) -> None:
    """Write the columns COLUMNS of all pieces that fit the pattern, and where each row comes from.

    Added are `piece`, the file in the repository, `row_group` and `row`, its place in that. Of the
    pieces only these columns are read. Raises `DownloadError` where pieces are missing.
    """
    pieces = repo.files(pattern)
    said = re.search(r"-of-(\d+)", pieces[0]) if pieces else None
    if said is None or len(pieces) != int(said[1]):
        failed = [f"{len(pieces)} pieces {pattern} of {said[1] if said else 'an unknown number'}"]
        raise DownloadError(by_hand(path, failed, repo.page))
    tables = []
    for piece in progress(pieces, description=f"Questions of {pattern}"):
        with repo.open(piece) as stream, pq.ParquetFile(stream) as parquet:
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=COLUMNS)
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
