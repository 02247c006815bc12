"""Metrics against numbers worked out by hand or taken from the paper's arithmetic."""

import json

import numpy as np
import pandas as pd
import pytest

from mmneurons.metrics import similarity
from mmneurons.metrics.intervals import bootstrap_interval, percentile_bounds
from mmneurons.metrics.naming import named, names, names_loosely, spans
from mmneurons.metrics.suppression import suppression_table

# ------------------------------------------------------------------------------------ naming


@pytest.mark.parametrize(
    ("caption", "concept"),
    [
        ("The image shows a red car on a street.", "car"),
        ("CARS everywhere", "car"),
        ("the car's door", "car"),
        ('a "car", parked', "car"),
        ("two buses", "bus"),
        ("a bus stop", "bus"),
        ("natural gases", "gas"),
        ("three knives", "knife"),
        ("a crowd of people", "person"),
        ("two persons", "person"),
        ("a person", "people"),
        ("some cows", "cow"),
        ("three sheep", "sheep"),
        ("two mice", "mouse"),
        ("a pair of scissors", "scissors"),
        ("a ski in the snow", "skis"),
        ("a pair of glasses", "glasses"),
        ("two wine glasses", "wine glass"),
        ("a row of fire hydrants", "fire hydrant"),
        ("a fire-hydrant", "fire hydrant"),
        ("a fire\nhydrant", "Fire Hydrant"),
        ("sandwiches and toothbrushes", "toothbrush"),
        ("an old TV", "tv"),
        ("a teddy bear", "bear"),
        ("a bed\u2014unmade", "bed"),
        ("Cafe\u0301s in Paris", "caf\u00e9"),
        ("STRASSE", "stra\u00dfe"),
        ("t-shirts", "t-shirt"),
    ],
)
def test_whole_words_and_their_plurals_name(caption, concept):
    assert names(caption, concept)


@pytest.mark.parametrize(
    ("caption", "concept"),
    [
        ("", "car"),
        ("a bedroom with carpet", "bed"),
        ("a bedroom with carpet", "car"),
        ("a cat-shaped clock", "cat"),
        ("a cat-shaped o'clock", "clock"),
        ("he can't", "can"),
        ("Atlanta, GA", "gas"),
        ("a bu", "bus"),
        ("a bust", "bus"),
        ("a hydrant", "fire hydrant"),
        ("a fire by the hydrant", "fire hydrant"),
        ("fires hydrant", "fire hydrant"),
        ("Cafe\u0301s in Paris", "cafe"),
        ("a red_car", "car"),
        ("a bear cub", "teddy bear"),
        ("a plane", "airplane"),
    ],
)
def test_parts_of_words_and_other_words_do_not_name(caption, concept):
    assert not names(caption, concept)


def test_every_coco_like_name_is_named_by_itself():
    for name in ("tie", "ski", "bus", "couch", "scissors", "hair drier", "sports ball", "police"):
        assert names(f"There is a {name}.", name)


def test_the_loose_rule_takes_substrings():
    assert names_loosely("A BEDROOM", "bed")
    assert not names_loosely("a room", "bed")
    assert not names_loosely("", "bed")


def test_a_concept_without_letters_is_refused():
    with pytest.raises(ValueError, match="no letters"):
        names("a car", " ")


def test_spans_are_characters_of_the_caption():
    caption = "A car, two cars and a carpet"
    assert [caption[slice(*span)] for span in spans(caption, "car")] == ["car", "cars"]
    # The accent is a character of its own, the ligature one that folds to two.
    caption = "Cafe\u0301 \ufb01sh fish"
    assert spans(caption, "caf\u00e9") == [(0, 5)]
    assert spans(caption, "fish") == [(6, 9), (10, 14)]


