"""The look of every figure: colours, wrapped text, pages measured in inches, files.

Lengths are inches from the page's top left corner, font sizes points. The fonts are those that come
with matplotlib, so that a figure has the same bytes on every machine with the pinned versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from mmneurons.artifacts.files import atomic
from mmneurons.figures.shown import Source


# Colours by Okabe and Ito, which people with any kind of colour blindness can tell apart.
class MethodColours(dict):
    """Colours by method; a variant, such as "attribution_mean", has that of its method."""

    def __missing__(self, name: str) -> str:
        """The colour of what comes before the last underscore, and gray where nothing does."""
        method = name.rpartition("_")[0]
        return self[method] if method else FAINT


METHOD_COLOURS = MethodColours(
    two_stage="#0072B2",
    attribution="#D55E00",
    contribution="#009E73",
    random="#7F7F7F",
    activation="#CC79A7",
    dape="#E69F00",
)
METHOD_MARKERS = {"two_stage": "o", "attribution": "s", "contribution": "^", "random": "D"}
OTHER_COLOUR = "#CC79A7"
VARIANT_LINES = {"no-last": (0, (4, 2)), "manual": (0, (1, 1.5)), "matched": (0, (6, 2, 1, 2))}
"""Dashes of the variants that are not drawn as a full, thick line."""
INK, FAINT = "#1A1A1A", "#5A5A5A"
MARKED = "#B3003C"
UNIFORM_COLORMAPS = ("viridis", "cividis", "magma", "inferno", "plasma")

BODY, SMALL, TITLE = 9.0, 7.5, 12.0
MARGIN = 0.3
DPI = 120

Run = tuple[str, bool]
"""A stretch of text and whether it is set in bold."""

RC = {
    "svg.hashsalt": "mmneurons",
    "svg.fonttype": "path",
    "image.composite_image": False,
    # Hinted letters have other widths than those by which the lines were broken.
    "text.hinting": "none",
    "font.family": "DejaVu Sans",
    "font.size": BODY,
    "axes.labelsize": BODY,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "hatch.linewidth": 0.6,
}


def uniform_colormap(name: str) -> matplotlib.colors.Colormap:
    """Return a perceptually uniform colour map; ValueError for one that is not."""
    if name not in UNIFORM_COLORMAPS:
        raise ValueError(f"{name!r} is none of the colour maps {', '.join(UNIFORM_COLORMAPS)}")
    return matplotlib.colormaps[name]


class Page:
    """A figure that grows downwards: things are placed first, and its height is known last."""

    def __init__(self, width: float) -> None:
        """Begin a page `width` wide."""
        self.width = width
        self._drawings: list[Callable[[Figure, float], None]] = []

    @property
    def inner(self) -> float:
        """The width between the margins."""
        return self.width - 2 * MARGIN

    def header(self, title: str, source: Source) -> float:
        """Write the title and, under it, the model; return where they end."""
        bottom = self.text([(title, True)], MARGIN, MARGIN, self.inner, TITLE)
        return self.text([(source.model, False)], MARGIN, bottom, self.inner, BODY, FAINT) + 0.12

    def footer(self, top: float, explanation: str, source: Source) -> float:
        """Write what the figure shows and what it rests on; return where they end."""
        bottom = self.text([(explanation, False)], MARGIN, top, self.inner, SMALL)
        return self.text([(str(source), False)], MARGIN, bottom + 0.06, self.inner, SMALL, FAINT)

    def text(
        self,
        runs: Sequence[Run],
        x: float,
        y: float,
        width: float,
        size: float = BODY,
        colour: str = INK,
        marked: str = "",
    ) -> float:
        """Write text wrapped to `width` from (x, y) down; return where its last line ends.

        Bold runs are in the colour `marked`, if one is given. Nothing in the text is taken as
        markup.
        """
        lines = wrapped(runs, width, size)
        for number, line in enumerate(lines):
            baseline = y + (number * _LEADING + 1.0) * size / 72
            for offset, text, bold in line:
                self._write(
                    text, x + offset, baseline, size, bold, marked if bold and marked else colour
                )
        return y + len(lines) * _LEADING * size / 72

    def axes(
        self, x: float, y: float, width: float, height: float, draw: Callable[[Axes], None]
    ) -> float:
        """Put axes with the top left corner at (x, y) and have `draw` fill them; return the end."""

        def place(figure: Figure, page_height: float) -> None:
            bottom = 1 - (y + height) / page_height
            draw(
                figure.add_axes((x / self.width, bottom, width / self.width, height / page_height))
            )

        self._drawings.append(place)
        return y + height

    def figure(self, bottom: float) -> Figure:
        """Return the figure of all that was placed, which ends at `bottom` and a margin."""
        height = bottom + MARGIN
        with matplotlib.rc_context(RC):
            figure = Figure(figsize=(self.width, height), facecolor="white")
            for draw in self._drawings:
                draw(figure, height)
        return figure

    def _write(
        self, text: str, x: float, baseline: float, size: float, bold: bool, colour: str
    ) -> None:
        def place(figure: Figure, page_height: float) -> None:
            figure.text(
                x / self.width,
                1 - baseline / page_height,
                text,
                fontproperties=_font(size, bold),
                color=colour,
                va="baseline",
                parse_math=False,
            )

        self._drawings.append(place)


def save(figure: Figure, svg: str | Path, png: str | Path, dpi: int = DPI) -> None:
    """Write the figure twice; equal figures give equal bytes (no date, no random ids)."""
    with matplotlib.rc_context(RC):
        with atomic(svg) as temporary:
            FigureCanvasSVG(figure).print_figure(
                temporary, format="svg", dpi=dpi, metadata={"Date": None}
            )
        with atomic(png) as temporary:
            FigureCanvasAgg(figure).print_figure(
                temporary, format="png", dpi=dpi, metadata={"Software": None}
            )


# Text.

_LEADING = 1.32


def drawable(text: str) -> str:
    """Return the text with control characters and those that the font lacks written as escapes."""
    known = _known_characters()
    return "".join(
        letter
        if ord(letter) in known and letter.isprintable()
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def shortened(text: str, width: float, size: float) -> str:
    """Return the text as it can be drawn on one line of `width` inches, its end cut where it must.

    The mark of a cut is one character, an ellipsis.
    """
    text = drawable(text)
    if _advance(text, False, size) <= width * 72:
        return text
    while text and _advance(f"{text}\u2026", False, size) > width * 72:
        text = text[:-1]
    return f"{text}\u2026"


def wrapped(runs: Iterable[Run], width: float, size: float) -> list[list[tuple[float, str, bool]]]:
    """Break text into lines at most `width` inches wide, each a list of (x, text, bold).

    Lines break at spaces; a word wider than a line is broken where the line ends. No text gives one
    empty line.
    """
    space = _advance("n n", False, size) - _advance("nn", False, size)
    lines: list[list[tuple[float, str, bool]]] = [[]]
    end = 0.0
    for word in _words(runs, width, size):
        gap = space if lines[-1] else 0.0
        if lines[-1] and end + gap + sum(_advance(*part, size) for part in word) > width * 72:
            lines.append([])
            end = gap = 0.0
        for text, bold in word:
            end = _append(lines[-1], text, bold, gap, end, size)
            gap = 0.0
    return [[(x / 72, text, bold) for x, text, bold in line] for line in lines]


def _append(
    line: list[tuple[float, str, bool]], text: str, bold: bool, gap: float, end: float, size: float
) -> float:
    """Put a piece of a word at the end of a line, joined to what is set alike; return the end."""
    if line and line[-1][2] == bold:
        x, before, _ = line.pop()
        text = before + (" " if gap else "") + text
    else:
        x = end + gap
    line.append((x, text, bold))
    return x + _advance(text, bold, size)


def _words(runs: Iterable[Run], width: float, size: float) -> Iterable[list[Run]]:
    """Cut runs at white space into words, each a list of runs that stand close together."""
    word: list[Run] = []
    for text, bold in runs:
        pieces = text.split()
        if word and (not pieces or text[0].isspace()):
            yield word
            word = []
        for number, piece in enumerate(pieces):
            if number and word:
                yield word
                word = []
            *full, rest = _broken(drawable(piece), bold, width, size)
            for part in full:
                if word:
                    yield word
                    word = []
                yield [(part, bold)]
            word.append((rest, bold))
        if word and text[-1:].isspace():
            yield word
            word = []
    if word:
        yield word


def _broken(word: str, bold: bool, width: float, size: float) -> list[str]:
    """Cut a word into the longest parts that fit into `width`; a single letter always fits."""
    parts = [""]
    for letter in word:
        if parts[-1] and _advance(parts[-1] + letter, bold, size) > width * 72:
            parts.append("")
        parts[-1] += letter
    return parts


@lru_cache(maxsize=65536)
def _advance(text: str, bold: bool, size: float) -> float:
    """Return the width of a text in points."""
    return text_to_path.get_text_width_height_descent(text, _font(size, bold), False)[0]


@lru_cache
def _font(size: float, bold: bool) -> FontProperties:
    return FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")


@lru_cache
def _known_characters() -> frozenset[int]:
    return frozenset(get_font(findfont(_font(BODY, False))).get_charmap())
