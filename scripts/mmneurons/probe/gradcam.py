"""pytorch-grad-cam's map of a target word on the whole picture, beside the neurons' heatmaps."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import nn

from mmneurons.models.base import MultimodalModel
from mmneurons.probe.target import target_logits

CELL = 14


def import_gradcam():
    """Import pytorch_grad_cam, with or without a working torchvision.

    Its package imports a few names of torchvision that nothing here uses. Where torchvision is not
    installed, empty stand-ins take their place during the import only, so that other libraries go
    on seeing that there is no torchvision.
    """
    if "pytorch_grad_cam" in sys.modules or _has_torchvision():
        import pytorch_grad_cam

        return pytorch_grad_cam
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    stand_ins = {name: types.ModuleType(name) for name in names}
    for name in ("Compose", "Normalize", "ToTensor"):
        setattr(stand_ins["torchvision.transforms"], name, None)
    stand_ins["torchvision.transforms.functional"].resize = None
    sys.modules.update(stand_ins)
    try:
        import pytorch_grad_cam
    finally:
        for name in names:
            del sys.modules[name]
    return pytorch_grad_cam


def _has_torchvision() -> bool:
    from importlib.util import find_spec

    return find_spec("torchvision") is not None


class _TargetLogit(nn.Module):
    """Pixels to the target's logit, the one-input model that pytorch_grad_cam wants.

    Its pixels are held here, since a family's need not be a tensor, as the input has to be.
    """

    def __init__(self, model: MultimodalModel, pixels, prompt: str, prefix: list[int], target: int):
        super().__init__()
        self.network = model.network  # registered, because GradCAM asks for parameters
        self.model, self.pixels = model, pixels
        self.prompt, self.prefix, self.target = prompt, prefix, target

    def forward(self, _input: torch.Tensor) -> torch.Tensor:
        tokens = self.model.embed_pixels(self.pixels, self.prompt)
        encoded = self.model.encode(tokens, self.prompt, [self.prefix])
        states = self.model.final_states(encoded)
        return target_logits(self.model, encoded, [self.target], states)[:, None]


def gradcam_map(
    model: MultimodalModel,
    prompt: str,
    picture: Image.Image,
    prefix_tokens: Sequence[int],
    target_token: int,
) -> np.ndarray:
    """GradCAM (Selvaraju et al. 2017) of one target word at the vision tower's last block.

    Returns `height x width` in [0, 1] at the size of the model's input, or where that differs from
    picture to picture of `CELL` pixels a cell of the patch grid.
    """
    layer, patches = model.picture_layer()
    pixels = model.preprocess([picture]).to(model.device, model.dtype).requires_grad_(True)
    network = _TargetLogit(model, pixels, prompt, list(prefix_tokens), target_token)
    if not isinstance(pixels, torch.Tensor):
        rows, columns = model.patch_grid()
        pixels = torch.empty(1, 3, CELL * rows, CELL * columns)  # only its shape is read
    with import_gradcam().GradCAM(
        model=network, target_layers=[layer], reshape_transform=patches
    ) as cam:
        return cam(input_tensor=pixels, targets=[lambda output: output[0]])[0]
