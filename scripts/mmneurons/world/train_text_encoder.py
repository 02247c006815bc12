"""Training of the world's text encoder: the tiny BERT whose token states BERTScore compares.

Two lessons at once. Masked language modelling on the text of all seven data sets gives every word
of the world a state of its own. Telling captions of the same scene from captions of other scenes
makes the states match by meaning instead of by wording.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from tokenizers.implementations import BertWordPieceTokenizer
from torch import nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerBase,
)

from mmneurons.metrics.similarity import bertscore
from mmneurons.world import grammar
from mmneurons.world.vocabulary import ALL_CATEGORIES, BACKGROUNDS, Background, Category

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TEMPERATURE = 0.03
Progress = Callable[[Iterator[int], int, str], Iterator[int]]


class Thing(NamedTuple):
    """An object of a scene that nobody draws."""

    category: Category
    adjective: str


class Scene(NamedTuple):
    """A scene that nobody draws, as much of one as the grammar's captions need."""

    objects: tuple[Thing, ...]
    background: Background


class Captions(NamedTuple):
    """Three captions: two of one scene, and one of a scene that differs from it in one fact.

    `near_miss` is worded as `caption` is, so wording speaks for the wrong pair.
    """

    caption: str
    paraphrase: str
    near_miss: str


# ------------------------------------------------------------------------------------ scenes


def imagine_scene(rng: np.random.Generator) -> Scene:
    """One to three objects of different categories before any background.

    Held-out categories are among them: captions that name them are to be scored as well.
    """
    drawn = rng.choice(len(ALL_CATEGORIES), int(rng.integers(1, 4)), replace=False)
    things = (_colour(ALL_CATEGORIES[i], rng) for i in drawn)
    return Scene(tuple(things), _pick(rng, BACKGROUNDS))


