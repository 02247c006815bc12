"""What selection reads of a recording, whether it was reduced or full; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def selection_maxima(arrays: Mapping[str, np.ndarray], site: str) -> tuple[np.ndarray, np.ndarray]:
    """Activation difference and gradient x activation, `n x L x U`, maxima over image tokens.

    A full recording gives the same numbers bit for bit: a difference, a product and a maximum of
    float32 values round alike wherever they are computed.
    """
    if f"{site}/difference" in arrays:
        return arrays[f"{site}/difference"], arrays[f"{site}/gradact"]
    original = arrays[f"{site}/original"]
    difference = (original - arrays[f"{site}/inpainted"]).max(axis=-2)
    return difference, (original * arrays[f"{site}/gradient"]).max(axis=-2)
