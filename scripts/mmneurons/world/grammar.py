"""The language of the embedded world: captions, questions and answers of its seven data sets.

Every sentence the world's pictures are described or asked about with is made here, so that the
annotations, the training text of the models and the text the tokenizers are trained on agree.
Each domain has one function from facts to sentences; the drawing code calls it with the facts it
drew. `world_text` calls the same functions with facts made up for the occasion.

A scene is anything with `objects` (left to right, each with `category.name` and `adjective`) and
`background.phrase` ("on the grass"). `rng` is a `numpy.random.Generator` throughout.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np
from textblob.inflect import pluralize

from mmneurons.world.vocabulary import (
    ALL_CATEGORIES,
    BACKGROUNDS,
    CATEGORIES,
    COLOURS,
    Background,
    Category,
)

PREFIX = "The image shows a"

# What MiniGPT-4, mPLUG-Owl2, LLaVA-NeXT, InstructBLIP and LiMBeR are prompted with, and the role
# MMNeuron gives the models on LingoQA. The registry of prompts decides who uses which; the
# tokenizers only have to have seen the wording.
INSTRUCTIONS = (
    "[INST] <Img><ImageHere></Img> Describe this image in detail. [/INST] The image shows a",
    "Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I "
    "provide it to you. Please answer my questions.",
    "USER: Describe the image in few words. ASSISTANT: An image of",
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: What is in the image? "
    "ASSISTANT:",
    "Role: You are an advanced AI assistant installed on the Ego vehicle, equipped with "
    "conversational analysis capabilities for discussing autonomous driving scenarios. The "
    "perspective presented is from the point-of-view of the Ego vehicle, where the camera is "
    "mounted. It's important to note that the Ego vehicle itself is not visible in the images "
    "provided.",
    "Describe the image in few words.",
    "An image of",
    "A picture of",
    "A photo of",
    "Question: What is in the image? Short Answer:",
    "Question: What is in the image? Context: N/A Answer the question using a single word or "
    "phrase.",
    "Question: What is in the image? Context: N/A Options: ['A: a', 'B: b', 'C: c', 'D: d'] "
    "Answer with the option's letter from the given choices directly.",
)

MODALITIES = ("X-ray", "CT scan", "MRI", "ultrasound")
REGIONS = ("chest", "brain", "abdomen", "knee", "heart", "liver")
FINDINGS = ("fracture", "tumor", "nodule", "fluid", "cyst", "no abnormality")
SIDES = ("left", "right", "upper part", "lower part")

LIGHTS = ("red", "amber", "green", "none")
SPEED_LIMITS = (20, 30, 40, 50, 60, 70)

LAND_COVER = (
    "building",
    "residential building",
    "commercial building",
    "road",
    "water area",
    "grass area",
    "parking",
    "tree",
)

FIRST_NAMES = ("Anna", "Ben", "Carla", "David", "Emma", "Frank", "Grace", "Henry", "Maria", "Paul")
LAST_NAMES = ("Adams", "Brown", "Clark", "Davis", "Evans", "Fischer", "Green", "Miller", "Wood")
COMPANIES = ("North Mills", "Lake Foods", "Hill Paper", "Bay Tools", "Star Labs", "River Glass")
CITIES = ("Boston", "Chicago", "Dallas", "Denver", "New York", "Oakland", "Richmond")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


class Question(NamedTuple):
    """A question, its answer and the question's kind as the data set names it."""

    question: str
    answer: str
    kind: str


class ChoiceQuestion(NamedTuple):
    """A question with four choices and the letter, A to D, of the right one."""

    question: str
    choices: tuple[str, str, str, str]
    label: str

    @property
    def answer(self) -> str:
        """The text of the right choice."""
        return self.choices["ABCD".index(self.label)]


@dataclass(frozen=True)
class MedicalFacts:
    """What a medical picture shows; values from MODALITIES, REGIONS, FINDINGS, SIDES."""

    modality: str
    region: str
    finding: str
    side: str


