"""Fetching from a stand-in of the hub: what is refused, broken off, wrong, gated and gone."""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from download_server import DownloadServer, Served
from hub_server import COMMIT, Hub, serving

from mmneurons.checkpoints import hub as fetching
from mmneurons.checkpoints.hub import FetchError, fetch
from mmneurons.checkpoints.sources import Original, Source, SourceError, originals, sources
from mmneurons.downloads import requesting

REPOSITORY = Path(__file__).parents[1]
REPO = "someone/some-model"
WEIGHTS = random.Random(0).randbytes(700_000)
FILES = {
    "config.json": b'{"model_type": "llava"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.model": b"t" * 300,
    "qformer_tokenizer/vocab.txt": b"a\nb\n",
    "README.md": b"# not wanted",
    "pytorch_model.bin": b"not wanted either",
}
ROW = {
    "repo": REPO,
    "revision": COMMIT,
    "files": ["*.json", "*.txt", "model.safetensors", "tokenizer.model"],
    "gigabytes": 0.001,
    "licence": "Some Licence",
}
WANTED = FILES.keys() - {"README.md", "pytorch_model.bin"}


@pytest.fixture
def hub(monkeypatch):
    with serving(Hub(repositories={REPO: dict(FILES)})) as hub:
        # What HF_ENDPOINT sets when the library is imported; the test with kills sets that.
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        real = time.sleep
        monkeypatch.setattr("time.sleep", lambda seconds: real(min(seconds, 0.01)))
        yield hub


def original(**changes):
    return Original.from_row(ROW | changes)


def there(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "download.json"
    }


def test_the_files_of_the_patterns_and_a_receipt(hub, tmp_path):
    receipt = fetch(original(), tmp_path)
    assert there(tmp_path) == {name: FILES[name] for name in WANTED}
    assert receipt == json.loads((tmp_path / "download.json").read_text())
    assert (receipt["from"], receipt["commit"], receipt["licence"]) == (
        REPO,
        COMMIT,
        "Some Licence",
    )
    assert receipt["files"]["model.safetensors"] == {
        "bytes": len(WEIGHTS),
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
    }


def test_a_branch_is_resolved_to_its_commit(hub, tmp_path):
    receipt = fetch(original(revision="main"), tmp_path)
    assert (receipt["revision"], receipt["commit"]) == ("main", COMMIT)


def test_what_is_there_is_not_fetched_again(hub, tmp_path):
    fetch(original(), tmp_path)
    hub.served.clear()
    (tmp_path / "config.json").write_bytes(b'{"model_type": "other"}')  # of the same length
    fetch(original(), tmp_path)
    assert [name for name, *_ in hub.served] == ["config.json"]
    assert there(tmp_path)["config.json"] == FILES["config.json"]


@pytest.mark.parametrize(
    "faults",
    [
        [("drop", 200_000)],
        [("drop", 200_000), ("drop", 0), ("drop", 150_000)],
        [("drop", 200_000), "ignore-range"],
        [429, ("drop", 100_000), 429],
    ],
    ids=["drops", "drops-often", "ignores-ranges", "429"],
)
def test_a_server_that_breaks_off_is_asked_for_the_rest(hub, tmp_path, faults):
    ignored = "ignore-range" in faults
    hub.faults["model.safetensors"] = list(faults)
    fetch(original(), tmp_path)
    assert there(tmp_path)["model.safetensors"] == WEIGHTS
    extra = 200_000 if ignored else 4 << 16  # what a client had not taken off the line
    assert hub.bytes_of("model.safetensors") <= len(WEIGHTS) + extra


def test_a_download_that_was_left_goes_on(hub, tmp_path):
    (tmp_path / "model.safetensors.part").write_bytes(WEIGHTS[:500_000])
    fetch(original(), tmp_path)
    assert there(tmp_path)["model.safetensors"] == WEIGHTS
    assert hub.bytes_of("model.safetensors") == 200_000
    (tmp_path / "model.safetensors").rename(tmp_path / "model.safetensors.part")
    hub.served.clear()
    fetch(original(), tmp_path)
    assert hub.bytes_of("model.safetensors") == 0


