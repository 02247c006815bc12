"""Small made-up artifacts of Schwettmann et al. 2023, of which every number is known."""

from pathlib import Path

import numpy as np
import pandas as pd
from figure_checks import write_named

from mmneurons.artifacts.tables import write_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.figures.schwettmann_items import item_data

MODEL = "LiMBeR of a made-up world (tiny)"
DATASET = "drawn pictures"
# (picture_id, noun, supercategory), in the order of the seed, which is not that of the numbers.
PICTURES = [
    ("000000007", "dog", "animal"),
    ("000000003", "cat", "animal"),
    ("000000005", "car", "vehicle"),
    ("000000009", "sky", ""),
    ("000000011", "vase", "indoor"),
    ("000000013", "kite", "sports"),
    ("000000002", "bed", "furniture"),
    ("000000004", "pizza", "food"),
    ("000000006", "clock", "yard"),
    ("000000008", "bus", "vehicle"),
]
SINGLES = [("000000001", "bear", "animal"), ("000000020", "sheep", "animal")]
"""Taken for their single object; if they counted, the bear would be the first of the animals."""
EVERY = [SINGLES[0], *PICTURES, SINGLES[1]]
IDS = [name for name, _, _ in PICTURES]
LAYERS, UNITS = 4, 40
GRID = (4, 6)
PATCHES = GRID[0] * GRID[1]
BOX = [10, 0, 50, 40]
SIDES = (60, 40)
TOP = 8
"""Units of a picture whose maps are kept."""
KS = (0, 5, 10, 20, 50)
CONDITIONS = ("all", "interpretable", "random")
FREQUENT = ((2, 8), (1, 7), (1, 6))
"""Units of several pictures; the second one is not interpretable."""
PROMPT_PATCHES = 40


def rng(*names):
    """A generator that depends on names only."""
    return np.random.default_rng(list("/".join(map(str, names)).encode()))


def caption(group):
    """A caption that names the group once."""
    return f"A picture of a {group} and a | <b> in the sun"


def captions():
    """A row a picture, the first and the last of them not sampled."""
    rows = [
        (name, f"{name}.png", caption(group), [1, 2, 3], group, 2, 7, 0.8, ["a", "b"], above,
         name in IDS)
        for name, group, above in EVERY
    ]  # fmt: skip
    columns = ["picture_id", "file", "caption", "token_ids", "group", "position", "token"]
    return pd.DataFrame(
        rows, columns=[*columns, "probability", "references", "supercategory", "sampled"]
    )


