"""Pixels of annotated objects, from COCO's segmentations, decoded by pycocotools."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmneurons.datasets.coco import read_annotations


class ObjectMasks:
    """Masks of one file of COCO instances, which is read once."""

    def __init__(self, annotations: str | Path):
        self._coco = read_annotations(Path(annotations))
        self._ids = {row["name"]: number for number, row in self._coco.cats.items()}

    def mask(self, image_id: int, group: str | None = None) -> np.ndarray:
        """All instances on a picture together, or those of one object: booleans `height x width`.

        Raises KeyError for a picture or an object that the file does not have.
        """
        image = self._coco.imgs[image_id]
        category = None if group is None else self._ids[group]
        together = np.zeros((image["height"], image["width"]), dtype=bool)
        for annotation in self._coco.imgToAnns[image_id]:
            if category in (None, annotation["category_id"]):
                together |= self._coco.annToMask(annotation).astype(bool)
        return together