def test_a_longer_concept_masks_the_shorter_one_inside_it():
    concepts = ["bear", "teddy bear", "dog"]
    assert named("a teddy bear", concepts) == {"teddy bear"}
    assert named("a bear with a teddy bear", concepts) == {"bear", "teddy bear"}
    assert named("two teddy bears", ["bear"]) == {"bear"}
    assert named("nothing", concepts) == set()
    assert named("glasses", ["glass", "glasses"]) == {"glass", "glasses"}


# -------------------------------------------------------------------------------- similarity


def test_bleu_by_hand():
    # 1-grams: 3 of 4 words match, lengths equal. 4-grams of equal sentences: all match.
    assert similarity.bleu(["a red car here"], ["a red bus here"], 1) == pytest.approx([0.75])
    same = similarity.bleu(["a red car here", "two"], ["a red car here", "two"], 4)
    assert same == pytest.approx([1, 1])
    # Brevity: the one word matches, candidate 1 and reference 2 words long: exp(1 - 2).
    assert similarity.bleu(["car"], ["red car"], 4) == pytest.approx([np.exp(-1)])


def test_bleu_4_is_smoothed_exponentially():
    # Precisions 3/4, 1/3 ("a red"), then none: (1/2)/2 and (1/4)/1 by exponential smoothing.
    expected = (3 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25
    assert similarity.bleu(["a red car here"], ["a red bus here"], 4) == pytest.approx([expected])


def test_rouge_by_hand():
    # Words in common: "a", "red", "car" of 4 and 3: P 3/4, R 1. In order only two: 2/4, 2/3.
    candidate, reference = ["car a red here"], ["a red car"]
    assert similarity.rouge(candidate, reference, "rouge1") == pytest.approx([6 / 7])
    assert similarity.rouge(candidate, reference, "rougeL") == pytest.approx([4 / 7])


def test_empty_candidates_score_nothing():
    for scores in (
        similarity.bleu([""], ["a car"], 4),
        similarity.rouge([""], ["a car"], "rougeL"),
        similarity.bertscore([" "], ["a car"], "no such folder", num_layers=1),
    ):
        assert scores.tolist() == [0]
    assert similarity.bleu([], [], 1).shape == (0,)


def test_lists_of_different_lengths_are_refused():
    for metric in (
        lambda: similarity.bleu(["a"], [], 1),
        lambda: similarity.rouge(["a"], [], "rouge1"),
        lambda: similarity.bertscore(["a"], [], "no such folder", num_layers=1),
    ):
        with pytest.raises(ValueError, match="1 candidates, but 0 references"):
            metric()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny BERT with random weights, in a folder whose name bert-score takes for a T5."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("t5") / "encoder"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "car", "bus"]
    tokenizer = BertTokenizer(dict(zip(words, range(len(words)), strict=True)))
    tokenizer.model_max_length = 32
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_bertscore_is_the_greedy_match_of_the_encoders_states(encoder, monkeypatch):
    import torch
    from transformers import AutoModel, AutoTokenizer

    monkeypatch.chdir(encoder.parent)
    candidates, references = ["a red car", "", "a car"], ["a blue bus", "a car", "a car"]
    scores = similarity.bertscore(candidates, references, encoder, num_layers=1)

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = AutoModel.from_pretrained(encoder).eval()

    def states(text: str) -> torch.Tensor:
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        return torch.nn.functional.normalize(hidden.hidden_states[1][0], dim=-1)

    # [CLS] and [SEP] may be matched, but are not counted.
    similarities = states(candidates[0]) @ states(references[0]).T
    precision, recall = similarities.amax(1)[1:-1].mean(), similarities.amax(0)[1:-1].mean()
    expected = 2 * precision * recall / (precision + recall)
    assert scores == pytest.approx([expected.item(), 0, 1], abs=1e-5)


def test_an_encoder_bert_score_cannot_take_is_refused(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(encoder.parent.parent)
    with pytest.raises(ValueError, match="rename"):
        similarity.bertscore(["a"], ["a"], encoder, num_layers=1)
    with pytest.raises(ValueError, match="no encoder in"):
        similarity.bertscore(["a"], ["a"], tmp_path, num_layers=1)
    monkeypatch.chdir(encoder.parent)
    settings = encoder / "tokenizer_config.json"
    kept = settings.read_text()
    without = {k: v for k, v in json.loads(kept).items() if k != "model_max_length"}
    settings.write_text(json.dumps(without))
    try:
        with pytest.raises(ValueError, match="model_max_length"):
            similarity.bertscore(["a"], ["a"], encoder, num_layers=1)
    finally:
        settings.write_text(kept)


# --------------------------------------------------------------------------------- intervals


def test_the_interval_of_a_mean_has_the_width_of_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    table = pd.DataFrame({"value": values, "object": np.arange(400)})
    low, high = bootstrap_interval(table, "value", "object")
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.01)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)