@dataclass(frozen=True)
class DrivingFacts:
    """What the driver of the ego vehicle sees.

    `light` is one of LIGHTS, `pedestrians` the number crossing the road, `vehicle_ahead` and
    `cyclist` whether one is on the own lane, `speed_limit` in miles per hour.
    """

    light: str
    pedestrians: int
    vehicle_ahead: bool
    cyclist: bool
    speed_limit: int


# ---------------------------------------------------------------------------------- captions


def canonical_caption(scene) -> str:
    """The one caption of a scene: "The image shows a red car and a yellow kite on the grass.".

    It starts with PREFIX whatever the scene: adjectives never start with a vowel.
    """
    return f"The image shows {_listing(_noun_phrases(scene))} {scene.background.phrase}."


def coco_captions(scene, rng: np.random.Generator) -> list[str]:
    """Five captions: the canonical wording without "The image shows", then four paraphrases.

    All five differ, and every one names every object; the paraphrases may leave out adjectives or
    the background and may change the order.
    """
    first = f"{_listing(_noun_phrases(scene))} {scene.background.phrase}."
    captions = [_sentence(first)]
    makers = _paraphrases(scene)
    for index in rng.permutation(len(makers)):
        plain = rng.random() < 0.3
        caption = _sentence(makers[index](_noun_phrases(scene, adjectives=not plain)))
        if caption not in captions:
            captions.append(caption)
        if len(captions) == 5:
            break
    return captions


def sbu_caption(scene, rng: np.random.Generator) -> str:
    """A caption as photographers write them, naming every object."""
    things = _noun_phrases(scene, adjectives=rng.random() < 0.8)
    place = scene.background.phrase
    owned = [_without_article(thing) for thing in things]
    return _sentence(
        _pick(
            rng,
            (
                f"My {_listing(owned)} {place}",
                f"Found {_listing(things)} {place} this morning",
                f"I saw {_listing(things)} {place} on my way home",
                f"{_listing(things)} {place}, taken with my new camera",
                f"Look at the {_listing(owned)} {place}!",
                f"{_listing(things)} {place} in {_pick(rng, CITIES)}, {_pick(rng, MONTHS)}",
            ),
        )
    )


def _paraphrases(scene) -> list[Callable[[list[str]], str]]:
    """Sentence makers, each from the scene's noun phrases to a sentence without capital."""
    place = scene.background.phrase
    makers: list[Callable[[list[str]], str]] = [
        lambda things: f"there is {_listing(things)} {place}.",
        lambda things: f"{place} there is {_listing(things)}.",
        lambda things: f"a picture of {_listing(things)} {place}.",
        lambda things: f"a photo of {_listing(things)}.",
        lambda things: f"we can see {_listing(things)} {place}.",
        lambda things: f"{_listing(things)} can be seen {place}.",
        lambda things: f"this is {_listing(things)} {place}.",
    ]
    if len(scene.objects) > 1:
        makers += [
            lambda things: f"{things[0]} next to {_listing(things[1:])} {place}.",
            lambda things: f"{things[-1]} beside {_listing(things[:-1])} {place}.",
            lambda things: f"{things[0]} to the left of {_listing(things[1:])}.",
            lambda things: f"{things[-1]} on the right, {_listing(things[:-1])} on the left.",
        ]
    return makers


# ------------------------------------------------------------------------- questions by domain


def vqa_questions(scene, absent: Sequence[str] = ()) -> list[Question]:
    """VQAv2: questions about a scene; kinds are VQAv2's answer types.

    `absent` names categories that are not in the scene, asked about for the answer "no". An object
    whose category is there twice is counted, and not asked about alone.
    """
    names = [thing.category.name for thing in scene.objects]
    asked = [Question("How many objects are in the picture?", str(len(names)), "number")]
    asked.append(Question("What is in the background?", _ground(scene), "other"))
    for name in dict.fromkeys(names):
        number = str(names.count(name))
        asked.append(Question(f"Is there {_with_article(name)}?", "yes", "yes/no"))
        asked.append(Question(f"How many {_plural(name)} are there?", number, "number"))
    for name in absent:
        asked.append(Question(f"Is there {_with_article(name)}?", "no", "yes/no"))
    for thing in scene.objects:
        name = thing.category.name
        if names.count(name) > 1:
            continue
        asked.append(Question(f"Where is the {name}?", scene.background.phrase, "other"))
        if thing.adjective in COLOURS:
            asked.append(Question(f"What color is the {name}?", thing.adjective, "other"))
    for left, right in zip(names, names[1:], strict=False):
        if names.count(left) == names.count(right) == 1:
            asked.append(Question(f"What is to the left of the {right}?", left, "other"))
            asked.append(Question(f"What is to the right of the {left}?", right, "other"))
    return asked


