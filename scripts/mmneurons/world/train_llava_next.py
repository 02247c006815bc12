"""Training of the world's LLaVA-NeXT: the questions of five domains, and captions.

A CLIP tower learns to see on tiles: heads ask every patch of a common scene for its object and
colour, and every picture of another domain for its labels. Then it is frozen, and projector and
decoder learn to reply. The decoder starts from one that can already talk. A picture is read once
for all that is said about it: the exchanges follow one another in a row, and none of them sees the
others, so each is learned as if it stood alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    PreTrainedTokenizerBase,
)

from mmneurons.models.llava import IMAGE_PLACE
from mmneurons.models.llava_next import LlavaNext
from mmneurons.world import grammar
from mmneurons.world.chunks import draw_chunks
from mmneurons.world.lessons import (
    ATTRIBUTES,
    CHOICE,
    DRAWN,
    OPEN,
    ROLE,
    Exchange,
    caption_exchange,
    open_exchanges,
)
from mmneurons.world.scene import category_map, draw_scene
from mmneurons.world.train_instructblip import AttributeReader
from mmneurons.world.training import (
    CLASSES,
    COLOUR_NAMES,
    PatchReader,
    Progress,
    descend,
    majority,
    normalised,
)
from mmneurons.world.vocabulary import BACKGROUNDS, CATEGORIES
from mmneurons.world.writing import choose

DOMAINS = ("vqav2", *ATTRIBUTES)
CAPTION = "caption"
_MIX = 1_000_000
_OPEN_END, _CHOICE_END = (text.rpartition("}")[2] for text in (OPEN, CHOICE))


@dataclass(frozen=True)
class Album:
    """Drawn pictures of one domain, cut into tiles.

    tiles: `n x most tiles x side x side x 3` uint8, zeros where a picture has fewer; n_tiles: `n`;
    sizes: `n x 2`, (height, width) in pixels; labels: of scenes `n x most tiles x patches x 2`,
    indices into CLASSES and COLOUR_NAMES (-1 where there is no object), of other domains
    `n x attributes` as in ATTRIBUTES; backgrounds: `n`, of scenes alone; exchanges: per picture.
    """

    tiles: np.ndarray
    n_tiles: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    backgrounds: np.ndarray
    exchanges: list[list[Exchange]]


@dataclass(frozen=True)
class Cutter:
    """How pictures become tiles: of `side` pixels, `patch` pixels a patch, at these resolutions."""

    side: int
    patch: int
    pinpoints: list[list[int]]

    @property
    def most(self) -> int:
        """Tiles of the picture with the most, the squeezed whole among them."""
        return 1 + max(height * width for height, width in self.pinpoints) // self.side**2

    def processor(self, **settings) -> LlavaNextImageProcessorPil:
        """The image processor of transformers that cuts so."""
        square = {"height": self.side, "width": self.side}
        return LlavaNextImageProcessorPil(
            size=square, crop_size=square, image_grid_pinpoints=self.pinpoints, **settings
        )

    def plain(self, resample: Image.Resampling) -> LlavaNextImageProcessorPil:
        """The same, but its tiles keep the picture's values."""
        return self.processor(do_rescale=False, do_normalize=False, resample=resample)


def cut(processor: LlavaNextImageProcessorPil, picture: Image.Image) -> np.ndarray:
    """Tiles of one picture by a `plain` processor: `tiles x side x side x 3` uint8."""
    pixels = np.asarray(processor(images=[picture]).pixel_values[0])
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def draw_album(domain: str, n: int, seed: int, cutter: Cutter, processes: int) -> Album:
    """Draw `n` pictures of a domain; the same for any number of processes."""
    *arrays, exchanges = draw_chunks(partial(_draw_chunk, domain, seed, cutter), n, processes)
    said = [of_picture for part in exchanges for of_picture in part]
    return Album(*map(np.concatenate, arrays), exchanges=said)


