"""Pictures out of a tar on a server, which is read as a stream and only as far as it has to be."""

from __future__ import annotations

import json
import logging
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mmneurons.artifacts.files import atomic
from mmneurons.console import progress
from mmneurons.downloads.archives import (
    MOST_OF_A_PICTURE,
    ArchiveError,
    check_member,
    missing_files,
)
from mmneurons.downloads.errors import DownloadError, Gone, Unsteady
from mmneurons.downloads.http import Remote, by_hand
from mmneurons.downloads.names import address_name
from mmneurons.downloads.ranges import RangedFile
from mmneurons.downloads.space import require_space

_LOG = logging.getLogger(__name__)
TYPICAL_MEMBER = 1_000_000
"""Bytes, with room to spare: 512 x 512 pixels of three bytes, as RSVQA-HR has them."""
_BLOCK = 512


class FromTar:
    """Members of an uncompressed tar, by the last two parts of their names.

    Where members lie is noted in `{archive}.index` beside the pictures while the archive is read.
    So what was read once is never read again: a later call reads known members by their places,
    and goes on behind the last one for others.

    The archive is never here whole, so its checksum cannot be compared with its bytes. published:
    gives the checksum that the source publishes today, by the archive's name, or None; another
    one than `remote` has is an error before anything is read.
    """

    def __init__(
        self,
        root: str | Path,
        remote: Remote,
        published: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        self.root, self.remote, self.published = Path(root), remote, published
        self.name = address_name(remote.url)
        self.index = self.root / f"{self.name}.index"
        self._known = remote.checksum is None

    def bring(self, files: Sequence[str]) -> dict[str, str]:
        """See `mmneurons.downloads.pictures.Pictures`."""
        missing = missing_files(self.root, files)
        if not missing:
            return {}
        self._require_known()
        failed = []
        for address in self.remote.addresses:
            try:
                with RangedFile(address) as stream:
                    return self._bring(stream, missing)
            except (Gone, Unsteady) as error:
                failed.append(f"{address}: {error}")
                _LOG.warning("%s", failed[-1])
        raise DownloadError(by_hand(self.root, failed, self.remote.page))

    def _require_known(self) -> None:
        """Raise `DownloadError` where the source says itself that it has another archive now."""
        if self._known:
            return
        now = self.published(self.name)
        if now not in (None, self.remote.checksum):
            failed = [f"{self.remote.url}: {now}, where {self.remote.checksum} was published"]
            raise DownloadError(by_hand(self.root, failed, self.remote.page))
        self._known = True

    def _bring(self, stream: RangedFile, missing: Sequence[str]) -> dict[str, str]:
        facts = stream.facts
        if self.remote.bytes not in (None, facts["length"]):
            raise Gone(f"{facts['length']} bytes, where {self.remote.bytes} are published")
        index = _Index(self.index, facts)
        expected = max(MOST_OF_A_PICTURE, len(missing) * TYPICAL_MEMBER)
        require_space(self.root, expected, f"{len(missing)} pictures of {self.index.stem}")
        known = sorted((index.places[f], f) for f in missing if f in index.places)
        for (start, size), file in progress(known, description="Known members") if known else ():
            self._write(file, self._checked(file, size), stream.part(start, size))
        sought = set(missing) - {file for _, file in known}
        with index:
            for start, size, file in self._further(stream, index, sought):
                if file in sought:
                    stream.seek(start)
                    self._write(file, self._checked(file, size), _read(stream, size))
                    sought.remove(file)
                if not sought:
                    break
        return {file: f"no member of {self.index.stem}" for file in missing if file in sought}

    def _further(
        self, stream: RangedFile, index: _Index, sought: set[str]
    ) -> Iterable[tuple[int, int, str]]:
        """Place, size and file of the members behind the last one known."""
        if not sought or index.complete:
            return
        stream.seek(index.end)
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in progress(tar, description="Members read"):
                    check_member(member, self.remote.url)
                    end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                    if member.isreg():
                        file = "/".join(PurePosixPath(member.name).parts[-2:])
                        yield member.offset_data, member.size, file
                        index.add(end, member.offset_data, member.size, file)
                    tar.members.clear()  # one for each of many pictures would pile up
        except tarfile.TarError as error:
            raise ArchiveError(
                f"{self.remote.url} is no tar as it was published: {error}"
            ) from error
        index.finish()

    def _checked(self, file: str, size: int) -> int:
        if size > MOST_OF_A_PICTURE:
            raise ArchiveError(f"{self.remote.url}: {file} has {size} bytes, no picture; refused")
        return size

    def _write(self, file: str, size: int, content: bytes) -> None:
        if len(content) != size:
            raise ArchiveError(f"{self.remote.url} ends within {file}")
        with atomic(self.root / file) as temporary:
            temporary.write_bytes(content)


def _read(stream: RangedFile, size: int) -> bytes:
    """So many bytes from the place of reading, or all there are."""
    content = b""
    while len(content) < size and (data := stream.read(size - len(content))):
        content += data
    return content


class _Index:
    """Which members lie where; lines are added as they are found, so a kill loses one at most."""

    def __init__(self, path: Path, facts: Mapping[str, object]) -> None:
        self.path, self.places, self.end, self.complete = path, {}, 0, False
        first = json.dumps(facts, sort_keys=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        lines = text.splitlines(keepends=True)
        if not lines or lines[0] != first + "\n":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(first + "\n", encoding="utf-8")
            return
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):
            path.write_text("".join(whole), encoding="utf-8")
        for line in whole[1:]:
            end, start, size, file = line.rstrip("\n").split("\t")
            self.end = int(end)
            self.complete = file == ""
            if file:
                self.places[file] = int(start), int(size)

    def __enter__(self) -> _Index:
        self._file = open(self.path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def add(self, end: int, start: int, size: int, file: str) -> None:
        self.places[file], self.end = (start, size), end
        self._file.write(f"{end}\t{start}\t{size}\t{file}\n")

    def finish(self) -> None:
        self.complete = True
        self._file.write(f"{self.end}\t0\t0\t\n")
