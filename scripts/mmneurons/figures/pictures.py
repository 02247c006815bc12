"""Pictures in figures: boxes around objects, and heatmaps of image tokens laid over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle

from mmneurons.figures.style import FAINT, SMALL

OVERLAY = 0.55
"""How much of the heatmap's colour covers the picture."""


def heatmap(mean_activation: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale values of image tokens up to a picture (Sato & Takagi 2025, section II-E).

    mean_activation: `rows x columns` of the patch grid, for MiniGPT-4 16 x 4. size: (height, width)
    in pixels of what the model sees of the picture, whatever its shape: the grid covers all of it,
    squeezed into the model's square. Returns `height x width`, bilinear between the centres of the
    patches and constant beyond the outermost ones.
    """
    values = np.asarray(mean_activation, dtype=np.float64)
    height, width = size
    if values.ndim != 2 or not values.size or height < 1 or width < 1:
        raise ValueError(f"cannot scale an array of shape {values.shape} to {height} x {width}")
    return cv2.resize(values, (int(width), int(height)), interpolation=cv2.INTER_LINEAR)


def value_range(arrays: Iterable[np.ndarray]) -> Normalize:
    """Return one colour scale for several arrays, from their smallest to their largest value."""
    together = np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])
    low, high = float(together.min()), float(together.max())
    # A colour scale needs some length, also where all values are the same.
    return Normalize(low, high if high > low else low + max(abs(low), 1.0) * 1e-3)


def fitted(size: tuple[int, int], width: float, height: float) -> tuple[float, float]:
    """Return the largest (width, height) of a picture of `size` (height, width) inside a cell."""
    scale = min(width / size[1], height / size[0])
    return size[1] * scale, size[0] * scale


def show_picture(axes: Axes, picture: np.ndarray) -> None:
    """Show a picture (`height x width x 3`, 0 to 255), its pixels' edges at whole numbers."""
    height, width = picture.shape[:2]
    axes.imshow(picture, extent=(0, width, height, 0), aspect="auto")
    _frame(axes)


def show_boxes(axes: Axes, boxes: Iterable[Sequence[float]], colour: str) -> None:
    """Outline boxes (x, y, width, height, in pixels), visible on bright and on dark ground."""
    for x, y, width, height in boxes:
        for line, ink in ((3.2, "black"), (1.6, colour)):
            axes.add_patch(
                Rectangle((x, y), width, height, fill=False, edgecolor=ink, linewidth=line)
            )


def show_overlay(
    axes: Axes, picture: np.ndarray, values: np.ndarray, norm: Normalize, colormap: Colormap
) -> None:
    """Lay a heatmap of `rows x columns` values over the picture, which turns gray under it."""
    height, width = picture.shape[:2]
    extent = (0, width, height, 0)
    gray = np.asarray(picture, dtype=np.float64) @ (0.299, 0.587, 0.114)
    # Bright, so that the blended colours stay near those of the colour bar, which lies on white.
    axes.imshow(gray, cmap="gray", vmin=-255, vmax=255, extent=extent, aspect="auto")
    axes.imshow(
        heatmap(values, (height, width)),
        cmap=colormap,
        norm=norm,
        alpha=OVERLAY,
        extent=extent,
        aspect="auto",
    )
    _frame(axes)


def show_masked_overlay(
    axes: Axes, picture: np.ndarray, values: np.ndarray, colormap: Colormap, share: float = 95
) -> None:
    """Lay a heatmap over the gray picture where it is above a percentile of its scaled values.

    Its colours are those from that percentile to the highest value.
    """
    height, width = picture.shape[:2]
    extent = (0, width, height, 0)
    scaled = heatmap(values, (height, width))
    gray = np.asarray(picture, dtype=np.float64) @ (0.299, 0.587, 0.114)
    axes.imshow(gray, cmap="gray", vmin=-255, vmax=255, extent=extent, aspect="auto")
    above = scaled > (low := np.percentile(scaled, share))
    shown = colormap(value_range([np.append(scaled[above], low)])(scaled))
    shown[..., 3] = np.where(above, 1.0, 0.0)
    axes.imshow(shown, extent=extent, aspect="auto", interpolation="nearest")
    _frame(axes)


def show_colour_bar(
    axes: Axes, norm: Normalize, colormap: Colormap, label: str, opacity: float = OVERLAY
) -> None:
    """Fill the axes with a colour scale, as opaque as an overlay unless told."""
    bar = axes.figure.colorbar(ScalarMappable(norm, colormap), cax=axes, alpha=opacity)
    bar.set_label(label, size=SMALL)
    bar.ax.tick_params(labelsize=SMALL, length=2, pad=2)
    bar.ax.locator_params(nbins=5)
    bar.outline.set_edgecolor(FAINT)


def _frame(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=FAINT, linewidth=0.6)
