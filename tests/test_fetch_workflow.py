"""The rules that fetch: planned without a network, run against a server on this machine."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile

import pytest
import yaml
from download_server import DownloadServer
from smoke_run import copy_repository
from test_datasets_folder import ROW, annotate, draw
from test_downloaded_pictures import jpeg

from mmneurons.artifacts.tables import read_table

REAL = {
    "common": "vqav2",
    "medical": "pmc-vqa",
    "driving": "lingo-qa",
    "document": "doc-vqa",
    "remote": "rsvqa-hr",
}


def run(copy, config, targets, *options, **environment):
    """Snakemake in the copy, with no way out of this machine but the given mirrors."""
    (copy / "test.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *options]
    command += ["--configfile", "test.yaml", "--", *targets]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    variables = os.environ | nowhere | {"no_proxy": "127.0.0.1"} | environment
    done = subprocess.run(
        command, cwd=copy, env=variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    return copy_repository(tmp_path / "copy")


def test_all_datasets_are_planned_without_a_network_and_without_data(copy):
    config = {
        "run": "real",
        "two_stage": {"dataset": "coco-2017"},
        "pan": {"dataset": "sbu"},
        "mmneuron": {"domains": REAL},
    }
    targets = [
        "results/real/coco-2017/two_stage/samples.parquet",
        "results/real/sbu/pan/pictures.parquet",
        "results/real/domains/questions.parquet",
    ]
    # Placed by hand, so no rule of the plan makes it.
    by_hand = copy / "resources/data/sbu/sbu-captions-all.json"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_text("{}")
    os.utime(by_hand, (1, 1))
    said = run(copy, config, targets, "--dry-run")
    fetched = set(re.findall(r"Fetching (resources/data/\S+)", said))
    names = {name for name in ("coco-2017", *REAL.values())}
    rows = yaml.safe_load((copy / "resources/datasets.yaml").read_text())
    used = {
        "coco-2017": ["instances_train2017"],
        "vqav2": ["2014"],
        "pmc-vqa": ["train.csv", "test.csv"],
    }
    used |= {"rsvqa-hr": ["split_train_", "split_val_"]}
    wanted = {
        f"{rows[name]['root']}/{file}"
        for name in names
        for file in rows[name]["source"]["files"]
        if any(part in file for part in used.get(name, [""]))
    }
    archives = {path for path in fetched if "/archives/" in path}
    assert fetched - archives == wanted and len(wanted) == 16
    # Of COCO and of VQAv2's questions and answers; SBU's list is there.
    assert len(archives) == 1 + 4
    assert by_hand.read_text() == "{}"
    assert f"download_dataset_file {len(wanted)}" in re.sub(" +", " ", said)


def test_an_archive_is_fetched_once_for_all_its_members_and_goes_afterwards(copy):
    server = DownloadServer()
    try:
        names = ("instances_train2017", "instances_val2017", "captions_val2017")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
            for name in names:
                file.writestr(f"annotations/{name}.json", json.dumps(name))
        path = "/coco/annotations/annotations_trainval2017.zip"
        server.serve(path, packed.getvalue())
        registry = copy / "resources/datasets.yaml"
        rows = yaml.safe_load(registry.read_text())
        for entry in rows["coco-2017"]["source"]["files"].values():
            entry.pop("bytes")
            entry.pop("checksum")
        rows["coco-2017-val"]["source"] = rows["coco-2017"]["source"]
        registry.write_text(yaml.safe_dump(rows))
        data = copy / "resources/data/coco"
        targets = [f"resources/data/coco/annotations/{name}.json" for name in names]
        mirror = f"http://images.cocodataset.org={server.url}/coco"
        run(copy, {"run": "mine"}, targets, "--quiet", "all", MMNEURONS_MIRRORS=mirror)
        assert [json.loads((copy / target).read_text()) for target in targets] == list(names)
        assert [path for path, *_ in server.requests] == [path]
        assert not list(data.glob("archives/*"))
        # One that a person placed is used and stays.
        (copy / targets[0]).unlink()
        archive = data / "archives/annotations_trainval2017.zip"
        archive.parent.mkdir(exist_ok=True)
        archive.write_bytes(packed.getvalue())
        run(copy, {"run": "mine"}, targets[:1], "--quiet", "all", MMNEURONS_MIRRORS=mirror)
        assert (copy / targets[0]).exists() and archive.exists() and len(server.requests) == 1
    finally:
        server.close()


def serve_vqav2(server, root, questions=12):
    """One of four files is on the server, the others are placed by hand; pictures on the server."""
    root.mkdir(parents=True)
    for part, split in (("Train", "train2014"), ("Val", "val2014")):
        ids = range(1, questions + 1)
        asked = [{"question_id": n, "image_id": n, "question": f"What {n}?"} for n in ids]
        answers = [{"answer": "cat", "answer_confidence": "yes"}]
        told = [
            {
                "question_id": n,
                "multiple_choice_answer": "cat",
                "answers": answers,
                "answer_type": "other",
            }
            for n in ids
        ]
        for kind, name, content in (
            ("Questions", f"v2_OpenEnded_mscoco_{split}_questions.json", {"questions": asked}),
            ("Annotations", f"v2_mscoco_{split}_annotations.json", {"annotations": told}),
        ):
            if (kind, part) != ("Questions", "Train"):
                (root / name).write_text(json.dumps(content))
                continue
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
                file.writestr(name, json.dumps(content))
            assert not (root / name).exists()
            path = f"/cvmlp/vqa/mscoco/vqa/v2_{kind}_{part}_mscoco.zip"
            server.serve(path, packed.getvalue(), etag=f'"{name}"', drops=[100])
        for n in ids:
            path = f"/coco/{split}/COCO_{split}_{n:012d}.jpg"
            server.serve(path, jpeg(n), kind="image/jpeg")


def test_the_rules_fetch_files_and_pictures_and_read_own_folders(copy, tmp_path):
    """Questions with files and pictures from a server; two kinds of folders of own pictures."""
    server = DownloadServer()
    try:
        data = copy / "resources/data/vqav2"
        serve_vqav2(server, data)
        mine = tmp_path / "mine"
        for place, name in enumerate(["Küche 1.JPG", "trip/IMG_0001.png", "trip/b/IMG_0001.png"]):
            draw(mine / name, place)
        annotate(mine)
        registry = copy / "resources/datasets.yaml"
        rows = yaml.safe_load(registry.read_text())
        for entry in rows["vqav2"]["source"]["files"].values():
            entry.pop("bytes")  # the miniature's archives have another size
        (copy / "mine.txt").write_text("cup\n")
        rows["plain"] = ROW | {"root": str(mine)}
        rows["boxed"] = rows["plain"] | {"annotations": "objects.json", "categories": "mine.txt"}
        registry.write_text(yaml.safe_dump(rows))
        two_stage = {
            "dataset": "boxed",
            "objects": ["cup"],
            "candidates_per_object": 3,
            "pictures_per_object": 1,
            "calibration_pictures": 1,
            "methods": {"main": ["two_stage"], "more": []},
        }
        config = {
            "run": "mine",
            "two_stage": two_stage,
            "pan": {"dataset": "plain", "pictures": 2},
            "mmneuron": {
                "domains": {"common": "vqav2"},
                "questions": {"identify": 3, "evaluate": 2},
            },
        }
        targets = [
            "results/mine/boxed/two_stage/samples.parquet",
            "results/mine/plain/pan/pictures.parquet",
            "results/mine/vqav2/mmneuron/questions.parquet",
        ]
        mirrors = {
            "https://s3.amazonaws.com/cvmlp": f"{server.url}/cvmlp",
            "http://images.cocodataset.org": f"{server.url}/coco",
        }
        pairs = " ".join(f"{start}={to}" for start, to in mirrors.items())
        run(copy, config, targets, "--quiet", "all", MMNEURONS_MIRRORS=pairs)
        sizes = [len(read_table(copy / target)) for target in targets]
        assert sizes == [3, 2, 5]
        assert len(list(data.glob("*2014/*.jpg"))) == 5
        assert not list(data.rglob("*.part*")) and not list(data.glob("archives/*"))
        # Nothing is left to do, and nothing is asked for again.
        server.requests.clear()
        assert "Nothing to be done" in run(copy, config, targets, MMNEURONS_MIRRORS=pairs)
        assert server.requests == []
    finally:
        server.close()
