"""Measures of Schwettmann et al. 2023: words, descriptions, receptive fields, selectivity."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import ks_2samp

from mmneurons.artifacts import schwettmann
from mmneurons.artifacts.schwettmann import TABLES
from mmneurons.metrics import descriptions
from mmneurons.metrics.localisation import iou, iou_table, left_out, localise, receptive_field
from mmneurons.metrics.selectivity import (
    category_units,
    evaluated_pictures,
    layer_counts,
    selectivity_table,
)
from mmneurons.metrics.words import dictionary, mark_interpretable, neuron_text, token_text


@pytest.fixture(scope="module")
def known():
    return dictionary(["en_US"], 3)


def test_a_word_is_in_the_dictionary_and_has_three_letters(known):
    assert [
        word for word in ("horse", "horses", "Paris", "swimming", "the") if not known(word)
    ] == []
    assert [
        word for word in ("to", "xx", "ing", "123", "don't", "", "asdf", "colour") if known(word)
    ] == []
    assert dictionary(["en_US"], 2)("to")


def test_another_dictionary_can_stand_beside_it(tmp_path):
    (tmp_path / "own.aff").write_text("SET UTF-8\n")
    (tmp_path / "own.dic").write_text("1\ncolour\n")
    assert dictionary(["en_US", str(tmp_path / "own")], 3)("colour")
    with pytest.raises(FileNotFoundError, match="no Hunspell dictionary klingon"):
        dictionary(["klingon"], 3)


def test_texts_of_tokens():
    assert [token_text(token) for token in ("▁horse", "Ġhorse", "horse", "▁")] == ["horse"] * 3 + [
        ""
    ]
    assert neuron_text(["▁horse", "▁", "ing"]) == "horse, ing"
    # What `token_texts` gives of a byte-level tokenizer: letters themselves, white space too.
    assert neuron_text(["▁café", "\n", "\ufffd", "a▁b"]) == "café, \ufffd, a b"


def test_seven_of_ten_words_make_a_neuron_interpretable(known):
    words, rest = ["▁horse", "▁water", "Ġhouse", "▁red", "▁dog", "▁tree"], ["▁a", "ing", "<0x0A>"]
    tokens = pd.DataFrame(
        {
            "module": "language",
            "layer": [0, 0, 1],
            "unit": [4, 5, 4],
            "tokens": [[*words, "▁cat", *rest], [*words, "▁xx", *rest], ["▁cat"] * 6 + ["x"] * 4],
        }
    )
    neurons = pd.DataFrame(
        {"module": "language", "layer": [1, 0, 0, 0], "unit": [4, 5, 4, 5], "rank": range(4)}
    )
    marked = mark_interpretable(neurons, tokens, known, 7, 10)
    assert marked["interpretable"].tolist() == [False, False, True, False]
    assert marked["rank"].tolist() == [0, 1, 2, 3]
    assert mark_interpretable(neurons, tokens, known, 6, 6)["interpretable"].all()
    with pytest.raises(ValueError, match="no top tokens of the neuron language/L1.U4"):
        mark_interpretable(neurons, tokens[:2], known, 7, 10)


# --------------------------------------------------------------------------------- descriptions

CAPTIONS = pd.DataFrame(
    {
        "picture_id": ["a", "b", "c"],
        "caption": ["A picture of a horse", "A picture of a red house", "A picture of"],
        "references": [["a horse by the water"], ["a house", "a red house"], ["a dog", "a dog"]],
    }
)
UNITS = pd.DataFrame(
    {
        "sample_id": ["a", "a", "a", "b", "b", "z"],
        "module": "language",
        "layer": [0, 1, 2, 0, 1, 0],
        "unit": [1, 1, 1, 1, 2, 1],
        "rank": [0, 1, 2, 1, 0, 0],
        "interpretable": [True, False, True, True, True, True],
    }
)
TOKENS = pd.DataFrame(
    {
        "module": "language",
        "layer": [0, 1, 2, 1],
        "unit": [1, 1, 1, 2],
        "tokens": [["▁horse", "▁dog"], ["▁x", "▁y"], ["▁water", "▁sea"], ["▁house", "▁door"]],
    }
)
PROMPTS = pd.DataFrame(
    {
        "picture_id": ["a", "a", "a", "z"],
        "kind": ["image", "image", "random", "image"],
        "patch": [0, 3, 0, 0],
        "tokens": [["▁horse"], ["▁dog"], ["▁sea"], ["▁sea"]],
    }
)


def clip(rows, texts):
    """A number that tells pictures and texts apart."""
    return np.array([10.0 * row + len(text) for row, text in zip(rows, texts, strict=True)])


def similarity(candidates, references):
    return np.array([len(a) + 100.0 * len(b) for a, b in zip(candidates, references, strict=True)])


@pytest.fixture
def scored():
    neurons = descriptions.neuron_texts(UNITS, TOKENS, most=2, of=2)
    assert neurons == {"a": ["horse, dog"], "b": ["house, door", "horse, dog"], "z": ["horse, dog"]}
    texts = descriptions.texts_to_score(CAPTIONS, "A picture of", neurons, PROMPTS, seed=0)
    return descriptions.score_texts(texts, CAPTIONS, clip, similarity)


def test_texts_that_are_scored(scored):
    told = {(row.picture_id, row.kind, row.patch): row.text for row in scored.itertuples()}
    assert told["a", "gpt", -1] == "a horse" and told["c", "gpt", -1] == ""
    assert told["a", "coco_nouns", -1] == "horse, water"
    assert told["b", "coco_nouns", -1] == "house"
    assert told["a", "image", 3] == "dog" and told["a", "random_prompt", 0] == "sea"
    assert "z" not in set(scored["picture_id"])
    of = {kind: scored[scored["kind"] == kind] for kind in ("multimodal", "random")}
    # Two pictures with neurons: each gets the other's.
    assert sorted(of["random"].loc[of["random"]["picture_id"] == "a", "text"]) == [
        "horse, dog",
        "house, door",
    ]
    assert of["random"].loc[of["random"]["picture_id"] == "b", "text"].tolist() == ["horse, dog"]


def test_scores_of_pictures_by_hand(scored):
    scores = descriptions.picture_scores(scored).set_index(["picture_id", "kind"])
    references = [len(text) for text in CAPTIONS["references"][1]]
    # The maximum over neurons by each metric, the mean over human captions.
    assert scores.loc[("b", "multimodal"), "clipscore"] == 10 + len("house, door")
    expected = len("house, door") + 100 * np.mean(references)
    assert scores.loc[("b", "multimodal"), "bertscore"] == pytest.approx(expected)
    assert scores.loc[("a", "image_prompts"), "clipscore"] == (5 + 3) / 2
    assert scores.loc[("a", "image_prompts_max"), "clipscore"] == 5
    assert scores.loc[("a", "random_prompts"), "clipscore"] == 3
    assert ("c", "multimodal") not in scores.index
    means = descriptions.mean_scores(scores.reset_index(), {"clipscore": "C", "bertscore": "B"})
    own = means.set_index(["kind", "metric"]).loc[("multimodal", "clipscore")]
    assert own["value"] == pytest.approx((10 + 21) / 2) and own["n"] == 2 and own["encoder"] == "C"
    assert (own["low"], own["high"]) == (10, 21)
    assert descriptions.prompt_scores(scored)["kind"].tolist() == ["image", "image", "random"]


def test_every_picture_gets_the_neurons_of_another_one():
    names = [f"p{n}" for n in range(9)]
    for seed in range(5):
        partner = descriptions.other_pictures(names, seed)
        assert sorted(partner.values()) == names
        assert all(name != other for name, other in partner.items())
    assert descriptions.other_pictures(names, 0) != descriptions.other_pictures(names, 1)
    assert descriptions.other_pictures(names[:1], 0) == {}


def test_pictures_without_neurons_or_nouns():
    """One picture has neurons, so no other picture's can be its baseline."""
    captions = CAPTIONS.assign(group=["horse", "house", "thing"])
    captions["references"] = [["a horse"], ["here and there"], ["a dog"]]
    neurons = {"a": ["horse, dog"]}
    texts = descriptions.texts_to_score(captions, "A picture of", neurons, PROMPTS, seed=0)
    assert "random" not in set(texts["kind"])
    assert texts.loc[texts["kind"] == "coco_nouns", "picture_id"].tolist() == ["a", "c"]
    lacking = descriptions.left_out(captions, neurons, 100)
    assert lacking[["stage", "sample_id", "group", "reason"]].to_numpy().tolist() == [
        ["descriptions", "b", "house", "no-interpretable-units"],
        ["descriptions", "c", "thing", "no-interpretable-units"],
    ]
    assert set(lacking["detail"]) == {"none among the 100 best units"}
    assert descriptions.left_out(captions[:1], neurons, 100).empty


