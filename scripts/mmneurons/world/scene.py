"""Scenes of the embedded world: one to three objects on a background, with boxes and masks."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from mmneurons.world.shapes import INK, SHAPES, Part
from mmneurons.world.vocabulary import (
    ALL_CATEGORIES,
    BACKGROUNDS,
    CATEGORIES,
    COLOURS,
    Background,
    Category,
)


@dataclass(frozen=True)
class SceneObject:
    """A drawn object.

    `bbox` is (x, y, width, height), `polygons` are COCO polygon lists (x0, y0, x1, y1, ...) whose
    union is the silhouette, `area` is the silhouette's; all in (square) pixels of the picture.
    """

    category: Category
    adjective: str
    bbox: tuple[float, float, float, float]
    polygons: list[list[float]]
    area: float


@dataclass(frozen=True)
class Scene:
    """A picture (RGB), its objects from left to right by box centre, and its background."""

    picture: Image.Image
    objects: list[SceneObject]
    background: Background


SUPERSAMPLE = 3
OUTLINE = 1.1
SIDES = (128, 192)
SHARE = {1: (0.34, 0.45), 2: (0.31, 0.41), 3: (0.28, 0.35)}
LONGEST_SHARE = 0.54
GAP = 3


def draw_scene(
    rng: np.random.Generator,
    categories: tuple[Category, ...] = CATEGORIES,
    n_objects: int | None = None,
    size: tuple[int, int] | None = None,
    background: Background | None = None,
    without: Category | None = None,
) -> Scene:
    """Draw one to three objects of different categories that do not overlap.

    `size` is (width, height) in pixels. What is not given is drawn from `rng`; the same state of
    `rng` gives the same picture. `without`: this category keeps its place but is not drawn, so that
    the scene is otherwise the same.
    """
    if n_objects is None:
        n_objects = int(rng.choice(3, p=(0.3, 0.4, 0.3))) + 1
    n_objects = min(n_objects, len(categories))
    if not 1 <= n_objects <= 3:
        raise ValueError(f"a scene has one to three objects of given categories, not {n_objects}")
    if size is None:
        size = _pick_size(rng)
    if background is None:
        background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    picture = draw_background(background, size, rng)
    chosen = [categories[i] for i in rng.choice(len(categories), n_objects, replace=False)]
    figures = [_pose(category, rng) for category in chosen]
    objects = [
        _draw_object(picture, category, adjective, parts, place)
        for (category, (adjective, parts)), place in zip(
            zip(chosen, figures, strict=True),
            _places([parts for _, parts in figures], size, rng),
            strict=True,
        )
        if category is not without
    ]
    objects.sort(key=lambda thing: thing.bbox[0] + thing.bbox[2] / 2)
    return Scene(picture, objects, background)


def category_map(scene: Scene, categories: tuple[Category, ...] = ALL_CATEGORIES) -> np.ndarray:
    """Give each pixel's category (height x width, uint8).

    0 is background, otherwise 1 + the category's index in `categories`.
    """
    width, height = scene.picture.size
    labels = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE), 0)
    draw = ImageDraw.Draw(labels)
    for thing in scene.objects:
        label = 1 + categories.index(thing.category)
        for polygon in thing.polygons:
            draw.polygon((np.asarray(polygon) * SUPERSAMPLE).tolist(), fill=label)
    middle = SUPERSAMPLE // 2
    return np.asarray(labels)[middle::SUPERSAMPLE, middle::SUPERSAMPLE].copy()


def _pick_size(rng: np.random.Generator) -> tuple[int, int]:
    """Choose sides between 128 and 192 pixels in steps of 8, one picture in three square."""
    width, height = (int(side) * 8 for side in rng.integers(SIDES[0] // 8, SIDES[1] // 8 + 1, 2))
    return (width, width) if rng.random() < 1 / 3 else (width, height)


# Objects.


def _pose(category: Category, rng: np.random.Generator) -> tuple[str, list[Part]]:
    """Choose an instance's colour and turn, and place its silhouette's box at the origin."""
    shape = SHAPES[category.name]
    adjective = category.adjectives[rng.integers(len(category.adjectives))]
    tint = np.clip(np.array(COLOURS[adjective]) + rng.integers(-9, 10, 3), 0, 255)
    parts = shape.parts(rng, tuple(int(value) for value in tint))
    angle = np.radians(shape.rest + rng.uniform(-shape.tilt, shape.tilt))
    stretch = rng.uniform(0.93, 1.07)
    mirror = -1.0 if shape.flip and rng.random() < 0.5 else 1.0
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.diag([stretch, 1 / stretch]) @ np.array([[cos, sin], [-sin, cos]])
    turn = turn @ np.diag([mirror, 1.0])
    turned = [part.points @ turn for part in parts]
    corner = np.concatenate([p for p, part in zip(turned, parts, strict=True) if part.solid]).min(0)
    return adjective, [
        replace(part, points=points - corner) for part, points in zip(parts, turned, strict=True)
    ]


def _extent(parts: list[Part]) -> np.ndarray:
    return np.concatenate([part.points for part in parts if part.solid]).max(0)


def _places(
    figures: list[list[Part]], size: tuple[int, int], rng: np.random.Generator
) -> list[tuple[float, float, float]]:
    """Choose (x, y, scale) for each figure so that no two boxes come closer than GAP pixels."""
    extents = [_extent(parts) for parts in figures]
    low, high = SHARE[len(figures)]
    shrink = 1.0
    while True:
        for _ in range(12):
            places = _try_places(extents, size, low * shrink, high * shrink, rng)
            if places is not None:
                return places
        shrink *= 0.95


def _try_places(extents, size, low, high, rng) -> list[tuple[float, float, float]] | None:
    short = min(size)
    places, boxes = [], []
    for extent in extents:
        # The share is that of a square of the box's area, so slim and compact things weigh alike.
        scale = rng.uniform(low, high) * short / np.sqrt(extent.prod())
        scale = min(scale, LONGEST_SHARE * high / 0.41 * short / extent.max())
        width, height = extent * scale
        for _ in range(8):
            x = rng.uniform(2, size[0] - 2 - width)
            y = rng.uniform(2, size[1] - 2 - height)
            if all(
                x + width + GAP < left
                or right + GAP < x
                or y + height + GAP < top
                or bottom + GAP < y
                for left, top, right, bottom in boxes
            ):
                break
        else:
            return None
        boxes.append((x, y, x + width, y + height))
        places.append((x, y, scale))
    return places


def _draw_object(
    picture: Image.Image,
    category: Category,
    adjective: str,
    parts: list[Part],
    place: tuple[float, float, float],
) -> SceneObject:
    """Draw the parts onto the picture, cut off at the silhouette, and annotate them."""
    x, y, scale = place
    points = [np.round(part.points * scale + (x, y), 2) for part in parts]
    solid = [p for p, part in zip(points, parts, strict=True) if part.solid]
    everything = np.concatenate(solid)
    low, high = everything.min(0), everything.max(0)
    origin = np.floor(low).astype(int) - 1
    tile = tuple(int(side) for side in np.ceil(high).astype(int) + 1 - origin)
    fine = (tile[0] * SUPERSAMPLE, tile[1] * SUPERSAMPLE)

    def to_tile(p: np.ndarray) -> list[float]:
        return ((p - origin) * SUPERSAMPLE).ravel().tolist()

    paint, mask = Image.new("RGB", fine, INK), Image.new("L", fine, 0)
    draw, cut = ImageDraw.Draw(paint), ImageDraw.Draw(mask)
    width = max(2, round(2 * OUTLINE * SUPERSAMPLE))
    for p, part in zip(points, parts, strict=True):
        line = to_tile(p)
        draw.polygon(line, fill=part.fill)
        if part.outline:
            # Half the width is cut off where the line is the silhouette's edge.
            thickness = width if part.solid else width // 2
            draw.line(line + line[:4], fill=INK, width=thickness)
        if part.solid:
            cut.polygon(line, fill=255)
    mask = _keep(mask, (low - origin) * SUPERSAMPLE, (high - origin) * SUPERSAMPLE)
    area = float(np.count_nonzero(mask)) / SUPERSAMPLE**2
    picture.paste(
        paint.reduce(SUPERSAMPLE), tuple(int(v) for v in origin), mask.reduce(SUPERSAMPLE)
    )
    box = (*low.tolist(), *np.round(high - low, 2).tolist())
    return SceneObject(category, adjective, box, [p.ravel().tolist() for p in solid], area)


def _keep(mask: Image.Image, low: np.ndarray, high: np.ndarray) -> Image.Image:
    """Empty the mask outside a box: PIL's polygons include the pixels that their edges touch."""
    box = (*np.ceil(low - 0.5).astype(int).tolist(), *np.floor(high + 0.5).astype(int).tolist())
    kept = Image.new("L", mask.size, 0)
    kept.paste(mask.crop(box), box)
    return kept


