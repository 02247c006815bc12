"""One file from the web: with progress, resumed after any interruption, checked, or not at all.

While a file comes, its bytes stand in `{name}.part` and what is known of it in `{name}.part.json`;
the file itself appears only when it is complete and checked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from mmneurons.console import progress
from mmneurons.downloads.errors import DownloadError, Gone, Unsteady
from mmneurons.downloads.requesting import answer, persist, without_page
from mmneurons.downloads.space import in_words, require_space

CHUNK = 1 << 18
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remote:
    """A published file.

    url: where it is; archive: where the same bytes are if it is there no longer; bytes: its size,
    checksum: "sha256:...", "md5:..." or "git:...", both where they are published; page: what a
    person reads to get it by hand.
    """

    url: str
    archive: str | None = None
    bytes: int | None = None
    checksum: str | None = None
    page: str = ""

    @classmethod
    def of(cls, row: Mapping, page: str = "") -> Remote:
        """From a row of the registry, which may have keys for others too."""
        known = ("url", "archive", "bytes", "checksum")
        return cls(**{key: row[key] for key in known if key in row}, page=page)

    @property
    def addresses(self) -> list[str]:
        """In the order in which they are asked."""
        return [address for address in (self.url, self.archive) if address]


def download(remote: Remote, path: str | Path) -> Path:
    """Have `remote` at `path`, and return it; a file that is there is neither fetched nor changed.

    A started download goes on where it stopped, if the source still has the same file (ETag, else
    Last-Modified, and length) and sends parts; else it begins again. Broken connections, 429 and
    5xx are tried again, after the time that the server asks for. Nothing is written where the
    disk has not enough room. Raises `DownloadError` where no address gives the file.
    """
    path = Path(path)
    if path.exists():
        return path
    failed = []
    for address in remote.addresses:
        try:
            return _Transfer(remote, address, path).run()
        except (Gone, Unsteady) as error:
            failed.append(f"{address}: {error}")
            _LOG.warning("%s", failed[-1])
    raise DownloadError(by_hand(path, failed, remote.page))


def by_hand(path: Path, failed: list[str], page: str) -> str:
    """The message for a file that cannot be had, and what a person can do about it."""
    lines = [f"{path} cannot be fetched:", *failed]
    if page:
        lines.append(f"Try again later, or get it by hand from {page} and place it there;")
        lines.append("docs/data.md says more of each source. What has come is kept.")
    return "\n  ".join(lines)


def file_digest(path: Path, algorithm: str) -> str:
    """The checksum of a file in hexadecimal digits; "git": the hash under which git knows it."""
    with open(path, "rb") as file:
        if algorithm == "git":
            header = f"blob {path.stat().st_size}\0".encode()
            return hashlib.file_digest(file, lambda: hashlib.sha1(header)).hexdigest()
        return hashlib.file_digest(file, algorithm).hexdigest()


@dataclass(frozen=True)
class _Known:
    """What tells whether a source still has the file of which a part is here."""

    url: str
    etag: str | None
    modified: str | None
    length: int | None

    @classmethod
    def read(cls, path: Path) -> _Known | None:
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def recognisable(self) -> bool:
        """Whether the source would say so if it had another file by now."""
        return bool(self.etag or self.modified)

    def condition(self) -> dict[str, str]:
        """The header by which a server sends the whole file if it is another one now."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        validator = strong or self.modified
        return {"If-Range": validator} if validator else {}

    def same_file(self, other: _Known) -> bool:
        """Whether two answers of one address are about the same bytes, as far as they tell."""
        pairs = [(self.etag, other.etag), (self.length, other.length)]
        if not (self.etag and other.etag):
            pairs.append((self.modified, other.modified))
        return all(ours is None or theirs is None or ours == theirs for ours, theirs in pairs)


