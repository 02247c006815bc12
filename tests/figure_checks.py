"""What tests of figures and tables ask of them, and scripts run as Snakemake would."""

import runpy
from itertools import combinations
from types import SimpleNamespace

import matplotlib
from matplotlib.text import Text

from mmneurons.artifacts.tables import write_csv, write_table
from mmneurons.figures import style


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_text().strip()]


def words(figure):
    return " ".join(text.get_text() for text in texts(figure))


def assert_readable(figure):
    """No visible text lies on another one or reaches beyond the page."""
    with matplotlib.rc_context(style.RC):
        figure.draw_without_rendering()
        hidden = set()
        for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
            low, high = sorted(axis.get_view_interval())
            labels = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
            hidden |= {label for place, label in labels if not low <= place <= high}
            if not axis.axes.axison:
                hidden |= set(axis.get_majorticklabels())
        drawn = [text for text in texts(figure) if text.get_visible() and text not in hidden]
        # Boxes of slanted names overlap though the names do not.
        straight = [text for text in drawn if text.get_rotation() in (0, 90)]
        boxes = [(text.get_text(), text.get_window_extent()) for text in straight]
        slanted = [(t.get_text(), t.get_window_extent()) for t in drawn if t not in straight]
    for text, box in boxes + slanted:
        inside = box.x0 >= 0 and box.y0 >= 0
        assert inside and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text
    pairs = [*combinations(boxes, 2), *((one, other) for one in boxes for other in slanted)]
    for (one, a), (other, b) in pairs:
        overlap = min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
        assert not overlap, (one, other)


def markdown_rows(text):
    """The cells of every table row, split at unescaped bars."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bars = [line.replace("\\|", "").strip("|").split("|") for line in lines]
    return [[cell.strip() for cell in cells] for cells in bars]


def run_script(name, tmp_path, inputs, **params):
    """Run a script as Snakemake would; its outputs are out.svg, .png, .csv and .md."""
    output = SimpleNamespace(**{k: str(tmp_path / f"out.{k}") for k in ("svg", "png", "csv", "md")})
    job = SimpleNamespace(
        input=SimpleNamespace(items=inputs.items),
        output=output,
        log=[str(tmp_path / "log")],
        params=SimpleNamespace(**params),
    )
    runpy.run_path(f"scripts/{name}.py", init_globals={"snakemake": job})
    return output


def write_named(tables, folder, kind, paths):
    """Write tables by name, as .parquet or .csv, and append each file to the paths of its name."""
    write = {"parquet": write_table, "csv": write_csv}[kind]
    for name, table in tables.items():
        paths.setdefault(name, []).append(str(folder / f"{name}.{kind}"))
        write(table, paths[name][-1])
