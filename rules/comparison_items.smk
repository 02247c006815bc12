"""Every figure and table of the comparison: what it reads, and what it shows of that; no rule.

In: names of common.smk, functions of items.smk. Out: COMPARISON_ITEMS and the functions that the rules ask.
"""

COMPARISON_CATEGORY = "Every method on every model"
COMPARISON, METHODS = config["comparison"], registry("methods")
COMPARED = {
    name: {key: METHODS["methods"][name][key] for key in ("score", "needs")}
    for name in COMPARISON["methods"]
}
COMPARED_METHODS = {name: METHODS["methods"][name]["label"] for name in COMPARISON["methods"]}
COMPARED_LABELS = [MODELS[model]["label"] for model in COMPARISON["models"]]


def of_compared(path):
    """A file of every model; `path` is below {dataset}/{model}."""
    return [f"<results>/{TWO_STAGE['dataset']}/{model}/{path}" for model in COMPARISON["models"]]


SUMMARY = {"summary": f"<results>/{TWO_STAGE['dataset']}/comparison/summary.csv"}
MAIN_MEASURES = [
    "noise.score",
    "ablation.score",
    "edit.success",
    "stability.pictures",
    "localisation",
]
CAUSAL_MEASURES = [
    f"{intervention}.{part}"
    for intervention in ("noise", "ablation")
    for part in ("suppression", "retention")
]
STABLE_MEASURES = [f"stability.{part}" for part in ("pictures", "halves", "shuffles")]

# item: (what it reads, what it shows of that)
COMPARISON_ITEMS = {
    "figure1": (SUMMARY, {"measures": MAIN_MEASURES}),
    "table1": (SUMMARY, {"measures": MAIN_MEASURES}),
    "figureS1": (SUMMARY, {"measures": CAUSAL_MEASURES}),
    "figureS2": (SUMMARY, {"measures": STABLE_MEASURES}),
    "figureS3": ({"agreement": of_compared("metrics/comparison/agreement.csv")}, {}),
    "figureS4": ({"layers": of_compared("metrics/comparison/layers.csv")}, {}),
    "tableS1": (SUMMARY, {"measures": [*CAUSAL_MEASURES, "edit.retention", *STABLE_MEASURES]}),
    "tableS2": ({"costs": of_compared("metrics/comparison/costs.csv")}, {}),
    "tableS3": ({"capabilities": of_compared("metrics/comparison/capabilities.csv")}, {}),
    "exclusions": ({}, {}),
}
COMPARISON_DRAWN = ["figure1", "figureS1", "figureS2", "figureS3", "figureS4"]
COMPARISON_FIGURES = [
    f"<results>/figures/comparison/{item}.{end}"
    for item in COMPARISON_ITEMS
    for end in ([*FORMATS, "csv"] if item in COMPARISON_DRAWN else ["csv", "md"])
]


def comparison_inputs(wildcards):
    """What an item reads, and what the line at its foot counts."""
    reads, _ = COMPARISON_ITEMS[wildcards.item]
    counted = {
        "counted": of_compared("comparison/valid.parquet"),
        "exclusions": of_compared("comparison/exclusions.parquet"),
    }
    return {**reads, **counted}


def comparison_options(wildcards):
    return COMPARISON_ITEMS[wildcards.item][1]


def comparison_prompt(wildcards):
    """The configured prompt in the words of the model's family, or the model's own."""
    own = COMPARISON["prompts"].get(wildcards.model, COMPARISON["prompt"])
    return PROMPTS[f"{MODELS[wildcards.model]['family']}.{own}"]


def comparison_constants(wildcards):
    """Noise and edits in the model's own scale, where its row has them."""
    row = MODELS[wildcards.model]
    return {key: row[key] for key in ("noise", "edit") if key in row}


comparison_style, comparison_caption = item_style("comparison"), item_caption("comparison")
comparison_title, comparison_labels = item_title("comparison"), item_labels("comparison")
