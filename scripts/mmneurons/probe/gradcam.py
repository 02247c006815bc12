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
    """Pixels to the target's logit, the one-input model that pytorch_grad_cam wants."""

    def __init__(self, model: MultimodalModel, prompt: str, prefix: Sequence[int], target: int):
        super().__init__()
        self.network = model.network  # registered, because GradCAM asks for parameters
        self.model, self.prompt, self.prefix, self.target = model, prompt, prefix, target

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.model.embed_pixels(pixels, self.prompt)
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

    Returns `height x width` in [0, 1] at the size of the model's input.
    """
    layer, patches = model.picture_layer()
    network = _TargetLogit(model, prompt, list(prefix_tokens), target_token)
    pixels = model.preprocess([picture]).to(model.device, model.dtype).requires_grad_(True)
    with import_gradcam().GradCAM(
        model=network, target_layers=[layer], reshape_transform=patches
    ) as cam:
        return cam(input_tensor=pixels, targets=[lambda output: output[0]])[0]
