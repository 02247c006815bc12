"""What finding domain neurons costs: python benchmarks/mmneuron.py [part ...] [smoke].

Parts; all of them unless some are named:

- select: domain neurons of all modules from counts of LLaVA-NeXT-7B's size and five domains, in a
  process of its own, as a job of the rule `select_domains` does it: reading the counts, selecting,
  writing the table. Seconds of the whole process, and the most memory that it held.
- count: counting active neurons of all modules together against the bare forward pass that it
  watches, one and eight pictures at a time, on the world's models and on a larger random
  LLaVA-NeXT. Preparing pictures is left out of both; the median of alternating repetitions.
- stream: writing counts of samples of that size in two shards, merging and adding them up, in a
  process of its own; megabytes a sample on disk, and the most memory for some samples and for five
  times as many.

`smoke` runs everything on a small size: it shows that it runs, and its numbers mean nothing.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from mmneurons.artifacts.counts import TotalCounts, write_counts

DOMAINS = ["common", "medical", "driving", "document", "remote"]
SELECTIONS = ["released-1", "released-5", "paper-1"]
# Units of each layer, and tokens of a domain: about what the paper counts.
SIZES = {
    "full": (
        {"language": [11008] * 32, "projector": [4096], "vision": [4096] * 24},
        20_000_000,
    ),
    "smoke": ({"language": [110] * 4, "projector": [40], "vision": [40] * 3}, 20_000),
}

# As scripts/select_domains.py, which only Snakemake can run.
JOB = """
import sys
from pathlib import Path

from mmneurons.artifacts.counts import read_counts
from mmneurons.artifacts.tables import write_table
from mmneurons.methods.dape import parse_variant, select_domain_neurons

counts, text, inert, out = sys.argv[1:]
total, facts = read_counts(counts)
variant, share = parse_variant(text)
settings = {"share": share, "variant": variant, "inert_layers": facts["inert"], "inert": inert}
layers, groups = facts["layers"], facts["groups"]
found = select_domain_neurons(total.counts, total.tokens, layers, groups, **settings)
write_table(found[0], out, facts | found[1])
print(len(found[0]))
"""

# Eight samples a batch, 3,000 tokens a sample.
STREAM = """
import json
import sys
from pathlib import Path

import numpy as np

from mmneurons.artifacts.counts import CountsWriter, merge_sample_counts, total_counts

folder, batches, layers = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
rng = np.random.default_rng(0)
share = {module: rng.beta(0.8, 4, sum(units)) for module, units in layers.items()}
counts = {module: rng.binomial(3000, p, (8, len(p))) for module, p in share.items()}
tokens = {module: np.full(8, 3000) for module in layers}
ids = [[f"{batch}-{row}" for row in range(8)] for batch in range(batches)]
for shard in range(2):
    with CountsWriter(folder / f"{shard}.parquet", layers) as writer:
        for own in ids[shard::2]:
            writer.add(own, ["a"] * 8, [1] * 8, tokens, counts)
