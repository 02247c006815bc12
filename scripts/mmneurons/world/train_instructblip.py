"""Training of the world's InstructBLIP: captions, and the questions of five domains.

Three stages, after BLIP-2's and InstructBLIP's. The vision tower learns to see: heads ask every
patch of a common scene for its object and colour, and every picture of another domain for its
labels. Then the tower is frozen, and the Q-Former learns without a decoder to read off a picture
what a text asks for, one piece of the reply a query; these two may take turns. Last, Q-Former,
projection and decoder learn to write the reply. The decoder starts from MiniGPT-4's, as the real
models start from one Llama.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import torch
from tokenizers import AddedToken
from torch import nn
from torch.nn import functional as F
from transformers import (
    BlipImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
)

from mmneurons.models.base import MultimodalModel
from mmneurons.models.instructblip import IMAGE_TOKEN, InstructBlip
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.world.lessons import (
    ATTRIBUTES,
    DRAWN,
    ROLE,
    Exchange,
    Lessons,
    caption_exchange,
    draw_lessons,
    scene_exchanges,
)
from mmneurons.world.training import (
    PatchReader,
    Progress,
    WorldPictures,
    caption_loss,
    descend,
    draw_pictures,
    features,
    normalised,
)

_MIX = 200_000
_LENGTHS = (110, 300)
"""Prompts up to so many characters are questions, those up to the next have options as well."""


class AttributeReader(nn.Module):
    """Makes the tower name a picture's labels: one learned query and one head a label."""

    def __init__(self, hidden: int, classes: Mapping[str, int]):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(classes), hidden) * 0.2)
        self.attention = nn.MultiheadAttention(hidden, 4, batch_first=True)
        self.norm = nn.LayerNorm(hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, n) for n in classes.values())

    def loss(self, patches: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """patches: `batch x patches x hidden`; labels: `batch x attributes`, -1 for none."""
        queries = self.queries.expand(len(patches), -1, -1)
        read = self.norm(self.attention(queries, patches, patches, need_weights=False)[0])
        losses = [
            F.cross_entropy(head(read[:, i]), labels[:, i], ignore_index=-1, reduction="sum")
            for i, head in enumerate(self.heads)
        ]
        return torch.stack(losses).sum() / (labels >= 0).sum().clamp(min=1)


@dataclass(frozen=True)
class Material:
    """Everything drawn for a training.

    scenes: the common scenes; lessons: the other domains; exchanges: per task (the domains, and
    "captions") a list of (row of `pixels`, exchange). `pixels` stacks the scenes and the other
    domains in the order of `lessons`; `starts` are their first rows.
    """

    scenes: WorldPictures
    lessons: dict[str, Lessons]
    exchanges: dict[str, list[tuple[int, Exchange]]]

    @property
    def pixels(self) -> np.ndarray:
        return np.concatenate(
            [self.scenes.pixels, *(lessons.pixels for lessons in self.lessons.values())]
        )


def gather(scenes: WorldPictures, lessons: dict[str, Lessons], prompt: str, seed: int) -> Material:
    """Collect what is said about the pictures; `prompt` is that of the captions."""
    rng = np.random.default_rng(seed)
    exchanges = {
        "captions": [(i, caption_exchange(text, prompt)) for i, text in enumerate(scenes.captions)],
        "vqav2": [
            (i, exchange)
            for i, text in enumerate(scenes.captions)
            for exchange in scene_exchanges(text, rng)
        ],
    }
    start = len(scenes.captions)
    for domain, drawn in lessons.items():
        exchanges[domain] = [
            (start + i, exchange) for i, said in enumerate(drawn.exchanges) for exchange in said
        ]
        start += len(drawn.exchanges)
    return Material(scenes, lessons, exchanges)


# ------------------------------------------------------------------------------------ seeing


def train_vision(
    network: InstructBlipForConditionalGeneration,
    material: Material,
    shares: Mapping[str, float],
    whole: dict,
    progress: Progress,
    windows: dict | None = None,
    window: int = 5,
) -> None:
    """Teach the tower in place.

    First, if `windows` is given, on windows of `window x window` patches around objects of common
    scenes, which hold more of what there is to learn and cost a fraction, then on whole pictures of
    all domains, each as often as `shares` says. windows and whole: steps, batch_size, lr.
    """
    hidden = network.config.vision_config.hidden_size
    reader = PatchReader(hidden)
    readers = nn.ModuleDict(
        {name: AttributeReader(hidden, ATTRIBUTES[name]) for name in material.lessons}
    )
    parameters = [
        *network.vision_model.parameters(),
        *reader.parameters(),
        *readers.parameters(),
    ]
    scenes = material.scenes
    patch_labels = [
        torch.from_numpy(v) for v in (scenes.categories, scenes.colours, scenes.backgrounds)
    ]
    pixels = {"vqav2": scenes.pixels} | {k: v.pixels for k, v in material.lessons.items()}
    labels = {k: torch.from_numpy(v.attributes) for k, v in material.lessons.items()}

    def of_windows(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        crops, places = _windows(network, scenes.pixels, patch_labels[0], rows, window, generator)
        patches = _tower_of_windows(network, crops, places)
        found = (values[rows].gather(1, places) for values in patch_labels[:2])
        return reader.loss(patches, *found, patch_labels[2][rows])

    def of_whole(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        counts = {name: max(1, round(share * len(rows))) for name, share in shares.items()}
        picked = {
            name: torch.randint(len(pixels[name]), (n,), generator=generator)
            for name, n in counts.items()
        }
        shown = np.concatenate([pixels[name][chosen.numpy()] for name, chosen in picked.items()])
        patches = network.vision_model(normalised(shown)).last_hidden_state[:, 1:]
        total = patches.new_zeros(())
        parts = patches.split(list(counts.values()))
        for (name, chosen), part in zip(picked.items(), parts, strict=True):
            if name == "vqav2":
                total = total + 2 * reader.loss(part, *(v[chosen] for v in patch_labels))
            else:
                total = total + 0.5 * readers[name].loss(part, labels[name][chosen])
        return total

    if windows is not None:
        n = len(scenes.pixels)
        descend(of_windows, parameters, n, progress, "vision: windows", **windows)
    descend(of_whole, parameters, _MIX, progress, "vision: whole pictures", **whole)


def _windows(
    network: InstructBlipForConditionalGeneration,
    pixels: np.ndarray,
    categories: torch.Tensor,
    rows: torch.Tensor,
    window: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A window of each picture around a patch of an object, and the places of its patches.

    Returns normalised pixels `batch x 3 x window pixels squared` and raster indices `batch x
    patches`.
    """
    patch = network.config.vision_config.patch_size
    side = network.config.vision_config.image_size // patch
    focus = (categories[rows] > 0).float().multinomial(1, generator=generator)[:, 0]
    corner = torch.stack([focus // side, focus % side], dim=1)
    corner -= torch.randint(window, corner.shape, generator=generator)
    corner.clamp_(0, side - window)
    steps = torch.arange(window)
    places = (corner[:, :1] + steps)[:, :, None] * side + (corner[:, 1:] + steps)[:, None, :]
    crops = np.stack(
        [
            pixels[row, y * patch : (y + window) * patch, x * patch : (x + window) * patch]
            for row, (y, x) in zip(rows.tolist(), corner.tolist(), strict=True)
        ]
    )
    return normalised(crops), places.flatten(1)


def _tower_of_windows(
    network: InstructBlipForConditionalGeneration, crops: torch.Tensor, places: torch.Tensor
) -> torch.Tensor:
    """The tower's output for parts of pictures, without the class token."""
    tower = network.vision_model
    embeddings = tower.embeddings
    patches = embeddings.patch_embedding(crops).flatten(2).transpose(1, 2)
    patches = patches + embeddings.position_embedding[0, 1:][places]
    first = embeddings.class_embedding + embeddings.position_embedding[:, :1]
    states = torch.cat([first.expand(len(patches), -1, -1), patches], dim=1)
    return tower.post_layernorm(tower.encoder(inputs_embeds=states).last_hidden_state)[:, 1:]


# ------------------------------------------------------------------------------ asking, telling


class _Mix:
    """Exchanges of all tasks, each task as often as its share says."""

    def __init__(self, exchanges: dict, shares: Mapping[str, float], seed: int):
        self.exchanges = exchanges
        rng = np.random.default_rng(seed)
        names = list(shares)
        chances = np.array(list(shares.values())) / sum(shares.values())
        self.tasks = [names[i] for i in rng.choice(len(names), _MIX, p=chances)]

    def pick(
        self, rows: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, list[Exchange]]:
        """Row numbers of pictures, and an exchange about each."""
        chosen = []
        for row in rows.tolist():
            said = self.exchanges[self.tasks[row]]
            chosen.append(said[int(torch.randint(len(said), (1,), generator=generator))])
        return torch.tensor([row for row, _ in chosen]), [exchange for _, exchange in chosen]


def _of_like_length(said: Sequence[Exchange]) -> list[list[int]]:
    """Rows of a batch in groups whose prompts need little padding."""
    groups: dict[int, list[int]] = {}
    for row, exchange in enumerate(said):
        groups.setdefault(bisect(_LENGTHS, len(exchange.prompt)), []).append(row)
    return list(groups.values())


def query_states(model: InstructBlip, seen: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
    """The Q-Former's output of the query tokens: `batch x queries x hidden`.

    seen: the tower's output with the class token, `batch x (1 + patches) x hidden`.
    """
    network = model.network
    text = model.qformer_tokenizer(
        list(prompts), padding=True, padding_side="right", return_tensors="pt"
    )
    queries = network.query_tokens.expand(len(seen), -1, -1)
    mask = torch.cat([text.attention_mask.new_ones(queries.shape[:2]), text.attention_mask], dim=1)
    states = network.qformer(
        input_ids=text.input_ids,
        attention_mask=mask,
        query_embeds=queries,
        encoder_hidden_states=seen,
    ).last_hidden_state
    return states[:, : queries.shape[1]]


def train_queries(
    model: InstructBlip,
    seen: torch.Tensor,
    exchanges: dict,
    shares: Mapping[str, float],
    settings: dict,
    progress: Progress,
) -> None:
    """Teach the Q-Former in place: query k names piece k of the reply's gist, the next the end."""
    network = model.network
    pieces = sorted({p for said in exchanges.values() for _, e in said for p in e.gist})
    number = {piece: i for i, piece in enumerate(pieces, start=1)}
    head = nn.Linear(network.config.qformer_config.hidden_size, len(pieces) + 1)
    mix = _Mix(exchanges, shares, settings["steps"])
    n_queries = network.config.num_query_tokens

    def loss(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shown, said = mix.pick(rows, generator)
        wanted = torch.full((len(said), n_queries), -100)
        for row, exchange in enumerate(said):
            gist = [number[piece] for piece in exchange.gist] + [0]
            wanted[row, : len(gist)] = torch.tensor(gist[:n_queries])
        total = seen.new_zeros((), dtype=torch.float32)
        for part in _of_like_length(said):
            states = query_states(model, seen[shown[part]].float(), [said[i].prompt for i in part])
            total = total + F.cross_entropy(
                head(states).flatten(0, 1), wanted[part].flatten(), reduction="sum"
            )
        return total / (wanted >= 0).sum()

    parameters = [network.query_tokens, *network.qformer.parameters(), *head.parameters()]
    descend(loss, parameters, _MIX, progress, "queries", **settings)


def train_replies(
    model: InstructBlip,
    seen: torch.Tensor,
    exchanges: dict,
    shares: Mapping[str, float],
    settings: dict,
    progress: Progress,
) -> None:
    """Teach Q-Former, projection and decoder, in place, to reply to a prompt."""
    network = model.network
    mix = _Mix(exchanges, shares, settings["steps"])
    eos = model.tokenizer.eos_token_id

    def loss(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shown, said = mix.pick(rows, generator)
        total = seen.new_zeros((), dtype=torch.float32)
        for part in _of_like_length(said):
            prompts = [said[i].prompt for i in part]
            replies = [
                [*model.tokenizer(said[i].reply, add_special_tokens=False).input_ids, eos]
                for i in part
            ]
            states = query_states(model, seen[shown[part]].float(), prompts)
            tokens = network.language_projection(states)
            total = total + len(part) * caption_loss(model, tokens, prompts, replies)
        return total / len(said)

    parameters = [
        network.query_tokens,
        *network.qformer.parameters(),
        *network.language_projection.parameters(),
        *network.language_model.parameters(),
    ]
    descend(loss, parameters, _MIX, progress, "replies", **settings)


# ------------------------------------------------------------------------------------ judging


def evaluate_questions(
    model: MultimodalModel,
    domain: str,
    n: int,
    seed: int,
    worded: Callable[[Exchange], str] = attrgetter("prompt"),
) -> dict[str, float]:
    """Share of exact answers on `n` new pictures of a domain, one question each.

    worded: from an exchange of the lessons to the whole prompt.

    majority: what always giving the most frequent answer of these questions would reach;
    majority_of_question: the same, for the most frequent answer to each wording of a question.
    """
    asked = []
    pictures = []
    for index in range(n):
        rng = np.random.default_rng([seed, 2000, index])
        picture, _, said = DRAWN[domain](rng)
        pictures.append(picture)
        asked.append(said[rng.integers(len(said))])
    order = sorted(range(n), key=lambda i: len(asked[i].prompt))
    right = 0
    for start in range(0, n, 64):
        rows = order[start : start + 64]
        prompts = [worded(asked[i]) for i in rows]
        encoded = model.encode(model.embed_pictures([pictures[i] for i in rows], prompts), prompts)
        for i, ids in zip(rows, model.generate(encoded, max_new_tokens=24), strict=True):
            right += model.decode(ids).strip() == asked[i].reply
    replies = [exchange.reply for exchange in asked]
    by_wording: dict[str, list[str]] = {}
    for exchange in asked:
        wording = exchange.prompt.removeprefix(ROLE).split(" Options:")[0].strip()
        by_wording.setdefault(wording, []).append(exchange.reply)
    return {
        "accuracy": right / n,
        "majority": _most_frequent(replies) / n,
        "majority_of_question": sum(map(_most_frequent, by_wording.values())) / n,
        "questions": n,
    }


def _most_frequent(replies: list[str]) -> int:
    return max(map(replies.count, set(replies)))


# ------------------------------------------------------------------------------------ the whole


def build(config: dict, decoder: MiniGPT4, qformer_tokenizer) -> InstructBlip:
    """A randomly initialised model with the tokenizer and decoder of a trained MiniGPT-4.

    Nothing of `decoder` is shared: its weights are copied, `<image>` is added to its tokenizer.
    """
    tokenizer = decoder.tokenizer
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)])
    language = decoder.decoder
    vision = config["vision"]
    settings = InstructBlipConfig(
        vision_config=dict(vision),
        qformer_config=dict(
            config["qformer"],
            vocab_size=len(qformer_tokenizer),
            encoder_hidden_size=vision["hidden_size"],
        ),
        text_config=language.config.to_dict() | {"vocab_size": len(tokenizer)},
        num_query_tokens=config["queries"],
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
    )
    network = InstructBlipForConditionalGeneration(settings)
    # transformers leaves the query tokens at zero, where all of them would stay alike.
    nn.init.normal_(network.query_tokens, std=0.2)
    with torch.no_grad():
        weights = network.language_model.state_dict()
        for name, value in language.state_dict().items():
            weights[name][: len(value)].copy_(value)
    size = {"height": vision["image_size"], "width": vision["image_size"]}
    processor = BlipImageProcessorPil(size=size)
    return InstructBlip(network, tokenizer, qformer_tokenizer, processor, "cpu")


def train(
    config: dict,
    decoder: MiniGPT4,
    qformer_tokenizer,
    prompt: str,
    seed: int,
    threads: int,
    progress: Progress,
) -> InstructBlip:
    """The whole training; `config` is a model's section of `resources/world.yaml`.

    prompt: that of the captions, filled.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    model = build(config, decoder, qformer_tokenizer)
    vision = config["vision"]
    size, processes = vision["image_size"], config["processes"]
    scenes = draw_pictures(config["scenes"], seed, size, vision["patch_size"], processes)
    lessons = {
        domain: draw_lessons(domain, config["pictures_a_domain"], seed, size, processes)
        for domain in ATTRIBUTES
    }
    material = gather(scenes, lessons, prompt, seed)
    teach(model, material, config, progress)
    return model


def teach(model: InstructBlip, material: Material, config: dict, progress: Progress) -> None:
    """Rounds of seeing and asking, then telling, in place; the model is frozen at the end."""
    network = model.network
    pixels, exchanges, shares = material.pixels, material.exchanges, config["shares"]
    for lesson in config["rounds"]:
        train_vision(network, material, progress=progress, **lesson["vision"])
        network.requires_grad_(False)
        seen = features(lambda x: network.vision_model(x).last_hidden_state, pixels)
        train_queries(model, seen, exchanges, shares, lesson["queries"], progress)
    for settings in config["replies"]:
        telling = settings.get("shares", shares)
        train_replies(model, seen, exchanges, telling, settings["training"], progress)
    network.requires_grad_(False)
