"""The measures of Pan et al. 2024, against numbers worked out by hand."""

import itertools
import math
import string
import subprocess
import sys
import types
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import wasserstein_distance

import mmneurons
from mmneurons.metrics import edits, invariance, semantics, specificity, weight_noise
from mmneurons.metrics.bleurt import bleurt
from mmneurons.metrics.edits import edits_table
from mmneurons.metrics.invariance import cross_image_table, picture_sets, region_invariance_table
from mmneurons.metrics.moverscore import (
    earth_movers_distance,
    mover_similarity,
    moverscore,
    piece_weights,
    token_states,
)
from mmneurons.metrics.semantics import sensitivity_table
from mmneurons.metrics.similarity import bertscore
from mmneurons.metrics.specificity import specificity_table
from mmneurons.metrics.weight_noise import weight_noise_table

REPOSITORY = Path(__file__).parents[1]
ENCODER = REPOSITORY / "resources/models/text-encoder-world"
PREFIX = "An image of"
NAN = float("nan")


def column(table, name, **where):
    """The values of a column in the rows that match."""
    for key, value in where.items():
        table = table[table[key] == value]
    return table[name].tolist()


def one(table, name, **where):
    (value,) = column(table, name, **where)
    return value


# ------------------------------------------------------------------------------ earth mover's


@pytest.mark.parametrize("seed", range(5))
def test_between_equal_weights_the_best_permutation_moves_the_earth(seed):
    distances = np.random.default_rng(seed).random((5, 5))
    best = min(distances[range(5), order].mean() for order in itertools.permutations(range(5)))
    weights = np.full(5, 0.2)
    assert earth_movers_distance(weights, weights, distances) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_on_a_line_the_distance_lies_between_the_distribution_functions(seed):
    rng = np.random.default_rng(seed)
    places, others = rng.normal(size=7), rng.normal(size=4)
    weights, other_weights = rng.dirichlet(np.ones(7)), rng.dirichlet(np.ones(4))
    found = earth_movers_distance(weights, other_weights, np.abs(places[:, None] - others))
    assert found == pytest.approx(wasserstein_distance(places, others, weights, other_weights))


@pytest.mark.parametrize(
    ("weights", "other_weights", "distances", "expected"),
    [
        ([0.7, 0.3], [0.4, 0.6], [[0, 1], [1, 0]], 0.3),
        ([1], [0.25, 0.75], [[2, 4]], 3.5),
        ([0.25, 0.75], [1], [[2], [4]], 3.5),
        # From 0 and 10 to 1 and 5: half of the earth goes 1, half goes 5.
        ([0.5, 0.5], [0.5, 0.5], [[1, 5], [9, 5]], 3),
        ([0.5, 0.5], [1 / 3, 1 / 3, 1 / 3], [[0, 3, 6], [6, 3, 0]], 1),
    ],
)
def test_earth_movers_distance_by_hand(weights, other_weights, distances, expected):
    arrays = (np.array(x, dtype=float) for x in (weights, other_weights, distances))
    assert earth_movers_distance(*arrays) == pytest.approx(expected)


def test_weights_that_do_not_sum_to_1_are_refused():
    with pytest.raises(ValueError, match="not to 1"):
        earth_movers_distance(np.array([0.5, 0.4]), np.array([1.0]), np.zeros((2, 1)))


# --------------------------------------------------------------------------------- MoverScore


def test_a_piece_weighs_by_its_rarity():
    # Seven texts: log(8/2) = 2 log 2 for "car", log(8/4) = log 2 for "red".
    frequencies = Counter({"car": 1, "##s": 1, ",": 2, "red": 3, "a": 7})
    counts = np.array([True, True, True, False, False])
    weights = piece_weights(["a", "red", "car", "##s", ","], counts, frequencies, 7)
    assert weights == pytest.approx([0, 1 / 3, 2 / 3, 0, 0])
    assert piece_weights(["a", "a", ","], counts[1:4], frequencies, 7) == pytest.approx(
        [0.5, 0.5, 0]
    )
    assert piece_weights([",", "##s"], counts[3:], frequencies, 7).tolist() == [0, 0]
    assert piece_weights([], counts[:0], frequencies, 7).tolist() == []


def test_of_word_pieces_beginnings_count_that_are_no_punctuation():
    texts = ["a reddish, car-like dog.", "(xqzzy) ...", "", "O'Neil's 3.5 [UNK] \u718a\u718a"]
    found = token_states(texts, ENCODER, 2, 2, "cpu")
    for one_text in found:
        by_spelling = [
            not piece.startswith("##") and piece not in string.punctuation
            for piece in one_text.pieces
        ]
        assert one_text.counts.tolist() == by_spelling
        assert len(one_text.pieces) == len(one_text.states)
    assert sum(piece.startswith("##") for one_text in found for piece in one_text.pieces) >= 5


