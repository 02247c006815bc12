"""Put the shards of activation counts together, and add them up by group."""

from mmneurons.artifacts.counts import (
    merge_group_counts,
    merge_sample_counts,
    total_counts,
    write_counts,
)
from mmneurons.artifacts.tables import read_facts, read_table
from mmneurons.console import log_to

log_to(snakemake.log[0])
shards, output = list(snakemake.input.shards), snakemake.output
facts = read_facts(shards[0])
if snakemake.params.record == "groups":
    total = merge_group_counts(shards, output.samples, facts["groups"])
else:
    questions = read_table(snakemake.input.questions)
    order = questions.loc[questions["part"] == "identify", "sample_id"].tolist()
    without = merge_sample_counts(shards, output.samples, order)
    print(f"{len(order) - len(without)} of {len(order)} questions were counted")
    total = total_counts(output.samples, facts["groups"])
write_counts(total, output.counts, facts)
