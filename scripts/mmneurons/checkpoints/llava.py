"""LLaVA as its authors published it: a Llama with a projector, its vision tower elsewhere.

Original layout: Liu et al. 2023, of before there was a LLaVA in transformers. The projector is a
single matrix, and the tower is that of openai/clip-vit-large-patch14, which the checkpoint does not
hold. The tokenizer knows no `<image>`: it is added, with an id behind the vocabulary. No embedding
belongs to it, since the picture's place never reaches the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaProcessor,
)

from mmneurons.checkpoints.convert import (
    Piece,
    Plan,
    read_config,
    require,
    weight_files,
    write_weights,
)
from mmneurons.checkpoints.tokenizer import llama_tokenizer
from mmneurons.models.llava import IMAGE_PLACE, LlavaNetwork, LlavaNetworkConfig

TEXT_KEYS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "rope_theta"),
)
TOWER = "clip-vit-large-patch14"
VISION_KEYS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("image_size", "patch_size", "hidden_act", "layer_norm_eps", "projection_dim"),
)


def plan(originals: Mapping[str, Path], image_token: int) -> Plan:
    """originals: `checkpoint` and `vision`; image_token: the id of `<image>`."""
    config = read_config(originals["checkpoint"])
    require(
        # Where it is not said, LLaVA's code takes the patches as well.
        {"mm_vision_select_feature": "patch"} | config,
        originals["checkpoint"],
        model_type="llava",
        mm_vision_select_feature="patch",
        mm_use_im_start_end=False,
        mm_resampler_type=None,
    )
    # By its last name, since a path of somebody's disk may stand before it. The tower for 336
    # pixels has the same width, so sizes would not tell.
    tower = PurePosixPath(config.get("mm_vision_tower") or "").name
    require({"mm_vision_tower": tower}, originals["checkpoint"], mm_vision_tower=TOWER)
    clip = read_config(originals["vision"])["vision_config"]
    require(clip, originals["vision"], hidden_size=config["mm_hidden_size"])
    vision = CLIPVisionConfig(**{key: clip[key] for key in VISION_KEYS if key in clip})
    network = LlavaNetworkConfig(
        text_config=LlamaConfig(**{key: config[key] for key in TEXT_KEYS if key in config}),
        vision_config=vision,
        projector="linear",
        image_token_index=image_token,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        vision_feature_layer=config["mm_vision_select_layer"],
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    return Plan(
        LlavaNetwork,
        network,
        [
            Piece(weight_files(originals["checkpoint"]), of_checkpoint),
            Piece(weight_files(originals["vision"]), of_clip),
        ],
    )


def of_checkpoint(name: str) -> str | None:
    """Llama's names and `model.mm_projector.*`; frequencies follow from the configuration."""
    if name.endswith("rotary_emb.inv_freq"):
        return None
    if name.startswith("model.mm_projector."):
        return name.replace("model.mm_projector.", "model.multi_modal_projector.")
    if name.startswith("model."):
        return name.replace("model.", "model.language_model.", 1)
    return name


def of_clip(name: str) -> str | None:
    """The tower of a whole CLIP, without its text part and its old buffer of positions."""
    if name == "vision_model.embeddings.position_ids":
        return None
    if name.startswith("vision_model."):
        return name.replace("vision_model.", "model.vision_tower.", 1)
    if name.startswith(("text_model.", "text_projection.", "visual_projection.")):
        return None
    return None if name == "logit_scale" else name


def convert(originals: Mapping[str, Path], folder: Path) -> None:
    """Write weights, configuration, the tokenizer with `<image>`, and the processor's settings."""
    tokenizer = llama_tokenizer(originals["checkpoint"], added=[IMAGE_PLACE])
    planned = plan(originals, tokenizer.convert_tokens_to_ids(IMAGE_PLACE))
    write_weights(planned, folder)
    LlavaProcessor(
        CLIPImageProcessorPil.from_pretrained(originals["vision"]),
        tokenizer,
        patch_size=planned.config.vision_config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    planned.config.architectures = [planned.network.__name__]
    planned.config.save_pretrained(folder)
