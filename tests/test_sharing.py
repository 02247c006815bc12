"""Bundles: the same bytes for the same run, and nothing laid down of one that is not as announced.

The run is made by hand: a few files with records of their making. test_restore.py has a real one.
"""

import hashlib
import json
import os
import random
import shutil
import stat
import threading
import warnings
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from rocrate.rocrate import ROCrate

from mmneurons.artifacts.tables import write_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.sharing import fetch as fetching
from mmneurons.sharing.fetch import fetch
from mmneurons.sharing.manifest import FORMAT, NAME, BundleError, check_name
from mmneurons.sharing.reader import lay, verify
from mmneurons.sharing.records import read_record, record_path, upstream, write_record
from mmneurons.sharing.writer import Pictures, Subject, write_bundle

VALID = "results/toy/drawn/small/captions/valid.parquet"
RECORD = "results/toy/drawn/small/record/two_stage.safetensors"
PAINTED = "results/toy/drawn/two_stage/inpainted"
PAGES = "results/toy/scanned/mmneuron/pictures"
FIGURE = "results/toy/figures/two_stage/figure1.svg"
SHARD = "results/toy/drawn/small/record/shards/0.safetensors"
MADE = {  # output: (rule, inputs, parameters)
    VALID: ("keep", ["results/world/drawn/list.json"], ["3"]),
    PAINTED: ("paint", ["results/world/drawn/list.json"], ["'telea'"]),
    PAGES: ("choose", ["resources/data/scanned/list.json"], []),
    SHARD: ("record", [VALID, PAINTED, "resources/models/small/model.safetensors"], []),
    RECORD: ("merge", [SHARD], ["0.5"]),
    FIGURE: ("figure1", [VALID, RECORD, PAINTED, PAGES], ["7.4"]),
}


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def make_run(root):
    """A run's files as the workflow leaves them; the shard is temporary and gone."""
    for name in ("one", "two", "unused"):
        put(root / f"results/world/drawn/images/{name}.jpg", f"picture {name}".encode())
    put(root / "results/world/drawn/list.json", b"[]")
    put(root / "resources/data/scanned/list.json", b"[1]")
    put(root / "resources/models/small/model.safetensors", b"weights " * 100)
    put(root / "resources/settings.csv", b"object\n")
    put(root / "Snakefile", b"rule all:\n    input: []\n")
    put(root / "scripts/keep.py", b"# keep\n")
    files = {"file": ["images/one.jpg", "images/two.jpg"], "sample_id": ["1-bear", "2-bear"]}
    facts = {"model": "small", "versions": {"torch": "2.13.0", "transformers": "5.23.0"}}
    write_table(pd.DataFrame(files), root / VALID, facts)
    rng = np.random.default_rng(0)
    write_tensors({"maxima": rng.normal(size=(2, 50)).astype("float32")}, root / RECORD, facts)
    for folder, kind in ((PAINTED, "png"), (PAGES, "png")):
        for name in ("1-bear", "2-bear"):
            put(root / folder / f"{name}.{kind}", f"{folder} {name}".encode())
        put(root / folder / ".snakemake_timestamp", b"")
    put(root / FIGURE, b"<svg/>")
    for place, (output, (rule, inputs, params)) in enumerate(MADE.items()):
        record = {
            "rule": rule,
            "input": inputs,
            "params": params,
            "code": f'        "../scripts/{rule}.py"\n',
            "record_format_version": 6,
            "starttime": 1e9 + place,
            "endtime": 1e9 + place + 1,
            "incomplete": False,
            "input_checksums": {},
        }
        write_record(root, output, record)
        path = record_path(root, output)
        path.write_text(json.dumps({**record, "job_hash": random.random(), "external_jobid": 7}))
    return root


