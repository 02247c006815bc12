"""Taking wanted members out of zip and tar archives, and nothing that leaves the folder.

An archive is read once and in its order, so a stream from a server will do for a tar. What is
refused is refused before anything of a zip, and before that member of a tar, is written.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from mmneurons.artifacts.files import atomic
from mmneurons.console import progress
from mmneurons.downloads.errors import DownloadError
from mmneurons.downloads.space import in_words, require_space

Wanted = Callable[[str], str | None]
"""From a member's name to its place below the folder, or None where it is not wanted."""


MOST_OF_A_PICTURE = 100_000_000
"""Bytes of one picture, at most."""


_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
    NotImplementedError,  # an unknown way of packing, such as a wrong byte looks like
)
"""What the standard library raises for an archive that it cannot read."""


class ArchiveError(DownloadError):
    """An archive that is broken, or would do harm; the message says which member and why."""


def unpack(
    archive: str | Path | IO[bytes],
    folder: str | Path,
    wanted: Wanted = lambda name: name,
    most_bytes: int | None = None,
    count: int | None = None,
) -> list[Path]:
    """Write the wanted members of a zip (also zip64) or tar, and return where they are.

    archive: a path, or a file object, which a zip needs to be seekable; a tar may be compressed.
    most_bytes: what all of them together may have when unpacked; a member that has more than the
    archive says is refused too. count: stop reading after so many members.

    A file that is there is left alone. Raises `ArchiveError` for an absolute name or one with
    `..` that leads out of the folder, for links that do, for devices, for too many bytes, for a
    broken archive. Such members are refused also where they are not wanted: an archive that has
    one is not what it was taken for.
    """
    name = str(getattr(archive, "name", archive))
    try:
        if _is_zip(archive):
            return _unpack_zip(archive, Path(folder), wanted, most_bytes, count, name)
        return _unpack_tar(archive, Path(folder), wanted, most_bytes, count, name)
    except _BROKEN as error:
        raise ArchiveError(f"{name} is broken: {error}") from error


def bring_members(
    stream: BinaryIO, root: Path, files: Sequence[str], archive: str, agree: int = 1
) -> dict[str, str]:
    """Write members of a zip as `files` below `root`; returns why those that are none are none.

    A member is that of a file if at least `agree` last parts of their paths are the same; of
    several it is the one with the longest common end.
    """
    try:
        with zipfile.ZipFile(stream) as zipped:
            wanted = {PurePosixPath(file).name for file in files}
            named: dict[str, list[zipfile.ZipInfo]] = defaultdict(list)
            for member in zipped.infolist():
                name = PurePosixPath(member.filename).name
                if name in wanted and not member.is_dir():
                    named[name].append(member)
            found = {f: _nearest(f, named[PurePosixPath(f).name], agree) for f in files}
            chosen = [(member, file) for file, member in found.items() if member]
            total = sum(member.file_size for member, _ in chosen)
            require_space(root, total, archive)
            chosen.sort(key=lambda pair: pair[0].header_offset)
            for member, file in progress(chosen, description=f"Members of {archive}"):
                if member.file_size > MOST_OF_A_PICTURE:
                    raise ArchiveError(f"{archive}: {file} is no picture by its size; refused")
                with zipped.open(member) as source:
                    _write(source, root / file)
    except _BROKEN as error:
        raise ArchiveError(f"{archive} is broken: {error}") from error
    return {file: f"no member of {archive}" for file, member in found.items() if not member}


def _nearest(file: str, members: Sequence[zipfile.ZipInfo], agree: int) -> zipfile.ZipInfo | None:
    parts = PurePosixPath(file).parts[::-1]

    def common(member: zipfile.ZipInfo) -> int:
        theirs = PurePosixPath(member.filename).parts[::-1]
        same = [ours == other for ours, other in zip(parts, theirs, strict=False)]
        return (same + [False]).index(False)

    found = max(members, key=common, default=None)
    return found if found is not None and common(found) >= agree else None


