"""What two-stage filtering costs, as ratios in one run: python benchmarks/two_stage.py [cuda].

Recording against the two forward passes and the backward pass it needs; captions under noise, many
at a time against one at a time. Each figure is the median of several repetitions.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from model import PROMPT, benchmark_model

from mmneurons.interventions.noise import image_noise, standard_noise
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.probe.target import target_logits
from mmneurons.probe.two_stage import Case, record_group


def seconds(work: Callable[[], object], repetitions: int) -> float:
    """Median time of a call after one to warm up."""
    work()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def recording(model: MiniGPT4, n: int, repetitions: int) -> dict:
    """record_group with one site against bare passes over the same batch."""
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(2 * n)
    ]
    cases = [Case(a, b, [7, 8, 9], 11) for a, b in zip(pictures[:n], pictures[n:], strict=True)]

    def bare() -> None:
        for batch, gradient in ((pictures[:n], True), (pictures[n:], False)):
            encoded = model.encode(model.embed_pictures(batch), PROMPT, [[7, 8, 9]] * n)
            leaf = encoded.embeds.requires_grad_(gradient)
            with torch.set_grad_enabled(gradient):
                states = model.final_states(encoded)
                if gradient:
                    logits = target_logits(model, encoded, [11] * n, states)
                    torch.autograd.grad(logits.sum(), leaf)

    base = seconds(bare, repetitions)
    one = seconds(lambda: record_group(model, PROMPT, cases, ["act"], 1000, n), repetitions)
    two = seconds(lambda: record_group(model, PROMPT, cases, ["act", "post"], 1000, n), repetitions)
    return {
        "passes_s": base / n,
        "recording_one_site_ratio": one / base,
        "recording_two_sites_ratio": two / base,
    }


def noise_captions(model: MiniGPT4, batch: int, new_tokens: int, repetitions: int) -> dict:
    """Captions under noise: `batch` at a time against one at a time, seconds a caption."""
    picture = model.embed_pictures([Image.new("RGB", (64, 64), "gray")])
    neurons = np.array([[layer, unit] for layer in range(4) for unit in range(5)])
    noise = standard_noise(0, "benchmark", 0, len(neurons), picture.shape[1], "per-position")

    def caption(n: int) -> None:
        encoded = model.encode(picture.expand(n, -1, -1), PROMPT)
        with image_noise(model, encoded, neurons, noise.expand(n, -1, -1), "act"):
            model.generate(encoded, new_tokens)

    single = seconds(lambda: caption(1), repetitions)
    many = seconds(lambda: caption(batch), repetitions) / batch
    return {"one_at_a_time_s": single, f"batch_{batch}_s": many, "noise_batch_gain": single / many}


def main(device: str = "cpu") -> None:
    """Measure and print as JSON."""
    torch.set_num_threads(2)
    model = benchmark_model(device=device)
    model.tokenizer.eos_token = None  # random weights end captions at random; all are full length
    result = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        **recording(model, n=8, repetitions=3),
        **noise_captions(model, batch=105, new_tokens=20, repetitions=2),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
