"""Reading a picture file into plain RGB pixels, or saying why that cannot be done."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps


class UndecodablePicture(Exception):
    """A picture file that cannot be decoded completely; `path` and `reason` say which and why."""

    def __init__(self, path: str | Path, reason: str) -> None:
        """Keep `path` (as a string) and `reason` (one line of text)."""
        super().__init__(str(path), reason)
        self.path = str(path)
        self.reason = reason

    def __str__(self) -> str:
        """Return "path: reason"."""
        return f"{self.path}: {self.reason}"


def read_picture(path: str | Path) -> Image.Image:
    """Return the whole picture at `path` as RGB pixels without metadata.

    The EXIF orientation is applied, transparency is laid on white, of an animation the first frame
    is taken, 16-bit gray is reduced to its upper 8 bits. Raises UndecodablePicture for everything
    that does not decode to the last row: a missing or empty file, no picture at all, a truncated
    picture, one with more pixels than PIL.Image.MAX_IMAGE_PIXELS, a mode that has no 8-bit range.
    """
    path = Path(path)
    if not path.is_file():
        raise UndecodablePicture(path, "no such file")
    if path.stat().st_size == 0:
        raise UndecodablePicture(path, "empty file")
    # This process-wide switch makes Pillow fill the missing rest of a file with gray.
    load_truncated, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return _plain_rgb(image)
    except Exception as error:  # On broken bytes Pillow's readers raise errors of any kind.
        raise UndecodablePicture(path, _one_line(error)) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = load_truncated


def read_question_picture(root: str | Path, files: Sequence[str]) -> Image.Image:
    """Return what a model is shown with a question: its picture, or its frames in a row.

    files: paths below `root`, frames in their order. Raises UndecodablePicture as `read_picture`.
    """
    return side_by_side([read_picture(Path(root) / file) for file in files])


def side_by_side(frames: Sequence[Image.Image]) -> Image.Image:
    """Return the frames in one row, as Huo et al. 2024 show a drive to models with one picture.

    Frames of another height are scaled to that of the first one. One frame is returned as it is.
    """
    if len(frames) == 1:
        return frames[0]
    height = frames[0].height
    widths = [max(1, round(frame.width * height / frame.height)) for frame in frames]
    strip = Image.new("RGB", (sum(widths), height))
    left = 0
    for frame, width in zip(frames, widths, strict=True):
        if frame.size != (width, height):
            frame = frame.resize((width, height), Image.Resampling.BICUBIC)
        strip.paste(frame, (left, 0))
        left += width
    return strip


def _plain_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no 8-bit range")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 and would turn almost every pixel white.
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    plain = upright.convert("RGB")
    plain.info = {}
    return plain


def _one_line(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture in a known format"
    return " ".join(str(error).split()) or type(error).__name__


def original_id(image_id: int) -> str:
    """Return how captions call an original picture; its inpainted versions go by sample."""
    return f"{image_id:012d}"