BYTE_PIECES = [
    "\u0120d",
    "\u0120do",
    "\u0120dog",
    "gy",
    "\u0120c",
    "\u0120ca",
    "\u0120cat",
    "\u0120.",
]


@pytest.fixture(scope="module")
def byte_encoder(tmp_path_factory):
    """A tiny RoBERTa whose byte-level tokenizer knows " dog", "gy" and " cat"."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = [*special, *sorted(ByteLevel.alphabet()), *BYTE_PIECES]
    merges = [(piece[:-1], piece[-1]) for piece in BYTE_PIECES]
    folder = tmp_path_factory.mktemp("roberta")
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    RobertaTokenizer(vocab=vocabulary, merges=merges, add_prefix_space=True).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = RobertaConfig(vocab_size=len(pieces), intermediate_size=16, **sizes)
    RobertaModel(config).save_pretrained(folder)
    return folder


def test_of_byte_pieces_beginnings_count_that_are_no_punctuation(byte_encoder):
    texts = ["doggy, cat!", " cat ... 'dog'", "\u718a cat", "?!", "\n"]
    # A bear of three bytes begins behind its space; spaces and line breaks are no words.
    expected = [
        {"\u0120dog": 1, "gy": 0, ",": 0, "\u0120cat": 1, "!": 0},
        {"\u0120cat": 1, "\u0120.": 0, ".": 0, "'": 0, "\u0120": 0, "d": 1, "o": 0, "g": 0},
        {"\u0120": 0, "\u00e7": 1, "\u0128": 0, "\u012c": 0, "\u0120cat": 1},
        {"\u0120": 0, "?": 0, "!": 0},
        {"\u0120": 0, "\u010a": 0},
    ]
    found = token_states(texts, byte_encoder, 2, 3, "cpu")
    for one_text, counts in zip(found, expected, strict=True):
        assert dict(zip(one_text.pieces, one_text.counts.tolist(), strict=True)) == counts


def test_moverscore_by_a_byte_level_encoder(byte_encoder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(byte_encoder)
    model = AutoModel.from_pretrained(byte_encoder).eval()

    def first_piece(text):
        with torch.no_grad():
            state = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1]
        return (state / state.norm()).double().numpy()

    scores = moverscore(["doggy!", "...", "doggy!"], ["cat", "cat", "doggy!"], byte_encoder, 2)
    distance = np.linalg.norm(first_piece("doggy!") - first_piece("cat"))
    assert scores == pytest.approx([1 - distance, 0, 1], abs=1e-5)
    assert distance > 0.1


def test_mover_similarity_by_hand():
    x, y = np.array([[3.0, 0.0]]), np.array([[0.0, 0.5]])
    both = np.concatenate([x, y])
    whole, half = np.array([1.0]), np.array([0.5, 0.5])
    assert mover_similarity(x, whole, x * 7, whole) == pytest.approx(1)
    assert mover_similarity(x, whole, y, whole) == pytest.approx(1 - math.sqrt(2))
    assert mover_similarity(x, whole, -x, whole) == pytest.approx(-1)
    assert mover_similarity(both, half, x, whole) == pytest.approx(1 - math.sqrt(2) / 2)
    # What weighs nothing does not count, wherever it lies.
    assert mover_similarity(both, np.array([0.0, 1.0]), y, whole) == pytest.approx(1)
    assert mover_similarity(both, np.zeros(2), y, whole) == 0


def test_moverscore_of_texts():
    candidates = ["car", "dog", "", "...", "a red car", "car"]
    references = ["car", "car", "car", "car", "teddy bear", ""]
    # In batches of two, so that padding is seen to change nothing.
    scores = moverscore(candidates, references, ENCODER, 2, batch_size=2)
    assert scores == pytest.approx(moverscore(candidates, references, ENCODER, 2), abs=1e-5)
    assert scores[0] == pytest.approx(1, abs=1e-4)
    assert scores[1] < 0.7
    assert scores[[2, 3, 5]].tolist() == [0, 0, 0]
    assert scores[4] == pytest.approx(_by_assignment("a red car", "teddy bear", candidates))
    assert len(moverscore([], [], ENCODER, 2)) == 0


def _by_assignment(candidate, reference, candidates):
    """MoverScore of three pieces against two, by looking at every corner of the flows.

    Each corner comes from serving the pieces in some order, always the most that is possible.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ENCODER)
    model = AutoModel.from_pretrained(ENCODER).eval()

    def states(text):
        with torch.no_grad():
            found = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:-1]
        return (found / found.norm(dim=-1, keepdim=True)).double()

    distances = torch.cdist(states(candidate), states(reference)).numpy()
    distinct = set(candidates)
    words = {text: set(tokenizer.tokenize(text)) for text in distinct}
    frequency = [sum(w in words[text] for text in distinct) for w in tokenizer.tokenize(candidate)]
    weights = np.log((len(distinct) + 1) / (np.array(frequency) + 1))
    weights /= weights.sum()
    assert distances.shape == (3, 2)

    costs = []
    for order in itertools.permutations(itertools.product(range(3), range(2))):
        left, right, cost = weights.copy(), np.array([0.5, 0.5]), 0.0
        for i, j in order:
            moved = min(left[i], right[j])
            left[i] -= moved
            right[j] -= moved
            cost += moved * distances[i, j]
        costs.append(cost)
    return 1 - min(costs)


