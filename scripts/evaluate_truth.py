"""How many planted units each method finds, with intervals over plantings."""

from mmneurons.artifacts.tables import read_table, write_csv
from mmneurons.console import log_to
from mmneurons.metrics.truth import of_plantings, recall_curves, score_rankings, summarise

log_to(snakemake.log[0])
p, output = snakemake.params, snakemake.output
standings = read_table(snakemake.input.standings)
plantings = read_table(snakemake.input.plantings)
if standings.empty:
    raise SystemExit(
        "no planted model names its object on any picture, so no method can be asked: see the "
        "exclusions, and the plantings' naming in resources/plantings"
    )
scores = of_plantings(score_rankings(standings, plantings))
write_csv(scores, output.scores)
write_csv(summarise(scores, standings, plantings, p.seed), output.summary)
write_csv(recall_curves(standings, plantings, p.seed), output.curves)