def test_a_part_that_is_longer_than_the_file_is_begun_anew(hub, tmp_path):
    (tmp_path / "model.safetensors.part").write_bytes(b"x" * 800_000)
    fetch(original(), tmp_path)
    assert there(tmp_path)["model.safetensors"] == WEIGHTS


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("page", "page of HTML|should be of size"),
        (("content", WEIGHTS[:-1] + b"?"), "not what was announced"),
        (("content", WEIGHTS + b"more"), "should be of size"),
        (("content", WEIGHTS[:-9]), "should be of size"),
        (403, "could not be fetched"),
        (404, "not there any more"),
    ],
    ids=["page", "checksum", "longer", "shorter", "403", "404"],
)
def test_what_is_wrong_is_never_taken_for_the_file(hub, tmp_path, fault, message):
    hub.faults["model.safetensors"] = [fault]
    with pytest.raises(FetchError, match=message):
        fetch(original(), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert not (tmp_path / "download.json").exists()
    if isinstance(fault, int):
        return
    for _ in range(2):  # a length that lies may leave a part that the next start finds wrong
        try:
            fetch(original(), tmp_path)
        except FetchError:
            continue
    assert there(tmp_path)["model.safetensors"] == WEIGHTS


def test_a_gated_repository_says_what_to_accept_and_where(hub, tmp_path):
    hub.gated.add(REPO)
    with pytest.raises(FetchError) as error:
        fetch(original(gated=True), tmp_path)
    message = str(error.value)
    assert f"accept the licence (Some Licence) on https://huggingface.co/{REPO}" in message
    assert "hf auth login" in message
    assert str(tmp_path) in message


def test_a_token_opens_a_gated_repository_and_goes_nowhere_else(hub, tmp_path, monkeypatch):
    hub.gated.add(REPO)
    hub.plain["/models/eva.pth"] = b"e" * 1000
    monkeypatch.setenv("HF_TOKEN", "granted")
    fetch(original(gated=True), tmp_path / "gated")
    row = {"url": f"{hub.url}/models/eva.pth", "gigabytes": 0.001, "licence": "MIT"}
    fetch(Original.from_row(row), tmp_path / "plain")
    assert there(tmp_path / "plain") == {"eva.pth": b"e" * 1000}
    assert {token for path, token in hub.tokens if path == "/models/eva.pth"} == {""}


@pytest.fixture
def server(monkeypatch):
    """Where the address of a single file leads, by a mirror."""
    server = DownloadServer()
    monkeypatch.setenv("MMNEURONS_MIRRORS", f"https://storage.example={server.url}")
    monkeypatch.setattr(requesting, "sleep", lambda seconds: None)
    yield server
    server.close()


SINGLE = {"url": "https://storage.example/models/eva.pth?x=1", "gigabytes": 0.001, "licence": "MIT"}


def test_a_file_by_its_url_comes_by_a_mirror_and_goes_on(server, tmp_path):
    served = server.files["/models/eva.pth"] = Served(WEIGHTS, etag='"1"')
    served.drops = [300_000] + [0] * 99
    with pytest.raises(FetchError, match="broke(.|\n)*place these files in"):
        fetch(Original.from_row(SINGLE), tmp_path)
    served.drops = []
    before = server.sent["/models/eva.pth"]
    receipt = fetch(Original.from_row(SINGLE), tmp_path)
    assert there(tmp_path) == {"eva.pth": WEIGHTS} and list(receipt["files"]) == ["eva.pth"]
    assert receipt["files"]["eva.pth"]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert server.sent["/models/eva.pth"] - before == len(WEIGHTS) - 300_000
    fetch(Original.from_row(SINGLE), tmp_path)
    assert server.sent["/models/eva.pth"] - before == len(WEIGHTS) - 300_000


def test_a_part_of_another_file_by_its_url_is_no_beginning(server, tmp_path):
    """Of the same length, so that only what the source says of it tells them apart."""
    served = server.files["/models/eva.pth"] = Served(WEIGHTS[::-1], etag='"1"')
    served.drops = [300_000] + [0] * 99
    with pytest.raises(FetchError):
        fetch(Original.from_row(SINGLE), tmp_path)
    server.files["/models/eva.pth"] = Served(WEIGHTS, etag='"2"')
    fetch(Original.from_row(SINGLE), tmp_path)
    assert there(tmp_path) == {"eva.pth": WEIGHTS}


def test_a_file_by_its_url_is_compared_with_the_checksum(server, tmp_path):
    server.files["/models/eva.pth"] = Served(WEIGHTS, etag='"1"')
    wrong = Original.from_row(SINGLE | {"sha256": "0" * 64})
    with pytest.raises(FetchError, match="wrong checksum"):
        fetch(wrong, tmp_path)
    assert not (tmp_path / "eva.pth").exists()
    (tmp_path / "eva.pth").write_bytes(b"placed")
    with pytest.raises(FetchError, match="not what the registry names: delete it"):
        fetch(wrong, tmp_path)


def test_a_url_that_is_gone_is_said_with_what_to_do(server, tmp_path):
    with pytest.raises(FetchError, match="404(.|\n)*place these files in .*eva.pth"):
        fetch(Original.from_row(SINGLE), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repo": "someone/gone"}, "someone/gone is not there any more"),
        ({"revision": "f" * 40}, f"{REPO} is not there any more, or not at revision f"),
        ({"files": ["*.json", "model.bin"]}, "has no file model.bin"),
        ({"sha256": "0" * 64}, "is not what the registry names"),
    ],
)
def test_what_is_gone_or_changed_is_said(hub, tmp_path, changes, message):
    with pytest.raises(FetchError, match=message):
        fetch(original(**changes), tmp_path)


def test_no_network_is_said_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(FetchError, match="Start again to go on"):
        fetch(original(), tmp_path)


