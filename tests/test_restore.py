"""A bundle in the hands of somebody else: a second clone that has it and no model.

The run is the smoke preset's, which `finished` has made; its bundle is restored into copies of the
repository from which all models are deleted and whose files are all newer than the run's.
"""

import hashlib
import json
import os
import shutil
import threading
import time
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from smoke_run import SMOKE, copy_repository, planned, python, snakemake

from mmneurons.sharing.records import read_record, write_record

BUNDLE = "results/smoke/share/smoke.mmneurons.zip"
CONFIG = ["--configfile", "results/smoke/share/config.yaml"]
FIGURES = "results/smoke/figures"


@pytest.fixture(scope="module")
def bundle(finished):
    """What `snakemake share` packs; every figure is there, so that nothing else runs."""
    assert planned(finished, "share", *SMOKE) == {"share": 1}
    snakemake(finished, "share", *SMOKE)
    return finished / BUNDLE


@pytest.fixture(scope="module")
def manifest(bundle):
    with zipfile.ZipFile(bundle) as archive:
        return json.loads(archive.read("mmneurons-bundle.json"))


def fresh_clone(folder):
    """The repository as git clones it now, every file new, and no weights."""
    copy_repository(folder)
    for path in folder.rglob("*"):
        os.utime(path)
    shutil.rmtree(folder / "resources/models")
    return folder


@pytest.fixture(scope="module")
def restored(bundle, tmp_path_factory):
    """A clone into which the bundle was restored and in which nothing has been drawn."""
    folder = fresh_clone(tmp_path_factory.mktemp("restored"))
    said = python(folder, "scripts/restore.py", str(bundle))
    assert "Verified and restored run smoke" in said
    assert "Not what the run was made with" not in said
    return folder


@pytest.fixture(scope="module")
def redrawn(restored, tmp_path_factory):
    """A copy of it in which everything was drawn, and what was said."""
    folder = tmp_path_factory.mktemp("redrawn") / "clone"
    shutil.copytree(restored, folder)
    return folder, python(folder, "scripts/redraw.py", "smoke")


def overlaid(folder, settings):
    """Arguments that lay settings over the restored run's."""
    (folder / "overlay.yaml").write_text(yaml.safe_dump(settings))
    return [*CONFIG, "overlay.yaml"]


def drawn_files(folder):
    found = (folder / FIGURES).rglob("*.*")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.is_file()}


# ----------------------------------------------------------------------------------------------


def test_packing_again_gives_the_same_bytes(finished, bundle):
    before = bundle.read_bytes()
    snakemake(finished, "share", "--forcerun", "share", *SMOKE)
    assert bundle.read_bytes() == before
    digest, name = (finished / f"{BUNDLE}.sha256").read_text().split()
    assert digest == hashlib.sha256(before).hexdigest() and name == bundle.name
    assert planned(finished, "share", *SMOKE) == {}


def test_every_figure_and_table_is_served(finished, manifest):
    there = {path: hashlib.sha256(data).hexdigest() for path, data in drawn_files(finished).items()}
    served = {path: digest for path, digest in there.items() if path in manifest["figures"]}
    assert manifest["figures"] == served
    papers = {path.split("/")[3] for path in served}
    assert papers == {"two_stage", "pan", "mmneuron", "schwettmann", "comparison", "truth"}
    missing = {path for path in there if path.split("/")[3] in papers} - served.keys()
    assert not missing


def test_no_weights_and_no_figures_are_in_it(manifest):
    files = manifest["files"]
    assert not [path for path in files if path.startswith(("resources/", FIGURES))]
    assert not [path for path in files if "/logs/" in path or "/benchmarks/" in path]
    weights = [path for path in manifest["sources"] if path.startswith("resources/models/")]
    assert any(path.endswith("minigpt4-world/model.safetensors") for path in weights)
    assert {"scripts/record_two_stage.py", "scripts/select_domains.py"} <= manifest[
        "sources"
    ].keys()


@pytest.mark.parametrize(
    ("figure", "rule"),
    [
        ("two_stage/figure1.svg", "two_stage_figure1"),
        ("two_stage/figure3.png", "two_stage_figure3"),
        ("two_stage/table2.md", "two_stage_table2"),
        ("pan/table1.svg", "draw_pan_maps"),
        ("pan/tableS2.csv", "draw_pan_table"),
        ("mmneuron/figure5.svg", "draw_mmneuron_figure"),
        ("mmneuron/figure11.svg", "draw_mmneuron_figure"),
        ("schwettmann/figure5.svg", "draw_schwettmann_figure"),
        ("schwettmann/figure2.svg", "draw_schwettmann_pictures"),
        ("schwettmann/table1.md", "draw_schwettmann_table"),
    ],
)
def test_one_figure_is_one_job(restored, figure, rule):
    assert planned(restored, f"{FIGURES}/{figure}", *CONFIG) == {rule: 1}
    assert planned(restored, f"{FIGURES}/{figure}", *SMOKE) == {rule: 1}