# Backgrounds.


def draw_background(
    background: Background, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """Draw a background: a gradient with grain and clutter that belongs to no category."""
    top, bottom = _GRADIENTS[background.name]
    width, height = size
    shift = rng.uniform(-14, 14, 3)
    ramp = np.linspace(0, 1, height)[:, None] + rng.uniform(-0.15, 0.15) * np.linspace(-1, 1, width)
    ramp = np.clip(ramp, 0, 1)[..., None]
    ramp = np.asarray(top) * (1 - ramp) + np.asarray(bottom) * ramp
    grain = rng.normal(0, 3.0, (height // 2 + 1, width // 2 + 1, 1)).repeat(2, 0).repeat(2, 1)
    pixels = np.clip(ramp + shift + grain[:height, :width], 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels)
    _CLUTTER[background.name](ImageDraw.Draw(picture), width, height, rng)
    return picture


_GRADIENTS = {
    "grass": ((176, 216, 130), (96, 168, 84)),
    "beach": ((140, 206, 236), (238, 216, 160)),
    "snow": ((206, 222, 240), (238, 242, 248)),
    "street": ((176, 182, 190), (116, 118, 124)),
    "room": ((226, 206, 184), (196, 168, 140)),
    "table": ((204, 150, 96), (180, 124, 74)),
    "night": ((34, 38, 96), (74, 72, 140)),
    "desert": ((250, 214, 150), (222, 160, 92)),
    "wall": ((190, 108, 88), (172, 92, 74)),
    "sky": ((110, 176, 236), (190, 222, 246)),
}


def _grass(draw, width, height, rng):
    for x, y in rng.uniform((0, 0), (width, height), (70, 2)):
        draw.line((x, y, x + rng.uniform(-3, 3), y - 6), fill=(74, 140, 62), width=1)


def _beach(draw, width, height, rng):
    shore = height * rng.uniform(0.2, 0.4)
    draw.rectangle((0, shore - height * 0.12, width, shore), fill=(70, 150, 206))
    for x in np.arange(0, width, 12):
        draw.arc((x, shore - 3, x + 12, shore + 3), 0, 180, fill=(244, 248, 250), width=2)
    for x, y in rng.uniform((0, shore + 6), (width, height), (24, 2)):
        draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(204, 176, 120))


def _snow(draw, width, height, rng):
    for x, y in rng.uniform((-20, height * 0.3), (width, height), (4, 2)):
        draw.arc((x, y, x + 60, y + 22), 190, 340, fill=(186, 204, 228), width=2)
    for x, y in rng.uniform((0, 0), (width, height), (40, 2)):
        draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(255, 255, 255))


def _street(draw, width, height, rng):
    kerb = height * rng.uniform(0.15, 0.35)
    draw.rectangle((0, kerb - 5, width, kerb), fill=(206, 206, 204))
    lane = height * rng.uniform(0.6, 0.85)
    for x in np.arange(-rng.uniform(0, 20), width, 34):
        draw.rectangle((x, lane, x + 18, lane + 4), fill=(226, 222, 190))


def _room(draw, width, height, rng):
    step = rng.uniform(14, 22)
    floor = height * rng.uniform(0.65, 0.85)
    for x in np.arange(0, width, step):
        draw.line((x, 0, x, floor), fill=(214, 190, 166), width=3)
    draw.rectangle((0, floor, width, height), fill=(166, 132, 104))
    draw.line((0, floor, width, floor), fill=(240, 230, 216), width=4)


def _table(draw, width, height, rng):
    for y in np.arange(rng.uniform(0, 24), height, 24):
        draw.line((0, y, width, y), fill=(142, 94, 52), width=2)
        for x in rng.uniform(0, width, 3):
            draw.line((x, y + 9, x + 26, y + 10), fill=(160, 108, 62), width=1)


def _night(draw, width, height, rng):
    for x, y, r in rng.uniform((0, 0, 0.5), (width, height, 1.6), (34, 3)):
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(240, 240, 200))


