"""What finding Pan et al.'s neurons costs, as ratios: python benchmarks/pan.py [cpu|cuda] [smoke].

Finding the neurons of a captioned picture against captioning it, and against the released way of
finding them; the best tokens of a layer's neurons against the bare matrix product; an edit of five
neurons against a caption. Each figure is the median of several repetitions. `smoke` runs everything
once on a small picture and few tokens: it shows that it runs, and its ratios mean nothing.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from model import PROMPT, benchmark_model
from two_stage import seconds

from mmneurons.interventions.edit import EditSettings, edited, token_edit
from mmneurons.models.captions import caption_text, fill_prompt
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.probe.contribution import PanSettings, record_batch
from mmneurons.probe.decode import stream_best_tokens
from mmneurons.probe.hooks import record

PROMPT_ROW = {"template": PROMPT + "{instruction} {prefix}", "instruction": "w7", "prefix": "w8 w9"}
TEXT = fill_prompt(PROMPT_ROW)
# What the released code keeps of each concept.
RELEASED_TOP = 10_000


@dataclass(frozen=True)
class Size:
    """How much is measured: image tokens, new tokens, pictures in the larger batch, repetitions."""

    image_tokens: int = 576
    new_tokens: int = 30
    batch: int = 4
    repetitions: int = 5


SIZES = {"full": Size(), "smoke": Size(image_tokens=64, new_tokens=4, batch=2, repetitions=1)}


def nouns(caption: str, token_ids: list[int], token_ends: list[int]) -> tuple[list, list]:
    """Every sixth token is a concept: five in a caption of 30 tokens."""
    rows = [
        {
            "group": f"c{p}",
            "position": p,
            "token": token_ids[p],
            "n_tokens": 1,
            "start": 0,
            "end": 1,
        }
        for p in range(0, len(token_ids), 6)
    ]
    return rows, []


def pictures(n: int) -> list[tuple[str, Image.Image]]:
    """Noise pictures with their ids."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)
    return [(f"{number:09d}", Image.fromarray(own)) for number, own in enumerate(pixels)]


def caption(model: MiniGPT4, images: list[Image.Image], new_tokens: int) -> list[list[int]]:
    """What captioning costs anyway: generation and the texts with the places of their tokens."""
    encoded = model.encode(model.embed_pictures(images, TEXT), TEXT)
    tokens = model.generate(encoded, new_tokens)
    for row in tokens:
        caption_text(model, PROMPT_ROW["prefix"], row)
    return tokens


def finding(model: MiniGPT4, size: Size) -> dict:
    """Contributions at both sites, with their tables, against the caption alone."""
    settings = PanSettings(
        max_new_tokens=size.new_tokens,
        top_k=[1, 10, 50, 100, 500, 1000],
        seed=0,
        methods=("contribution",),
        variants=("plain",),
        maps=False,
    )
    result = {}
    for n in (1, size.batch):
        shown = pictures(n)
        images = [image for _, image in shown]

        def captioning(images: list[Image.Image] = images) -> None:
            caption(model, images, size.new_tokens)

        def find(shown: list[tuple[str, Image.Image]] = shown) -> None:
            record_batch(model, PROMPT_ROW, shown, nouns, settings)

        base, ours = seconds(captioning, size.repetitions), seconds(find, size.repetitions)
        result |= {f"caption_s_batch_{n}": base / n, f"finding_s_batch_{n}": ours / n}
        result[f"finding_ratio_batch_{n}"] = ours / base
    projections = released_projections(model)
    image = pictures(1)[0][1]
    released = seconds(lambda: released_finding(model, projections, image, size.new_tokens), 1)
    result["released_s"] = released
    result["released_projections_mb"] = sum(p.nbytes for p in projections) / 1e6
    result["released_to_ours"] = released / result["finding_s_batch_1"]
    return result


@torch.no_grad()
def released_projections(model: MiniGPT4) -> list[torch.Tensor]:
    """W_out W_u of every layer in half precision, made before anything is found; not timed."""
    unembedding = model.unembedding().float().T
    return [(site.output_rows().float() @ unembedding).half() for site in model.sites("language")]


@torch.no_grad()
def released_finding(
    model: MiniGPT4, projections: list[torch.Tensor], image: Image.Image, new_tokens: int
) -> list[torch.Tensor]:
    """The released algorithm: no cache, half-precision scores, all of them sorted.

    In its favour, only the last position is unembedded at each step, and nothing is written.
    """
    image_tokens, tokens, passed_steps = model.embed_pictures([image], TEXT), [], []
    for _ in range(new_tokens):
        with record(model.sites("language"), ["act"]) as passed:
            states = model.final_states(model.encode(image_tokens, TEXT, [tokens]))
        passed_steps.append([layer[0, -1].half() for layer in passed["act"]])
        tokens.append(int(model.logits(states[0, -1]).argmax()))
    kept = []
    for noun in nouns("", tokens, [])[0]:
        layers = zip(passed_steps[noun["position"]], projections, strict=True)
        scores = torch.cat([active * columns[:, noun["token"]] for active, columns in layers])
        kept.append(scores.sort(descending=True).indices[:RELEASED_TOP].cpu())
    return kept


def best_tokens(model: MiniGPT4, size: Size) -> dict:
    """The ten best tokens of a layer's neurons against the bare product `units x vocabulary`."""
    rows, unembedding = model.sites("language")[0].output_rows(), model.unembedding()
    full = len(rows) * len(unembedding) * 4
    with torch.no_grad():
        bare = seconds(lambda: rows @ unembedding.T, size.repetitions)
    ours = seconds(lambda: stream_best_tokens(rows, unembedding, 10), size.repetitions)
    memory = peak_bytes(lambda: stream_best_tokens(rows, unembedding, 10))
    half = rows.half(), unembedding.half()
    memory_half = peak_bytes(lambda: stream_best_tokens(*half, 10))
    return {
        "best_tokens_s": ours,
        "best_tokens_to_product": ours / bare,
        "best_tokens_memory_to_matrix": memory / full,
        "best_tokens_memory_to_matrix_half_weights": memory_half / full,
    }


def peak_bytes(work: Callable[[], object]) -> int:
    """The most bytes that a call holds at once, over those that were there before it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return int(np.cumsum([event.nbytes() for event in events]).max())


def editing(model: MiniGPT4, size: Size) -> dict:
    """An edit of five neurons with the paper's 1,000 steps, entered and left, against a caption."""
    neurons = np.array([[layer, 7 * layer] for layer in range(5)])
    activations = torch.linspace(-1, 1, 5, device=model.device)
    settings = EditSettings(beta=0.1, unit="median", lr=0.001, steps=1000)

    def edit() -> None:
        with edited(model, [token_edit(model, neurons, activations, 11, 12, settings)]):
            pass

    image = pictures(1)[0][1]
    base = seconds(lambda: caption(model, [image], size.new_tokens), size.repetitions)
    ours = seconds(edit, size.repetitions)
    return {"edit_s": ours, "edit_to_caption": ours / base}


def main(device: str = "cpu", size: str = "full") -> None:
    """Measure and print as JSON."""
    torch.set_num_threads(2)
    model = benchmark_model(SIZES[size].image_tokens, device)
    model.tokenizer.eos_token = None  # random weights end captions at random; all are full length
    result = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        **best_tokens(model, SIZES[size]),
        **finding(model, SIZES[size]),
        **editing(model, SIZES[size]),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
