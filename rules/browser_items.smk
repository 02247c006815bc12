"""What the neuron browser reads of every paper and model, and what it is told about them; no rule.

In: names of common.smk and of the papers' items. Out: the functions that
rules/browser.smk asks. Names of inputs begin with the paper; a list is in the order of BROWSED, the
same number of paths for each model.
"""

from hashlib import sha256

BROWSER = config["browser"]
PAPER_MODELS = {
    "two_stage": [TWO_STAGE["model"]],
    "pan": PAN["models"],
    "mmneuron": list(dict.fromkeys([*MMNEURON["models"], *MMNEURON["larger"]])),
    "schwettmann": [SCHWETTMANN["model"]],
    "truth": list(PLANTINGS),
    "comparison": COMPARISON["models"],
}
BROWSED = {paper: PAPER_MODELS[paper] for paper in BROWSER["papers"]}
BROWSED_MODELS = list(dict.fromkeys(model for models in BROWSED.values() for model in models))


def browser_two_stage():
    """Tables of all methods at the site that figures show, and what noise on their neurons did."""
    own = "<two_stage>/{}".format
    return {
        "valid": own("captions/valid.parquet"),
        "inpainted": f"<results>/{TWO_STAGE['dataset']}/two_stage/inpainted",
        "record": own("record/two_stage.safetensors"),
        "neurons": two_stage_neurons(METHODS_ALL),
        "hits": [own(f"metrics/two_stage/hits.{SITE}.{part}.parquet") for part in PARTS],
        "suppression": [own(f"metrics/two_stage/suppression.{SITE}.{part}.csv") for part in PARTS],
        "exclusions": own("metrics/two_stage/exclusions.parquet"),
    }


def browser_pan():
    """Captions, concepts, neurons, maps, and what noise on weights and edits did."""
    tables = [
        f"<results>/{PAN['dataset']}/{model}/neurons/{method}.{site}.plain.parquet"
        for model in PAN["models"]
        for method, site in (
            ("contribution", PAN_SITE),
            ("activation", PAN_SITE),
            ("attribution", "pre"),
        )
    ]
    return {
        **PICTURES,
        "captions": of_models("captions/pan.parquet"),
        **CONCEPTS,
        "neurons": tables,
        "maps": of_models("record/pan_maps.safetensors"),
        "weight_noise": of_models("interventions/weight_noise.parquet"),
        "weight_noise_rates": of_models("metrics/pan/weight_noise.csv"),
        "edits": of_models("interventions/edits.parquet"),
        "edit_rates": of_models("metrics/pan/edits.csv"),
        "exclusions": of_models("metrics/pan/exclusions.parquet"),
    }


def browser_mmneuron():
    """Questions, counts, domain neurons, and what their deactivation did."""
    models = BROWSED["mmneuron"]

    def each(path):
        return [f"<domains>/{model}/{path}" for model in models]

    left_out = [
        path
        for of_model in each("record/exclusions.parquet")
        for path in ("<domains>/exclusions.parquet", of_model)
    ]
    return {
        "questions": QUESTIONS,
        "pictures": [f"<results>/{name}/mmneuron/pictures" for name in DOMAINS.values()],
        "neurons": each(f"neurons/dape.act.{DAPE_VARIANTS[0]}.parquet"),
        "counts": each("record/counts.safetensors"),
        "sample_counts": each("record/sample_counts.parquet"),
        "accuracy": each("metrics/mmneuron/accuracy.csv"),
        "deviation": each("metrics/mmneuron/deviation.csv"),
        "answers": each("interventions/answers.parquet"),
        "exclusions": left_out,
    }


def browser_schwettmann():
    """Captions, units, maps, and what their ablation did."""
    return {
        **SCHWETTMANN_MAPS,
        **SCHWETTMANN_UNITS,
        **SCHWETTMANN_ABLATED,
        **SCHWETTMANN_ABLATION,
        "iou": of_schwettmann("metrics/iou.csv"),
        "exclusions": of_schwettmann("metrics/exclusions.parquet"),
    }


BROWSER_INPUTS = {
    "two_stage": browser_two_stage,
    "pan": browser_pan,
    "mmneuron": browser_mmneuron,
    "schwettmann": browser_schwettmann,
}


def browser_inputs(wildcards):
    """What the papers' parts of the browser read, and the decoded neurons of every model."""
    reads = {
        f"{paper}_{name}": paths
        for paper in BROWSED
        for name, paths in BROWSER_INPUTS[paper]().items()
    }
    tokens = [f"<results>/models/{model}/neuron_tokens.parquet" for model in BROWSED_MODELS]
    return {**reads, "tokens": tokens}


def browser_options(paper, model):
    """What the tables of a paper and model do not say themselves."""
    if paper == "two_stage":
        dataset = DATASETS[TWO_STAGE["dataset"]]
        own = {"dataset_label": dataset["label"], "root": dataset["root"], "site": SITE}
        return own | {"thresholds": THRESHOLDS}
    if paper == "pan":
        dataset = DATASETS[PAN["dataset"]]
        prompt = PROMPTS[f"{MODELS[model]['family']}.{PAN['prompt']}"]
        own = {"dataset": PAN["dataset"], "dataset_label": dataset["label"]}
        own |= {"root": dataset["root"], "site": PAN_SITE, "prefix": prompt["prefix"]}
        return own | {"noised": PAN["weight_noise"]["neurons"], "edited": PAN["edit"]["neurons"]}
    if paper == "schwettmann":
        dataset = DATASETS[SCHWETTMANN["dataset"]]
        own = {"dataset": SCHWETTMANN["dataset"], "dataset_label": dataset["label"]}
        return own | {"root": dataset["root"], "pairs": SCHWETTMANN["pairs"]}
    return {
        "datasets": MMNEURON_DATASETS,
        "roots": question_roots(),
        "pictures": BROWSER["pictures"],
    }


def browser_parts():
    """Every paper and model, in the order of the inputs."""
    return [
        {
            "paper": paper,
            "model": model,
            "label": MODELS[model]["label"],
            "options": browser_options(paper, model),
        }
        for paper, models in BROWSED.items()
        for model in models
    ]


def browser_notes():
    """Whose pictures must not be passed on with the pages."""
    names = {
        "two_stage": [TWO_STAGE["dataset"]],
        "pan": [PAN["dataset"]],
        "mmneuron": list(DOMAINS.values()),
        "schwettmann": [SCHWETTMANN["dataset"]],
    }
    shown = [DATASETS[name] for paper in BROWSED for name in names[paper]]
    return [
        f"Do not pass these pages on with the pictures of {row['label']}: {row['licence']}."
        for row in {row["label"]: row for row in shown}.values()
        if row["pictures"] != "share"
    ]


def browser_static():
    """Digest of the page, style and script, which are copied as they are."""
    folder = SCRIPTS / "mmneurons" / "browser" / "static"
    return sha256(b"".join(path.read_bytes() for path in sorted(folder.iterdir()))).hexdigest()
