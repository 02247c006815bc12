"""Fetching originals: files of the Hugging Face hub, or a single file by its URL.

A single file comes by `mmneurons.downloads.http`, mirrors and all. Of the hub, huggingface_hub
finds the files and moves the bytes. Since its version 2 it begins a file anew after a process died,
so where a file stands until it is whole, and from where it goes on, is kept here: in `NAME.part`
beside it.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers

from mmneurons.artifacts.files import write_json
from mmneurons.checkpoints.sources import RECEIPT, Original
from mmneurons.console import progress
from mmneurons.downloads.errors import DownloadError
from mmneurons.downloads.http import Remote, download, file_digest
from mmneurons.downloads.requesting import SNIFFED, is_page

log = logging.getLogger(__name__)

HEADROOM = 1 << 28
"""Bytes that stay free on the disk."""


class FetchError(RuntimeError):
    """An original cannot be had, with the reason and what to do about it."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    size: bytes, None if the server does not say; sha256 of its content, or git: the hash under
    which git knows it; both None where nobody published one.
    """

    name: str
    url: str
    size: int | None
    sha256: str | None = None
    git: str | None = None


def fetch(original: Original, folder: Path) -> dict:
    """Fetch what is missing of an original into `folder`; the receipt, which is written there too.

    A file that is there whole is not fetched again, one that is there in part goes on from its
    end. Every file is compared with the size and the checksum that the hub or the registry gives.
    Raises FetchError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    commit, names = _fetch_url(original, folder) if original.url else _fetch_hub(original, folder)
    receipt = {
        "from": original.name,
        "revision": original.revision,
        "commit": commit,
        "licence": original.licence,
        "files": {
            name: {
                "bytes": (folder / name).stat().st_size,
                "sha256": file_digest(folder / name, "sha256"),
            }
            for name in names
        },
    }
    write_json(receipt, folder / RECEIPT)
    return receipt


def _fetch_url(original: Original, folder: Path) -> tuple[None, list[str]]:
    """No commit, and the name of the one file."""
    path = folder / PurePosixPath(original.url.partition("?")[0]).name
    checksum = f"sha256:{original.sha256}" if original.sha256 else None
    try:
        download(Remote(original.url, checksum=checksum), path)
    except DownloadError as error:
        raise FetchError(f"{error}\n{_by_hand(original, folder)}") from error
    if original.sha256 not in (None, file_digest(path, "sha256")):
        raise FetchError(f"{path} was there and is not what the registry names: delete it")
    return None, [path.name]


def _fetch_hub(original: Original, folder: Path) -> tuple[str, list[str]]:
    """The commit that the revision is now, and the names of the files."""
    try:
        commit, files = _files_of(original)
        for file in files:
            if not (folder / file.name).resolve().is_relative_to(folder.resolve()):
                raise FetchError(f"{file.name} of {original.name} would leave {folder}")
        _check_space(files, folder)
        for file in progress(files, description="fetch"):
            _fetch_file(file, folder)
    except OfflineModeIsEnabled as error:
        raise FetchError(
            f"{original.name} has to be fetched, but HF_HUB_OFFLINE is set: unset it for this run"
        ) from error
    except HfHubHTTPError as error:
        raise FetchError(_explain(original, folder, error)) from error
    except (HTTPError, OSError) as error:
        raise FetchError(
            f"{original.name} could not be fetched: {error}. Start again to go on where it broke "
            f"off. {_by_hand(original, folder)}"
        ) from error
    return commit, [file.name for file in files]


