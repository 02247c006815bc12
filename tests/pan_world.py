"""Small made-up artifacts of three models, of which every number is known."""

from pathlib import Path

import numpy as np
import pandas as pd
from figure_checks import write_named

from mmneurons.artifacts.tables import write_table
from mmneurons.artifacts.tensors import write_tensors

LLAVA = "LLaVA of a made-up world (tiny)"
BLIP = "InstructBLIP of a made-up world (tiny)"
OWL = "mPLUG-Owl2 of a made-up world (tiny)"
MODELS = [LLAVA, BLIP, OWL]

FIRST, SECOND, THIRD, FOURTH = (f"00000000{n}" for n in (7, 3, 5, 9))
ORDER = [FIRST, SECOND, THIRD, FOURTH]
# The first picture has two concepts in two models only; the second and third in all.
CONCEPTS = {
    LLAVA: {FIRST: ["car", "road"], SECOND: ["dog", "grass", "ball"], THIRD: ["dog", "tree"],
            FOURTH: ["dog"]},
    BLIP: {FIRST: ["car", "road"], SECOND: ["dog", "ball"], THIRD: ["dog", "tree"],
           FOURTH: ["dog"]},
    OWL: {FIRST: ["car"], SECOND: ["dog", "grass"], THIRD: ["tree", "bench"], FOURTH: ["dog"]},
}  # fmt: skip
TOP_K = [1, 5, 10]
# Two levels that both units have.
NOISE = {"absolute": (0.5, 4.0, 16.0), "row": (1.0, 4.0, 16.0)}
UNITS, LAYERS, RECORDED = 40, 4, 10
SITES = ("act", "post")
GRID = (4, 6)
WHOLE, MIDDLE = (0, 0, 60, 40), (10, 0, 50, 40)
PREFIX = "An image of"
NOTHING = dict.fromkeys(("value", "low", "high"), np.nan)


def rng(*names):
    """A generator that depends on names only."""
    return np.random.default_rng(list("/".join(map(str, names)).encode()))


def caption(groups):
    """A caption that names the groups."""
    return f"{PREFIX} a " + " and a | <b> ".join(groups) + " in the sun"


def pictures():
    """The pictures in another order than that of their column."""
    rows = [(name, f"{name}.png", "human", n) for n, name in enumerate(ORDER)]
    columns = ["picture_id", "file", "caption", "order"]
    return pd.DataFrame(rows, columns=columns).sort_values("picture_id", ignore_index=True)


def captions(model):
    """Plain captions, and shuffled ones that name the first concept only."""
    rows = [
        (name, variant, caption(groups if variant == "plain" else groups[:1]))
        for name, groups in CONCEPTS[model].items()
        for variant in ("plain", "shuffled")
    ]
    return pd.DataFrame(rows, columns=["picture_id", "variant", "caption"])


def concepts(model):
    """A row a concept."""
    rows = [
        (f"{name}-{group}", name, variant, group, position)
        for name, groups in CONCEPTS[model].items()
        for variant in ("plain", "shuffled")
        for position, group in enumerate(groups if variant == "plain" else groups[:1])
    ]
    columns = ["sample_id", "picture_id", "variant", "group", "position"]
    return pd.DataFrame(rows, columns=columns)


