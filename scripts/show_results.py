"""Name the figures and tables of a run, one line each: `show_results.py results/demo/figures`."""

import sys
from collections import defaultdict
from pathlib import Path

CAPTIONS = Path("resources/captions")
"""`{paper}/{figure}.rst`: the captions of the report; the first line says what is shown."""

TO_LOOK_AT = (".svg", ".html", ".md", ".png", ".csv")
"""Kinds of file, the one most worth opening first."""


def show(figures: Path) -> str:
    """The lines to print: for each figure or table the file to open first, and the others."""
    kinds = defaultdict(list)
    for path in figures.glob("*/*"):
        if path.suffix in TO_LOOK_AT:
            kinds[path.with_suffix("")].append(path.suffix)
    if not kinds:
        return f"There is no figure in {figures}."
    lines = ["Look at:"]
    for stem, suffixes in sorted(kinds.items()):
        first, *others = sorted(suffixes, key=TO_LOOK_AT.index)
        caption = CAPTIONS / stem.parent.name / f"{stem.name}.rst"
        title = caption.read_text(encoding="utf-8").split("\n", 1)[0] if caption.is_file() else ""
        also = f" (also {' '.join(others)})" if others else ""
        lines.append(f"  {stem}{first}{also}  {title}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    print(show(Path(sys.argv[1])))
