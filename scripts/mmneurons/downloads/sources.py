"""Where the rows of resources/datasets.yaml say that files and pictures come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from mmneurons.downloads.archives import ArchiveError, unpack
from mmneurons.downloads.http import Remote, by_hand, download
from mmneurons.downloads.names import archive_of
from mmneurons.downloads.pictures import ByAddress, Pictures
from mmneurons.downloads.published import published_checksum
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
    elif archive := archive_of(entry):
        placed = (root / archive).exists()
        _unpack_member(fetch_archive(dataset, archive), root, file, entry, page)
        if not placed:
            (root / archive).unlink()
    else:
        remote = Remote.of(entry, page)
        if remote.checksum is None:
            remote = replace(remote, checksum=published_checksum(source, file))
        download(remote, path)
    return path


def fetch_archive(dataset: Mapping, archive: str) -> Path:
    """Have an archive at its place below the row's root, for all files that are its members.

    archive: as `archive_of` names it. One that is there is left alone. Raises `DownloadError`.
    """
    source = dataset["source"]
    entry = next(entry for entry in source["files"].values() if archive_of(entry) == archive)
    return download(Remote.of(entry, source["page"]), Path(dataset["root"], archive))


def _unpack_member(archive: Path, root: Path, file: str, entry: Mapping, page: str) -> None:
    """Take one file out of an archive; one that does not have it whole is put out of the way."""
    member = entry["member"]
    names = {member: file, f"./{member}": file}
    try:
        if not unpack(archive, root, names.get, entry["unpacked_at_most"], 1):
            raise ArchiveError(f"{archive} has no member {member}")
    except ArchiveError as error:
        broken = archive.with_name(f"{archive.name}.broken")
        archive.replace(broken)
        failed = [str(error), f"It is called {broken.name} now: the next run fetches it again."]
        raise ArchiveError(by_hand(root / file, failed, page)) from error


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
        remote = Remote.of(said["tar"], page)
        return FromTar(root, remote, lambda name: published_checksum(source, name))
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
