"""Where the rows of resources/datasets.yaml say that files and pictures come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mmneurons.downloads.archives import unpack
from mmneurons.downloads.errors import DownloadError
from mmneurons.downloads.http import Remote, by_hand, download
from mmneurons.downloads.pictures import ByAddress, Pictures
from mmneurons.downloads.tar import FromTar


def fetch_file(dataset: Mapping, file: str) -> Path:
    """Have a file that a reader opens, as `source.files` of the dataset's row says, at its place.

    file: below the row's root. One that is there is left alone. Raises `DownloadError`.
    """
    root, source = Path(dataset["root"]), dataset["source"]
    path, entry, page = root / file, source["files"][file], source["page"]
    if path.exists():
        return path
    if "table" in entry:
        from mmneurons.downloads.hub import HubRepo
        from mmneurons.downloads.hub_tables import write_columns

        write_columns(HubRepo.of(source["hub"], page), entry["table"], entry["columns"], path)
    elif "drive" in entry:
        from mmneurons.downloads.drive import download_from_folder

        download_from_folder(entry["drive"], entry["name"], path, page)
    elif "member" in entry:
        remote = Remote.of(entry, page)
        name = PurePosixPath(remote.url.partition("?")[0]).name
        # Of its own for each member: two jobs may want two members of one archive at a time.
        archive = download(remote, root / "archives" / f"{path.stem}-{name}")
        member = entry["member"]
        found = unpack(
            archive, root, {member: file, f"./{member}": file}.get, entry["unpacked_at_most"], 1
        )
        if not found:
            raise DownloadError(by_hand(path, [f"{archive} has no member {member}"], page))
        archive.unlink()
    else:
        download(Remote.of(entry, page), path)
    return path


def pictures_of(dataset: Mapping) -> Pictures | None:
    """Where the dataset's pictures come from that are not on disk; None if they have to be there.

    Of a list of addresses that is `listed_pictures_of`.
    """
    source = dataset.get("source") or {}
    root, page, said = dataset["root"], source.get("page", ""), source.get("pictures") or {}
    if "address" in said:
        templates = [said[key] for key in ("address", "archive") if key in said]
        return ByAddress(root, lambda file: [t.format(file=file) for t in templates], page=page)
    if "tar" in said:
        return FromTar(root, Remote.of(said["tar"], page))
    if "hub_zips" in said:
        from mmneurons.downloads.hub import FromHubZips, HubRepo

        return FromHubZips(root, HubRepo.of(source["hub"], page), said["hub_zips"])
    if "drive_zips" in said:
        from mmneurons.downloads.drive import FromDriveZips

        zips = {
            folder: [(entry["drive"], entry["name"], entry["as"]) for entry in entries]
            for folder, entries in said["drive_zips"].items()
        }
        return FromDriveZips(root, zips, page)
    return None


def tables_of(dataset: Mapping) -> Callable[[str], AbstractContextManager[BinaryIO]] | None:
    """How tables are opened that have the pictures in them and stay where they were published."""
    source = dataset.get("source") or {}
    if not (source.get("pictures") or {}).get("hub_tables"):
        return None
    from mmneurons.downloads.hub import HubRepo

    return HubRepo.of(source["hub"], source["page"]).open


def listed_pictures_of(
    dataset: Mapping, place: Callable[[str], int]
) -> Callable[[Sequence[str]], Pictures] | None:
    """The same of a dataset that lists an address a picture; given once the list is read.

    place: from a file to its place in the list.
    """
    source = dataset.get("source") or {}
    said = source.get("pictures") or {}
    if not said.get("listed"):
        return None

    def listed(addresses: Sequence[str]) -> Pictures:
        return ByAddress(
            dataset["root"],
            lambda file: [addresses[place(file)]],
            said["placeholders"],
            source["page"],
        )

    return listed