shards, merged = [folder / "0.parquet", folder / "1.parquet"], folder / "merged.parquet"
merge_sample_counts(shards, merged, [name for own in ids for name in own])
total_counts(merged, ["a"])
print(merged.stat().st_size / 1e6 / (8 * batches))
"""

# Of the process alone: ru_maxrss would begin with that of the process that started it.
PEAK = """
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
print(int(peak.split()[1]) / 2**20)
"""


def selecting(size: str) -> dict:
    """Seconds and GiB of each selection; the aims are 30 and 4."""
    layers, tokens = SIZES[size]
    facts = {"groups": DOMAINS, "layers": layers, "inert": {"vision": [len(layers["vision"]) - 1]}}
    result: dict = {"select_units": sum(map(sum, layers.values()))}
    with tempfile.TemporaryDirectory() as folder:
        counts, out = f"{folder}/counts.safetensors", f"{folder}/neurons.parquet"
        write_counts(random_totals(layers, tokens), counts, facts)
        for text in SELECTIONS:
            for inert in ("keep", "exclude"):
                name = f"select_{text}_{inert}"
                rows, result[f"{name}_s"], result[f"{name}_gib"] = run(
                    JOB, counts, text, inert, out
                )
                result[f"{name}_rows"] = int(rows)
    return result


def streaming(size: str) -> dict:
    """Megabytes a sample, and seconds and GiB for two numbers of samples; the aim is 1 MB."""
    result = {}
    for batches in (10, 50):
        with tempfile.TemporaryDirectory() as folder:
            layers = json.dumps(SIZES[size][0])
            megabytes, spent, peak = run(STREAM, folder, str(batches), layers)
        name = f"stream_{8 * batches}"
        result |= {f"{name}_mb_a_sample": float(megabytes), f"{name}_s": spent}
        result[f"{name}_gib"] = peak
    return result


def counting(size: str) -> dict:
    """Seconds with counting over seconds without; the aim is 1.10."""
    import torch
    from model import benchmark_llava_next
    from PIL import Image

    from mmneurons.models.instructblip import InstructBlip
    from mmneurons.models.llava_next import LlavaNext
    from mmneurons.probe.counts import ActivationCounter

    shipped = Path(__file__).parents[1] / "resources/models"
    models = {
        "llava-next-world": LlavaNext.load(shipped / "llava-next-world", "cpu", torch.float32),
        "instructblip-world": InstructBlip.load(
            shipped / "instructblip-world", "cpu", torch.float32
        ),
    }
    prompts = dict.fromkeys(models, "<image>\nWhat is the number of trees in the image?")
    prompts["instructblip-world"] = "What is the number of trees in the image?"
    if size == "full":
        models["random"], prompts["random"] = benchmark_llava_next()
    result = {}
    for name, model in models.items():
        for batch in (1, 8):
            pictures = [Image.new("RGB", (160, 128 + 8 * (i % 3))) for i in range(batch)]
            asked = [prompts[name]] * batch
            pixels = model.preprocess(pictures)
            model.preprocess = lambda _pictures, pixels=pixels: pixels
            counter = ActivationCounter(model)

            @torch.no_grad()
            def bare(model=model, pictures=pictures, asked=asked):
                model.final_states(model.encode(model.embed_pictures(pictures, asked), asked))

            result[f"count_{name}_{batch}"] = ratio(
                lambda counter=counter, pictures=pictures, asked=asked: counter.count(
                    pictures, asked
                ),
                bare,
                repetitions=3 if size == "smoke" else 12 if name == "random" else 60,
            )
            del model.preprocess
    return result


def ratio(measured, bare, repetitions: int) -> float:
    """Median of the times of `measured` over that of `bare`, taken in turns."""
    spent: dict = {measured: [], bare: []}
    for number in range(repetitions + 2):
        for work, times in spent.items():
            start = time.perf_counter()
            work()
            if number >= 2:
                times.append(time.perf_counter() - start)
    return float(np.median(spent[measured]) / np.median(spent[bare]))


def run(code: str, *arguments: str) -> tuple[str, float, float]:
    """What a process of its own printed, its seconds, and the most memory it held in GiB."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + PEAK, *arguments],
        env={"PYTHONPATH": sys.path[0]},
        capture_output=True,
        text=True,
        check=True,
    )
    printed, peak = done.stdout.split()
    return printed, time.perf_counter() - start, float(peak)


def random_totals(layers: dict[str, list[int]], tokens: int) -> TotalCounts:
    """Units with a probability of their own that varies a little between domains."""
    rng = np.random.default_rng(0)
    counts = {}
    for module, units in layers.items():
        own = rng.beta(0.8, 4, sum(units))
        p = np.clip(own * rng.lognormal(0, 0.3, (len(DOMAINS), len(own))), 0, 1)
        counts[module] = rng.binomial(tokens, p)
    seen = np.full(len(DOMAINS), tokens)
    return TotalCounts(counts, dict.fromkeys(layers, seen), np.full(len(DOMAINS), 10_000))


# A part takes "full" or "smoke" and returns what it measured, by name.
PARTS = {"select": selecting, "count": counting, "stream": streaming}


def main(*arguments: str) -> None:
    """Measure and print as JSON."""
    size = "smoke" if "smoke" in arguments else "full"
    parts = [name for name in arguments if name != "smoke"] or list(PARTS)
    result = {"machine": platform.machine(), "numpy": np.__version__}
    for name in parts:
        result |= PARTS[name](size)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