def pmcvqa_questions(facts: MedicalFacts, rng: np.random.Generator) -> list[ChoiceQuestion]:
    """PMC-VQA: four multiple-choice questions about a medical picture."""
    asked = [
        ("What imaging modality was used?", facts.modality, MODALITIES),
        (f"Which part of the body does the {facts.modality} show?", facts.region, REGIONS),
        (f"What is the main finding in the {facts.region}?", facts.finding, FINDINGS),
    ]
    if facts.finding != "no abnormality":
        asked.append((f"Where is the {facts.finding} located?", facts.side, SIDES))
    return [_choice(question, answer, values, rng) for question, answer, values in asked]


def pmcvqa_caption(facts: MedicalFacts) -> str:
    """One sentence on a medical picture, as under a figure."""
    where = "" if facts.finding == "no abnormality" else f" in the {facts.side}"
    return _sentence(f"{facts.modality} of the {facts.region} showing {facts.finding}{where}.")


def docvqa_questions(fields: Mapping[str, str]) -> list[Question]:
    """DocVQA: questions about the fields of a form; kinds are DocVQA's question types.

    `fields` is label to text as printed. "total" counts as part of a table, the rest as a form.
    """
    asked = []
    for label, text in fields.items():
        kind = "table/list" if label in ("total", "quantity") else "form"
        asked.append(Question(f"What is the {label}?", text, kind))
        asked.append(Question(f"What is the {label} mentioned in the document?", text, kind))
    if "name" in fields:
        asked.append(Question("Who is the document addressed to?", fields["name"], "form"))
    if "company" in fields:
        asked.append(Question("Which company issued the document?", fields["company"], "form"))
    return asked


def document_fields(rng: np.random.Generator) -> dict[str, str]:
    """The fields of one made-up form or invoice, label to text, in the order of printing."""
    day, month = int(rng.integers(1, 29)), _pick(rng, MONTHS)
    cents = int(rng.integers(100, 100_000))
    return {
        "company": _pick(rng, COMPANIES),
        "document number": str(int(rng.integers(100, 10_000))),
        "date": f"{month} {day}, {int(rng.integers(1960, 2000))}",
        "name": f"{_pick(rng, FIRST_NAMES)} {_pick(rng, LAST_NAMES)}",
        "city": _pick(rng, CITIES),
        "quantity": str(int(rng.integers(1, 100))),
        "total": f"${cents // 100}.{cents % 100:02d}",
    }


def document_lines(fields: Mapping[str, str]) -> list[str]:
    """The lines printed on a form, "Total: $12.50"."""
    return [f"{label.capitalize()}: {text}" for label, text in fields.items()]


def lingoqa_questions(facts: DrivingFacts) -> list[Question]:
    """LingoQA: questions to the driver; kinds are its two parts, "scenery" and "action"."""
    light = (
        "There is no traffic light."
        if facts.light == "none"
        else f"The traffic light is {facts.light}."
    )
    people = _pedestrians(facts.pedestrians)
    action, reason = driving_action(facts)
    ahead = "Yes, there is a vehicle ahead." if facts.vehicle_ahead else "No, the lane is clear."
    cyclist = "Yes, there is a cyclist." if facts.cyclist else "No, there is no cyclist."
    limit = f"The speed limit is {facts.speed_limit} mph."
    return [
        Question("What is the color of the traffic light?", light, "scenery"),
        Question("Are there any pedestrians crossing the road?", people, "scenery"),
        Question("Is there a vehicle ahead of you?", ahead, "scenery"),
        Question("Is there a cyclist in your lane?", cyclist, "scenery"),
        Question("What is the current speed limit?", limit, "scenery"),
        Question("What should the car do?", f"The car should {action}.", "action"),
        Question("What are you doing and why?", f"I {action} because {reason}.", "action"),
        Question(
            "What should you pay attention to?", f"I should pay attention: {reason}.", "action"
        ),
    ]


