"""One file from a server with every quirk that real ones have, and what then is on disk."""

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from download_server import DownloadServer

from mmneurons.downloads import requesting, space
from mmneurons.downloads.errors import DownloadError
from mmneurons.downloads.http import Remote, download
from mmneurons.downloads.requesting import mirrored

CONTENT = random.Random(6).randbytes(3_000_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def server():
    server = DownloadServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Pauses that would have been made, in seconds."""
    waits = []
    monkeypatch.setattr(requesting, "sleep", waits.append)
    return waits


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_is_checked(server, tmp_path):
    url = server.serve("/f.zip", CONTENT, etag='"a"')
    remote = Remote(url, bytes=len(CONTENT), checksum=SHA256)
    assert download(remote, tmp_path / "below/f.zip").read_bytes() == CONTENT
    assert left(tmp_path / "below") == ["f.zip"]


def test_a_file_that_is_there_is_neither_asked_for_nor_changed(server, tmp_path):
    (tmp_path / "f").write_text("placed by hand")
    download(Remote(server.serve("/f", CONTENT), checksum=SHA256), tmp_path / "f")
    assert (tmp_path / "f").read_text() == "placed by hand" and server.requests == []


def test_broken_connections_are_resumed(server, tmp_path, waits):
    url = server.serve("/f", CONTENT, etag='"a"', drops=[1_000_000, 500_000, 0, 700_000])
    assert download(Remote(url, checksum=SHA256), tmp_path / "f").read_bytes() == CONTENT
    starts = [ranged for ranged, _ in server.asked("/f")]
    assert starts[0] is None and None not in starts[1:] and len(starts) == 5
    assert server.sent["/f"] <= len(CONTENT) + 4 * (1 << 16)
    # Progress begins the pauses anew; two failures at one place make them grow.
    assert waits == [1, 1, 2, 1]


def test_a_server_that_ignores_ranges_begins_again(server, tmp_path):
    url = server.serve("/f", CONTENT, etag='"a"', ranges=False, drops=[1_000_000, 2_000_000])
    assert download(Remote(url), tmp_path / "f").read_bytes() == CONTENT
    assert [status for _, status in server.asked("/f")] == [200, 200, 200]


def test_a_server_that_always_breaks_at_one_place_is_given_up(server, tmp_path, waits):
    url = server.serve("/f", CONTENT, ranges=False, drops=[1_000_000] * 50)
    with pytest.raises(DownloadError, match="connection broke"):
        download(Remote(url), tmp_path / "f")
    assert 5 <= len(waits) <= 7
    assert "f" not in left(tmp_path)


@pytest.mark.parametrize(
    "validator", [{"etag": '"%s"'}, {"modified": "day %s"}, {"etag": 'W/"%s"'}]
)
def test_a_changed_file_is_not_glued_to_an_old_half(server, tmp_path, validator):
    first = {key: value % 1 for key, value in validator.items()}
    url = server.serve("/f", CONTENT, **first, drops=[1_000_000] + [0] * 99)
    with pytest.raises(DownloadError, match="connection broke"):
        download(Remote(url), tmp_path / "f")
    assert left(tmp_path) == ["f.part", "f.part.json"]
    other = CONTENT[::-1]
    server.serve("/f", other, **{key: value % 2 for key, value in validator.items()})
    assert download(Remote(url), tmp_path / "f").read_bytes() == other


@pytest.mark.parametrize("checked", [True, False])
def test_a_changed_file_of_a_server_that_says_nothing_is_not_glued_either(
    server, tmp_path, checked
):
    url = server.serve("/f", CONTENT, drops=[1_000_000] + [0] * 99)
    with pytest.raises(DownloadError):
        download(Remote(url), tmp_path / "f")
    other = CONTENT[::-1]
    server.serve("/f", other)
    checksum = f"sha256:{hashlib.sha256(other).hexdigest()}" if checked else None
    assert download(Remote(url, checksum=checksum), tmp_path / "f").read_bytes() == other


def test_a_part_is_resumed_by_another_process_and_only_from_the_same_address(server, tmp_path):
    url = server.serve("/f", CONTENT, etag='"a"')
    (tmp_path / "f.part").write_bytes(b"?" * 1000)
    assert download(Remote(url), tmp_path / "f").read_bytes() == CONTENT
    assert server.asked("/f") == [(None, 200)]


def test_a_part_longer_than_the_file_begins_again(server, tmp_path):
    url = server.serve("/f", CONTENT, etag='"a"')
    (tmp_path / "f.part").write_bytes(CONTENT + b"!")
    (tmp_path / "f.part.json").write_text(
        f'{{"url": "{url}", "etag": "\\"a\\"", "modified": null, "length": null}}'
    )
    assert download(Remote(url), tmp_path / "f").read_bytes() == CONTENT
    assert [status for _, status in server.asked("/f")] == [416, 200]


def test_a_whole_part_is_not_fetched_again(server, tmp_path):
    url = server.serve("/f", CONTENT, etag='"a"')
    (tmp_path / "f.part").write_bytes(CONTENT)
    (tmp_path / "f.part.json").write_text(
        f'{{"url": "{url}", "etag": "\\"a\\"", "modified": null, "length": {len(CONTENT)}}}'
    )
    assert download(Remote(url, checksum=SHA256), tmp_path / "f").read_bytes() == CONTENT
    assert server.requests == []


def test_retry_after_is_obeyed_in_seconds_and_as_a_date(server, tmp_path, waits):
    url = server.serve("/f", CONTENT, statuses=[429, 503], headers={"Retry-After": "7"})
    assert download(Remote(url), tmp_path / "f").read_bytes() == CONTENT
    assert waits == [7, 7]
    date = formatdate(time.time() + 100, usegmt=True)
    url = server.serve("/g", CONTENT, statuses=[429], headers={"Retry-After": date})
    download(Remote(url), tmp_path / "g")
    assert 90 < waits[2] <= 100


def test_who_asks_for_an_hour_is_asked_another_day(server, tmp_path, waits):
    url = server.serve("/f", CONTENT, statuses=[429], headers={"Retry-After": "3600"})
    with pytest.raises(DownloadError, match="429"):
        download(Remote(url), tmp_path / "f")
    assert waits == []


def test_server_errors_are_tried_again_with_growing_pauses_and_not_for_ever(
    server, tmp_path, waits
):
    url = server.serve("/f", CONTENT, statuses=[500, 502, 504])
    assert download(Remote(url), tmp_path / "f").read_bytes() == CONTENT
    assert waits == [1, 2, 4]
    url = server.serve("/g", CONTENT, statuses=[503] * 99)
    with pytest.raises(DownloadError, match="503"):
        download(Remote(url), tmp_path / "g")
    assert len(server.asked("/g")) == requesting.ATTEMPTS


@pytest.mark.parametrize(
    ("status", "said"), [(403, "refuses"), (404, "no such file"), (401, "login")]
)
def test_what_is_refused_or_gone_names_source_archive_and_what_to_do(
    server, tmp_path, waits, status, said
):
    url = server.serve("/f", statuses=[status])
    archive = server.url + "/archive/f"
    with pytest.raises(DownloadError) as error:
        download(Remote(url, archive, page="https://example.org/data"), tmp_path / "f")
    for part in (url, archive, said, "by hand from https://example.org/data", str(tmp_path / "f")):
        assert part in str(error.value)
    assert waits == [] and left(tmp_path) == []


def test_the_archive_stands_in_for_a_source_that_is_gone(server, tmp_path):
    archive = server.serve("/archive/f", CONTENT)
    remote = Remote(server.url + "/gone", archive, checksum=SHA256)
    assert download(remote, tmp_path / "f").read_bytes() == CONTENT


def test_a_dead_archive_does_not_cost_what_has_come(server, tmp_path):
    url = server.serve("/f", CONTENT, etag='"a"', drops=[1_000_000] + [0] * 20)
    with pytest.raises(DownloadError, match="What has come is kept"):
        download(Remote(url, server.url + "/gone", page="https://example.org"), tmp_path / "f")
    assert (tmp_path / "f.part").stat().st_size > 900_000
    server.files["/f"].drops = []
    server.sent.clear()
    download(Remote(url, server.url + "/gone"), tmp_path / "f")
    assert server.sent["/f"] < 2_100_000


def test_an_html_page_with_status_200_is_no_file(server, tmp_path):
    page = b"<!doctype html><html>Please log in</html>"
    url = server.serve("/f.zip", page, kind="text/html; charset=utf-8")
    with pytest.raises(DownloadError, match="HTML"):
        download(Remote(url), tmp_path / "f.zip")
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", ["application/octet-stream", ""])
@pytest.mark.parametrize("start", [b"", b"\r\n  ", b"\xef\xbb\xbf"])
def test_a_page_that_is_not_called_one_is_no_file_either(server, tmp_path, kind, start):
    page = start + b"<!DOCTYPE html><html>maintenance</html>"
    url = server.serve("/f.json", page, kind=kind)
    archive = server.serve("/archive/f.json", b"{}")
    with pytest.raises(DownloadError, match="HTML"):
        download(Remote(url), tmp_path / "f.json")
    assert left(tmp_path) == []
    assert download(Remote(url, archive), tmp_path / "f.json").read_bytes() == b"{}"


def test_a_page_costs_nothing_of_what_has_come(server, tmp_path):
    url = server.serve("/f", CONTENT, etag='"a"', drops=[1_000_000] + [0] * 20)
    with pytest.raises(DownloadError, match="connection broke"):
        download(Remote(url), tmp_path / "f")
    server.serve("/f", b"<html>maintenance</html>", etag='"b"', kind="")
    with pytest.raises(DownloadError, match="HTML"):
        download(Remote(url), tmp_path / "f")
    server.serve("/f", CONTENT, etag='"a"')
    server.sent.clear()
    assert download(Remote(url), tmp_path / "f").read_bytes() == CONTENT
    assert server.sent["/f"] < 2_100_000


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    url = server.serve("/f", CONTENT[:-1] + b"?")
    with pytest.raises(DownloadError, match="wrong checksum, where sha256:"):
        download(Remote(url, checksum=SHA256), tmp_path / "f")
    assert left(tmp_path) == []


def test_another_length_than_published_is_refused_before_it_is_fetched(server, tmp_path):
    url = server.serve("/f", CONTENT, etag='"a"')
    with pytest.raises(DownloadError, match="3000000 bytes, where 7 are published"):
        download(Remote(url, bytes=7), tmp_path / "f")
    assert left(tmp_path) == []


def test_a_length_that_the_server_does_not_keep_is_no_file(server, tmp_path):
    url = server.serve("/f", CONTENT, length=len(CONTENT) + 10, ranges=False)
    with pytest.raises(DownloadError, match="connection broke"):
        download(Remote(url), tmp_path / "f")
    assert "f" not in left(tmp_path)


@pytest.mark.parametrize(("published", "error"), [(3_000_000, None), (2_000_000, "more than")])
def test_without_a_length_the_published_one_counts(server, tmp_path, published, error):
    url = server.serve("/f", CONTENT, says_length=False)
    if error:
        with pytest.raises(DownloadError, match=error):
            download(Remote(url, bytes=published), tmp_path / "f")
    else:
        assert download(Remote(url, bytes=published), tmp_path / "f").read_bytes() == CONTENT


def test_redirects_to_storage_are_followed_with_the_range(server, tmp_path):
    server.serve("/storage/abc", CONTENT, etag='"a"', drops=[1_000_000])
    server.files["/resolve/f"] = type(server.files["/storage/abc"])(
        redirect=server.url + "/storage/abc?signature=1"
    )
    path = download(Remote(server.url + "/resolve/f", checksum=SHA256), tmp_path / "f")
    assert path.read_bytes() == CONTENT
    (_, first), (ranged, second) = server.asked("/storage/abc")
    assert (first, second) == (200, 206) and ranged.startswith("bytes=")


def test_an_archive_that_a_server_calls_encoded_is_kept_as_it_is(server, tmp_path):
    import gzip

    packed = gzip.compress(CONTENT[:10_000])
    url = server.serve("/f.tar.gz", packed)
    say = server.say

    def encoded(handler, path, ranged, status, content, headers, *rest):
        say(handler, path, ranged, status, content, headers | {"Content-Encoding": "gzip"}, *rest)

    server.say = encoded
    assert download(Remote(url), tmp_path / "f.tar.gz").read_bytes() == packed


def test_no_server_at_all_is_said(tmp_path, waits):
    closed = DownloadServer()
    closed.close()
    with pytest.raises(DownloadError, match="no answer"):
        download(Remote(closed.url + "/f"), tmp_path / "f")
    assert len(waits) == requesting.ATTEMPTS - 1


def test_a_full_disk_is_told_before_anything_is_written(server, tmp_path, monkeypatch):
    url = server.serve("/f", CONTENT, etag='"a"')
    free = space.RESERVE + 2_500_000

    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(DownloadError, match="f needs 3 MB more in .* and 271 MB are free there"):
        download(Remote(url), tmp_path / "f")
    assert left(tmp_path) == [] and server.sent.get("/f", 0) < 500_000
    # What is there already counts.
    (tmp_path / "f.part").write_bytes(CONTENT[:1_000_000])
    (tmp_path / "f.part.json").write_text(
        f'{{"url": "{url}", "etag": "\\"a\\"", "modified": null, "length": {len(CONTENT)}}}'
    )
    assert download(Remote(url), tmp_path / "f").read_bytes() == CONTENT


def test_mirrors_replace_the_longest_beginning(server, tmp_path, monkeypatch):
    server.serve("/coco/zips/f", CONTENT)
    pairs = f"http://images.example={server.url}/wrong http://images.example/zips={server.url}/coco/zips"
    monkeypatch.setenv("MMNEURONS_MIRRORS", pairs)
    assert mirrored("http://other.example/f") == "http://other.example/f"
    remote = Remote("http://images.example/zips/f", checksum=SHA256)
    assert download(remote, tmp_path / "f").read_bytes() == CONTENT


def test_the_hubs_own_variable_is_a_mirror_too(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    monkeypatch.delenv("MMNEURONS_MIRRORS", raising=False)
    assert mirrored("https://huggingface.co/a/b") == "https://hub.example/a/b"
    monkeypatch.setenv("MMNEURONS_MIRRORS", "https://huggingface.co=http://mine.example")
    assert mirrored("https://huggingface.co/a/b") == "http://mine.example/a/b"


KILLED = """
import sys
from mmneurons.downloads.http import Remote, download
download(Remote(sys.argv[1], bytes=int(sys.argv[2]), checksum=sys.argv[3]), sys.argv[4])
"""


def test_killed_at_random_points_it_ends_the_same_and_fetches_nothing_twice(server, tmp_path):
    """Eight kills; every start may lose what is in the sockets, and nothing that was written."""
    content = random.Random(7).randbytes(24_000_000)
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    url = server.serve("/f", content, etag='"a"', rate=12_000_000)
    path, chance, kills = tmp_path / "f", random.Random(8), 0
    while kills < 8:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, url, str(len(content)), checksum, str(path)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        # From the first byte of this start on: what happens before is no point of a download.
        before = server.sent.get("/f", 0)
        while process.poll() is None and server.sent.get("/f", 0) == before:
            time.sleep(0.001)
        until = server.sent["/f"] + chance.randrange(0, 2_700_000)
        while process.poll() is None and server.sent["/f"] < until:
            time.sleep(0.001)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        assert not path.exists()
    assert kills >= 8
    download(Remote(url, bytes=len(content), checksum=checksum), path)
    assert path.read_bytes() == content and left(tmp_path) == ["f"]
    overhead = server.sent["/f"] - len(content)
    print(f"{kills} kills, {overhead} bytes sent more than the file has")
    assert overhead <= kills * 500_000


STREAMED = """
import sys
from mmneurons.downloads.http import Remote
from mmneurons.downloads.tar import FromTar
FromTar(sys.argv[2], Remote(sys.argv[1])).bring(sys.argv[3:])
"""


def test_a_tar_read_by_killed_processes_is_read_once(server, tmp_path):
    """Four kills; noted members are not read again, and every picture ends as it was packed."""
    chance, packed = random.Random(9), io.BytesIO()
    contents = {f"Data/{number}.tif": chance.randbytes(600_000) for number in range(20)}
    with tarfile.open(fileobj=packed, mode="w") as file:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    url = server.serve("/Images.tar", packed.getvalue(), etag='"a"', rate=8_000_000)
    command = [sys.executable, "-c", STREAMED, url, str(tmp_path), *contents]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(4):
        process = subprocess.Popen(command, env=environment)
        until = server.sent.get("/Images.tar", 0) + chance.randrange(1_000_000, 2_500_000)
        while process.poll() is None and server.sent.get("/Images.tar", 0) < until:
            time.sleep(0.001)
        assert process.poll() is None
        process.kill()
        process.wait()
    subprocess.run(command, env=environment, check=True)
    assert {name: (tmp_path / name).read_bytes() for name in contents} == contents
    overhead = server.sent["/Images.tar"] - len(packed.getvalue())
    print(f"4 kills, {overhead} bytes sent more than the archive has")
    # A kill loses the member that was being read, and what was on its way.
    assert overhead <= 4 * (600_000 + 500_000)
