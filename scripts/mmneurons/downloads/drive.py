"""Files of public folders on Google Drive, by gdown, which knows Drive's pages."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import gdown
import requests

from mmneurons.downloads.archives import ArchiveError, bring_members, missing_files
from mmneurons.downloads.errors import DownloadError
from mmneurons.downloads.http import by_hand
from mmneurons.downloads.requesting import ATTEMPTS, TIMEOUT
from mmneurons.downloads.space import require_space

_LOG = logging.getLogger(__name__)


def download_from_folder(folder: str, name: str, path: Path, page: str = "") -> Path:
    """Have the file called `name` of a Drive folder at `path`; a started download goes on.

    folder: Drive's id. Raises `DownloadError`, also where Drive's quota of the file is used up.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        listed = gdown.download_folder(
            id=folder, skip_download=True, quiet=True, use_cookies=False, timeout=TIMEOUT
        )
        ids = [file.id for file in listed if PurePosixPath(file.path).name == name]
        if len(ids) != 1:
            found = ", ".join(sorted(file.path for file in listed)) or "nothing"
            raise DownloadError(f"{len(ids)} files are called {name}; there is: {found}")
        gdown.download(
            id=ids[0],
            output=str(path),
            quiet=True,
            use_cookies=False,
            resume=True,
            retries=ATTEMPTS,
            timeout=TIMEOUT,
            progress=_Lines(path),
        )
    except (DownloadError, gdown.exceptions.DownloadError, requests.RequestException) as error:
        told = " ".join(str(error).split())
        address = f"https://drive.google.com/drive/folders/{folder}"
        raise DownloadError(by_hand(path, [f"{address}: {told}"], page)) from error
    return path


class FromDriveZips:
    """Pictures in zip archives of Drive folders, which come whole and stay packed.

    zips: {folder below the root: its archives as (Drive folder's id, name there, name below
    `archives/`)}, in the order in which they are searched.
    """

    def __init__(
        self,
        root: str | Path,
        zips: Mapping[str, Sequence[tuple[str, str, str]]],
        page: str = "",
    ) -> None:
        self.root, self.zips, self.page = Path(root), zips, page

    def bring(self, files: Sequence[str]) -> dict[str, str]:
        """See `mmneurons.downloads.pictures.Pictures`."""
        missing = missing_files(self.root, files)
        why = dict.fromkeys(missing, "no archive has its folder")
        for start, archives in self.zips.items():
            for folder, name, kept_as in archives:
                own = [file for file in why if file.startswith(f"{start}/")]
                if not own:
                    continue
                path = self.root / "archives" / kept_as
                download_from_folder(folder, name, path, self.page)
                try:
                    with open(path, "rb") as stream:
                        # Frames of all drives have the same last names.
                        found = bring_members(stream, self.root, own, kept_as, agree=2)
                except ArchiveError as error:
                    # Not by itself: these are tens of gigabytes, and often placed by hand.
                    raise ArchiveError(
                        f"{error}; delete {path} to have it fetched again"
                    ) from error
                why = {f: t for f, t in why.items() if f not in own} | found
        return {file: why[file] for file in missing if file in why}


class _Lines:
    """gdown's progress as lines of the log, one a gigabyte."""

    def __init__(self, path: Path) -> None:
        self.path, self.said = path, -1

    def __call__(self, came: int, total: int | None) -> None:
        if self.said < 0 and total:
            require_space(self.path.parent, total - came, self.path.name)
        if came >> 30 > self.said:
            self.said = came >> 30
            _LOG.info("%s: %d of %s bytes", self.path, came, total or "unknown")