def test_moverscore_refuses_bad_input(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="2 candidates, but 1 references"):
        moverscore(["a", "b"], ["c"], ENCODER, 2)
    with pytest.raises(ValueError, match="no encoder in"):
        moverscore(["a"], ["b"], tmp_path, 2)
    slow = types.SimpleNamespace(from_pretrained=lambda _: types.SimpleNamespace(is_fast=False))
    monkeypatch.setattr("transformers.AutoTokenizer", slow)
    with pytest.raises(ValueError, match="does not say which text a piece covers"):
        moverscore(["a"], ["b"], ENCODER, 2)


# ------------------------------------------------------------------------------------- BLEURT


class FakeBatch(dict):
    def to(self, _):
        return self


class FakeBleurt:
    """Scores a pair by 10 x length of the reference + length of the candidate."""

    config = types.SimpleNamespace(max_position_embeddings=64)
    batches = []
    threads = []

    @classmethod
    def from_pretrained(cls, _):
        return cls()

    def to(self, _):
        return self

    def eval(self):
        return self

    def __call__(self, references=None, candidates=None, lengths=None, **_):
        import torch

        if lengths is not None:
            FakeBleurt.threads.append(torch.get_num_threads())
            return types.SimpleNamespace(logits=torch.tensor(lengths)[:, None])
        FakeBleurt.batches.append(len(candidates))
        pairs = zip(references, candidates, strict=True)
        return FakeBatch(lengths=[10.0 * len(r) + len(c) for r, c in pairs])


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def fake_package(monkeypatch, version):
    names = ("BleurtForSequenceClassification", "BleurtTokenizer")
    package = types.SimpleNamespace(**dict.fromkeys(names, FakeBleurt))
    monkeypatch.setitem(sys.modules, "bleurt_pytorch", package)
    monkeypatch.setattr("transformers.__version__", version)


def test_bleurt_takes_references_first_and_keeps_the_order(monkeypatch, checkpoint):
    fake_package(monkeypatch, "4.57.6")
    monkeypatch.setattr(FakeBleurt, "batches", [])
    candidates, references = ["a", " ", "ccc", "dd", "x"], ["bb", "b", "b", "bbb", ""]
    scores = bleurt(candidates, references, checkpoint, batch_size=2)
    assert scores.tolist() == [21, 0, 13, 32, 0]
    assert FakeBleurt.batches == [2, 1]


def test_bleurt_runs_with_the_threads_it_is_given(monkeypatch, checkpoint):
    import torch

    fake_package(monkeypatch, "4.57.6")
    monkeypatch.setattr(FakeBleurt, "threads", [])
    before = torch.get_num_threads()
    try:
        bleurt(["a"], ["b"], checkpoint)
        bleurt(["a"], ["b"], checkpoint, threads=before + 1)
    finally:
        torch.set_num_threads(before)
    assert FakeBleurt.threads == [before, before + 1]


def test_bleurt_says_what_it_lacks(monkeypatch, checkpoint):
    with pytest.raises(ValueError, match="no BLEURT checkpoint in"):
        bleurt(["a"], ["b"], checkpoint / "elsewhere")
    with pytest.raises(ValueError, match="1 candidates, but 0 references"):
        bleurt(["a"], [], checkpoint)
    monkeypatch.setitem(sys.modules, "bleurt_pytorch", None)
    with pytest.raises(ImportError, match="envs/bleurt.yaml"):
        bleurt(["a"], ["b"], checkpoint)
    fake_package(monkeypatch, "5.23.0")
    with pytest.raises(ImportError, match="needs transformers 4.*this is 5.23.0"):
        bleurt(["a"], ["b"], checkpoint)