def neurons(model, method, site, variant="plain"):
    """Ten neurons a sample, best first; in shuffled pictures the first half stays."""
    rows = []
    own = concepts(model)
    for row in own[own["variant"] == variant].itertuples():
        places = rng(model, method, site, row.group).permutation(UNITS * LAYERS)
        if variant == "shuffled":
            places[5:RECORDED] = places[RECORDED : 2 * RECORDED - 5]
        for rank, place in enumerate(places[:RECORDED].tolist()):
            head = (row.sample_id, row.group, "language")
            rows.append((*head, place // UNITS, place % UNITS, 3.0 - rank / 4, rank))
    columns = ["sample_id", "group", "module", "layer", "unit", "score", "rank"]
    return pd.DataFrame(rows, columns=columns)


def tokens():
    """The ten best tokens of every neuron; some are hard to set."""
    words = ["\u2581dog", "|", "\n", "<s>", "$x$", "*", "\u718a", "a_b", "\u2581", "x"]
    rows = [
        ("language", layer, unit, [*words[unit % 10 :], *words[: unit % 10]])
        for layer in range(LAYERS)
        for unit in range(UNITS)
    ]
    return pd.DataFrame(rows, columns=["module", "layer", "unit", "tokens"])


def spread(value):
    """A value with an interval."""
    return {"value": value, "low": max(value - 0.08, 0), "high": min(value + 0.08, 1)}


def _rows(*tables):
    return pd.DataFrame([row for table in tables for row in table])


def sensitivity(metrics, encoder):
    """Values that tell methods and metrics apart; without an encoder none."""
    return _rows(
        {"method": method, "site": site, "metric": metric, "aggregation": aggregation}
        | (spread(0.1 * m + 0.2 * n) if encoder else NOTHING)
        | {"n": 7, "n_left_out": 1, "encoder": encoder or "not computed"}
        for m, method in enumerate(("activation", "attribution", "contribution"))
        for site in (("pre",) if method == "attribution" else SITES)
        for n, metric in enumerate(metrics)
        for aggregation in ("mean over tokens", "max over tokens")
    )  # fmt: skip


def invariance(model):
    """Shares that fall with k; the last model has no concept in both captions."""
    nothing = model == OWL
    return _rows(
        {"method": method, "site": site, "k": k}
        | (NOTHING if nothing else spread(top - k / 40))
        | {"n": 0 if nothing else 4, "n_left_out": 4 if nothing else 0}
        for method, site, top in (
            ("contribution", "act", 0.9),
            ("contribution", "post", 0.8),
            ("attribution", "pre", 0.6),
            ("activation", "act", 1.0),
        )
        for k in TOP_K
    )


def cross_image(model):
    """ "dog" is in many pictures, "tree" in two, "ball" has no value."""
    return _rows(
        {"method": method, "site": site, "group": group, "n_pictures": n, "k": k}
        | (spread(top / n) if known else NOTHING)
        | {"n": 3 if known else 0, "n_left_out": 0}
        for method, site, top in (("contribution", "act", 0.9), ("attribution", "pre", 0.3))
        for group in ("tree", "dog", "ball")
        for n in (2, 3)
        for k in TOP_K
        for known in [group == "dog" and model != OWL or (group == "tree" and n == 2)]
    )


def specificity():
    """Values in which divisors, tokens and m are told apart."""
    return _rows(
        {"site": site, "tokens": tokens, "m": m, "divisor": divisor, "n": 7}
        | {"value": value, "low": value - 0.01, "high": value + 0.01}
        for site in SITES
        for tokens, top in (("random", 0.02), ("related", 3.0))
        for m in (1, 5, 10, 50)
        for divisor in ("m", "released")
        for value in [top / (m if divisor == "released" else 1) + (site == "post")]
    )


def cross_scores(model):
    """Of each picture a score that is 4 on the diagonal, 1 above it and -1 below."""
    rows = [
        (name, site, group, other, 1, 10 + i, float(4 if i == j else np.sign(j - i)))
        for name, groups in CONCEPTS[model].items()
        for site in SITES
        for i, other in enumerate(groups)
        for j, group in enumerate(groups)
    ]
    columns = ["picture_id", "site", "group", "neuron_group", "layer", "unit", "score"]
    return pd.DataFrame(rows, columns=columns)


def weight_noise(model):
    """Captions that say under what they were made; the last model has one unit only."""
    rows = [
        (f"{name}-{group}", group, name, method, seed, unit, level, draw, caption(groups),
         f"{PREFIX} {method} {group} {seed} {unit} {level:g} {draw}")
        for name, groups in CONCEPTS[model].items()
        for group in groups[: 1 if name == FIRST else 3]
        for method, seeds in (("contribution", (0,)), ("random", (2, 1)))
        for seed in seeds
        for unit, levels in NOISE.items()
        if unit != "row" or model != OWL
        for level in levels
        for draw in (0, 1)
    ]  # fmt: skip
    columns = ["sample_id", "group", "picture_id", "method", "seed", "unit", "level", "draw"]
    return pd.DataFrame(rows, columns=[*columns, "caption_before", "caption"])


def weight_noise_rates():
    """A rate a method, unit, level and measure; rates under absolute noise are lower."""
    return _rows(
        {"method": method, "unit": unit, "level": level, "measure": measure}
        | spread(top * level / (32 if unit == "row" else 64) + number / 10)
        | {"n": 12, "n_left_out": 2}
        for method, top in (("contribution", 1.0), ("random", 0.2))
        for unit, levels in NOISE.items()
        for level in levels
        for number, measure in enumerate(("suppression", "retention", "unchanged"))
    )


def edits(model):
    """Edits of "dog" into two words, and of "car" into one without a transfer picture."""
    rows = []
    for name, source, target, others in (
        (THIRD, "dog", "cat", {FOURTH: "transfer", FIRST: "locality"}),
        (SECOND, "dog", "polar bear", {FOURTH: "transfer", FIRST: "locality"}),
        (FIRST, "car", "bus", {SECOND: "locality"}),
    ):
        for kind in ("token", "word"):
            for method, seed in (("contribution", 0), ("random", 3), ("random", 2)):
                for picture, role in {name: "edited", **others}.items():
                    said = target if method == "contribution" else source
                    rows.append(
                        (f"{name}-{source}-to-{target}", f"{name}-{source}", source, target, kind,
                         method, seed, picture, role, 5, 2, 1, 0.1,
                         caption(CONCEPTS[model][picture]), f"{PREFIX} a {said} {kind} {seed}")
                    )  # fmt: skip
    columns = [
        "edit_id", "sample_id", "source", "target", "kind", "method", "seed", "picture_id", "role",
        "n_neurons", "n_unedited", "n_opposed", "beta", "caption_before", "caption",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def edit_rates():
    """A rate a kind, method and measure; locality has no caption."""
    measures = "success target_named source_gone transfer locality others_kept unedited".split()
    return _rows(
        {"kind": kind, "method": method, "measure": measure}
        | (NOTHING if measure == "locality" else spread(top + number / 20))
        | {"n": 0 if measure == "locality" else 6, "n_left_out": 1}
        for kind in ("token", "word")
        for method, top in (("contribution", 0.5), ("random", 0.1))
        for number, measure in enumerate(measures)
    )


def exclusions(model):
    """Two pictures for all, a noun of one model."""
    rows = [
        ("pictures", "000000001", "", "no-picture", "no file"),
        ("pictures", "000000002", "", "placeholder", "90% of one colour"),
    ]
    if model == BLIP:
        rows.append(("captions", "000000009-sun", "sun", "not-generated", "a | b"))
    return pd.DataFrame(rows, columns=["stage", "sample_id", "group", "reason", "detail"])


def maps(model, path):
    """A map of zeros with one patch of 1 + k; the second model's through queries, no third one.

    The second model sees the middle of every picture.
    """
    own = concepts(model)
    ids = own.loc[own["variant"] == "plain", "sample_id"].tolist()
    facts = {"sample_ids": ids, "top_k": TOP_K, "through_queries": model == BLIP}
    box = MIDDLE if model == BLIP else WHOLE
    facts |= {"recorded": RECORDED, "boxes": dict.fromkeys(ORDER, list(box))}
    tensors = {}
    if model != OWL:
        rows, columns = GRID
        values = np.zeros((len(ids), len(TOP_K) + 5, rows * columns), np.float16)
        for number, k in enumerate(TOP_K):
            values[:, number, 8 + number] = 1 + k
        tensors = {f"{site}/maps": values for site in SITES}
    write_tensors(tensors, path, facts | {"grid": None if model == OWL else list(GRID)})


def write(folder: Path) -> dict[str, list[str] | str]:
    """Write everything; return paths by the names that the scripts' inputs have."""
    paths: dict[str, list[str] | str] = {"pictures": str(folder / "pictures.parquet")}
    write_table(pictures(), paths["pictures"])
    for number, model in enumerate(MODELS):
        tables = {
            "captions": captions(model),
            "concepts": concepts(model),
            "tokens": tokens(),
            "cross_scores": cross_scores(model),
            "weight_noise": weight_noise(model),
            "edits": edits(model),
            "exclusions": exclusions(model),
            "shuffled": neurons(model, "contribution", "act", "shuffled"),
            "attribution": neurons(model, "attribution", "pre"),
            "activation": neurons(model, "activation", "act"),
        }
        tables |= {site: neurons(model, "contribution", site) for site in SITES}
        metrics = {
            "sensitivity": sensitivity(("bertscore", "moverscore"), "tiny|encoder"),
            "bleurt": sensitivity(("bleurt",), ""),
            "invariance": invariance(model),
            "cross_image": cross_image(model),
            "specificity": specificity(),
            "weight_noise_rates": weight_noise_rates(),
            "edit_rates": edit_rates(),
        }
        write_named(tables, folder / f"{number}", "parquet", paths)
        write_named(metrics, folder / f"{number}", "csv", paths)
        paths.setdefault("maps", []).append(str(folder / f"{number}" / "maps.safetensors"))
        maps(model, paths["maps"][-1])
    return paths
