"""What an adapter finds in a model's directory, and which methods that allows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image

from mmneurons.models.base import ModelCheckError, Module, MultimodalModel
from mmneurons.models.loading import LoadingError, is_quantised
from mmneurons.models.registry import ADAPTERS, adapter_of

MODULES: tuple[Module, ...] = ("vision", "projector", "qformer.query", "qformer.text", "language")
NEEDED = ("config.json", "tokenizer_config.json")
PICTURES = ((640, 480), (480, 640), (336, 336))
"""(width, height) in pixels of the pictures that image tokens are reported for."""


class CapabilityError(ValueError):
    """A directory that holds no model of a known family; the message is for who names it."""


def guess_family(folder: Path) -> str:
    """The family of a directory, from `model_type` and `architectures` of its config.json.

    Raises CapabilityError where there is no such directory, file or family.
    """
    if not folder.is_dir():
        raise CapabilityError(f"{folder} is no directory")
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise CapabilityError(f"{folder} lacks {', '.join(missing)}; docs/models.md says more")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, classes = config.get("model_type"), config.get("architectures") or []
    except (ValueError, AttributeError) as error:
        raise CapabilityError(f"{folder}/config.json is no JSON object: {error}") from None
    if kind not in ADAPTERS:
        raise CapabilityError(
            f"{folder} holds a {kind!r} ({', '.join(classes) or 'no class named'}), which is none "
            f"of {', '.join(ADAPTERS)}; name one by --family, or see docs/adding_a_model.md"
        )
    return kind


def load_for_check(folder: Path, family: str) -> MultimodalModel:
    """The model on the CPU in float32, before any check of it.

    Raises CapabilityError for an unknown family and for a checkpoint that is not what its
    configuration says.
    """
    if family not in ADAPTERS:
        raise CapabilityError(f"there is no family {family!r}: {', '.join(ADAPTERS)}")
    try:
        return adapter_of(family).load(folder, "cpu", torch.float32)
    except (ModelCheckError, LoadingError) as error:
        raise CapabilityError(str(error)) from error
    except Exception as error:  # transformers and safetensors have many ways to fail on a file
        raise CapabilityError(
            f"{folder} cannot be loaded as {family}: {type(error).__name__}: {error}"
        ) from error


@torch.no_grad()
def capabilities(model: MultimodalModel, prompts: Iterable[str]) -> dict:
    """What the adapter found, by name; plain values, as JSON has them.

    prompts: names of the registry of prompts. Nothing is raised for what a model lacks: it is said
    under `problems`, which is empty for a model that can be used.
    """
    problems: list[str] = []
    try:
        model.check()
    except (ModelCheckError, ValueError, RuntimeError) as error:
        problems.append(f"check: {error}")
    sites = {module: model.sites(module) for module in MODULES if model.sites(module)}
    errors = {}
    for module, own in sites.items():
        found = [model.decomposition_error(site) for site in own]
        worst = max(found, key=lambda pair: pair[0])
        errors[module] = {"error": worst[0], "allowed": worst[1]}
        if not worst[0] <= worst[1]:
            problems.append(f"{module}: activations x W_out rows are not the FFN's output")
    if not sites.get("language"):
        problems.append("language: the adapter finds no FFN layers")
    table = model.decoder.get_input_embeddings().weight
    unembedding = model.unembedding()
    tokens = {}
    for width, height in PICTURES:
        (of_picture,) = model.embed_pictures([Image.new("RGB", (width, height))], "")
        tokens[f"{width} x {height}"] = len(of_picture)
        if len(of_picture) != model.n_image_tokens((width, height)):
            problems.append(f"a picture of {width} x {height} has {len(of_picture)} image tokens")
    layer, _ = model.picture_layer()
    names = {id(module): name for name, module in model.network.named_modules()}
    found = {
        "family": model.family,
        "modules": {
            module: {
                "layers": len(own),
                "units": sum(site.n_units for site in own),
                "sites": site_kinds(own),
                "inert at image tokens": sorted(model.inert_layers(module, "image")),
                "inert": sorted(model.inert_layers(module, "last")),
                "self-check": errors[module],
            }
            for module, own in sites.items()
        },
        "image tokens": tokens,
        "grid": model.grid(),
        "grid of maps": model.patch_grid(),
        "vocabulary": {
            "unembedding": len(unembedding),
            "tokenizer": len(model.tokenizer),
            "hidden": unembedding.shape[1],
            "tied": unembedding is table or unembedding.data_ptr() == table.data_ptr(),
        },
        "layer of GradCAM": names.get(id(layer), type(layer).__name__),
        "prompts": [name for name in prompts if name.partition(".")[0] == model.family],
        "weights": {
            "parameters": sum(weight.numel() for weight in model.network.parameters()),
            "MB": round(_bytes(model) / 1e6, 1),
        },
    }
    return found | {"methods": methods(model, found), "problems": problems}


def methods(model: MultimodalModel, found: dict) -> dict[str, str]:
    """Each method, and "yes" or why it does not apply."""
    language = found["modules"].get("language")
    prompts = {name.partition(".")[2] for name in found["prompts"]}
    quantised = any(is_quantised(site.output) for site in model.sites("language"))
    varying = len(set(found["image tokens"].values())) > 1
    no_sites = "" if language else "no FFN layers of the language model"
    batches = "pictures of a batch have to be of one size" if varying else ""
    wording = "resources/prompts.yaml has no prompt {}.{}"

    def said(*reasons: str) -> str:
        return "; ".join(reason for reason in reasons if reason) or "yes"

    few = "" if "few-words" in prompts else wording.format(model.family, "few-words")
    asked = "" if "question" in prompts else wording.format(model.family, "question")
    maps = "" if found["grid of maps"] else "no map: image tokens have no place on the picture"
    captions = "" if prompts - {"question"} else f"no prompt for captions of {model.family}"
    return {
        "two_stage": said(no_sites, captions, batches, maps),
        "contribution": said(no_sites, few, batches),
        "attribution": said(no_sites, few, batches),
        "dape": said(no_sites, asked),
        "noise on weights, edits": said(no_sites, few, "weights in 8 bits" if quantised else ""),
    }


def site_kinds(sites: list) -> list[str]:
    """Where activations of a module can be read; in a plain FFN `post` is `act`."""
    return ["pre", "act", "post"] if sites else []


def registry_row(name: str, folder: Path, found: dict, took_mb: int) -> str:
    """The row for resources/models.yaml, in YAML."""
    units = ", ".join(f"{module}: {own['units']}" for module, own in found["modules"].items())
    return "\n".join(
        [
            f"{name}:",
            f"  family: {found['family']}",
            f"  path: {folder}",
            '  revision: ""',
            f'  label: "{name}"',
            f"  units: {{{units}}}",
            f"  memory_mb: {took_mb}",
            "  runtime: 240",
        ]
    )


def timed(model: MultimodalModel) -> dict[str, float]:
    """Seconds that it takes to turn a picture into image tokens."""
    start = time.perf_counter()
    model.embed_pictures([Image.new("RGB", PICTURES[0])], "")
    return {"image tokens of a picture": round(time.perf_counter() - start, 3)}


def report(found: dict) -> str:
    """What was found as lines of text."""
    words, lines = found["vocabulary"], [f"{found['directory']}: {found['family']}", ""]
    for module, own in found["modules"].items():
        inert = f", inert {own['inert']}" if own["inert"] else ""
        check = own["self-check"]
        lines.append(
            f"{module}: {own['layers']} layers, {own['units']} units, sites "
            f"{' '.join(own['sites'])}{inert}; inert at image tokens "
            f"{own['inert at image tokens'] or 'none'}"
        )
        lines.append(
            f"  activations x W_out rows = FFN output up to {check['error']:.1e} "
            f"(allowed {check['allowed']:.0e})"
        )
    tokens = ", ".join(f"{size} pixels {n}" for size, n in found["image tokens"].items())
    tied = "tied to the embeddings" if words["tied"] else "not tied"
    lines += [
        "",
        f"image tokens: {tokens}",
        f"grid of image tokens: {found['grid'] or 'none'}; of maps: {found['grid of maps']}",
        f"unembedding: {words['unembedding']} x {words['hidden']}, {tied}; the tokenizer knows "
        f"{words['tokenizer']} tokens",
        f"layer of GradCAM: {found['layer of GradCAM']}",
        f"prompts: {', '.join(found['prompts']) or 'none in resources/prompts.yaml'}",
        f"weights: {found['weights']['parameters']} numbers, {found['weights']['MB']} MB in "
        f"float32; peak memory {found['peak memory MB']} MB",
        "seconds: " + ", ".join(f"{what} {n}" for what, n in found["seconds"].items()),
        "",
        *(f"{method}: {answer}" for method, answer in found["methods"].items()),
        "",
        *(f"PROBLEM {problem}" for problem in found["problems"]),
        "The row for resources/models.yaml, whose revision and label you know:",
        "",
        found["row"],
    ]
    return "\n".join(lines)


def _bytes(model: MultimodalModel) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.network.parameters())