def test_whole_groups_are_resampled():
    # Within a group all values are equal: 1,000 rows are no more than two observations.
    table = pd.DataFrame({"value": [0.0] * 500 + [1.0] * 500, "object": ["a"] * 500 + ["b"] * 500})
    assert bootstrap_interval(table, "value", "object") == (0, 1)


def test_groups_of_different_size_keep_their_rows():
    table = pd.DataFrame({"value": [0.0, 1, 1, 1], "object": ["a", "b", "b", "b"]})
    # Samples aa, ab, bb have means 0, 3/4, 1: the median of the draws is 3/4.
    low, high = bootstrap_interval(table, "value", "object", level=0.0, draws=500)
    assert low == high == 0.75


def test_any_statistic_and_the_seed():
    table = pd.DataFrame({"value": np.arange(20.0), "object": np.arange(20)})
    first = bootstrap_interval(table, "value", "object", np.median, seed=1)
    assert first == bootstrap_interval(table, "value", "object", np.median, seed=1)
    assert 0 <= first[0] < 9.5 < first[1] <= 19


def test_one_group_or_a_missing_value_has_no_interval():
    one = pd.DataFrame({"value": [1.0, 2.0], "object": ["a", "a"]})
    gap = pd.DataFrame({"value": [1.0, np.nan], "object": ["a", "b"]})
    assert np.isnan(bootstrap_interval(one, "value", "object")).all()
    assert np.isnan(bootstrap_interval(gap, "value", "object")).all()
    assert np.isnan(bootstrap_interval(one[:0], "value", "object")).all()


def test_percentile_bounds_of_a_hundred_draws():
    assert percentile_bounds(np.arange(101.0), 0.9) == pytest.approx((5, 95))


# ------------------------------------------------------------------------------- suppression


def hits_table(named_by, groups=("bed", "bear"), pictures=3, levels=(40.0,), draws=10, seeds=(0,)):
    """All neurons on all pictures; `named_by(row)` says whether the caption names its picture."""
    samples = [(f"{group}{number}", group) for group in groups for number in range(pictures)]
    rows = [
        {
            "method": "two_stage",
            "variant": "auto",
            "seed": seed,
            "sample_id": sample,
            "group": group,
            "picture_id": picture,
            "picture_group": picture_group,
            "level": level,
            "draw": draw,
        }
        for sample, group in samples
        for picture, picture_group in samples
        for level in levels
        for draw in range(draws)
        for seed in seeds
    ]
    return pd.DataFrame(rows).assign(named=[named_by(row) for row in rows])


def row_of(table: pd.DataFrame, group: str, level: float) -> pd.Series:
    of_level = table["level"].isna() if np.isnan(level) else table["level"] == level
    (row,) = [row for _, row in table[of_level & (table["group"] == group)].iterrows()]
    return row


