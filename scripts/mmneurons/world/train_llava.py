"""Training of the world's LLaVA: a frozen CLIP tower, a linear projector, a Llama decoder.

The tower is the world's CLIP, the decoder starts from one that can already talk, as the real one
does. The tower's output is computed once, so the training costs only the decoder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy

import torch
from transformers import (
    CLIPVisionModel,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from mmneurons.models.llava import IMAGE_PLACE, Llava, LlavaNetwork, LlavaNetworkConfig
from mmneurons.world.training import (
    Progress,
    caption_after,
    caption_loss,
    crowded,
    descend,
    draw_pictures,
    endings,
    features,
    squashing_processor,
)


def train(
    config: dict,
    tower: CLIPVisionModel,
    decoder: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    prefix: str,
    seed: int,
    threads: int,
    progress: Progress,
) -> Llava:
    """The whole training; `config` is LLaVA's section of `resources/world.yaml`.

    prompt: filled, ends with `prefix`, with which the captions begin; tokenizer: the decoder's.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    model = build(tower, decoder, tokenizer)
    vision = tower.config
    pictures = draw_pictures(
        config["pictures"], seed, vision.image_size, vision.patch_size, config["processes"]
    )
    patches = features(lambda pixels: vision_states(model.network, pixels), pictures.pixels)
    captions = [caption_after(prefix, caption) for caption in pictures.captions]
    for lesson in config["caption_training"]:
        settings = dict(lesson)
        text = prompt if settings.pop("system_text") else without_system_text(prompt)
        rows = crowded(pictures, settings.pop("crowding"))
        train_captions(model, patches, captions, text, prefix, settings, progress, rows)
    return model


def build(
    tower: CLIPVisionModel, decoder: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> Llava:
    """Copies of tower and decoder with a new projector between them, and `<image>` as a token."""
    tokenizer, decoder = deepcopy(tokenizer), deepcopy(decoder)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_PLACE]})
    decoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    vision = tower.config
    network = LlavaNetwork(
        LlavaNetworkConfig(
            vision_config=vision,
            text_config=decoder.config,
            image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_PLACE),
            image_seq_length=(vision.image_size // vision.patch_size) ** 2,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
            projector="linear",
        )
    )
    network.model.vision_tower.load_state_dict(tower.state_dict())
    network.model.language_model.load_state_dict(decoder.model.state_dict())
    network.lm_head.load_state_dict(decoder.lm_head.state_dict())
    return Llava(network, tokenizer, squashing_processor(vision.image_size), "cpu")


def vision_states(network: LlavaNetwork, pixels: torch.Tensor) -> torch.Tensor:
    """What the projector reads: `batch x patches x vision hidden`."""
    states = network.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    return states[network.config.vision_feature_layer][:, 1:]


def without_system_text(prompt: str) -> str:
    """A Llama-2 prompt without the long text that stays the same."""
    return re.sub(r"<<SYS>>.*<</SYS>>\s*", "", prompt, flags=re.DOTALL)


def train_captions(
    model: Llava,
    patches: torch.Tensor,
    captions: Sequence[str],
    prompt: str,
    prefix: str,
    settings: dict,
    progress: Progress,
    rows: torch.Tensor,
) -> None:
    """Teach projector and decoder, in place, to continue `prompt` to the caption.

    patches: `n x patches x vision hidden`; rows: pictures to learn from,
    as often as they are in it; settings: steps, batch_size, lr.
    """
    projector = model.network.model.multi_modal_projector
    wanted = endings(model, captions, prefix)
    parameters = [*projector.parameters(), *model.decoder.parameters()]

    def loss(drawn: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
        chosen = rows[drawn]
        tokens = projector(patches[chosen].float())
        return caption_loss(model, tokens, prompt, [wanted[i] for i in chosen.tolist()])

    descend(loss, parameters, len(rows), progress, "captions", **settings)
    model.network.requires_grad_(False)
