"""A neuron's written name: `language/L21.U3432`."""

from __future__ import annotations

import re
from typing import NamedTuple

_WRITTEN = re.compile(r"(?P<module>[a-z]+(?:\.[a-z]+)?)/L(?P<layer>[0-9]+)\.U(?P<unit>[0-9]+)")


class Neuron(NamedTuple):
    """Module, layer and unit; layers and units count from 0."""

    module: str
    layer: int
    unit: int

    def __str__(self) -> str:
        return f"{self.module}/L{self.layer}.U{self.unit}"

    @classmethod
    def parse(cls, text: str) -> Neuron:
        """Read a written name; ValueError says what one looks like."""
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise ValueError(f"not a neuron's name, such as 'language/L21.U3432': {text!r}")
        return cls(match["module"], int(match["layer"]), int(match["unit"]))