def test_offline_mode_is_named(hub, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    try:
        with pytest.raises(FetchError, match="HF_HUB_OFFLINE is set"):
            fetch(original(), tmp_path)
    finally:
        huggingface_hub.close_session()


def test_a_disk_that_is_too_small_is_said_before_the_first_byte(hub, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    free = fetching.HEADROOM + 400_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
    with pytest.raises(FetchError, match=r"0\.3 GB free, 0\.0 GB are to be fetched"):
        fetch(original(), tmp_path)
    assert hub.served == []
    (tmp_path / "model.safetensors.part").write_bytes(WEIGHTS[:500_000])
    fetch(original(), tmp_path)


def test_a_name_that_leaves_the_folder_is_refused(hub, tmp_path):
    hub.repositories[REPO]["../escaped.json"] = b"{}"
    with pytest.raises(FetchError, match="would leave"):
        fetch(original(), tmp_path / "original")
    assert not (tmp_path / "escaped.json").exists()


# ----------------------------------------------------------------------------------------- kills

CHILD = """
import sys
from pathlib import Path
import huggingface_hub.constants
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1 << 16
from mmneurons.checkpoints.hub import fetch
from mmneurons.checkpoints.sources import Original
import json
print("ready", flush=True)
fetch(Original(**json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


def test_killed_at_random_it_ends_with_the_same_bytes_and_fetches_nothing_twice(tmp_path):
    rng = random.Random(1)
    content = rng.randbytes(6 << 20)
    files = {"config.json": b"{}", "a.safetensors": content, "b.safetensors": content[::-1]}
    row = {"folder": "x", "repo": REPO, "revision": COMMIT, "files": ["*"]}
    row |= {"gigabytes": 0.01, "licence": "none"}
    with serving(Hub(repositories={REPO: files}, slow=0.004)) as hub:
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        environment["PYTHONPATH"] = str(REPOSITORY / "scripts")
        command = [sys.executable, "-c", CHILD, json.dumps(row), str(tmp_path)]
        asked = 0
        left = {}  # bytes of each file on the disk when its fetching was killed
        for attempt in range(6):
            child = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            child.stdout.readline()
            if attempt < 5:  # by bytes, not by the clock; five times less than all of them
                until = hub.sent + rng.randrange(300_000, 2_000_000)
                while child.poll() is None and hub.sent < until:
                    time.sleep(0.001)
                assert child.poll() is None, child.communicate()[1].decode()
                child.kill()
            _, said = child.communicate(timeout=60)
            for name, first in hub.asked[asked:]:
                assert first == left.pop(name, 0), name
            asked = len(hub.asked)
            for path in tmp_path.iterdir():
                whole = path.suffix != ".part"
                left[path.name.removesuffix(".part")] = -1 if whole else path.stat().st_size
        assert child.returncode == 0, said.decode()
        assert any(first > 0 for _, first in hub.asked)
        assert there(tmp_path) == files


# -------------------------------------------------------------------------------------- registry


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"repo": REPO, "gigabytes": 1, "licence": "x"}, f"{REPO}: the registry lacks files, rev"),
        ({"url": "https://x/y.pth"}, "lacks gigabytes, licence"),
        (ROW | {"size": 3}, "has no size"),
    ],
)
def test_a_row_that_says_too_little_is_an_error(row, message):
    with pytest.raises(SourceError, match=message):
        Original.from_row(row)


def test_a_conversion_that_there_is_not_is_an_error():
    row = {"convert": "blip", "originals": {"checkpoint": ROW}}
    with pytest.raises(SourceError, match="no conversion blip; there are minigpt4, llava"):
        Source.from_row(row)


def test_rows_share_originals_and_must_agree():
    row = {"convert": "transformers", "originals": {"checkpoint": ROW}}
    both = sources({"a": {"path": "models/a", "source": row}, "b": {"path": "models/b"}})
    assert both == {"models/a": Source("transformers", {"checkpoint": original()})}
    assert originals(both) == {"someone--some-model": original()}
    other = row | {"originals": {"checkpoint": ROW | {"revision": "main"}}}
    clash = sources({"a": {"path": "a", "source": row}, "b": {"path": "b", "source": other}})
    with pytest.raises(SourceError, match="differently"):
        originals(clash)


UNPINNED = {"https://github.com/jmerullo/limber/raw/main/limber_weights/beit_linear/proj.ckpt"}
"""Of which neither a commit nor a checksum was known; docs/models.md says so."""


def test_every_real_model_has_a_source_that_is_pinned():
    unpinned = set()
    for name in ("models", "encoders"):
        rows = yaml.safe_load((REPOSITORY / f"resources/{name}.yaml").read_text("utf-8"))
        real = {row["path"] for key, row in rows.items() if not key.endswith("-world")}
        found = sources(rows)
        assert found.keys() == real
        for source in found.values():
            for each in source.originals.values():
                if not (each.sha256 or re.fullmatch("[0-9a-f]{40}", each.revision or "")):
                    unpinned.add(each.name)
                assert each.sha256 is None or re.fullmatch("[0-9a-f]{64}", each.sha256)
    assert unpinned == UNPINNED
