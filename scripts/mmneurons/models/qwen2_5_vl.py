"""Qwen2.5-VL (Bai et al. 2025): ViT with windowed attention, merger, Qwen2.5 decoder with M-RoPE.

A checkpoint's directory holds what `Qwen25VL.save` writes and transformers'
`Qwen2_5_VLForConditionalGeneration` reads: the weights and `config.json`, the tokenizer, to which
`<|image_pad|>` is one token with the id `image_token_id`, and `preprocessor_config.json`. A picture
is scaled to whole cells of 28 x 28 pixels between the least and most pixels of these settings, its
shape kept. Each cell is an image token, so their number depends on the picture's size.

This file is the example of docs/adding_a_model.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2ForCausalLM,
    Qwen2VLImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.vision_utils import get_vision_window_index

from mmneurons.models.base import (
    Encoded,
    FfnSite,
    ModelCheckError,
    Module,
    MultimodalModel,
    byte_level_texts,
    check_weights,
    overlap,
    stacked,
)

IMAGE_PLACE = "<|image_pad|>"
MAP_GRID = (16, 16)
"""Rows and columns of maps, whatever the picture's size: image tokens are spread over them."""


@dataclass(frozen=True)
class Patches:
    """Pictures cut into patches, one picture after the other.

    pixels: `patches of all pictures x values`; grids: `batch x 3`, frames (1) and rows and columns
    of patches of each picture.
    """

    pixels: torch.Tensor
    grids: torch.Tensor

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.grids)

    def __getitem__(self, rows: list[int]) -> Patches:
        """Return some of the pictures, one of them several times if asked."""
        parts = self.pixels.split(self.grids.prod(dim=1).tolist())
        return Patches(torch.cat([parts[row] for row in rows]), self.grids[rows])

    def to(self, device: torch.device, dtype: torch.dtype) -> Patches:
        """The same pictures elsewhere; grids stay whole numbers."""
        return Patches(self.pixels.to(device, dtype), self.grids.to(device))

    def requires_grad_(self, required: bool = True) -> Patches:
        """Ask for the gradient by the pixels, in place."""
        self.pixels.requires_grad_(required)
        return self