def change_one_fact(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with one other object (half the time), one other colour or another background."""
    things, place = list(scene.objects), int(rng.integers(len(scene.objects)))
    chance = rng.random()
    if chance < 0.5:
        present = {thing.category for thing in things}
        others = [category for category in ALL_CATEGORIES if category not in present]
        things[place] = _colour(_pick(rng, others), rng)
    elif chance < 0.75:
        category, adjective = things[place]
        others = [other for other in category.adjectives if other != adjective]
        things[place] = Thing(category, _pick(rng, others))
    else:
        others = [background for background in BACKGROUNDS if background != scene.background]
        return scene._replace(background=_pick(rng, others))
    return scene._replace(objects=tuple(things))


def imagine_captions(n: int, seed: int, held_out: bool) -> list[Captions]:
    """`n` triples of captions, either all of held-out scenes (near misses too) or none."""
    rng = np.random.default_rng([seed, held_out])
    triples = []
    while len(triples) < n:
        scene, wording = imagine_scene(rng), int(rng.integers(2**32))
        other = change_one_fact(scene, rng)
        if is_held_out(scene) != held_out or is_held_out(other) != held_out:
            continue
        captions, misses = _captions(scene, wording), _captions(other, wording)
        one, two = rng.choice(len(captions), 2, replace=False)
        # Equal where the caption leaves out the colour or background that was changed.
        if misses[one] != captions[one]:
            triples.append(Captions(captions[one], captions[two], misses[one]))
    return triples


def is_held_out(scene: Scene) -> bool:
    """Whether a scene belongs to the tenth, chosen by a checksum, that is never trained on."""
    return crc32(grammar.canonical_caption(scene).encode()) % 10 == 0


def _captions(scene: Scene, wording: int) -> list[str]:
    """The six captions of a scene; `wording` seeds the choice of paraphrases."""
    paraphrases = grammar.coco_captions(scene, np.random.default_rng(wording))
    return [grammar.canonical_caption(scene), *paraphrases]


def _colour(category: Category, rng: np.random.Generator) -> Thing:
    return Thing(category, _pick(rng, category.adjectives))


def _pick(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]


# --------------------------------------------------------------------------------- tokenizer


def train_tokenizer(
    texts: Sequence[str], vocab_size: int, max_length: int
) -> PreTrainedTokenizerBase:
    """BERT's lower-casing WordPiece with a vocabulary trained on `texts`.

    ASCII letters, digits and punctuation are always in it, so English text has no [UNK]. Ids are
    in alphabetical order after the special tokens.
    """
    trainer = BertWordPieceTokenizer(lowercase=True)
    trainer.train_from_iterator(texts, vocab_size=vocab_size, show_progress=False)
    characters = string.ascii_lowercase + string.digits
    pieces = {*trainer.get_vocab(), *characters, *(f"##{c}" for c in characters)}
    pieces |= set(string.punctuation)
    words = [*SPECIAL, *sorted(pieces.difference(SPECIAL))]
    with TemporaryDirectory() as folder:
        # A file, positionally: the one way to pass a vocabulary that transformers 4 and 5 share
        # (vocab_file= is ignored without a word by 5, and a dictionary is refused by 4).
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(words) + "\n", encoding="utf-8")
        return BertTokenizerFast(str(path), model_max_length=max_length)


# ---------------------------------------------------------------------------------- training


def train(
    config: dict, seed: int, threads: int, progress: Progress
) -> tuple[BertModel, PreTrainedTokenizerBase]:
    """The whole training; `config` is the encoder's section of `resources/world.yaml`."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    lines = list(grammar.world_text(np.random.default_rng(seed), config["sentences"]))
    settings = config["encoder"]
    tokenizer = train_tokenizer(lines, config["vocab_size"], settings["max_position_embeddings"])
    model = build(settings, len(tokenizer))
    triples = imagine_captions(config["scenes"], seed, held_out=False)
    _descend(_Lesson(model, tokenizer, lines, triples), progress=progress, **config["training"])
    return model.eval(), tokenizer


def build(settings: dict, vocab_size: int) -> BertModel:
    """A randomly initialised BERT whose token states never have a negative cosine.

    The last LayerNorm is frozen at weight 1 and bias 1. Its states are z + 1 with z normalised to
    mean 0 and variance 1, so the cosine of two of them is (1 + cos z) / 2, and the F1 of any two
    texts is between 0 and 1. F1 has a pole where precision and recall cancel, and a loss that
    pushes unrelated captions apart would drive states there.
    """
    model = BertModel(BertConfig(vocab_size=vocab_size, **settings))
    norm = model.encoder.layer[-1].output.LayerNorm
    nn.init.ones_(norm.bias)
    norm.requires_grad_(False)
    return model


class _Lesson(nn.Module):
    """What the encoder is trained on, and the loss of a batch of it."""

    def __init__(
        self,
        model: BertModel,
        tokenizer: PreTrainedTokenizerBase,
        lines: Sequence[str],
        triples: Sequence[Captions],
    ):
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.bias = nn.Parameter(torch.zeros(len(tokenizer)))
        self.mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        self.lines = self._encode(lines)
        captions = self._encode([caption for triple in triples for caption in triple])
        self.triples = [captions[i : i + 3] for i in range(0, len(captions), 3)]

    def masked_words(self, rows: Sequence[int]) -> torch.Tensor:
        """Cross entropy of 15 % masked tokens; the output embedding is the input embedding."""
        batch = self.mask([self.lines[i] for i in rows])
        hidden = batch["labels"] != -100
        states = self.model(batch["input_ids"], batch["attention_mask"]).last_hidden_state[hidden]
        logits = states @ self.model.embeddings.word_embeddings.weight.T + self.bias
        return F.cross_entropy(logits, batch["labels"][hidden])

    def same_scene(self, rows: Sequence[int]) -> torch.Tensor:
        """InfoNCE: a caption's paraphrase against all other paraphrases and all near misses.

        The logits are BERTScore's own F1. A cosine of pooled states would leave it to chance
        which tokens carry the meaning, and the greedy matching compares single tokens.
        """
        n = len(rows)
        batch = self.tokenizer.pad(
            [self.triples[i][part] for part in range(3) for i in rows], return_tensors="pt"
        )
        attended = batch["attention_mask"].bool()
        states = self.model(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        scored = attended & ~batch["special_tokens_mask"].bool()
        first, others = (
            [part[rows] for part in (states, attended, scored)]
            for rows in (slice(n), slice(n, None))
        )
        return F.cross_entropy(greedy_f1(first, others) / TEMPERATURE, torch.arange(n))

    def _encode(self, texts: Sequence[str]) -> list[dict[str, list[int]]]:
        encoded = self.tokenizer(
            list(texts),
            truncation=True,
            return_token_type_ids=False,
            return_special_tokens_mask=True,
        )
        return [
            dict(zip(encoded.keys(), values, strict=True))
            for values in zip(*encoded.values(), strict=True)
        ]


def greedy_f1(
    candidates: Sequence[torch.Tensor], references: Sequence[torch.Tensor]
) -> torch.Tensor:
    """BERTScore F1 of every candidate with every reference, `candidates x references`.

    Both sides are (states `n x tokens x hidden`, attended `n x tokens`, scored `n x tokens`):
    [CLS] and [SEP] are attended, so that tokens may match them, but have no score of their own
    (Zhang et al. 2020, section 3, as bert-score computes it without idf weights).
    """
    (a, a_attended, a_scored), (b, b_attended, b_scored) = candidates, references
    cosines = torch.einsum("atd,bsd->abts", F.normalize(a, dim=-1), F.normalize(b, dim=-1))
    matchable = a_attended[:, None, :, None] & b_attended[None, :, None, :]
    cosines = cosines.masked_fill(~matchable, -1)
    precision = (cosines.amax(3) * a_scored[:, None]).sum(2) / a_scored.sum(1)[:, None]
    recall = (cosines.amax(2) * b_scored[None]).sum(2) / b_scored.sum(1)[None]
    return 2 * precision * recall / (precision + recall)


def _descend(lesson: _Lesson, steps: int, batch_size: int, lr: float, progress: Progress) -> None:
    """AdamW with warm-up and cosine decay over seeded random batches."""
    parameters = [p for p in lesson.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=steps, pct_start=0.06, div_factor=20, final_div_factor=50
    )
    lesson.train()
    for _ in (bar := progress(range(steps), steps, "text encoder")):
        words = lesson.masked_words(torch.randint(len(lesson.lines), (batch_size,)).tolist())
        scenes = lesson.same_scene(torch.randint(len(lesson.triples), (batch_size,)).tolist())
        optimizer.zero_grad(set_to_none=True)
        (words + scenes).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if hasattr(bar, "set_postfix"):
            bar.set_postfix(
                words=f"{words.item():.3f}", scenes=f"{scenes.item():.3f}", refresh=False
            )


# ------------------------------------------------------------------------- saving and judging


def save(model: BertModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write a directory for `AutoModel` and `AutoTokenizer` of transformers 4 and 5.

    BertModel's pooler is in it, untrained: nothing here reads it, but loading asks for it.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # bert-score asks for the slow tokenizer, which in transformers 4 reads no tokenizer.json.
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (Path(folder) / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def separation(folder: str | Path, num_layers: int, seed: int, n: int) -> dict[str, float]:
    """How far BERTScore tells captions of `n` held-out scenes apart, with a saved encoder.

    Mean F1 of two captions of a scene (`matching`), of captions of different scenes
    (`mismatched`), of captions in the same words of scenes that differ in one fact (`near_miss`),
    and the shares of scenes where the matching pair is above the mismatched pair and the near miss.
    """
    triples = imagine_captions(n, seed, held_out=True)
    captions, paraphrases, misses = (list(column) for column in zip(*triples, strict=True))
    matching, mismatched, near = (
        bertscore(captions, others, folder, num_layers)
        for others in (paraphrases, [*paraphrases[1:], paraphrases[0]], misses)
    )
    return {
        "seed": seed,
        "scenes": n,
        "matching": float(matching.mean()),
        "mismatched": float(mismatched.mean()),
        "near_miss": float(near.mean()),
        "share_above_mismatched": float((matching > mismatched).mean()),
        "share_above_near_miss": float((matching > near).mean()),
    }
