"""Files that are whole or absent, tables that are the same bytes twice, names that read back."""

import json
import os
import stat

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from mmneurons.artifacts.files import atomic, read_json, write_json
from mmneurons.artifacts.neurons import Neuron
from mmneurons.artifacts.records import merge_maps, merge_records
from mmneurons.artifacts.tables import (
    read_facts,
    read_neurons,
    read_table,
    read_tables,
    write_csv,
    write_table,
)
from mmneurons.artifacts.tensors import TensorFile, write_tensors

# ---------------------------------------------------------------------------------------- atomic


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "deep" / "file.txt"
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
    assert path.read_text() == "half"
    assert os.listdir(path.parent) == ["file.txt"]


def test_an_exception_leaves_nothing_new_and_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "file.txt"
    for before in ([], ["file.txt"]):
        with pytest.raises(RuntimeError), atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError
        assert os.listdir(tmp_path) == before
        path.write_text("old")
    assert path.read_text() == "old"
    with pytest.raises(KeyboardInterrupt), atomic(path) as temporary:
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_file_is_replaced_and_readable_as_the_umask_says(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    before = os.umask(0o027)
    try:
        with atomic(path) as temporary:
            temporary.write_text("new")
        assert os.umask(0o027) == 0o027  # left as it was
    finally:
        os.umask(before)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_writers_leave_nothing_when_they_fail(tmp_path):
    with pytest.raises(TypeError):
        write_json({"a": object()}, tmp_path / "a.json")
    with pytest.raises(TypeError):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "a.parquet", {"fact": object()})
    with pytest.raises(TypeError):
        write_tensors({"a": np.zeros(2)}, tmp_path / "a.safetensors", {"fact": object()})
    with pytest.raises(Exception, match="object|dtype|O"):
        write_tensors({"a": np.array([object()])}, tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == []


def test_json_is_sorted_and_reads_back(tmp_path):
    value = {"b": [1, 2.5], "a": "Größe"}
    write_json(value, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == (
        '{\n "a": "Größe",\n "b": [\n  1,\n  2.5\n ]\n}\n'
    )
    assert read_json(tmp_path / "a.json") == value


# --------------------------------------------------------------------------------------- neurons


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("language/L21.U3432", ("language", 21, 3432)),
        ("vision/L0.U0", ("vision", 0, 0)),
        ("qformer.query/L11.U3071", ("qformer.query", 11, 3071)),
    ],
)
def test_written_names_read_back(text, parts):
    assert Neuron.parse(text) == Neuron(*parts) == parts
    assert str(Neuron(*parts)) == text
    assert f"{Neuron(*parts)}" == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "L21.U3432",
        "language/L21",
        "language/U1.L2",
        "language/L-1.U2",
        "language/L1.U2 ",
        " language/L1.U2",
        "language/L1.U2\n",
        "language/l1.u2",
        "Language/L1.U2",
        "a.b.c/L1.U2",
        "language/L1.U2.5",
        "language/L\u0661.U2",
    ],
)
def test_other_texts_are_no_names(text):
    with pytest.raises(ValueError, match=r"such as 'language/L21\.U3432'"):
        Neuron.parse(text)


# ---------------------------------------------------------------------------------------- tables


def captions():
    return pd.DataFrame(
        {
            "picture_id": [f"{i:012d}" for i in range(8)],
            "caption": [f"The image shows a {'x' * i}" for i in range(8)],
            "token_ids": [list(range(i)) for i in range(8)],
            "boxes": [[[0.5, 1.0, 2.0, float(i)]] * (i % 3) for i in range(8)],
            "level": np.arange(8, dtype=np.float32) / 3,
            "named": [i % 2 == 0 for i in range(8)],
        }
    )


def plain(table):
    return json.loads(table.to_json(orient="records"))


def test_tables_read_back(tmp_path):
    path = tmp_path / "captions.parquet"
    table = captions()
    table.index = range(100, 108)
    write_table(table, path)
    back = read_table(path)
    assert plain(back) == plain(captions())
    assert back.index.tolist() == list(range(8))
    assert back["level"].dtype == np.float32
    assert back["named"].dtype == bool
    assert read_facts(path) == {}


def test_equal_tables_are_equal_bytes(tmp_path):
    facts = {"model": "tiny", "seed": 1}
    write_table(captions(), tmp_path / "a.parquet", facts)
    write_table(captions(), tmp_path / "b.parquet", dict(reversed(facts.items())))
    odd = captions().iloc[::-1].iloc[::-1]  # another memory layout and index
    write_table(odd, tmp_path / "c.parquet", facts)
    write_table(read_table(tmp_path / "a.parquet"), tmp_path / "d.parquet", facts)
    contents = {name: (tmp_path / f"{name}.parquet").read_bytes() for name in "abcd"}
    assert len(set(contents.values())) == 1
    write_table(captions(), tmp_path / "e.parquet", facts | {"seed": 2})
    assert (tmp_path / "e.parquet").read_bytes() != contents["a"]


