"""What can go wrong with a download, as errors for the person who started it."""

from __future__ import annotations


class DownloadError(RuntimeError):
    """Something cannot be fetched or unpacked: what, from where, and what to do about it."""


class Gone(Exception):
    """An address will not give the file, however often it is asked: another one may.

    lasting: whether the source says that there is no such file, not that it gives none to us.
    """

    def __init__(self, reason: str, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting


class PageInstead(Gone):
    """A page in HTML came in place of the file: of a login, a proxy, a server that is down."""

    def __init__(self) -> None:
        super().__init__(
            "a page in HTML came in its place: the source is down or wants a login", lasting=False
        )


class Unsteady(Exception):
    """An address did not give the file this time. `wait`: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Unreachable(Unsteady):
    """No server answered at all."""