def test_ks_tests_are_scipys_on_the_table():
    rng = np.random.default_rng(0)
    kinds = {"image_prompts": 20, "random_prompts": 17, "coco_nouns": 20, "gpt": 20}
    scores = pd.concat(
        pd.DataFrame(
            {
                "kind": kind,
                "clipscore": rng.random(n) + 5 * (kind == "coco_nouns"),
                "bertscore": rng.random(n),
            }
        )
        for kind, n in kinds.items()
    )
    table = descriptions.ks_tests(scores).set_index(["first", "second", "metric"])
    assert len(table) == 6  # no neurons, so their test is left out
    for (first, second, metric), row in table.iterrows():
        one, other = (scores.loc[scores["kind"] == kind, metric] for kind in (first, second))
        # The largest difference of the two shares of values that are at most x.
        every = np.concatenate([one, other])
        d = max(abs((one <= x).mean() - (other <= x).mean()) for x in every)
        assert row["statistic"] == pytest.approx(d)
        assert row["p"] == ks_2samp(one, other).pvalue
        assert (row["n_first"], row["n_second"]) == (len(one), len(other))
    assert table.loc[("image_prompts", "coco_nouns", "clipscore"), "statistic"] == 1


def test_clipscore_is_torchmetrics(pictures):
    import torch
    from torchmetrics.functional.multimodal import clip_score
    from transformers import CLIPModel, CLIPProcessor

    from mmneurons.metrics.clipscore import ClipScorer

    folder = "resources/models/clip-world"
    texts = ["a red car on the beach.", "a bear", "red, car, bear, in, the, snow"]

    class Released(CLIPModel):
        """What torchmetrics asks for: features as tensors."""

        def get_text_features(self, *args):
            return super().get_text_features(*args).pooler_output

        def get_image_features(self, *args):
            return super().get_image_features(*args).pooler_output

    parts = Released.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    scorer = ClipScorer(folder, pictures[:3], batch_size=2)
    found = scorer.scores([0, 0, 1, 2, 2], [texts[0], texts[1], texts[1], texts[2], ""])
    for value, row, text in zip(
        found, (0, 0, 1, 2), (texts[0], *texts[1:2] * 2, texts[2]), strict=False
    ):
        pixels = torch.from_numpy(np.array(pictures[row])).permute(2, 0, 1)
        with torch.no_grad():
            expected = clip_score(pixels, text, lambda: parts).item()
        assert value == pytest.approx(expected, abs=1e-3)
    assert found[4] == 0 and len(scorer.scores([], [])) == 0


