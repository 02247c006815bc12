"""CLIPScore of texts and pictures by a CLIP of transformers from a local directory.

CLIPScore is 100 times the cosine of the embeddings of text and picture, and at least 0, as
torchmetrics defines it. Every picture and every text is embedded once, however many pairs it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor


class ClipScorer:
    """A CLIP, and the pictures that texts are compared with.

    folder: as transformers' `save_pretrained` writes it, with the processor; pictures: RGB.
    """

    def __init__(self, folder: str | Path, pictures: Sequence[Image.Image], batch_size: int = 64):
        self._model = CLIPModel.from_pretrained(folder).eval()
        self._processor = CLIPProcessor.from_pretrained(folder)
        self._batch_size = batch_size
        self._pictures = self._embed(list(pictures), self._of_pictures)
        self._texts: dict[str, np.ndarray] = {}

    def scores(self, rows: Sequence[int], texts: Sequence[str]) -> np.ndarray:
        """CLIPScore of each pair of a picture, by its place, and a text; an empty text scores 0.

        Of a text that is too long for the model the beginning counts.
        """
        new = [t for t in dict.fromkeys(texts) if t.strip() and t not in self._texts]
        self._texts |= dict(zip(new, self._embed(new, self._of_texts), strict=True))
        nothing = np.zeros(self._model.config.projection_dim, dtype=np.float32)
        told = np.array([self._texts.get(text, nothing) for text in texts])
        if not len(told):
            return np.zeros(0)
        cosines = (self._pictures[list(rows)].astype(np.float64) * told).sum(axis=1)
        return np.maximum(100 * cosines, 0)

    @torch.no_grad()
    def _embed(self, items: list, embed) -> np.ndarray:
        """Vectors of length 1, `items x projection`; the items that share a batch do not matter."""
        if not items:
            return np.zeros((0, self._model.config.projection_dim), dtype=np.float32)
        starts = range(0, len(items), self._batch_size)
        parts = [embed(items[start : start + self._batch_size]) for start in starts]
        return torch.nn.functional.normalize(torch.cat(parts), dim=-1).numpy()

    def _of_pictures(self, pictures: list[Image.Image]) -> torch.Tensor:
        inputs = self._processor(images=pictures, return_tensors="pt")
        return self._model.get_image_features(**inputs).pooler_output

    def _of_texts(self, texts: list[str]) -> torch.Tensor:
        longest = self._model.config.text_config.max_position_embeddings
        inputs = self._processor(
            text=texts, padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return self._model.get_text_features(**inputs).pooler_output
