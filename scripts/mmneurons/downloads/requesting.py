"""Asking a server: mirrors, and what its answer means for the next attempt."""

from __future__ import annotations

import email.utils
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from time import sleep
from typing import TypeVar

import requests
import urllib3

from mmneurons.downloads.errors import Gone, PageInstead, Unreachable, Unsteady

T = TypeVar("T")

TIMEOUT = 60
"""Seconds without an answer after which a server counts as silent."""

ATTEMPTS = 6
"""At most, without progress between them."""

LONGEST_WAIT = 600
"""Seconds. Who asks for a longer one is asked another day."""

MIRRORS = "MMNEURONS_MIRRORS"
"""Environment variable: `FROM=TO` pairs of beginnings of addresses, separated by spaces."""

SNIFFED = 512
"""Bytes of a file by which a page in HTML is told from it."""

HUB = "https://huggingface.co"
"""Its mirror may also be in `HF_ENDPOINT`, the variable of its own library."""

_USER_AGENT = "mmneurons (research workflow; python-requests)"
_FOR_NOW = {408, 425, 429, 500, 502, 503, 504}
_REASONS = {
    401: "401, a login is needed",
    403: "403, the server refuses",
    404: "404, there is no such file",
    410: "410, the file was taken away",
}


def mirrored(url: str) -> str:
    """The address at which `url` is asked for: the longest beginning that has a mirror wins."""
    pairs = [pair.partition("=")[::2] for pair in os.environ.get(MIRRORS, "").split()]
    if endpoint := os.environ.get("HF_ENDPOINT"):
        pairs.insert(0, (HUB, endpoint.rstrip("/")))
    fitting = [(start, mirror) for start, mirror in pairs if start and url.startswith(start)]
    if not fitting:
        return url
    start, mirror = max(reversed(fitting), key=lambda pair: len(pair[0]))
    return mirror + url[len(start) :]


@contextmanager
def answer(
    session: requests.Session, url: str, headers: Mapping[str, str], kind: str = ""
) -> Iterator[requests.Response]:
    """The server's answer, whose body is not read yet.

    kind: what the answer must be in the words of Content-Type, such as "image/"; a page in HTML is
    never what was asked for, whatever its status. One that the server does not call so is found by
    `without_page`. Raises `Gone` or `Unsteady`, also for what goes wrong while the block reads the
    body.
    """
    # An encoded body would have another length than the file, and ranges of another one.
    asked = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **headers}
    try:
        with session.get(mirrored(url), headers=asked, stream=True, timeout=TIMEOUT) as response:
            status = response.status_code
            if status in _FOR_NOW:
                raise Unsteady(f"status {status}", _retry_after(response))
            if status not in (200, 206, 416):
                raise Gone(f"status {_REASONS.get(status, status)}", lasting=status in (404, 410))
            sent = response.headers.get("Content-Type", "").lower()
            if status != 416 and "html" in sent:
                raise PageInstead
            if (
                status != 416
                and kind
                and not sent.startswith((kind, "application/octet", "binary"))
            ):
                raise Gone(f"{sent or 'something unnamed'} came in place of {kind}")
            yield response
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
        raise Gone(f"{url!r} is no address") from error
    except requests.exceptions.TooManyRedirects as error:
        raise Gone("the address leads round in a circle") from error
    except urllib3.exceptions.HTTPError as error:
        raise Unsteady("the connection broke") from error
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise Unreachable(f"no answer ({_innermost(error)})") from error
    except requests.exceptions.RequestException as error:
        raise Unsteady(str(error)) from error


def is_page(start: bytes) -> bool:
    """Whether a file that begins so is a page in HTML, which nothing that is fetched here is."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html"))


def without_page(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of a body; raises `PageInstead` before the first where they begin a page."""
    start = b""
    while len(start) < SNIFFED and (piece := next(pieces, b"")):
        start += piece
    if is_page(start[:SNIFFED]):
        raise PageInstead
    return chain([start], pieces)


def persist(
    attempt: Callable[[], T], reached: Callable[[], int] = lambda: 0, say: Callable = print
) -> T:
    """What `attempt` returns, tried again with growing pauses while it raises `Unsteady`.

    reached: how far attempts have come, in bytes; an attempt that came further than all before
    counts as the first again. say: is told why there is a pause. Raises the last `Unsteady`.
    """
    failed, furthest = 0, reached()
    while True:
        try:
            return attempt()
        except Unsteady as unsteady:
            if reached() > furthest:
                failed, furthest = 0, reached()
            failed += 1
            wait = 2.0 ** (failed - 1) if unsteady.wait is None else unsteady.wait
            if failed == ATTEMPTS or wait > LONGEST_WAIT:
                raise
            say(f"{unsteady}; trying again in {wait:.0f} s")
            sleep(wait)


def _retry_after(response: requests.Response) -> float | None:
    """Seconds to wait as the server says, in seconds or as a date."""
    said = response.headers.get("Retry-After", "").strip()
    if said.isdigit():
        return float(said)
    try:
        date = email.utils.parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())


def _innermost(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__
