"""Parts of files of datasets on the Hugging Face hub: members of archives, and tables by range.

By huggingface_hub, which knows the hub's redirects, tokens and waiting times. `HF_TOKEN` is its own
variable; mirrors of `mmneurons.downloads.requesting` count. Whole files come by
`mmneurons.downloads.http`, which loses nothing when it is interrupted; huggingface_hub keeps pieces
of 10 MB.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from mmneurons.downloads.archives import bring_members, missing_files
from mmneurons.downloads.errors import DownloadError
from mmneurons.downloads.http import by_hand
from mmneurons.downloads.requesting import HUB, TIMEOUT, mirrored

T = TypeVar("T")

BLOCK = 1 << 17
"""Bytes read ahead: a picture, not many."""

FAILURES = (HTTPError, OSError, HfHubHTTPError, EntryNotFoundError, OfflineModeIsEnabled)
"""What the library raises for a hub that does not give the file. `HTTPError` is that of its HTTP
client, for no connection and no answer in time: it is no OSError."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubRepo:
    """A dataset on the hub.

    archive: a second repository with the same revision; page: what a person reads.
    """

    repo: str
    revision: str
    archive: str | None = None
    page: str = ""

    @classmethod
    def of(cls, row: Mapping, page: str = "") -> HubRepo:
        """From a row of the registry."""
        return cls(row["repo"], row["revision"], row.get("archive"), page)

    def files(self, pattern: str) -> list[str]:
        """Names in the repository that fit a pattern such as "data/train-*.parquet", sorted."""

        def listed(repo: str) -> list[str]:
            start = self._start(repo)
            return sorted(name.removeprefix(start) for name in _system().glob(start + pattern))

        return self._first(Path(pattern), listed)

    @contextmanager
    def open(self, file: str) -> Iterator[BinaryIO]:
        """A file of the repository of which only what is asked for is read."""

        def opened(repo: str) -> BinaryIO:
            return _system().open(self._start(repo) + file, "rb", block_size=BLOCK)

        with self._first(Path(file), opened) as stream:
            try:
                yield stream
            except FAILURES as error:
                failed = [f"{self.repo}: {_said(error)}"]
                raise DownloadError(by_hand(Path(file), failed, self.page)) from error

    def checksum(self, file: str) -> str | None:
        """What the hub says that a file's checksum is, in the form of `Remote`."""

        def listed(repo: str) -> str | None:
            info = HfApi(endpoint=mirrored(HUB)).dataset_info(
                repo, revision=self.revision, files_metadata=True, timeout=TIMEOUT
            )
            for each in info.siblings or ():
                if each.rfilename == file and each.lfs:
                    return f"sha256:{each.lfs.sha256}"
                if each.rfilename == file and each.blob_id:
                    return f"git:{each.blob_id}"
            return None

        return self._first(Path(file), listed)

    def _start(self, repo: str) -> str:
        return f"datasets/{repo}@{self.revision}/"

    def _first(self, path: Path, get: Callable[[str], T]) -> T:
        """What the first repository gives that has it."""
        failed = []
        for repo in filter(None, (self.repo, self.archive)):
            try:
                return get(repo)
            except DownloadError:
                raise
            except FAILURES as error:
                failed.append(f"{HUB}/datasets/{repo}: {_said(error)}")
                _LOG.warning("%s", failed[-1])
        raise DownloadError(by_hand(path, failed, self.page))


class FromHubZips:
    """Pictures that are members of zip archives on the hub, by the members' last names.

    zips: {folder of the pictures below the root: archive in the repository}.
    """

    def __init__(self, root: str | Path, repo: HubRepo, zips: Mapping[str, str]) -> None:
        self.root, self.repo, self.zips = Path(root), repo, zips

    def bring(self, files: Sequence[str]) -> dict[str, str]:
        """See `mmneurons.downloads.pictures.Pictures`."""
        of_folder: dict[str, list[str]] = defaultdict(list)
        for file in missing_files(self.root, files):
            of_folder[str(PurePosixPath(file).parent)].append(file)
        why: dict[str, str] = {}
        for folder, missing in of_folder.items():
            if folder not in self.zips:
                why |= dict.fromkeys(missing, f"no archive has {folder}")
                continue
            with self.repo.open(self.zips[folder]) as stream:
                why |= bring_members(stream, self.root, missing, self.zips[folder])
        return {file: why[file] for file in files if file in why}


def _system() -> HfFileSystem:
    return HfFileSystem(endpoint=mirrored(HUB), skip_instance_cache=True)


def _said(error: Exception) -> str:
    """An error of the hub in one line, with what a person has to do for it."""
    text = " ".join(str(error).split())
    if isinstance(error, GatedRepoError):
        return f"{text} Accept its terms on that page, then `hf auth login`, or set HF_TOKEN"
    if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError):
        return f"{text} (is HF_HUB_OFFLINE set?)"
    return text or type(error).__name__
