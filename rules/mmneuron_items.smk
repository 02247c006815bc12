"""Every figure and table of MMNeuron (Huo et al. 2024): what it reads, and what it shows of that.

In: names of common.smk, functions of items.smk. Out: MMNEURON_ITEMS and the functions that
rules/draw_mmneuron.smk asks; no rule.
"""

MMNEURON_CATEGORY = "Domain-specific neurons (Huo et al. 2024)"
MMNEURON_CASES = MMNEURON["lens"]["cases"]
MMNEURON_LARGER = ("table7", "table8", "table9")
QUESTIONS = "<domains>/questions.parquet"
FIRST_SHARE, SECOND_SHARE = MMNEURON["select"]["shares"]


def mmneuron_models(item):
    """The models that an item shows: those of the paper's main part, its case's, or the larger."""
    if item in MMNEURON_CASES:
        return [MMNEURON_CASES[item]["model"]]
    return MMNEURON["larger"] if item in MMNEURON_LARGER else MMNEURON["models"]


def of_domains(path):
    """A file of every model of the item; `path` is below domains/{model}."""
    return lambda item: [f"<domains>/{model}/{path}" for model in mmneuron_models(item)]


def selected(share, variant=MMNEURON["select"]["variant"]):
    """The neurons of a variant and share, such as released-1."""
    return of_domains(f"neurons/dape.act.{variant}-{share_name(share)}.parquet")


def mmneuron_wording(part):
    """Templates by the label of each model: `part` of what its family is asked questions with."""
    families = {MODELS[model]["label"]: MODELS[model]["family"] for model in MMNEURON["models"]}
    prompts = {label: PROMPTS[f"{family}.question"] for label, family in families.items()}
    return {label: own[part] for label, own in prompts.items()} if part else prompts


MMNEURON_DATASETS = {domain: DATASETS[name]["label"] for domain, name in DOMAINS.items()}
MMNEURON_ROLES = {domain: role for domain, role in question_roles().items() if role}
COUNTS = of_domains("record/counts.safetensors")
SILENT = {"silent": of_domains("metrics/mmneuron/silent.csv")}
COUNTED_UNITS = {"counts": COUNTS, "counted": COUNTS, **SILENT}
ENTROPY = {"entropy": of_domains("record/entropy.parquet")}
ACCURACY = {"accuracy": of_domains("metrics/mmneuron/accuracy.csv")}
DEVIATION = {"deviation": of_domains("metrics/mmneuron/deviation.csv")}
LENS = {"lens": of_domains("record/lens.parquet"), "questions": QUESTIONS}
MASKS = {"masks": MMNEURON["evaluate"]["masks"]}
FIRST = {"variant": MMNEURON["select"]["variant"], "share": FIRST_SHARE}
SECOND = {"variant": MMNEURON["select"]["variant"], "share": SECOND_SHARE}

# item: (what it reads, what it shows of that)
MMNEURON_ITEMS = {
    "figure2": ({"pca": of_domains("metrics/mmneuron/pca.csv")}, {}),
    "figure5": ({"neurons": selected(FIRST_SHARE), "counted": COUNTS, **SILENT}, FIRST),
    **{item: (LENS, {"item": item, "top": MMNEURON["lens"]["top"]}) for item in MMNEURON_CASES},
    "figure7": (ENTROPY, {}),
    "figure8": (
        {"questions": QUESTIONS},
        {"prompts": mmneuron_wording(MMNEURON["evaluate"]["prompt"]), "roles": MMNEURON_ROLES},
    ),
    "figure9": ({"counted": COUNTS, **SILENT}, {}),
    "table1": ({"neurons": selected(FIRST_SHARE), **COUNTED_UNITS}, FIRST),
    "table2": (ACCURACY, MASKS),
    "table3": (DEVIATION, MASKS),
    "table4": (
        {"questions": QUESTIONS, "counted": QUESTIONS},
        {"datasets": MMNEURON_DATASETS},
    ),
    "table5": (
        {"counted": QUESTIONS},
        {
            "prompts": mmneuron_wording(""),
            "roles": MMNEURON_ROLES,
            "used": MMNEURON["evaluate"]["prompt"],
        },
    ),
    "table6": ({"neurons": selected(SECOND_SHARE), **COUNTED_UNITS}, SECOND),
    "table7": ({"neurons": selected(FIRST_SHARE), **COUNTED_UNITS}, FIRST),
    "table8": (ACCURACY, MASKS),
    "table9": ({"counted": of_domains("record/entropy.parquet"), **ENTROPY}, {}),
    "tableS1": (
        {
            "released": selected(FIRST_SHARE, "released"),
            "paper": selected(FIRST_SHARE, "paper"),
            "counted": COUNTS,
            **SILENT,
        },
        {"share": FIRST_SHARE},
    ),
    "exclusions": ({"counted": QUESTIONS}, {}),
}
MMNEURON_ITEMS = {item: shown for item, shown in MMNEURON_ITEMS.items() if mmneuron_models(item)}
MMNEURON_PICTURED = ["figure8", "table4", *MMNEURON_CASES]
MMNEURON_DRAWN = ["figure2", "figure5", "figure7", "figure9", *MMNEURON_PICTURED]
MMNEURON_OF_QUESTIONS = ["figure8", "table4", "table5"]
MMNEURON_FIGURES = [
    f"<results>/figures/mmneuron/{item}.{end}"
    for item in MMNEURON_ITEMS
    for end in ([*FORMATS, "csv"] if item in MMNEURON_DRAWN else ["csv", "md"])
]
MMNEURON_HEADLINE = [f"<results>/figures/mmneuron/figure5.{end}" for end in (*FORMATS, "csv")]
MMNEURON_HEADLINE += [f"<results>/figures/mmneuron/table1.{end}" for end in ("csv", "md")]


def mmneuron_inputs(wildcards):
    """What an item reads, with what was left out of it."""
    item = wildcards.item
    reads = {"exclusions": "<domains>/exclusions.parquet", **MMNEURON_ITEMS[item][0]}
    if item not in MMNEURON_OF_QUESTIONS:
        reads["recorded"] = of_domains("record/exclusions.parquet")
    if item in MMNEURON_PICTURED:
        reads["pictures"] = [f"<results>/{name}/mmneuron/pictures" for name in DOMAINS.values()]
    return {name: path(item) if callable(path) else path for name, path in reads.items()}


def mmneuron_options(wildcards):
    return MMNEURON_ITEMS[wildcards.item][1]


def mmneuron_labels_of_models(wildcards):
    return [MODELS[model]["label"] for model in mmneuron_models(wildcards.item)]


def mmneuron_roots(wildcards):
    """Where the pictures of each domain are, for items that show some."""
    return question_roots() if wildcards.item in MMNEURON_PICTURED else {}


mmneuron_style, mmneuron_caption = item_style("mmneuron"), item_caption("mmneuron")
mmneuron_title, mmneuron_labels = item_title("mmneuron"), item_labels("mmneuron")