def best(name):
    """The units of a picture, best first; of the first three pictures FREQUENT are among them."""
    found = [(place // UNITS, place % UNITS) for place in rng(name).permutation(LAYERS * UNITS)]
    if name not in IDS[:3]:
        return [unit for unit in found if unit not in FREQUENT]
    # The further the picture, the better the unit.
    at = 4 - IDS.index(name)
    return [*(unit for unit in found if unit not in FREQUENT)][:at] + [*FREQUENT, *found[at:]]


def units():
    """Every unit of a picture, one of two interpretable."""
    rows = [
        (name, group, "language", layer, unit, (100 - rank) / 1000, rank, unit % 2 == 0)
        for name, group, _ in EVERY
        for rank, (layer, unit) in enumerate(dict.fromkeys(best(name)))
    ]
    columns = ["sample_id", "group", "module", "layer", "unit", "score", "rank"]
    return pd.DataFrame(rows, columns=[*columns, "interpretable"])


def neurons():
    """Thirty pairs a picture; the best unit stands there twice."""
    rows = []
    for name, group, _ in EVERY:
        units = [best(name)[0], *best(name)[:29]]
        rows += [
            (name, group, "language", layer, unit, rank % PATCHES, (30 - rank) / 1000, rank,
             unit % 2 == 0)
            for rank, (layer, unit) in enumerate(units)
        ]  # fmt: skip
    columns = ["sample_id", "group", "module", "layer", "unit", "patch", "score", "rank"]
    return pd.DataFrame(rows, columns=[*columns, "interpretable"])


def tokens():
    """The ten best tokens of every neuron; some are hard to set."""
    words = ["\u2581dog", "|", "\n", "<s>", "$x$", "*", "\u718a", "a_b", "\u2581", "x"]
    rows = [
        (module, layer, unit, [*words[unit % 10 :], *words[: unit % 10]], [0.1] * 10)
        for module in ("language", "vision")
        for layer in range(LAYERS)
        for unit in range(UNITS)
    ]
    columns = ["module", "layer", "unit", "tokens", "probabilities"]
    return pd.DataFrame(rows, columns=columns)


def index():
    """Where the maps of each picture's best units and of random ones stand."""
    rows = []
    for name, _, _ in EVERY:
        for kind, units in (
            ("multimodal", best(name)[:TOP]),
            ("random", best(f"{name} random")[:TOP]),
        ):
            rows += [(name, layer, unit, kind, rank) for rank, (layer, unit) in enumerate(units)]
    table = pd.DataFrame(rows, columns=["picture_id", "layer", "unit", "kind", "rank"])
    table = table.assign(row=range(len(table)), value=TOP - table["rank"])
    return table[["row", "picture_id", "layer", "unit", "kind", "rank", "value"]]


def maps(path, grid=GRID):
    """Zeros with one patch that is TOP - rank, of random units too; patch 8 + rank."""
    table = index()
    values = np.zeros((len(table), PATCHES), np.float16)
    for row in table.itertuples():
        values[row.row, 8 + row.rank] = TOP - row.rank
    facts = {
        "grid": None if grid is None else list(grid),
        "boxes": dict.fromkeys([name for name, _, _ in EVERY], BOX),
    }
    write_tensors({"maps": values}, path, facts)


def spread(name, value, width=0.1):
    """A value with an interval."""
    return {name: value, f"{name}_low": value - width, f"{name}_high": value + width}


def ablated():
    """Captions that say under what they were made; random units have two seeds."""
    rows = [
        (name, group, condition, seed, k, probability(condition, k), 1 - k / 100,
         caption(group) if k < 20 or condition == "random" else f"A picture of {condition} {k}")
        for name, group, _ in PICTURES
        for condition, seeds in (("random", (3, 2)), ("all", (0,)), ("interpretable", (0,)))
        for seed in seeds
        for k in KS[::-1]
    ]  # fmt: skip
    columns = ["picture_id", "group", "condition", "seed", "k", "probability", "bertscore"]
    return pd.DataFrame(rows, columns=[*columns, "caption"])


def probability(condition, k):
    """The probability falls with k, of random units little."""
    return 0.8 * (1 - k / {"all": 60, "interpretable": 80, "random": 500}[condition])


def ablation():
    """The means of `ablated`, the conditions in another order than that of the figure."""
    return pd.DataFrame(
        {"condition": condition, "k": k, "n": 10}
        | spread("probability", probability(condition, k))
        | spread("relative", probability(condition, k) / 0.8)
        | spread("bertscore", 1 - k / {"all": 100, "interpretable": 90, "random": 900}[condition])
        for condition in ("random", "all", "interpretable")
        for k in KS
    )


KIND_MEANS = {
    "random": (21, 0.3),
    "multimodal": (23, 0.4),
    "gpt": (24, 0.5),
    "coco_nouns": (28, 0.45),
    "image_prompts": (19, 0.31),
    "image_prompts_max": (20, 0.35),
    "random_prompts": (19.1, 0.32),
    "random_prompts_max": (20.1, 0.36),
}


def scores():
    """Scores around the mean of each kind."""
    rows = [
        (name, kind, clip + place - 4.5, bert + (place - 4.5) / 100)
        for kind, (clip, bert) in KIND_MEANS.items()
        for place, name in enumerate(IDS)
    ]
    return pd.DataFrame(rows, columns=["picture_id", "kind", "clipscore", "bertscore"])


def means():
    """Means of `scores`, with intervals."""
    return pd.DataFrame(
        {"kind": kind, "metric": metric, "value": value, "low": value - width}
        | {"high": value + width, "n": 10, "encoder": f"tiny|{metric}"}
        for kind, values in KIND_MEANS.items()
        for metric, value, width in zip(
            ("clipscore", "bertscore"), values, (0.5, 0.05), strict=True
        )
    )


def ks():
    """Tests against image prompts, given from either side, and one of neurons."""
    rows = [
        ("image_prompts", "random_prompts", "clipscore", 0.1, 0.9, 10, 10),
        ("image_prompts", "random_prompts", "bertscore", 0.2, 0.8, 10, 10),
        ("coco_nouns", "image_prompts", "clipscore", 0.95, 1e-6, 10, 10),
        ("multimodal", "random", "clipscore", 0.3, 0.04, 10, 10),
    ]
    columns = ["first", "second", "metric", "statistic", "p", "n_first", "n_second"]
    return pd.DataFrame(rows, columns=columns)


def prompts():
    """Scores of every patch."""
    rows = [
        (name, kind, patch, (patch + (kind == "random")) / 100, 20.0 + patch / 10)
        for name in IDS[:2]
        for kind in ("random", "image")
        for patch in range(PROMPT_PATCHES)
    ]
    return pd.DataFrame(rows, columns=["picture_id", "kind", "patch", "bertscore", "clipscore"])


def prompt_tokens():
    """Five tokens a patch."""
    return prompts()[["picture_id", "kind", "patch"]].assign(
        tokens=lambda t: [[f"tok{patch}", "|", "\n", "$", "_"] for patch in t["patch"]],
        cosines=lambda t: [[patch / 100, 0, 0, 0, 0] for patch in t["patch"]],
    )


def localisation():
    """IoU of the best units, of random ones and of the mean, of a few pictures."""
    rows = []
    for name, group, _ in (SINGLES[1], *(PICTURES[place] for place in (0, 1, 2, 4))):
        rows += [
            (name, group, layer, unit, "multimodal", rank, unit % 2 == 0, 0.4 - rank / 20)
            for rank, (layer, unit) in enumerate(best(name)[:TOP])
        ]
        rows += [
            (name, group, layer, unit, "random", rank, unit % 2 == 0, 0.05)
            for rank, (layer, unit) in enumerate(best(f"{name} random")[:TOP])
        ]
        rows.append((name, group, -1, -1, "multimodal-mean", 0, True, 0.55))
    columns = ["picture_id", "category", "layer", "unit", "kind", "rank", "interpretable", "iou"]
    return pd.DataFrame(rows, columns=columns)


def iou():
    """Means by category and over all; one category has no random neuron."""
    rows = [
        {"category": category, "kind": kind, "value": value, "low": value - 0.02}
        | {"high": value + 0.02, "n": n}
        for category, n in (("vase", 1), ("", 4), ("cat", 1), ("dog", 2))
        for kind, value in (
            ("random", 0.05),
            ("multimodal-mean", 0.3),
            ("multimodal", 0.2),
            ("all", 0.15),
        )
    ]
    table = pd.DataFrame(rows)
    gone = (table["category"] == "vase") & (table["kind"] == "random")
    table.loc[gone, ["value", "low", "high"]] = np.nan
    return table


def selectivity():
    """One on the diagonal, a tenth of the distance less elsewhere."""
    names = ["vase", "cat", "dog", "car"]
    rows = [
        (one, other, 1 - abs(i - j) / 10, 2 - abs(i - j) / 5, 20 - i, 6)
        for i, one in enumerate(names)
        for j, other in enumerate(names)
    ]
    columns = ["units_of", "pictures_of", "value", "activation", "n_units", "n_pictures"]
    return pd.DataFrame(rows, columns=columns)


def selectivity_pictures():
    """Two pictures of a category, of the last none."""
    rows = [
        (category, name, f"{name}.png")
        for category, names in {"vase": IDS[4:6], "cat": IDS[1:3], "dog": IDS[:1]}.items()
        for name in names
    ]
    return pd.DataFrame(rows, columns=["category", "picture_id", "file"])


def layers():
    """More units in the middle."""
    rows = [(2, 30, 12), (0, 4, 0), (1, 25, 20), (3, 0, 0)]
    return pd.DataFrame(rows, columns=["layer", "neurons", "interpretable"])


def exclusions():
    """A picture without a noun, and a category with too few pictures."""
    rows = [
        ("captions", "000000001", "", "no-noun", "a | b"),
        ("localisation", "", "bear", "too-few-pictures", "1 of 2"),
    ]
    return pd.DataFrame(rows, columns=["stage", "sample_id", "group", "reason", "detail"])


def write(folder: Path) -> dict[str, str]:
    """Write everything; return paths by the names that the scripts' inputs have."""
    tables = {
        "captions": captions(),
        "neurons": neurons(),
        "units": units(),
        "tokens": tokens(),
        "index": index(),
        "ablated": ablated(),
        "prompt_tokens": prompt_tokens(),
        "prompts": prompts(),
        "exclusions": exclusions(),
    }
    metrics = {
        "scores": scores(),
        "means": means(),
        "ks": ks(),
        "localisation": localisation(),
        "iou": iou(),
        "selectivity": selectivity(),
        "selectivity_pictures": selectivity_pictures(),
        "ablation": ablation(),
        "layers": layers(),
    }
    lists: dict[str, list[str]] = {}
    write_named(tables, folder, "parquet", lists)
    write_named(metrics, folder, "csv", lists)
    paths = {name: path for name, (path,) in lists.items()}
    paths["maps"] = str(folder / "maps.safetensors")
    maps(paths["maps"])
    write_table(tables["captions"], folder / "counted.parquet")
    return paths | {"counted": str(folder / "counted.parquet")}


MAPS = ("maps", "index", "captions")
READS = {
    "figure2": (*MAPS, "units", "tokens"),
    "figure3": ("scores", "ks", "prompts"),
    "figure4": (*MAPS, "units", "tokens"),
    "figure5": ("iou",),
    "figure6": ("ablation", "ablated", "captions"),
    "figureS1": (*MAPS, "localisation"),
    "figureS2": ("selectivity", "selectivity_pictures"),
    "figureS3": ("ablation",),
    "figureS4": ("layers",),
    "table1": ("means",),
    "table2": ("means", "ks", "prompts"),
    "tableS1": ("neurons", "captions", "tokens"),
    "tableS2": ("prompt_tokens", "prompts", "captions"),
    "tableS3": ("ablated", "captions"),
    "exclusions": ("exclusions",),
}
"""What every item reads, by the names that `schwettmann_world` has for it."""
OPTIONS = {"tableS2": {"seed": 2308}}
"""What an item shows of it, where it cannot do without."""
ARGUMENTS = {"selectivity_pictures": "pictures", "exclusions": "left_out"}
"""What the item's function calls it, where that differs."""


def inputs_of(item, paths):
    """An item's files, as its rule names them."""
    own = {ARGUMENTS.get(name, name): paths[name] for name in READS[item]}
    return own | {"counted": paths["counted"], "excluded_captions": paths["exclusions"]}


def made(item, paths, options=None):
    """The data of an item, as its script makes them."""
    options = OPTIONS.get(item, {}) | (options or {})
    return item_data(item, inputs_of(item, paths), options, MODEL, DATASET)[0]
