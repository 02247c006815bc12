"""Select, for each sample, as many neurons as two-stage filtering did, by other means.

By one of its stages alone, by the baselines, and at random from the same layers.
"""

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.console import log_to
from mmneurons.methods.two_stage_selection import select_random, select_top
from mmneurons.probe.recorded import selection_maxima

log_to(snakemake.log[0])
site, p = snakemake.wildcards.site, snakemake.params
record = TensorFile(snakemake.input.record)
samples, matched = read_table(snakemake.input.valid), read_table(snakemake.input.neurons)
counts = matched["sample_id"].value_counts().reindex(samples["sample_id"], fill_value=0)
facts = read_facts(snakemake.input.valid) | {"site": site}
inert = record.facts["inert_layers"]

difference, gradact = selection_maxima(record, site)
attribution, contribution = record["attribution"], record[f"{site}/contribution"]
for name, scores, excluded in (
    ("difference", difference, inert),
    ("gradact", gradact, inert),
    ("attribution_all", attribution, []),
    ("attribution_no_last", attribution, inert),
    ("contribution_all", contribution, []),
    ("contribution_no_last", contribution, inert),
):
    write_table(select_top(samples, scores, counts, excluded), snakemake.output[name], facts)
random = select_random(samples, matched, difference.shape[-1], p.seeds, p.seed)
write_table(random, snakemake.output.random, facts)
