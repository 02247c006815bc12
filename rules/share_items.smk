"""What a bundle holds of each paper, and under which licence; no rule.

In: names of common.smk, of browser_items.smk and of the papers' items. Out: names that rules/share.smk asks for.
"""

from importlib.metadata import version

PAPER_FIGURES = {
    "two_stage": [*TWO_STAGE_FIGURES, *TWO_STAGE_MORE],
    "pan": PAN_FIGURES,
    "mmneuron": MMNEURON_FIGURES,
    "schwettmann": SCHWETTMANN_FIGURES,
    "truth": TRUTH_FIGURES,
    "comparison": COMPARISON_FIGURES,
}
CITATION = read_yaml(Path(workflow.basedir) / "CITATION.cff")


def shared_pages():
    """The neuron browser, where every paper that it shows is shared."""
    return rules.browser.output if set(BROWSED) <= set(config["share"]["papers"]) else []


def pictures_of(dataset, figures, tables=(), folders=()):
    """Pictures of a dataset that figures show; tables and folders are below the run's results."""
    row, below = DATASETS[dataset], f"results/{config['run']}/{dataset}"
    return {
        "dataset": dataset,
        "label": row["label"],
        "licence": row["licence"],
        "share": row["pictures"] == "share",
        "root": row["root"],
        "tables": [(f"{below}/{table}.parquet", column) for table, column in tables],
        "folders": [f"{below}/{folder}" for folder in folders],
        "figures": [*figures, *(["browser"] if shared_pages() else [])],
    }


def two_stage_pictures():
    valid = f"{TWO_STAGE['model']}/captions/valid"
    figures = ["two_stage/figure1", "two_stage/figure3"]
    yield pictures_of(TWO_STAGE["dataset"], figures, [(valid, "file")], ["two_stage/inpainted"])


def pan_pictures():
    figures = [f"pan/{item}" for item in PAN_MAPS]
    yield pictures_of(PAN["dataset"], figures, [("pan/pictures", "file")])


def mmneuron_pictures():
    """Of DocVQA the pages that were taken out of its tables; every item with pictures waits for them."""
    for domain, dataset in DOMAINS.items():
        others = [item for item, case in MMNEURON_CASES.items() if case["domain"] != domain]
        if DATASETS[dataset]["reader"] == "doc_vqa":
            figures, tables, folders = MMNEURON_PICTURED, [], ["mmneuron/pictures"]
        else:
            figures = [item for item in MMNEURON_PICTURED if item not in others]
            tables, folders = [("mmneuron/questions", "files")], []
        shown = [f"mmneuron/{item}" for item in figures if item in MMNEURON_ITEMS]
        yield pictures_of(dataset, shown, tables, folders)


def no_pictures():
    """Of what shows numbers only."""
    return []


def schwettmann_pictures():
    figures = [f"schwettmann/{item}" for item in SCHWETTMANN_PICTURED]
    yield pictures_of(SCHWETTMANN["dataset"], figures, [("schwettmann/pictures", "file")])


SHARED_PICTURES = {
    "two_stage": two_stage_pictures,
    "pan": pan_pictures,
    "mmneuron": mmneuron_pictures,
    "schwettmann": schwettmann_pictures,
    "truth": no_pictures,
    "comparison": no_pictures,
}


def shared(of_papers):
    """What the papers that are shared have, one after the other, each once."""
    found = [entry for paper in config["share"]["papers"] for entry in of_papers(paper)]
    return [entry for place, entry in enumerate(found) if entry not in found[:place]]
