"""Small made-up artifacts of two models and five domains, of which every number is known."""

from pathlib import Path

import numpy as np
import pandas as pd
from figure_checks import write_named
from PIL import Image

from mmneurons.artifacts.tables import write_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.figures.mmneuron_items import FIGURES, TABLES, read_item

NEXT = "LLaVA-NeXT of a made-up world (tiny)"
BLIP = "InstructBLIP of a made-up world (tiny)"
MODELS = [NEXT, BLIP]
DOMAINS = ["common", "medical", "driving", "document", "remote"]
DATASETS = {name: f"{name} part of a made-up world (drawn)" for name in DOMAINS}

# Units of each layer, and the layers that reach nothing.
LAYERS = {
    NEXT: {"vision": [10, 10, 10], "projector": [8], "language": [20, 20]},
    BLIP: {
        "vision": [10, 10],
        "qformer.query": [6, 6],
        "qformer.text": [6, 6],
        "language": [20, 20, 20],
    },
}
INERT = {NEXT: {"vision": [2]}, BLIP: {"qformer.text": [1]}}
SILENT = {"vision": 3}
"""Silent units of every layer of a module, 0 of others."""

# (module, layer, unit) of the neurons that the released variant selects, by domain.
NEURONS = {
    NEXT: {
        "common": [("vision", 0, 1), ("vision", 2, 5), ("language", 0, 3)],
        # The second is specific to two domains.
        "medical": [("vision", 1, 7), ("vision", 2, 5), ("projector", 0, 2), ("language", 1, 4)],
        "driving": [("language", 1, n) for n in range(5)],
        "document": [],
        "remote": [("vision", 0, 2), ("projector", 0, 3), ("language", 0, 9)],
    },
    BLIP: {
        "common": [("vision", 0, 0), ("qformer.query", 0, 1), ("qformer.text", 1, 1)],
        "medical": [("qformer.query", 1, 4), ("qformer.text", 0, 4), ("language", 2, 2)],
        "driving": [("language", 0, 2)],
        "document": [("vision", 1, 9), ("vision", 1, 8)],
        "remote": [],
    },
}
CONDITIONS = {
    NEXT: ["vision", "projector", "language", "all"],
    BLIP: ["vision", "qformer", "language", "all"],
}
SEEDS = (0, 1, 2)
ROLES = {"driving": "Role: you drive. "}
PROMPTS = {
    NEXT: {
        "identify": "<image>\n{question}",
        "paper": {
            "open": "USER: <image> {role}Question: {question} Answer briefly. ASSISTANT:",
            "choice": "USER: <image> {role}Question: {question} Options: {options} ASSISTANT:",
        },
        "released": {
            "open": "USER: <image>\n{role}Question: {question}\nAnswer briefly. ASSISTANT:",
            "choice": "USER: <image>\n{role}Question: {question}\nOptions: {options}\nASSISTANT:",
        },
    },
    BLIP: {
        "identify": "{question}",
        "paper": {
            "open": "{role}Question: {question} Short Answer:",
            "choice": "{role}Question: {question} Options: {options} Letter:",
        },
        "released": {
            "open": "{role}Question: {question} Short Answer:",
            "choice": "{role}Question: {question} Options: {options} Letter:",
        },
    },
}
SIZES = {"common": (64, 48), "medical": (40, 40), "driving": (60, 40), "document": (50, 64)}
FRAMES = 5
TOKENS = [
    "\u2581dog",
    "|",
    "\n",
    "<s>",
    "$x$",
    "*a*",
    "\u718a",
    "a_b",
    "\u2581",
    "uncharacteristically",
]


def options(domain):
    """What may be chosen; only medical questions have options."""
    return ["A: a | b", "B: <b>lung</b>"] if domain == "medical" else []


def question(domain, part, order):
    """A question's text, some of it hard to set."""
    return f"What is $x$ in {domain} <{part}> {order}?"


def questions(domains=DOMAINS):
    """Three questions of each domain to find neurons and two to test them, not in their order."""
    rows = []
    for domain in domains:
        for part, n in (("evaluate", 2), ("identify", 3)):
            for order in reversed(range(n)):
                name = f"{domain}-{part}-{order}"
                n_frames = FRAMES if domain == "driving" else 1
                files = [f"{name}.{frame}.png" for frame in range(n_frames)]
                rows.append((name, domain, part, order, files, question(domain, part, order),
                             options(domain), "B" if options(domain) else "a | dog"))  # fmt: skip
    columns = ["sample_id", "group", "part", "order", "files", "question", "options", "answer"]
    return pd.DataFrame(rows, columns=columns)