def test_facts_read_back(tmp_path):
    facts = {"model": "Größe", "seed": 3, "rule": {"alpha": 0.1}, "grid": [16, 4], "none": None}
    write_table(captions(), tmp_path / "a.parquet", facts)
    assert read_facts(tmp_path / "a.parquet") == facts
    captions()[["picture_id"]].to_parquet(tmp_path / "foreign.parquet")
    assert read_facts(tmp_path / "foreign.parquet") == {}


def write_shards(folder, table, parts):
    paths = []
    for number, part in enumerate(parts):
        paths.append(folder / f"{len(parts)}-{number}.parquet")
        write_table(table.iloc[part], paths[-1])
    return paths


@pytest.mark.parametrize(
    "parts",
    [
        [[0, 1, 2, 3, 4, 5, 6, 7]],
        [[0, 4], [1, 5], [2, 6], [3, 7]],
        [[7, 6, 5, 4], [3, 2, 1, 0]],
        [[], [0, 1, 2, 3, 4, 5, 6, 7], []],
        [[0], [1, 2, 3, 4, 5, 6, 7]],  # token_ids and boxes of the first have no element
        [[0, 3], [1, 2, 4, 5, 6, 7]],
    ],
)
def test_shards_together_are_the_same_bytes_however_they_were_cut(tmp_path, parts):
    write_table(captions(), tmp_path / "whole.parquet")
    paths = write_shards(tmp_path, captions(), parts)
    for number, order in enumerate((paths, paths[::-1])):
        together = read_tables(order, sort=["picture_id"])
        assert plain(together) == plain(captions())
        write_table(together, tmp_path / f"together{number}.parquet")
        assert (tmp_path / f"together{number}.parquet").read_bytes() == (
            tmp_path / "whole.parquet"
        ).read_bytes()


def test_empty_shards_do_not_change_types(tmp_path):
    table = captions().astype({"named": bool})
    empty = pd.DataFrame([], columns=table.columns)  # as a job without a batch writes it
    write_table(empty, tmp_path / "0.parquet")
    write_table(table, tmp_path / "1.parquet")
    together = read_tables([tmp_path / "0.parquet", tmp_path / "1.parquet"], sort=["picture_id"])
    assert together.dtypes.equals(read_table(tmp_path / "1.parquet").dtypes)
    write_table(empty, tmp_path / "2.parquet")
    nothing = read_tables([tmp_path / "0.parquet", tmp_path / "2.parquet"], sort=["picture_id"])
    assert len(nothing) == 0
    assert nothing.columns.tolist() == table.columns.tolist()


def test_shards_are_sorted_by_several_columns(tmp_path):
    table = pd.DataFrame({"group": ["b", "a", "b", "a"], "layer": [2, 10, 1, 9], "unit": range(4)})
    paths = write_shards(tmp_path, table, [[0, 1], [2, 3]])
    together = read_tables(paths, sort=["group", "layer"])
    assert together["unit"].tolist() == [3, 1, 2, 0]
    assert together.index.tolist() == [0, 1, 2, 3]


def test_no_library_version_is_written_into_a_table(tmp_path):
    write_table(captions(), tmp_path / "a.parquet", {"seed": 1})
    assert list(pq.read_schema(tmp_path / "a.parquet").metadata) == [b"mmneurons"]


def test_csv_has_seven_digits_and_no_index(tmp_path):
    table = pd.DataFrame({"x": [1 / 3, 2.0, 1e-9], "n": [1, 2, 3], "t": ["a,b", 'c"d', "e\nf"]})
    write_csv(table.set_index(pd.Index([5, 6, 7])), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == (
        'x,n,t\n0.3333333,1,"a,b"\n2,2,"c""d"\n1e-09,3,"e\nf"\n'
    )
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), table, rtol=1e-6)


# --------------------------------------------------------------------------------------- tensors


def test_tensors_read_back(tmp_path):
    arrays = {
        "act/difference": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 1, 0),
        "maps/fire hydrant": np.ones((2, 2), np.float16),
        "units": np.array([[1, 2]], np.int32),
        "none": np.empty((0, 3), np.float32),
    }
    facts = {"sample_ids": ["a", "b"], "grid": [16, 4], "label": "Größe"}
    write_tensors(arrays, tmp_path / "a.safetensors", facts)
    file = TensorFile(tmp_path / "a.safetensors")
    assert file.facts == facts
    assert file.names == set(arrays)
    assert "units" in file
    assert "unit" not in file
    for name, array in arrays.items():
        np.testing.assert_array_equal(file[name], array)
        assert file[name].dtype == array.dtype
        np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")[name], array)
    write_tensors(dict(reversed(arrays.items())), tmp_path / "b.safetensors", facts)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


