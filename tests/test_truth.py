"""The truth benchmark: plantings, standings in rankings, and the measures that follow."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mmneurons.figures.truth import places_data, recall_data
from mmneurons.methods.placing import standing
from mmneurons.metrics import truth


def test_standing_by_hand():
    scores = np.array([[0.5, 2.0, -np.inf], [0.5, 3.0, 0.5]])
    above, tied = standing(scores, np.array([(1, 1), (0, 0), (0, 2)]))
    assert above.tolist() == [0, 2, 5]
    assert tied.tolist() == [1, 3, 1]
    with pytest.raises(ValueError, match="not-a-number"):
        standing(np.array([[np.nan, 1.0]]), np.array([(0, 0)]))


def test_recall_and_precision_by_hand():
    # Ten neurons, three planted: the best one, and two among four that share places 3 to 6.
    above, tied = np.array([0, 2, 2]), np.array([1, 4, 4])
    assert truth.recall_at(above, tied, 3) == pytest.approx((1 + 1 / 4 + 1 / 4) / 3)
    assert truth.precision_at(above, tied, 3) == truth.recall_at(above, tied, 3)
    assert truth.precision_at(above, tied, 6) == pytest.approx(3 / 6)
    assert truth.recall_at(above, tied, 2) == pytest.approx(1 / 3)
    # One of two at place 3, 4, 5 or 6, behind one planted and behind the other 0 to 3 times in 3.
    within = np.mean([(2 + ahead / 3) / (3 + ahead) for ahead in range(4)])
    assert truth.average_precision(above, tied) == pytest.approx((1 + 2 * within) / 3)


@pytest.mark.parametrize("levels", [3, 20, 100000])
def test_area_is_that_of_scikit_learn(levels):
    # Few levels make many ties.
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, (6, 40)).astype(np.float32)
    units = np.stack(np.unravel_index(rng.choice(240, 8, replace=False), (6, 40)), axis=1)
    planted = np.zeros((6, 40), bool)
    planted[tuple(units.T)] = True
    above, tied = standing(scores, units)
    assert truth.auc(above, tied, 240) == pytest.approx(
        roc_auc_score(planted.ravel(), scores.ravel())
    )
    if levels > 1000:
        assert truth.average_precision(above, tied) == pytest.approx(
            average_precision_score(planted.ravel(), scores.ravel())
        )


@pytest.mark.parametrize("scores", [[2, 1, 1, 1, 0, 0, 0], [1] * 7, [3, 3, 2, 2, 2, 1, 1]])
def test_average_precision_of_ties_is_the_mean_over_all_their_orders(scores):
    units = np.array([(0, 1), (0, 3), (0, 5)])
    planted = np.isin(np.arange(7), units[:, 1])
    above, tied = standing(np.array([scores], np.float32), units)
    # scikit-learn would count all of a tie as reached at its end, so it gets every order.
    orders = [np.array(scores) + np.array(order) / 10 for order in permutations(range(7))]
    mean = np.mean([average_precision_score(planted, order) for order in orders])
    assert truth.average_precision(above, tied) == pytest.approx(mean)


def test_chance_is_what_random_orders_give():
    rng = np.random.default_rng(0)
    units = np.array([(0, unit) for unit in range(4)])
    found = [standing(rng.random((2, 30)), units) for _ in range(4000)]
    mean = np.mean([truth.average_precision(*places) for places in found])
    assert mean == pytest.approx(truth.chance_average_precision(4, 60), rel=0.04)
    assert np.mean([truth.recall_at(*places, 4) for places in found]) == pytest.approx(
        4 / 60, rel=0.08
    )
    # Without any order, chance is exact.
    above, tied = standing(np.zeros((2, 30)), units)
    assert truth.recall_at(above, tied, 4) == pytest.approx(4 / 60)
    assert truth.auc(above, tied, 60) == 0.5


def made_up():
    """Two plantings and a control of 2 units each among 10; a perfect method and a blind one."""
    plantings = pd.DataFrame(
        {
            "planting": ["a", "b", "c"],
            "object": ["cake", "surfboard", ""],
            "place": ["early", "last", "last"],
            "m": 2,
            "seed": 0,
            "n_units": 10,
        }
    )
    rows = []
    for name, layer in (("a", 1), ("b", 5), ("c", 5)):
        for picture in ("one", "two", ""):
            rows += [(name, picture, "perfect", "act", layer, u, u, 1) for u in range(2)]
            rows += [(name, picture, "blind", "", layer, u, 0, 10) for u in range(2)]
    columns = ["planting", "picture_id", "method", "site", "layer", "unit", "above", "tied"]
    return pd.DataFrame(rows, columns=columns), plantings


def test_summary_by_hand():
    standings, plantings = made_up()
    scores = truth.of_plantings(truth.score_rankings(standings, plantings))
    assert len(scores) == 3 * 2 * 2 and set(scores["n_pictures"]) == {2}
    summary = truth.summarise(scores, standings, plantings)
    of = summary.set_index(["breakdown", "group", "method", "ranking", "measure"])
    perfect = of.loc[("all", "all", "perfect", "picture", "recall")]
    assert perfect["value"] == perfect["low"] == perfect["high"] == 1
    assert perfect["chance"] == 0.2 and perfect["n_plantings"] == 2
    assert of.loc[("all", "all", "blind", "all", "recall"), "value"] == pytest.approx(0.2)
    assert of.loc[("all", "all", "blind", "all", "auc"), "value"] == 0.5
    assert of.loc[("control", "control", "perfect", "all", "recall"), "n_plantings"] == 1
    assert of.loc[("layer", "5", "blind", "picture", "recall"), "value"] == pytest.approx(0.2)
    assert set(summary.loc[summary["breakdown"] == "place", "group"]) == {"early", "last"}
    # With one planting there is no interval.
    assert np.isnan(of.loc[("place", "early", "perfect", "all", "recall"), "low"])


def test_methods_without_a_name_stand_last_and_numbers_by_their_size():
    """As docs/comparison.md promises of a method of one's own."""
    standings, plantings = made_up()
    more = standings.assign(method="random", site="")
    standings = pd.concat([standings, more[standings["method"] == "blind"]])
    scores = truth.of_plantings(truth.score_rankings(standings, plantings))
    summary = truth.summarise(scores, standings, plantings)
    summary.insert(0, "model", pd.Categorical(["tiny"] * len(summary)))
    of_m = summary["breakdown"] == "m"
    of_16 = summary[of_m].assign(group="16")
    data = places_data(pd.concat([of_16, summary.replace({"group": {"2": "4"}})]))
    numbers = data[data["breakdown"] == "m"]
    assert numbers["group"].drop_duplicates().tolist() == ["4", "16"]
    assert numbers["method"].tolist() == ["random", "blind", "perfect"] * 2
    assert recall_data(summary)["method"].unique().tolist() == ["random", "blind", "perfect"]


def test_curves_grow_to_everything():
    standings, plantings = made_up()
    curves = truth.recall_curves(standings, plantings)
    own = curves[(curves["place"] == "all") & (curves["method"] == "blind")]
    assert own["value"].is_monotonic_increasing
    assert own["value"].tolist() == pytest.approx(own["share"].tolist())
    assert set(curves["place"]) == {"early", "last", "all"}
