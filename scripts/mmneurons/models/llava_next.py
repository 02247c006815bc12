"""LLaVA-NeXT (Liu et al. 2024): LLaVA with the picture also cut into tiles at any resolution.

A checkpoint's directory holds what `LlavaNext.save` writes and transformers' `AutoProcessor` and
`LlavaNextForConditionalGeneration` read. The image tokens are those of the whole picture squeezed
to one tile, then those of the tiles row by row, without the padding that made the picture fit, a
learned newline after each row. So their number depends on the picture's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from PIL import Image
from torch import nn
from transformers import (
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
)
from transformers.image_processing_utils import select_best_resolution

from mmneurons.models.base import Box, Encoded, Module, overlap, stacked
from mmneurons.models.llava import Llava


@dataclass(frozen=True)
class Tiles:
    """Pictures cut into tiles.

    pixels: `batch x most tiles x 3 x side x side`, the squeezed whole first, zeros where a picture
    has fewer; sizes: `batch x 2`, height and width of each picture in its own pixels.
    """

    pixels: torch.Tensor
    sizes: torch.Tensor

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.pixels)

    def __getitem__(self, rows: list[int]) -> Tiles:
        """Return some of the pictures, one of them several times if asked."""
        return Tiles(self.pixels[rows], self.sizes[rows])

    def to(self, device: torch.device, dtype: torch.dtype) -> Tiles:
        """The same pictures elsewhere; sizes stay whole numbers."""
        return Tiles(self.pixels.to(device, dtype), self.sizes.to(device))

    def requires_grad_(self, required: bool = True) -> Tiles:
        """Ask for the gradient by the pixels, in place."""
        self.pixels.requires_grad_(required)
        return self


@dataclass(frozen=True)
class TileLayout:
    """What becomes of a picture of some size: `tiles` across and down, image tokens of the rest.

    rows, cols: the grid of tokens of all tiles together after the padding is taken away; base: rows
    (and columns) of one tile's tokens.
    """

    tiles: tuple[int, int]
    rows: int
    cols: int
    base: int

    @property
    def n_tiles(self) -> int:
        """Tiles that the vision tower reads, the squeezed whole among them."""
        return 1 + self.tiles[0] * self.tiles[1]

    @property
    def n_tokens(self) -> int:
        """Image tokens, newlines among them."""
        return self.base**2 + self.rows * (self.cols + 1)


class LlavaNext(Llava):
    """As many image tokens as the picture's size asks for, in the place of `<image>`."""

    family = "llava_next"
    network: LlavaNextForConditionalGeneration
    network_class = LlavaNextForConditionalGeneration
    image_processor_class = LlavaNextImageProcessorPil
    processor_class = LlavaNextProcessor

    def preprocess(self, pictures: Sequence[Image.Image]) -> Tiles:
        """As the directory's image processor says: the best of its resolutions, cut into tiles."""
        inputs = self.image_processor(images=list(pictures), return_tensors="pt")
        return Tiles(inputs.pixel_values, inputs.image_sizes)

    def embed_pixels(
        self, pixels: Tiles, prompt: str | Sequence[str] = ""
    ) -> torch.Tensor | list[torch.Tensor]:
        found = self.network.get_image_features(pixels.pixels, image_sizes=pixels.sizes)
        return stacked(found.pooler_output)

    def seen_box(self, size: tuple[int, int]) -> Box:
        """All of the picture: it is squeezed or padded, never cut."""
        return 0, 0, *size

    def picture_layer(self) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
        """The first norm of the last layer that image tokens come from, of the squeezed whole.

        Of one picture, since its tiles stand where those of other pictures would.
        """
        module, patches = super().picture_layer()
        return module, lambda output: patches(output[:1])

    def grid(self) -> None:
        """Image tokens are no single grid; `patch_weights` says where each of them looks."""
        return None

    def patch_grid(self) -> tuple[int, int]:
        """That of the squeezed whole."""
        side = self._side()
        return side, side

    def patch_weights(
        self, pictures: Sequence[Image.Image], prompt: str | Sequence[str] = ""
    ) -> torch.Tensor | list[torch.Tensor]:
        """How much of each patch of the squeezed whole a token covers.

        Tokens of the whole cover their own patch, those of tiles the patches that they overlap, by
        area; newlines none.
        """
        return stacked([self._cover(self.layout(picture.size)) for picture in pictures])

    def layout(self, size: tuple[int, int]) -> TileLayout:
        """Tiles and image tokens of a picture; size: (width, height) in pixels."""
        config = self.network.config
        pinpoints = tuple(map(tuple, config.image_grid_pinpoints))
        return tile_layout(size, pinpoints, config.vision_config.image_size, self._side())

    def n_image_tokens(self, size: tuple[int, int]) -> int:
        return self.layout(size).n_tokens

    def owners(
        self,
        module: Module,
        encoded: Encoded | None,
        sizes: Sequence[tuple[int, int]],
        prompts: Sequence[str],
    ) -> torch.Tensor:
        """The vision tower and the projector see tiles, several of each picture."""
        if module not in ("vision", "projector"):
            return super().owners(module, encoded, sizes, prompts)
        tiles = torch.tensor([self.layout(size).n_tiles for size in sizes], device=self.device)
        return torch.arange(len(sizes), device=self.device).repeat_interleave(tiles)

    def _side(self) -> int:
        vision = self.network.config.vision_config
        return vision.image_size // vision.patch_size

    def _cover(self, layout: TileLayout) -> torch.Tensor:
        down, across = (overlap(n, layout.base) for n in (layout.rows, layout.cols))
        cells = torch.einsum("rp,cq->rcpq", down, across).flatten(2)
        newline = cells.new_zeros(layout.rows, 1, layout.base**2)
        tiles = torch.cat([cells, newline], dim=1).flatten(0, 1)
        return torch.cat([torch.eye(layout.base**2), tiles]).to(self.device)


@lru_cache
def tile_layout(
    size: tuple[int, int], pinpoints: tuple[tuple[int, int], ...], tile: int, side: int
) -> TileLayout:
    """Tiles and image tokens of a picture of `size` (width, height), in pixels.

    pinpoints: the resolutions, (height, width) in pixels; tile: pixels of a tile's side; side:
    patches of it. As `unpad_image` of transformers: the padding is what the picture, scaled to fit,
    leaves free, rounded down on each side.
    """
    width, height = size
    down, across = (n // tile for n in select_best_resolution((height, width), pinpoints))
    rows, cols = down * side, across * side
    if width / height > cols / rows:
        rows -= (rows - int(round(height * cols / width, 7))) // 2 * 2
    else:
        cols -= (cols - int(round(width * rows / height, 7))) // 2 * 2
    return TileLayout((down, across), rows, cols, side)