# --------------------------------------------------------------------------------------- records

GROUPS = ["fire hydrant", "bed", "bus", "bear", "car"]


def recorded(group):
    rng = np.random.default_rng(list(group.encode()))
    n = 1 + len(group) % 3
    return {
        "act/difference": rng.normal(size=(n, 2, 3)).astype(np.float32),
        "act/mean_square": rng.normal(size=(n, 2)).astype(np.float32),
        "attribution": rng.normal(size=(n, 2, 3)).astype(np.float32),
        "logit": rng.normal(size=n).astype(np.float32),
        "act/map_units": rng.integers(0, 3, (len(group), 2), dtype=np.int32),
        "act/maps": rng.normal(size=(n, len(group), 4)).astype(np.float16),
    }


def record_shards(folder, n_shards):
    paths = []
    for shard in range(n_shards):
        groups = GROUPS[shard::n_shards]
        tensors = {f"{g}/{name}": a for g in groups for name, a in recorded(g).items()}
        ids = {g: [f"{i}-{g}" for i in range(len(recorded(g)["logit"]))] for g in groups}
        paths.append(folder / f"{n_shards}-{shard}.safetensors")
        write_tensors(tensors, paths[-1], {"sample_ids": ids, "model": "tiny", "grid": [2, 2]})
    return paths


@pytest.mark.parametrize("n_shards", [1, 2, 4, 5, 7])
def test_merged_record_does_not_depend_on_the_shards(tmp_path, n_shards):
    merge_records(record_shards(tmp_path, 1), GROUPS, tmp_path / "one.safetensors")
    merge_records(record_shards(tmp_path, n_shards), GROUPS, tmp_path / "many.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (
        tmp_path / "many.safetensors"
    ).read_bytes()


def test_merged_record_holds_the_groups_one_after_the_other(tmp_path):
    merge_records(record_shards(tmp_path, 2), GROUPS, tmp_path / "merged.safetensors")
    merged = TensorFile(tmp_path / "merged.safetensors")
    expected = [f"{i}-{g}" for g in GROUPS for i in range(1 + len(g) % 3)]
    assert merged.facts == {"sample_ids": expected, "model": "tiny", "grid": [2, 2]}
    for name in ("act/difference", "act/mean_square", "attribution", "logit"):
        values = np.concatenate([recorded(group)[name] for group in GROUPS])
        np.testing.assert_array_equal(merged[name], values)
        assert len(merged[name]) == len(expected)
    for group in GROUPS:
        for name in ("act/map_units", "act/maps"):
            np.testing.assert_array_equal(merged[f"{name}/{group}"], recorded(group)[name])
    assert len(merged.names) == 4 + 2 * len(GROUPS)


def test_maps_do_not_depend_on_how_samples_were_dealt(tmp_path):
    rng = np.random.default_rng(5)
    values = {name: rng.standard_normal((3, 4)).astype(np.float16) for name in "dacb"}

    def merged(*shards):
        for place, names in enumerate(shards):
            maps = np.stack([values[name] for name in names]) if names else np.zeros((0, 3, 4))
            boxes = {f"picture {name}": [0, 0, ord(name), 1] for name in names}
            facts = {"sample_ids": list(names), "top_k": [1], "boxes": boxes}
            write_tensors({"act/maps": maps.astype(np.float16)}, tmp_path / f"{place}", facts)
        merge_maps([tmp_path / f"{place}" for place in range(len(shards))], tmp_path / "all")
        return (tmp_path / "all").read_bytes(), TensorFile(tmp_path / "all")

    one, file = merged("dacb")
    boxes = {f"picture {name}": [0, 0, ord(name), 1] for name in "abcd"}
    assert file.facts == {"sample_ids": ["a", "b", "c", "d"], "top_k": [1], "boxes": boxes}
    assert np.array_equal(file["act/maps"], np.stack([values[name] for name in "abcd"]))
    assert merged("ad", "", "cb")[0] == one


def test_neuron_tables_are_read_with_what_their_names_hold(tmp_path):
    for name, unit in (("contribution.act.plain", 7), ("attribution.pre.shuffled", 9)):
        write_table(pd.DataFrame({"unit": [unit]}), tmp_path / f"{name}.parquet")
    paths = [
        tmp_path / "contribution.act.plain.parquet",
        tmp_path / "attribution.pre.shuffled.parquet",
    ]
    assert read_neurons(paths).to_dict("records") == [
        {"unit": 7, "method": "contribution", "site": "act", "variant": "plain"},
        {"unit": 9, "method": "attribution", "site": "pre", "variant": "shuffled"},
    ]