def test_all_figures_are_drawn_and_nothing_else_runs(restored, manifest):
    jobs = planned(restored, *manifest["figures"], *CONFIG)
    assert all("draw" in rule or rule.startswith("two_stage_") for rule in jobs)
    assert sum(jobs.values()) == len({path.rpartition(".")[0] for path in manifest["figures"]})


def test_restoring_and_drawing_one_figure_takes_seconds(bundle, tmp_path):
    folder = fresh_clone(tmp_path)
    before, start = os.times(), time.monotonic()
    python(folder, "scripts/restore.py", str(bundle))
    snakemake(folder, f"{FIGURES}/two_stage/figure3.svg", *CONFIG)
    after, wall = os.times(), time.monotonic() - start
    busy = after.children_user + after.children_system
    busy -= before.children_user + before.children_system
    # Processor time, since the clock's says more about what else the machine does: each of the
    # three programs waits for the one before, so on a free machine both are about the same.
    assert busy < 30
    assert wall < 300
    assert (folder / f"{FIGURES}/two_stage/figure3.svg").is_file()


def test_everything_is_drawn_with_the_same_bytes(finished, redrawn, manifest):
    folder, said = redrawn
    n = len(manifest["figures"])
    assert f"{n} of {n} files have the bytes" in said, said[-3000:]
    drawn, there = drawn_files(folder), drawn_files(finished)
    assert {path: drawn[path] for path in manifest["figures"]} == {
        path: there[path] for path in manifest["figures"]
    }
    assert planned(folder, *manifest["figures"], *CONFIG) == {}


def test_the_neuron_browser_is_written_without_a_model(finished, redrawn):
    folder, _ = redrawn
    assert planned(folder, "browser", *CONFIG) == {"browser": 1}
    snakemake(folder, "browser", *CONFIG)

    def pages(root):
        found = [path for path in (root / "results/smoke/browser").rglob("[!.]*") if path.is_file()]
        return {path.relative_to(root): path.read_bytes() for path in found}

    assert len(pages(folder)) > 10
    assert pages(folder) == pages(finished)


def test_another_threshold_runs_selection_and_names_what_needs_a_model(redrawn):
    folder, _ = redrawn
    overlaid(folder, {"two_stage": {"thresholds": {"share": 0.02}}})
    before = drawn_files(folder)
    said = python(folder, "scripts/redraw.py", "smoke", "--configfile", "overlay.yaml")
    (left,) = [line for line in said.splitlines() if line.startswith("Not drawn")]
    assert "caption_under_noise" in left
    for name in ("figureS1", "table1", "table2", "table3", "table5", "tableS1", "tableS2"):
        assert f"two_stage/{name}" in left
    assert not [name for name in ("figure2", "figure3", "table4") if f"two_stage/{name}" in left]
    assert "pan/" not in left and "mmneuron/" not in left
    after = drawn_files(folder)
    moved = {path for path in before if before[path] != after[path]}
    assert (
        f"{FIGURES}/two_stage/table4.csv" in moved and f"{FIGURES}/two_stage/figure2.csv" in moved
    )
    assert all("/two_stage/" in path for path in moved)
    # What was left undone is still known to be.
    again = ["scripts/redraw.py", "smoke", "--configfile", "overlay.yaml", "--dry-run"]
    assert left in python(folder, *again)
    assert not (folder / "resources/models").exists()


def test_another_share_of_domain_neurons(restored, tmp_path):
    folder = tmp_path / "clone"
    shutil.copytree(restored, folder)
    overlaid(folder, {"mmneuron": {"select": {"shares": [2, 5]}}})
    arguments = ["scripts/redraw.py", "smoke", "--configfile", "overlay.yaml", "--dry-run"]
    said = python(folder, *arguments)
    (left,) = [line for line in said.splitlines() if line.startswith("Not drawn")]
    (drawn,) = [line for line in said.splitlines() if line.startswith("To draw")]
    assert "reply_to_questions" in left
    assert "mmneuron/table2" in left and "mmneuron/table3" in left
    assert "mmneuron/figure5" in drawn and "mmneuron/table1" in drawn and "pan/table4" in drawn
    arguments = overlaid(folder, {"mmneuron": {"select": {"shares": [2, 5]}}})
    jobs = planned(folder, f"{FIGURES}/mmneuron/figure5.svg", *arguments)
    assert jobs == {"select_domains": 2, "draw_mmneuron_figure": 1}


def test_tables_that_need_an_absent_text_encoder_are_named(restored, tmp_path):
    folder = tmp_path / "clone"
    shutil.copytree(restored, folder)
    overlaid(folder, {"pan": {"sensitivity": {"neurons": 3}}})
    arguments = ["scripts/redraw.py", "smoke", "--configfile", "overlay.yaml", "--dry-run"]
    said = python(folder, *arguments)
    (left,) = [line for line in said.splitlines() if line.startswith("Not drawn")]
    assert "evaluate_sensitivity" in left and "pan/table3" in left
    assert "pan/table3" not in said.splitlines()[-1] and "pan/table4" in said.splitlines()[-1]


