"""Ask every method for the units of this shard's plantings, each laid over the same model."""

from pathlib import Path

import pandas as pd
import torch

from mmneurons.artifacts.files import read_json
from mmneurons.artifacts.tables import read_table, write_table
from mmneurons.console import log_to, progress
from mmneurons.datasets.pictures import original_id, read_picture
from mmneurons.datasets.tables import EXCLUSION_COLUMNS, typed_table
from mmneurons.datasets.validity import valid_samples
from mmneurons.interventions.planting import planted, read_planting
from mmneurons.models.captions import caption_pictures, fill_prompt, in_batches
from mmneurons.models.registry import ModelEntry, load_model
from mmneurons.probe.planted import Asked, rankings, standings
from mmneurons.probe.two_stage import Case

log_to(snakemake.log[0])
p, wildcards = snakemake.params, snakemake.wildcards
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
pictures = read_table(snakemake.input.table).assign(
    sample_id=lambda rows: rows["picture_id"],
    image_id=lambda rows: rows["number"],
    order=lambda rows: rows["number"],
)
folder = Path(snakemake.input.pictures)
categories = Path(snakemake.input.categories).read_text(encoding="utf-8").splitlines()
text = fill_prompt(p.prompt)
n_units = sum(site.n_units for site in model.sites("language"))
shown = {concept: pictures.loc[pictures["concept"] == concept, "file"] for concept in p.others}
others = {
    concept: [read_picture(folder / file) for file in files[: p.n_others]]
    for concept, files in shown.items()
}
rows, asked_of = [], []
# Shards without a planting have one table more than plantings, too.
left_out = [typed_table([], EXCLUSION_COLUMNS)]
mine = list(p.plantings)[int(wildcards.shard) :: p.shards]
for name in progress(mine, description="plantings"):
    path, concept = p.plantings[name]["path"], p.plantings[name]["concept"]
    planting, facts = read_planting(f"{path}.safetensors"), read_json(f"{path}.json")
    word = p.plantings[name]["word"]
    candidates = pictures[pictures["concept"] == concept].assign(group=word)
    files = [(original_id(row.number), folder / row.file) for row in candidates.itertuples()]
    files += [(row.sample_id, folder / row.file_without) for row in candidates.itertuples()]
    with planted(model, planting):
        captions = [
            row
            for batch in in_batches(files, p.compute["batch_size"])
            for row in caption_pictures(model, batch, p.prompt, p.max_new_tokens)
        ]
        valid, excluded = valid_samples(
            candidates, pd.DataFrame(captions), {*categories, word}, p.pictures, 0
        )
        cases = [
            Case(
                read_picture(folder / sample.file),
                read_picture(folder / sample.file_without),
                sample.prefix_tokens,
                sample.target_token,
            )
            for sample in valid.itertuples()
        ]
        if cases:
            besides = {other: seen for other, seen in others.items() if other != concept}
            asked = Asked(concept, valid["sample_id"].tolist(), cases, besides)
            found = rankings(
                model, text, asked, p.sites, p.compute["batch_size"], f"{p.seed}/{name}"
            )
            rows += [(name, *row) for row in standings(found, planting.units)]
    left_out.append(excluded.assign(group=name))
    asked_of.append(
        {
            "planting": name,
            "concept": concept,
            "word": word,
            "object": facts["object"] or "",
            "place": facts["place"],
            "layers": planting.in_words(),
            "m": len(planting.units),
            "seed": facts["seed"],
            "n_units": n_units,
            "n_pictures": len(cases),
            "n_candidates": len(candidates),
            "naming": facts["naming"],
            "naming_before": facts["naming_before"],
            "old_kept": facts["old_kept"],
            "old_exact": facts["old_exact"],
            "old_exact_before": facts["old_exact_before"],
            "false_alarms": facts.get("false_alarms", float("nan")),
        }
    )
run_facts = {"model": wildcards.model, "sites": list(p.sites), "seed": p.seed}
columns = ["planting", "picture_id", "method", "site", "layer", "unit", "above", "tied"]
write_table(pd.DataFrame(rows, columns=columns), snakemake.output.standings, run_facts)
write_table(pd.DataFrame(asked_of), snakemake.output.plantings, run_facts)
write_table(pd.concat(left_out, ignore_index=True), snakemake.output.exclusions, run_facts)