def _desert(draw, width, height, rng):
    for y in np.sort(rng.uniform(height * 0.3, height, 3)):
        x = rng.uniform(-40, width - 60)
        draw.ellipse((x, y, x + 140, y + 60), fill=(214, 154, 88), outline=(196, 136, 72))
    for x, y in rng.uniform((0, 0), (width, height), (18, 2)):
        draw.ellipse((x - 2, y - 1, x + 2, y + 1), fill=(170, 116, 66))


def _wall(draw, width, height, rng):
    mortar = (206, 160, 142)
    for row, y in enumerate(np.arange(-rng.uniform(0, 14), height, 14)):
        draw.line((0, y, width, y), fill=mortar, width=2)
        for x in np.arange((row % 2) * 15, width, 30):
            draw.line((x, y, x, y + 14), fill=mortar, width=2)


def _sky(draw, width, height, rng):
    for x, y in rng.uniform((-10, -5), (width - 20, height - 10), (5, 2)):
        for dx, dy, r in ((0, 4, 8), (10, 0, 11), (22, 3, 9)):
            draw.ellipse(
                (x + dx - r, y + dy - r * 0.7, x + dx + r, y + dy + r * 0.7), fill=(236, 242, 248)
            )


_CLUTTER = {
    "grass": _grass,
    "beach": _beach,
    "snow": _snow,
    "street": _street,
    "room": _room,
    "table": _table,
    "night": _night,
    "desert": _desert,
    "wall": _wall,
    "sky": _sky,
}
