"""Pixels of annotated objects, from COCO's segmentations, decoded by pycocotools."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO


class ObjectMasks:
    """Masks of one file of COCO instances, which is read once."""

    def __init__(self, annotations: str | Path):
        with redirect_stdout(io.StringIO()):  # pycocotools reports its progress on stdout.
            self._coco = COCO(str(annotations))
        self._ids = {row["name"]: number for number, row in self._coco.cats.items()}

    def mask(self, image_id: int, group: str) -> np.ndarray:
        """All instances of the object on a picture together: booleans `height x width`.

        Raises KeyError for a picture or an object that the file does not have.
        """
        image, category = self._coco.imgs[image_id], self._ids[group]
        together = np.zeros((image["height"], image["width"]), dtype=bool)
        for annotation in self._coco.imgToAnns[image_id]:
            if annotation["category_id"] == category:
                together |= self._coco.annToMask(annotation).astype(bool)
        return together
