"""Training of the world's mPLUG-Owl2: a CLIP tower, a visual abstractor, a multiway Llama decoder.

Tower and decoder start from the world's CLIP and from a decoder that can already talk, as the real
ones do, and both copies of what the decoder has twice start alike. The tower stays as it is; its
output is computed once. Only the abstractor starts from nothing: before the captions, each query
is given a block of patches and asked what is in it, or the queries would be slow to part.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionModel, LlamaForCausalLM, PreTrainedTokenizerBase

from mmneurons.models.mplug_owl2 import MPlugOwl2, square_image_processor
from mmneurons.models.mplug_owl2_modeling import MPlugOwl2Config, MPlugOwl2ForCausalLM
from mmneurons.world.training import (
    CLASSES,
    COLOUR_NAMES,
    Progress,
    WorldPictures,
    caption_after,
    caption_loss,
    crowded,
    descend,
    draw_pictures,
    endings,
    features,
)
from mmneurons.world.vocabulary import BACKGROUNDS


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
) -> MPlugOwl2:
    """The whole training; `config` is mPLUG-Owl2's section of `resources/world.yaml`.

    prompt: filled, ends with `prefix`, with which the captions begin; tokenizer: the decoder's.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    model = build(config["abstractor"], tower, decoder, tokenizer)
    vision = tower.config
    pictures = draw_pictures(
        config["pictures"], seed, vision.image_size, vision.patch_size, config["processes"]
    )
    states = features(model.network.model.vision_model, pictures.pixels)
    train_abstractor(model, states, pictures, config["abstractor_training"], progress)
    captions = [caption_after(prefix, caption) for caption in pictures.captions]
    for lesson in config["caption_training"]:
        settings = dict(lesson)
        rows = crowded(pictures, settings.pop("crowding"))
        train_captions(model, states, captions, prompt, prefix, settings, progress, rows)
    return model


# ---------------------------------------------------------------------------------- beginnings


