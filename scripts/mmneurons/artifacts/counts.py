"""Activation counts: how often every unit was active, a row a sample, and their sums by group.

A row holds, for each module, the number of tokens that were seen and, unit by unit, at how many of
them the unit was active. All are integers, so the sums are exact, whatever the order in which
they are taken and however the samples were dealt to shards. Files are written and read a row group
at a time: counts of all samples never are in memory together, only their names are.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mmneurons.artifacts.files import atomic
from mmneurons.artifacts.neurons import Neuron
from mmneurons.artifacts.tables import facts_metadata, read_facts
from mmneurons.artifacts.tensors import TensorFile, write_tensors

Layers = Mapping[str, Sequence[int]]
"""Module to the number of units of each of its layers."""

NAMES = ["sample_id", "group", "n_samples"]
LARGEST = 2**32 - 1
# Of a merged file: it depends on the model alone, never on how the shards were cut.
ROW_GROUP_BYTES = 2**24
ROW_GROUP_ROWS = 1024


@dataclass(frozen=True)
class CountBatch:
    """Some rows of a file of counts.

    sample_ids ("" where a row is a whole group), groups and n_samples: `rows`;
    tokens: by module, int64 `rows`; counts: by module, uint32 `rows x units`, the units of the
    module's layers one after the other.
    """

    sample_ids: list[str]
    groups: list[str]
    n_samples: np.ndarray
    tokens: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]


class TotalCounts(NamedTuple):
    """Sums by group.

    counts: by module, int64 `groups x units`; tokens: by module, int64 `groups`;
    n_samples: int64 `groups`.
    """

    counts: dict[str, np.ndarray]
    tokens: dict[str, np.ndarray]
    n_samples: np.ndarray


class CountsWriter:
    """Writes a file of counts in a stream; a context manager.

    layers: module to the units of each of its layers; facts: what else is known of the file. The
    file appears when the block ends without an exception.
    """

    def __init__(self, path: str | Path, layers: Layers, facts: dict | None = None):
        self.layers = {module: [int(n) for n in units] for module, units in layers.items()}
        if not self.layers or any(n < 1 for units in self.layers.values() for n in units):
            raise ValueError(f"counts need modules whose layers have units: {self.layers}")
        self._units = {module: sum(units) for module, units in self.layers.items()}
        self._schema = _schema(self._units, {**(facts or {}), "layers": self.layers})
        self._open = _parquet_writer(path, self._schema)
        self._written: set[str] = set()

    def __enter__(self) -> CountsWriter:
        self._file = self._open.__enter__()
        return self

    def __exit__(self, *error) -> bool | None:
        return self._open.__exit__(*error)

    def add(
        self,
        sample_ids: Sequence[str],
        groups: Sequence[str],
        n_samples: Sequence[int] | np.ndarray,
        tokens: Mapping[str, np.ndarray],
        counts: Mapping[str, np.ndarray],
    ) -> None:
        """Write rows as one row group.

        sample_ids: one a row, "" where the row is a whole group; n_samples: samples behind each
        row, 1 where the row is one; tokens: by module, integers `rows`; counts: by module,
        integers `rows x units`. Raises ValueError for a sample that the file has already, for
        missing modules and wrong shapes, for negative numbers and for a unit that was active at
        more tokens than there are.
        """
        rows = len(sample_ids)
        if not len(groups) == len(n_samples) == rows:
            raise ValueError("samples, groups and numbers of samples differ in number")
        for name, values in (("tokens", tokens), ("counts", counts)):
            if set(values) != set(self.layers):
                raise ValueError(f"{name} of {sorted(values)}, not of {sorted(self.layers)}")
        _note_new(sample_ids, self._written)
        columns = [pa.array(list(sample_ids), pa.string()), pa.array(list(groups), pa.string())]
        columns.append(pa.array(_integers(n_samples, (rows,), "numbers of samples"), pa.int64()))
        for module, units in self._units.items():
            seen = _integers(tokens[module], (rows,), f"tokens of {module}")
            active = _integers(counts[module], (rows, units), f"counts of {module}")
            names = [sample or group for sample, group in zip(sample_ids, groups, strict=True)]
            _check_possible(active, seen, names, module, self.layers[module])
            flat = pa.array(np.ascontiguousarray(active, dtype=np.uint32).ravel())
            columns.append(pa.array(seen.astype(np.int64)))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, type=_list_of(units)))
        if rows:
            table = pa.Table.from_arrays(columns, schema=self._schema)
            self._file.write_table(table, row_group_size=rows)


class CountsFile:
    """A file of counts, read a row group at a time; a context manager."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.facts = read_facts(path)
        self._file = pq.ParquetFile(path)
        self.schema = self._file.schema_arrow
        modules = [
            name.removeprefix("tokens.") for name in self.schema.names if name.startswith("tokens.")
        ]
        known = self.facts.get("layers", {})
        # Facts are sorted by name; the columns have the order in which the modules were given.
        self.layers = {module: known[module] for module in modules if module in known}
        units = {module: sum(layers) for module, layers in self.layers.items()}
        if not units or not self.schema.equals(_schema(units, self.facts)):
            raise ValueError(f"not a file of activation counts: {path}")

    def __enter__(self) -> CountsFile:
        return self

    def __exit__(self, *error) -> None:
        self._file.close()

    @property
    def n_row_groups(self) -> int:
        """Number of row groups."""
        return self._file.num_row_groups

    def table(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One row group as it is stored; columns: all unless told."""
        return self._file.read_row_group(number, columns=columns, use_threads=False)

    def batch(self, number: int, columns: Sequence[str] | None = None) -> CountBatch:
        """One row group; columns: such as "tokens.vision" and "counts.vision", all unless told."""
        wanted = self.schema.names if columns is None else [*NAMES, *columns]
        unknown = sorted(set(wanted) - set(self.schema.names))
        if unknown:
            raise ValueError(f"{self.path} has no column {', '.join(unknown)}")
        table = self.table(number, wanted)
        return CountBatch(
            table["sample_id"].to_pylist(),
            table["group"].to_pylist(),
            table["n_samples"].to_numpy(),
            {m: table[f"tokens.{m}"].to_numpy() for m in self.layers if f"tokens.{m}" in wanted},
            {
                module: _matrix(table[f"counts.{module}"], sum(units))
                for module, units in self.layers.items()
                if f"counts.{module}" in wanted
            },
        )


def read_count_batches(
    paths: str | Path | Iterable[str | Path], columns: Sequence[str] | None = None
) -> Iterator[CountBatch]:
    """The row groups of files of counts, one after the other; only one is held.

    columns: such as "tokens.vision" and "counts.vision"; all unless told. sample_id, group and
    n_samples always are there. Raises ValueError where the files are not of one recording.
    """
    with ExitStack() as stack:
        for file in _open(stack, paths):
            for number in range(file.n_row_groups):
                yield file.batch(number, columns)


def merge_sample_counts(
    paths: Iterable[str | Path], out: str | Path, order: Sequence[str]
) -> list[str]:
    """Put shards together in the order of the list of samples.

    The file is the same, byte for byte, for any number of shards and any way to deal the samples
    to them. Where each shard holds its rows in the order of the list, every row group is read once
    and given up when its last row is written. Returns the samples of the list that no shard has.
    Raises ValueError for a sample that is there twice or that the list does not have, and for
    shards that are not of one recording.
    """
    with ExitStack() as stack:
        files = _open(stack, paths)
        places = _places(files)
        if len(set(order)) < len(order):
            raise ValueError("the list of samples has a sample twice")
        unknown = sorted(set(places) - set(order))
        if unknown:
            raise ValueError(f"not in the list: {_number(unknown)}")
        wanted = [places[sample_id] for sample_id in order if sample_id in places]
        units = sum(map(sum, files[0].layers.values()))
        rows = max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES // (4 * units)))
        groups = _RowGroups(files, wanted)
        writer = stack.enter_context(_parquet_writer(out, files[0].schema))
        for start in range(0, len(wanted), rows):
            pieces = list(groups.pieces(wanted[start : start + rows]))
            writer.write_table(pa.concat_tables(pieces).combine_chunks(), row_group_size=rows)
    return [sample_id for sample_id in order if sample_id not in places]


def merge_group_counts(
    paths: Iterable[str | Path], out: str | Path, groups: Sequence[str]
) -> TotalCounts:
    """Add up shards that keep counts by group: a file with a row a group, in this order.

    A group of which nothing was counted has a row of zeros. Returns the sums. Raises ValueError as
    `total_counts` does, and where a sum is too large for the file.
    """
    paths = list(paths)
    total = total_counts(paths, groups)
    with ExitStack() as stack:
        file = _open(stack, paths)[0]
        writer = stack.enter_context(CountsWriter(out, file.layers, file.facts))
        for row, group in enumerate(groups):
            own = slice(row, row + 1)
            tokens = {module: values[own] for module, values in total.tokens.items()}
            counts = {module: values[own] for module, values in total.counts.items()}
            writer.add([""], [group], total.n_samples[own], tokens, counts)
    return total


def total_counts(
    source: str | Path | Sequence[str | Path] | Iterable[CountBatch],
    groups: Sequence[str],
    membership: pd.DataFrame | None = None,
) -> TotalCounts:
    """Sums of counts by group, from files or from batches.

    membership: sample_id and group, a row for each group that a sample belongs to; a sample may be
    in several, or in none. Without it a sample belongs to the group of its row, or to none where
    that is empty. A group without samples has zeros.

    Raises ValueError for a sample that is there twice, for groups that are not among `groups`, and
    for samples of `membership` of which there are no counts.
    """
    places = {group: place for place, group in enumerate(groups)}
    if len(places) < len(groups):
        raise ValueError(f"a group is given twice: {list(groups)}")
    members = None if membership is None else _members(membership)
    paths, sums, seen = _as_paths(source), None, set()
    if paths:
        with CountsFile(paths[0]) as file:
            sums = _zeros({module: sum(n) for module, n in file.layers.items()}, len(groups))
    for batch in read_count_batches(paths) if paths else source:
        if sums is None:
            sums = _zeros({m: values.shape[1] for m, values in batch.counts.items()}, len(groups))
        _note_new(batch.sample_ids, seen)
        rows = _rows_by_group(batch, members)
        unknown = sorted(rows.keys() - places.keys())
        if unknown:
            raise ValueError(f"counts of {', '.join(unknown)}, which is none of {list(groups)}")
        for group, own in rows.items():
            _add(sums, places[group], batch, own)
    if sums is None:
        raise ValueError("there are no counts to add up")
    without = sorted((members or {}).keys() - seen)
    if without:
        raise ValueError(f"no counts of {_number(without)}")
    return sums


def write_counts(total: TotalCounts, path: str | Path, facts: dict) -> None:
    """Write sums by group; facts: those of the recording, with `groups` and `layers`."""
    tensors = {f"counts.{module}": values for module, values in total.counts.items()}
    tensors |= {f"tokens.{module}": values for module, values in total.tokens.items()}
    write_tensors(tensors, path, {**facts, "n_samples": total.n_samples.tolist()})


def read_counts(path: str | Path) -> tuple[TotalCounts, dict]:
    """Sums by group, and the file's facts; modules come in the order of their names."""
    file = TensorFile(path)
    facts = dict(file.facts)
    counts = {module: file[f"counts.{module}"] for module in facts["layers"]}
    tokens = {module: file[f"tokens.{module}"] for module in facts["layers"]}
    n_samples = np.array(facts.pop("n_samples"), dtype=np.int64)
    return TotalCounts(counts, tokens, n_samples), facts


# ------------------------------------------------------------------------------------- the format


def _list_of(units: int) -> pa.DataType:
    return pa.list_(pa.field("element", pa.uint32(), nullable=False), units)


def _schema(units: Mapping[str, int], facts: dict) -> pa.Schema:
    fields = [("sample_id", pa.string()), ("group", pa.string()), ("n_samples", pa.int64())]
    for module, n in units.items():
        fields += [(f"tokens.{module}", pa.int64()), (f"counts.{module}", _list_of(n))]
    named = [pa.field(name, kind, nullable=False) for name, kind in fields]
    return pa.schema(named, metadata=facts_metadata(facts))


@contextmanager
def _parquet_writer(path: str | Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet writer whose file appears when the block ends without an exception."""
    lists = [f"{name}.list.element" for name in schema.names if name.startswith("counts.")]
    with (
        atomic(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            # The lowest bytes of all counts together, then the next ones: the upper ones are zeros
            # and cost nothing. Smaller and faster than a dictionary or plain numbers.
            use_byte_stream_split=lists,
            use_dictionary=False,
            write_statistics=False,
        ) as writer,
    ):
        yield writer


def _matrix(column: pa.ChunkedArray, units: int) -> np.ndarray:
    """A column of lists as `rows x units`."""
    return column.combine_chunks().flatten().to_numpy().reshape(-1, units)


# ---------------------------------------------------------------------------------- what is wrong


def _integers(values, shape: tuple[int, ...], what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != shape:
        raise ValueError(f"{what} have the shape {values.shape}, not {shape}")
    if values.size and values.dtype.kind not in "iu":
        raise ValueError(f"{what} are {values.dtype}, not integers")
    if values.size and values.min() < 0:
        raise ValueError(f"{what} are negative")
    return values


def _check_possible(
    counts: np.ndarray,
    tokens: np.ndarray,
    names: Sequence[str],
    module: str,
    layers: Sequence[int],
) -> None:
    """No unit is active at more tokens than there are, and every count fits the file."""
    largest = counts.max(axis=1, initial=0)
    for row in np.flatnonzero(largest > np.minimum(tokens, LARGEST)):
        ends, place = np.cumsum(layers), int(counts[row].argmax())
        layer = int(np.searchsorted(ends, place, side="right"))
        unit = Neuron(module, layer, place - int(ends[layer]) + layers[layer])
        limit = f"the most that a file holds is {LARGEST}"
        if largest[row] > tokens[row]:
            limit = f"there are {tokens[row]} tokens"
        raise ValueError(f"{unit} of {names[row]!r} was active {largest[row]} times, but {limit}")


def _note_new(sample_ids: Sequence[str], seen: set[str]) -> None:
    """Add names to those seen; "" stands for a whole group and may come again."""
    for sample_id in filter(None, sample_ids):
        if sample_id in seen:
            raise ValueError(f"the sample {sample_id!r} is there twice")
        seen.add(sample_id)


def _number(sample_ids: Sequence[str]) -> str:
    """How many samples, and which is the first."""
    return f"{len(sample_ids)} sample{'s' * (len(sample_ids) > 1)}, such as {sample_ids[0]!r}"


def _as_paths(source) -> list[str | Path]:
    """The files of a source, none where it is batches."""
    if isinstance(source, str | Path):
        return [source]
    if isinstance(source, Sequence) and all(isinstance(path, str | Path) for path in source):
        return list(source)
    return []


def _open(stack: ExitStack, paths: str | Path | Iterable[str | Path]) -> list[CountsFile]:
    """Files of one recording: all that is said of them is the same."""
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if not paths:
        raise ValueError("there are no files of counts")
    files = [stack.enter_context(CountsFile(path)) for path in paths]
    first = files[0]
    for file in files[1:]:
        for name in sorted(first.facts.keys() | file.facts.keys()):
            if first.facts.get(name) != file.facts.get(name):
                raise ValueError(
                    f"counts of different recordings: {name} is {_brief(first.facts.get(name))} in "
                    f"{first.path} and {_brief(file.facts.get(name))} in {file.path}"
                )
        if list(file.layers) != list(first.layers):
            raise ValueError(f"the modules of {first.path} and {file.path} differ in their order")
    return files


def _brief(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


# --------------------------------------------------------------------------------- putting together

Place = tuple[int, int, int]
"""File, row group of the file, row of the row group."""


def _places(files: Sequence[CountsFile]) -> dict[str, Place]:
    """Where every sample is."""
    places: dict[str, Place] = {}
    for number, file in enumerate(files):
        for group in range(file.n_row_groups):
            for row, name in enumerate(file.table(group, ["sample_id"])["sample_id"].to_pylist()):
                if not name:
                    raise ValueError(f"{file.path} keeps counts by group, not by sample")
                if name in places:
                    other = files[places[name][0]].path
                    raise ValueError(f"the sample {name!r} is there twice: {other}, {file.path}")
                places[name] = (number, group, row)
    return places


class _RowGroups:
    """Rows of several files; a row group is read when asked for and given up after its last row."""

    def __init__(self, files: Sequence[CountsFile], wanted: Iterable[Place]):
        self._files = files
        self._held: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._left: dict[tuple[int, int], int] = {}
        for file, group, _ in wanted:
            self._left[file, group] = self._left.get((file, group), 0) + 1

    def pieces(self, places: Sequence[Place]) -> Iterator[pa.Table]:
        """The rows at these places, neighbours in one piece."""
        numbered = enumerate(places)
        for key, run in groupby(numbered, lambda item: (*item[1][:2], item[1][2] - item[0])):
            rows = [place[2] for _, place in run]
            yield self._row_group(key[:2], len(rows)).slice(rows[0], len(rows))

    def _row_group(self, key: tuple[int, int], rows: int) -> pa.Table:
        table = self._held.pop(key, None)
        if table is None:
            table = self._files[key[0]].table(key[1])
        self._left[key] -= rows
        if self._left[key]:
            self._held[key] = table
            # Shards in another order than the list's would otherwise fill the memory.
            if len(self._held) > max(2, len(self._files)):
                self._held.popitem(last=False)
        return table


# -------------------------------------------------------------------------------------- adding up


def _members(membership: pd.DataFrame) -> dict[str, list[str]]:
    """The groups of every sample."""
    if membership.duplicated(["sample_id", "group"]).any():
        raise ValueError("the table of groups has a sample twice in one group")
    members: dict[str, list[str]] = {}
    for sample_id, group in zip(membership["sample_id"], membership["group"], strict=True):
        members.setdefault(sample_id, []).append(group)
    return members


def _rows_by_group(
    batch: CountBatch, members: Mapping[str, list[str]] | None
) -> dict[str, list[int]]:
    """The rows of a batch that belong to each group."""
    rows: dict[str, list[int]] = {}
    for row, (sample_id, group) in enumerate(zip(batch.sample_ids, batch.groups, strict=True)):
        if members is not None and not sample_id:
            raise ValueError("counts that were kept by group cannot be grouped by sample")
        own = filter(None, [group]) if members is None else members.get(sample_id, [])
        for name in own:
            rows.setdefault(name, []).append(row)
    return rows


def _zeros(units: Mapping[str, int], groups: int) -> TotalCounts:
    return TotalCounts(
        {module: np.zeros((groups, n), dtype=np.int64) for module, n in units.items()},
        {module: np.zeros(groups, dtype=np.int64) for module in units},
        np.zeros(groups, dtype=np.int64),
    )


def _add(sums: TotalCounts, place: int, batch: CountBatch, rows: list[int]) -> None:
    for module, values in sums.counts.items():
        values[place] += batch.counts[module][rows].sum(axis=0, dtype=np.int64)
        sums.tokens[module][place] += batch.tokens[module][rows].sum()
    sums.n_samples[place] += batch.n_samples[rows].sum()
