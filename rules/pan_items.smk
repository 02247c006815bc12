"""Every figure and table of Pan et al. 2024: what it reads, and what it shows of that; no rule.

In: names of common.smk. Out: PAN_ITEMS and the functions that rules/draw_pan.smk asks.
"""


include: "items.smk"


PAN_SITE = PAN["sites"][0]
PAN_CATEGORY = "Multimodal neurons (Pan et al. 2024)"
LABELS = [MODELS[model]["label"] for model in PAN["models"]]


def of_models(path):
    """A file of every model; `path` is below {dataset}/{model}."""
    return [f"<results>/{PAN['dataset']}/{model}/{path}" for model in PAN["models"]]


PICTURES = {"pictures": f"<results>/{PAN['dataset']}/pan/pictures.parquet"}
CONCEPTS = {"concepts": of_models("captions/concepts.parquet")}
CAPTIONS = {"captions": of_models("captions/pan.parquet"), **CONCEPTS, **PICTURES}
CONTRIBUTION = of_models(f"neurons/contribution.{PAN_SITE}.plain.parquet")
TOKENS = {"tokens": [f"<results>/models/{m}/neuron_tokens.parquet" for m in PAN["models"]]}
CROSS_SCORES = {"cross_scores": of_models("record/cross_scores.parquet"), **CAPTIONS}
CROSS_IMAGE = {"cross_image": of_models("metrics/pan/cross_image.csv"), **CONCEPTS}
MAPS = {"maps": of_models("record/pan_maps.safetensors"), **CAPTIONS}
SENSITIVITY = {"sensitivity": of_models("metrics/pan/sensitivity.encoder.csv")}
WEIGHT_NOISE = {"weight_noise": of_models("interventions/weight_noise.parquet"), **PICTURES}
EDITS = {"edits": of_models("interventions/edits.parquet"), **PICTURES}
EDIT_RATES = {"rates": of_models("metrics/pan/edits.csv")}
N_UNITS = {MODELS[model]["label"]: MODELS[model]["units"]["language"] for model in PAN["models"]}
TOP_K = sorted({k for model in PAN["models"] for k in MODELS[model].get("top_k", [])})
CROSS = PAN["cross_image"]

# item: (what it reads, what it shows of that)
PAN_ITEMS = {
    "figure2": ({"neurons": CONTRIBUTION}, {"top_k": TOP_K}),
    "figure3": (
        {"invariance": of_models("metrics/pan/invariance.csv")},
        {"site": PAN_SITE, "n_units": N_UNITS},
    ),
    "figure4": (
        CROSS_IMAGE,
        {
            "site": PAN_SITE,
            "n_pictures": [max(CROSS["pictures"])],
            "top_k": [PAN["figure4_top_k"]],
        },
    ),
    "figure5": (CROSS_SCORES, {"site": PAN_SITE}),
    "figure6": (
        CROSS_IMAGE,
        {"site": PAN_SITE, "n_pictures": CROSS["pictures"], "top_k": CROSS["top_k"]},
    ),
    "figure7": (CROSS_SCORES, {"site": PAN_SITE, "skip": 1, "most": 3}),
    "table1": (MAPS, {"site": PAN_SITE}),
    "table2": (
        {
            "contribution": CONTRIBUTION,
            "attribution": of_models("neurons/attribution.pre.plain.parquet"),
            "activation": of_models(f"neurons/activation.{PAN_SITE}.plain.parquet"),
            **TOKENS,
            **CAPTIONS,
        },
        {},
    ),
    "table3": (
        {"bleurt": of_models("metrics/pan/sensitivity.bleurt.csv"), **SENSITIVITY},
        {"site": PAN_SITE},
    ),
    "table4": ({"specificity": of_models("metrics/pan/specificity.csv")}, {"site": PAN_SITE}),
    "table5": (
        {"rates": of_models("metrics/pan/weight_noise.csv"), **WEIGHT_NOISE},
        {},
    ),
    "table6": ({**EDIT_RATES, **EDITS}, {}),
    "table7": (EDITS, {}),
    "table8": (MAPS, {"site": PAN_SITE, "skip": 1, "most": 2, "most_concepts": 2}),
    "table9": ({"contribution": CONTRIBUTION, **TOKENS, **CAPTIONS}, {}),
    "table10": (
        {
            "before": CONTRIBUTION,
            "after": of_models(f"neurons/contribution.{PAN_SITE}.shuffled.parquet"),
            **CAPTIONS,
        },
        {},
    ),
    "table11": (WEIGHT_NOISE, {"skip": 1, "most": 2}),
    "table12": (EDITS, {"skip": 1, "most": 2}),
    "tableS1": (
        {
            "invariance": of_models("metrics/pan/invariance.csv"),
            "specificity": of_models("metrics/pan/specificity.csv"),
            "cross_image": of_models("metrics/pan/cross_image.csv"),
            **SENSITIVITY,
            **{
                site: of_models(f"neurons/contribution.{site}.plain.parquet")
                for site in PAN["sites"]
            },
        },
        {},
    ),
    "tableS2": (EDIT_RATES, {}),
    "exclusions": ({}, {}),
}
PAN_DRAWN = [f"figure{number}" for number in range(2, 8)]
PAN_MAPS = ["table1", "table8"]
PAN_EDITED = ["table6", "table7", "table12", "tableS2", "exclusions"]
PAN_FIGURES = [
    f"<results>/figures/pan/{item}.{end}"
    for item in PAN_ITEMS
    for end in ([*FORMATS, "csv"] if item in [*PAN_DRAWN, *PAN_MAPS] else ["csv", "md"])
]


PAN_HEADLINE = [f"<results>/figures/pan/table1.{end}" for end in (*FORMATS, "csv")]


def pan_inputs(wildcards):
    """What an item reads, and what the line at its foot counts."""
    reads, _ = PAN_ITEMS[wildcards.item]
    counted = {} if wildcards.item in PAN_MAPS else {"counted": CONCEPTS["concepts"]}
    # What was left out of the edits counts where edits are shown; no other item waits for them.
    name = "exclusions" if wildcards.item in PAN_EDITED else "exclusions.captions"
    return {**reads, **counted, "exclusions": of_models(f"metrics/pan/{name}.parquet")}


def pan_options(wildcards):
    return PAN_ITEMS[wildcards.item][1]


pan_style, pan_caption = item_style("pan"), item_caption("pan")
pan_title, pan_labels = item_title("pan"), item_labels("pan")