# ------------------------------------------------------------------------------ receptive fields


def test_the_field_is_what_is_above_the_percentile():
    values = np.zeros((4, 4))
    values[1, 2] = 1
    field = receptive_field(values, (40, 40), 95)
    # 1,600 pixels, of which 5 % are above: around the centre of the patch in row 1, column 2.
    assert abs(field.sum() - 80) <= 8
    rows, columns = np.nonzero(field)
    assert (rows.mean(), columns.mean()) == pytest.approx((14.5, 24.5), abs=0.3)
    assert not receptive_field(np.ones((4, 4)), (40, 40), 95).any()


def test_the_field_is_that_of_opencvs_bilinear_scaling():
    import cv2

    values = np.random.default_rng(0).random((14, 14)).astype(np.float32)
    scaled = cv2.resize(values, (224, 200), interpolation=cv2.INTER_LINEAR)
    expected = scaled > np.percentile(scaled, 95)
    assert (receptive_field(values, (200, 224), 95) != expected).mean() < 1e-3
    inside = receptive_field(values, (250, 300), 95, (20, 30, 244, 230))
    assert np.array_equal(inside[30:230, 20:244], receptive_field(values, (200, 224), 95))
    assert inside.sum() == inside[30:230, 20:244].sum()


def test_intersection_over_union_by_hand():
    a, b = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    assert iou(a, b) == 0
    a[:, :2], b[0, 1:] = True, True
    assert iou(a, b) == 1 / 6


