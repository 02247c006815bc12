"""Pack what the figures of a run were drawn from into one file."""

from pathlib import Path

from mmneurons.artifacts.files import atomic
from mmneurons.console import log_to
from mmneurons.sharing.manifest import file_entry
from mmneurons.sharing.writer import Pictures, Subject, write_bundle

log_to(snakemake.log[0])
p, bundle = snakemake.params, Path(snakemake.output.bundle)
subject = Subject(
    run=p.config["run"],
    papers=p.papers,
    figures=list(snakemake.input.figures),
    pages=list(snakemake.input.get("pages", [])),
    config=p.config,
    pictures=[Pictures(**row) for row in p.pictures],
    models=p.models,
    workflow="Snakefile",
    version=p.version,
    licence=p.licence,
    engine=p.engine,
)
manifest = write_bundle(Path(), bundle, subject)
size = sum(entry.size for entry in manifest.files.values())
print(f"{len(manifest.files)} files of {size} bytes, packed into {bundle.stat().st_size}")
for row in manifest.withheld:
    print(f"pictures of {row['label']} are not in it: {row['licence']}")
with atomic(snakemake.output.digest) as temporary:
    temporary.write_text(f"{file_entry(bundle).sha256}  {bundle.name}\n", encoding="utf-8")