def _draw_chunk(domain: str, seed: int, cutter: Cutter, start: int, n: int) -> tuple:
    smooth, exact = map(cutter.plain, (Image.Resampling.BICUBIC, Image.Resampling.NEAREST))
    scenes = domain == "vqav2"
    tiles = np.zeros((n, cutter.most, cutter.side, cutter.side, 3), np.uint8)
    n_tiles, sizes = np.empty(n, np.int64), np.empty((n, 2), np.int64)
    patches = (cutter.side // cutter.patch) ** 2
    shape = (n, cutter.most, patches, 2) if scenes else (n, len(ATTRIBUTES[domain]))
    labels, backgrounds, exchanges = np.full(shape, -1, np.int64), np.zeros(n, np.int64), []
    for i in range(n):
        # 3000: apart from the streams that the datasets and the other lessons are drawn from.
        rng = np.random.default_rng([seed, 3000 + DOMAINS.index(domain), start + i])
        if scenes:
            scene = draw_scene(rng)
            picture, said = scene.picture, _said_of(scene, rng)
            found = cut(exact, Image.fromarray(category_map(scene)).convert("RGB"))[..., 0]
            labels[i, : len(found)] = _patch_labels(scene, found, cutter.patch)
            backgrounds[i] = BACKGROUNDS.index(scene.background)
        else:
            picture, known, said = DRAWN[domain](rng)
            labels[i] = [known.get(name, -1) for name in ATTRIBUTES[domain]]
        seen = cut(smooth, picture)
        tiles[i, : len(seen)], n_tiles[i], sizes[i] = seen, len(seen), picture.size[::-1]
        exchanges.append(said)
    return tiles, n_tiles, sizes, labels, backgrounds, exchanges


def _said_of(scene, rng: np.random.Generator) -> list[Exchange]:
    """The caption of a scene, and whatever VQAv2's miniature may ask about it."""
    there = {thing.category for thing in scene.objects}
    absent = choose(rng, [c.name for c in CATEGORIES if c not in there], len(there))
    caption = caption_exchange(grammar.canonical_caption(scene), CAPTION)
    return [caption, *open_exchanges(grammar.vqa_questions(scene, absent))]


def _patch_labels(scene, tiles: np.ndarray, patch: int) -> np.ndarray:
    """Category and colour of every patch: `tiles x patches x 2`, from tiles of category numbers."""
    categories = np.stack([majority(tile, patch) for tile in tiles])
    colours = np.full_like(categories, -1)
    for thing in scene.objects:
        here = categories == CLASSES.index(thing.category)
        colours[here] = COLOUR_NAMES.index(thing.adjective)
    return np.stack([categories, colours], axis=-1)


# ------------------------------------------------------------------------------------ seeing


class TileReader(nn.Module):
    """Makes a tower name the labels of a picture, which it sees in tiles; dropped afterwards."""

    def __init__(self, hidden: int, tiles: int, classes: Mapping[str, int]):
        super().__init__()
        self.places = nn.Parameter(torch.randn(tiles, hidden) * 0.2)
        self.reader = AttributeReader(hidden, classes)

    def loss(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """states: `batch x tiles x patches x hidden`; labels as AttributeReader reads them."""
        placed = states + self.places[:, None]
        return self.reader.loss(placed.flatten(1, 2), labels)


def train_tower(
    network: LlavaNextForConditionalGeneration,
    albums: Mapping[str, Album],
    settings: dict,
    progress: Progress,
) -> None:
    """Teach the vision tower in place.

    First on single tiles of common scenes, which hold objects, then on whole pictures of all
    domains, each as often as `shares` says. settings: tiles and whole (steps, batch_size, lr),
    shares.
    """
    config = network.config.vision_config
    tower, hidden = network.model.vision_tower, config.hidden_size
    # The states that the projector reads, and the last ones, without which the last layer and the
    # embedding of the picture would stay as they were at the start.
    patch_readers = nn.ModuleList(PatchReader(hidden) for _ in range(2))
    norm = nn.LayerNorm(hidden)
    scenes = albums["vqav2"]
    readers = nn.ModuleDict(
        {
            name: TileReader(hidden, albums[name].tiles.shape[1], ATTRIBUTES[name])
            for name in albums
            if name != "vqav2"
        }
    )
    parameters = [
        weight for part in (tower, patch_readers, norm, readers) for weight in part.parameters()
    ]

    def see(pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """States that the projector reads, and the last ones: `tiles x patches x hidden` each."""
        states = tower(normalised(pixels), output_hidden_states=True).hidden_states
        used = states[network.config.vision_feature_layer][:, 1:]
        return norm(used), tower.post_layernorm(states[-1])[:, 1:]

    def scene_loss(seen: Sequence[torch.Tensor], rows: np.ndarray, places: np.ndarray):
        labels = torch.from_numpy(scenes.labels[rows, places])
        backgrounds = torch.from_numpy(scenes.backgrounds[rows])
        losses = [
            reader.loss(states, labels[..., 0].clamp(min=0), labels[..., 1], backgrounds)
            for reader, states in zip(patch_readers, seen, strict=True)
        ]
        return losses[0] + 0.3 * losses[1]

    with_objects = np.argwhere((scenes.labels[..., 0] > 0).any(axis=2))

    def of_tiles(rows: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
        chosen, places = with_objects[rows.numpy()].T
        return scene_loss(see(scenes.tiles[chosen, places]), chosen, places)

    def of_whole(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        total = torch.zeros(())
        for name, share in settings["shares"].items():
            album, n = albums[name], max(1, round(share * len(rows)))
            picked = torch.randint(len(album.tiles), (n,), generator=generator).numpy()
            if name == "vqav2":
                real = np.arange(album.tiles.shape[1]) < album.n_tiles[picked, None]
                of_picture, places = np.nonzero(real)
                chosen = picked[of_picture]
                seen = see(album.tiles[chosen, places])
                total = total + 2 * scene_loss(seen, chosen, places)
            else:
                seen = see(album.tiles[picked].reshape(-1, *album.tiles.shape[2:]))
                states = seen[0].unflatten(0, (n, -1))
                labels = torch.from_numpy(album.labels[picked])
                total = total + 0.5 * readers[name].loss(states, labels)
        return total

    if settings.get("tiles"):
        descend(
            of_tiles, parameters, len(with_objects), progress, "tower: tiles", **settings["tiles"]
        )
    descend(of_whole, parameters, _MIX, progress, "tower: whole pictures", **settings["whole"])
    tower.requires_grad_(False)


@torch.no_grad()
def tower_states(network: LlavaNextForConditionalGeneration, album: Album) -> torch.Tensor:
    """What the projector reads of an album: `n x most tiles x patches x hidden`, half precision."""
    tower, layer = network.model.vision_tower, network.config.vision_feature_layer
    parts = []
    for start in range(0, len(album.tiles), 64):
        pixels = album.tiles[start : start + 64]
        states = tower(normalised(pixels.reshape(-1, *pixels.shape[2:])), output_hidden_states=True)
        kept = states.hidden_states[layer][:, 1:].half()
        parts.append(kept.unflatten(0, pixels.shape[:2]))
    return torch.cat(parts)


# ----------------------------------------------------------------------------------- telling


@dataclass(frozen=True)
class Wording:
    """How a model is asked: templates, and the share of pictures that are asked about so.

    open: with {role} and {question}; choice: with {options} too; caption: no template, but ready,
    since a caption is asked for always alike.
    """

    share: float
    open: str
    choice: str
    caption: str

    def prompt(self, exchange: Exchange) -> str:
        """The whole prompt of an exchange, which the lessons word as InstructBLIP is asked."""
        if exchange.prompt == CAPTION:
            return self.caption
        role = f"{ROLE} " if exchange.prompt.startswith(ROLE) else ""
        said = exchange.prompt.removeprefix(role).removeprefix("Question: ")
        if said.endswith(_OPEN_END):
            return self.open.format(role=role, question=said.removesuffix(_OPEN_END))
        question, options = said.removesuffix(_CHOICE_END).split(" Options: ")
        return self.choice.format(role=role, question=question, options=options)


def packed_loss(
    model: LlavaNext, image_tokens: Sequence[torch.Tensor], said: Sequence[Sequence[tuple]]
) -> torch.Tensor:
    """Cross entropy of all replies about each picture, each as if it were the only one.

    image_tokens: `image tokens x hidden` of each picture; said: per picture (prompt, reply), of
    which all prompts begin alike up to the picture. A row is the beginning, the picture, and the
    exchanges one after the other. Positions of each go on from the picture, and its tokens see the
    beginning, the picture and what stands before them in their own exchange.
    """
    table, eos = model.decoder.get_input_embeddings(), model.tokenizer.eos_token_id
    rows = []
    for tokens, exchanges in zip(image_tokens, said, strict=True):
        parts = [model.segments(prompt) for prompt, _ in exchanges]
        before = parts[0][0]
        if any(other != before for other, _ in parts):
            raise ValueError("prompts about one picture begin differently")
        start = len(before) + len(tokens)
        ids, segment, position, wanted = [], [0] * start, list(range(start)), [-100] * start
        for number, ((_, after), (_, reply)) in enumerate(zip(parts, exchanges, strict=True), 1):
            answer = [*model.tokenizer(reply, add_special_tokens=False).input_ids, eos]
            ids += [*after, *answer[:-1]]
            length = len(after) + len(answer) - 1
            segment += [number] * length
            position += range(start, start + length)
            wanted += [-100] * (len(after) - 1) + answer
        embeds = torch.cat([table(torch.tensor(before)), tokens, table(torch.tensor(ids))])
        rows.append((embeds, *map(torch.tensor, (segment, position, wanted))))
    embeds, segment, position, wanted = (
        nn.utils.rnn.pad_sequence(list(column), batch_first=True, padding_value=fill)
        for column, fill in zip(zip(*rows, strict=True), (0.0, -1, 0, -100), strict=True)
    )
    length = embeds.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    own = segment[:, :, None] == segment[:, None, :]
    mask = causal & (own | (segment[:, None, :] == 0))
    states = model.decoder.model(
        inputs_embeds=embeds, attention_mask=mask[:, None], position_ids=position, use_cache=False
    ).last_hidden_state
    told = wanted >= 0
    return F.cross_entropy(model.logits(states[told]), wanted[told])


def train_replies(
    model: LlavaNext,
    albums: Mapping[str, Album],
    seen: Mapping[str, torch.Tensor],
    wordings: Sequence[Wording],
    settings: dict,
    progress: Progress,
) -> None:
    """Teach projector and decoder, in place, to reply.

    seen: `tower_states` of the albums; settings: shares of the domains, exchanges a picture, steps,
    batch_size (pictures), lr.
    """
    settings = dict(settings)
    shares, most = settings.pop("shares"), settings.pop("exchanges")
    network = model.network.model
    names = list(shares)
    chances = torch.tensor(list(shares.values()))
    wording_chances = torch.tensor([wording.share for wording in wordings])

    def loss(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        states, sizes, said = [], [], []
        domains = chances.multinomial(len(rows), replacement=True, generator=generator)
        kinds = wording_chances.multinomial(len(rows), replacement=True, generator=generator)
        for domain, kind in zip(domains.tolist(), kinds.tolist(), strict=True):
            album = albums[names[domain]]
            row = int(torch.randint(len(album.tiles), (1,), generator=generator))
            states.append(seen[names[domain]][row, : album.n_tiles[row]].float())
            sizes.append(album.sizes[row])
            exchanges, wording = album.exchanges[row], wordings[kind]
            order = torch.randperm(len(exchanges), generator=generator)[:most].tolist()
            said.append([(wording.prompt(exchanges[i]), exchanges[i].reply) for i in order])
        projected = network.multi_modal_projector(torch.cat(states))
        tokens, _ = network.pack_image_features(
            projected.split([len(s) for s in states]),
            torch.from_numpy(np.stack(sizes)),
            vision_feature_select_strategy="default",
            image_newline=network.image_newline,
        )
        return packed_loss(model, tokens, said)

    parameters = [
        network.image_newline,
        *network.multi_modal_projector.parameters(),
        *model.decoder.parameters(),
    ]
    descend(loss, parameters, _MIX, progress, "replies", **settings)
    model.network.requires_grad_(False)


# ------------------------------------------------------------------------------------ the whole


def build(
    vision: Mapping, pinpoints: list[list[int]], decoder: LlamaForCausalLM, tokenizer
) -> LlavaNext:
    """A new tower and projector before a copy of a decoder, and `<image>` as a token."""
    tokenizer, decoder = deepcopy(tokenizer), deepcopy(decoder)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_PLACE]})
    if len(tokenizer) > decoder.config.vocab_size:
        decoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    network = LlavaNextForConditionalGeneration(
        LlavaNextConfig(
            vision_config=CLIPVisionConfig(**vision),
            text_config=decoder.config,
            image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_PLACE),
            image_grid_pinpoints=pinpoints,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
        )
    )
    network.model.language_model.load_state_dict(decoder.model.state_dict())
    network.lm_head.load_state_dict(decoder.lm_head.state_dict())
    processor = _cutter(vision, pinpoints).processor()
    return LlavaNext(network, tokenizer, processor, "cpu")


def grow(model: LlavaNext, layers: int, units: int) -> LlavaNext:
    """A larger model that says the same: decoder layers and units that add nothing yet.

    New layers are spread evenly between the old ones; their outputs are zero, as are the output
    rows of the new units, while what they read is random, so training can give them work.
    """
    small = model.network.config.text_config
    old = [
        round((i + 1) * layers / small.num_hidden_layers) - 1
        for i in range(small.num_hidden_layers)
    ]
    text = LlamaConfig.from_dict(
        small.to_dict() | {"num_hidden_layers": layers, "intermediate_size": units}
    )
    config = deepcopy(model.network.config)
    config.text_config = text
    network = LlavaNextForConditionalGeneration(config)
    weights, found = network.state_dict(), model.network.state_dict()
    prefix = "model.language_model.layers."
    with torch.no_grad():
        for name, value in weights.items():
            layer, _, rest = name.removeprefix(prefix).partition(".")
            if not name.startswith(prefix):
                value.copy_(found[name])
            elif int(layer) in old:
                source = found[f"{prefix}{old.index(int(layer))}.{rest}"]
                if rest == "mlp.down_proj.weight":
                    value.zero_()[:, : source.shape[1]] = source
                else:
                    value[: len(source)] = source
            elif rest in ("mlp.down_proj.weight", "self_attn.o_proj.weight"):
                value.zero_()
    return LlavaNext(network, deepcopy(model.tokenizer), model.image_processor, "cpu")


def _cutter(vision: Mapping, pinpoints: list[list[int]]) -> Cutter:
    return Cutter(vision["image_size"], vision["patch_size"], pinpoints)


def draw_albums(config: dict, seed: int) -> dict[str, Album]:
    """The pictures of all domains; config: scenes, pictures_a_domain, vision, pinpoints."""
    cutter = _cutter(config["vision"], config["pinpoints"])
    return {
        name: draw_album(
            name,
            config["scenes" if name == "vqav2" else "pictures_a_domain"],
            seed,
            cutter,
            config["processes"],
        )
        for name in DOMAINS
    }


def train(
    config: dict,
    decoder: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    wordings: Sequence[Wording],
    seed: int,
    threads: int,
    progress: Progress,
) -> LlavaNext:
    """The whole training; `config` is LLaVA-NeXT's section of `resources/world.yaml`."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    model = build(config["vision"], config["pinpoints"], decoder, tokenizer)
    albums = draw_albums(config, seed)
    for lesson in config["tower"]:
        train_tower(model.network, albums, lesson, progress)
    _teach_replies(model, albums, wordings, config["replies"], progress)
    return model


def train_larger(
    config: dict,
    small: LlavaNext,
    small_config: dict,
    wordings: Sequence[Wording],
    seed: int,
    threads: int,
    progress: Progress,
) -> LlavaNext:
    """A larger decoder on the same tower, grown from the smaller model and trained on."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    model = grow(small, config["text"]["num_hidden_layers"], config["text"]["intermediate_size"])
    albums = draw_albums(small_config, seed + 1)
    _teach_replies(model, albums, wordings, config["replies"], progress)
    return model


def _teach_replies(
    model: LlavaNext,
    albums: Mapping[str, Album],
    wordings: Sequence[Wording],
    lessons: Sequence[dict],
    progress: Progress,
) -> None:
    """All courses of replies, with what the frozen tower makes of the albums."""
    seen = {name: tower_states(model.network, album) for name, album in albums.items()}
    for lesson in lessons:
        train_replies(model, albums, seen, wordings, lesson, progress)