def test_a_change_is_refused_where_a_source_is_neither_here_nor_known(restored, tmp_path):
    folder = tmp_path / "clone"
    shutil.copytree(restored, folder)
    path = "results/smoke/sbu-world/llava-world/captions/concepts.parquet"
    record = read_record(folder, path)
    away = str(tmp_path / "checkpoint/model.safetensors")
    write_record(folder, path, record | {"input": [*record["input"], away]})
    overlaid(folder, {"two_stage": {"thresholds": {"share": 0.02}}})
    arguments = ["scripts/redraw.py", "smoke", "--configfile", "overlay.yaml", "--dry-run"]
    said = python(folder, *arguments, check=False)
    assert away in said and "Draw without --configfile" in said and "To draw" not in said
    assert "To draw" in python(folder, "scripts/redraw.py", "smoke", "--dry-run")


def test_a_style_draws_one_figure(redrawn):
    folder, _ = redrawn
    arguments = overlaid(folder, {"figures": {"pan": {"figure3": {"width": 8.0}}}})
    assert planned(folder, *[f"{FIGURES}/pan/figure{n}.svg" for n in (2, 3, 4)], *arguments) == {
        "draw_pan_figure": 1
    }


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("scripts/mmneurons/methods/selection.py", "select_two_stage"),  # by the digest of the code
        ("scripts/select_two_stage.py", "select_two_stage"),  # by the checksum of the script
        ("resources/categories/coco-world.txt", "evaluate_suppression"),
    ],
)
def test_a_clone_that_differs_does_not_take_the_files_for_its_own(bundle, tmp_path, name, rule):
    folder = fresh_clone(tmp_path)
    path = folder / name
    path.write_text(path.read_text() + ("\nADDED = 1\n" if name.endswith(".py") else "zebra\n"))
    os.utime(path, (1e9, 1e9))
    said = python(folder, "scripts/restore.py", str(bundle))
    if "mmneurons/" not in name:
        assert f"Not what the run was made with, so its rules run again: {name}" in said
    assert rule in planned(folder, f"{FIGURES}/two_stage/table2.md", *CONFIG)


def test_from_a_url(finished, bundle, tmp_path):
    folder = fresh_clone(tmp_path / "clone")

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(bundle.parent), **options)

        def log_message(self, *arguments):
            pass

    digest = (finished / f"{BUNDLE}.sha256").read_text().split()[0]
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{bundle.name}"
        try:
            checked = python(folder, "scripts/restore.py", url, "--verify")
            assert "checksums of run smoke are right" in checked
            assert not (folder / "results/smoke").exists()
            wrong = python(folder, "scripts/restore.py", url, "--sha256", "0" * 64, check=False)
            assert "Refused, and nothing was changed" in wrong and "SHA-256" in wrong
            python(folder, "scripts/restore.py", url, "--sha256", digest)
        finally:
            server.shutdown()
    assert planned(folder, f"{FIGURES}/pan/figure3.svg", *CONFIG) == {"draw_pan_figure": 1}
    assert not [path for path in (folder / "results").iterdir() if path.name.startswith(".load")]


def test_a_tampered_bundle_leaves_the_clone_alone(bundle, tmp_path):
    folder = fresh_clone(tmp_path / "clone")
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "tampered.zip").write_bytes(data)
    before = sorted(map(str, folder.rglob("*")))
    said = python(folder, "scripts/restore.py", str(tmp_path / "tampered.zip"), check=False)
    assert said.startswith("Refused, and nothing was changed") and "Traceback" not in said
    assert [p for p in sorted(map(str, folder.rglob("*"))) if "__pycache__" not in p] == [
        p for p in before if "__pycache__" not in p
    ]


def test_pictures_that_may_not_be_shared(finished, tmp_path):
    """The drawn world's, as if their licence were another's."""

    def withhold(text):
        return text.replace("pictures: share", "pictures: withhold", 1)  # the first row: COCO

    maker = tmp_path / "maker"
    shutil.copytree(finished, maker, symlinks=True)
    registry = maker / "resources/datasets.yaml"
    registry.write_text(withhold(registry.read_text()))
    # The browser says on its first page whose pictures it holds.
    assert planned(maker, "share", *SMOKE) == {"browser": 1, "share": 1}
    snakemake(maker, "share", *SMOKE)
    less = maker / BUNDLE
    with zipfile.ZipFile(less) as archive:
        names = archive.namelist()
    assert not [name for name in names if "inpainted" in name or "world/coco" in name]
    assert [name for name in names if "world/sbu" in name]
    folder = fresh_clone(tmp_path / "clone")
    said = python(folder, "scripts/restore.py", str(less))
    assert "Pictures of COCO part" in said and "two_stage/figure1, two_stage/figure3" in said
    said = python(folder, "scripts/redraw.py", "smoke", "--dry-run")
    assert "Not drawn without the pictures of COCO part" in said
    to_draw = said.splitlines()[-1]
    assert "two_stage/figure2" in to_draw and "two_stage/figure3" not in to_draw
    table = f"{FIGURES}/two_stage/table2.md"
    assert planned(folder, table, *CONFIG) == {"two_stage_table2": 1}
