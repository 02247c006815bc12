"""Select neurons by two-stage filtering, by the automatic rule or by thresholds from a table."""

import pandas as pd

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.console import log_to
from mmneurons.methods.two_stage_selection import (
    automatic_thresholds,
    manual_thresholds,
    select_neurons,
)
from mmneurons.probe.recorded import selection_maxima

log_to(snakemake.log[0])
p, variant, site = snakemake.params, snakemake.wildcards.variant, snakemake.wildcards.site
record = TensorFile(snakemake.input.record)
samples = read_table(snakemake.input.valid)
difference, gradact = selection_maxima(record, site)
facts = read_facts(snakemake.input.valid) | {"site": site}
if variant == "auto":
    inert = record.facts["inert_layers"]
    thresholds, rule = automatic_thresholds(samples, difference, gradact, inert, p.share)
else:
    thresholds, rule = manual_thresholds(samples, pd.read_csv(snakemake.input.table)), {}
neurons, thresholds = select_neurons(thresholds, difference, gradact)
if thresholds.loc[thresholds["role"] == "evaluation", "n_selected"].sum() == 0:
    raise SystemExit(
        f"the {variant} thresholds select no neuron of any sample at site {site}; lower them: "
        "two_stage.thresholds in the configuration, docs/thresholds.md"
    )
write_table(neurons, snakemake.output.neurons, facts | {"rule": rule})
write_table(thresholds, snakemake.output.thresholds, facts | {"rule": rule})
