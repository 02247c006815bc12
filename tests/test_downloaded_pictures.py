"""Pictures that readers ask a source for: which are fetched, and what is taken without one."""

import hashlib
import io
import json
import re
import shutil
import tarfile
import zipfile
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from download_server import DownloadServer, Served
from PIL import Image
from smoke_run import REPOSITORY

from mmneurons.datasets import (
    coco,
    doc_vqa,
    lingo_qa,
    pictures,
    pmc_vqa,
    questions,
    rsvqa,
    sbu,
    vqav2,
)
from mmneurons.downloads import drive, requesting
from mmneurons.downloads.archives import ArchiveError
from mmneurons.downloads.errors import DownloadError
from mmneurons.downloads.hub import HubRepo
from mmneurons.downloads.names import archive_of
from mmneurons.downloads.pictures import FAILED, NOT_THERE, ByAddress
from mmneurons.downloads.sources import (
    fetch_archive,
    fetch_file,
    listed_pictures_of,
    pictures_of,
    tables_of,
)

REGISTRY = yaml.safe_load((REPOSITORY / "resources/datasets.yaml").read_text())


def jpeg(seed, size=(40, 30)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch):
    """All sources of the registry lead to this server, under /{host}/."""
    server = DownloadServer()
    hosts = set(
        re.findall(r"https?://[^/\s\"]+", (REPOSITORY / "resources/datasets.yaml").read_text())
    )
    pairs = [f"{host}={server.url}/{urlsplit(host).netloc}" for host in hosts]
    monkeypatch.setenv("MMNEURONS_MIRRORS", " ".join(pairs))
    monkeypatch.setattr(requesting, "sleep", lambda _: None)
    yield server
    server.close()


@pytest.fixture
def opened(monkeypatch):
    """Paths of the pictures that readers open."""
    paths = []
    read = pictures.read_picture

    def counted(path):
        paths.append(str(path))
        return read(path)

    for module in (coco, sbu, pictures):
        monkeypatch.setattr(module, "read_picture", counted)
    return paths


def row(name, root):
    return REGISTRY[name] | {"root": str(root)}


def reasons(exclusions):
    return dict(zip(exclusions["sample_id"], exclusions["reason"], strict=True))


# ----------------------------------------------------------------------------- by an address each


def by_address(server, root, **options):
    return ByAddress(root, lambda file: [f"{server.url}/{file}"], **options)


