"""What a model provides of what methods and measures need (resources/methods.yaml).

The adapter answers, by what it is; nothing here asks for a family by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from PIL import Image

from mmneurons.models.base import Encoded, MultimodalModel
from mmneurons.models.loading import is_quantised


def lacks_of_model(model: MultimodalModel, prompt: str, constants: Mapping) -> dict[str, str]:
    """Why the model does not provide a need, by need; "" for what it does.

    prompt: filled, with which gradients are tried; constants: of the model's row of the registry
    `noise` and `edit`, which are in its own scale.
    """
    sites = model.sites("language")
    quantised = any(is_quantised(site.output) for site in sites)
    row = "its row in resources/models.yaml has no {}"
    return {
        "sites": "" if sites else "the adapter finds no FFN layers of the language model",
        "gradients": _lacks_gradients(model, prompt),
        "rows": "output rows in 8 bits cannot be changed" if quantised else "",
        "patches": "" if model.patch_grid() else "its image tokens have no place on the picture",
        "noise": "" if constants.get("noise") else row.format("noise"),
        "edit": "" if constants.get("edit") else row.format("edit"),
    }


def _lacks_gradients(model: MultimodalModel, prompt: str) -> str:
    """Whether a logit's gradient arrives at the image tokens, tried on a gray picture."""
    picture = Image.new("RGB", (32, 32), "gray")
    encoded = model.encode(model.embed_pictures([picture], prompt), prompt)
    leaf = encoded.embeds.detach().requires_grad_(True)
    encoded = Encoded(**{**vars(encoded), "embeds": leaf})
    try:
        with torch.enable_grad():
            logits = model.logits(model.final_states(encoded)[:, -1])
            (gradient,) = torch.autograd.grad(logits.amax(), [leaf])
    except RuntimeError as error:
        return f"no backward pass: {error}"
    arrives = bool(gradient[encoded.image_mask].ne(0).any())
    return "" if arrives else "no logit depends on the image tokens"
