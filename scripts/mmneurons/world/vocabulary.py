"""The words of the embedded world: object categories, colours and backgrounds.

Category names, ids and supercategories are those of COCO 2017; colours and backgrounds are the
world's own. No colour word starts with a vowel, so captions need only the article "a".
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """An object category with its COCO id and the colour words its instances may have."""

    name: str
    supercategory: str
    coco_id: int
    adjectives: tuple[str, ...]


@dataclass(frozen=True)
class Background:
    """A kind of background and the phrase that a caption uses for it."""

    name: str
    phrase: str


COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (52, 160, 66),
    "blue": (44, 98, 214),
    "yellow": (246, 208, 44),
    "brown": (136, 84, 44),
    "white": (246, 246, 242),
    "black": (50, 48, 52),
    "gray": (146, 150, 156),
    "purple": (132, 62, 176),
    "pink": (246, 134, 178),
}

CATEGORIES: tuple[Category, ...] = (
    Category("car", "vehicle", 3, ("red", "blue", "white", "black")),
    Category("airplane", "vehicle", 5, ("white", "gray", "blue")),
    Category("bus", "vehicle", 6, ("red", "yellow", "blue", "green")),
    Category("boat", "vehicle", 9, ("white", "red", "blue", "brown")),
    Category("traffic light", "outdoor", 10, ("black", "yellow")),
    Category("stop sign", "outdoor", 13, ("red", "yellow")),
    Category("bench", "outdoor", 15, ("brown", "green", "gray")),
    Category("bird", "animal", 16, ("blue", "red", "yellow", "pink")),
    Category("cat", "animal", 17, ("gray", "white", "black")),
    Category("bear", "animal", 23, ("brown", "black")),
    Category("giraffe", "animal", 25, ("yellow", "brown")),
    Category("umbrella", "accessory", 28, ("purple", "red", "blue", "pink")),
    Category("kite", "sports", 38, ("red", "yellow", "green", "pink")),
    Category("banana", "food", 52, ("yellow", "green")),
    Category("apple", "food", 53, ("red", "green", "yellow")),
    Category("carrot", "food", 57, ("red", "yellow", "purple")),
    Category("pizza", "food", 59, ("yellow", "red")),
    Category("donut", "food", 60, ("pink", "brown", "white")),
    Category("chair", "furniture", 62, ("brown", "red", "white")),
    Category("bed", "furniture", 65, ("red", "blue", "purple")),
    Category("laptop", "electronic", 73, ("gray", "black", "white")),
    Category("book", "indoor", 84, ("green", "red", "blue", "brown")),
    Category("clock", "indoor", 85, ("white", "black", "blue")),
    Category("vase", "indoor", 86, ("blue", "green", "purple", "white")),
)
"""Categories that the tiny models are trained on."""

HELD_OUT: tuple[Category, ...] = (
    Category("fire hydrant", "outdoor", 11, ("red", "yellow")),
    Category("surfboard", "sports", 42, ("blue", "yellow", "white", "pink")),
    Category("tennis racket", "sports", 43, ("red", "blue", "green")),
    Category("cake", "food", 61, ("pink", "brown", "white")),
    Category("teddy bear", "indoor", 88, ("brown", "pink", "white")),
)
"""Categories that can be drawn but appear in no training picture."""

ALL_CATEGORIES: tuple[Category, ...] = CATEGORIES + HELD_OUT

BACKGROUNDS: tuple[Background, ...] = (
    Background("grass", "on the grass"),
    Background("beach", "on a beach"),
    Background("snow", "in the snow"),
    Background("street", "on a street"),
    Background("room", "in a room"),
    Background("table", "on a wooden table"),
    Background("night", "under a night sky"),
    Background("desert", "in the desert"),
    Background("wall", "in front of a brick wall"),
    Background("sky", "in a cloudy sky"),
)
