"""Anybody's own pictures: every picture of a folder, whatever it is called.

With a file of annotations in COCO's format, `mmneurons.datasets.coco` chooses samples of objects
from the same folder.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path

import pandas as pd

from mmneurons.datasets.pictures import UndecodablePicture, read_picture
from mmneurons.datasets.sbu import PICTURE_COLUMNS, STAGE
from mmneurons.datasets.tables import EXCLUSION_COLUMNS, typed_table

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Of files that are taken for pictures, in any case of letters."""


def folder_pictures(
    root: str | Path, pictures: int, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose `pictures` pictures of a folder and the folders in it.

    They are tried in an order that hangs on the seed and each file's path only, so that a larger
    number appends, and a new file changes nothing of the order of the others. Hidden files and
    files with other endings than ENDINGS are no pictures. Opened are only those that are tried.

    Returns tables as `mmneurons.datasets.sbu.sbu_pictures`, with no captions. Reasons of exclusion:
    "undecodable-picture", "repeated-picture" (the same bytes as one before it) and
    "too-few-pictures". Raises ValueError for fewer than one picture, FileNotFoundError where there
    is no folder, or none of its files is a picture.
    """
    if pictures < 1:
        raise ValueError(f"pictures must be at least 1, not {pictures}")
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder of pictures {root}")
    files = picture_files(root)
    if not files:
        endings = ", ".join(sorted(ENDINGS))
        raise FileNotFoundError(f"no file in {root} is a picture by its ending ({endings})")
    files.sort(key=lambda file: _digest(f"{seed}/{file}"))
    rows: list[tuple[str, str, str, int]] = []
    exclusions, seen = [], {}
    for file in files:
        name = picture_id(file)
        try:
            read_picture(root / file)
        except UndecodablePicture as error:
            exclusions.append((STAGE, name, "", "undecodable-picture", f"{file}: {error.reason}"))
            continue
        with open(root / file, "rb") as stream:
            content = hashlib.file_digest(stream, "sha256").digest()
        if content in seen:
            detail = f"{file}: the same picture as {seen[content]}"
            exclusions.append((STAGE, name, "", "repeated-picture", detail))
            continue
        seen[content] = file
        rows.append((name, file, "", len(rows)))
        if len(rows) == pictures:
            break
    else:
        detail = f"wanted {pictures}, found {len(rows)} among {len(files)} files"
        exclusions.append((STAGE, "", "", "too-few-pictures", detail))
    return typed_table(rows, PICTURE_COLUMNS), typed_table(exclusions, EXCLUSION_COLUMNS)


def picture_files(root: Path) -> list[str]:
    """Paths below the root of all files that are pictures by their ending, sorted."""
    paths = (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in ENDINGS)
    visible = (p for p in paths if not any(part.startswith(".") for part in p.parts))
    return sorted(p.as_posix() for p in visible if (root / p).is_file())


def picture_id(file: str) -> str:
    """The written name of a picture: letters of its path, and digits that only this path has."""
    plain = unicodedata.normalize("NFKD", file.rpartition(".")[0]).encode("ascii", "ignore")
    words = re.sub(r"[^a-z0-9]+", "-", plain.decode().lower()).strip("-")[:40].strip("-")
    return f"{words or 'picture'}-{_digest(file)[:8]}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
