"""Lay a bundle of a run's artifacts into this clone, to draw its figures without a model.

    python scripts/restore.py demo.mmneurons.zip
    python scripts/restore.py https://example.org/demo.mmneurons.zip --sha256 1f0c...
    python scripts/restore.py zenodo:1234567

Every checksum is verified before anything is laid down. docs/sharing.md says what happens then.
"""

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

from mmneurons.sharing.fetch import fetch
from mmneurons.sharing.manifest import CONFIG, BundleError
from mmneurons.sharing.reader import Laid, lay, verify

ROOT = Path(__file__).parents[1]


def said(laid: Laid) -> str:
    """What was done and what can be done now, for the person who asked for it."""
    manifest, own = laid.manifest, f"results/{laid.manifest.run}"
    size = sum(manifest.files[path].size for path in manifest.laid)
    lines = [
        f"Verified and restored run {manifest.run}: {len(manifest.laid)} files, {size / 1e6:.1f} MB"
        + (f" ({len(laid.kept)} were there already)." if laid.kept else "."),
    ]
    for path in laid.changed:
        lines.append(f"Not what the run was made with, so its rules run again: {path}")
    weights = [path for path in laid.absent if path.startswith("resources/")]
    if weights:
        lines.append(
            f"Of the run's sources {len(weights)} files are not here, such as {weights[0]}; "
            "only what holds a model or reads data needs them."
        )
    for row in manifest.withheld:
        lines.append(
            f"Pictures of {row['label']} are not in the bundle ({row['licence']}): "
            f"{', '.join(row['figures'])} can be drawn only with them in {row['root']}."
        )
    example = next((name for name in sorted(manifest.figures) if name.endswith(".svg")), None)
    lines += [
        "One figure:",
        f"  snakemake --cores 2 {shlex.quote(example or own)} --configfile {own}/share/{CONFIG}",
        "All that need no model, also after a change of the configuration (docs/sharing.md):",
        f"  python scripts/redraw.py {manifest.run}",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        description="Lay a bundle of a run's artifacts into this clone.",
        epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", help="a file, a URL, zenodo:RECORD or a DOI of Zenodo")
    parser.add_argument("--sha256", help="what the file has to have, as its maker published it")
    parser.add_argument("--verify", action="store_true", help="check it, and lay nothing down")
    parser.add_argument("--overwrite", action="store_true", help="replace files that differ")
    given = parser.parse_args(arguments)
    results = ROOT / "results"
    try:
        with tempfile.TemporaryDirectory(prefix=".loading-", dir=results) as folder:
            bundle = fetch(given.bundle, Path(folder), given.sha256)
            if given.verify:
                manifest = verify(bundle, results)
                print(f"All {len(manifest.files)} checksums of run {manifest.run} are right.")
            else:
                print(said(lay(bundle, ROOT, given.overwrite)))
    except BundleError as error:
        print(f"Refused, and nothing was changed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