def _files_of(original: Original) -> tuple[str, list[RemoteFile]]:
    """The commit that the revision is now, and the files of the original."""
    info = HfApi().model_info(original.repo, revision=original.revision, files_metadata=True)
    files = [
        RemoteFile(
            name=each.rfilename,
            url=hf_hub_url(original.repo, each.rfilename, revision=info.sha),
            size=each.lfs.size if each.lfs else each.size,
            sha256=each.lfs.sha256 if each.lfs else None,
            git=None if each.lfs else each.blob_id,
        )
        for each in info.siblings
        if any(fnmatchcase(each.rfilename, pattern) for pattern in original.files)
    ]
    for pattern in original.files:
        if not any(fnmatchcase(file.name, pattern) for file in files):
            raise FetchError(f"{original.name} at {info.sha} has no file {pattern}")
    if original.sha256 and original.sha256 not in {file.sha256 for file in files}:
        raise FetchError(
            f"{original.name} at {info.sha} is not what the registry names: none of its files has "
            f"the SHA-256 {original.sha256}"
        )
    return info.sha, files


def _fetch_file(file: RemoteFile, folder: Path) -> None:
    target = folder / file.name
    if target.is_file() and file.size in (None, target.stat().st_size) and _is(target, file):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with part.open("r+b" if part.exists() else "w+b") as out:
        out.seek(0, os.SEEK_END)
        if file.size is not None and out.tell() > file.size:
            out.seek(0)
            out.truncate()
        have = out.tell()
        log.info("%s: %s from byte %d of %s", file.name, file.url, have, file.size or "unknown")
        if have == 0 or have != file.size:
            # A length that is not the announced one is an OSError here. What was written until then
            # stays, and the next start goes on from it.
            headers = build_hf_headers()
            http_get(file.url, out, resume_size=have, headers=headers, expected_size=file.size)
    if _is_page(part):
        part.unlink()
        raise FetchError(f"{file.url} answered with a page of HTML instead of the file")
    if file.size not in (None, part.stat().st_size) or not _is(part, file):
        size = part.stat().st_size
        part.unlink()
        raise FetchError(
            f"{file.url} is not what was announced: {size} bytes that do not have its size or "
            "checksum. They are deleted; start again, and if it happens again the source changed"
        )
    part.replace(target)


def _is(path: Path, file: RemoteFile) -> bool:
    """Whether a file has the published checksum; True where there is none."""
    if file.sha256:
        return file_digest(path, "sha256") == file.sha256
    if file.git:
        return file_digest(path, "git") == file.git
    return True


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return is_page(file.read(SNIFFED))


def _check_space(files: list[RemoteFile], folder: Path) -> None:
    """Before the first byte; what is there already counts as fetched."""
    missing = 0
    for file in files:
        target = folder / file.name
        part = target.with_name(f"{target.name}.part")
        have = max((p.stat().st_size for p in (target, part) if p.exists()), default=0)
        missing += max((file.size or 0) - have, 0)
    free = shutil.disk_usage(folder).free
    if missing + HEADROOM > free:
        raise FetchError(
            f"{folder} has {free / 1e9:.1f} GB free, {missing / 1e9:.1f} GB are to be fetched"
        )


def _explain(original: Original, folder: Path, error: Exception) -> str:
    """What a refusal of the server means, and what to do."""
    page = f"https://huggingface.co/{original.repo}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError) or (original.gated and status in (401, 403)):
        return (
            f"{original.repo} is gated. With an account of the hub: accept the licence "
            f"({original.licence}) on {page} and wait until access is granted; make a token that "
            "may read on https://huggingface.co/settings/tokens; give it by `hf auth login` or in "
            f"HF_TOKEN. {_by_hand(original, folder)}"
        )
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return (
            f"{original.name} is not there any more, or not at revision {original.revision}. "
            f"docs/models.md says what else there is. {_by_hand(original, folder)}"
        )
    return f"{original.name} could not be fetched: {error}. {_by_hand(original, folder)}"


def _by_hand(original: Original, folder: Path) -> str:
    wanted = ", ".join(original.files) or PurePosixPath(original.url).name
    return (
        f"Or place these files in {folder}, with {{}} as {RECEIPT} beside them ({wanted}), or a "
        "checkpoint that is ready in the directory that the registry names"
    )
