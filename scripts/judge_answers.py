"""Lingo-Judge's scores of the replies to questions about driving."""

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.console import log_to
from mmneurons.metrics.lingo_judge import judge_replies

log_to(snakemake.log[0])
p, files = snakemake.params, snakemake.input
judged = judge_replies(
    read_table(files.questions),
    read_table(files.answers),
    p.checkpoint,
    p.batch_size,
    threads=p.threads,
)
write_table(judged, snakemake.output.judged, read_facts(files.answers) | {"judge": p.checkpoint})