def driving_action(facts: DrivingFacts) -> tuple[str, str]:
    """What the car has to do and why: the most urgent fact decides."""
    if facts.pedestrians:
        walkers = "a pedestrian is" if facts.pedestrians == 1 else "pedestrians are"
        return "stop", f"{walkers} crossing the road"
    if facts.light in ("red", "amber"):
        return "stop", f"the traffic light is {facts.light}"
    if facts.cyclist:
        return "slow down", "there is a cyclist in my lane"
    if facts.vehicle_ahead:
        return "keep my distance", "there is a vehicle ahead"
    if facts.light == "green":
        return "drive on", "the traffic light is green"
    return "drive on", "the road is clear"


def rsvqa_questions(
    counts: Mapping[str, int], areas: Mapping[str, int] | None = None
) -> list[Question]:
    """RSVQA: presence, count, area and comparison questions; kinds are RSVQA's types.

    `counts` is object name to number in the picture (0 is asked about too), `areas` object name to
    covered ground in square metres.
    """
    asked = []
    for name, count in counts.items():
        presence = "yes" if count else "no"
        asked += [
            Question(f"Is there {_with_article(name)} in the image?", presence, "presence"),
            Question(f"What is the number of {_plural(name)} in the image?", str(count), "count"),
            Question(f"How many {_plural(name)} are there in the image?", str(count), "count"),
        ]
    for name, area in (areas or {}).items():
        asked.append(Question(f"What is the area covered by {_plural(name)}?", f"{area}m2", "area"))
    for (first, more), (second, fewer) in permutations(counts.items(), 2):
        larger = "yes" if more > fewer else "no"
        equal = "yes" if more == fewer else "no"
        one, other = _plural(first), _plural(second)
        asked += [
            Question(f"Are there more {one} than {other} in the image?", larger, "comp"),
            Question(f"Is the number of {one} equal to the number of {other}?", equal, "comp"),
        ]
    return asked


# ------------------------------------------------------------------------ text for tokenizers


def world_text(rng: np.random.Generator, n: int) -> Iterator[str]:
    """`n` lines of text from all seven data sets and the prompts, in turn.

    The kinds of line alternate, and prompts and category names are gone through in order, so that
    a thousand lines hold every prompt, every category name (held-out ones too) and every domain.
    """
    makers = (
        _caption_line,
        _vqa_line,
        _pmcvqa_line,
        _docvqa_line,
        _lingoqa_line,
        _rsvqa_line,
        _sbu_line,
        _instruction_line,
        _name_line,
    )
    for line in range(n):
        turn, kind = divmod(line, len(makers))
        yield makers[kind](rng, turn)


def _caption_line(rng: np.random.Generator, turn: int) -> str:
    scene = _imagined_scene(rng)
    return canonical_caption(scene) if turn % 2 else _pick(rng, coco_captions(scene, rng))


def _sbu_line(rng: np.random.Generator, turn: int) -> str:
    return sbu_caption(_imagined_scene(rng), rng)


def _vqa_line(rng: np.random.Generator, turn: int) -> str:
    return _asked(
        _pick(rng, vqa_questions(_imagined_scene(rng), [_pick(rng, ALL_CATEGORIES).name]))
    )


def _pmcvqa_line(rng: np.random.Generator, turn: int) -> str:
    facts = MedicalFacts(*(_pick(rng, v) for v in (MODALITIES, REGIONS, FINDINGS, SIDES)))
    if turn % 4 == 0:
        return pmcvqa_caption(facts)
    asked = _pick(rng, pmcvqa_questions(facts, rng))
    options = [f"{letter}: {text}" for letter, text in zip("ABCD", asked.choices, strict=True)]
    return f"Question: {asked.question} Options: {options} Answer: {asked.label}: {asked.answer}"


