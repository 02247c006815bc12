"""Choose the questions of one domain, with the pictures that are no files of their own."""

from functools import partial

from mmneurons.artifacts.provenance import fingerprint
from mmneurons.artifacts.tables import write_table
from mmneurons.console import log_to
from mmneurons.datasets import doc_vqa, lingo_qa, pmc_vqa, rsvqa, vqav2
from mmneurons.datasets.questions import choose_questions
from mmneurons.downloads.sources import pictures_of, tables_of

READERS = {
    "vqav2": vqav2.read,
    "pmc_vqa": pmc_vqa.read,
    "doc_vqa": doc_vqa.read,
    "lingo_qa": lingo_qa.read,
    "rsvqa": rsvqa.read,
}

log_to(snakemake.log[0])
p, dataset = snakemake.params, snakemake.params.dataset
reader = READERS[dataset["reader"]]
if open_piece := tables_of(dataset):
    reader = partial(reader, open_piece=open_piece)
questions, exclusions = choose_questions(
    reader,
    dataset["root"],
    dataset["splits"],
    p.domain,
    p.questions["identify"],
    p.questions["evaluate"],
    p.seed,
    snakemake.output.pictures,
    pictures_of(dataset),
)
facts = {"dataset": snakemake.wildcards.dataset, "domain": p.domain, "seed": p.seed}
facts |= {
    "splits": dataset["splits"],
    "dataset_fingerprints": {path: fingerprint(path) for path in snakemake.input.annotations},
}
write_table(questions, snakemake.output.questions, facts)
write_table(exclusions, snakemake.output.exclusions, facts)
