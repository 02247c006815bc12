"""Select the neurons of every domain by the entropy of their activation probabilities."""

from mmneurons.artifacts.counts import read_counts
from mmneurons.artifacts.tables import write_table
from mmneurons.console import log_to
from mmneurons.methods.dape import parse_variant, select_domain_neurons

log_to(snakemake.log[0])
p = snakemake.params
total, facts = read_counts(snakemake.input.counts)
variant, share = parse_variant(snakemake.wildcards.variant)
neurons, found = select_domain_neurons(
    total.counts,
    total.tokens,
    facts["layers"],
    facts["groups"],
    share=share,
    percentile=p.percentile,
    variant=variant,
    inert_layers=facts["inert"],
    inert=p.inert,
)
write_table(neurons, snakemake.output.neurons, facts | found)
for module, groups in found["domains_without"].items():
    print(f"{module}: {found['n_selected'][module]} units, none of: {', '.join(groups) or '-'}")