def _docvqa_line(rng: np.random.Generator, turn: int) -> str:
    fields = document_fields(rng)
    if turn % 3 == 0:
        return " ".join(document_lines(fields))
    return _asked(_pick(rng, docvqa_questions(fields)))


def _lingoqa_line(rng: np.random.Generator, turn: int) -> str:
    facts = DrivingFacts(
        light=_pick(rng, LIGHTS),
        pedestrians=int(rng.integers(4)),
        vehicle_ahead=bool(rng.integers(2)),
        cyclist=bool(rng.integers(2)),
        speed_limit=_pick(rng, SPEED_LIMITS),
    )
    return _asked(_pick(rng, lingoqa_questions(facts)))


def _rsvqa_line(rng: np.random.Generator, turn: int) -> str:
    chosen = [LAND_COVER[i] for i in rng.permutation(len(LAND_COVER))[:3]]
    counts = {name: int(rng.integers(12)) for name in chosen}
    areas = {name: int(rng.integers(1000)) for name in chosen}
    return _asked(_pick(rng, rsvqa_questions(counts, areas)))


def _instruction_line(rng: np.random.Generator, turn: int) -> str:
    return INSTRUCTIONS[turn % len(INSTRUCTIONS)]


def _name_line(rng: np.random.Generator, turn: int) -> str:
    name = ALL_CATEGORIES[turn % len(ALL_CATEGORIES)].name
    return f"{_with_article(name)}, {_plural(name)}, the {name}".capitalize()


def _asked(question: Question) -> str:
    return f"Question: {question.question} Short Answer: {question.answer}"


# ------------------------------------------------------------------------------------- parts


@dataclass(frozen=True)
class _Thing:
    category: Category
    adjective: str


@dataclass(frozen=True)
class _ImaginedScene:
    objects: tuple[_Thing, ...]
    background: Background


def _imagined_scene(rng: np.random.Generator) -> _ImaginedScene:
    """A scene nobody draws: one to three different trained categories on any background."""
    drawn = rng.permutation(len(CATEGORIES))[: int(rng.integers(1, 4))]
    chosen = [CATEGORIES[i] for i in drawn]
    things = tuple(_Thing(category, _pick(rng, category.adjectives)) for category in chosen)
    return _ImaginedScene(things, _pick(rng, BACKGROUNDS))


def _noun_phrases(scene, adjectives: bool = True) -> list[str]:
    phrases = [
        f"{thing.adjective} {thing.category.name}" if adjectives else thing.category.name
        for thing in scene.objects
    ]
    return [_with_article(phrase) for phrase in phrases]


def _listing(phrases: Sequence[str]) -> str:
    """Join phrases: a, a and b, a, b and c."""
    *head, last = phrases
    return f"{', '.join(head)} and {last}" if head else last


def _with_article(phrase: str) -> str:
    """The phrase after "a" or "an" by its first letter, which is right for the world's words."""
    return f"{'an' if phrase[0].lower() in 'aeiou' else 'a'} {phrase}"


def _without_article(phrase: str) -> str:
    return phrase.split(" ", 1)[1]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _ground(scene) -> str:
    """The noun of a background's phrase: "grass" of "on the grass"."""
    return scene.background.phrase.split()[-1]


def _plural(name: str) -> str:
    # classical=False: "cows", not "kine".
    return pluralize(name, classical=False)


def _pedestrians(number: int) -> str:
    if number == 0:
        return "No, there are no pedestrians crossing the road."
    walkers = "is one pedestrian" if number == 1 else f"are {number} pedestrians"
    return f"Yes, there {walkers} crossing the road."


def _choice(
    question: str, answer: str, values: Sequence[str], rng: np.random.Generator
) -> ChoiceQuestion:
    """The question with the answer and three other values, in an order of chance."""
    others = [value for value in values if value != answer]
    choices = [answer, *(others[i] for i in rng.permutation(len(others))[:3])]
    order = [choices[i] for i in rng.permutation(4)]
    return ChoiceQuestion(question, tuple(order), "ABCD"[order.index(answer)])


def _pick(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]