def test_units_are_localised_by_their_maps():
    maps = np.zeros((5, 16), dtype=np.float16)
    maps[0, 5], maps[1, 10], maps[2, 0], maps[3, 15], maps[4, 5] = 1, 1, 1, 1, 1
    rows = pd.DataFrame(
        {
            "row": range(5),
            "picture_id": ["a", "a", "a", "b", "b"],
            "layer": 0,
            "unit": [1, 2, 3, 1, 9],
            "kind": ["multimodal", "multimodal", "random", "multimodal", "random"],
            "rank": [0, 1, 0, 0, 0],
        }
    )
    flags = pd.DataFrame(
        {
            "sample_id": ["a", "a", "b"],
            "layer": 0,
            "unit": [1, 2, 1],
            "interpretable": [True, False, True],
        }
    )
    masks = {
        "a": receptive_field(maps[0].reshape(4, 4), (40, 40), 95),
        "b": np.zeros((40, 40), bool),
    }
    pictures = pd.DataFrame({"picture_id": ["a", "b", "c"], "category": ["cat", "dog", "dog"]})
    boxes = {name: [0, 0, 40, 40] for name in "ab"}
    table = localise(pictures, rows, maps, (4, 4), boxes, flags, 95, masks.__getitem__)
    assert list(table) == list(TABLES["metrics/localisation"])
    own = table.set_index(["picture_id", "kind", "unit"])["iou"]
    assert own["a", "multimodal", 1] == 1 and own["a", "multimodal", 2] == 0
    assert own["a", "multimodal-mean", -1] == 1  # of the interpretable one
    assert (own["b"] == 0).all()
    means = iou_table(table).set_index(["category", "kind"])
    assert means.loc[("cat", "multimodal"), "value"] == 1
    assert means.loc[("cat", "all"), "value"] == 0.5
    assert means.loc[("", "multimodal"), ["value", "n"]].tolist() == [0.5, 2]


def localised():
    """Of a: two interpretable units of layer 0 and one of layer 1; of b: none; of c: no caption."""
    rows = [
        ("a", "cat", 0, 1, "multimodal", True, 0.8),
        ("a", "cat", 0, 2, "multimodal", True, 0.6),
        ("a", "cat", 1, 1, "multimodal", True, 0.1),
        ("a", "cat", 2, 1, "multimodal", False, 0.3),
        ("a", "cat", 0, 8, "random", False, 0.2),
        ("a", "cat", 0, 9, "random", False, 0.4),
        ("a", "cat", 1, 9, "random", False, 0.9),
        ("a", "cat", 2, 9, "random", False, 0.0),
        ("b", "dog", 2, 1, "multimodal", False, 0.5),
        ("b", "dog", 2, 9, "random", False, 0.7),
    ]
    columns = ["picture_id", "category", "layer", "unit", "kind", "interpretable", "iou"]
    return pd.DataFrame(rows, columns=columns).assign(rank=0)


def test_random_units_are_of_the_layers_of_the_interpretable_ones():
    means = iou_table(localised()).set_index(["category", "kind"])
    assert means.loc[("cat", "multimodal"), "value"] == pytest.approx((0.8 + 0.6 + 0.1) / 3)
    # Layer 0 twice, layer 1 once, layer 2 not at all.
    assert means.loc[("cat", "random"), "value"] == pytest.approx((0.3 + 0.3 + 0.9) / 3)
    assert means.loc[("", "random"), ["value", "n"]].tolist() == [pytest.approx(0.5), 1]
    assert means.loc[("", "multimodal"), "n"] == 1 and means.loc[("", "all"), "n"] == 2
    assert ("dog", "all") in means.index and ("dog", "random") not in means.index


def test_what_localisation_lacks_is_said():
    pictures = pd.DataFrame({"picture_id": list("abcd"), "category": ["cat", "dog", "dog", "owl"]})
    found = left_out(pictures, localised(), [4, 4])
    assert set(found["stage"]) == {"localisation"}
    assert found[["sample_id", "group", "reason"]].to_numpy().tolist() == [
        ["b", "dog", "no-interpretable-units"],
        ["", "dog", "no-picture"],
        ["", "owl", "no-picture"],
    ]
    assert found["detail"].iloc[1].startswith("1 of 2 have a noun")
    assert left_out(pictures[:1], localised(), [4, 4]).empty


