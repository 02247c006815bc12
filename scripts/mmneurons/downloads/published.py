"""Checksums that a source publishes of its files, asked for when a file is fetched."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import requests

from mmneurons.downloads.errors import DownloadError, Gone, Unsteady
from mmneurons.downloads.requesting import answer, persist

_LOG = logging.getLogger(__name__)


def published_checksum(source: Mapping, file: str) -> str | None:
    """The checksum of a file in the form of `Remote`, by the list of the hub or of Zenodo.

    source: of a row of the registry; `hub` names a repository, `record` the address of what Zenodo
    says of a record. None where the source has neither or does not tell; why is logged, since a
    mirror of the files alone has no such list, and is of use all the same.
    """
    try:
        if "hub" in source:
            from mmneurons.downloads.hub import HubRepo

            found = HubRepo.of(source["hub"], source["page"]).checksum(file)
        elif "record" in source:
            found = _of_record(source["record"]).get(file)
        else:
            return None
    except (
        DownloadError,
        Gone,
        Unsteady,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        _LOG.warning("%s: its published checksum cannot be had: %s", file, error)
        return None
    if found is None:
        _LOG.warning("%s: no checksum is published of it", file)
    return found


def _of_record(address: str) -> dict[str, str]:
    """{file: "md5:..."} of a record on Zenodo; files with another kind of checksum are left out."""

    def ask() -> dict[str, str]:
        with requests.Session() as session, answer(session, address, {}) as response:
            return {file["key"]: file["checksum"] for file in response.json()["files"]}

    said = persist(ask, say=_LOG.info)
    return {file: checksum for file, checksum in said.items() if checksum.startswith("md5:")}
