"""The best neurons of many rows at once, while their scores arrive layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Top:
    """Best neurons of each row, best first: scores, places of their layers and units, `rows x k`.

    A layer's place counts from 0 in the order in which the layers were fed.
    """

    scores: torch.Tensor
    layers: torch.Tensor
    units: torch.Tensor

    def __getitem__(self, rows: torch.Tensor) -> Top:
        return Top(self.scores[rows], self.layers[rows], self.units[rows])

    @classmethod
    def join(cls, tops: list[Top]) -> Top:
        """Rows of several, one after the other."""
        fields = ("scores", "layers", "units")
        return cls(*(torch.cat([getattr(top, field) for top in tops]) for field in fields))


class RunningTop:
    """The `k` best neurons of each row, fed one layer after the other.

    Scores are compared in float32; ties go to the lower (layer, unit). Fewer than `k` are kept only
    where fewer were fed.
    """

    def __init__(self, k: int):
        self.k = k
        self._starts = [0]
        self._scores: torch.Tensor | None = None
        self._places: torch.Tensor | None = None

    def add(self, scores: torch.Tensor) -> None:
        """Feed the next layer, `rows x units`."""
        start, n_units = self._starts[-1], scores.shape[1]
        self._starts.append(start + n_units)
        scores = scores.float() + 0.0  # turns a negative zero into a tie with zero
        places = torch.arange(start, start + n_units, device=scores.device).expand_as(scores)
        if self._scores is not None:
            scores = torch.cat([self._scores, scores], dim=1)
            places = torch.cat([self._places, places], dim=1)
        # A stable sort keeps equal scores in the order in which they came.
        best, order = scores.sort(dim=1, descending=True, stable=True)
        self._scores = best[:, : self.k].clone()  # a view would keep the whole layer
        self._places = places.gather(1, order[:, : self.k])

    def result(self) -> Top:
        """The best of all layers fed. Raises ValueError for not-a-number, which has no rank."""
        if self._scores.isnan().any():
            raise ValueError("scores contain not-a-number")
        starts = torch.tensor(self._starts, device=self._places.device)
        layers = torch.bucketize(self._places, starts, right=True) - 1
        return Top(self._scores, layers, self._places - starts[layers])
