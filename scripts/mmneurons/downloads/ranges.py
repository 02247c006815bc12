"""A file on a server as a file object that reads only what it is asked for."""

from __future__ import annotations

import io
import re
from contextlib import ExitStack

import requests
import urllib3

from mmneurons.downloads.errors import Gone, Unsteady
from mmneurons.downloads.requesting import answer, persist

SKIPPED = 1 << 20
"""A step forward of at most so many bytes is read through; a longer one is asked for anew."""


class RangedFile(io.RawIOBase):
    """Reading one address, forwards as a stream and elsewhere by a request for the rest.

    A broken connection goes on where it stopped. A server that ignores ranges is read from the
    start up to the place. Raises `Gone` or `Unsteady`, also where the file turns into another one
    while it is read.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = self.name = url
        self.session = requests.Session()
        self._place = self._at = 0  # where the reader is, and where the open answer is
        self._length: int | None = None
        self._etag: str | None = None
        self._answer: requests.Response | None = None
        self._open = ExitStack()

    @property
    def facts(self) -> dict[str, object]:
        """What tells this file from a later one at the same address; asks the server once."""
        if self._length is None:
            self.part(0, 1)
        return {"length": self._length, "etag": self._etag}

    def part(self, start: int, size: int) -> bytes:
        """Bytes of the file, by a request for them alone; the place of reading stays."""

        def attempt() -> bytes:
            headers = {"Range": f"bytes={start}-{start + size - 1}"}
            with answer(self.session, self.url, headers) as response:
                at = self._check(response, start)
                # Where ranges are ignored, what is before has to come too.
                while at < start:
                    at += len(response.raw.read(min(SKIPPED, start - at), decode_content=False))
                return response.raw.read(size, decode_content=False)

        return persist(attempt)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._place
        elif whence == io.SEEK_END:
            offset += self.facts["length"]
        self._place = max(0, offset)
        return self._place

    def readinto(self, buffer) -> int:
        data = persist(lambda: self._read(len(buffer)), lambda: self._at)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._disconnect()
        self.session.close()
        super().close()

    def _read(self, most: int) -> bytes:
        if self._length is not None and self._place >= self._length:
            return b""
        ahead = self._place - self._at
        if self._answer is None or not 0 <= ahead <= SKIPPED:
            self._connect()
        try:
            while self._at < self._place:
                self._next(min(SKIPPED, self._place - self._at))
            data = self._next(most)
        except Exception:
            self._disconnect()
            raise
        return data

    def _next(self, most: int) -> bytes:
        try:
            data = self._answer.raw.read(most, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unsteady("the connection broke") from error
        self._at += len(data)
        if not data and self._at < self._length:
            raise Unsteady("the connection broke")
        return data

    def _connect(self) -> None:
        """Open an answer whose body starts at the reader's place, or before it."""
        self._disconnect()
        headers = {"Range": f"bytes={self._place}-"}
        response = self._open.enter_context(answer(self.session, self.url, headers))
        self._answer, self._at = response, self._check(response, self._place)

    def _check(self, response: requests.Response, wanted: int) -> int:
        """Where the body starts, `wanted` or the start of the file; the file must be the same."""
        start, length = 0, int(response.headers.get("Content-Length", -1))
        if response.status_code == 206:
            said = response.headers.get("Content-Range", "")
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", said)
            if match is None or int(match[1]) != wanted:
                raise Gone(f"asked for byte {wanted}, the source sent {said!r}")
            start, length = wanted, int(match[2])
        if response.status_code == 416 or length < 0:
            raise Gone("the source does not say how long the file is, or has a shorter one now")
        told = length, response.headers.get("ETag")
        if self._length is None:
            self._length, self._etag = told
        elif told != (self._length, self._etag):
            raise Gone("the source has another file now than when reading it began")
        return start

    def _disconnect(self) -> None:
        self._answer = None
        try:
            self._open.close()
        finally:
            self._open = ExitStack()
