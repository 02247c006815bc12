"""Single pictures by their addresses, when a reader asks for them."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Protocol

import requests

from mmneurons.artifacts.files import atomic, read_json, update_json
from mmneurons.console import progress
from mmneurons.downloads.archives import MOST_OF_A_PICTURE, missing_files
from mmneurons.downloads.errors import DownloadError, Gone, PageInstead, Unreachable, Unsteady
from mmneurons.downloads.http import CHUNK
from mmneurons.downloads.requesting import answer, persist, without_page
from mmneurons.downloads.space import require_space

AT_ONCE = 8
TYPICAL_PICTURE = 200_000
"""Bytes, with room to spare: COCO's train2017 has 18 GB for 118,287 pictures."""
NOT_THERE = "not_there.json"
"""Beside the pictures: {file: why the source has it no longer}. Who deletes it asks again."""
FAILED = "failed.json"
"""Beside the pictures: {file: runs in which its server failed while others answered}."""

_RUNS = 3  # of such, after which a picture is passed over
_GIVEN_UP = 8  # pictures one after the other for which there is no answer
_TOO_MANY = 50  # pictures of which not one comes: that is no chance any more
_EXAMPLES = 4  # pictures by which a source shows that it can be reached
_LOG = logging.getLogger(__name__)


class _NotAsked(Unsteady):
    """A picture behind too many for which there was no answer."""


class Pictures(Protocol):
    """Where pictures that are not on disk may come from."""

    def bring(self, files: Sequence[str]) -> Mapping[str, str]:
        """Have `files`, paths below the root, on disk as far as the source has them.

        Returns {file: why it cannot be had} of the others. A file that is there is left alone.
        Raises `DownloadError` where the source may have files but does not give them now, so that
        what a run works on never depends on the weather.
        """
        ...