def pictures(folder):
    """The files of all questions, gray, frames darker one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in questions().itertuples():
        for number, file in enumerate(row.files):
            shade = 200 - 30 * number
            size = SIZES.get(row.group, (48, 48))
            Image.new("RGB", size, (shade, shade, shade)).save(folder / file)


def neurons(model, variant="released"):
    """Domain neurons; the printed variant lacks each domain's first and has one of its own."""
    rows = []
    for domain, found in NEURONS[model].items():
        if variant == "paper" and found:
            found = [*found[1:], ("language", 0, 19)]
        for rank, (module, layer, unit) in enumerate(found):
            inert = layer in INERT[model].get(module, [])
            rows.append(("", domain, module, layer, unit, 0.1 * rank, rank, 0.9, inert))
    columns = ["sample_id", "group", "module", "layer", "unit", "score", "rank", "probability"]
    return pd.DataFrame(rows, columns=[*columns, "inert"])


def silent(model):
    """A row a layer."""
    rows = [
        (module, layer, n, SILENT.get(module, 0), layer in INERT[model].get(module, []))
        for module, units in LAYERS[model].items()
        for layer, n in enumerate(units)
    ]
    return pd.DataFrame(rows, columns=["module", "layer", "n_units", "n_silent", "inert"])


def counts(model, path):
    """Sums by domain: 3 questions but 2 of driving, 100 tokens a question in every module."""
    n_samples = [2 if domain == "driving" else 3 for domain in DOMAINS]
    tensors = {}
    for module, units in LAYERS[model].items():
        tensors[f"tokens.{module}"] = 100 * np.array(n_samples)
        tensors[f"counts.{module}"] = np.zeros((len(DOMAINS), sum(units)), np.int64)
    facts = {"groups": DOMAINS, "layers": LAYERS[model], "n_samples": n_samples}
    write_tensors(tensors, path, facts)


def pca(model):
    """Points on lines, one a domain; the second model has no picture of documents."""
    rows = [
        (f"{domain}-identify-{n}", domain, 3.0 * place + n, n - place, 0.51, 0.2)
        for place, domain in enumerate(DOMAINS)
        for n in range(3)
        if model == NEXT or domain != "document"
    ]
    columns = ["sample_id", "group", "x", "y", "explained_x", "explained_y"]
    return pd.DataFrame(rows, columns=columns)


def n_layers(model):
    """Layers of the language model."""
    return len(LAYERS[model]["language"])


def entropy(model, layers=None):
    """Falls with the layer; one sample has no image token."""
    layers = n_layers(model) if layers is None else layers
    rows = [
        (
            f"{domain}-evaluate-{n}",
            domain,
            layer,
            kind,
            np.nan
            if (domain, n, kind) == ("remote", 1, "image")
            else 8 - layer * (1 if kind == "image" else 2) / layers + place / 10 + n / 100,
            4,
        )
        for place, domain in enumerate(DOMAINS)
        for n in range(2)
        for layer in range(layers + 1)
        for kind in ("image", "text")
    ]
    columns = ["sample_id", "group", "layer", "kind", "entropy", "n_tokens"]
    return pd.DataFrame(rows, columns=columns)


CASES = {"figure6": "remote", "figure10": "medical", "figure13": "driving"}


def lens(model):
    """Seven tokens a layer at an image and a text token, the best with 0.4 and more."""
    rows = [
        (f"{domain}-evaluate-0", domain, item, position, place, layer, rank,
         TOKENS[(layer + 2 * rank) % len(TOKENS)], (0.4 + 0.2 * layer) / (1 + rank))
        for item, domain in CASES.items()
        for position, place in (("last text token of 9", 20), ("image token 2 of 16", 3))
        for layer in range(n_layers(model) + 1)
        for rank in range(7)
    ]  # fmt: skip
    columns = ["sample_id", "group", "item", "position", "place", "layer", "rank", "token"]
    return pd.DataFrame(rows, columns=[*columns, "probability"])


def trials(model):
    """(condition, control, seed) of everything that is deactivated."""
    yield "none", "", -1
    for condition in CONDITIONS[model]:
        yield condition, "dape", -1
        for seed in SEEDS:
            yield condition, "random", seed


LABELS = {
    "vqa": ("VQA accuracy", "exact match with a confident answer"),
    "multiple_choice": ("accuracy of the named option", "letters of the reply that are the label"),
    "exact": ("exact match (no Lingo-Judge configured)",) * 2,
}
METRICS = {"common": "vqa", "medical": "multiple_choice"}


def accuracy(model):
    """0.9 with nothing, 0.5 with domain neurons, 0.8 and a tenth a seed less with random ones.

    The released measure is the same but in the medical domain, where it is twice as large.
    """
    rows = []
    for domain in DOMAINS:
        metric = METRICS.get(domain, "exact")
        for condition, control, seed in trials(model):
            value = {"": 0.9, "dape": 0.5, "random": 0.8 - seed / 10}[control]
            for place, variant in enumerate(("official", "released")):
                own = value * (2 if variant == "released" and domain == "medical" else 1)
                rows.append((domain, condition, control, seed, metric, variant, own, own - 0.1,
                             own + 0.1, 2, 0, LABELS[metric][place]))  # fmt: skip
    columns = ["group", "condition", "control", "seed", "metric", "variant", "value", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "n", "n_left_out", "label"])


OVER = ("all_tokens", "per_token", "image", "text", "last")