class _Transfer:
    """One address, and the part of the file that is here."""

    def __init__(self, remote: Remote, address: str, path: Path) -> None:
        self.remote, self.address, self.path = remote, address, path
        self.part = path.with_name(path.name + ".part")
        self.notes = path.with_name(path.name + ".part.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        known = _Known.read(self.notes)
        # A part of unknown origin, or from elsewhere, is no beginning of this file.
        self.known = known if known and known.url == address and self.part.exists() else None
        self.session = requests.Session()

    def run(self) -> Path:
        with self.session:
            self._fetch()
            if not self._is_right() and self.resumed:
                # Of two files, perhaps: nothing but the checksum could tell.
                self._forget()
                self._fetch()
        self._check_sum()
        self.part.replace(self.path)
        self.notes.unlink(missing_ok=True)
        return self.path

    def _fetch(self) -> None:
        self.resumed = False
        persist(self._attempt, self._have, lambda text: _LOG.info("%s: %s", self.path, text))

    def _have(self) -> int:
        return self.part.stat().st_size if self.known and self.part.exists() else 0

    def _forget(self) -> None:
        # The notes go first: a part without them is not used.
        self.notes.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)
        self.known = None

    def _attempt(self) -> None:
        """Fetch what is missing, once."""
        have = self._have()
        if self.known and have and have == self.known.length:
            return
        headers = {}
        if self.known and have and (self.known.recognisable or self.remote.checksum):
            headers = {"Range": f"bytes={have}-", **self.known.condition()}
        with answer(self.session, self.address, headers) as response:
            start, told = _told(self.address, response)
            if response.status_code == 416 and told.length == have and have:
                return  # the source says only now how long the file is: as long as the part
            fits = self.known is not None and self.known.same_file(told)
            if response.status_code == 416 or (start and not (fits and start == have)):
                self._forget()
                raise Unsteady("the source has another file now than the part that is here", 0)
            if told.length is not None and self.remote.bytes not in (None, told.length):
                detail = f"{told.length} bytes, where {self.remote.bytes} are published"
                raise Gone(f"the source has another file now: {detail}")
            # As they are sent: some servers call an archive's own compression an encoding.
            pieces = response.raw.stream(CHUNK, decode_content=False)
            if not start:
                pieces = without_page(pieces)  # which costs what has come no more than a 403 does
                self._forget()
            self.resumed |= start > 0
            if told.length is not None:
                require_space(self.path.parent, told.length - start, self.path.name)
            if self.known is None:
                self.known = told
                self.notes.write_text(json.dumps(asdict(told)), encoding="utf-8")
            self._receive(pieces, start)
        wanted = self.known.length if self.known.length is not None else self.remote.bytes
        if wanted is not None and self._have() != wanted:
            raise Unsteady(f"{self._have()} of {wanted} bytes came")

    def _receive(self, pieces: Iterable[bytes], start: int) -> None:
        total = self.known.length
        of = f" of {in_words(total)}" if total else ""
        _LOG.info("%s: from byte %d%s, %s", self.path, start, of, self.address)
        count = -(-(total - start) // CHUNK) if total else None
        most = total if total is not None else self.remote.bytes
        came = start
        # Unbuffered, so that a killed process leaves every byte that it was given.
        with open(self.part, "ab" if start else "wb", buffering=0) as file:
            for piece in progress(
                pieces, total=count, description=f"{self.path.name}, {CHUNK >> 10} KiB"
            ):
                file.write(piece)
                came += len(piece)
                if most is not None and came > most:
                    raise Gone(f"more than the {most} bytes came that were announced")

    def _is_right(self) -> bool:
        algorithm, _, wanted = (self.remote.checksum or "").partition(":")
        return not algorithm or file_digest(self.part, algorithm) == wanted.lower()

    def _check_sum(self) -> None:
        if not self._is_right():
            self._forget()
            raise Gone(f"wrong checksum, where {self.remote.checksum} is published")


def _told(address: str, response: requests.Response) -> tuple[int, _Known]:
    """Where the body starts in the file, and what the answer says of the whole file."""
    headers = response.headers
    start, length = 0, None
    if response.status_code == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if match is None:
            raise Gone("an answer in parts that does not say which part it is")
        start = int(match[1])
        length = int(match[2]) if match[2] != "*" else None
    elif response.status_code == 416:
        match = re.fullmatch(r"bytes \*/(\d+)", headers.get("Content-Range", "").strip())
        length = int(match[1]) if match else None
    elif response.status_code == 200 and headers.get("Content-Length", "").isdigit():
        length = int(headers["Content-Length"])
    return start, _Known(address, headers.get("ETag"), headers.get("Last-Modified"), length)