def build(
    abstractor: dict,
    tower: CLIPVisionModel,
    decoder: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
) -> MPlugOwl2:
    """A new abstractor between copies of tower and decoder.

    abstractor: num_learnable_queries, num_hidden_layers, num_attention_heads, intermediate_size.
    """
    vision = tower.config
    shared = ("image_size", "patch_size", "hidden_size", "num_hidden_layers", "hidden_act")
    shared += ("num_attention_heads", "intermediate_size", "layer_norm_eps")
    widths = {name: vision.hidden_size for name in ("hidden_size", "encoder_hidden_size")}
    visual = {
        "visual_model": {name: getattr(vision, name) for name in shared},
        "visual_abstractor": abstractor
        | widths
        | {"grid_size": vision.image_size // vision.patch_size},
    }
    text = decoder.config.to_dict()
    del text["model_type"], text["architectures"]
    network = MPlugOwl2ForCausalLM(MPlugOwl2Config(visual_config=visual, **text))
    network.model.vision_model.load_state_dict(vision_weights(tower))
    missing, unexpected = network.load_state_dict(decoder_weights(decoder), strict=False)
    new = ("model.vision_model.", "model.visual_abstractor.")
    if unexpected or not all(name.startswith(new) for name in missing):
        raise ValueError(f"the decoder does not fit: {[*missing, *unexpected]}")
    return MPlugOwl2(network, tokenizer, square_image_processor(vision.image_size), "cpu")


def vision_weights(tower: CLIPVisionModel) -> dict[str, torch.Tensor]:
    """A CLIP tower's weights by mPLUG-Owl2's names.

    Rows of the fused projection: for each head its queries, its keys, its values.
    """
    weights = tower.state_dict()
    of = {
        "embeddings.cls_token": weights["embeddings.class_embedding"][None, None],
        "embeddings.position_embedding": weights["embeddings.position_embedding.weight"][None],
        "embeddings.patch_embed.weight": weights["embeddings.patch_embedding.weight"],
    }
    parts = {
        "self_attn.out_proj": "self_attn.dense",
        "layer_norm1": "input_layernorm",
        "layer_norm2": "post_attention_layernorm",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    for kind in ("weight", "bias"):
        of[f"embeddings.pre_layernorm.{kind}"] = weights[f"pre_layrnorm.{kind}"]
        of[f"post_layernorm.{kind}"] = weights[f"post_layernorm.{kind}"]
        for i in range(tower.config.num_hidden_layers):
            layer = f"encoder.layers.{i}"
            for theirs, ours in parts.items():
                of[f"{layer}.{ours}.{kind}"] = weights[f"{layer}.{theirs}.{kind}"]
            by_head = [
                weights[f"{layer}.self_attn.{name}_proj.{kind}"].unflatten(
                    0, (tower.config.num_attention_heads, -1)
                )
                for name in "qkv"
            ]
            fused = torch.stack(by_head, dim=1).flatten(0, 2)
            of[f"{layer}.self_attn.query_key_value.{kind}"] = fused
    return of


def decoder_weights(decoder: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    """A Llama's weights by mPLUG-Owl2's names, with two copies of what goes by modality."""
    doubled = ("k_proj", "v_proj", "input_layernorm", "post_attention_layernorm")
    of = {}
    for name, weight in decoder.state_dict().items():
        module = name.removesuffix(".weight")
        if module.endswith(doubled):
            of |= {f"{module}.multiway.{copy}.weight": weight for copy in (0, 1)}
        else:
            of[name] = weight
    return of


# ------------------------------------------------------------------------------------- lessons


class BlockReader(nn.Module):
    """Linear heads that make each image token name what is in its block; dropped after training."""

    def __init__(self, hidden: int):
        super().__init__()
        self.categories = nn.Linear(hidden, len(CLASSES) - 1)
        self.colours = nn.Linear(hidden, len(COLOUR_NAMES))
        self.background = nn.Linear(hidden, len(BACKGROUNDS))

    def loss(
        self,
        tokens: torch.Tensor,
        categories: torch.Tensor,
        colours: torch.Tensor,
        backgrounds: torch.Tensor,
    ) -> torch.Tensor:
        """tokens: `batch x blocks x hidden`; categories and colours: `batch x blocks x kinds`.

        A block may show several objects, so each kind is a question of its own.
        """
        there = F.binary_cross_entropy_with_logits(self.categories(tokens), categories)
        tinted = F.binary_cross_entropy_with_logits(self.colours(tokens), colours)
        ground = F.cross_entropy(self.background(tokens.mean(dim=1)), backgrounds)
        # A sum over the kinds, as many questions are answered by one number.
        return categories.shape[-1] * there + 0.3 * colours.shape[-1] * tinted + 0.1 * ground


def in_blocks(labels: torch.Tensor, n_kinds: int, blocks: int) -> torch.Tensor:
    """Which kinds are in each block of patches: `batch x blocks^2 x kinds`, 0 or 1.

    labels: `batch x patches`, kinds from 0, -1 for none; blocks: a side.
    """
    side = round(labels.shape[1] ** 0.5)
    kinds = F.one_hot(labels + 1, n_kinds + 1)[..., 1:].float()
    grid = kinds.unflatten(1, (blocks, side // blocks, blocks, side // blocks))
    return grid.amax(dim=(2, 4)).flatten(1, 2)


def train_abstractor(
    model: MPlugOwl2,
    states: torch.Tensor,
    pictures: WorldPictures,
    settings: dict,
    progress: Progress,
) -> None:
    """Teach the abstractor, in place, to share the picture out among its queries in a grid.

    states: `n x (1 + patches) x vision hidden`; settings: steps, batch_size, lr. Raises ValueError
    for a number of queries that is not a square that divides the grid of patches.
    """
    abstractor = model.network.model.visual_abstractor
    queries = abstractor.query_embeds.shape[1]
    blocks, side = round(queries**0.5), model.patch_grid()[0]
    if blocks**2 != queries or side % blocks:
        raise ValueError(f"{queries} queries do not share {side} x {side} patches out in blocks")
    categories = torch.from_numpy(pictures.categories) - 1
    colours = torch.from_numpy(pictures.colours)
    backgrounds = torch.from_numpy(pictures.backgrounds)
    reader = BlockReader(model.network.config.hidden_size)

    def loss(rows: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
        tokens = abstractor(states[rows].float())[:, :-1]
        shown = in_blocks(categories[rows], len(CLASSES) - 1, blocks)
        tints = in_blocks(colours[rows], len(COLOUR_NAMES), blocks)
        return reader.loss(tokens, shown, tints, backgrounds[rows])

    parameters = [*abstractor.parameters(), *reader.parameters()]
    descend(loss, parameters, len(states), progress, "abstractor", **settings)


def train_captions(
    model: MPlugOwl2,
    states: torch.Tensor,
    captions: Sequence[str],
    prompt: str,
    prefix: str,
    settings: dict,
    progress: Progress,
    rows: torch.Tensor,
) -> None:
    """Teach abstractor and decoder, in place, to continue `prompt` to the caption.

    states: `n x (1 + patches) x vision hidden`; rows: pictures to learn from,
    as often as they are in it; settings: steps, batch_size, lr.
    """
    network = model.network
    wanted = endings(model, captions, prefix)
    vision = set(network.model.vision_model.parameters())
    parameters = [weight for weight in network.parameters() if weight not in vision]

    def loss(drawn: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
        chosen = rows[drawn]
        tokens = network.model.visual_abstractor(states[chosen].float())
        return caption_loss(model, tokens, prompt, [wanted[i] for i in chosen.tolist()])

    descend(loss, parameters, len(rows), progress, "captions", **settings)
    network.requires_grad_(False)
