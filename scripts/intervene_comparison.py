"""Caption this shard's concepts under noise, ablation and edits of every method's neurons."""

from pathlib import Path

import pandas as pd
import torch

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.console import log_to, progress
from mmneurons.datasets.pictures import read_picture
from mmneurons.interventions.comparison import (
    CAPTION_COLUMNS,
    InterventionSettings,
    Shown,
    intervene_on,
    neuron_sets,
    pictures_to_test,
)
from mmneurons.interventions.edit import EditSettings
from mmneurons.interventions.noisy_captions import NoiseSettings
from mmneurons.models.captions import fill_prompt
from mmneurons.models.registry import ModelEntry, load_model

log_to(snakemake.log[0])
p, folder = snakemake.params, Path(snakemake.output.folder)
torch.set_num_threads(p.compute["threads"])
entry = ModelEntry.from_row(snakemake.wildcards.model, p.model)
model = load_model(entry, **p.compute["loading"])
facts = read_facts(snakemake.input.neurons)
valid, neurons = read_table(snakemake.input.valid), read_table(snakemake.input.neurons)
groups = list(valid["group"].unique())
by_name = {row.sample_id: row for row in valid.itertuples()}
prompt = fill_prompt(p.prompt)
noise, edit = p.constants.get("noise"), p.constants.get("edit")
settings = InterventionSettings(
    site=p.site,
    noise=noise
    and NoiseSettings(noise["levels"], noise["unit"], p.noise_draws, "per-position", "add", p.seed),
    edit=EditSettings(**edit) if edit and not facts["lacks"]["rows"] else None,
    maps=facts["grid"] is not None,
    max_new_tokens=p.max_new_tokens,
    batch_size=p.compute["noise_batch_size"],
    seed=p.seed,
)


def show(name):
    """A test picture as the model reads it."""
    row = by_name[name]
    picture = read_picture(Path(p.root) / row.file)
    weights = model.patch_weights([picture], prompt) if settings.maps else None
    return Shown(
        name,
        row.group,
        row.caption_original,
        model.embed_pictures([picture], prompt)[0],
        None if weights is None else weights[0],
        tuple(row.prefix_tokens),
        row.target_token,
    )


captions, maps = [], {}
for group in progress(groups[int(snakemake.wildcards.shard) :: p.shards], description="test"):
    own, others = (
        [show(name) for name in names]
        for names in pictures_to_test(valid, group, p.other_pictures, p.seed)
    )
    sets = neuron_sets(neurons, group)
    words = [word for word in facts["groups"] if word != group]
    rows, found = intervene_on(
        model, p.prompt, sets, own, others, words, facts["mean_square"], settings
    )
    captions += rows
    maps |= {(*of, group, name): m for (*of, name), m in found.items()}

folder.mkdir(parents=True, exist_ok=True)
table = pd.DataFrame(captions, columns=list(CAPTION_COLUMNS)).astype(CAPTION_COLUMNS)
write_table(table, folder / "captions.parquet", facts)
sizes = {name: (by_name[name].width, by_name[name].height) for *_, name in maps}
boxes = {name: list(model.seen_box(size)) for name, size in sizes.items()}
rows = pd.DataFrame(list(maps), columns=["method", "part", "seed", "group", "sample_id"])
write_table(rows, folder / "maps.parquet", facts | {"boxes": boxes})
stacked = torch.stack([torch.from_numpy(m) for m in maps.values()]) if maps else torch.zeros(0, 0)
write_tensors({"maps": stacked.half().numpy()}, folder / "maps.safetensors", facts)