class Qwen25VL(MultimodalModel):
    """As many image tokens as the picture's size asks for, in the place of `<|image_pad|>`.

    The decoder counts the positions of image tokens in three dimensions (time, row, column), so
    each image token carries the grid of its picture, in two more columns than its embedding has.
    """

    family = "qwen2_5_vl"
    kept_precise = ("visual", "lm_head")
    token_columns = 2
    network: Qwen2_5_VLForConditionalGeneration

    def __init__(
        self,
        network: Qwen2_5_VLForConditionalGeneration,
        tokenizer,
        image_processor: Qwen2VLImageProcessorPil,
        device: str | torch.device,
    ):
        super().__init__(network, tokenizer, device)
        self.image_processor = image_processor
        self._decoder = _decoder_of(self.network)
        self._grid: tuple[int, int] | None = None  # rows and columns of the latest picture's tokens

    @classmethod
    def load(
        cls, path: Path, device: str | torch.device, dtype: torch.dtype, **placement
    ) -> Qwen25VL:
        """Load what `save` wrote, or a checkpoint made for transformers.

        Raises ModelCheckError where the directory lacks weights.
        """
        network, loading = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            path, dtype=dtype, output_loading_info=True, **placement
        )
        check_weights(loading, path, cls.family)
        processor = Qwen2VLImageProcessorPil.from_pretrained(path)
        return cls(network, AutoTokenizer.from_pretrained(path), processor, device)

    def save(self, folder: Path) -> None:
        """Write the directory that `load` and transformers' own class read."""
        self.network.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)

    @property
    def decoder(self) -> nn.Module:
        return self._decoder

    def preprocess(self, pictures: Sequence[Image.Image]) -> Patches:
        """As the directory's image processor says: scaled to whole cells, CLIP's mean."""
        inputs = self.image_processor(images=list(pictures), return_tensors="pt")
        return Patches(inputs.pixel_values, inputs.image_grid_thw)

    def embed_pixels(
        self, pixels: Patches, prompt: str | Sequence[str] = ""
    ) -> torch.Tensor | list[torch.Tensor]:
        """Image tokens and the rows and columns of their picture's grid, `tokens x (hidden + 2)`.

        Raises ValueError for a grid that the weights' number format cannot hold exactly.
        """
        found = self.network.get_image_features(pixels.pixels, image_grid_thw=pixels.grids)
        sides = pixels.grids[:, 1:] // self._merge
        if not torch.equal(sides.to(self.dtype).long(), sides):
            raise ValueError(f"{self.family}: a grid of {sides.tolist()} tokens in {self.dtype}")
        self._grid = tuple(sides[-1].tolist())
        return stacked(
            [
                torch.cat([tokens, side.to(tokens).expand(len(tokens), -1)], dim=1)
                for tokens, side in zip(found.pooler_output, sides, strict=True)
            ]
        )

    def picture_layer(self) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
        """The first norm of the last vision block, of one picture.

        The blocks see patches window by window, and in a window cell by cell.
        """

        def patches(output: torch.Tensor) -> torch.Tensor:
            (rows, columns), merge = self._grid, self._merge
            grid = torch.tensor([[1, rows * merge, columns * merge]])
            vision = self.network.config.vision_config
            order, _ = get_vision_window_index(grid, merge, vision.window_size, vision.patch_size)
            cells = output.unflatten(0, (-1, merge, merge))[order.argsort()]
            cells = cells.unflatten(0, (rows, columns))  # rows, columns, in the cell, channels
            return cells.permute(4, 0, 2, 1, 3).flatten(3, 4).flatten(1, 2)[None]

        return self.network.model.visual.blocks[-1].norm1, patches

    def segments(self, prompt: str) -> tuple[list[int], list[int]]:
        """The prompt is tokenized in one piece, without BOS, as by transformers' processor."""
        ids = self.tokenizer(prompt, add_special_tokens=False).input_ids
        place = self.network.config.image_token_id
        if ids.count(place) != 1 or ids[-1] == place:
            raise ValueError(
                f"a prompt of {self.family} has {IMAGE_PLACE} exactly once, and text behind it: "
                f"{prompt!r}"
            )
        cut = ids.index(place)
        return ids[:cut], ids[cut + 1 :]

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        return byte_level_texts(self.tokenizer, tokens)

    def grid(self) -> None:
        """The grid is each picture's own; `patch_weights` spreads it over a common one."""
        return None

    def patch_grid(self) -> tuple[int, int]:
        return MAP_GRID

    def patch_weights(
        self, pictures: Sequence[Image.Image], prompt: str | Sequence[str] = ""
    ) -> torch.Tensor | list[torch.Tensor]:
        """How much of each cell of the map an image token covers, by area."""
        return stacked([self._cover(*self.layout(picture.size)) for picture in pictures])

    def layout(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of a picture's image tokens; size: (width, height) in pixels."""
        processor, (width, height) = self.image_processor, size
        cell = processor.patch_size * processor.merge_size
        least, most = processor.size["shortest_edge"], processor.size["longest_edge"]
        scaled = smart_resize(height, width, cell, min_pixels=least, max_pixels=most)
        return scaled[0] // cell, scaled[1] // cell

    def n_image_tokens(self, size: tuple[int, int]) -> int:
        rows, columns = self.layout(size)
        return rows * columns

    def decoder_inputs(self, encoded: Encoded) -> dict[str, torch.Tensor]:
        """Positions in time, row and column, `3 x batch x tokens`.

        Text counts on in all three from the largest position before it; an image token has the
        position of the first one, and its row and column added to two of the three.
        """
        positions = encoded.position_ids.expand(3, -1, -1).clone()
        for row, mask in enumerate(encoded.image_mask):
            places = mask.nonzero()[:, 0]
            rows, columns = encoded.columns[row, places[0]].long().tolist()
            start, step = positions[0, row, places[0]].clone(), torch.arange(len(places)).to(places)
            positions[:, row, places] = start
            positions[1, row, places] += step // columns
            positions[2, row, places] += step % columns
            positions[:, row, places[-1] + 1 :] -= len(places) - max(rows, columns)
        return {"position_ids": positions}

    def sites(self, module: Module = "language") -> list[FfnSite]:
        """Vision and merger see the patches or cells of all pictures as one row."""
        visual = self.network.model.visual
        if module == "language":
            layers = self.decoder.model.layers
        elif module == "vision":
            layers = visual.blocks
        elif module == "projector":
            _, activation, output = visual.merger.mlp
            return [FfnSite(module, 0, activation, output)]
        else:
            return []
        return [FfnSite.gated(module, i, layer.mlp) for i, layer in enumerate(layers)]

    def owners(
        self,
        module: Module,
        encoded: Encoded | None,
        sizes: Sequence[tuple[int, int]],
        prompts: Sequence[str],
    ) -> torch.Tensor:
        """Of the vision tower and the merger: the picture of each patch or cell."""
        if module not in ("vision", "projector"):
            return super().owners(module, encoded, sizes, prompts)
        each = self._merge**2 if module == "vision" else 1
        numbers = torch.tensor([each * self.n_image_tokens(size) for size in sizes])
        return torch.arange(len(sizes)).repeat_interleave(numbers).to(self.device)

    @torch.no_grad()
    def check(self, expected_units: dict[str, int] | None = None) -> None:
        """Also that `<|image_pad|>` is the token that the configuration calls so."""
        token = self.tokenizer.convert_tokens_to_ids(IMAGE_PLACE)
        if token != self.network.config.image_token_id:
            raise ModelCheckError(
                f"{self.family}: {IMAGE_PLACE} is token {token} of the tokenizer, "
                f"image_token_id is {self.network.config.image_token_id}"
            )
        vision, processor = self.network.config.vision_config, self.image_processor
        cut = processor.patch_size, processor.merge_size, processor.temporal_patch_size
        if cut != (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size):
            raise ModelCheckError(
                f"{self.family}: the image processor cuts pictures otherwise than the network reads"
            )
        super().check(expected_units)

    @property
    def _merge(self) -> int:
        """Patches along a side of a cell."""
        return self.network.config.vision_config.spatial_merge_size

    def _cover(self, rows: int, columns: int) -> torch.Tensor:
        down, across = overlap(rows, MAP_GRID[0]), overlap(columns, MAP_GRID[1])
        return torch.einsum("rp,cq->rcpq", down, across).flatten(2).flatten(0, 1).to(self.device)


def _decoder_of(network: Qwen2_5_VLForConditionalGeneration) -> Qwen2ForCausalLM:
    """The language model and its head as one causal model that holds the same weights."""
    with torch.device("meta"):
        decoder = Qwen2ForCausalLM(network.config.text_config)
    decoder.model = network.model.language_model
    decoder.lm_head = network.lm_head
    return decoder.eval()
