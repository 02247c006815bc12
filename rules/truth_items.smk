"""The truth benchmark: which plantings are asked for, and what its figures and tables read; no rule.

In: names of common.smk, functions of items.smk, resources/world.yaml. Out: names that
the rules ask for.
"""

TRUTH = config["truth"]
TRUTH_CATEGORY = "Truth: units that were planted"
PLANTED = WORLD["plantings"]["models"]


def chosen_plantings(model):
    """The plantings of a model that the configuration asks for."""
    rows = PLANTED[model]["plantings"]
    chosen = rows if TRUTH["plantings"] is None else TRUTH["plantings"]
    return {name: row for name, row in rows.items() if name in chosen}


# Of the models that have any of them.
PLANTINGS = {model: rows for model in TRUTH["models"] if (rows := chosen_plantings(model))}
TRUTH_LABELS = [MODELS[model]["label"] for model in PLANTINGS]
TRUTH_CATEGORIES = "resources/categories/coco-world.txt"


def asked_concept(row):
    """The object that methods are asked for: the planted one, or a control's."""
    return row["object"] or row["asked"]


# How many pictures are drawn of each object that is asked for, and of the others.
TRUTH_PICTURES = dict.fromkeys(TRUTH["others"]["objects"], TRUTH["others"]["pictures"]) | {
    asked_concept(row): TRUTH["candidates"] for own in PLANTINGS.values() for row in own.values()
}


def planting_files(wildcards):
    """The files of the plantings of a model."""
    return [
        f"resources/plantings/{wildcards.model}/{name}.{end}"
        for name in PLANTINGS[wildcards.model]
        for end in ("safetensors", "json")
    ]


def planting_rows(wildcards):
    """The plantings' files without their ends, the object that is asked for, and its word."""
    return {
        name: {
            "path": f"resources/plantings/{wildcards.model}/{name}",
            "concept": asked_concept(row),
            "word": row.get("word", asked_concept(row)),
        }
        for name, row in PLANTINGS[wildcards.model].items()
    }


def planting_prompt(wildcards):
    """The prompt that the model was asked with while it learnt."""
    return PROMPTS[PLANTED[wildcards.model]["prompt"]]


def of_truth(path):
    """A file of every model; `path` is below truth/{model}."""
    return [f"<results>/truth/{model}/{path}" for model in PLANTINGS]


TRUTH_COUNTED = {
    "plantings": of_truth("record/plantings.parquet"),
    "exclusions": of_truth("record/exclusions.parquet"),
}
TRUTH_SUMMARY = {"summary": of_truth("metrics/summary.csv")}

# item: what it reads
TRUTH_ITEMS = {
    "figure1": TRUTH_SUMMARY,
    "figure2": {"curves": of_truth("metrics/curves.csv")},
    "table1": TRUTH_SUMMARY,
    "table2": {},
    "table3": TRUTH_SUMMARY,
    "exclusions": {},
}
TRUTH_DRAWN = ["figure1", "figure2"]
TRUTH_FIGURES = [
    f"<results>/figures/truth/{item}.{end}"
    for item in TRUTH_ITEMS
    for end in ([*FORMATS, "csv"] if item in TRUTH_DRAWN else ["csv", "md"])
]


def truth_inputs(wildcards):
    """What an item reads, and what the line at its foot counts."""
    return {**TRUTH_ITEMS[wildcards.item], **TRUTH_COUNTED}


truth_style, truth_caption = item_style("truth"), item_caption("truth")
truth_title, truth_labels = item_title("truth"), item_labels("truth")