def subject(**changes):
    drawn = Pictures(
        dataset="drawn",
        label="drawn pictures",
        licence="MIT",
        share=True,
        root="results/world/drawn",
        tables=[(VALID, "file")],
        folders=[PAINTED],
        figures=["two_stage/figure1"],
    )
    scanned = Pictures(
        dataset="scanned",
        label="scanned pages",
        licence="not to be passed on",
        share=False,
        root="resources/data/scanned",
        tables=[],
        folders=[PAGES],
        figures=["mmneuron/table4"],
    )
    whole = Subject(
        run="toy",
        papers=["two_stage"],
        figures=[FIGURE],
        pages=[],
        config={"two_stage": {"share": 0.01}, "run": "toy"},
        pictures=[drawn, scanned],
        models=[{"name": "small", "label": "a small model", "revision": "1"}],
        workflow="Snakefile",
        version="0.1.0",
        licence="MIT",
        engine="9.27.1",
    )
    return replace(whole, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "toy.mmneurons.zip"
    write_bundle(run, path, subject())
    return path


@pytest.fixture
def clone(tmp_path):
    """A clone in which nothing has run yet."""
    put(tmp_path / "clone/Snakefile", b"rule all:\n    input: []\n")
    put(tmp_path / "clone/scripts/keep.py", b"# keep\n")
    return tmp_path / "clone"


def listing(folder):
    """{path: bytes} of all files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# -------------------------------------------------------------------------------------- packing


def test_the_same_run_gives_the_same_bytes(run, bundle, tmp_path):
    """In another folder, made in another order, with other times and modes."""
    twin = tmp_path / "elsewhere/twin"
    names = sorted(listing(run), reverse=True)
    for name in names:
        put(twin / name, (run / name).read_bytes())
        os.utime(twin / name, (5, 5))
        (twin / name).chmod(0o600)
    other = tmp_path / "other.zip"
    write_bundle(twin, other, subject())
    assert other.read_bytes() == bundle.read_bytes()


def test_what_a_bundle_holds(run, bundle):
    with zipfile.ZipFile(bundle) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read(NAME))
        infos = archive.infolist()
        config = yaml.safe_load(archive.read("config.yaml"))
    assert names[0] == NAME
    laid = {name for name in names if name.startswith(("results/", "resources/"))}
    assert laid == {
        VALID,
        RECORD,
        f"{PAINTED}/1-bear.png",
        f"{PAINTED}/2-bear.png",
        "results/world/drawn/images/one.jpg",
        "results/world/drawn/images/two.jpg",
    }
    assert list(config.items()) == [("two_stage", {"share": 0.01}), ("run", "toy")]
    for name in laid:
        data = (run / name).read_bytes()
        assert manifest["files"][name] == {
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
        }
    assert manifest["format"] == FORMAT
    assert manifest["folders"] == [PAINTED]
    assert manifest["figures"] == {FIGURE: hashlib.sha256(b"<svg/>").hexdigest()}
    # Weights are named, with their checksum, through a recording that is gone.
    assert manifest["sources"].keys() == {
        "resources/data/scanned/list.json",
        "resources/models/small/model.safetensors",
        "results/world/drawn/list.json",
        "scripts/keep.py",
    }
    assert [row["dataset"] for row in manifest["withheld"]] == ["scanned"]
    assert manifest["withheld"][0]["figures"] == ["mmneuron/table4"]
    software = manifest["about"]["software"]
    assert software == {"torch": ["2.13.0"], "transformers": ["5.23.0"]}
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {stat.S_IMODE(info.external_attr >> 16) for info in infos} == {0o644}


def test_records_of_packed_files_and_of_no_others(bundle):
    with zipfile.ZipFile(bundle) as archive:
        records = json.loads(archive.read("provenance.json"))
    assert records.keys() == {VALID, RECORD, PAINTED}
    assert records[VALID]["params"] == ["3"]
    assert not {"job_hash", "external_jobid"} & records[VALID].keys()


def test_the_crate_can_be_read(bundle, tmp_path):
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "crate")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crate = ROCrate(tmp_path / "crate")
    assert crate.version == "1.1"
    assert crate.mainEntity.id == "Snakefile"
    (action,) = crate.root_dataset["mentions"]
    assert action.type == "CreateAction" and action["instrument"].id == "Snakefile"
    assert {file.id for file in action["result"]} == {VALID, RECORD}
    used = {entity["name"] for entity in action["object"]}
    assert "resources/models/small/model.safetensors" in used
    assert (action["startTime"], action["endTime"]) == (
        "2001-09-09T01:46:40+00:00",
        "2001-09-09T01:46:45+00:00",
    )
    for name, file in ((e.id, e) for e in crate.data_entities if e.id.startswith("results/")):
        data = (tmp_path / "crate" / name).read_bytes()
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
        assert file["contentSize"] == str(len(data))
    profiles = {profile.id for profile in crate.root_dataset["conformsTo"]}
    assert "https://w3id.org/ro/wfrun/workflow/0.5" in profiles


def test_a_file_without_a_record_is_not_packed(run, tmp_path):
    twin = tmp_path / "twin"
    shutil.copytree(run, twin)
    record_path(twin, VALID).unlink()
    with pytest.raises(ValueError, match=r"no record of how .*valid\.parquet was made"):
        write_bundle(twin, tmp_path / "x.zip", subject())
    assert not (tmp_path / "x.zip").exists()


def test_a_link_is_not_packed(run, tmp_path):
    twin = tmp_path / "twin"
    shutil.copytree(run, twin)
    (twin / PAINTED / "3-bear.png").symlink_to("1-bear.png")
    with pytest.raises(ValueError, match=r"no links.*3-bear\.png"):
        write_bundle(twin, tmp_path / "x.zip", subject())


def test_a_picture_that_is_named_and_missing_is_an_error(run, tmp_path):
    twin = tmp_path / "twin"
    shutil.copytree(run, twin)
    (twin / "results/world/drawn/images/two.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"two\.jpg"):
        write_bundle(twin, tmp_path / "x.zip", subject())


def test_records_with_long_names(tmp_path):
    """Longer than a file's name may be; read as the workflow engine writes them."""
    from snakemake.persistence import MetadataRecord
    from snakemake.persistence.file import FilePersistence

    engine = FilePersistence(nolock=True, path=tmp_path / ".snakemake")
    for output in ("results/toy/ü.csv", "results/" + "deep/" * 120 + "file.csv"):
        engine._write_record(output, MetadataRecord(rule="one", input=["a"], params=["1"]))
        assert read_record(tmp_path, output)["rule"] == "one"
        write_record(tmp_path, output, {"rule": "two", "input": [], "record_format_version": 6})
        engine._clear_cache()
        assert engine._read_record(output).rule == "two"
        assert engine._read_record(output).record_format_version == 6


def test_the_way_back_ends_at_what_is_not_the_runs(run):
    records, others = upstream(run, [FIGURE], lambda name: name.startswith("results/toy/"))
    assert list(records) == sorted({*MADE} - {FIGURE})
    assert "results/world/drawn/list.json" in others and VALID not in others


# ------------------------------------------------------------------------------------ restoring


def test_restoring_lays_down_every_file(run, bundle, clone):
    before = listing(clone)
    laid = lay(bundle, clone)
    after = listing(clone)
    assert len(laid.written) == 6 and not laid.kept
    for name in laid.written:
        assert after[name] == (run / name).read_bytes()
    # Beside them the records, the folder's time, the manifest and the configuration; no more.
    others = after.keys() - before.keys() - set(laid.written)
    records = {record_path(clone, name) for name in (VALID, RECORD, PAINTED)}
    assert others == {
        f"{PAINTED}/.snakemake_timestamp",
        f"results/toy/share/{NAME}",
        "results/toy/share/config.yaml",
        *(path.relative_to(clone).as_posix() for path in records),
    }
    assert read_record(clone, VALID) == read_record(run, VALID)
    assert not [path for path in (clone / "results").iterdir() if path.name.startswith(".")]


def test_restored_files_are_newer_than_the_clone_and_of_one_time(bundle, clone):
    lay(bundle, clone)
    times = {(clone / name).stat().st_mtime_ns for name in (VALID, RECORD)}
    times |= {(clone / PAINTED / ".snakemake_timestamp").stat().st_mtime_ns}
    assert len(times) == 1
    assert min(times) >= (clone / "scripts/keep.py").stat().st_mtime_ns


def test_a_source_that_differs_counts_as_changed(bundle, clone):
    put(clone / "scripts/keep.py", b"# keep otherwise\n")
    os.utime(clone / "scripts/keep.py", (5, 5))
    laid = lay(bundle, clone)
    assert laid.changed == ["scripts/keep.py"]
    assert (clone / "scripts/keep.py").stat().st_mtime_ns > (clone / VALID).stat().st_mtime_ns
    assert "resources/models/small/model.safetensors" in laid.absent


def test_packing_what_was_restored_gives_the_same_bytes(run, bundle, clone, tmp_path):
    """Once the figure is drawn again, and what the run was made from is there."""
    lay(bundle, clone)
    for name in (FIGURE, "results/world/drawn/list.json", "resources/data/scanned/list.json"):
        put(clone / name, (run / name).read_bytes())
    put(
        clone / "resources/models/small/model.safetensors",
        (run / "resources/models/small/model.safetensors").read_bytes(),
    )
    for name in (FIGURE, SHARD, PAGES):  # those of the figure and of what is not in the bundle
        write_record(clone, name, {**read_record(run, name), "endtime": 2e9})
    again = tmp_path / "again.zip"
    write_bundle(clone, again, subject())
    assert again.read_bytes() == bundle.read_bytes()


def test_files_in_place(bundle, clone, run):
    put(clone / VALID, (run / VALID).read_bytes())
    assert lay(bundle, clone).kept == [VALID]
    (clone / RECORD).write_bytes(b"other")
    with pytest.raises(BundleError, match=r"1 files are in place.*two_stage\.safetensors"):
        lay(bundle, clone)
    assert (clone / RECORD).read_bytes() == b"other"
    lay(bundle, clone, overwrite=True)
    assert (clone / RECORD).read_bytes() == (run / RECORD).read_bytes()


def test_a_link_in_place_is_never_written_through(bundle, clone, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (clone / RECORD).parent.mkdir(parents=True)
    (clone / RECORD).symlink_to(outside)
    lay(bundle, clone, overwrite=True)
    assert outside.read_bytes() == b"mine" and not (clone / RECORD).is_symlink()


# ------------------------------------------------------------------------------------- refusing


def rewritten(bundle, path, change):
    """The bundle with its members changed: `change` gets and returns [(info, bytes)]."""
    with zipfile.ZipFile(bundle) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        warnings.simplefilter("ignore")  # zipfile warns of a name that comes twice
        for info, data in change(members):
            archive.writestr(info, data)
    return path


def with_manifest(change):
    """A change of the manifest, as `rewritten` takes it."""

    def changed(members):
        for info, data in members:
            if info.filename == NAME:
                found = json.loads(data)
                change(found)
                data = json.dumps(found).encode()
            yield info, data

    return changed


def renamed(old, new):
    """A member under another name, in the archive and in the manifest."""

    def in_manifest(found):
        found["files"][new] = found["files"].pop(old)

    def changed(members):
        for info, data in with_manifest(in_manifest)(members):
            if info.filename == old:
                info.filename = new
            yield info, data

    return changed


def member(name, mode=0o100644):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def of(name, change):
    """A change of one member's bytes."""
    return lambda members: [
        (info, change(data) if info.filename == name else data) for info, data in members
    ]


def flipped(data):
    return data[:-1] + bytes([data[-1] ^ 1])


def as_link(members):
    for info, data in members:
        if info.filename == RECORD:
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
        yield info, data


def without(name):
    return lambda members: [m for m in members if m[0].filename != name]


def also(name, data=b"more", mode=0o100644):
    return lambda members: [*members, (member(name, mode), data)]


def record_of(name):
    def more(data):
        return json.dumps({**json.loads(data), name: {"rule": "keep"}}).encode()

    def changed(members):
        members = list(of("provenance.json", more)(members))
        data = next(data for info, data in members if info.filename == "provenance.json")

        def in_manifest(found):
            digest = hashlib.sha256(data).hexdigest()
            found["files"]["provenance.json"] = {"sha256": digest, "size": len(data)}

        return with_manifest(in_manifest)(members)

    return changed


def packed(name, data):
    """Other bytes of a member, with the checksum that they have."""

    def in_manifest(found):
        found["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}

    return lambda members: with_manifest(in_manifest)(of(name, lambda _: data)(members))


def with_records(change):
    """A change of the records."""

    def changed(members):
        members = list(members)
        data = next(data for info, data in members if info.filename == "provenance.json")
        found = json.loads(data)
        change(found)
        return packed("provenance.json", json.dumps(found).encode())(members)

    return changed


def packed_by(kind):
    def changed(members):
        for info, data in members:
            info.compress_type = kind
            yield info, data

    return changed


def announced(name, **entry):
    return with_manifest(lambda found: found["files"][name].update(entry))


BROKEN = {
    "a byte of a table": (of(VALID, flipped), "checksum"),
    "a byte of a recording": (of(RECORD, flipped), "checksum"),
    "a byte of a picture": (of("results/world/drawn/images/one.jpg", flipped), "checksum"),
    "a byte of the configuration": (of("config.yaml", flipped), "checksum"),
    "a byte of the records": (of("provenance.json", flipped), "checksum"),
    "a member with more than announced": (of(VALID, lambda data: data + b"x"), "announces"),
    "a member with less than announced": (of(VALID, lambda data: data[:-1]), "announces"),
    "an announcement of less": (announced(VALID, size=3), "announces"),
    "an announcement of more than there is room for": (announced(VALID, size=2**62), "announces"),
    "an announcement that is no number": (announced(VALID, size="3"), "checksum and size"),
    "a negative announcement": (announced(VALID, size=-1), "negative"),
    "a checksum that is none": (announced(VALID, sha256="../x"), "checksum and size"),
    "a member too many": (also("results/toy/more.csv"), "not in its manifest"),
    "a member too few": (without(RECORD), "lacks a member"),
    "a member twice": (also(VALID), "twice"),
    "a link": (as_link, "no plain file"),
    "a link beside the others": (also("results/toy/x", b"/etc/passwd", 0o120777), "no plain file"),
    "a device": (also("results/toy/x", b"", 0o020666), "no plain file"),
    "a folder": (also("results/toy/x/", b"", 0o040755), "forbidden name"),
    "no manifest": (without(NAME), "no mmneurons-bundle.json"),
    "a manifest that is no JSON": (of(NAME, lambda data: data[:-9]), "cannot be read"),
    "a manifest of something else": (with_manifest(lambda m: m.update(kind="x")), "not the manif"),
    "a manifest without records": (
        with_manifest(lambda m: m["files"].pop("provenance.json")),
        "lacks",
    ),
    "a manifest without a part": (with_manifest(lambda m: m.pop("figures")), "not complete"),
    "a manifest with an unknown part": (with_manifest(lambda m: m.update(x=1)), "not complete"),
    "a newer format": (with_manifest(lambda m: m.update(format=FORMAT + 1)), "newer version"),
    "no format": (with_manifest(lambda m: m.pop("format")), "no format"),
    "a run called world": (with_manifest(lambda m: m.update(run="world")), "forbidden name"),
    "a run above": (with_manifest(lambda m: m.update(run="..")), "forbidden name"),
    "a folder above": (with_manifest(lambda m: m.update(folders=["results/../x"])), "forbidden"),
    "a folder of another run": (with_manifest(lambda m: m.update(folders=["results/x"])), "outsid"),
    "a folder of what is drawn": (
        with_manifest(lambda m: m.update(folders=["results/toy/browser"])),
        "outside",
    ),
    "a figure elsewhere": (
        with_manifest(lambda m: m.update(figures={"README.md": "0"})),
        "outside",
    ),
    "a figure that is a command": (
        with_manifest(lambda m: m.update(figures={"results/toy/figures/$(x).svg": "0"})),
        "outside",
    ),
    "a figure without a checksum": (
        with_manifest(lambda m: m.update(figures={FIGURE: 1})),
        "not complete",
    ),
    **{
        f"the source {name}": (
            with_manifest(lambda m, name=name: m["sources"].update({name: m["files"][VALID]})),
            "forbidden name|outside of",
        )
        for name in ("../victim.txt", "/etc/passwd", "resources/../../x", ".git/config", "Makefile")
    },
    "withheld pictures without a name": (
        with_manifest(lambda m: m.update(withheld=[{}])),
        "not complete",
    ),
    "a licence with an escape": (
        with_manifest(lambda m: m["withheld"][0].update(licence="\x1b[2J")),
        "cannot be shown",
    ),
    "a deep manifest": (of(NAME, lambda data: b"[" * 10**5), "cannot be read"),
    "deep records": (packed("provenance.json", b"[" * 10**5), "cannot be read"),
    "no records at all": (packed("provenance.json", b"{}"), "does not say how"),
    "records that are lists": (packed("provenance.json", b'{"results/toy/a": []}'), "cannot be"),
    "an empty record": (with_records(lambda r: r.update({VALID: {}})), "does not say how"),
    "a record without parameters": (
        with_records(lambda r: r[VALID].update(params=None)),
        "does not say how",
    ),
    "a folder without a record": (with_records(lambda r: r.pop(PAINTED)), "does not say how"),
    "the configuration of another run": (packed("config.yaml", b"run: other\n"), "of the run"),
    "a configuration that is a list": (packed("config.yaml", b"- 1\n"), "cannot be read"),
    "a member packed otherwise": (packed_by(zipfile.ZIP_LZMA), "packed otherwise"),
    "a record of what is not in it": (record_of("results/toy/figures/x.svg"), "not in the bundle"),
    "a record of a picture": (record_of("results/world/drawn/images/one.jpg"), "not in the bundle"),
    **{
        f"the name {new!r}": (
            renamed(RECORD, new),
            "forbidden name|outside of|none may|is no picture",
        )
        for new in (
            "../outside.txt",
            "results/../../outside.txt",
            "/tmp/outside.txt",
            "results//x",
            "./results/x",
            "results/toy/.hidden",
            ".snakemake/metadata/x",
            "results/toy/a\\b",
            "C:/x",
            "results/toy/a\nb",
            "scripts/draw.py",
            "Snakefile.bak",
            "resources/models/small/model.safetensors",
            "results/toy/share/config.yaml",
            "results/toy/browser/index.html",
            "results/toy/page.html",
            "results/toy/run.py",
            "results/toy/logs/x.csv",
            "results/other/x.parquet",
            "results/world/drawn/list.json",
            "results/world/models/x/model.safetensors",
            "resources/data/coco/annotations/instances.json",
            FIGURE,
        )
    },
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_bundle_that_is_not_as_announced_is_refused(kind, bundle, clone, tmp_path):
    change, reason = BROKEN[kind]
    broken = rewritten(bundle, tmp_path / "broken.zip", change)
    before = listing(tmp_path)
    with pytest.raises(BundleError, match=reason):
        lay(broken, clone)
    assert listing(tmp_path) == before
    with pytest.raises(BundleError, match=reason):
        verify(broken, clone / "results")
    assert listing(tmp_path) == before


def test_the_same_members_written_anew_are_accepted(bundle, clone, tmp_path):
    """So that what is refused above is not the writing itself."""
    lay(rewritten(bundle, tmp_path / "anew.zip", lambda members: members), clone)
    assert (clone / RECORD).is_file()


def test_a_bundle_cut_short_is_refused(bundle, clone, tmp_path):
    data, cut = bundle.read_bytes(), tmp_path / "cut.zip"
    before = listing(clone)
    for length in (0, 1, 21, 100, len(data) // 2, len(data) - 23, len(data) - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(BundleError, match="no whole ZIP archive"):
            lay(cut, clone)
    assert listing(clone) == before


def test_a_flipped_bit_is_refused_or_without_effect(run, bundle, clone, tmp_path):
    """Dates and other fields of the archive may change; what is laid down may not."""
    data, damaged = bytearray(bundle.read_bytes()), tmp_path / "damaged.zip"
    rng = random.Random(8)
    refused = 0
    for place in rng.sample(range(len(data)), 400):
        bit = 1 << rng.randrange(8)
        data[place] ^= bit
        damaged.write_bytes(data)
        data[place] ^= bit
        try:
            manifest = verify(damaged, tmp_path / "room")
        except BundleError:
            refused += 1
        else:
            for name in manifest.laid:
                found = manifest.files[name].sha256
                assert found == hashlib.sha256((run / name).read_bytes()).hexdigest()
    assert refused > 200


def test_an_encrypted_member_is_refused(bundle, clone, tmp_path):
    data = bytearray(bundle.read_bytes())
    with zipfile.ZipFile(bundle) as archive:
        name = archive.infolist()[3].filename.encode()
    header = data.rindex(name) - 46  # in the list of members, which comes last
    assert data[header : header + 4] == b"PK\x01\x02"
    data[header + 8] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(BundleError, match="encrypted"):
        lay(tmp_path / "x.zip", clone)


def test_a_member_that_inflates_to_more_than_it_says_is_refused(bundle, clone, tmp_path):
    """Both the archive and the manifest announce 3 bytes, and a million come."""

    def inflated(members):
        return [(i, b"\0" * 10**6 if i.filename == RECORD else data) for i, data in members]

    broken = rewritten(bundle, tmp_path / "x.zip", inflated)
    broken = rewritten(broken, tmp_path / "y.zip", announced(RECORD, size=3))
    data = bytearray(broken.read_bytes())
    with zipfile.ZipFile(broken) as archive:
        local = archive.getinfo(RECORD).header_offset
    listed = data.rindex(RECORD.encode()) - 46
    for header, field in ((local, 22), (listed, 24)):
        at = header + field
        assert data[header : header + 2] == b"PK"
        assert data[at : at + 4] == (10**6).to_bytes(4, "little")
        data[at : at + 4] = (3).to_bytes(4, "little")
    broken.write_bytes(data)
    with zipfile.ZipFile(broken) as archive:
        assert archive.getinfo(RECORD).file_size == 3 < archive.getinfo(RECORD).compress_size
    with pytest.raises(BundleError):
        lay(broken, clone)
    assert not (clone / RECORD).exists()


def test_nothing_is_laid_through_a_link_to_another_place(bundle, clone, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (clone / "results/toy").mkdir(parents=True)
    (clone / "results/toy/drawn").symlink_to(outside)
    for overwrite in (False, True):
        with pytest.raises(BundleError, match="leads out of results"):
            lay(bundle, clone, overwrite)
    assert listing(outside) == {}


def test_all_results_may_be_on_another_disk(run, bundle, clone, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    (clone / "results").symlink_to(disk)
    lay(bundle, clone)
    assert (disk / RECORD.removeprefix("results/")).read_bytes() == (run / RECORD).read_bytes()


def test_a_file_in_place_of_a_folder_is_said(bundle, clone):
    put(clone / "results/toy/drawn", b"a file")
    with pytest.raises(BundleError, match="results/toy/drawn is in place and is no folder"):
        lay(bundle, clone, overwrite=True)
    assert not (clone / VALID).exists()


def test_files_that_a_folder_does_not_have_do_not_stay_in_it(bundle, clone):
    put(clone / PAINTED / "3-old.png", b"of a run before")
    with pytest.raises(BundleError, match="3-old.png"):
        lay(bundle, clone)
    lay(bundle, clone, overwrite=True)
    assert sorted(path.name for path in (clone / PAINTED).glob("[!.]*")) == [
        "1-bear.png",
        "2-bear.png",
    ]


def test_what_was_laid_before_a_failure_has_its_record(bundle, clone, monkeypatch):
    """A file without one would count as made here, whatever changes."""
    moved, move = [], shutil.move

    def fails(source, target):
        if len(moved) == 2:
            raise OSError("the disk is full")
        moved.append(target)
        return move(source, target)

    monkeypatch.setattr(shutil, "move", fails)
    with pytest.raises(OSError, match="the disk is full"):
        lay(bundle, clone)
    laid = [path for path in (VALID, RECORD) if (clone / path).exists()]
    assert len(moved) == 2 and all(read_record(clone, path)["params"] for path in laid)


@pytest.mark.parametrize("name", ["results/toy/a.csv", "README.md", "results/x/ü 1-bear.png"])
def test_ordinary_names_are_allowed(name):
    check_name(name)


# ------------------------------------------------------------------------------------- fetching


@contextmanager
def serving(answers):
    """A server on this machine: {path: (status, bytes, announced length)}; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, data, length = answers.get(self.path, (404, b"none", 4))
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_bundle_from_a_url(bundle, clone, tmp_path):
    data = bundle.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    with serving({"/toy.mmneurons.zip": (200, data, len(data))}) as address:
        path = fetch(f"{address}/toy.mmneurons.zip", tmp_path / "loaded", digest.upper())
        assert path.read_bytes() == data
        lay(path, clone)
        with pytest.raises(BundleError, match="does not have the SHA-256"):
            fetch(f"{address}/toy.mmneurons.zip", tmp_path / "again", "0" * 64)


def test_what_a_server_does_not_give(bundle, tmp_path):
    data = bundle.read_bytes()
    answers = {"/short.zip": (200, data[:-10], len(data))}
    with serving(answers) as address:
        for name in ("missing.zip", "short.zip"):
            with pytest.raises(BundleError, match=f"{name} cannot be fetched"):
                fetch(f"{address}/{name}", tmp_path / "loaded")
    with pytest.raises(BundleError, match="cannot be fetched"):
        fetch(f"{address}/gone.zip", tmp_path / "loaded")
    with pytest.raises(BundleError, match="no file"):
        fetch("nowhere.zip", tmp_path / "loaded")


def zenodo_record(address, files):
    """A record as Zenodo's API answers it."""
    listed = [
        {
            "id": str(place),
            "key": name,
            "size": len(data),
            "checksum": f"md5:{hashlib.md5(claimed).hexdigest()}",
            "links": {"self": f"{address}/files/{place}"},
        }
        for place, (name, data, claimed) in enumerate(files)
    ]
    return json.dumps({"id": 123, "files": listed}).encode()


@pytest.mark.parametrize(
    "source",
    [
        "zenodo:123",
        "doi:10.5281/zenodo.123",
        "https://zenodo.org/records/123",
        "https://zenodo.org/doi/10.5281/zenodo.123",
    ],
)
def test_a_bundle_from_a_record_of_zenodo(source, bundle, tmp_path, monkeypatch):
    data, answers = bundle.read_bytes(), {}
    with serving(answers) as address:
        monkeypatch.setattr(fetching.ZenodoRepository, "base_api_url", f"{address}/api/records")
        files = [("notes.txt", b"notes", b"notes"), ("../toy.mmneurons.zip", data, data)]
        record = zenodo_record(address, files)
        answers["/api/records/123"] = (200, record, len(record))
        answers["/files/1"] = (200, data, len(data))
        path = fetch(source, tmp_path / "loaded")
        assert path.read_bytes() == data and path.parent == tmp_path / "loaded"


def test_records_of_zenodo_that_are_refused(bundle, tmp_path, monkeypatch):
    data, answers = bundle.read_bytes(), {}
    with serving(answers) as address:
        monkeypatch.setattr(fetching.ZenodoRepository, "base_api_url", f"{address}/api/records")
        for number, (files, reason) in enumerate(
            [
                ([("toy.mmneurons.zip", data, b"other")], "hash"),
                ([("notes.txt", b"", b"")], "has 0 files"),
                ([("a.mmneurons.zip", data, data), ("b.mmneurons.zip", data, data)], "has 2 files"),
            ]
        ):
            record = zenodo_record(address, files)
            answers[f"/api/records/{number}"] = (200, record, len(record))
            answers["/files/0"] = (200, data, len(data))
            with pytest.raises(BundleError, match=reason):
                fetch(f"zenodo:{number}", tmp_path / f"loaded{number}")
        missing = json.dumps({"status": 404, "message": "no"}).encode()
        answers["/api/records/9"] = (404, missing, len(missing))
        with pytest.raises(BundleError, match="no open record 9"):
            fetch("zenodo:9", tmp_path / "loaded9")


def test_paths_are_not_taken_for_records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("zenodo:x").write_bytes(b"")
    assert fetch("zenodo:x", tmp_path) == Path("zenodo:x")
