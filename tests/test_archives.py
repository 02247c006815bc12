"""Archives: what is taken out of them, and what is refused."""

import io
import random
import tarfile
import zipfile

import pytest
from download_server import DownloadServer

from mmneurons.downloads import archives, requesting, space
from mmneurons.downloads.archives import ArchiveError, bring_members, unpack
from mmneurons.downloads.errors import DownloadError, Gone
from mmneurons.downloads.ranges import RangedFile

FILES = {f"Data/{n}.tif": random.Random(n).randbytes(50_000 + n) for n in range(20)}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(requesting, "sleep", lambda _: None)
    server = DownloadServer()
    yield server
    server.close()


def write_zip(path, files, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            with file.open(name, "w", **options) as member:
                member.write(content)
    return path


def write_tar(path, files, mode="w", members=()):
    with tarfile.open(path, mode) as file:
        for member in members:
            file.addfile(member, io.BytesIO(b"x" * member.size))
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def entry(name, kind=tarfile.REGTYPE, link="", size=0):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


def below(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.mark.parametrize("kind", ["zip", "zip64", "tar", "tar.gz"])
def test_everything_or_only_what_is_wanted(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind.startswith("zip"):
        write_zip(path, FILES, force_zip64=kind == "zip64")
    else:
        write_tar(path, FILES, "w:gz" if kind.endswith("gz") else "w")
    unpack(path, tmp_path / "all")
    assert below(tmp_path / "all") == FILES
    some = {"Data/3.tif": "three.tif", "Data/7.tif": "x/seven.tif"}
    written = unpack(path, tmp_path / "some", some.get)
    assert below(tmp_path / "some") == {place: FILES[name] for name, place in some.items()}
    assert sorted(written) == sorted((tmp_path / "some" / p) for p in some.values())


def test_a_zip_whose_directory_counts_as_zip64_does(tmp_path, monkeypatch):
    # What zipfile writes for more than 65,535 members, for fewer.
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 10)
    write_zip(tmp_path / "many.zip", FILES)
    assert b"PK\x06\x06" in (tmp_path / "many.zip").read_bytes()
    unpack(tmp_path / "many.zip", tmp_path / "out")
    assert below(tmp_path / "out") == FILES


def test_what_is_there_is_left_alone_and_folders_are_no_members(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name in (".", "./Data"):
            file.addfile(entry(name, tarfile.DIRTYPE))
        file.addfile(entry("./Data/1.txt", size=3), io.BytesIO(b"new"))
        file.addfile(entry("./Data/1.txt", size=5), io.BytesIO(b"again"))  # redundant
    out = tmp_path / "out"
    unpack(tmp_path / "a.tar", out)
    assert below(out) == {"Data/1.txt": b"new"}
    (out / "Data/1.txt").write_bytes(b"placed by hand")
    unpack(tmp_path / "a.tar", out)
    write_zip(tmp_path / "a.zip", {"Data/1.txt": b"zipped"})
    unpack(tmp_path / "a.zip", out)
    assert below(out) == {"Data/1.txt": b"placed by hand"}


def test_reading_stops_after_the_wanted_count(tmp_path):
    path = write_tar(tmp_path / "a.tar", FILES)
    broken = path.read_bytes()[:120_000]  # the third member is cut off
    path.write_bytes(broken)
    assert len(unpack(path, tmp_path / "out", count=2)) == 2
    with pytest.raises(ArchiveError, match="broken"):
        unpack(path, tmp_path / "out")


OUTSIDE = ["../evil", "Data/../../evil", "/tmp/evil", "..\\evil"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_leave_the_folder_are_refused(tmp_path, kind, name):
    path, out = tmp_path / f"a.{kind}", tmp_path / "deep/out"
    files = {name: b"evil", "good": b"good"}
    (write_zip if kind == "zip" else write_tar)(path, files)
    with pytest.raises(ArchiveError, match="refused"):
        unpack(path, out)
    # Also where nobody wants that member.
    with pytest.raises(ArchiveError, match="refused"):
        unpack(path, out, {"good": "good"}.get)
    assert not list(tmp_path.rglob("*evil*")) and below(tmp_path / "deep") == {}


@pytest.mark.parametrize(
    "member",
    [
        entry("link", tarfile.SYMTYPE, "../../outside"),
        entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("link", tarfile.LNKTYPE, "../../outside"),
        entry("device", tarfile.CHRTYPE),
        entry("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.type}-{member.linkname}",
)
def test_links_that_leave_the_folder_and_devices_are_refused(tmp_path, member):
    path = write_tar(tmp_path / "a.tar", {"link/evil": b"evil"}, members=[member])
    with pytest.raises(ArchiveError, match="refused"):
        unpack(path, tmp_path / "out")
    assert below(tmp_path / "out") == {}


def test_a_link_that_stays_is_not_followed_nor_made(tmp_path):
    inside = entry("alias", tarfile.SYMTYPE, "Data")
    path = write_tar(tmp_path / "a.tar", {"Data/1": b"1"}, members=[inside])
    unpack(path, tmp_path / "out")
    assert below(tmp_path / "out") == {"Data/1": b"1"} and not (tmp_path / "out/alias").exists()


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        file.writestr(link, "../../outside")
    with pytest.raises(ArchiveError, match="link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_place_outside_that_the_caller_names_is_refused_too(tmp_path):
    write_zip(tmp_path / "a.zip", {"a": b"a"})
    with pytest.raises(ArchiveError, match="leaves the folder"):
        unpack(tmp_path / "a.zip", tmp_path / "out", lambda name: "../" + name)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archives_larger_than_announced_are_refused(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    files = {"a": b"0" * 1_000_000, "b": b"0" * 1_000_000}
    if kind == "zip":
        write_zip(path, files)
    else:
        write_tar(path, files, "w:gz" if kind.endswith("gz") else "w")
    with pytest.raises(ArchiveError, match="2 MB or more, where 1.5 MB are announced"):
        unpack(path, tmp_path / "out", most_bytes=1_500_000)
    assert "b" not in below(tmp_path / "out")
    assert unpack(path, tmp_path / "fits", most_bytes=2_000_000)


def test_a_zip_that_lies_about_a_members_size_gives_no_more_than_it_said(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a": b"0" * 1_000_000})
    data = path.read_bytes()
    said, lie = (1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    assert said in data
    path.write_bytes(data.replace(said, lie))
    with pytest.raises(ArchiveError, match="broken"):
        unpack(path, tmp_path / "out", most_bytes=100)
    assert below(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_broken_archive_leaves_no_half_member(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    (write_zip if kind == "zip" else write_tar)(path, FILES)
    data = bytearray(path.read_bytes())
    if kind == "zip":
        data[20_000:20_100] = bytes(100)
    else:
        del data[520_000:]
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="broken"):
        unpack(path, tmp_path / "out")
    whole = below(tmp_path / "out")
    assert whole.items() <= FILES.items()


BROKEN = {
    "deflated": {42: 7},  # the first byte behind the local header: a block of no known type
    "unknown": {8: 99, "directory": 99},  # a way of packing that nobody knows
}


@pytest.mark.parametrize("kind", BROKEN)
def test_members_that_cannot_be_unpacked_are_said_of_the_archive(tmp_path, kind):
    path = write_zip(tmp_path / "a.zip", {"images/1.jpg": bytes(range(256)) * 200})
    data = bytearray(path.read_bytes())
    for place, byte in BROKEN[kind].items():
        data[data.find(b"PK\x01\x02") + 10 if place == "directory" else place] = byte
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="a.zip is broken"):
        unpack(path, tmp_path / "out")
    with pytest.raises(ArchiveError, match="images.zip is broken"):
        bring_members(io.BytesIO(data), tmp_path / "out", ["images/1.jpg"], "images.zip")
    assert below(tmp_path / "out") == {}


def test_what_is_no_archive_is_said(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"<html>" * 100)
    with pytest.raises(ArchiveError, match="broken"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_room_is_asked_for_before_a_zip_is_unpacked(tmp_path, monkeypatch):
    write_zip(tmp_path / "a.zip", FILES)
    total = sum(map(len, FILES.values()))
    free = space.RESERVE + total - 1
    monkeypatch.setattr(
        archives, "require_space", lambda f, n, w: n > free - space.RESERVE and fail()
    )

    def fail():
        raise DownloadError("full")

    with pytest.raises(DownloadError, match="full"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert below(tmp_path / "out") == {}


def test_a_ranged_file_reads_what_is_asked_for_and_survives_broken_connections(server):
    content = random.Random(1).randbytes(5_000_000)
    url = server.serve("/f", content, etag='"a"', drops=[100_000, 0, 300_000])
    chance = random.Random(2)
    with io.BufferedReader(RangedFile(url)) as file:
        for _ in range(40):
            start, length = chance.randrange(len(content) + 10), chance.randrange(60_000)
            file.seek(start)
            assert file.read(length) == content[start : start + length]
        assert file.seek(-3, io.SEEK_END) == len(content) - 3
        assert file.read() == content[-3:]


def test_a_ranged_file_reads_through_where_ranges_are_ignored(server):
    content = random.Random(1).randbytes(3_000_000)
    url = server.serve("/f", content, ranges=False, drops=[1_000_000])
    with RangedFile(url) as file:
        assert io.BufferedReader(file, 1 << 16).read() == content


def test_a_ranged_file_notices_that_it_became_another(server):
    url = server.serve("/f", bytes(5_000_000), etag='"a"')
    with RangedFile(url) as file:
        file.read(10)
        server.serve("/f", bytes(5_000_001), etag='"b"')
        file.seek(4_000_000)
        with pytest.raises(Gone, match="another file"):
            file.read(10)


def test_one_member_of_a_zip_on_a_server(server, tmp_path):
    write_zip(tmp_path / "a.zip", FILES, force_zip64=True)
    data = (tmp_path / "a.zip").read_bytes()
    url = server.serve("/a.zip", data, etag='"a"')
    with RangedFile(url) as file:
        unpack(file, tmp_path / "out", {"Data/9.tif": "9.tif"}.get)
    assert below(tmp_path / "out") == {"9.tif": FILES["Data/9.tif"]}


def test_a_tar_is_streamed_from_a_server_up_to_the_last_wanted_member(server, tmp_path):
    write_tar(tmp_path / "a.tar", FILES)
    url = server.serve("/a.tar", (tmp_path / "a.tar").read_bytes(), etag='"a"', drops=[99_000])
    with RangedFile(url) as file:
        unpack(file, tmp_path / "out", {"Data/1.tif": "1.tif"}.get, count=1)
    assert below(tmp_path / "out") == {"1.tif": FILES["Data/1.tif"]}
    assert server.sent["/a.tar"] < 500_000 < len(FILES) * 50_000
