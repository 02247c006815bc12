"""Activation counts: exact sums in any order, the same bytes for any shards, bounded memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmneurons.artifacts import counts as module_of_counts
from mmneurons.artifacts.counts import (
    CountBatch,
    CountsFile,
    CountsWriter,
    merge_group_counts,
    merge_sample_counts,
    read_count_batches,
    read_counts,
    total_counts,
    write_counts,
)
from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.artifacts.tensors import TensorFile

# The modules are not in the order of their names, and layers differ in width.
LAYERS = {"vision": [4, 4, 2], "language": [7, 5], "qformer.query": [3], "qformer.text": [3]}
UNITS = {module: sum(units) for module, units in LAYERS.items()}
GROUPS = ["common", "medical", "driving"]
FACTS = {"model": "tiny", "revision": "1", "groups": GROUPS, "inert": {"vision": [2]}}


def samples(n, seed=0, largest=50):
    """{sample_id: (group, tokens, counts)}; numbers by module."""
    rng = np.random.default_rng(seed)
    made = {}
    for number in range(n):
        group = GROUPS[rng.integers(len(GROUPS))]
        tokens = {m: int(rng.integers(0, largest)) for m in LAYERS}
        counts = {m: rng.integers(0, tokens[m] + 1, units) for m, units in UNITS.items()}
        made[f"{group}-{number}"] = (group, tokens, counts)
    return made


def add(writer, made, ids):
    """Write some samples as one row group."""
    rows = [made[sample_id] for sample_id in ids]
    writer.add(
        ids,
        [group for group, _, _ in rows],
        np.ones(len(ids), np.int64),
        {m: np.array([tokens[m] for _, tokens, _ in rows], np.int64) for m in LAYERS},
        {m: np.array([c[m] for _, _, c in rows], int).reshape(-1, UNITS[m]) for m in LAYERS},
    )


def write(path, made, row_groups, facts=FACTS, layers=LAYERS):
    with CountsWriter(path, layers, facts) as writer:
        for ids in row_groups:
            add(writer, made, list(ids))
    return path


def cut(items, sizes):
    """Pieces of these sizes, again and again."""
    pieces, start = [], 0
    while start < len(items):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(items[start : start + size])
        start += size
    return pieces


def summed(made, groups, members):
    """The sums in plain Python: {group: {module: (tokens, counts)}}."""
    return {
        group: {
            m: (
                sum(tokens[m] for s, (_, tokens, _) in made.items() if group in members[s]),
                [
                    sum(int(c[m][u]) for s, (_, _, c) in made.items() if group in members[s])
                    for u in range(UNITS[m])
                ],
            )
            for m in LAYERS
        }
        for group in groups
    }


def assert_total(total, expected):
    for place, of_modules in enumerate(expected.values()):
        for m, (tokens, counts) in of_modules.items():
            assert total.tokens[m][place] == tokens
            assert total.counts[m][place].tolist() == counts
    assert list(total.counts) == list(total.tokens) == list(LAYERS)
    assert {a.dtype for part in total[:2] for a in part.values()} == {np.dtype(np.int64)}


# ------------------------------------------------------------------------------------ the format


def test_rows_read_back(tmp_path):
    made = samples(5)
    ids = list(made)
    path = write(tmp_path / "a.parquet", made, [ids[:2], ids[2:]])
    batches = list(read_count_batches(path))
    assert [batch.sample_ids for batch in batches] == [ids[:2], ids[2:]]
    for batch in batches:
        assert batch.n_samples.tolist() == [1] * len(batch.sample_ids)
        assert list(batch.counts) == list(LAYERS)
        for row, sample_id in enumerate(batch.sample_ids):
            group, tokens, counts = made[sample_id]
            assert batch.groups[row] == group
            for m in LAYERS:
                assert batch.tokens[m][row] == tokens[m]
                assert batch.counts[m].dtype == np.uint32
                assert batch.counts[m][row].tolist() == counts[m].tolist()
    assert read_facts(path) == FACTS | {"layers": LAYERS}


def test_the_file_is_plain_parquet(tmp_path):
    """It opens without this library, by pandas too."""
    made = samples(3)
    path = write(tmp_path / "a.parquet", made, [list(made)])
    schema = pq.read_schema(path)
    assert schema.names == ["sample_id", "group", "n_samples"] + [
        f"{kind}.{m}" for m in LAYERS for kind in ("tokens", "counts")
    ]
    kind = schema.field("counts.vision").type
    assert pa.types.is_fixed_size_list(kind)
    assert (kind.list_size, kind.value_type) == (10, pa.uint32())
    table = read_table(path)
    assert table["tokens.language"].tolist() == [made[s][1]["language"] for s in made]
    assert table["counts.qformer.text"].iloc[2].tolist() == list(
        made[list(made)[2]][2]["qformer.text"]
    )
    one = pd.read_parquet(path, columns=["counts.qformer.query"])
    assert one.columns.tolist() == ["counts.qformer.query"]


def test_tensors_are_taken_as_they_come_from_a_model(tmp_path):
    import torch

    made = samples(4)
    ids = list(made)
    write(tmp_path / "arrays.parquet", made, [ids])
    with CountsWriter(tmp_path / "tensors.parquet", LAYERS, FACTS) as writer:
        tokens = {m: torch.tensor([made[s][1][m] for s in ids]) for m in LAYERS}
        counts = {m: torch.tensor(np.array([made[s][2][m] for s in ids])) for m in LAYERS}
        writer.add(ids, [made[s][0] for s in ids], [1] * 4, tokens, counts)
    assert (tmp_path / "arrays.parquet").read_bytes() == (tmp_path / "tensors.parquet").read_bytes()


def test_columns_are_read_alone(tmp_path):
    made = samples(3)
    path = write(tmp_path / "a.parquet", made, [list(made)])
    (batch,) = read_count_batches(path, ["counts.vision", "tokens.qformer.text"])
    assert list(batch.counts) == ["vision"]
    assert list(batch.tokens) == ["qformer.text"]
    assert batch.sample_ids == list(made)
    with pytest.raises(ValueError, match=r"no column counts\.visio$"):
        list(read_count_batches(path, ["counts.visio"]))


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    made = samples(4)
    with pytest.raises(KeyboardInterrupt), CountsWriter(tmp_path / "a.parquet", LAYERS) as writer:
        add(writer, made, list(made))
        assert not (tmp_path / "a.parquet").exists()
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    with pytest.raises(TypeError):
        CountsWriter(tmp_path / "a.parquet", LAYERS, {"fact": object()})
    assert os.listdir(tmp_path) == []


def test_a_shard_without_samples_is_a_file_like_others(tmp_path):
    made = samples(4)
    empty = write(tmp_path / "empty.parquet", made, [])
    with CountsWriter(tmp_path / "nothing.parquet", LAYERS, FACTS) as writer:
        add(writer, made, [])
    assert list(read_count_batches([empty, tmp_path / "nothing.parquet"])) == []
    total = total_counts(empty, GROUPS)  # the file says which units there are
    assert {m: c.shape for m, c in total.counts.items()} == {m: (3, n) for m, n in UNITS.items()}
    assert not any(c.any() for c in total.counts.values())
    full = write(tmp_path / "full.parquet", made, [list(made)])
    merge_sample_counts([empty, full], tmp_path / "both.parquet", list(made))
    merge_sample_counts([full], tmp_path / "one.parquet", list(made))
    assert (tmp_path / "both.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


LLAVA_NEXT = {"language": [11008] * 32, "vision": [4096] * 24, "projector": [4096]}


@pytest.mark.parametrize("kind", ["skewed", "worst"])
def test_a_row_of_a_7b_model_takes_less_than_a_megabyte(tmp_path, kind):
    """2,900 tokens, as five tiles of a picture have. Worst: every count is as likely as another."""
    rng = np.random.default_rng(0)
    rows, tokens = 2, 2900
    counts = {}
    for m, units in LLAVA_NEXT.items():
        shape = (rows, sum(units))
        share = rng.beta(0.8, 4, shape[1])
        skewed = rng.binomial(tokens, share, shape)
        counts[m] = skewed if kind == "skewed" else rng.integers(0, tokens + 1, shape)
    assert sum(c.shape[1] for c in counts.values()) == 454_656
    path = tmp_path / "a.parquet"
    with CountsWriter(path, LLAVA_NEXT) as writer:
        seen = dict.fromkeys(counts, np.full(rows, tokens))
        writer.add(["a", "b"], ["x", "x"], [1, 1], seen, counts)
    assert path.stat().st_size / rows < 700_000
    (batch,) = read_count_batches(path)
    assert all(np.array_equal(batch.counts[m], counts[m]) for m in counts)


# --------------------------------------------------------------------------- exact in any order


@pytest.mark.parametrize("seed", range(60))
def test_any_partition_and_order_gives_the_same_totals(tmp_path, seed):
    """Samples are dealt to files at random and written in row groups of random sizes."""
    rng = np.random.default_rng([7, seed])
    n = int(rng.integers(1, 25))
    # Some counts near the largest number that a row can hold, so that sums exceed 32 bits.
    made = samples(n, seed, largest=50 if seed % 2 else 2**32)
    members = {s: {group} for s, (group, _, _) in made.items()}
    expected = summed(made, GROUPS, members)
    ids = list(made)
    shards = int(rng.integers(1, 6))
    shuffled = [ids[i] for i in rng.permutation(n)]
    dealt = [[] for _ in range(shards)]
    for sample_id in shuffled:
        dealt[rng.integers(shards)].append(sample_id)
    paths = [
        write(tmp_path / f"{k}.parquet", made, cut(own, rng.integers(1, 5, 4).tolist()))
        for k, own in enumerate(dealt)
    ]
    for _ in range(2):
        assert_total(total_counts([paths[i] for i in rng.permutation(shards)], GROUPS), expected)
    # Sums of sums are the same sums.
    parts = [total_counts(path, GROUPS) for path in paths]
    for m in LAYERS:
        together = sum(part.counts[m] for part in parts)
        assert np.array_equal(together, total_counts(paths, GROUPS).counts[m])
    # And so are those of the merged file, and its bytes are those of any other cut.
    assert merge_sample_counts(paths[::-1], tmp_path / "merged.parquet", ids) == []
    whole = write(tmp_path / "whole.parquet", made, [ids])
    merge_sample_counts([whole], tmp_path / "one.parquet", ids)
    merged = (tmp_path / "merged.parquet").read_bytes()
    assert merged == (tmp_path / "one.parquet").read_bytes()
    assert_total(total_counts(tmp_path / "merged.parquet", GROUPS), expected)


@pytest.mark.parametrize("rows", [1024, 4])
@pytest.mark.parametrize("shards", [1, 2, 3, 4, 5])
def test_merged_shards_are_the_same_bytes(tmp_path, monkeypatch, shards, rows):
    """Shards hold whole batches, as the rule cuts them."""
    monkeypatch.setattr(module_of_counts, "ROW_GROUP_ROWS", rows)
    made = samples(23)
    ids = list(made)
    batches = cut(ids, [3])
    paths = [
        write(tmp_path / f"{shard}.parquet", made, batches[shard::shards])
        for shard in range(shards)
    ]
    merge_sample_counts(paths, tmp_path / "many.parquet", ids)
    write(tmp_path / "whole.parquet", made, cut(ids, [7]))
    merge_sample_counts([tmp_path / "whole.parquet"], tmp_path / "one.parquet", ids)
    assert (tmp_path / "many.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    found = list(read_count_batches(tmp_path / "many.parquet"))
    assert [s for batch in found for s in batch.sample_ids] == ids
    assert max(len(batch.sample_ids) for batch in found) == min(rows, 23)


def test_samples_of_the_list_without_counts_are_named(tmp_path):
    made = samples(6)
    ids = list(made)
    path = write(tmp_path / "a.parquet", made, [[ids[4], ids[1]], [ids[2]]])
    without = merge_sample_counts([path], tmp_path / "b.parquet", ids)
    assert without == [ids[0], ids[3], ids[5]]
    (batch,) = read_count_batches(tmp_path / "b.parquet")
    assert batch.sample_ids == [ids[1], ids[2], ids[4]]
    for row, sample_id in enumerate(batch.sample_ids):
        assert batch.counts["language"][row].tolist() == made[sample_id][2]["language"].tolist()


def test_each_row_group_is_read_once_where_shards_are_in_order(tmp_path, monkeypatch):
    made = samples(40)
    ids = list(made)
    batches = cut(ids, [4])
    paths = [write(tmp_path / f"{s}.parquet", made, batches[s::3]) for s in range(3)]
    read, held = [], []
    row_group, table = module_of_counts._RowGroups._row_group, CountsFile.table

    def counted(self, number, columns=None):
        if columns is None:
            read.append((self.path.name, number))
        return table(self, number, columns)

    def watched(self, *arguments):
        found = row_group(self, *arguments)
        held.append(len(self._held))
        return found

    monkeypatch.setattr(CountsFile, "table", counted)
    monkeypatch.setattr(module_of_counts._RowGroups, "_row_group", watched)
    monkeypatch.setattr(module_of_counts, "ROW_GROUP_ROWS", 3)
    merge_sample_counts(paths, tmp_path / "merged.parquet", ids)
    assert len(read) == len(set(read)) == 10
    assert max(held) == 1
    # In the worst order, every row of another row group, few of them are held at any time.
    held.clear()
    order = [ids[i] for i in np.random.default_rng(0).permutation(40)]
    merge_sample_counts(paths, tmp_path / "shuffled.parquet", order)
    assert max(held) == 3
    shuffled = [b.sample_ids for b in read_count_batches(tmp_path / "shuffled.parquet")]
    assert [s for own in shuffled for s in own] == order


# ----------------------------------------------------------------------------------- membership


@pytest.mark.parametrize("seed", range(20))
def test_a_sample_may_be_in_several_groups_or_none(tmp_path, seed):
    rng = np.random.default_rng([11, seed])
    made = samples(int(rng.integers(2, 20)), seed)
    concepts = ["cat", "dog", "bus", "tree"]
    members = {s: {c for c in concepts[:3] if rng.random() < 0.4} for s in made}
    table = pd.DataFrame(
        [(s, c) for s, own in members.items() for c in own], columns=["sample_id", "group"]
    ).sample(frac=1, random_state=seed)
    path = write(tmp_path / "a.parquet", made, cut(list(made), [3]))
    total = total_counts(path, concepts, table)
    assert_total(total, summed(made, concepts, members))
    assert total.n_samples.tolist() == [sum(c in own for own in members.values()) for c in concepts]
    assert not total.counts["vision"][3].any()  # a group without samples
    # Batches may come from anywhere.
    again = total_counts(iter(list(read_count_batches(path))), concepts, table)
    assert_total(again, summed(made, concepts, members))


def test_an_empty_group_is_none(tmp_path):
    made = samples(4)
    nowhere = {s: ("" if n % 2 else g, t, c) for n, (s, (g, t, c)) in enumerate(made.items())}
    path = write(tmp_path / "a.parquet", nowhere, [list(nowhere)])
    members = {s: {group} for s, (group, _, _) in nowhere.items()}
    total = total_counts(path, GROUPS)
    assert_total(total, summed(nowhere, GROUPS, members))
    assert total.n_samples.sum() == 2


# -------------------------------------------------------------------------------- kept by group


def write_by_group(path, made, row_groups):
    """As a job that adds up what it counts: a row for each group of a row group."""
    with CountsWriter(path, LAYERS, FACTS) as writer:
        for ids in row_groups:
            for group in sorted({made[s][0] for s in ids}):
                own = [made[s] for s in ids if made[s][0] == group]
                tokens = {m: np.array([sum(t[m] for _, t, _ in own)]) for m in LAYERS}
                counts = {m: sum(c[m] for _, _, c in own)[None] for m in LAYERS}
                writer.add([""], [group], [len(own)], tokens, counts)
    return path


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_counts_kept_by_group_add_up_to_the_same(tmp_path, shards):
    made = {s: row for s, row in samples(17).items() if row[0] != "medical"}
    by_sample = total_counts(write(tmp_path / "s.parquet", made, [list(made)]), GROUPS)
    batches = cut(list(made), [3])
    paths = [
        write_by_group(tmp_path / f"{s}.parquet", made, batches[s::shards]) for s in range(shards)
    ]
    total = merge_group_counts(paths, tmp_path / "merged.parquet", GROUPS)
    for part in ("counts", "tokens"):
        for m in LAYERS:
            assert np.array_equal(getattr(total, part)[m], getattr(by_sample, part)[m])
    assert total.n_samples.tolist() == by_sample.n_samples.tolist()
    rows = read_table(tmp_path / "merged.parquet")
    assert rows["group"].tolist() == GROUPS
    assert rows["sample_id"].tolist() == [""] * 3
    assert rows["n_samples"].tolist() == by_sample.n_samples.tolist()
    assert rows["n_samples"].iloc[1] == 0  # a group of which nothing was counted
    again = total_counts(tmp_path / "merged.parquet", GROUPS)
    assert np.array_equal(again.counts["vision"], by_sample.counts["vision"])
    one = write_by_group(tmp_path / "one.parquet", made, [list(made)])
    merge_group_counts([one], tmp_path / "merged_one.parquet", GROUPS)
    assert (tmp_path / "merged.parquet").read_bytes() == (
        tmp_path / "merged_one.parquet"
    ).read_bytes()
    with pytest.raises(ValueError, match="by group"):
        merge_sample_counts(paths, tmp_path / "no.parquet", list(made))
    with pytest.raises(ValueError, match="cannot be grouped by sample"):
        total_counts(paths, GROUPS, pd.DataFrame({"sample_id": ["a"], "group": ["common"]}))


# ----------------------------------------------------------------------------------- totals' file


def test_totals_read_back(tmp_path):
    made = samples(9)
    path = write(tmp_path / "a.parquet", made, [list(made)])
    total = total_counts(path, GROUPS)
    write_counts(total, tmp_path / "counts.safetensors", read_facts(path))
    file = TensorFile(tmp_path / "counts.safetensors")
    assert file.names == {f"{kind}.{m}" for kind in ("counts", "tokens") for m in LAYERS}
    assert file["counts.vision"].dtype == np.int64
    assert file["counts.vision"].shape == (3, 10)
    back, facts = read_counts(tmp_path / "counts.safetensors")
    assert facts == FACTS | {"layers": LAYERS}
    assert back.n_samples.tolist() == total.n_samples.tolist()
    for m in LAYERS:
        assert np.array_equal(back.counts[m], total.counts[m])
        assert np.array_equal(back.tokens[m], total.tokens[m])


# ------------------------------------------------------------------------------------ bad input


def bad_row(tokens=None, counts=None):
    """Two samples with 5 tokens and no activation, but for what is given."""
    rows = (
        ["common-1", "medical-2"],
        ["common", "medical"],
        [1, 1],
        {m: np.full(2, 5) for m in LAYERS} | (tokens or {}),
        {m: np.zeros((2, units), np.int64) for m, units in UNITS.items()} | (counts or {}),
    )
    return rows


def vision(row, place, value):
    counts = np.zeros((2, 10), np.int64)
    counts[row, place] = value
    return {"vision": counts}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (bad_row(counts=vision(1, 4, 6)), r"vision/L1\.U0 of 'medical-2' was active 6 .* 5 tokens"),
        (bad_row(counts=vision(0, 9, 6)), r"vision/L2\.U1 of 'common-1' was active 6 .* 5 tokens"),
        (bad_row(counts=vision(0, 0, 9)), r"vision/L0\.U0 of 'common-1' was active 9 .* 5 tokens"),
        (bad_row(counts=vision(0, 3, -1)), "counts of vision are negative"),
        (bad_row(tokens={"vision": np.array([5, -5])}), "tokens of vision are negative"),
        (bad_row(counts={"vision": np.zeros((2, 9), int)}), r"vision .* \(2, 9\), not \(2, 10\)"),
        (bad_row(counts={"vision": np.zeros((2, 10))}), "counts of vision are float64"),
        (
            bad_row(tokens={"vision": np.array([5, 5, 5])}),
            r"tokens of vision .* \(3,\), not \(2,\)",
        ),
        (bad_row(counts={"visoin": np.zeros((2, 10), int)}), "counts of .*visoin.*not of"),
        (
            bad_row(
                tokens={"vision": np.full(2, 2**33)},
                counts=vision(0, 0, 2**32),
            ),
            "most that a file holds is 4294967295",
        ),
        ((["a", "a"], *bad_row()[1:]), "'a' is there twice"),
        ((["a"], *bad_row()[1:]), "differ in number"),
    ],
)
def test_bad_rows_are_refused(tmp_path, row, words):
    with pytest.raises(ValueError, match=words), CountsWriter(tmp_path / "a", LAYERS) as writer:
        writer.add(*row)
    assert os.listdir(tmp_path) == []


def test_missing_modules_and_empty_layers_are_refused(tmp_path):
    row = list(bad_row())
    del row[4]["vision"]
    with pytest.raises(ValueError, match="counts of"), CountsWriter(tmp_path / "a", LAYERS) as w:
        w.add(*row)
    for layers in ({}, {"vision": [4, 0]}):
        with pytest.raises(ValueError, match="layers have units"):
            CountsWriter(tmp_path / "a", layers)


def test_a_sample_that_is_there_twice_is_refused(tmp_path):
    made = samples(5)
    ids = list(made)
    with pytest.raises(ValueError, match=f"{ids[1]!r} is there twice"):
        write(tmp_path / "a.parquet", made, [ids[:2], ids[1:3]])
    paths = [
        write(tmp_path / "a.parquet", made, [ids[:3]]),
        write(tmp_path / "b.parquet", made, [ids[2:]]),
    ]
    with pytest.raises(ValueError, match=rf"{ids[2]!r} is there twice: .*a\.parquet, .*b\.parquet"):
        merge_sample_counts(paths, tmp_path / "c.parquet", ids)
    with pytest.raises(ValueError, match=f"{ids[2]!r} is there twice"):
        total_counts(paths, GROUPS)
    assert not (tmp_path / "c.parquet").exists()


def test_shards_of_different_recordings_are_refused(tmp_path):
    made = samples(4)
    ids = list(made)
    one = write(tmp_path / "one.parquet", made, [ids[:2]])
    other_layers = dict(LAYERS, vision=[5, 5])
    backwards = dict(reversed(LAYERS.items()))
    for name, facts, layers, words in (
        ("model", FACTS | {"model": "large"}, LAYERS, 'model is "tiny" in .* and "large" in'),
        ("layers", FACTS, other_layers, "layers is"),
        ("more", FACTS | {"seed": 1}, LAYERS, "seed is null in .* and 1 in"),
        ("order", FACTS, backwards, "differ in their order"),
    ):
        other = write(tmp_path / f"{name}.parquet", made, [ids[2:]], facts, layers)
        for put_together in (
            lambda paths: merge_sample_counts(paths, tmp_path / "out.parquet", ids),
            lambda paths: total_counts(paths, GROUPS),
            lambda paths: list(read_count_batches(paths)),
        ):
            with pytest.raises(ValueError, match=words):
                put_together([one, other])
    assert not (tmp_path / "out.parquet").exists()


def test_lists_and_groups_that_do_not_fit_are_refused(tmp_path):
    made = samples(30)
    ids = list(made)
    path = write(tmp_path / "a.parquet", made, [ids])
    with pytest.raises(ValueError, match=f"not in the list: 1 sample, such as {ids[3]!r}"):
        merge_sample_counts([path], tmp_path / "b.parquet", ids[:3] + ids[4:])
    with pytest.raises(ValueError, match="the list of samples has a sample twice"):
        merge_sample_counts([path], tmp_path / "b.parquet", [*ids, ids[0]])
    assert len({group for group, _, _ in made.values()}) == 3
    with pytest.raises(ValueError, match="driving, which is none of"):
        total_counts(path, GROUPS[:2])
    with pytest.raises(ValueError, match="a group is given twice"):
        total_counts(path, [*GROUPS, "common"])
    membership = pd.DataFrame({"sample_id": [ids[0], "nobody"], "group": "common"})
    with pytest.raises(ValueError, match="no counts of 1 sample, such as 'nobody'"):
        total_counts(path, GROUPS, membership)
    with pytest.raises(ValueError, match="twice in one group"):
        total_counts(path, GROUPS, pd.concat([membership, membership]))
    for nothing in ([], iter([])):
        with pytest.raises(ValueError, match="no counts to add up"):
            total_counts(nothing, GROUPS)
    with pytest.raises(ValueError, match="no files"):
        merge_sample_counts([], tmp_path / "b.parquet", ids)


def test_another_table_is_no_file_of_counts(tmp_path):
    write_table(pd.DataFrame({"sample_id": ["a"], "tokens.x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="not a file of activation counts"):
        total_counts(tmp_path / "a.parquet", GROUPS)
    made = samples(2)
    path = write(tmp_path / "b.parquet", made, [list(made)])
    table = pq.read_table(path)
    facts = json.dumps(read_facts(path) | {"layers": LAYERS | {"vision": [9]}})
    pq.write_table(table.replace_schema_metadata({"mmneurons": facts}), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match="not a file of activation counts"):
        list(read_count_batches(tmp_path / "c.parquet"))


def test_a_batch_holds_what_was_read():
    batch = CountBatch(["a"], ["common"], np.ones(1), {}, {"vision": np.ones((1, 2), np.uint32)})
    with pytest.raises(KeyError):
        total_counts([batch], ["common"])  # without tokens there is nothing to divide by


# ---------------------------------------------------------------------------------------- memory

STREAM = """
import sys
from pathlib import Path

