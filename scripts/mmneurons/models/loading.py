"""How a checkpoint comes into memory: on one device, over several GPUs, or in 8 bits.

What is decided here becomes arguments of transformers' `from_pretrained`, which asks accelerate to
put the parts of a network on GPUs and bitsandbytes to keep weights in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec

import torch
from torch import nn

from mmneurons.models.devices import NoDeviceError, claim_gpus, pick_device, say_cpu

STRATEGIES = ("auto", "balanced", "sequential")
"""Ways in which accelerate spreads a network over GPUs by itself."""


class LoadingError(ValueError):
    """A way of loading that cannot work, or that methods could not work with."""


def placement(
    device: str,
    dtype: torch.dtype,
    device_map: str | Mapping[str, int | str] | None = None,
    quantization: str | None = None,
    kept: Iterable[str] = (),
) -> tuple[str, dict]:
    """The device for a model's inputs, and further arguments of `from_pretrained`.

    device: "cpu", "cuda" or "auto"; device_map: one of STRATEGIES over all visible GPUs, or
    {part of the network: device}, as `from_pretrained` takes it, "" for the rest; quantization:
    None or "8bit"; kept: parts of names of modules whose weights stay in `dtype` then. A model
    without both goes to its device when it has been loaded, so that there are no arguments. Claims
    the GPUs. Raises LoadingError, and NoDeviceError where GPUs are missing or other jobs hold them.
    """
    arguments: dict = {}
    if quantization is not None:
        arguments["quantization_config"] = _eight_bits(quantization, dtype, kept)
    if device_map is None:
        home = pick_device(device)
        # What is quantised is so on its way to its device, so this has to be said beforehand.
        return home, arguments | {"device_map": {"": home}} if arguments else {}
    if isinstance(device_map, str):
        if device_map not in STRATEGIES:
            raise LoadingError(f"compute.device_map is {device_map!r}, not one of {STRATEGIES}")
        gpus = [] if device == "cpu" else claim_gpus()
        if not gpus and device == "cuda":
            raise NoDeviceError("compute.device is cuda, but compute.device_map finds no GPU")
        if not gpus and device == "auto":
            say_cpu()
        spread = device_map if gpus else {"": "cpu"}
    else:
        spread = {part: _device_of(place) for part, place in device_map.items()}
        numbers = {torch.device(place).index for place in spread.values() if place != "cpu"}
        if numbers:
            claim_gpus(numbers)
        gpus = sorted(numbers)
    home = f"cuda:{min(gpus)}" if gpus else "cpu"
    return home, arguments | {"device_map": spread}


def number_format(loading: Mapping) -> str:
    """What a run says of the numbers behind its results.

    loading: dtype and quantization, as `registry.load_model` takes them.
    """
    quantised = loading.get("quantization") is not None
    return f"{loading['dtype']}, decoder in 8 bits" if quantised else loading["dtype"]


def spread_of(network: nn.Module) -> Mapping[str, int | str] | None:
    """Which part of the network is on which device; None for a network on a single one.

    Raises LoadingError for a part that waits in main memory or on disk while others are on GPUs:
    its weights come to a GPU for the length of a pass only, so that they could be neither read by
    methods nor edited.
    """
    spread = getattr(network, "hf_device_map", None)
    places = {str(place) for place in (spread or {}).values()}
    if "disk" in places or ("cpu" in places and len(places) > 1):
        left = sorted(part for part, place in spread.items() if str(place) in ("cpu", "disk"))
        raise LoadingError(
            f"the model does not fit the GPUs: {', '.join(left[:5])} would stay in main memory or "
            "on disk; use more GPUs, compute.dtype float16 or bfloat16, or compute.quantization"
        )
    return spread


def is_quantised(module: nn.Linear) -> bool:
    """Whether a projection's weights are no plain numbers, so that nothing can be added to them."""
    return not module.weight.is_floating_point()


def plain_weight(module: nn.Linear) -> torch.Tensor:
    """Weights `outputs x inputs` as numbers: the module's own, or a copy of 8-bit ones."""
    if not is_quantised(module):
        return module.weight
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    return dequantize_bnb_weight(module.weight, module.state)


def _eight_bits(quantization: str, dtype: torch.dtype, kept: Iterable[str]):
    if quantization != "8bit":
        raise LoadingError(f"compute.quantization is {quantization!r}, not null or 8bit")
    if dtype == torch.float32:
        raise LoadingError(
            "compute.quantization needs compute.dtype float16 or bfloat16, in which activations are"
        )
    if find_spec("bitsandbytes") is None:
        raise LoadingError(
            "compute.quantization needs the package bitsandbytes, which is not installed; "
            "docs/models.md says how"
        )
    from transformers import BitsAndBytesConfig

    # transformers matches patterns from the start of a name to a dot or the end.
    skipped = [rf"(.*\.)?{name}" for name in kept]
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)


def _device_of(place: int | str) -> str:
    """A place of a device map as torch names it. Raises LoadingError for none of its kinds."""
    if isinstance(place, int):
        return f"cuda:{place}"
    if place == "cpu" or (place.startswith("cuda:") and place[5:].isdigit()):
        return place
    raise LoadingError(f"compute.device_map puts a part on {place!r}, not a GPU's number or cpu")