def test_ninety_captions_make_one_cell_of_the_paper():
    # Table II, "bed" at 40: 44 of 90 captions lose the object, 0.4890 as printed (0.4889).
    kept = iter([False] * 44 + [True] * 46)

    def named_by(row):
        return next(kept) if row["group"] == row["picture_group"] == "bed" else True

    row = row_of(suppression_table(hits_table(named_by)), "bed", 40.0)
    assert row["suppression"] == pytest.approx(44 / 90)
    assert row["retention"] == 1
    assert row["score"] == pytest.approx((44 / 90 + 1) / 2)
    assert row["n_captions"] == 90 + 90
    assert row["suppression_low"] < 44 / 90 < row["suppression_high"]


def test_the_papers_average_score():
    # 10,000 captions a cell realise the printed averages .7714 and .6957 exactly.
    own, other = iter([False] * 7714 + [True] * 2286), iter([True] * 6957 + [False] * 3043)

    def named_by(row):
        if row["group"] == "bear":
            return True
        return next(own if row["picture_group"] == "bed" else other)

    hits = hits_table(named_by, pictures=1, draws=10_000)
    row = row_of(suppression_table(hits), "bed", 40.0)
    assert row["score"] == pytest.approx(0.73355)


def test_a_little_table_by_hand():
    # bed: own captions silenced at level 80 only; others always kept at 40, never at 80.
    # bear: nothing silenced, others always kept.
    def named_by(row):
        return row["group"] == "bear" or row["level"] == 40

    table = suppression_table(hits_table(named_by, levels=(40.0, 80.0), draws=2, pictures=2))
    expected = {
        ("bed", 40.0): (0, 1, 0.5),
        ("bed", 80.0): (1, 0, 0.5),
        ("bed", np.nan): (0.5, 0.5, 0.5),
        ("bear", 80.0): (0, 1, 0.5),
        ("", 80.0): (0.5, 0.5, 0.5),
        ("", np.nan): (0.25, 0.75, 0.5),
    }
    for (group, level), values in expected.items():
        row = row_of(table, group, level)
        assert tuple(row[["suppression", "retention", "score"]]) == pytest.approx(values)
    overall = row_of(table, "", np.nan)
    # Two objects with suppression 0.5 and 0: the bounds are the objects themselves.
    assert (overall["suppression_low"], overall["suppression_high"]) == (0, 0.5)
    assert (overall["n_groups"], overall["n_captions"]) == (2, 4 * 4 * 2 * 2)
    assert len(table) == 3 * 3


def test_seeds_weigh_the_same_however_many_captions_they_have():
    hits = hits_table(lambda row: row["seed"] == 0, seeds=(0, 1), draws=4)
    short = hits[(hits["seed"] == 0) | (hits["draw"] == 0)]
    assert row_of(suppression_table(short), "bed", 40.0)["suppression"] == pytest.approx(0.5)


def test_methods_are_kept_apart_and_rows_may_come_in_any_order():
    kept = hits_table(lambda row: True)
    lost = hits_table(lambda row: False).assign(method="random", variant="matched")
    both = pd.concat([kept, lost])
    table = suppression_table(both)
    pd.testing.assert_frame_equal(table, suppression_table(both.sample(frac=1, random_state=0)))
    means = table[(table["group"] == "") & table["level"].isna()].set_index("method")
    assert means["suppression"].to_dict() == {"two_stage": 0, "random": 1}
    assert means["retention"].to_dict() == {"two_stage": 1, "random": 0}


def test_the_loose_rule_can_be_asked_for():
    hits = hits_table(lambda row: False).assign(named_loose=True)
    assert row_of(suppression_table(hits, hit="named_loose"), "bed", 40.0)["suppression"] == 0


def test_one_object_alone_has_suppression_but_no_retention():
    table = suppression_table(hits_table(lambda row: False, groups=("bed",)))
    row = row_of(table, "", 40.0)
    assert row["suppression"] == 1
    assert np.isnan(
        row[["retention", "score", "suppression_low", "suppression_high"]].tolist()
    ).all()


def test_no_captions_are_refused():
    with pytest.raises(ValueError, match="no captions"):
        suppression_table(hits_table(lambda row: True)[:0])
