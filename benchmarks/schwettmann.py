"""What attribution costs, as ratios in one run: python benchmarks/schwettmann.py [cuda].

Scores of all units at all image tokens, and their ranking, against one forward and one backward
pass over the same pictures that stop at the image tokens and keep nothing. Decoders of several
depths tell whether the ratio depends on the number of layers.
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

from model import PROMPT, benchmark_model

from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.probe.attribution import rank
from mmneurons.probe.target import image_gradients, target_logits

PAIRS, UNITS = 100, 200
CONTINUATION, TARGET = [7, 8, 9], 11


def alternating(works: list[Callable[[], object]], repetitions: int) -> list[float]:
    """Median time of each piece of work, all of them in turns, so that they share disturbances."""
    times: list[list[float]] = [[] for _ in works]
    for repetition in range(repetitions + 1):
        for place, work in enumerate(works):
            start = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repetition:  # the first one warms up
                times[place].append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


def attribution(model: MiniGPT4, n: int, repetitions: int) -> dict:
    """Scores and ranking of `n` pictures against the bare passes."""
    tokens = torch.randn(n, 64, 512, device=model.device)

    def bare() -> None:
        encoded = model.encode(tokens, PROMPT, [CONTINUATION] * n)
        leaf = encoded.embeds.requires_grad_(True)
        logits = target_logits(model, encoded, [TARGET] * n, model.final_states(encoded))
        torch.autograd.grad(logits.sum(), leaf)

    def scored() -> None:
        encoded = model.encode(tokens, PROMPT, [CONTINUATION] * n)
        rank(image_gradients(model, encoded, [TARGET] * n, ["pre"], also=["act"]), UNITS, PAIRS)

    base, own = alternating([bare, scored], repetitions)
    return {"passes_s": base, "attribution_ratio": own / base}


def main(device: str = "cpu") -> None:
    """Measure and print as JSON."""
    torch.set_num_threads(2)
    model = benchmark_model(device=device)
    layers = model.decoder.model.layers
    result: dict = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
    }
    for depth in (8, 2):
        del layers[depth:]
        result[f"{depth} layers"] = attribution(model, n=4, repetitions=7)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