def test_without_a_grid_nothing_is_localised():
    """The recording has no map then, and no row in its index."""
    columns = schwettmann.RECORDED["maps"]
    rows = pd.DataFrame(columns=list(columns)).astype(columns)
    flags = pd.DataFrame({"sample_id": ["a"], "layer": 0, "unit": 1, "interpretable": True})
    pictures = pd.DataFrame({"picture_id": ["a"], "category": ["cat"]})
    table = localise(pictures, rows, np.zeros((0, 0)), None, {}, flags, 95, lambda name: None)
    assert table.empty and iou_table(table).empty
    found = left_out(pictures, table, None)
    assert found[["sample_id", "group", "reason"]].to_numpy().tolist() == [["", "", "no-grid"]]


# ----------------------------------------------------------------------------------- selectivity


def test_pictures_to_evaluate_stay_in_the_order_of_the_seed():
    pictures = pd.DataFrame(
        {
            "picture_id": ["9", "5", "7", "2", "1"],
            "file": "f.jpg",
            "category": ["dog", "cat", "cat", "cat", "dog"],
            "part": ["evaluate", "evaluate", "identify", "evaluate", "evaluate"],
        }
    )
    found = evaluated_pictures(pictures)
    assert found["picture_id"].tolist() == ["5", "2", "9", "1"]
    assert list(found) == list(TABLES["metrics/selectivity_pictures"])


def test_selectivity_by_hand():
    pictures = pd.DataFrame(
        {
            "picture_id": ["a", "b", "c", "d"],
            "category": ["cat", "cat", "dog", "dog"],
            "part": ["identify", "identify", "identify", "evaluate"],
        }
    )
    units = pd.DataFrame(
        {
            "sample_id": ["a", "a", "a", "b", "b", "c", "d"],
            "layer": [0, 1, 0, 1, 1, 1, 0],
            "unit": [0, 1, 1, 1, 0, 0, 1],
            "rank": [0, 1, 2, 0, 9, 0, 0],
            "interpretable": [True, True, True, True, True, False, True],
        }
    )
    chosen = category_units(pictures, units, most=5, n_units=2)
    assert chosen.keys() == {"cat"}  # the dog's unit is not interpretable, d only evaluates
    assert chosen["cat"].to_numpy().tolist() == [[1, 1], [0, 0]]  # of two pictures, of one
    # Of two that are as frequent the one that stands higher, not the one with the lower number.
    even = units.assign(rank=[2, 1, 0, 3, 9, 0, 0])
    of_cat = category_units(pictures, even, most=5, n_units=3)["cat"].to_numpy().tolist()
    assert of_cat == [[1, 1], [0, 1], [0, 0]]
    sums = np.array([[4.0, 9, 9, 2], [1.0, 9, 9, 0], [9, 9, 9, 9]])
    table, left_out = selectivity_table(
        chosen, sums, np.array([2, 1, 0]), ["cat", "dog", "owl"], [0, 1], [2, 2]
    )
    assert table["pictures_of"].tolist() == ["cat", "dog"]
    assert table["activation"].tolist() == [(4 + 2) / 2 / 2, 0.5]
    assert table["value"].tolist() == [1, pytest.approx(0.5 / 1.5)]
    assert left_out[["group", "reason"]].to_numpy().tolist() == [
        ["dog", "no-interpretable-units"],
        ["owl", "no-picture"],
    ]
    counts = layer_counts(units, [0, 1, 2], most=5)
    assert counts["neurons"].tolist() == [2, 2, 0]
    assert counts["interpretable"].tolist() == [2, 1, 0]


def test_a_map_in_a_picture_of_another_size_is_the_same_field():
    values = np.random.default_rng(1).random((8, 8))
    small, large = receptive_field(values, (64, 64), 90), receptive_field(values, (128, 128), 90)
    shrunk = np.asarray(Image.fromarray(large).resize((64, 64), Image.Resampling.NEAREST))
    assert iou(small, shrunk) > 0.8