def test_what_is_gone_is_remembered_and_not_asked_for_again(server, tmp_path):
    server.serve("/here.jpg", jpeg(1), kind="image/jpeg")
    server.serve("/placeholder.jpg", redirect=server.url + "/img/photo_unavailable.png")
    server.serve("/img/photo_unavailable.png", jpeg(2), kind="image/png")
    server.serve("/page.jpg", b"<html>", kind="text/html")
    server.serve("/empty.jpg", b"", kind="image/jpeg")
    (tmp_path / "mine.jpg").write_text("placed by hand")
    source = by_address(server, tmp_path, placeholders=["photo_unavailable"])
    files = ["here.jpg", "gone.jpg", "placeholder.jpg", "page.jpg", "mine.jpg", "empty.jpg"]
    why = source.bring(files)
    assert list(why) == ["gone.jpg", "placeholder.jpg", "page.jpg", "empty.jpg"]
    assert "404" in why["gone.jpg"] and "placeholder" in why["placeholder.jpg"]
    assert "HTML" in why["page.jpg"] and "empty" in why["empty.jpg"]
    assert (tmp_path / "here.jpg").read_bytes() == jpeg(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.jpg", "mine.jpg", NOT_THERE]
    server.requests.clear()
    assert source.bring(files) == why
    # What was refused may be given another day; what is gone is not asked for.
    assert {path for path, _, _ in server.requests} == {"/page.jpg", "/empty.jpg"}
    (tmp_path / NOT_THERE).unlink()
    server.serve("/gone.jpg", jpeg(3), kind="image/jpeg")
    assert "gone.jpg" not in source.bring(files)


@pytest.mark.parametrize("name", ["rsvqa-hr", "coco-2017", "pmc-vqa", "lingo-qa"])
@pytest.mark.parametrize("file", ["../evil.jpg", "train/../../evil.jpg", "/tmp/evil.jpg"])
def test_a_name_in_a_table_that_leaves_the_root_is_refused(server, tmp_path, name, file):
    with pytest.raises(DownloadError, match="leaves the folder"):
        pictures_of(row(name, tmp_path / "root")).bring([file])
    assert server.requests == []


def test_a_picture_is_gone_only_if_every_address_says_so(server, tmp_path):
    server.serve("/b/1.jpg", jpeg(1), kind="image/jpeg")
    server.serve("/b/2.jpg", jpeg(2), kind="image/jpeg", statuses=[503] * 99)
    source = ByAddress(tmp_path, lambda file: [f"{server.url}/{way}/{file}" for way in "ab"])
    assert source.bring(["1.jpg"]) == {}
    with pytest.raises(DownloadError, match="503"):
        source.bring(["2.jpg"])
    assert not (tmp_path / NOT_THERE).exists()


def test_servers_that_fail_now_are_an_error_and_what_came_is_kept(server, tmp_path):
    files = [f"{number}.jpg" for number in range(6)]
    for file in files:
        server.serve(f"/{file}", jpeg(1), kind="image/jpeg")
    server.files["/3.jpg"].statuses = [429] * 99
    with pytest.raises(DownloadError, match="1 of 6 pictures did not come, first 3.jpg"):
        by_address(server, tmp_path).bring(files)
    assert sorted(p.name for p in tmp_path.glob("*.jpg")) == [f for f in files if f != "3.jpg"]
    server.files["/3.jpg"].statuses = [429, 503]
    server.files["/3.jpg"].headers = {"Retry-After": "1"}
    server.requests.clear()
    assert by_address(server, tmp_path).bring(files) == {}
    assert {path for path, _, _ in server.requests} == {"/3.jpg"}


def test_a_picture_whose_server_always_fails_is_passed_over_at_the_third_run(server, tmp_path):
    files = [f"{number}.jpg" for number in range(3)]
    for file in files:
        server.serve(f"/{file}", jpeg(1), kind="image/jpeg")
    server.files["/1.jpg"].statuses = [503] * 99
    for _ in range(2):
        with pytest.raises(DownloadError, match="1.jpg .*503.* 3 runs while others answer is pass"):
            by_address(server, tmp_path).bring(files)
    assert not (tmp_path / NOT_THERE).exists()
    why = by_address(server, tmp_path).bring(files)
    assert why == {"1.jpg": "its server failed in 3 runs while others answered, status 503"}
    assert json.loads((tmp_path / NOT_THERE).read_text()) == why
    server.requests.clear()
    assert by_address(server, tmp_path).bring(files) == why and server.requests == []


def test_runs_in_which_nothing_answers_do_not_count(server, tmp_path):
    files = ["0.jpg", "1.jpg"]
    for file in files:
        server.serve(f"/{file}", jpeg(1), kind="image/jpeg")
    assert by_address(server, tmp_path).bring(files[:1]) == {}
    for file in files:  # the whole server is down, also for the picture that is here
        server.files[f"/{file}"].statuses = [503] * 99
    for _ in range(4):
        with pytest.raises(DownloadError, match="1 of 1 pictures"):
            by_address(server, tmp_path).bring(files)
    server.files["/0.jpg"].statuses = []
    for _ in range(2):
        with pytest.raises(DownloadError, match="1 of 1 pictures"):
            by_address(server, tmp_path).bring(files)
    server.files["/1.jpg"].statuses = []
    assert by_address(server, tmp_path).bring(files) == {}
    assert json.loads((tmp_path / FAILED).read_text()) == {}


def test_without_any_network_little_is_asked_and_nothing_counts_as_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(requesting, "sleep", lambda _: None)
    closed = DownloadServer()
    closed.close()
    with pytest.raises(DownloadError, match="500 of 500 pictures did not come"):
        by_address(closed, tmp_path).bring([f"{number}.jpg" for number in range(500)])
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_refuses_everything_is_an_error_and_nothing_counts_as_gone(server, tmp_path):
    for number in range(60):
        server.serve(f"/{number}.jpg", statuses=[403])
    with pytest.raises(DownloadError, match="60 of 60 pictures did not come, first 0.jpg .*403"):
        by_address(server, tmp_path).bring([f"{number}.jpg" for number in range(60)])
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_are_here_show_that_the_network_works(server, tmp_path):
    """A second run asks only for what was refused in the first: that is no refusing network."""
    files = [f"{number}.jpg" for number in range(200)]
    for file in files:
        server.serve(f"/{file}", jpeg(1), kind="image/jpeg")
    refused = [f"refused{number}.jpg" for number in range(60)]
    for file in refused:
        server.serve(f"/{file}", statuses=[403] * 9)
    for _ in range(2):
        assert list(by_address(server, tmp_path).bring(files + refused)) == refused
    # The sample as it is filled up: a batch without one that is here.
    source = by_address(server, tmp_path)
    source.bring(files)
    assert list(source.bring(refused)) == refused
    # A network that refuses now what it gave before is another thing.
    for file in files:
        server.files[f"/{file}"].statuses = [403] * 9
    with pytest.raises(DownloadError, match="60 of 60 pictures did not come, first refused0.jpg"):
        by_address(server, tmp_path).bring(files + refused)


def test_pictures_that_are_all_gone_are_said_once_and_not_asked_for_again(server, tmp_path):
    files = [f"{number}.jpg" for number in range(60)]
    with pytest.raises(DownloadError, match="60 of 60 (.|\n)*404(.|\n)*not_there.json"):
        by_address(server, tmp_path).bring(files)
    server.requests.clear()
    why = by_address(server, tmp_path).bring(files)
    assert list(why) == files and set(why.values()) == {"status 404, there is no such file"}
    assert server.requests == []


def test_what_is_gone_is_noted_also_where_another_picture_ends_the_run(server, tmp_path):
    server.serve("/now.jpg", statuses=[503] * 99)
    with pytest.raises(DownloadError, match="first now.jpg"):
        by_address(server, tmp_path).bring(["gone.jpg", "now.jpg"])
    assert list(json.loads((tmp_path / NOT_THERE).read_text())) == ["gone.jpg"]


@pytest.mark.parametrize("kind", ["text/html", "image/jpeg", "application/octet-stream"])
def test_pages_in_place_of_pictures_are_an_error_from_the_first_on(server, tmp_path, kind):
    """What a network shows that wants a login; it may call its page what it likes."""
    for number in range(3):
        server.serve(f"/{number}.jpg", b"<!DOCTYPE html>login", kind=kind)
    with pytest.raises(DownloadError, match="3 of 3 pictures did not come, first 0.jpg .*HTML"):
        by_address(server, tmp_path).bring([f"{number}.jpg" for number in range(3)])
    assert list(tmp_path.iterdir()) == []
    # A picture that is here comes from the same address: one host may show what it likes.
    (tmp_path / "here.jpg").write_bytes(jpeg(1))
    server.serve("/here.jpg", jpeg(1), kind="image/jpeg")
    assert list(by_address(server, tmp_path).bring(["here.jpg", "0.jpg"])) == ["0.jpg"]
    server.serve("/here.jpg", b"<html>login", kind=kind)
    with pytest.raises(DownloadError, match="HTML"):
        by_address(server, tmp_path).bring(["here.jpg", "0.jpg"])


def test_a_network_that_refuses_small_batches_is_found_in_time(server, tmp_path):
    for number in range(60):
        server.serve(f"/{number}.jpg", statuses=[403])
    source = by_address(server, tmp_path)
    for start in (0, 20):
        assert len(source.bring([f"{n}.jpg" for n in range(start, start + 20)])) == 20
    with pytest.raises(DownloadError, match="60 of 60 pictures did not come, first 0.jpg .*403"):
        source.bring([f"{n}.jpg" for n in range(40, 60)])


def test_a_sample_of_questions_is_not_emptied_by_a_page(server, tmp_path):
    server.answer_other = lambda handler: (
        server.say(handler, handler.path, None, 200, b"<html>login", {"Content-Type": "text/html"})
        or True
    )

    def reader(root, split):
        names = [f"{split}{number}" for number in range(150)]

        def read(place):
            return questions.Question("?", [f"{split}/{place}.jpg"], "a", ["a"])

        return questions.Questions(names, names, read, "vqa")

    splits = {"identify": "train", "evaluate": "val"}
    source = by_address(server, tmp_path)
    with pytest.raises(DownloadError, match="20 of 20 pictures did not come"):
        questions.choose_questions(reader, tmp_path, splits, "d", 20, 10, 0, tmp_path / "p", source)


def test_two_jobs_that_share_a_folder_keep_each_others_notes(server, tmp_path):
    """The second notes what is gone, and what failed, while the first fetches."""
    for name in ("here", "slow"):
        server.serve(f"/{name}.jpg", jpeg(1), kind="image/jpeg")
    for name in ("fails", "fails-too"):
        server.serve(f"/{name}.jpg", statuses=[503] * 99)

    def addresses(file):
        if file == "slow.jpg":
            with pytest.raises(DownloadError):
                by_address(server, tmp_path).bring(["here.jpg", "b.jpg", "fails-too.jpg"])
        return [f"{server.url}/{file}"]

    with pytest.raises(DownloadError):
        ByAddress(tmp_path, addresses).bring(["a.jpg", "fails.jpg", "slow.jpg"])
    assert json.loads((tmp_path / NOT_THERE).read_text()).keys() == {"a.jpg", "b.jpg"}
    assert json.loads((tmp_path / FAILED).read_text()) == {"fails.jpg": 1, "fails-too.jpg": 1}


def test_a_host_that_is_silent_while_others_answer_is_passed_over_for_now(server, tmp_path):
    closed = DownloadServer()
    closed.close()
    server.serve("/1.jpg", jpeg(1), kind="image/jpeg")
    where = {"1.jpg": server.url, "2.jpg": closed.url}
    why = ByAddress(tmp_path, lambda file: [f"{where[file]}/{file}"]).bring(list(where))
    assert list(why) == ["2.jpg"] and "no answer" in why["2.jpg"]
    assert not (tmp_path / NOT_THERE).exists()


def test_a_picture_that_breaks_off_is_never_half_there(server, tmp_path):
    server.serve("/1.jpg", jpeg(1), kind="image/jpeg", drops=[100, 200, 0])
    assert by_address(server, tmp_path).bring(["1.jpg"]) == {}
    assert (tmp_path / "1.jpg").read_bytes() == jpeg(1)
    server.serve("/2.jpg", jpeg(1), kind="image/jpeg", drops=[100] * 99)
    with pytest.raises(DownloadError, match="2.jpg"):
        by_address(server, tmp_path).bring(["2.jpg"])
    assert [path.name for path in tmp_path.iterdir()] == ["1.jpg"]


# ------------------------------------------------------------------------------------------- COCO


def coco_miniature(pictures=12):
    """Annotations of pictures that all show a car."""
    images = [
        {"id": n, "file_name": f"{n:012d}.jpg", "width": 40, "height": 30}
        for n in range(1, pictures + 1)
    ]
    boxes = [
        {
            "id": n,
            "image_id": n,
            "category_id": 3,
            "bbox": [0, 0, 20, 20],
            "area": 400,
            "iscrowd": 0,
        }
        for n in range(1, pictures + 1)
    ]
    categories = [{"id": 3, "name": "car", "supercategory": "vehicle"}]
    return {"images": images, "annotations": boxes, "categories": categories}


@pytest.fixture
def coco_row(server, tmp_path):
    """COCO's archive of annotations with what else is in it, and its pictures, on the server."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("captions_train2017", "instances_val2017"):
            file.writestr(f"annotations/{name}.json", "{}")
        file.writestr("annotations/instances_train2017.json", json.dumps(coco_miniature()))
    path = "/images.cocodataset.org/annotations/annotations_trainval2017.zip"
    server.serve(path, packed.getvalue())
    for n in range(1, 13):
        server.serve(f"/images.cocodataset.org/train2017/{n:012d}.jpg", jpeg(n), kind="image/jpeg")
    made = row("coco-2017", tmp_path / "coco")
    file = "annotations/instances_train2017.json"
    entry = made["source"]["files"][file] | {"bytes": len(packed.getvalue())}
    entry.pop("checksum")
    return made | {"source": made["source"] | {"files": {file: entry}}}


def test_coco_fetches_one_member_and_only_the_pictures_that_it_opens(server, coco_row, opened):
    path = fetch_file(coco_row, "annotations/instances_train2017.json")
    assert json.loads(path.read_text()) == coco_miniature()
    root = path.parents[1]
    assert sorted(p.name for p in root.rglob("*") if p.is_file()) == [path.name]
    gone = "/images.cocodataset.org/train2017/000000000007.jpg"
    del server.files[gone]
    first, exclusions = coco.object_samples(
        root, "train2017", ["car"], 4, seed=0, check=True, source=pictures_of(coco_row)
    )
    there = {p.name for p in (root / "train2017").iterdir()}
    assert len(first) == 4 and set(first["file"].str[-16:]) == there
    # Every picture that was opened was asked for, and no other.
    assert len(opened) == 4 + len(exclusions)
    again, _ = coco.object_samples(root, "train2017", ["car"], 4, seed=0, check=True)
    assert again.equals(first)
    more, exclusions = coco.object_samples(
        root, "train2017", ["car"], 12, seed=0, check=True, source=pictures_of(coco_row)
    )
    assert more.head(4).equals(first) and len(more) == 11
    assert reasons(exclusions) == {
        "000000000007-car": "undecodable-picture",
        "": "too-few-pictures",
    }
    (detail,) = exclusions["detail"][exclusions["sample_id"] == "000000000007-car"]
    assert "404" in detail


def test_coco_of_another_length_or_checksum_is_not_taken(server, coco_row, tmp_path):
    file = "annotations/instances_train2017.json"
    entry = coco_row["source"]["files"][file]
    for change, said in (({"bytes": 7}, "7 are published"), ({"checksum": "md5:00"}, "checksum")):
        source = coco_row["source"] | {"files": {file: entry | change}}
        with pytest.raises(DownloadError, match=said):
            fetch_file(coco_row | {"source": source}, file)
    assert not (tmp_path / "coco" / file).exists()


def test_an_archive_that_is_there_serves_all_its_members_and_stays(server, coco_row):
    """As the workflow fetches it, or a person places it."""
    file = "annotations/instances_train2017.json"
    entries = {
        f"annotations/{name}.json": coco_row["source"]["files"][file]
        | {"member": f"annotations/{name}.json"}
        for name in ("instances_train2017", "captions_train2017", "instances_val2017")
    }
    made = coco_row | {"source": coco_row["source"] | {"files": entries}}
    (archive,) = {archive_of(entry) for entry in entries.values()}
    path = fetch_archive(made, archive)
    for file in entries:
        assert fetch_file(made, file).is_file()
    assert path.exists() and len(server.requests) == 1


# -------------------------------------------------------------------------------------------- SBU


def sbu_list(server, entries):
    """The archive of the list on the server, its pictures at addresses like Flickr's."""
    urls = [f"{server.url}/static.flickr.com/{n}_secret.jpg" for n in range(entries)]
    content = {
        "image_urls": urls,
        "user_ids": ["u"] * entries,
        "captions": [f"caption {n}" for n in range(entries)],
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        data = json.dumps(content).encode()
        member = tarfile.TarInfo("sbu-captions-all.json")
        member.size = len(data)
        file.addfile(member, io.BytesIO(data))
    server.serve("/www.cs.rice.edu/~vo9/sbucaptions/sbu-captions-all.tar.gz", packed.getvalue())


def test_a_broken_archive_is_put_away_and_fetched_again_by_the_next_run(server, tmp_path):
    """Cut off by a server that does not say how long it is, so only unpacking finds it."""
    sbu_list(server, 500)
    path = "/www.cs.rice.edu/~vo9/sbucaptions/sbu-captions-all.tar.gz"
    whole = server.files[path].content
    server.serve(path, whole[: len(whole) // 2], says_length=False)
    made = row("sbu", tmp_path / "sbu")
    with pytest.raises(ArchiveError, match=r"broken(.|\n)*the next run fetches it again"):
        fetch_file(made, "sbu-captions-all.json")
    left = [p.name for p in (tmp_path / "sbu").rglob("*") if p.is_file()]
    assert left == ["sbu-captions-all.tar.gz.broken"]
    server.serve(path, whole, says_length=False)
    listed = json.loads(fetch_file(made, "sbu-captions-all.json").read_text())
    assert len(listed["captions"]) == 500


def test_an_archive_without_the_member_is_put_away_too(server, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        file.addfile(tarfile.TarInfo("other.json"))
    server.serve("/www.cs.rice.edu/~vo9/sbucaptions/sbu-captions-all.tar.gz", packed.getvalue())
    with pytest.raises(ArchiveError, match="has no member sbu-captions-all.json"):
        fetch_file(row("sbu", tmp_path), "sbu-captions-all.json")
    assert [p.name for p in (tmp_path / "archives").iterdir()] == ["sbu-captions-all.tar.gz.broken"]


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_sbu_refills_what_is_gone_in_the_fixed_order(
    server, tmp_path, opened, variant, monkeypatch
):
    monkeypatch.setattr(sbu, "RELEASED_POOL", 12)
    monkeypatch.setattr(sbu, "RELEASED_TRIED", 30)
    entries = 40
    sbu_list(server, entries)
    buffer = io.BytesIO()
    Image.new("RGB", (50, 40), "gray").save(buffer, "JPEG")
    placeholder = buffer.getvalue()
    server.serve("/flickr/images/photo_unavailable.png", placeholder, kind="image/png")
    alive = []
    for n in range(entries):
        path = f"/static.flickr.com/{n}_secret.jpg"
        if n % 3 == 0:
            continue  # dead
        if n % 3 == 1 and n % 2:  # deleted: a placeholder, by a redirect or in its place
            if n % 4 == 1:
                server.serve(path, redirect=server.url + "/flickr/images/photo_unavailable.png")
            else:
                server.serve(path, placeholder, kind="image/jpeg")
            continue
        server.serve(path, jpeg(n), kind="image/jpeg")
        alive.append(n)
    made = row("sbu", tmp_path / "sbu")
    fetch_file(made, "sbu-captions-all.json")
    source = listed_pictures_of(made, sbu.picture_index)
    table, exclusions = sbu.sbu_pictures(tmp_path / "sbu", 9, 5, variant, source)
    # By hand: the usable entries in the order in which they are tried.
    order = [int(n) for n in sbu.entry_order(entries, 5, variant)]
    usable = [n for n in order if n in alive][: 12 if variant == "released" else 9]
    if variant == "released":
        usable = [usable[place] for place in np.random.RandomState(2023).permutation(12)[:9]]
    assert [int(name) for name in table["picture_id"]] == usable
    told = set(exclusions["reason"])
    assert told == {"no-picture", "placeholder"}
    assert len(opened) == len(set(opened)) <= 20 < entries
    # Again, without a server: the same, from what is on disk.
    server.files.clear()
    again, excluded = sbu.sbu_pictures(tmp_path / "sbu", 9, 5, variant, source)
    assert again.equals(table) and excluded.equals(exclusions)


# -------------------------------------------------------------------------------------- questions


def choose(reader, made, folder, identify=3, evaluate=2):
    return questions.choose_questions(
        reader, made["root"], made["splits"], "d", identify, evaluate, 0, folder, pictures_of(made)
    )


def test_vqav2_fetches_four_archives_and_single_pictures(server, tmp_path, opened):
    made = row("vqav2", tmp_path / "vqav2")
    files = {}
    for part, split in (("Train", "train2014"), ("Val", "val2014")):
        ids = range(1, 31)
        asked = [{"question_id": n, "image_id": n, "question": f"What {n}?"} for n in ids]
        answers = [{"answer": "cat", "answer_confidence": "yes", "answer_id": 1}]
        told = [
            {
                "question_id": n,
                "image_id": n,
                "multiple_choice_answer": "cat",
                "answers": answers,
                "answer_type": "other",
                "question_type": "what",
            }
            for n in ids
        ]
        files[f"v2_Questions_{part}_mscoco.zip"] = (
            f"v2_OpenEnded_mscoco_{split}_questions.json",
            {"questions": asked},
        )
        files[f"v2_Annotations_{part}_mscoco.zip"] = (
            f"v2_mscoco_{split}_annotations.json",
            {"annotations": told},
        )
        for n in ids:
            path = f"/images.cocodataset.org/{split}/COCO_{split}_{n:012d}.jpg"
            server.serve(path, jpeg(n), kind="image/jpeg")
    for archive, (name, content) in files.items():
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            file.writestr(name, json.dumps(content))
        server.serve(f"/s3.amazonaws.com/cvmlp/vqa/mscoco/vqa/{archive}", packed.getvalue())
        made["source"]["files"][name].pop("bytes", None)
        fetch_file(made, name)
    table, exclusions = choose(vqav2.read, made, tmp_path / "out")
    assert exclusions.empty and len(table) == 5 == len(opened)
    fetched = {
        p.relative_to(tmp_path / "vqav2").as_posix() for p in (tmp_path / "vqav2").glob("*/*")
    }
    assert fetched == {files[0] for files in table["files"]}


def test_rsvqa_reads_the_tar_once_and_never_from_the_start_again(server, tmp_path, opened):
    made = row("rsvqa-hr", tmp_path / "rsvqa")
    start = "/zenodo.org/records/6344367/files/"
    for split in ("train", "val"):
        ids = range(24)
        asked = [
            {
                "id": n,
                "img_id": n,
                "question": f"How many {n}?",
                "answers_ids": [n],
                "type": "count",
                "active": (n % 2 == 0) == (split == "train"),
            }
            for n in ids
        ]
        told = [{"id": n, "question_id": n, "answer": "3", "active": True} for n in ids]
        for kind, content in (("questions", asked), ("answers", told)):
            name = f"USGS_split_{split}_{kind}.json"
            server.serve(start + name, json.dumps({kind: content}).encode())
            fetch_file(made, name)
    packed = io.BytesIO()
    pixels = {}
    with tarfile.open(fileobj=packed, mode="w") as file:
        for n in range(24):
            buffer = io.BytesIO()
            pixels[n] = np.random.default_rng(n).integers(0, 256, (100, 100, 3), dtype=np.uint8)
            Image.fromarray(pixels[n]).save(buffer, "TIFF")
            # As published: the same picture twice.
            for name, content in ((f"Data/{n}.png", jpeg(n)), (f"Data/{n}.tif", buffer.getvalue())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    tar = packed.getvalue()
    server.serve(start + "Images.tar", tar, etag='"a"', drops=[100_000])
    table, exclusions = choose(rsvqa.read, made, tmp_path / "out", 3, 2)
    assert exclusions.empty and len(opened) == 5
    names = {f.name for f in (tmp_path / "rsvqa/Data").iterdir()}
    assert names == {files[0].removeprefix("Data/") for files in table["files"]}
    assert all(name.endswith(".tif") for name in names)
    for file in (tmp_path / "rsvqa/Data").iterdir():
        assert (np.asarray(Image.open(file)) == pixels[int(file.stem)]).all()
    assert (tmp_path / "rsvqa/Images.tar.index").read_text().count("\n") > 1
    # More of them later: what was read is not read again but for the pictures themselves.
    server.sent.clear()
    more, exclusions = choose(rsvqa.read, made, tmp_path / "out", 12, 12)
    assert exclusions.empty and len(more) == 24
    assert server.sent[start + "Images.tar"] < len(tar)
    server.files.clear()
    assert choose(rsvqa.read, made, tmp_path / "out", 12, 12)[0].equals(more)


ZENODO = "/zenodo.org/api/records/6344367"


def record(server, **checksums):
    """What Zenodo says of the record: the MD5 of every file."""
    files = [{"key": key, "size": 1, "checksum": value} for key, value in checksums.items()]
    content = json.dumps({"id": 6344367, "files": files}).encode()
    server.serve(ZENODO, content, kind="application/json")


def test_files_of_zenodo_are_compared_with_what_it_publishes(server, tmp_path):
    made, name = row("rsvqa-hr", tmp_path), "USGS_split_val_answers.json"
    right = b'{"answers": []}'
    record(server, **{name: f"md5:{hashlib.md5(right).hexdigest()}"})
    for path in (f"/zenodo.org/records/6344367/files/{name}", f"{ZENODO}/files/{name}/content"):
        server.serve(path, right[::-1])
    with pytest.raises(DownloadError, match="wrong checksum, where md5:"):
        fetch_file(made, name)
    assert not (tmp_path / name).exists()
    # Of two addresses the one with the right file is taken.
    server.serve(f"{ZENODO}/files/{name}/content", right)
    assert fetch_file(made, name).read_bytes() == right


@pytest.mark.parametrize("answer", [None, b"{}", b"no json", b'{"files": [{"key": "x"}]}'])
def test_a_list_of_checksums_that_cannot_be_had_is_said_and_stops_nothing(
    server, tmp_path, answer, caplog
):
    made, name = row("rsvqa-hr", tmp_path), "USGS_split_val_answers.json"
    server.serve(f"/zenodo.org/records/6344367/files/{name}", b"{}")
    if answer is not None:
        server.serve(ZENODO, answer, kind="application/json")
    assert fetch_file(made, name).read_bytes() == b"{}"
    assert f"{name}: its published checksum cannot be had" in caplog.text


def test_a_checksum_of_an_unknown_kind_is_none(server, tmp_path, caplog):
    made, name = row("rsvqa-hr", tmp_path), "USGS_split_val_answers.json"
    server.serve(f"/zenodo.org/records/6344367/files/{name}", b"{}")
    record(server, **{name: "xxh3:00"})
    assert fetch_file(made, name).read_bytes() == b"{}"
    assert f"{name}: no checksum is published of it" in caplog.text


def test_another_images_tar_than_the_registry_knows_is_an_error_before_it_is_read(server, tmp_path):
    server.serve("/zenodo.org/records/6344367/files/Images.tar", bytes(10_240))
    record(server, **{"Images.tar": "md5:" + "0" * 32})
    with pytest.raises(DownloadError, match="md5:0{32}, where md5:e16c21a0.* was published"):
        pictures_of(row("rsvqa-hr", tmp_path)).bring(["Data/2.tif"])
    assert [path for path, *_ in server.requests] == [ZENODO]
    record(server, **{"Images.tar": "md5:e16c21a040ef4a17afe2d20dffe7758b"})
    source = pictures_of(row("rsvqa-hr", tmp_path))
    assert list(source.bring(["Data/2.tif"])) == ["Data/2.tif"]
    source.bring(["Data/3.tif"])
    assert [path for path, *_ in server.requests].count(ZENODO) == 2


def test_a_tar_without_the_picture_says_so_and_is_not_searched_twice(server, tmp_path):
    made = row("rsvqa-hr", tmp_path)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        member = tarfile.TarInfo("Data/1.tif")
        file.addfile(member)
    path = "/zenodo.org/records/6344367/files/Images.tar"
    server.serve(path, packed.getvalue(), etag='"a"')
    source = pictures_of(made)
    assert source.bring(["Data/2.tif"]) == {"Data/2.tif": "no member of Images.tar"}
    server.sent.clear()
    assert list(source.bring(["Data/2.tif"])) == ["Data/2.tif"]
    assert server.sent.get(path, 0) < 2 * len(packed.getvalue())
    # Another archive at the address: the notes are of no use any more.
    server.serve(path, packed.getvalue() + bytes(512), etag='"b"')
    assert list(source.bring(["Data/2.tif"])) == ["Data/2.tif"]


@pytest.mark.parametrize("name", ["../../evil.tif", "/tmp/evil.tif"])
def test_a_streamed_tar_that_would_leave_the_folder_is_refused(server, tmp_path, name):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        file.addfile(tarfile.TarInfo(name))
    server.serve("/zenodo.org/records/6344367/files/Images.tar", packed.getvalue())
    with pytest.raises(DownloadError, match="refused"):
        pictures_of(row("rsvqa-hr", tmp_path)).bring(["Data/2.tif"])


# ---------------------------------------------------------------------------------------- the hub


class Hub:
    """The parts of the hub that its library asks for, with LFS-style redirects to storage."""

    def __init__(self, server, repo, revision, files):
        self.repo, self.revision, self.files, self.in_git = repo, revision, files, ()
        self.start = "/huggingface.co"
        for name, content in files.items():
            server.serve(f"/storage/{name}", content, etag=f'"{name}"')
        self.server = server
        server.answer_other = self.answer

    def answer(self, handler):
        path = unquote(urlsplit(handler.path).path)
        api = f"{self.start}/api/datasets/{self.repo}"
        resolve = f"{self.start}/datasets/{self.repo}/resolve/{self.revision}/"
        if path.startswith(f"{api}/tree/{self.revision}"):
            below = path.removeprefix(f"{api}/tree/{self.revision}").strip("/")
            self.json(handler, path, self.tree(below))
        elif path.startswith(api):
            listed = [self.told(name, content) for name, content in self.files.items()]
            self.json(handler, path, {"id": self.repo, "sha": self.revision, "siblings": listed})
        elif path.startswith(resolve) and path.removeprefix(resolve) in self.files:
            name = path.removeprefix(resolve)
            headers = {
                # Another host, as storage is.
                "Location": f"{self.server.url.replace('127.0.0.1', 'localhost')}/storage/{name}",
                "X-Repo-Commit": self.revision,
                "X-Linked-Size": str(len(self.files[name])),
                "X-Linked-Etag": f'"{name}"',
            }
            self.server.say(handler, path, None, 302, b"", headers)
        else:
            return False
        return True

    def told(self, name, content):
        """A file in the list of the hub: small ones are git's own, large ones in LFS."""
        sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry = {"rfilename": name, "size": len(content), "blobId": sha1}
        if name not in self.in_git:
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 133}
        return entry

    def tree(self, below):
        start = f"{below}/" if below else ""
        names = [name for name in self.files if name.startswith(start)]
        found = {}
        for name in names:
            first, _, rest = name.removeprefix(start).partition("/")
            kind = "directory" if rest else "file"
            size = 0 if rest else len(self.files[name])
            found[first] = {"type": kind, "path": start + first, "size": size, "oid": "0" * 40}
        return list(found.values())

    def json(self, handler, path, content):
        data = json.dumps(content).encode()
        self.server.say(handler, path, None, 200, data, {"Content-Type": "application/json"})


@pytest.fixture
def online(monkeypatch):
    """`make` forbids the hub's library to ask anybody; here it asks this machine."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def pmc_files(pictures=20):
    rows = ["Figure_path,Question,Answer,Choice A,Choice B,Choice C,Choice D,Answer_label"]
    rows += [f"PMC{n}_F1.jpg,What {n}?,x, A:a, B:x, C:c, D:d,B" for n in range(pictures)]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for n in range(pictures):
            with file.open(f"images/PMC{n}_F1.jpg", "w", force_zip64=True) as member:
                member.write(jpeg(n, (300, 200)))
    return {
        "train.csv": "\n".join(rows).encode(),
        "test.csv": "\n".join(rows[:1] + rows[8:]).encode(),
        "images.zip": packed.getvalue(),
    }


def test_pmc_vqa_takes_members_of_its_zip_by_range(server, online, tmp_path, opened, monkeypatch):
    from mmneurons.downloads import hub

    monkeypatch.setattr(hub, "BLOCK", 1 << 14)
    made = row("pmc-vqa", tmp_path / "pmc")
    files = pmc_files()
    Hub(server, made["source"]["hub"]["repo"], made["source"]["hub"]["revision"], files)
    for name in ("train.csv", "test.csv"):
        assert fetch_file(made, name).read_bytes() == files[name]
    table, exclusions = choose(pmc_vqa.read, made, tmp_path / "out", 2, 2)
    assert exclusions.empty and len(opened) == 4
    for file, *_ in table["files"]:
        number = int(re.search(r"PMC(\d+)", file)[1])
        assert (tmp_path / "pmc" / file).read_bytes() == jpeg(number, (300, 200))
    assert server.sent["/storage/images.zip"] < 0.6 * len(files["images.zip"])


@pytest.mark.parametrize("in_git", [(), ("train.csv",)])
def test_files_of_the_hub_are_compared_with_what_it_publishes(
    server, online, tmp_path, in_git, caplog
):
    made, files = row("pmc-vqa", tmp_path), pmc_files(2)
    hub = Hub(server, made["source"]["hub"]["repo"], made["source"]["hub"]["revision"], files)
    hub.in_git = in_git
    right = files["train.csv"]
    server.files["/storage/train.csv"].content = right[:-1] + b"?"
    with pytest.raises(DownloadError, match=f"wrong checksum, where {'git' if in_git else 'sha'}"):
        fetch_file(made, "train.csv")
    assert not (tmp_path / "train.csv").exists()
    server.files["/storage/train.csv"].content = right
    assert fetch_file(made, "train.csv").read_bytes() == right
    assert "checksum cannot be had" not in caplog.text


def test_without_the_hubs_list_a_file_comes_all_the_same(server, tmp_path, monkeypatch, caplog):
    """As under `make`, which keeps the hub's library from asking anybody."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    made, files = row("pmc-vqa", tmp_path), pmc_files(2)
    Hub(server, made["source"]["hub"]["repo"], made["source"]["hub"]["revision"], files)
    assert fetch_file(made, "train.csv").read_bytes() == files["train.csv"]
    assert "train.csv: its published checksum cannot be had" in caplog.text


def test_a_hub_that_has_the_file_no_longer_is_said_with_what_to_do(server, tmp_path):
    made = row("pmc-vqa", tmp_path)
    Hub(server, made["source"]["hub"]["repo"], made["source"]["hub"]["revision"], {})
    with pytest.raises(DownloadError) as error:
        fetch_file(made, "train.csv")
    for part in ("RadGenome/PMC-VQA", "xmcmic/PMC-VQA", "by hand from https://huggingface.co"):
        assert part in str(error.value)


def test_the_archive_repository_stands_in(server, tmp_path):
    made = row("pmc-vqa", tmp_path)
    files = pmc_files(2)
    Hub(server, made["source"]["hub"]["archive"], made["source"]["hub"]["revision"], files)
    assert fetch_file(made, "train.csv").read_bytes() == files["train.csv"]


@pytest.mark.parametrize("ask", ["files", "open"])
def test_a_hub_without_an_answer_is_said_of_both_repositories(
    server, online, tmp_path, monkeypatch, ask
):
    """Its library raises errors of its HTTP client then, which are no OSErrors."""
    closed = DownloadServer()
    closed.close()
    monkeypatch.setenv("MMNEURONS_MIRRORS", f"https://huggingface.co={closed.url}")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    made = row("pmc-vqa", tmp_path)["source"]
    repo = HubRepo.of(made["hub"], made["page"])
    with pytest.raises(DownloadError) as error:
        if ask == "files":
            repo.files("*.zip")
        else:
            with repo.open("images.zip"):
                pass
    for part in ("datasets/RadGenome/PMC-VQA:", "datasets/xmcmic/PMC-VQA:", "by hand from https"):
        assert part in str(error.value)


def test_a_hub_that_falls_silent_while_a_file_is_read_is_said(
    server, online, tmp_path, monkeypatch
):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    made = row("pmc-vqa", tmp_path)["source"]
    Hub(server, made["hub"]["repo"], made["hub"]["revision"], {"images.zip": bytes(3_000_000)})
    with (
        pytest.raises(DownloadError, match="images.zip cannot be fetched"),
        HubRepo.of(made["hub"], made["page"]).open("images.zip") as stream,
    ):
        assert stream.read(10) == bytes(10)
        closed = DownloadServer()
        closed.close()
        server.files["/storage/images.zip"].redirect = f"{closed.url}/images.zip"
        stream.seek(2_000_000)
        stream.read(10)


def test_a_download_from_the_hub_goes_on_where_it_stopped(server, tmp_path):
    made = row("pmc-vqa", tmp_path)
    content = np.random.default_rng(0).bytes(3_000_000)
    Hub(server, "RadGenome/PMC-VQA", made["source"]["hub"]["revision"], {"train.csv": content})
    server.files["/storage/train.csv"].drops = [2_000_000, 500_000]
    assert fetch_file(made, "train.csv").read_bytes() == content
    assert server.sent["/storage/train.csv"] < 1.05 * len(content)


def doc_pieces(split, pieces=3, rows=12, groups=4):
    """Tables as pixparse publishes them, with columns that nobody asks for."""
    files = {}
    for piece in range(pieces):
        ids = [f"{piece * rows + n}" for n in range(rows)]
        table = pa.table(
            {
                "image": [{"bytes": jpeg(int(i), (200, 150)), "path": None} for i in ids],
                "question_id": ids,
                "question": [f"What is on page {i}?" for i in ids],
                "answers": [[f"answer {i}", ""] for i in ids],
                "data_split": [split] * rows,
                "ocr_results": [{"page": i, "text": "word " * 2000 + i} for i in ids],
                "other_metadata": [
                    {"ucsf_document_id": "u", "image": f"documents/{i}.png"} for i in ids
                ],
            }
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer, row_group_size=rows // groups, compression="none")
        files[f"data/{split}-{piece:05d}-of-{pieces:05d}.parquet"] = buffer.getvalue()
    return files


def test_doc_vqa_reads_questions_and_row_groups_by_range(server, online, tmp_path, monkeypatch):
    from functools import partial

    from mmneurons.downloads import hub

    monkeypatch.setattr(hub, "BLOCK", 1 << 12)
    made = row("doc-vqa", tmp_path / "doc")
    files = doc_pieces("train") | doc_pieces("validation", 1)
    Hub(server, made["source"]["hub"]["repo"], made["source"]["hub"]["revision"], files)
    for name in made["source"]["files"]:
        fetch_file(made, name)
    whole = sum(map(len, files.values()))
    asked_for_questions = sum(server.sent.values())
    assert asked_for_questions < 0.5 * whole
    reader = partial(doc_vqa.read, open_piece=tables_of(made))
    table, exclusions = choose(reader, made, tmp_path / "a", 3, 1)
    assert exclusions.empty
    for name in table["source_id"]:
        assert (tmp_path / f"a/{name}.png").read_bytes() == jpeg(int(name), (200, 150))
    sent = sum(server.sent.values())
    assert sent - asked_for_questions < 0.6 * whole
    # A job that failed has lost its folder of results, and asks for no page again.
    (tmp_path / "doc/pictures" / f"{table['source_id'][0]}.png").unlink()
    again, _ = choose(reader, made, tmp_path / "again", 3, 1)
    assert again.equals(table)
    assert 0 < sum(server.sent.values()) - sent < 0.6 * (sent - asked_for_questions)
    # The same questions as from the whole tables, placed by hand.
    for name, content in files.items():
        (tmp_path / "hand" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hand" / name).write_bytes(content)
    by_hand, _ = choose(reader, row("doc-vqa", tmp_path / "hand"), tmp_path / "b", 3, 1)
    assert by_hand.equals(table)


def test_missing_pieces_of_a_table_are_an_error(server, online, tmp_path):
    made = row("doc-vqa", tmp_path)
    files = doc_pieces("train")
    files.pop("data/train-00001-of-00003.parquet")
    Hub(server, made["source"]["hub"]["repo"], made["source"]["hub"]["revision"], files)
    with pytest.raises(DownloadError, match="2 pieces .* of 00003"):
        fetch_file(made, "data/train.questions.parquet")


# --------------------------------------------------------------------------------- Google's Drive


@pytest.fixture
def google(server, monkeypatch):
    """gdown's own code, with its requests to Google sent to this server's stand-in of Drive.

    Pages of folders have what gdown reads of them; what else Google sends is not imitated.
    """
    import requests

    send = requests.Session.send

    def redirected(self, request, **options):
        for host in ("drive.google.com", "drive.usercontent.google.com"):
            request.url = request.url.replace(f"https://{host}", f"{server.url}/{host}")
        return send(self, request, **options)

    monkeypatch.setattr(requests.Session, "send", redirected)
    folders, contents = {}, {}
    server.contents = contents

    def answer(handler):
        split = urlsplit(handler.path)
        query = dict(part.partition("=")[::2] for part in split.query.split("&"))
        if split.path.endswith("embeddedfolderview") and query["id"] in folders:
            links = "".join(
                f'<a href="https://drive.google.com/file/d/{identity}/view?usp=drive_web">{name}</a>'
                for name, identity in folders[query["id"]].items()
            )
            page = f"<html><title>LingoQA</title><body>{links}</body></html>".encode()
            server.say(handler, split.path, None, 200, page, {"Content-Type": "text/html"})
            return True
        if split.path.endswith("/uc") and query["id"] in contents:
            name, served = contents[query["id"]]
            say = server.say

            def named(handler, path, ranged, status, content, headers, *rest):
                headers = headers | {"Content-Disposition": f'attachment; filename="{name}"'}
                say(handler, path, ranged, status, content, headers, *rest)

            server.say = named
            try:
                drop = served.drops.pop(0) if served.drops else None
                server.body(handler, query["id"], served, drop)
            finally:
                server.say = say
            return True
        return False

    server.answer_other = answer

    def add(folder, name, content, **quirks):
        identity = f"{folder[:20]}{len(contents):08d}"
        folders.setdefault(folder, {})[name] = identity
        contents[identity] = name, Served(content, etag=f'"{identity}"', **quirks)
        return identity

    return add


def lingo_miniature(google, made, drops=()):
    source = made["source"]
    folders = {file: entry["drive"] for file, entry in source["files"].items()}
    for file, folder in folders.items():
        kind = file.partition("/")[2].removesuffix(".parquet")
        rows = {"question_id": [], "segment_id": [], "question": [], "answer": [], "images": []}
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as zipped:
            for n in range(6):
                paths = [f"images/{kind}{n}/{frame}.jpg" for frame in range(5)]
                # Frames of all segments have the same last names.
                for path in paths:
                    zipped.writestr(path, jpeg(hash_of(path)))
                for column, value in zip(
                    rows, (f"{kind}-{n}", f"{kind}{n}", f"Why {n}?", "Because", paths), strict=True
                ):
                    rows[column].append(value)
        table = io.BytesIO()
        pq.write_table(pa.table(rows), table)
        google(folder, source["files"][file]["name"], table.getvalue())
        google(folder, "images.zip", packed.getvalue(), drops=list(drops))


def hash_of(path):
    return sum(place * byte for place, byte in enumerate(path.encode()))


def test_lingo_qa_comes_from_drive_and_only_wanted_frames_are_unpacked(
    server, google, tmp_path, opened
):
    made = row("lingo-qa", tmp_path / "lingo")
    lingo_miniature(google, made, drops=[5_000])
    for file in made["source"]["files"]:
        fetch_file(made, file)
    table, exclusions = choose(lingo_qa.read, made, tmp_path / "out", 4, 2)
    assert exclusions.empty and len(opened) == 5 * 6
    frames = sorted(p.relative_to(tmp_path / "lingo") for p in (tmp_path / "lingo").rglob("*.jpg"))
    assert [frame.as_posix() for frame in frames] == sorted(f for fs in table["files"] for f in fs)
    for frame in frames:
        told = "/".join(frame.parts[1:])
        assert (tmp_path / "lingo" / frame).read_bytes() == jpeg(hash_of(told))
    kept = sorted(p.name for p in (tmp_path / "lingo/archives").iterdir())
    assert (
        {"evaluation.zip", "scenery.zip"}
        <= set(kept)
        <= {"action.zip", "evaluation.zip", "scenery.zip"}
    )
    server.requests.clear()
    assert choose(lingo_qa.read, made, tmp_path / "out", 4, 2)[0].equals(table)
    assert server.requests == []


def test_a_started_download_from_drive_goes_on_in_the_next_run(
    server, google, tmp_path, monkeypatch
):
    content = np.random.default_rng(0).bytes(6_000_000)
    folder = "1GiwWGfrM8pO27CYLu_9Uwtdcz0JoqHr7"
    identity = google(folder, "images.zip", content, drops=[4_000_000] + [0] * 30)
    monkeypatch.setattr(drive, "ATTEMPTS", 0)
    with pytest.raises(DownloadError, match="images.zip cannot be fetched"):
        drive.download_from_folder(folder, "images.zip", tmp_path / "images.zip", "https://page")
    server.sent.clear()
    server.contents[identity][1].drops = []
    path = drive.download_from_folder(folder, "images.zip", tmp_path / "images.zip")
    assert path.read_bytes() == content
    assert server.sent[identity] < 3_000_000


def test_a_folder_of_drive_without_the_file_or_not_there_is_said(server, google, tmp_path):
    folder = "1GiwWGfrM8pO27CYLu_9Uwtdcz0JoqHr7"
    google(folder, "other.zip", b"")
    with pytest.raises(DownloadError, match="0 files are called images.zip; there is: other.zip"):
        drive.download_from_folder(folder, "images.zip", tmp_path / "images.zip", "https://page")
    with pytest.raises(DownloadError, match="by hand from https://page"):
        drive.download_from_folder("1" * 33, "images.zip", tmp_path / "images.zip", "https://page")


# ----------------------------------------------------------------------------------- the registry


def test_every_source_says_what_is_said_of_sources():
    for name, entry in REGISTRY.items():
        real = not name.endswith("-world")
        assert ("source" in entry) == real
        if real:
            source = entry["source"]
            assert {"page", "citation", "login", "files", "pictures"} <= source.keys()
            for file in source["files"].values():
                assert len(file.keys() & {"url", "drive", "table"}) == 1
            assert source["pictures"].get("listed") or pictures_of(entry) or tables_of(entry)


def test_files_placed_by_hand_are_never_fetched(server, tmp_path):
    for name, entry in REGISTRY.items():
        for file in entry.get("source", {}).get("files", ()):
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("placed by hand")
            assert fetch_file(row(name, tmp_path / name), file).read_text() == "placed by hand"
    assert server.requests == []
    shutil.rmtree(tmp_path)
