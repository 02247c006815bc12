"""What attribution costs, as ratios: python benchmarks/schwettmann.py [cpu|cuda] [repetitions].

Scores of all units at all image tokens, and the ranking of as many units as the recording of the
default configuration keeps, against one forward and one backward pass over the same pictures that
stop at the image tokens and keep nothing. Decoders of several depths tell whether the ratio depends
on the number of layers; a gated decoder (Llama) and one without a gate (GPT-J), whether it depends
on the FFN. A ratio is that of two passes that ran one after the other; median, least and most of
the repetitions are given.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from model import PROMPT, benchmark_limber, benchmark_model

from mmneurons.artifacts.yaml_files import read_yaml
from mmneurons.models.base import MultimodalModel
from mmneurons.probe.attribution import rank
from mmneurons.probe.target import image_gradients, target_logits

REPOSITORY = Path(__file__).parents[1]
CONTINUATION, TARGET = [7, 8, 9], 11


def recorded() -> tuple[int, int]:
    """Units and pairs that are ranked of a picture with config.yaml, as record_attribution.py."""
    settings = read_yaml(REPOSITORY / "config.yaml")["schwettmann"]
    numbers = read_yaml(REPOSITORY / "resources" / "models.yaml")[settings["model"]]["ablation"]
    pairs = settings["pairs"]
    return max(4 * max(numbers), pairs, settings["map_units"]), pairs


def alternating(works: list[Callable[[], object]], repetitions: int) -> list[list[float]]:
    """Times of each piece of work, all of them in turns, so that they share disturbances."""
    times: list[list[float]] = [[] for _ in works]
    for repetition in range(repetitions + 1):
        for place, work in enumerate(works):
            start = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repetition:  # the first one warms up
                times[place].append(time.perf_counter() - start)
    return times


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 4) for name, value in found.items()}


def attribution(model: MultimodalModel, prompt: str, n: int, repetitions: int) -> dict:
    """Scores and ranking of `n` pictures against the bare passes; times in seconds."""
    tokens = torch.randn(n, 64, 512, device=model.device)
    units, pairs = recorded()

    def bare() -> None:
        encoded = model.encode(tokens, prompt, [CONTINUATION] * n)
        leaf = encoded.embeds.requires_grad_(True)
        logits = target_logits(model, encoded, [TARGET] * n, model.final_states(encoded))
        torch.autograd.grad(logits.sum(), leaf)

    def scored() -> None:
        encoded = model.encode(tokens, prompt, [CONTINUATION] * n)
        rank(image_gradients(model, encoded, [TARGET] * n, ["pre"], also=["act"]), units, pairs)

    base, own = alternating([bare, scored], repetitions)
    ratios = [one / other for one, other in zip(own, base, strict=True)]
    return {"passes_s": spread(base), "attribution_ratio": spread(ratios)}


def main(device: str = "cpu", repetitions: str = "15") -> None:
    """Measure and print as JSON."""
    torch.set_num_threads(2)
    units, pairs = recorded()
    result: dict = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "ranked": {"units": units, "pairs": pairs},
        "repetitions": int(repetitions),
    }
    words = PROMPT.replace("<ImageHere> ", "")  # LiMBeR's picture is before all text
    models = {
        "Llama, gated": (benchmark_model(device=device), PROMPT),
        "GPT-J, ungated": (benchmark_limber(device), words),
    }
    for name, (model, prompt) in models.items():
        for depth in (8, 2):
            del model.blocks()[depth:]
            found = attribution(model, prompt, 4, int(repetitions))
            result[f"{name}, {depth} layers"] = found
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