def test_the_environment_of_bleurt_has_what_its_table_needs():
    path = REPOSITORY / "envs/bleurt.yaml"
    *_, by_pip = yaml.safe_load(path.read_text())["dependencies"]
    pinned = dict(line.split("==") for line in by_pip["pip"])
    assert pinned["transformers"].startswith("4.")
    code = (
        "import sys, mmneurons.metrics.semantics, mmneurons.metrics.bleurt, "
        "mmneurons.artifacts.tables; "
        "absent = {'torch', 'transformers', 'scipy', 'textblob', 'sacrebleu', 'bert_score'}; "
        "sys.exit(', '.join(absent & set(sys.modules)) or 0)"
    )
    environment = {"PYTHONPATH": str(Path(mmneurons.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------ semantic sensitivity


def ranked(sample, group, *units, method="contribution", site="act", layer=0):
    """Rows of a neurons table: the units of one layer, best first."""
    return [
        (method, site, sample, group, "language", layer, unit, rank)
        for rank, unit in enumerate(units)
    ]


def neurons_of(*samples):
    columns = ["method", "site", "sample_id", "group", "module", "layer", "unit", "rank"]
    return pd.DataFrame(list(itertools.chain(*samples)), columns=columns)


TOKENS = pd.DataFrame(
    {
        "module": "language",
        "layer": 0,
        "unit": [1, 2, 3],
        "tokens": [["\u2581car", " wheel", "never read"], ["road", "tree"], ["far", "away"]],
    }
)
SIMILARITIES = {
    ("car", "car"): 0.9,
    ("wheel", "car"): 0.5,
    ("road", "car"): 0.3,
    ("tree", "car"): 0.1,
    ("car wheel", "car"): 0.8,
    ("road tree", "car"): 0.2,
    ("car", "dog"): 0.2,
    ("wheel", "dog"): 0.0,
    ("road", "dog"): 0.4,
    ("tree", "dog"): NAN,
    ("car wheel", "dog"): 0.1,
    ("road tree", "dog"): 0.3,
}
AGGREGATED = {"mean over tokens": 0.3, "max over tokens": 0.45, "joined text": 0.35}


def looked_up(candidates, references):
    return np.array([SIMILARITIES[pair] for pair in zip(candidates, references, strict=True)])


def test_sensitivity_by_hand():
    # Of "car": means .7 and .2, best .9 and .3, joined .8 and .2; of "dog": means .1 and .2 (what
    # is not finite counts 0), best .2 and .4, joined .1 and .3. The third neuron is not read.
    neurons = neurons_of(
        ranked("a-car", "car", 1, 2, 3),
        ranked("b-dog", "dog", 2, 1, 3),
        ranked("c-dog", "dog", 1),
    )
    calls = []

    def similarity(candidates, references):
        calls.append(list(zip(candidates, references, strict=True)))
        return looked_up(candidates, references)

    table = sensitivity_table(neurons, TOKENS, "bertscore", similarity, "tiny", 2, 2)
    assert list(table) == semantics.COLUMNS
    assert dict(zip(table["aggregation"], table["value"], strict=True)) == pytest.approx(AGGREGATED)
    assert set(table["n"]) == {2} and set(table["n_left_out"]) == {1}
    assert set(table["encoder"]) == {"tiny"} and set(table["metric"]) == {"bertscore"}
    # Of two samples both ends are drawn in a quarter of the draws.
    assert one(table, "low", aggregation="mean over tokens") == pytest.approx(0.15)
    assert one(table, "high", aggregation="mean over tokens") == pytest.approx(0.45)
    assert len(calls) == 1 and sorted(calls[0]) == sorted(SIMILARITIES)


def test_methods_and_sites_have_rows_of_their_own():
    neurons = neurons_of(
        ranked("a-car", "car", 1),
        ranked("a-car", "car", 2, site="post"),
        ranked("a-car", "car", 2, method="random"),
    )
    table = sensitivity_table(neurons, TOKENS, "m", looked_up, "tiny", 1, 2)
    found = table[table["aggregation"] == "max over tokens"]
    assert found[["method", "site"]].values.tolist() == [
        ["contribution", "act"],
        ["contribution", "post"],
        ["random", "act"],
    ]
    assert found["value"].tolist() == pytest.approx([0.9, 0.3, 0.3])
    assert found[["low", "high"]].isna().all(axis=None)  # one sample says nothing of the spread


def test_more_neurons_than_recorded_leave_every_sample_out():
    table = sensitivity_table(neurons_of(ranked("a-car", "car", 1)), TOKENS, "m", looked_up, "x", 2)
    assert table["value"].isna().all()
    assert set(table["n"]) == {0} and set(table["n_left_out"]) == {1}


def test_without_an_encoder_the_values_are_empty_and_said_to_be():
    neurons = neurons_of(ranked("a-car", "car", 1, 2))
    table = sensitivity_table(neurons, TOKENS, "bleurt", None, "", 2, 2)
    assert len(table) == 3 and set(table["encoder"]) == {"not computed"}
    assert table[["value", "low", "high"]].isna().all(axis=None)
    assert set(table["n"]) == {1}


def test_a_neuron_without_tokens_is_named():
    with pytest.raises(ValueError, match="language/L7.U1"):
        sensitivity_table(
            neurons_of(ranked("a-car", "car", 1, layer=7)), TOKENS, "m", looked_up, "x", 1
        )


def test_no_neurons_give_an_empty_table():
    table = sensitivity_table(neurons_of(), TOKENS, "m", looked_up, "x")
    assert table.empty and list(table) == semantics.COLUMNS


@pytest.mark.parametrize("metric", [bertscore, moverscore])
def test_the_metrics_of_texts_fit_in(metric):
    similarity = partial(metric, encoder=ENCODER, num_layers=2)
    tokens = TOKENS.assign(tokens=[["car", "\u200b"], ["dog", ""], ["truck", "bus"]])
    neurons = neurons_of(ranked("a-car", "car", 1), ranked("b-car", "car", 2, method="random"))
    table = sensitivity_table(neurons, tokens, "m", similarity, "tiny", 1, 2)
    mean, best = (f"{word} over tokens" for word in ("mean", "max"))
    assert one(table, "value", method="contribution", aggregation=best) == pytest.approx(
        1, abs=1e-4
    )
    # The encoder sees nothing of the second token.
    assert one(table, "value", method="contribution", aggregation=mean) == pytest.approx(
        0.5, abs=1e-4
    )
    assert one(table, "value", method="random", aggregation=best) < 0.8


# --------------------------------------------------------------------------- region invariance


def test_region_invariance_by_hand():
    plain = neurons_of(
        ranked("a-x", "x", 1, 2, 3, 4),
        ranked("b-x", "x", 1, 2),
        ranked("c-x", "x", 1, 2, 3, 4),
    )
    shuffled = neurons_of(
        ranked("a-x", "x", 2, 1, 5, 3),
        ranked("b-x", "x", 1, 9),
        ranked("d-x", "x", 1, 2, 3, 4),
    )
    table = region_invariance_table(plain, shuffled, [1, 2, 3, 4, 5])
    assert list(table) == invariance.REGION_COLUMNS
    # a: 0, 1, 2/3, 3/4; b: 1, 1/2 and then too few; c and d are in one caption only.
    assert table["value"].tolist() == pytest.approx([0.5, 0.75, 2 / 3, 0.75, NAN], nan_ok=True)
    assert table["n"].tolist() == [2, 2, 1, 1, 0]
    assert table["n_left_out"].tolist() == [2, 2, 3, 3, 4]
    assert one(table, "low", k=2) == pytest.approx(0.5)
    assert one(table, "high", k=2) == pytest.approx(1)


def test_a_neuron_is_the_same_only_in_its_layer():
    plain = neurons_of(ranked("a-x", "x", 1))
    shuffled = neurons_of(ranked("a-x", "x", 1, layer=1))
    assert region_invariance_table(plain, shuffled, [1])["value"].tolist() == [0]
    assert region_invariance_table(plain, plain, [1])["value"].tolist() == [1]


def test_a_method_without_shuffled_captions_has_no_value():
    plain = neurons_of(ranked("a-x", "x", 1), ranked("a-x", "x", 1, method="random"))
    table = region_invariance_table(plain, neurons_of(ranked("a-x", "x", 1)), [1])
    assert table[["method", "n", "n_left_out"]].values.tolist() == [
        ["contribution", 1, 0],
        ["random", 0, 1],
    ]
    assert math.isnan(one(table, "value", method="random"))


def test_no_neurons_give_no_invariance():
    empty = neurons_of()
    assert list(region_invariance_table(empty, empty, [1])) == invariance.REGION_COLUMNS
    assert list(cross_image_table(empty, [1])) == invariance.CROSS_IMAGE_COLUMNS


# ----------------------------------------------------------------------- cross-image invariance


def test_cross_image_invariance_by_hand():
    neurons = neurons_of(
        ranked("a-car", "car", 1, 2, 3),
        ranked("b-car", "car", 1, 3, 9),
        ranked("c-car", "car", 3, 1, 5),
        ranked("a-dog", "dog", 1, 2, 3),
    )
    table = cross_image_table(neurons, [2, 3, 4], (2, 3, 4))
    assert list(table) == invariance.CROSS_IMAGE_COLUMNS
    assert set(table["group"]) == {"car"}  # one picture of a dog cannot be compared
    # Top 2: {1, 2}, {1, 3}, {3, 1} share 1, 1 and 2; all three share {1}.
    assert one(table, "value", n_pictures=2, k=2) == pytest.approx(2 / 3)
    assert one(table, "n", n_pictures=2, k=2) == 3
    assert one(table, "value", n_pictures=3, k=2) == 0.5
    assert one(table, "value", n_pictures=2, k=3) == pytest.approx(2 / 3)
    assert one(table, "value", n_pictures=3, k=3) == pytest.approx(2 / 3)
    assert one(table, "n", n_pictures=3, k=3) == 1
    assert math.isnan(one(table, "low", n_pictures=3, k=3))
    # Too few pictures, and too few neurons.
    assert column(table, "n", n_pictures=4) == column(table, "n", k=4) == [0, 0, 0]
    assert all(map(math.isnan, column(table, "value", k=4)))
    assert column(table, "n_left_out", k=4) == [3, 3, 3]
    assert set(column(table, "n_left_out", k=3)) == {0}


def test_rows_in_any_order_give_the_same_numbers():
    rng = np.random.default_rng(0)
    samples = [ranked(f"{i}-car", "car", *rng.permutation(6)) for i in range(8)]
    neurons = neurons_of(*samples)
    mixed = neurons.sample(frac=1, random_state=1)
    found = [cross_image_table(table, [2, 3], (2, 5), sets=10) for table in (neurons, mixed)]
    assert found[0].equals(found[1])
    assert set(found[0]["n"]) == {10}
    # The sets of a concept do not hang on other concepts.
    others = neurons_of(ranked("0-ant", "ant", 1, 2, 3), ranked("1-ant", "ant", 1, 2, 3), *samples)
    again = cross_image_table(others, [2, 3], (2, 5), sets=10)
    assert again[again["group"] == "car"].reset_index(drop=True).equals(found[0])


def test_sets_of_pictures_are_all_of_them_or_a_seeded_choice():
    assert picture_sets(3, 2, 3, 0) == [(0, 1), (0, 2), (1, 2)]
    assert picture_sets(3, 4, 5, 0) == [] == picture_sets(0, 2, 5, 0)
    drawn = picture_sets(10, 3, 20, 7)  # of 120
    assert drawn == picture_sets(10, 3, 20, 7) != picture_sets(10, 3, 20, 8)
    assert len(set(drawn)) == 20
    assert all(0 <= a < b < c < 10 for a, b, c in drawn)


# --------------------------------------------------------------------------------- specificity


def test_specificity_by_hand():
    scores = pd.DataFrame(
        {
            "site": "act",
            "sample_id": ["a", "b", "c"],
            "related": [np.arange(12, 0, -1.0), np.zeros(12), np.full(10, 4.0)],
            "random": [np.full(12, 0.5), np.full(12, -0.5), np.full(12, 3.0)],
        }
    )
    table = specificity_table(scores, (1, 2, 12))
    assert list(table) == specificity.COLUMNS

    def value(**where):
        return one(table, "value", **where)

    both = [{"divisor": divisor} for divisor in ("m", "released")]
    for divisor in both:  # up to ten tokens they are the same
        assert value(tokens="related", m=1, **divisor) == pytest.approx((12 + 0 + 4) / 3)
        assert value(tokens="related", m=2, **divisor) == pytest.approx((23 / 2 + 0 + 4) / 3)
    # c has ten tokens: enough for the ten that the released code adds, too few for twelve.
    assert value(tokens="related", m=12, divisor="m") == pytest.approx(78 / 12 / 2)
    assert value(tokens="related", m=12, divisor="released") == pytest.approx((75 + 40) / 12 / 3)
    assert value(tokens="random", m=12, divisor="m") == pytest.approx(1)
    assert value(tokens="random", m=12, divisor="released") == pytest.approx(10 / 12)
    assert column(table, "n", tokens="related", m=12) == [2, 3]
    assert one(table, "low", tokens="related", m=12, divisor="m") == 0
    assert one(table, "high", tokens="related", m=12, divisor="m") == 6.5


def test_the_papers_s_at_50_is_a_fifth_of_its_s_at_10():
    related = [np.sort(np.random.default_rng(i).random(50))[::-1] for i in range(4)]
    scores = pd.DataFrame(
        {"site": "post", "sample_id": range(4), "related": related, "random": related}
    )
    table = specificity_table(scores)
    released = column(table, "value", tokens="related", divisor="released")
    assert released[3] == pytest.approx(released[2] / 5)  # 2.333 / 5 = .467 in its Table 4
    assert one(table, "value", tokens="related", m=50, divisor="m") == pytest.approx(
        np.mean(related)
    )


def test_too_few_tokens_and_no_samples_are_defined():
    scores = pd.DataFrame(
        {"site": ["act"], "sample_id": ["a"], "related": [[1.0]], "random": [[1.0]]}
    )
    table = specificity_table(scores, (5,))
    assert set(table["n"]) == {0} and table["value"].isna().all()
    assert list(specificity_table(scores.iloc[:0])) == specificity.COLUMNS


# -------------------------------------------------------------------------------- weight noise


def noisy(sample, group, before, *after, method="contribution", seed=0, level=1.0):
    picture = sample.partition("-")[0]
    return [
        (method, seed, "row", level, draw, sample, group, picture)
        + tuple(f"{PREFIX} {text}" for text in (before, caption))
        for draw, caption in enumerate(after)
    ]


def noise_table(concepts, *samples):
    columns = ["method", "seed", "unit", "level", "draw", "sample_id", "group", "picture_id"]
    rows = list(itertools.chain(*samples))
    captions = pd.DataFrame(rows, columns=[*columns, "caption_before", "caption"])
    return weight_noise_table(
        captions, pd.DataFrame(concepts, columns=["picture_id", "group"]), PREFIX
    )


def test_weight_noise_by_hand():
    table = noise_table(
        [("p", "car"), ("p", "tree"), ("p", "cars"), ("q", "dog")],
        noisy("p-car", "car", "a car, a tree, cars", "a tree", "a car"),
        noisy("q-dog", "dog", "a dog", "a dog", "two dogs"),
    )
    assert list(table) == weight_noise.COLUMNS
    assert table["measure"].tolist() == ["suppression", "retention", "unchanged"]
    # p: the car is gone in one of two captions, the tree in the other; "cars" is no other concept.
    # q: "dogs" still names the dog, and there is nothing to retain.
    assert table["value"].tolist() == pytest.approx([0.25, 0.5, 0.25])
    assert table["n"].tolist() == [4, 2, 4]
    assert table["n_left_out"].tolist() == [0, 2, 0]
    assert table["low"].tolist() == pytest.approx([0, NAN, 0], nan_ok=True)
    assert table["high"].tolist() == pytest.approx([0.5, NAN, 0.5], nan_ok=True)


def test_draws_are_averaged_before_seeds_and_cells_kept_apart():
    of_random = partial(noisy, "p-car", "car", "a car", method="random")
    table = noise_table(
        [("p", "car")],
        of_random("a dog", seed=0),
        of_random("a car", "a car", seed=1),
        noisy("p-car", "car", "a car", "a dog", level=2.0),
    )
    found = table[table["measure"] == "suppression"]
    assert found[["method", "unit", "level"]].values.tolist() == [
        ["contribution", "row", 2.0],
        ["random", "row", 1.0],
    ]
    assert found["value"].tolist() == [1.0, 0.5]
    assert found["n"].tolist() == [1, 3]


def test_the_prefix_names_nothing_and_unnamed_concepts_are_left_out():
    table = noise_table(
        [("p", "image"), ("q", "dog")],
        noisy("p-image", "image", "an image of it", "a dog"),
        noisy("q-dog", "dog", "a cat", "a cat"),
    )
    assert one(table, "value", measure="suppression") == 1
    assert one(table, "n_left_out", measure="suppression") == 1
    assert math.isnan(one(table, "value", measure="retention"))
    assert one(table, "n", measure="retention") == 0


def test_no_noise_gives_an_empty_table():
    table = noise_table([])
    assert table.empty and list(table) == weight_noise.COLUMNS


# --------------------------------------------------------------------------------------- edits


def edited(edit, sample, words, *captions, kind="token", neurons=(5, 1), control=None):
    """Rows of edits.parquet; captions are (picture, role, before, after)."""
    source, target = words
    method = ("contribution", 0) if control is None else ("random", control)
    return [
        (edit, sample, source, target, kind, *method, picture, role, *neurons)
        + (f"{PREFIX} {before}", f"{PREFIX} {after}")
        for picture, role, before, after in captions
    ]


def table_of_edits(concepts, *of_edits):
    columns = [
        *("edit_id", "sample_id", "source", "target", "kind", "method", "seed"),
        *("picture_id", "role", "n_neurons", "n_unedited", "caption_before", "caption"),
    ]
    captions = pd.DataFrame(list(itertools.chain(*of_edits)), columns=columns)
    return edits_table(captions, pd.DataFrame(concepts, columns=["picture_id", "group"]), PREFIX)


def test_edits_by_hand():
    table = table_of_edits(
        [("p", "car"), ("p", "tree"), ("q", "dog"), ("t", "tree")],
        edited(
            "e1",
            "p-car",
            ("car", "dog"),
            ("p", "edited", "a car and a tree", "a dog and a tree"),
            ("r", "transfer", "a car", "a car and a dog"),
            ("s", "transfer", "a car", "a dog"),
            ("t", "locality", "a tree", "a tree"),
            ("u", "locality", "a bus", "a dog"),
        ),
        edited(
            "e2",
            "p-car",
            ("car", "bus"),
            ("p", "edited", "a car and a tree", "a bus"),
            neurons=(5, 3),
        ),
        edited(
            "e3",
            "q-dog",
            ("dog", "cat"),
            ("q", "edited", "a dog", "a dog"),
            ("p", "locality", "a car and a tree", "a car and a tree"),
            neurons=(0, 0),
        ),
    )
    assert list(table) == edits.COLUMNS
    found = {row.measure: (row.value, row.n, row.n_left_out) for row in table.itertuples()}
    expected = {
        "success": (0.5, 3, 0),  # 1 of p-car's two edits each, 0 of q-dog's
        "target_named": (0.5, 3, 0),
        "source_gone": (0.5, 3, 0),
        "transfer": (0.5, 2, 0),  # on r both words are named
        "locality": (0.75, 3, 0),  # (1/2 + 1) / 2
        "others_kept": (0.5, 2, 1),  # the tree stays once; the dog's picture has nothing else
        "unedited": (0.4, 2, 1),  # (1/5 + 3/5) / 2; the third has no neuron
    }
    assert set(found) == set(expected)
    for measure, numbers in expected.items():
        assert found[measure] == pytest.approx(numbers), measure
    assert one(table, "low", measure="success") == 0 and one(table, "high", measure="success") == 1
    assert math.isnan(one(table, "low", measure="others_kept"))  # a single sample


def test_captions_that_cannot_show_a_measure_are_left_out():
    table = table_of_edits(
        [],
        edited("e1", "p-car", ("car", "dog"), ("p", "edited", "a car and a dog", "a dog")),
        edited("e2", "q-car", ("car", "dog"), ("q", "edited", "a bus", "a dog")),
        edited("e3", "r-car", ("car", "dog"), ("r", "locality", "two cars", "two cars")),
    )
    found = {row.measure: (row.value, row.n, row.n_left_out) for row in table.itertuples()}
    assert found["target_named"] == (1, 1, 1)  # p's caption named the dog before
    assert found["source_gone"] == (1, 1, 1)  # q's never named the car
    for measure, left_out in (("success", 2), ("transfer", 0), ("locality", 1)):
        assert math.isnan(found[measure][0]) and found[measure][1:] == (0, left_out)


def test_pictures_edits_and_samples_are_averaged_in_this_order():
    def locality(edit, sample, *kept):
        captions = [
            (f"{edit}{i}", "locality", "a tree", "a tree" if same else "a bus")
            for i, same in enumerate(kept)
        ]
        return edited(edit, sample, ("car", "dog"), *captions)

    table = table_of_edits(
        [],
        locality("e1", "p-car", True, True, True),
        locality("e2", "p-car", False),
        locality("e3", "q-car", False),
    )
    assert one(table, "value", measure="locality") == pytest.approx(0.25)
    assert one(table, "n", measure="locality") == 5


def test_every_random_seed_is_an_edit_of_its_own():
    of_seed = [
        edited(
            "e1",
            "p-car",
            ("car", "dog"),
            ("p", "edited", "a car", "a dog" if seed == 1 else "a car"),
            ("q", "locality", "a tree", "a tree"),
            neurons=(5, 5 * (seed > 0)),
            control=seed,
        )
        for seed in range(5)
    ]
    table = table_of_edits([], *of_seed)
    found = {row.measure: (row.value, row.n) for row in table.itertuples()}
    assert set(table["method"]) == {"random"}
    assert found["unedited"] == (pytest.approx(0.8), 5)
    assert found["success"] == (pytest.approx(0.2), 5)


def test_kinds_of_edits_have_rows_of_their_own():
    table = table_of_edits(
        [],
        edited("e2", "p-car", ("car", "dog"), ("p", "edited", "a car", "a dog")),
        edited("e3", "p-car", ("car", "dog"), ("p", "edited", "a car", "a car"), kind="word"),
    )
    assert column(table, "value", measure="success") == [1, 0]
    assert column(table, "kind", measure="success") == ["token", "word"]


def test_no_edits_give_an_empty_table():
    table = table_of_edits([])
    assert table.empty and list(table) == edits.COLUMNS
