"""Vector shapes of the world's object categories.

A shape is a list of parts (polygons with a fill) in a frame of its own, about 100 units wide or
high, y pointing down. The union of the solid parts is the object's silhouette.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RGB = tuple[int, int, int]
INK: RGB = (24, 22, 28)
WHITE: RGB = (248, 248, 244)
DARK: RGB = (52, 50, 56)
METAL: RGB = (150, 154, 160)
GLASS: RGB = (176, 220, 244)
WOOD: RGB = (150, 98, 52)
LEAF: RGB = (60, 150, 60)
BEAK: RGB = (246, 150, 40)
CREAM: RGB = (244, 214, 160)


@dataclass(frozen=True)
class Part:
    """A polygon (`points`: vertices x 2) and its fill.

    Only solid parts belong to the silhouette; the others are markings, cut off at its edge. A part
    with an outline gets a dark line around it.
    """

    points: np.ndarray
    fill: RGB
    solid: bool = True
    outline: bool = True


@dataclass(frozen=True)
class Shape:
    """How a category is drawn: its parts for (rng, colour), and how far it may be turned."""

    parts: Callable[[np.random.Generator, RGB], list[Part]]
    tilt: float
    rest: float
    flip: bool


SHAPES: dict[str, Shape] = {}


def _shape(name: str, tilt: float = 6.0, rest: float = 0.0, flip: bool = True):
    """Register a shape: mean angle `rest` and largest deviation `tilt` from it, in degrees."""

    def register(parts):
        SHAPES[name] = Shape(parts, tilt, rest, flip)
        return parts

    return register


def shade(colour: RGB, factor: float) -> RGB:
    """Darken (factor < 1) or mix with white (factor > 1) a colour."""
    if factor <= 1:
        red, green, blue = (int(c * factor) for c in colour)
    else:
        red, green, blue = (int(c + (255 - c) * (factor - 1)) for c in colour)
    return red, green, blue


def _accent(colour: RGB, factor: float = 0.7) -> RGB:
    """Give a second tone: darker for light colours, lighter for the near-black ones."""
    return shade(colour, factor) if max(colour) > 80 else shade(colour, 2 - factor)


def _solid(points, fill: RGB, outline: bool = True) -> Part:
    return Part(np.asarray(points, dtype=float), fill, True, outline)


def _mark(points, fill: RGB, outline: bool = False) -> Part:
    return Part(np.asarray(points, dtype=float), fill, False, outline)


# Outlines: each returns vertices x 2.


def _arc(cx, cy, rx, ry, start, stop, n=14) -> np.ndarray:
    angle = np.radians(np.linspace(start, stop, n))
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)


def _oval(cx, cy, rx, ry=None, n=24) -> np.ndarray:
    return _arc(cx, cy, rx, rx if ry is None else ry, 0, 360 - 360 / n, n)


def _box(x0, y0, x1, y1) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=float)


def _round_box(x0, y0, x1, y1, r) -> np.ndarray:
    corners = [
        _arc(x0 + r, y0 + r, r, r, 180, 270, 5),
        _arc(x1 - r, y0 + r, r, r, 270, 360, 5),
        _arc(x1 - r, y1 - r, r, r, 0, 90, 5),
        _arc(x0 + r, y1 - r, r, r, 90, 180, 5),
    ]
    return np.concatenate(corners)


def _bar(x0, y0, x1, y1, width) -> np.ndarray:
    """Return a straight stroke of the given width from one point to another."""
    along = np.array([x1 - x0, y1 - y0], dtype=float)
    side = np.array([-along[1], along[0]]) / np.hypot(*along) * width / 2
    a, b = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([a + side, b + side, b - side, a - side])


def _band(cx, cy, r_outer, r_inner, start, stop, n=18) -> np.ndarray:
    """Return a piece of a ring between two angles in degrees (0 to the right, 90 down)."""
    outer = _arc(cx, cy, r_outer, r_outer, start, stop, n)
    inner = _arc(cx, cy, r_inner, r_inner, stop, start, n)
    return np.concatenate([outer, inner])


def _smooth(points, per_edge=5) -> np.ndarray:
    """Return a closed Catmull-Rom curve through the points."""
    p1 = np.asarray(points, dtype=float)
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = (np.arange(per_edge) / per_edge)[:, None, None]
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    return curve.transpose(1, 0, 2).reshape(-1, 2)


def _wheels(xs, y, r) -> list[Part]:
    parts = []
    for x in xs:
        parts += [_solid(_oval(x, y, r, n=18), DARK), _mark(_oval(x, y, r * 0.45, n=12), METAL)]
    return parts


# Vehicles.


@_shape("car")
def _car(rng, c):
    roof = rng.uniform(2, 9)
    return [
        _solid([(20, 32), (33, roof), (67, roof), (84, 32)], c),
        _mark([(27, 31), (36, roof + 6), (48, roof + 6), (48, 31)], GLASS, True),
        _mark([(53, 31), (53, roof + 6), (64, roof + 6), (76, 31)], GLASS, True),
        _solid(_round_box(0, 29, 104, 54, 9), c),
        _mark(_box(0, 45, 104, 54), _accent(c, 0.75)),
        _mark(_box(97, 33, 104, 41), (255, 240, 150)),
        _mark(_box(0, 33, 6, 41), (230, 60, 50)),
        *_wheels((24, 80), 54, rng.uniform(11, 13)),
    ]


@_shape("airplane", tilt=22, rest=35)
def _airplane(rng, c):
    sweep = rng.uniform(14, 24)
    wing = _accent(c, 0.8)
    return [
        _solid([(44, 38), (0, 44 + sweep), (0, 55 + sweep), (44, 60)], wing),
        _solid([(56, 38), (100, 44 + sweep), (100, 55 + sweep), (56, 60)], wing),
        _solid([(46, 82), (26, 95), (26, 103), (50, 96), (74, 103), (74, 95), (54, 82)], wing),
        _solid(_smooth([(50, 0), (58, 14), (58, 60), (53, 100), (47, 100), (42, 60), (42, 14)]), c),
        _mark(_box(43, 12, 57, 18), (40, 70, 110)),
        _solid(_round_box(20, 42 + sweep / 2, 28, 60 + sweep / 2, 3), METAL),
        _solid(_round_box(72, 42 + sweep / 2, 80, 60 + sweep / 2, 3), METAL),
    ]


@_shape("bus", tilt=4)
def _bus(rng, c):
    top = rng.uniform(-4, 2)
    windows = [_mark(_box(x, 10, x + 14, 30), GLASS, True) for x in (8, 26, 44, 62)]
    return [
        _solid(_round_box(0, top, 104, 64, 7), c),
        *windows,
        _mark(_box(82, 10, 99, 60), GLASS, True),
        _mark(_box(0, 38, 80, 44), WHITE if max(c) - min(c) > 40 else METAL),
        *_wheels((22, 68), 64, 10.5),
    ]


@_shape("boat")
def _boat(rng, c):
    mast = 48 + rng.uniform(-4, 4)
    return [
        _solid(_box(mast - 2, 0, mast + 2, 72), WOOD),
        _solid([(mast + 3, 3), (mast + 3, 64), (96, 64)], WHITE),
        _solid([(mast - 4, 12), (mast - 4, 64), (12, 64)], c),
        _solid([(0, 70), (104, 70), (88, 97), (16, 97)], c),
        _mark(_box(0, 70, 104, 77), _accent(c, 0.65)),
    ]


# Outdoor.


@_shape("traffic light", tilt=5)
def _traffic_light(rng, c):
    lamps = ((226, 44, 40), (250, 206, 50), (50, 196, 80))
    lit = rng.integers(3)
    parts = [
        _solid(_box(19, 88, 31, 110), METAL),
        _solid(_round_box(0, 0, 50, 92, 8), c),
    ]
    for i, lamp in enumerate(lamps):
        y = 17 + 29 * i
        parts.append(_mark(_oval(25, y, 13), lamp if i == lit else shade(lamp, 0.85), True))
        parts.append(_mark(_oval(21, y - 4, 4, n=10), shade(lamp, 1.6)))
    return parts


@_shape("stop sign", tilt=5, flip=False)
def _stop_sign(rng, c):
    letters = [
        [(18, 26), (10, 26), (10, 34), (18, 34), (18, 42), (10, 42)],
        [(23, 26), (33, 26), (28, 26), (28, 43)],
        [(38, 26), (38, 42), (47, 42), (47, 26), (38, 26)],
        [(53, 43), (53, 26), (61, 26), (61, 35), (53, 35)],
    ]
    octagon = _oval(35, 35, 38, n=8)
    turn = np.radians(22.5)
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    octagon = (octagon - 35) @ spin + 35
    ink = WHITE if c[1] < 128 else INK
    parts = [
        _solid(_box(31, 60, 39, 108 + rng.uniform(-6, 6)), METAL),
        _solid(octagon, WHITE),
        _mark((octagon - 35) * 0.87 + 35, c),
    ]
    for letter in letters:
        for (x0, y0), (x1, y1) in zip(letter, letter[1:], strict=False):
            end = np.sign([x1 - x0, y1 - y0]) * 2
            parts.append(_mark(_bar(x0 - end[0], y0 - end[1], x1 + end[0], y1 + end[1], 4.4), ink))
    return parts


@_shape("bench", tilt=4)
def _bench(rng, c):
    legs = rng.uniform(60, 66)
    dark = _accent(c, 0.6)
    parts = [_solid(_box(x, 2, x + 8, legs), dark) for x in (8, 90)]
    parts += [_solid(_box(0, y, 106, y + 10), c) for y in (0, 14)]
    parts += [
        _solid([(6, 32), (100, 32), (110, 46), (-4, 46)], shade(c, 1.15)),
        _solid(_box(0, 46, 8, legs + 6), dark),
        _solid(_box(98, 46, 106, legs + 6), dark),
    ]
    return parts


@_shape("fire hydrant", tilt=5)
def _fire_hydrant(rng, c):
    dark = _accent(c, 0.7)
    top = rng.uniform(-3, 3)
    return [
        _solid(_box(-2, 42, 72, 58), METAL),
        _solid(_box(-8, 38, 2, 62), dark),
        _solid(_box(68, 38, 78, 62), dark),
        _solid(_box(14, 28, 56, 96), c),
        _solid(_arc(35, 26, 23, 22 - top, 180, 360), c),
        _solid(_box(29, top - 4, 41, top + 6), dark),
        _solid(_box(8, 24, 62, 33), dark),
        _mark(_oval(35, 52, 12), METAL, True),
        _mark(_oval(35, 52, 5, n=10), dark),
        _solid(_box(4, 92, 66, 104), dark),
    ]


# Animals.


@_shape("bird")
def _bird(rng, c):
    wing = rng.uniform(-8, 4)
    dark = _accent(c, 0.65)
    return [
        _solid(_bar(46, 62, 44, 88, 4), BEAK),
        _solid(_bar(56, 62, 56, 88, 4), BEAK),
        _solid(_bar(40, 87, 66, 87, 4), BEAK, False),
        _solid([(28, 44), (-6, 34), (-8, 58), (24, 62)], dark),
        _solid([(90, 18), (110, 26), (90, 32)], BEAK),
        _solid(
            _smooth(
                [(14, 50), (40, 34), (62, 24), (76, 8), (92, 14), (92, 32), (80, 54), (52, 70)]
            ),
            c,
        ),
        _mark(_smooth([(60, 60), (78, 46), (86, 34), (90, 44), (78, 62), (58, 72)]), WHITE),
        _solid(_smooth([(58, 38), (60, 54), (42, 60), (10, 44 + wing), (34, 38)]), dark),
        _mark(_oval(83, 20, 4, n=12), INK),
    ]


@_shape("cat", tilt=5)
def _cat(rng, c):
    dark = _accent(c, 0.72)
    tail = rng.uniform(-8, 6)
    return [
        _solid(
            _smooth(
                [
                    (58, 96),
                    (82, 92),
                    (90, 66),
                    (84, 46 + tail),
                    (96, 46 + tail),
                    (103, 68),
                    (92, 100),
                    (62, 106),
                ]
            ),
            dark,
        ),
        _solid(_smooth([(28, 48), (52, 48), (68, 78), (66, 106), (14, 106), (12, 78)]), c),
        _mark(_oval(40, 84, 11, 20, 16), shade(c, 1.5)),
        _solid(_oval(26, 104, 11, 6, 14), c),
        _solid(_oval(54, 104, 11, 6, 14), c),
        _solid([(6, 26), (6, -12), (34, 10)], c),
        _solid([(74, 26), (74, -12), (46, 10)], c),
        _mark([(11, 12), (11, -3), (23, 8)], (246, 160, 170)),
        _mark([(69, 12), (69, -3), (57, 8)], (246, 160, 170)),
        _solid(_oval(40, 29, 36, 26), c),
        _mark(_oval(25, 26, 7, 8, 14), (180, 226, 80), True),
        _mark(_oval(55, 26, 7, 8, 14), (180, 226, 80), True),
        _mark(_oval(25, 26, 2.5, 6, 10), INK),
        _mark(_oval(55, 26, 2.5, 6, 10), INK),
        _mark([(35, 37), (45, 37), (40, 43)], (240, 110, 130)),
        *[
            _mark(_bar(x, 42, x + dx, 42 + dy, 2), WHITE if max(c) < 90 else INK)
            for x, dx in ((28, -22), (52, 22))
            for dy in (-3, 5)
        ],
    ]


@_shape("bear", tilt=4)
def _bear(rng, c):
    dark = _accent(c, 0.72)
    hump = rng.uniform(-4, 4)
    return [
        _solid(_round_box(22, 44, 40, 80, 6), dark),
        _solid(_round_box(64, 44, 82, 80, 6), dark),
        _solid(_oval(75, 4, 8, n=14), c),
        _solid(_oval(98, 2, 8, n=14), c),
        _solid(
            _smooth(
                [(2, 42), (8, 18), (34, 6 + hump), (60, 8), (82, 16), (92, 46), (70, 62), (30, 62)]
            ),
            c,
        ),
        _solid(_round_box(4, 40, 24, 84, 7), c),
        _solid(_round_box(76, 40, 96, 84, 7), c),
        _solid(_oval(88, 22, 22, 20), c),
        _solid(_oval(101, 30, 13, 10, 18), CREAM),
        _mark(_oval(108, 26, 6, 4.5, 12), INK),
        _mark(_oval(86, 16, 3.5, n=10), INK),
    ]


@_shape("giraffe", tilt=4)
def _giraffe(rng, c):
    spot = (120, 66, 30) if c[0] > 200 else CREAM
    neck = rng.uniform(-4, 5)
    legs = [_solid(_box(x, 66, x + 8, 118), c) for x in (6, 18, 44, 56)]
    hooves = [_mark(_box(x, 110, x + 8, 118), INK) for x in (6, 18, 44, 56)]
    centres = [
        (12, 58),
        (28, 60),
        (44, 62),
        (20, 72),
        (37, 74),
        (54, 72),
        (60, 56),
        (64, 40),
        (69, 25),
        (72, 10),
    ]
    return [
        _solid(_bar(4, 58, -6, 82, 4), c),
        *legs,
        *hooves,
        _solid(_bar(70 + neck, -6, 69 + neck, -16, 4), WOOD),
        _solid(_bar(78 + neck, -6, 80 + neck, -16, 4), WOOD),
        _solid([(44, 56), (64 + neck, -2), (80 + neck, 2), (68, 66)], c),
        _solid(_smooth([(0, 56), (20, 50), (54, 50), (68, 58), (64, 78), (34, 82), (4, 78)]), c),
        _mark([(46, 52), (52, 38), (71, 44), (67, 66), (50, 66)], c),
        *[
            _mark(_smooth([(x, y - 5), (x + 6, y), (x + 1, y + 5), (x - 5, y + 1)], 3), spot)
            for x, y in centres
        ],
        _solid(
            _smooth(
                [(64 + neck, -8), (80 + neck, -8), (100 + neck, 4), (96 + neck, 12), (70 + neck, 8)]
            ),
            c,
        ),
        _mark(_oval(77 + neck, -2, 3, n=10), INK),
    ]


# Accessories and sports.


@_shape("umbrella", tilt=12)
def _umbrella(rng, c):
    top = rng.uniform(-2, 6)
    light = shade(c, 1.45)
    ribs = (0, 26, 52, 78, 104)
    rim = [
        p
        for x0, x1 in zip(ribs[::-1], ribs[-2::-1], strict=False)
        for p in _arc((x0 + x1) / 2, 50, 13, 8, 0, -180, 7)
    ]
    dome = np.concatenate([_arc(52, 50, 52, 50 - top, 180, 360, 20), rim])
    return [
        _solid(_bar(52, -4, 52, 10, 4), DARK),
        _solid(_bar(52, 40, 52, 92, 5), DARK),
        _solid(_band(42, 92, 12.5, 7.5, 0, 180), DARK),
        _solid(dome, c),
        _mark([(52, top), (26, 51), (39, 40), (52, 51)], light, True),
        _mark([(52, top), (78, 51), (91, 40), (104, 51), (90, 22)], light, True),
    ]


@_shape("kite", tilt=18, rest=20)
def _kite(rng, c):
    belly = rng.uniform(34, 42)
    light = shade(c, 1.5)
    tail = [_solid(_bar(40, 96, 46, 112, 3), DARK), _solid(_bar(46, 112, 38, 132, 3), DARK)]
    bows = [
        _solid([(x - 12, y - 9), (x - 12, y + 9), (x + 12, y - 9), (x + 12, y + 9)], BEAK)
        for x, y in ((46, 111), (38, 132))
    ]
    return [
        *tail,
        *bows,
        _solid([(40, 0), (78, belly), (40, 98), (2, belly)], c),
        _mark([(40, 0), (78, belly), (40, belly)], light),
        _mark([(40, belly), (40, 98), (2, belly)], light),
        _mark(_bar(40, 0, 40, 98, 3), INK),
        _mark(_bar(2, belly, 78, belly, 3), INK),
    ]


@_shape("surfboard", tilt=14, rest=16)
def _surfboard(rng, c):
    width = rng.uniform(15, 18)
    stripe = WHITE if max(c) - min(c) > 40 else (226, 60, 60)
    return [
        _solid([(14, 108), (20, 124), (26, 108)], DARK),
        _solid(
            _smooth(
                [
                    (20, 0),
                    (20 + width * 0.8, 28),
                    (20 + width, 62),
                    (20 + width * 0.6, 112),
                    (20, 118),
                    (20 - width * 0.6, 112),
                    (20 - width, 62),
                    (20 - width * 0.8, 28),
                ]
            ),
            c,
        ),
        _mark(_box(17.5, 0, 22.5, 120), stripe),
        _mark(_box(0, 84, 40, 92), stripe),
    ]


@_shape("tennis racket", tilt=16, rest=24)
def _tennis_racket(rng, c):
    ry = rng.uniform(34, 38)
    strings = [_mark(_bar(x, 0, x, 74, 1.6), METAL) for x in (12, 20, 28, 36, 44)]
    strings += [_mark(_bar(0, y, 56, y, 1.6), METAL) for y in (10, 20, 30, 40, 50, 60)]
    return [
        _solid(_bar(28, 88, 28, 126, 9), DARK),
        _solid([(12, 62), (44, 62), (32, 92), (24, 92)], c),
        _solid(_oval(28, 36, 28, ry), c),
        _mark(_oval(28, 36, 22, ry - 6), WHITE, True),
        *strings,
        *[
            Part(
                _band(28, 36, 28, 22, a, a + 180) * (1, ry / 28) + (0, 36 - ry / 28 * 36),
                c,
                False,
                False,
            )
            for a in (0, 180)
        ],
    ]


# Food.


@_shape("banana", tilt=20)
def _banana(rng, c):
    bend = rng.uniform(40, 50)
    return [
        _solid(
            _smooth(
                [
                    (4, 2),
                    (14, 0),
                    (20, 22),
                    (44, bend - 2),
                    (76, bend - 8),
                    (98, 20),
                    (106, 24),
                    (96, 54),
                    (70, bend + 28),
                    (36, bend + 22),
                    (10, bend - 4),
                ]
            ),
            c,
        ),
        _mark(
            _smooth(
                [
                    (12, 24),
                    (34, bend + 6),
                    (70, bend + 10),
                    (98, 34),
                    (74, bend + 18),
                    (34, bend + 14),
                ]
            ),
            shade(c, 0.78),
        ),
        _mark(_box(-4, -4, 24, 9), (96, 66, 30)),
        _mark(_oval(103, 22, 8, n=12), (96, 66, 30)),
    ]


@_shape("apple", tilt=10)
def _apple(rng, c):
    low = rng.uniform(86, 94)
    return [
        _solid(_bar(46, 24, 52, -4, 6), (96, 60, 30)),
        _solid(_smooth([(52, 8), (66, -8), (88, -6), (74, 10)]), LEAF),
        _solid(
            _smooth(
                [
                    (46, 20),
                    (66, 12),
                    (90, 24),
                    (94, 52),
                    (76, low - 6),
                    (58, low),
                    (46, low - 4),
                    (34, low),
                    (16, low - 6),
                    (-2, 52),
                    (2, 24),
                    (26, 12),
                ]
            ),
            c,
        ),
        _mark(_oval(20, 40, 8, 13, 14), shade(c, 1.6)),
    ]


@_shape("carrot", tilt=25, rest=35)
def _carrot(rng, c):
    width = rng.uniform(21, 25)
    dark = shade(c, 0.7)
    return [
        _solid(_smooth([(22, 22), (0, 2), (-4, -16), (14, -8)]), LEAF),
        _solid(_smooth([(22, 22), (44, 2), (48, -16), (30, -8)]), LEAF),
        _solid(_smooth([(16, 24), (12, -10), (22, -26), (32, -10), (28, 24)]), shade(LEAF, 1.2)),
        _solid(
            _smooth(
                [
                    (22, 18),
                    (22 + width, 26),
                    (22 + width * 0.75, 58),
                    (25, 104),
                    (19, 104),
                    (22 - width * 0.75, 60),
                    (22 - width, 26),
                ]
            ),
            c,
        ),
        _mark(_bar(2, 40, 24, 42, 3.5), dark),
        _mark(_bar(42, 56, 20, 58, 3.5), dark),
        _mark(_bar(4, 76, 22, 78, 3.5), dark),
    ]


@_shape("pizza", tilt=14)
def _pizza(rng, c):
    topping = (196, 40, 36) if c[1] > 120 else CREAM
    spots = (
        [(30, 34), (62, 30), (46, 60), (74, 46)]
        if rng.random() < 0.5
        else [(26, 30), (52, 36), (74, 30), (42, 62)]
    )
    return [
        _solid([(4, 14), (96, 14), (50, 108)], c),
        *[_mark(_oval(x, y, 9, n=16), topping, True) for x, y in spots],
        *[_mark(_box(x, y, x + 5, y + 5), LEAF) for x, y in ((42, 22), (60, 60), (48, 82))],
        _solid(
            _smooth(
                [(-4, 6), (14, -4), (50, -8), (86, -4), (104, 6), (100, 20), (50, 14), (0, 20)]
            ),
            (204, 138, 66),
        ),
    ]


@_shape("donut", tilt=30)
def _donut(rng, c):
    hole = rng.uniform(15, 19)
    dough = (220, 166, 96)
    sprinkles = ((240, 60, 60), (60, 120, 230), (250, 220, 60), WHITE)
    parts = []
    for start in (-2, 178):
        parts.append(_solid(_band(50, 50, 50, hole, start, start + 184), dough, False))
    for start in (-2, 178):
        parts.append(_mark(_band(50, 50, 43, hole + 5, start, start + 184), c))
    for i, angle in enumerate(np.linspace(0, 330, 10) + rng.uniform(0, 30)):
        x, y = _arc(50, 50, 33, 33, angle, angle, 1)[0]
        dx, dy = _arc(0, 0, 5, 5, angle * 3, angle * 3, 1)[0]
        parts.append(_mark(_bar(x - dx, y - dy, x + dx, y + dy, 4.5), sprinkles[i % 4]))
    for start in (0, 180):
        parts.append(_mark(_band(50, 50, 51, 48.5, start, start + 182), INK))
        parts.append(_mark(_band(50, 50, hole + 1.5, hole - 1, start, start + 182), INK))
    return parts


@_shape("cake", tilt=3)
def _cake(rng, c):
    height = rng.uniform(-3, 3)
    drip = shade(c, 1.55) if min(c) < 200 else (246, 150, 190)
    candles = []
    for x in (31, 50, 69):
        candles += [
            _solid(_box(x - 4.5, -10, x + 4.5, 14), (90, 170, 240)),
            _solid(_smooth([(x, -30), (x + 7, -15), (x, -8), (x - 7, -15)], 3), (255, 180, 40)),
        ]
    return [
        *candles,
        _solid(_box(22, 12 + height, 78, 46), c),
        _mark(
            np.concatenate(
                [
                    _box(22, 8, 78, 20)[:2],
                    _smooth(
                        [(78, 22), (70, 30), (60, 20), (50, 30), (40, 20), (30, 30), (22, 22)], 3
                    ),
                ]
            ),
            drip,
        ),
        _solid(_box(4, 42, 96, 84), c),
        _mark(_box(4, 42, 96, 54), drip),
        _mark(_box(4, 66, 96, 71), drip),
        _solid(_round_box(-8, 82, 108, 91, 4), WHITE),
    ]


# Furniture.


@_shape("chair", tilt=4)
def _chair(rng, c):
    top = rng.uniform(-6, 4)
    dark = _accent(c, 0.65)
    return [
        _solid(_box(16, 52, 23, 96), dark),
        _solid(_box(54, 52, 61, 96), dark),
        _solid(_box(6, top, 14, 62), c),
        _solid(_box(50, top, 58, 62), c),
        _solid(_box(4, top - 4, 60, top + 13), c),
        _solid(_box(12, 26, 52, 36), c),
        _solid([(6, 52), (58, 52), (70, 68), (0, 68)], shade(c, 1.2)),
        _solid(_box(0, 66, 9, 110), c),
        _solid(_box(61, 66, 70, 110), c),
    ]


@_shape("bed", tilt=3)
def _bed(rng, c):
    head = rng.uniform(-4, 4)
    return [
        _solid(_box(0, head, 11, 74), WOOD),
        _solid(_box(110, 26, 120, 74), WOOD),
        _solid(_box(8, 50, 112, 64), shade(WOOD, 0.8)),
        _solid(_round_box(9, 32, 112, 54, 5), WHITE),
        _solid(_smooth([(12, 32), (14, 20), (34, 18), (42, 24), (40, 34), (16, 36)]), WHITE),
        _solid([(46, 27), (112, 27), (112, 60), (46, 60)], c),
        _mark(_box(46, 27, 56, 60), shade(c, 1.4)),
    ]


# Electronics and indoor things.


@_shape("laptop", tilt=4)
def _laptop(rng, c):
    screen = ((70, 170, 230), (90, 200, 170), (120, 130, 240))[rng.integers(3)]
    keys = [
        _mark(_bar(17 - 4 * i, 72 + 5 * i, 93 + 4 * i, 72 + 5 * i, 2.6), DARK) for i in range(3)
    ]
    if max(c) < 90:
        keys = [_mark(p.points, METAL) for p in keys]
    return [
        _solid(_round_box(12, 0, 98, 64, 4), c),
        _mark(_box(18, 6, 92, 58), screen, True),
        _mark(_box(26, 16, 62, 21), WHITE),
        _mark(_box(26, 28, 80, 33), WHITE),
        _solid([(12, 66), (98, 66), (114, 92), (-4, 92)], _accent(c, 0.88)),
        *keys,
    ]


@_shape("book", tilt=16, flip=False)
def _book(rng, c):
    label = rng.uniform(16, 26)
    return [
        _solid([(6, 96), (68, 96), (76, 106), (14, 106)], WHITE),
        _solid([(66, 2), (76, 12), (76, 106), (66, 96)], WHITE),
        _mark([(69, 8), (71, 10), (71, 102), (69, 100)], METAL),
        _mark([(10, 100), (72, 100), (72, 102), (12, 102)], METAL),
        _solid(_box(0, 0, 68, 98), c),
        _mark(_box(0, 0, 13, 98), _accent(c, 0.6), True),
        _mark(_box(23, label, 59, label + 22), CREAM, True),
        _mark(_box(28, label + 6, 54, label + 9), INK),
        _mark(_box(32, label + 13, 50, label + 16), INK),
    ]


@_shape("clock", tilt=8)
def _clock(rng, c):
    hour, minute = rng.uniform(0, 360, 2)
    parts = [
        _solid(_bar(22, 80, 10, 102, 9), DARK),
        _solid(_bar(78, 80, 90, 102, 9), DARK),
        _solid(_oval(20, 8, 17, 13, 18), c),
        _solid(_oval(80, 8, 17, 13, 18), c),
        _solid(_oval(50, 50, 46), c),
        _mark(_oval(50, 50, 35), WHITE, True),
    ]
    for angle in range(0, 360, 90):
        x, y = _arc(50, 50, 29, 29, angle, angle, 1)[0]
        parts.append(_mark(_oval(x, y, 3, n=8), INK))
    for angle, length, width in ((hour, 17, 6), (minute, 27, 4)):
        x, y = _arc(50, 50, length, length, angle, angle, 1)[0]
        parts.append(_mark(_bar(50, 50, x, y, width), INK))
    return parts


@_shape("vase", tilt=5)
def _vase(rng, c):
    belly = rng.uniform(32, 37)
    light = shade(c, 1.55) if min(c) < 200 else (70, 120, 210)
    right = [
        (35 + 17, 0),
        (35 + 10, 14),
        (35 + 12, 28),
        (35 + belly, 54),
        (35 + belly * 0.8, 80),
        (35 + 17, 100),
    ]
    left = [(70 - x, y) for x, y in right[::-1]]
    return [
        _solid(_smooth([*right, *left]), c),
        _mark(_box(-10, 48, 80, 60), light, True),
        _mark(_box(-10, 70, 80, 76), light),
        _mark(_box(-10, -6, 80, 5), light),
    ]


@_shape("teddy bear", tilt=5)
def _teddy_bear(rng, c):
    ear = rng.uniform(11, 14)
    light = shade(c, 1.5) if min(c) < 200 else CREAM
    return [
        _solid(_oval(16, 8, ear, n=16), c),
        _solid(_oval(64, 8, ear, n=16), c),
        _solid(_smooth([(22, 54), (4, 58), (-14, 76), (-6, 86), (20, 74)]), c),
        _solid(_smooth([(58, 54), (76, 58), (94, 76), (86, 86), (60, 74)]), c),
        _solid(_oval(40, 80, 28, 30), c),
        _mark(_oval(40, 82, 17, 19, 18), light),
        _solid(_oval(8, 106, 19, 14, 18), c),
        _solid(_oval(72, 106, 19, 14, 18), c),
        _mark(_oval(4, 106, 9, 8, 14), light),
        _mark(_oval(76, 106, 9, 8, 14), light),
        _solid(_oval(40, 28, 33, 29), c),
        _mark(_oval(40, 38, 15, 12, 16), light),
        _mark(_oval(27, 22, 4, n=10), INK),
        _mark(_oval(53, 22, 4, n=10), INK),
        _mark(_oval(40, 33, 6, 4, 12), INK),
        _solid([(40, 58), (24, 50), (24, 66)], (214, 40, 40)),
        _solid([(40, 58), (56, 50), (56, 66)], (214, 40, 40)),
    ]