def inside(folder: Path, name: str, archive: str) -> Path:
    """The place of a member below the folder; raises `ArchiveError` where it would be outside.

    By the name alone: a folder that its owner made a link to another disk is no way out, and
    nothing here ever writes a link.
    """
    # A backslash parts names on other systems; as a name it would only mislead here.
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if name.startswith(("/", "\\")) or ".." in parts or not parts:
        raise ArchiveError(f"{archive} has a member that leaves the folder: {name!r}; refused")
    return folder.joinpath(*parts)


def missing_files(root: Path, files: Iterable[str]) -> list[str]:
    """Those of `files` that are not below `root`, each once; raises `ArchiveError` for one outside.

    Names of pictures come out of published tables, and are no more to be trusted than members are.
    """
    places = {file: inside(root, file, "a table of the dataset") for file in files}
    return [file for file, place in places.items() if not place.exists()]


def _is_zip(archive: str | Path | IO[bytes]) -> bool:
    """By the first bytes, so that of a file on a server not the end is asked for."""
    if isinstance(archive, str | Path):
        with open(archive, "rb") as file:
            return file.read(2) == b"PK"
    if not archive.seekable():
        return False
    start = archive.read(2)
    archive.seek(0)
    return start == b"PK"


def _unpack_zip(
    archive: str | Path | IO[bytes],
    folder: Path,
    wanted: Wanted,
    most: int | None,
    count: int | None,
    name: str,
) -> list[Path]:
    with zipfile.ZipFile(archive) as file:
        chosen: list[tuple[zipfile.ZipInfo, Path]] = []
        for member in file.infolist():
            if member.filename.strip("./"):
                inside(folder, member.filename, name)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise ArchiveError(f"{name} has a link: {member.filename!r}; refused")
            place = None if member.is_dir() else wanted(member.filename)
            if place is not None and (count is None or len(chosen) < count):
                chosen.append((member, inside(folder, place, name)))
        total = sum(member.file_size for member, _ in chosen)
        _check_total(total, most, name)
        require_space(folder, total - sum(_size(path) for _, path in chosen), name)
        for member, path in chosen:
            if path.exists():
                continue
            # zipfile reads no more than the directory says, and compares the sum of what it read.
            with file.open(member) as source:
                _write(source, path)
    return [path for _, path in chosen]


def _unpack_tar(
    archive: str | Path | IO[bytes],
    folder: Path,
    wanted: Wanted,
    most: int | None,
    count: int | None,
    name: str,
) -> list[Path]:
    opened = {"name": archive} if isinstance(archive, str | Path) else {"fileobj": archive}
    written, total = [], 0
    with tarfile.open(mode="r|*", **opened) as file:
        for member in file:
            check_member(member, name)
            place = wanted(member.name) if member.isreg() else None
            if place is None:
                continue
            path = inside(folder, place, name)
            total += member.size
            _check_total(total, most, name)
            if not path.exists():
                require_space(folder, member.size, name)
                with file.extractfile(member) as source:
                    _write(source, path)
            written.append(path)
            if len(written) == count:
                break
    return written


def check_member(member: tarfile.TarInfo, archive: str) -> None:
    """Raise `ArchiveError` unless the member of a tar is harmless.

    By the standard library's filter for data: no place or link outside, no device, no absolute
    link.
    """
    try:
        # A folder that does not exist, so that only names count; see `inside`.
        tarfile.data_filter(member, "/archive-to-be")
    except tarfile.FilterError as error:
        raise ArchiveError(f"{archive} has a harmful member: {error}; refused") from error
    if not member.isdir():
        inside(Path(), member.name, archive)


def _write(source: IO[bytes], path: Path) -> None:
    """A member's content, which appears at its place when it is whole."""
    with atomic(path) as temporary, open(temporary, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _check_total(total: int, most: int | None, archive: str) -> None:
    if most is not None and total > most:
        raise ArchiveError(
            f"{archive} unpacks to {in_words(total)} or more, where {in_words(most)} are "
            "announced; refused"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
