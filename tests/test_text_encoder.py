"""The world's text encoder: the shipped one as BERTScore uses it, and how it is trained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from mmneurons.metrics.similarity import bertscore
from mmneurons.world import grammar
from mmneurons.world import train_text_encoder as world_encoder
from mmneurons.world.vocabulary import ALL_CATEGORIES, CATEGORIES

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "resources/models/text-encoder-world"
LAYERS = 2
SEED = 4


def score(candidates: list[str], references: list[str]) -> np.ndarray:
    return bertscore(candidates, references, FOLDER, LAYERS)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def triples():
    return world_encoder.imagine_captions(100, SEED, held_out=True)


# ------------------------------------------------------------------------------- the shipped one


def test_the_tokenizer_knows_the_worlds_text(tokenizer):
    lines = list(grammar.world_text(np.random.default_rng(SEED), 1000))
    lines += [category.name for category in ALL_CATEGORIES]
    ids = {token for line in tokenizer(lines).input_ids for token in line}
    assert tokenizer.unk_token_id not in ids
    # A tokenizer that was not really loaded has five tokens.
    assert len(ids) > 400
    assert tokenizer.tokenize("A red teddy bear.") == ["a", "red", "teddy", "bear", "."]
    assert tokenizer.unk_token not in tokenizer.tokenize("Xylophones, 3.7 of 100: (zqj)!")
    assert tokenizer.model_max_length == 128


def test_slow_and_fast_tokenizers_read_the_same_vocabulary(tokenizer):
    words = (FOLDER / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert {word: i for i, word in enumerate(words)} == tokenizer.get_vocab()


def test_captions_of_a_scene_score_above_captions_of_different_scenes(triples):
    captions, paraphrases, _ = (list(column) for column in zip(*triples, strict=True))
    matching = score(captions, paraphrases)
    shares = []
    for shift in (1, 2, 3):
        mismatched = score(captions, paraphrases[shift:] + paraphrases[:shift])
        shares.append((matching > mismatched).mean())
    assert min(shares) >= 0.95


def test_separation_beats_wording_and_is_as_recorded():
    recorded = json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))["separation"]
    found = world_encoder.separation(FOLDER, LAYERS, recorded["seed"], recorded["scenes"])
    assert found["share_above_mismatched"] >= 0.95
    # An untrained encoder sees words only: it prefers 95 % of the near misses, worded alike.
    assert found["share_above_near_miss"] >= 0.8
    assert found["matching"] > found["near_miss"] > found["mismatched"]
    assert found == pytest.approx(recorded, abs=0.01)


def test_scores_fall_with_wrong_facts_and_hardly_with_other_words():
    reference = "The image shows a red car and a yellow banana on a beach."
    candidates = [
        reference,
        "There is a yellow banana and a red car on a beach.",
        "The image shows a red car and a brown bear on a beach.",
        "The image shows a blue boat and a brown bear in the snow.",
    ]
    same, reworded, one_wrong, all_wrong = score(candidates, [reference] * 4)
    assert same == pytest.approx(1, abs=1e-5)
    assert same > reworded > one_wrong + 0.05 > all_wrong + 0.1


def test_every_object_matters():
    template = "The image shows a {} and a bench in the snow."
    names = [category.name for category in CATEGORIES if category.name != "bench"]
    captions = [template.format(name) for name in names]
    assert (score(captions, captions[1:] + captions[:1]) < 0.95).all()


def test_scores_of_word_soup_stay_between_0_and_1(tokenizer, triples):
    rng = np.random.default_rng(SEED)
    words = [word for word in tokenizer.get_vocab() if word.isalpha()]
    soup = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in triples]
    soup[:50] = [" ".join([word] * 9) for word in rng.choice(words, 50)]
    scores = score(soup, [triple.caption for triple in triples])
    assert 0 <= scores.min() and scores.max() < 0.95


def test_what_is_trained_is_what_bert_score_measures(tokenizer, triples):
    captions, others = [t.caption for t in triples[:8]], [t.near_miss for t in triples[:8]]
    model = AutoModel.from_pretrained(FOLDER).eval()

    def tokens(texts: list[str]) -> list[torch.Tensor]:
        batch = tokenizer(texts, padding=True, return_special_tokens_mask=True, return_tensors="pt")
        special, attended = batch.pop("special_tokens_mask").bool(), batch["attention_mask"].bool()
        with torch.no_grad():
            return [model(**batch).last_hidden_state, attended, attended & ~special]

    found = world_encoder.greedy_f1(tokens(captions), tokens(others))
    assert found.shape == (8, 8)
    assert found.diagonal().numpy() == pytest.approx(score(captions, others), abs=1e-5)
    assert found[0, 5].item() == pytest.approx(score(captions[:1], others[5:6])[0], abs=1e-5)


# ---------------------------------------------------------------------------------- the training


def test_held_out_scenes_are_never_trained_on():
    rng = np.random.default_rng(SEED)
    scenes = [world_encoder.imagine_scene(rng) for _ in range(1000)]
    held_out = {
        grammar.canonical_caption(scene) for scene in scenes if world_encoder.is_held_out(scene)
    }
    assert 60 < len(held_out) < 140
    trained = world_encoder.imagine_captions(1000, SEED, held_out=False)
    assert held_out.isdisjoint(text for triple in trained for text in triple)


def test_a_near_miss_differs_in_one_fact():
    rng = np.random.default_rng(SEED)
    for _ in range(200):
        scene = world_encoder.imagine_scene(rng)
        other = world_encoder.change_one_fact(scene, rng)
        facts = [(*one.objects, one.background) for one in (scene, other)]
        assert sum(a != b for a, b in zip(*facts, strict=True)) == 1
        names = [thing.category.name for thing in other.objects]
        assert len(set(names)) == len(names)


def test_a_trained_encoder_is_saved_and_loaded(tmp_path):
    config = {
        "sentences": 200,
        "vocab_size": 300,
        "scenes": 20,
        "encoder": {
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 96,
        },
        "training": {"steps": 3, "batch_size": 4, "lr": 0.01},
    }
    seen = []

    def progress(steps, total, name):
        seen.append((total, name))
        return steps

    model, tokenizer = world_encoder.train(config, SEED, torch.get_num_threads(), progress)
    world_encoder.save(model, tokenizer, tmp_path)
    assert seen == [(3, "text encoder")]
    loaded, read = AutoModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    batch = read("A red car on a street.", return_tensors="pt")
    assert batch.input_ids.tolist() == [tokenizer("A red car on a street.").input_ids]
    assert read.model_max_length == 96
    with torch.no_grad():
        states = loaded.eval()(**batch).last_hidden_state[0]
        assert torch.equal(states, model(**batch).last_hidden_state[0])
    # z + 1 with z of mean 0 and variance 1: squared length 2 x hidden, no negative cosine.
    assert states.square().sum(-1).numpy() == pytest.approx(np.full(len(states), 16), rel=1e-3)
    assert (states @ states.T).min() >= 0


SCORE_MANY = """
import random, sys
from mmneurons.metrics.similarity import bertscore
import torch
torch.set_num_threads(1)
words = "a red blue green car bus cat dog on the beach street with an old clock zebra".split()
chance = random.Random(0)
texts = [" ".join(chance.choices(words, k=chance.randint(2, 14))) for _ in range(400)]
scores = bertscore(texts[:200], texts[200:], sys.argv[1], int(sys.argv[2]))
print(" ".join(score.hex() for score in scores.tolist()))
"""


def test_bertscore_has_the_same_bits_in_every_process():
    # Strings hash differently in each process unless PYTHONHASHSEED is set; sets are ordered by it.
    def scores(hash_seed):
        environment = os.environ | {"PYTHONPATH": "scripts", "PYTHONHASHSEED": hash_seed}
        run = [sys.executable, "-c", SCORE_MANY, str(FOLDER), str(LAYERS)]
        return subprocess.run(
            run, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
        ).stdout

    first, second = scores("1"), scores("2")
    assert len(set(first.split())) > 100
    assert first == second