import numpy as np

from mmneurons.artifacts.counts import CountsWriter, merge_sample_counts, total_counts

folder, row_groups, rows, units = Path(sys.argv[1]), *map(int, sys.argv[2:])
rng = np.random.default_rng(0)
counts = rng.integers(0, 3000, (rows, units), dtype=np.uint32)
tokens = np.full(rows, 3000)
ids = [[f"{k}-{row}" for row in range(rows)] for k in range(row_groups)]
for shard in range(2):
    with CountsWriter(folder / f"{shard}.parquet", {"language": [units]}) as writer:
        for own in ids[shard::2]:
            counts[0] = rng.integers(0, 3000, units)
            writer.add(own, ["a"] * rows, [1] * rows, {"language": tokens}, {"language": counts})
paths = [folder / "0.parquet", folder / "1.parquet"]
merge_sample_counts(paths, folder / "merged.parquet", [name for own in ids for name in own])
total_counts(folder / "merged.parquet", ["a"])
# Of this process alone: ru_maxrss would begin with that of the process that started it.
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
print(int(peak.split()[1]) * 1024)
"""


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    """Ten times the samples, 173 MB of counts more to write, merge and add up: the same memory."""
    rows, units = 8, 12_000
    # Freed memory is given back at once; otherwise allocators keep some of it, more every time.
    settings = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_MMAP_THRESHOLD_": "65536"}
    paths = {"PYTHONPATH": str(Path(__file__).parents[1] / "scripts")}
    peaks = {}
    for row_groups in (50, 500):
        folder = tmp_path / str(row_groups)
        folder.mkdir()
        numbers = map(str, (row_groups, rows, units))
        done = subprocess.run(
            [sys.executable, "-c", STREAM, folder, *numbers],
            env=os.environ | settings | paths,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks[row_groups] = int(done.stdout)
        merged = pq.ParquetFile(folder / "merged.parquet").metadata
        assert merged.num_rows == row_groups * rows
        assert merged.num_row_groups > 1  # so that both have held a full one
    assert peaks[500] - peaks[50] < 0.15 * (500 - 50) * rows * units * 4, peaks