class ByAddress:
    """Pictures that have an address each.

    addresses: those of a file, in the order in which they are asked; placeholders: words of the
    address to which a host leads that has a picture no longer.
    """

    def __init__(
        self,
        root: str | Path,
        addresses: Callable[[str], Sequence[str]],
        placeholders: Sequence[str] = (),
        page: str = "",
    ) -> None:
        self.root, self.addresses, self.placeholders = Path(root), addresses, placeholders
        self.page = page
        self._local = threading.local()
        self._came, self._refused = 0, {}  # of all calls: pictures, and why others did not
        self._examples: list[str] = []

    def bring(self, files: Sequence[str]) -> dict[str, str]:
        """See `Pictures`. What is gone for good is noted in `NOT_THERE` and not asked for again.

        So is what failed in three runs while others answered, lest it block all runs for ever.
        Where nothing came in all calls so far and pages in HTML did, or fifty pictures were
        refused or gone, the source has to give a picture that was here before, or say of one that
        it is gone. Else `DownloadError` is raised: a network that lets nothing through looks so.
        """
        notes = self.root / NOT_THERE
        known: dict[str, str] = read_json(notes) if notes.exists() else {}
        missing = missing_files(self.root, files)
        self._remember(dict.fromkeys(files).keys() - missing, known.keys() & missing)
        asked = [file for file in missing if file not in known]
        found = dict(zip(asked, self._fetch_all(asked), strict=True)) if asked else {}
        failed = {file: why for file, why in found.items() if why is not None}
        answered = self._answered(found)
        # A host that is silent while others answer is as good as gone, but may come back.
        gone = {f: w for f, w in failed.items() if isinstance(w, Gone | Unreachable) and answered}
        gone |= self._failed_too_often(found, answered)
        self._say(found)
        # Before anything is raised, or every run would ask for the same ones.
        if lasting := {f: str(w) for f, w in gone.items() if isinstance(w, Gone) and w.lasting}:
            update_json(notes, lambda noted: noted | lasting)
        self._came += len(found) - len(failed)
        self._refused |= {f: w for f, w in failed.items() if isinstance(w, Gone)}
        if for_now := {f: w for f, w in failed.items() if f not in gone}:
            self._raise(for_now, f"{len(failed)} of {len(asked)}")
        if found and self._nothing_comes():
            self._raise(self._refused, f"{len(self._refused)} of {len(self._refused)}")
        told = known | {file: str(why) for file, why in gone.items()}
        return {file: told[file] for file in missing if file in told}

    def _raise(self, failed: Mapping[str, Exception], many: str) -> NoReturn:
        file, why = next(iter(failed.items()))
        raise DownloadError(
            f"{many} pictures did not come, first {file} from "
            f"{', '.join(self.addresses(file))}: {why}. Those that came are kept: start again "
            f"later, or place pictures by hand below {self.root}. One whose server fails in "
            f"{_RUNS} runs while others answer is passed over; {NOT_THERE} there names those that "
            f"are gone: delete it if the address was wrong. {self.page}"
        )

    def _remember(self, here: set[str], gone: set[str]) -> None:
        """Keep a few pictures that the source gave before, or else knew to be gone."""
        found = [*self._examples, *sorted(here), *sorted(gone)]
        self._examples = list(dict.fromkeys(found))[:_EXAMPLES]

    def _asked_again(self) -> Iterator[Exception | None]:
        """What addresses of such pictures answer now, None for a picture; nothing is written."""
        for file in self._examples:
            for address in self.addresses(file):
                try:
                    with self._opened(address):
                        yield None
                except (Gone, Unsteady) as error:
                    yield error

    def _answered(self, found: Mapping[str, Exception | None]) -> bool:
        """Whether any server answers: to what was asked, else for a picture known from before."""
        if any(not isinstance(why, Unsteady) for why in found.values()):
            return True
        return bool(found) and any(not isinstance(w, Unsteady) for w in self._asked_again())

    def _nothing_comes(self) -> bool:
        """Whether all that was asked so far had answers such as no working network gives."""
        if self._came:
            return False
        lasting = any(why.lasting for why in self._refused.values())
        pages = any(isinstance(why, PageInstead) for why in self._refused.values())
        if len(self._refused) < _TOO_MANY and (lasting or not pages):
            return False
        return not any(
            w is None or (isinstance(w, Gone) and w.lasting) for w in self._asked_again()
        )

    def _failed_too_often(
        self, found: Mapping[str, Exception | None], answered: bool
    ) -> dict[str, Gone]:
        """Pictures whose server failed in this run and in enough before; counts this run."""
        counted = [
            file
            for file, why in found.items()
            if answered
            and isinstance(why, Unsteady)
            and not isinstance(why, Unreachable | _NotAsked)
        ]
        other = {file for file, why in found.items() if not isinstance(why, Unsteady)}

        def count(runs: dict[str, int]) -> dict[str, int]:
            kept = {file: number for file, number in runs.items() if file not in other}
            return kept | {file: runs.get(file, 0) + 1 for file in counted}

        runs = update_json(self.root / FAILED, count) if found else {}
        said = "its server failed in {} runs while others answered, {}"
        return {
            file: Gone(said.format(runs[file], found[file]), lasting=True)
            for file in counted
            if runs[file] >= _RUNS
        }

    def _fetch_all(self, files: Sequence[str]) -> list[Exception | None]:
        """Why each file did not come, or None, in the order of the files."""
        expected = max(MOST_OF_A_PICTURE, len(files) * TYPICAL_PICTURE)
        require_space(self.root, expected, f"{len(files)} pictures")
        in_a_row, lock = [], threading.Lock()

        def fetch(file: str) -> Exception | None:
            if len(in_a_row) >= _GIVEN_UP:
                return _NotAsked(str(in_a_row[-1]))
            try:
                result = self._fetch(file)
            except (Gone, Unsteady) as error:
                result = error
            with lock:
                if isinstance(result, Unsteady):
                    in_a_row.append(result)
                elif len(in_a_row) < _GIVEN_UP:
                    in_a_row.clear()
            return result

        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = pool.map(fetch, files)
            return list(progress(results, total=len(files), description="Fetching pictures"))

    def _fetch(self, file: str) -> None:
        """Fetch one picture from the first of its addresses that gives it."""
        failed: list[Exception] = []
        for address in self.addresses(file):
            try:
                return persist(lambda at=address: self._attempt(at, file), say=_LOG.debug)
            except (Gone, Unsteady) as error:
                failed.append(error)
        # Only if every address says so a picture is gone, and gone for good.
        unsteady = [error for error in failed if isinstance(error, Unsteady)]
        for_now = [error for error in failed if isinstance(error, Gone) and not error.lasting]
        raise [*unsteady, *for_now, *failed, Gone("no address")][0]

    def _attempt(self, address: str, file: str) -> None:
        with self._opened(address) as (response, pieces):
            size = int(response.headers.get("Content-Length", 0))
            came = 0
            with atomic(self.root / file) as temporary, open(temporary, "wb") as target:
                for piece in pieces:
                    came += len(piece)
                    if max(came, size) > MOST_OF_A_PICTURE:
                        raise Gone(f"more than {MOST_OF_A_PICTURE} bytes for one picture")
                    target.write(piece)
                if not came:
                    raise Gone("an empty file")

    @contextmanager
    def _opened(self, address: str) -> Iterator[tuple[requests.Response, Iterator[bytes]]]:
        """An answer with a picture, and its bytes; raises `Gone` for what came in its place."""
        with answer(self._session(), address, {}, "image/") as response:
            if any(word in response.url for word in self.placeholders):
                raise Gone(f"a placeholder came in its place, {response.url}", lasting=True)
            yield response, without_page(response.raw.stream(CHUNK, decode_content=True))

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        return self._local.session

    def _say(self, found: Mapping[str, Exception | None]) -> None:
        if not found:
            return
        why = Counter(str(reason).partition(",")[0] for reason in found.values() if reason)
        came = sum(reason is None for reason in found.values())
        told = ", ".join(f"{number} x {reason}" for reason, number in sorted(why.items()))
        _LOG.info("Pictures: %d came%s", came, f"; not: {told}" if told else "")
