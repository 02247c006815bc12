"""Say of every recorded unit whether the tokens that it raises are words."""

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.console import log_to
from mmneurons.metrics.words import dictionary, mark_interpretable

log_to(snakemake.log[0])
rule, files = snakemake.params.interpretable, snakemake.input
tokens, known = read_table(files.tokens), dictionary(rule["dictionaries"], rule["letters"])
for name in ("neurons", "units"):
    recorded = files[name]
    table = mark_interpretable(read_table(recorded), tokens, known, rule["words"], rule["of"])
    facts = read_facts(recorded) | {"interpretable": rule}
    write_table(table, snakemake.output[name], facts)
