"""Small made-up artifacts of a whole run, with texts that are markup if put in as such.

Their tables and tensors have the columns and shapes of docs/artifacts.md that the browser reads.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mmneurons.artifacts.counts import CountsWriter, total_counts, write_counts
from mmneurons.artifacts.tables import write_csv, write_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.browser.domains import domains_part
from mmneurons.browser.pan import pan_part
from mmneurons.browser.parts import EFFECTS, EXCLUSIONS, Method, Part, SampleMaps, Shown, View
from mmneurons.browser.two_stage import two_stage_part

SCRIPT = "</script><script>window.broken=1</script>"
IMAGE = "<img src=x onerror=window.broken=1>"
TOKENS = ["\u2581dog", SCRIPT, "\n", "=1+1", "@$x$", "-*", "\r\u718a", "+&amp;", "\u2581", '\t"x"']
"""Markup, and texts that a spreadsheet would take for formulas."""
PREFIX = "An image of"
DOMAINS = ["common", "medical"]
SITE = "act"
GRID = (4, 6)
LABELS = {"one": "One of a made-up world (tiny)", "two": "Two <b>of a world</b> (tiny)"}
TWO_STAGE = ["two_stage.auto", "attribution.all-layers", "random.matched"]


def rng(*names):
    """A generator that depends on names only."""
    return np.random.default_rng(list("/".join(map(str, names)).encode()))


def neuron_tokens(layers, units):
    """Ten tokens of every language neuron: five of TOKENS, others for each unit, and five words."""
    rows = [
        (
            "language",
            layer,
            unit,
            [*[*TOKENS, *TOKENS][unit % 10 : unit % 10 + 5], *(f"w{unit}.{n}" for n in range(5))],
            np.linspace(0.3, 0.01, 10, dtype=np.float32),
        )
        for layer in range(layers)
        for unit in range(units)
    ]
    return pd.DataFrame(rows, columns=["module", "layer", "unit", "tokens", "probabilities"])


def draw(path, seed, size=(60, 40), noise=8):
    """A picture of a smooth gradient, a disc and some grain, so that it weighs as a photo does."""
    generator = rng("picture", seed)
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / max(size)
    centre, radius = generator.uniform(0.2, 0.5, 2), generator.uniform(0.1, 0.25)
    disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
    low, high, colour = generator.integers(30, 220, (3, 3))
    pixels = low + (high - low) * y[..., None]
    pixels = np.where(disc[..., None], colour, pixels) + generator.normal(0, noise, (*x.shape, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)


def ranked(samples, method, layers, units, top, seeds=None):
    """The `top` best neurons of each (sample, group), drawn; with seeds, random selections."""
    rows = []
    for sample, group in samples:
        for seed in seeds or [None]:
            places = rng(method, sample, seed).choice(layers * units, top, replace=False)
            for rank, place in enumerate(places.tolist()):
                score = 0.0 if seeds else 3.0 - rank / (top + 1)
                row = (sample, group, "language", place // units, place % units, score, rank)
                rows.append((*row, seed) if seeds else row)
    columns = ["sample_id", "group", "module", "layer", "unit", "score", "rank"]
    return pd.DataFrame(rows, columns=columns + (["seed"] if seeds else []))


def two_stage(folder, layers=3, units=40, pictures=4, top=6, map_units=20):
    """Two objects, `pictures` pictures each, with maps, noise and exclusions."""
    rows, groups = [], ["bear", "bed"]
    for group in groups:
        for order in range(pictures):
            number = len(rows) + 1
            sample = f"{number:012d}-{group}"
            said = f"the picture shows a {group} & {IMAGE}."
            role = "calibration" if order == pictures - 1 else "evaluation"
            row = (sample, number, f"{number:012d}.jpg", group, order, role, said, "nothing")
            rows.append(row)
            draw(folder / "coco" / f"{number:012d}.jpg", number)
            draw(folder / "inpainted" / f"{sample}.png", -number)
    columns = ["sample_id", "image_id", "file", "group", "order", "role"]
    valid = pd.DataFrame(rows, columns=[*columns, "caption_original", "caption_inpainted"])
    samples = list(zip(valid["sample_id"], valid["group"], strict=True))
    paths = {"valid": [folder / "valid.parquet"], "inpainted": [folder / "inpainted"]}
    write_table(valid, paths["valid"][0])
    paths["neurons"] = []
    tables = {}
    for name in TWO_STAGE:
        method, variant = name.split(".")
        seeds = [0, 1] if method == "random" else None
        tables[name] = ranked(samples, name, layers, units, top, seeds)
        paths["neurons"].append(folder / f"{method}.{SITE}.{variant}.parquet")
        write_table(tables[name], paths["neurons"][-1])
    tensors = {}
    for group in groups:
        own = tables["two_stage.auto"]
        pairs = own.loc[own["group"] == group, ["layer", "unit"]].drop_duplicates()
        chosen = np.unique(pairs.to_numpy()[:map_units], axis=0).astype(np.int32)
        tensors[f"{SITE}/map_units/{group}"] = chosen
        shape = (pictures, len(chosen), GRID[0] * GRID[1])
        tensors[f"{SITE}/maps/{group}"] = rng("maps", group).normal(0, 1, shape).astype(np.float16)
    paths["record"] = [folder / "two_stage.safetensors"]
    facts = {"sample_ids": [s for s, _ in samples], "grid": list(GRID)}
    write_tensors(tensors, paths["record"][0], {**facts, "inert_layers": [layers - 1]})
    hits = [
        (method, variant, seed, sample, group, other, other_group, level, 0, named)
        for method, variant in (name.split(".") for name in TWO_STAGE)
        for seed in ((0, 1) if method == "random" else (0,))
        for sample, group in samples
        for other, other_group in ((sample, group), next(s for s in samples if s[1] != group))
        for level in (1.0, 2.0)
        # Noise of level 2 on neurons of a method silences the object, on random ones nothing.
        for named in [method == "random" or level == 1.0 or other != sample]
    ]
    columns = ["method", "variant", "seed", "sample_id", "group", "picture_id", "picture_group"]
    paths["hits"] = [folder / "hits.parquet"]
    write_table(pd.DataFrame(hits, columns=[*columns, "level", "draw", "named"]), paths["hits"][0])
    paths["suppression"] = [folder / "suppression.csv"]
    measures = ("suppression", "retention", "score")
    ends = {"": 0.5, "_low": 0.4, "_high": 0.6}
    rates = [
        {"method": method, "variant": variant, "group": "", "level": np.nan}
        | {f"{measure}{end}": n for measure in measures for end, n in ends.items()}
        | {"n_groups": 2, "n_captions": 40}
        for method, variant in (name.split(".") for name in TWO_STAGE)
    ]  # fmt: skip
    write_csv(pd.DataFrame(rates), paths["suppression"][0])
    paths["exclusions"] = [folder / "exclusions.parquet"]
    write_table(exclusions("validity", SCRIPT), paths["exclusions"][0])
    return paths


def exclusions(stage, detail):
    """Two rows: one of a sample, one of a group."""
    rows = [(stage, "7-bear", "bear", "inpainted-still-names", detail)]
    rows.append((stage, "", "bed", "too-few-valid-samples", "1 of 2"))
    return pd.DataFrame(rows, columns=["stage", "sample_id", "group", "reason", "detail"])


def pan(
    folder,
    layers=3,
    units=40,
    pictures=5,
    top=10,
    grid=GRID,
    size=(60, 40),
    queries=False,
    animal="dog",
):
    """Captions that name two concepts each, the animal and one that is written as markup."""
    listed, captions, concepts, boxes = [], [], [], {}
    for number in range(pictures):
        name = f"{number:09d}"
        listed.append((name, f"{name}.jpg", f"photo {IMAGE}", number))
        draw(folder / "sbu" / f"{name}.jpg", ("pan", number), size)
        ball = "ball" if number < 20 else f"ball of colour {number % 48}"
        first, second = (animal, "<i>grass</i>") if number % 2 else (ball, animal)
        text = f"{PREFIX} a {first} on {second} {SCRIPT}"
        captions.append((name, "plain", text))
        captions.append((name, "shuffled", f"{PREFIX} nothing"))
        for position, group in enumerate((first, second)):
            start = text.index(group)
            row = (f"{name}-{group}", name, "plain", group, position, start, start + len(group))
            concepts.append(row)
        boxes[name] = [0, 0, size[0] * 2 // 3, size[1]]
    tables = {
        "pictures": pd.DataFrame(listed, columns=["picture_id", "file", "caption", "order"]),
        "captions": pd.DataFrame(captions, columns=["picture_id", "variant", "caption"]),
        "concepts": pd.DataFrame(
            concepts,
            columns=["sample_id", "picture_id", "variant", "group", "position", "start", "end"],
        ),
        "exclusions": exclusions("nouns", IMAGE),
    }
    samples = [(row[0], row[3]) for row in concepts]
    noise = [
        (sample, group, sample.split("-")[0], method, seed, "row", 4.0, 0,
         f"{PREFIX} a {group}", f"{PREFIX} a {'cat' if method == 'contribution' else group}")
        for sample, group in samples[:4]
        for method, seed in (("contribution", 0), ("random", 0), ("random", 1))
    ]  # fmt: skip
    columns = ["sample_id", "group", "picture_id", "method", "seed", "unit", "level", "draw"]
    columns += ["caption_before", "caption"]
    tables["weight_noise"] = pd.DataFrame(noise, columns=columns)
    edits = [
        (sample, group, "night", "word", method, 0, sample.split("-")[0], "edited",
         f"{PREFIX} a {group}", f"{PREFIX} a {'night' if method == 'contribution' else group}")
        for sample, group in samples[:2]
        for method in ("contribution", "random")
    ]  # fmt: skip
    columns = ["sample_id", "source", "target", "kind", "method", "seed", "picture_id", "role"]
    columns += ["caption_before", "caption"]
    tables["edits"] = pd.DataFrame(edits, columns=columns)
    paths = {name: [folder / f"{name}.parquet"] for name in tables}
    for name, table in tables.items():
        write_table(table, paths[name][0])
    paths["neurons"] = []
    for method, site in (("contribution", SITE), ("activation", SITE), ("attribution", "pre")):
        paths["neurons"].append(folder / f"{method}.{site}.plain.parquet")
        write_table(ranked(samples, method, layers, units, top), paths["neurons"][-1])
    paths["maps"] = [folder / "maps.safetensors"]
    facts = {"sample_ids": [s for s, _ in samples], "grid": grid and list(grid), "boxes": boxes}
    facts |= {"top_k": [1, 5, 10], "recorded": top, "through_queries": queries, "inert_layers": []}
    tensors = {}
    if grid:
        shape = (len(samples), 3 + 5, grid[0] * grid[1])
        tensors[f"{SITE}/maps"] = rng("pan maps").gamma(1, 1, shape).astype(np.float16)
    write_tensors(tensors, paths["maps"][0], facts)
    spread = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 8}
    rates = {
        "weight_noise_rates": [
            {"method": method, "unit": "row", "level": 4.0, "measure": "suppression"} | spread
            for method in ("contribution", "random")
        ],
        "edit_rates": [
            {"kind": "word", "method": method, "measure": "source_gone"} | spread
            for method in ("contribution", "random")
        ],
    }
    for name, rows in rates.items():
        paths[name] = [folder / f"{name}.csv"]
        write_csv(pd.DataFrame(rows), paths[name][0])
    return paths


def domains(folder, record="samples", language=(40, 40, 40)):
    """Two domains; vision unit 3 of layer 1 is active at all tokens of medical pictures alone."""
    layers = {"vision": [6, 6], "language": list(language)}
    rows = []
    for domain in DOMAINS:
        for part, n in (("identify", 3), ("evaluate", 2)):
            for order in range(n):
                name = f"{domain}-{part}{order}"
                draw(folder / domain / f"{name}.png", name, (48, 48))
                rows.append(
                    (name, domain, part, order, [f"{name}.png"], f"What {IMAGE} is it, {order}?")
                    + (["A: <b>lung</b>", "B: x"], SCRIPT, f"{part}{order}")
                )
    columns = ["sample_id", "group", "part", "order", "files", "question"]
    questions = pd.DataFrame(rows, columns=[*columns, "options", "answer", "source_id"])
    paths = {"questions": [folder / "questions.parquet"]}
    write_table(questions, paths["questions"][0])
    paths["sample_counts"] = [folder / "sample_counts.parquet"]
    facts = {"groups": DOMAINS, "layers": layers, "inert": {"vision": [1]}, "label": LABELS["two"]}
    identify = questions[questions["part"] == "identify"]
    counts = {}
    for module, units in layers.items():
        values = rng("counts", module).integers(0, 50, (len(identify), sum(units)))
        if module == "vision":
            values[:, 9] = np.where(identify["group"] == "medical", 100, 0)
        counts[module] = values.astype(np.uint32)
    tokens = {module: np.full(len(identify), 100, np.int64) for module in layers}
    by_sample = folder / "by_sample.parquet"
    with CountsWriter(by_sample, layers, facts) as writer:
        ids, groups = identify["sample_id"].tolist(), identify["group"].tolist()
        writer.add(ids, groups, [1] * len(ids), tokens, counts)
    total = total_counts(by_sample, DOMAINS)
    paths["counts"] = [folder / "counts.safetensors"]
    write_counts(total, paths["counts"][0], facts)
    if record == "samples":
        by_sample.rename(paths["sample_counts"][0])
    else:
        with CountsWriter(paths["sample_counts"][0], layers, facts) as writer:
            writer.add([""] * 2, DOMAINS, total.n_samples, total.tokens, total.counts)
    found = [
        ("", "medical", "vision", 1, 3, 0.1, 0, 1.0, True),
        ("", "medical", "language", 2, 7, 0.2, 0, 0.9, False),
        ("", "common", "language", 0, 5, 0.3, 0, 0.8, False),
    ]
    columns = ["sample_id", "group", "module", "layer", "unit", "score", "rank", "probability"]
    paths["neurons"] = [folder / "dape.act.released-1.parquet"]
    rule = {"rule": {"variant": "released", "share": 0.01, "percentile": 95, "inert": "keep"}}
    write_table(pd.DataFrame(found, columns=[*columns, "inert"]), paths["neurons"][0], rule)
    trials = [("none", "", -1)]
    for condition in ("vision", "language", "all"):
        trials += [(condition, "dape", -1), (condition, "random", 0), (condition, "random", 1)]
    measured = [
        {"group": group, "condition": condition, "control": control, "seed": seed, "n": 2}
        | {"value": {"": 0.9, "dape": 0.4, "random": 0.8 + seed / 10}[control]}
        | {"low": 0.3, "high": 0.9}
        for group in DOMAINS
        for condition, control, seed in trials
    ]
    for name, more in (
        ("accuracy", {"variant": "official"}),
        ("deviation", {"over": "all_tokens"}),
    ):
        paths[name] = [folder / f"{name}.csv"]
        write_csv(pd.DataFrame([row | more for row in measured]), paths[name][0])
    answers = [
        (row.sample_id, row.group, condition, control, seed, f"{control} {SCRIPT}")
        for row in questions[questions["part"] == "evaluate"].itertuples()
        for condition, control, seed in trials
    ]
    columns = ["sample_id", "group", "condition", "control", "seed", "reply"]
    paths["answers"] = [folder / "answers.parquet"]
    write_table(pd.DataFrame(answers, columns=columns), paths["answers"][0])
    paths["exclusions"] = [folder / "exclusions.parquet"]
    write_table(exclusions("prepare", IMAGE), paths["exclusions"][0])
    return paths


def captioned(folder, model, layers=3, units=40, **others):
    """The part of a model that captions; others: arguments of `pan`."""
    return pan_part(
        pan(folder, layers, units, **others), model, LABELS[model], "sbu", "made-up captions",
        str(folder / "sbu"), SITE, {"language": [units] * layers}, PREFIX, 5, 5,
    )  # fmt: skip


def two_captions(folder):
    """Parts of two models that caption the same pictures, and name a dog and a cat."""
    dogs, cats = captioned(folder / "one", "one"), captioned(folder / "two", "two", animal="cat")
    return [dogs, cats], {model: neuron_tokens(3, 40) for model in LABELS}


def parts(folder: Path, **sizes):
    """Parts of two models and three papers, and their decoded neurons; sizes: those of `pan`."""
    layers, units = sizes.get("layers", 3), sizes.get("units", 40)
    first = two_stage_part(
        two_stage(folder / "two_stage"), "one", LABELS["one"], "made-up objects",
        str(folder / "two_stage" / "coco"), SITE, "auto", {"language": [40] * 3},
    )  # fmt: skip
    second = captioned(folder / "pan", "two", **sizes)
    counted = domains(folder / "domains", language=[units] * layers)
    third = domains_part(
        counted, "two", LABELS["two"], dict.fromkeys(DOMAINS, "made-up data"),
        {domain: str(folder / "domains" / domain) for domain in DOMAINS}, 2,
    )  # fmt: skip
    tokens = {"one": neuron_tokens(3, 40), "two": neuron_tokens(layers, units)}
    return [first, second, third], tokens


def photo(seed):
    """Smooth shapes under the grain of a photograph, 320 x 240 pixels."""
    generator = np.random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((320, 240), Image.Resampling.BICUBIC), np.float32)
    fine = Image.fromarray(generator.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    detail = np.asarray(fine.resize((320, 240), Image.Resampling.BICUBIC), np.float32) - 128
    pixels = smooth + 0.25 * detail + generator.normal(0, 4, smooth.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def photographed(neurons, pictures, rows, grid=(24, 24), layers=32, units=64):
    """A part whose neurons have maps on `pictures` photographs of their own, and their tokens.

    rows: of the table, as many for each neuron, each for another of 200 concepts.
    """
    generator = np.random.default_rng(0)
    places = generator.choice(layers * units, neurons, replace=False)
    found, views, group_of, maps = [], [], {}, {}
    for number, place in enumerate(places.tolist()):
        where = (place // units, place % units)
        for concept in range(rows // neurons):
            group = f"concept {(number * 7 + concept * 13) % 200}"
            row = ("contribution/plain", f"{number}-{concept % pictures}", group, "language")
            found.append((*row, *where, 1 / (1 + concept), concept, ""))
        for order in range(pictures):
            sample, seed = f"{number}-{order}", number * pictures + order
            group_of[sample] = f"concept {(number * 7 + order * 13) % 200}"
            values = generator.gamma(1, 1, (1, grid[0] * grid[1])).astype(np.float32)
            maps[sample] = SampleMaps([where], values, [("best neuron", values[0])])
            shown = Shown(str(seed), f"Picture {seed}", lambda seed=seed: photo(seed))
            text = [(f"An image of {group_of[sample]}", sample)]
            views.append(View(f"pan-{seed}", f"picture {seed}", shown, text, [sample]))
    columns = ["method", "sample_id", "group", "module", "layer", "unit", "score", "rank", "key"]
    part = Part(
        "pan", "model", "A model (made up)", "made-up photographs", "concept",
        {"language": [units] * layers}, {},
        [Method("contribution/plain", "contribution", "contribution", "")],
        pd.DataFrame(found, columns=columns), views, group_of,
        pd.DataFrame(columns=EFFECTS), {}, pd.DataFrame(columns=EXCLUSIONS), grid, maps,
        rates=pd.DataFrame(columns=["what", "method", "value", "low", "high", "n"]),
    )  # fmt: skip
    return part, {"model": neuron_tokens(layers, units)}
