"""Every figure and table of Schwettmann et al. 2023: what it reads, and what it shows of that; no rule.

In: names of common.smk, functions of items.smk. Out: SCHWETTMANN_ITEMS and the functions that
rules/draw_schwettmann.smk asks.
"""


def of_schwettmann(path):
    """A file of the model that the paper's method is run on."""
    return f"<results>/{SCHWETTMANN['dataset']}/{SCHWETTMANN['model']}/schwettmann/{path}"


SCHWETTMANN_CATEGORY = "Multimodal neurons by attribution (Schwettmann et al. 2023)"
SCHWETTMANN_CAPTIONS = {"captions": of_schwettmann("captions.parquet")}
SCHWETTMANN_TOKENS = {"tokens": f"<results>/models/{SCHWETTMANN['model']}/neuron_tokens.parquet"}
SCHWETTMANN_MAPS = {
    "maps": of_schwettmann("maps.safetensors"),
    "index": of_schwettmann("maps.parquet"),
    **SCHWETTMANN_CAPTIONS,
}
SCHWETTMANN_UNITS = {"units": of_schwettmann("units.parquet")}
SCHWETTMANN_ABLATED = {"ablated": of_schwettmann("metrics/ablation.parquet")}
SCHWETTMANN_ABLATION = {"ablation": of_schwettmann("metrics/ablation.csv")}
SCHWETTMANN_KS = {"ks": of_schwettmann("metrics/ks.csv")}
SCHWETTMANN_MEANS = {"means": of_schwettmann("metrics/means.csv")}
SCHWETTMANN_PROMPTS = {"prompts": of_schwettmann("metrics/prompts.parquet")}
SCHWETTMANN_MASKS = {"percentile": SCHWETTMANN["percentile"]}

SCHWETTMANN_MEASURED = {
    "table1": "metrics/exclusions.descriptions.parquet",
    **dict.fromkeys(["figure5", "figureS1"], "metrics/exclusions.localisation.parquet"),
    **dict.fromkeys(["figureS2", "figureS4"], "metrics/exclusions.selectivity.parquet"),
    **dict.fromkeys(["figure6", "figureS3", "tableS3"], "left_out.parquet"),
}
"""What an item's own measure left out, beside pictures and captions."""


# item: (what it reads, what it shows of that)
SCHWETTMANN_ITEMS = {
    "figure2": (
        {**SCHWETTMANN_MAPS, **SCHWETTMANN_UNITS, **SCHWETTMANN_TOKENS},
        SCHWETTMANN_MASKS,
    ),
    "figure3": (
        {
            "scores": of_schwettmann("metrics/scores.csv"),
            **SCHWETTMANN_KS,
            **SCHWETTMANN_PROMPTS,
        },
        {},
    ),
    "figure4": (
        {**SCHWETTMANN_MAPS, **SCHWETTMANN_UNITS, **SCHWETTMANN_TOKENS},
        SCHWETTMANN_MASKS,
    ),
    "figure5": ({"iou": of_schwettmann("metrics/iou.csv")}, {}),
    "figure6": ({**SCHWETTMANN_ABLATION, **SCHWETTMANN_ABLATED, **SCHWETTMANN_CAPTIONS}, {}),
    "figureS1": (
        {"localisation": of_schwettmann("metrics/localisation.csv"), **SCHWETTMANN_MAPS},
        SCHWETTMANN_MASKS,
    ),
    "figureS2": (
        {
            "selectivity": of_schwettmann("metrics/selectivity.csv"),
            "pictures": of_schwettmann("metrics/selectivity_pictures.csv"),
        },
        {},
    ),
    "figureS3": (SCHWETTMANN_ABLATION, {}),
    "figureS4": ({"layers": of_schwettmann("metrics/layers.csv")}, {}),
    "table1": (SCHWETTMANN_MEANS, {}),
    "table2": ({**SCHWETTMANN_MEANS, **SCHWETTMANN_KS, **SCHWETTMANN_PROMPTS}, {}),
    "tableS1": (
        {
            "neurons": of_schwettmann("neurons.parquet"),
            **SCHWETTMANN_CAPTIONS,
            **SCHWETTMANN_TOKENS,
        },
        {},
    ),
    "tableS2": (
        {
            "prompt_tokens": of_schwettmann("prompt_tokens.parquet"),
            **SCHWETTMANN_PROMPTS,
            **SCHWETTMANN_CAPTIONS,
        },
        {"seed": SCHWETTMANN["seed"]},
    ),
    "tableS3": ({**SCHWETTMANN_ABLATED, **SCHWETTMANN_CAPTIONS}, {}),
    "exclusions": ({"left_out": of_schwettmann("metrics/exclusions.parquet")}, {}),
}
SCHWETTMANN_PICTURED = ["figure2", "figure4", "figureS1", "figureS2"]
SCHWETTMANN_DRAWN = [item for item in SCHWETTMANN_ITEMS if item.startswith("figure")]
SCHWETTMANN_FIGURES = [
    f"<results>/figures/schwettmann/{item}.{end}"
    for item in SCHWETTMANN_ITEMS
    for end in ([*FORMATS, "csv"] if item in SCHWETTMANN_DRAWN else ["csv", "md"])
]
SCHWETTMANN_HEADLINE = [f"<results>/figures/schwettmann/figure5.{end}" for end in (*FORMATS, "csv")]


def schwettmann_inputs(wildcards):
    """What an item reads, and what the line at its foot counts."""
    reads, _ = SCHWETTMANN_ITEMS[wildcards.item]
    below = f"<results>/{SCHWETTMANN['dataset']}"
    foot = {
        "counted": SCHWETTMANN_CAPTIONS["captions"],
        "excluded_pictures": f"{below}/schwettmann/exclusions.parquet",
        "excluded_captions": f"{below}/{SCHWETTMANN['model']}/record/attribution/exclusions.parquet",
    }
    if wildcards.item in SCHWETTMANN_MEASURED:
        foot["excluded"] = of_schwettmann(SCHWETTMANN_MEASURED[wildcards.item])
    if wildcards.item == "exclusions":
        return {**reads, "counted": foot["counted"], "excluded": reads["left_out"]}
    return {**reads, **foot}


def schwettmann_options(wildcards):
    return SCHWETTMANN_ITEMS[wildcards.item][1]


schwettmann_style, schwettmann_caption = item_style("schwettmann"), item_caption("schwettmann")
schwettmann_title, schwettmann_labels = item_title("schwettmann"), item_labels("schwettmann")