def deviation(model):
    """A tenth and a hundredth a way of taking it; text tokens of remote questions have none.

    As recorded, there are rows of nothing deactivated too.
    """
    rows = []
    for domain in DOMAINS:
        for condition, control, seed in trials(model):
            for place, over in enumerate(OVER):
                value = (0.1 if control == "dape" else 0.05) + place / 100 + max(seed, 0) / 1000
                nothing = over == "text" and domain == "remote"
                value = np.nan if nothing else value
                rows.append((domain, condition, control, seed, over, value, value - 0.01,
                             value + 0.01, 0 if nothing else 2, 0))  # fmt: skip
    columns = ["group", "condition", "control", "seed", "over", "value", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "n", "n_left_out"])


LEFT_OUT = ["stage", "sample_id", "group", "reason", "detail"]


def exclusions():
    """Two questions and a domain, before any model."""
    rows = [
        ("prepare", "common-9", "common", "no-picture", "no file a|b.png"),
        ("prepare", "driving-9", "driving", "missing-frame", "1 of 5 frames"),
        ("prepare", "", "remote", "too-few-questions", "wanted 4, found 3"),
    ]
    return pd.DataFrame(rows, columns=LEFT_OUT)


def recorded(model):
    """A domain with few tokens, in the second model."""
    rows = [("record", "", "document", "fewer-tokens", "300 tokens, 400 are the budget")]
    return pd.DataFrame(rows if model == BLIP else [], columns=LEFT_OUT)


def write(folder: Path) -> dict[str, list[str] | str]:
    """Write everything; return paths by the names that the scripts' inputs have."""
    paths: dict[str, list[str] | str] = {"questions": str(folder / "questions.parquet")}
    paths["exclusions"] = str(folder / "exclusions.parquet")
    write_table(questions(), paths["questions"])
    write_table(exclusions(), paths["exclusions"])
    pictures(folder / "pictures")
    for number, model in enumerate(MODELS):
        tables = {
            "neurons": neurons(model),
            "paper": neurons(model, "paper"),
            "entropy": entropy(model),
            "lens": lens(model),
            "recorded": recorded(model),
        }
        metrics = {
            "pca": pca(model),
            "silent": silent(model),
            "accuracy": accuracy(model),
            "deviation": deviation(model),
        }
        write_named(tables, folder / f"{number}", "parquet", paths)
        write_named(metrics, folder / f"{number}", "csv", paths)
        paths.setdefault("counts", []).append(str(folder / f"{number}" / "counts.safetensors"))
        counts(model, paths["counts"][-1])
    return paths


# Items made of these, as the rules make them.

SELECTED = {"variant": "released", "share": 1}
WORDING = {model: templates["paper"] for model, templates in PROMPTS.items()}

# item: files by argument, options, models
ITEMS = {
    "figure2": ({"pca": "pca"}, {}, MODELS),
    "figure5": ({"neurons": "neurons", "silent": "silent", "counted": "counts"}, SELECTED, MODELS),
    "figure6": ({"lens": "lens", "questions": "questions"}, {"item": "figure6"}, MODELS[:1]),
    "figure7": ({"entropy": "entropy"}, {}, MODELS),
    "figure8": (
        {"questions": "questions"},
        {"prompts": WORDING, "roles": ROLES},
        MODELS,
    ),
    "figure9": ({"silent": "silent", "counted": "counts"}, {}, MODELS),
    "table1": (
        {"neurons": "neurons", "silent": "silent", "counts": "counts", "counted": "counts"},
        SELECTED,
        MODELS,
    ),
    "table2": ({"accuracy": "accuracy"}, {"masks": "paper"}, MODELS),
    "table3": ({"deviation": "deviation"}, {"masks": "paper"}, MODELS),
    "table4": ({"questions": "questions", "counted": "questions"}, {"datasets": DATASETS}, MODELS),
    "table5": (
        {"counted": "questions"},
        {"prompts": PROMPTS, "roles": ROLES, "used": "paper"},
        MODELS,
    ),
    "table9": ({"entropy": "entropy", "counted": "entropy"}, {}, MODELS),
    "tableS1": (
        {"released": "neurons", "paper": "paper", "silent": "silent", "counted": "counts"},
        {"share": 1},
        MODELS,
    ),
    "exclusions": ({"counted": "questions"}, {}, MODELS),
}
WITHOUT_MODELS = ("figure8", "table4", "table5")


def files_of(item, paths):
    """The files of an item as the rules give them."""
    arguments, _, models = ITEMS[item]
    found = {name: paths[file] for name, file in arguments.items()}
    found["exclusions"] = paths["exclusions"]
    if item not in WITHOUT_MODELS:
        found["recorded"] = paths["recorded"]
    return {n: p if isinstance(p, str) else p[: len(models)] for n, p in found.items()}


def made(item, paths, /, **others):
    """An item's data and source, with some other options."""
    _, options, models = ITEMS[item]
    files = files_of(item, paths)
    return read_item((FIGURES | TABLES)[item], files, options | others, models, DATASETS)
