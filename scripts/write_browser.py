"""Write the neuron browser: pages that open from disk, with their data and pictures."""

from mmneurons.browser.run import read_parts, read_tokens
from mmneurons.browser.site import write_site
from mmneurons.console import log_to

log_to(snakemake.log[0])
p, inputs = snakemake.params, dict(snakemake.input.items())
tokens = read_tokens(inputs.pop("tokens"), p.models)
parts = read_parts(inputs, p.parts, tokens)
write_site(snakemake.output[0], p.run, parts, tokens, notes=p.notes, **p.settings)
