"""Where a bundle comes from: a file, a URL, or a record of Zenodo."""

from __future__ import annotations

import re
from pathlib import Path

import pooch
import requests
from pooch.downloaders import ZenodoRepository

from mmneurons.sharing.manifest import SUFFIX, BundleError

_ZENODO = (
    r"(?:zenodo:|https://zenodo\.org/records?/"
    r"|(?:doi:|https?://doi\.org/|https://zenodo\.org/doi/)10\.5281/zenodo\.)(\d+)/?"
)

TIMEOUT = 60
"""Seconds without an answer after which a server counts as silent."""


def fetch(source: str, folder: Path, sha256: str | None = None) -> Path:
    """The bundle as a file: `source` itself where it is one, else what is loaded into `folder`.

    source: a path, `http(s)://...`, or a record of Zenodo as `zenodo:RECORD`, as
    the address of its page, or by its DOI, `doi:10.5281/zenodo.RECORD`.
    sha256: what the file has to have; of Zenodo the checksum that the record names is checked too.
    Raises `BundleError` with the reason where there is none.
    """
    record = re.fullmatch(_ZENODO, source)
    try:
        if record:
            path = _from_zenodo(record[1], folder)
        elif source.startswith(("http://", "https://")):
            path = _download(source, None, "bundle" + SUFFIX, folder)
        else:
            path = Path(source)
            if not path.is_file():
                raise BundleError(f"there is no file {source}")
    except (requests.RequestException, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{source} cannot be fetched: {error}") from error
    if sha256 is not None and pooch.file_hash(str(path)) != sha256.lower():
        raise BundleError(f"{source} does not have the SHA-256 {sha256}")
    return path


def _from_zenodo(record: str, folder: Path) -> Path:
    """The only bundle among the files of a record."""
    repository = ZenodoRepository(
        f"10.5281/zenodo.{record}", f"https://zenodo.org/records/{record}", timeout=TIMEOUT
    )
    if "files" not in repository.api_response:
        raise BundleError(f"Zenodo has no open record {record}")
    listed = pooch.create(path=folder, base_url="")
    repository.populate_registry(listed)
    names = [name for name in listed.registry if name.endswith(SUFFIX)]
    if len(names) != 1:
        raise BundleError(
            f"record {record} of Zenodo has {len(names)} files that end in {SUFFIX}: "
            f"{', '.join(names) or 'none'}; give the URL of one"
        )
    # A record's name of a file never becomes a path here.
    url = repository.download_url(names[0])
    return _download(url, listed.registry[names[0]], "bundle" + SUFFIX, folder)


def _download(url: str, known_hash: str | None, name: str, folder: Path) -> Path:
    downloader = pooch.HTTPDownloader(progressbar=False, timeout=TIMEOUT)
    return Path(pooch.retrieve(url, known_hash, name, folder, downloader=downloader))
