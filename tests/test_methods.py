"""Scores and selections against the papers' formulas on small numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from mmneurons.methods.attribution import attribution, mean_over_patches
from mmneurons.methods.contribution import contribution, token_projection
from mmneurons.methods.selection import random_like, rank_selected, top_units
from mmneurons.methods.thresholds import ALPHAS, calibrate_alpha, tail_thresholds
from mmneurons.methods.two_stage import (
    activation_difference,
    gradient_activation,
    over_patches,
    select,
)
from mmneurons.methods.two_stage_selection import (
    NEURON_COLUMNS,
    automatic_thresholds,
    manual_thresholds,
    select_neurons,
    select_random,
    select_top,
)

# ------------------------------------------------------------------------------------- formulas


def test_two_stage_by_hand():
    """One layer, two image tokens, three units (Sato & Takagi 2025, II-B)."""
    original = torch.tensor([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])
    inpainted = torch.tensor([[2.0, -3.0, 3.0], [0.0, 5.0, -3.0]])
    gradient = torch.tensor([[-0.5, 0.25, 1.0], [2.0, -1.0, 0.5]])
    # Delta = O - I, signed: [[-1, 1, 0], [.5, -1, 2]].
    # g = O * dy/dO: [[-.5, -.5, 3], [1, -4, -.5]].
    delta = activation_difference(original, inpainted)
    assert delta.tolist() == [[-1, 1, 0], [0.5, -1, 2]]
    g = gradient_activation(original, gradient)
    assert g.tolist() == [[-0.5, -0.5, 3], [1, -4, -0.5]]
    assert over_patches(delta).tolist() == [0.5, 1, 2]
    assert over_patches(g).tolist() == [1, -0.5, 3]
    # Unit 0 exceeds 0.4 and 0.9 at patch 1, unit 2 at different patches, unit 1 fails stage 2.
    kept = select(over_patches(delta)[None], over_patches(g)[None], 0.4, 0.9)
    assert kept.tolist() == [[True, False, True]]


def test_thresholds_are_strict():
    difference, gradact = np.array([[2.0, 2.0, 2.5]]), np.array([[1.0, 0.0, 0.0]])
    assert select(difference, gradact, 1.9, 0.0).tolist() == [[True, False, False]]
    assert select(difference, gradact, 2.0, -1.0).tolist() == [[False, False, True]]
    assert select(difference, gradact, 2.0, 0.0).tolist() == [[False, False, False]]
    negative_zero = np.array([[-0.0]])
    assert not select(np.array([[1.0]]), negative_zero, 0.0, 0.0).any()


def test_attribution_by_hand():
    """g = Z * dy/dZ (Schwettmann et al. 2023, eq. 2), averaged over the image tokens."""
    pre, gradient = torch.tensor([[1.0, -2.0], [3.0, 4.0]]), torch.tensor([[2.0, 0.5], [-1.0, 0.0]])
    assert attribution(pre, gradient).tolist() == [[2, -1], [-3, 0]]
    assert mean_over_patches(attribution(pre, gradient)).tolist() == [-0.5, -0.5]


def test_contribution_by_hand():
    """s = o_i (W_out W_u)[i, t] (Pan et al. 2024, eq. 4 and 5)."""
    rows = torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 3.0]])  # units x hidden
    unembedding = torch.tensor([[1.0, 1.0], [0.0, 2.0], [5.0, 0.0], [-1.0, 1.0]])  # tokens x hidden
    projection = token_projection(rows, unembedding, torch.tensor([3, 0]))
    assert projection.tolist() == [[-1, 1], [-3, 1], [3, 3]]
    activation = torch.tensor([[2.0, 1.0, -1.0], [0.0, 1.0, 1.0]])
    assert contribution(activation, projection[:, 0]).tolist() == [[-2, -3, -3], [0, -3, 3]]
    half = token_projection(rows.half(), unembedding.half(), torch.tensor([3]))
    assert half.dtype == torch.float32


# -------------------------------------------------------------------------------------- ranking


def test_best_units_are_ranked_and_ties_go_to_the_lower_layer_and_unit():
    scores = np.array([[1.0, 3.0, 3.0], [3.0, -1.0, 5.0]])
    assert top_units(scores, 4).tolist() == [[1, 2], [0, 1], [0, 2], [1, 0]]
    assert top_units(scores, 1).tolist() == [[1, 2]]
    assert top_units(scores, 0).shape == (0, 2)
    assert top_units(scores, 100).tolist()[-1] == [1, 1]
    assert len(top_units(scores, 100)) == 6


def test_excluded_layers_give_no_unit():
    scores = np.array([[1.0, 2.0], [9.0, 8.0], [3.0, 0.0]])
    assert top_units(scores, 3, [1]).tolist() == [[2, 0], [0, 1], [0, 0]]
    assert len(top_units(scores, 9, [0, 1])) == 2


def test_not_a_number_has_no_rank():
    with pytest.raises(ValueError, match="not-a-number"):
        top_units(np.array([[1.0, np.nan]]), 1)
    # Infinities have one.
    assert top_units(np.array([[np.inf, 1.0, -np.inf]]), 3)[:, 1].tolist() == [0, 1, 2]


def test_selected_units_are_ranked_by_score():
    selected = np.array([[True, False, True], [True, True, False]])
    scores = np.array([[2.0, 9.0, 2.0], [7.0, -1.0, 9.0]])
    assert rank_selected(selected, scores).tolist() == [[1, 0], [0, 0], [0, 2], [1, 1]]
    assert rank_selected(np.zeros((2, 3), bool), scores).shape == (0, 2)


# --------------------------------------------------------------------------------------- random


def per_layer(neurons):
    return dict(
        zip(*map(np.ndarray.tolist, np.unique(neurons[:, 0], return_counts=True)), strict=True)
    )


def pairs(neurons):
    return set(map(tuple, neurons.tolist()))


def test_random_control_matches_layers_and_avoids_the_selected():
    neurons = np.array([[0, 3], [0, 7], [2, 1], [2, 2], [2, 9], [5, 0]])
    drawn = random_like(neurons, 10, np.random.default_rng(0))
    assert per_layer(drawn) == {0: 2, 2: 3, 5: 1}
    assert len(pairs(drawn)) == 6
    assert not pairs(drawn) & pairs(neurons)
    assert drawn[:, 1].min() >= 0
    assert drawn[:, 1].max() < 10


def test_random_control_takes_selected_units_only_where_others_are_used_up():
    neurons = np.array([[1, u] for u in range(7)])
    drawn = random_like(neurons, 10, np.random.default_rng(0))
    assert len(pairs(drawn)) == 7
    assert {(1, 7), (1, 8), (1, 9)} <= pairs(drawn)
    whole = np.array([[1, u] for u in range(10)])
    assert pairs(random_like(whole, 10, np.random.default_rng(0))) == pairs(whole)


def test_random_control_is_uniform_over_the_others():
    neurons = np.array([[0, 0]])
    rng = np.random.default_rng(0)
    counts = np.bincount([random_like(neurons, 5, rng)[0, 1] for _ in range(1000)], minlength=5)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 250).max() < 55  # four standard deviations


def test_random_control_is_fixed_by_its_generator():
    neurons = np.array([[0, u] for u in range(20)])
    draws = [random_like(neurons, 1000, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert random_like(np.empty((0, 2), np.int64), 10, np.random.default_rng(0)).shape == (0, 2)


def samples_and_neurons():
    samples = pd.DataFrame({"sample_id": ["b", "a", "c"], "group": ["car", "bear", "car"]})
    neurons = pd.DataFrame(
        {
            "sample_id": ["a"] * 4 + ["b"] * 3,
            "group": ["bear"] * 4 + ["car"] * 3,
            "layer": [0, 0, 1, 2, 2, 2, 2],
            "unit": [1, 2, 3, 4, 5, 6, 7],
        }
    )
    return samples, neurons


def test_random_tables_match_each_sample_and_seed():
    samples, neurons = samples_and_neurons()
    table = select_random(samples, neurons, 50, seeds=3, seed=7)
    assert table.columns.tolist() == [*NEURON_COLUMNS, "seed"]
    assert (table["score"] == 0).all()
    sizes = table.groupby(["sample_id", "seed"]).size()
    assert sizes.to_dict() == {(s, n): {"a": 4, "b": 3}[s] for s in "ab" for n in range(3)}
    for (sample_id, _), rows in table.groupby(["sample_id", "seed"]):
        own = neurons[neurons["sample_id"] == sample_id]
        assert sorted(rows["layer"]) == sorted(own["layer"])
        assert not pairs(rows[["layer", "unit"]].to_numpy()) & pairs(
            own[["layer", "unit"]].to_numpy()
        )
        assert rows["group"].tolist() == own["group"].tolist()
    draws = [frozenset(rows["unit"]) for _, rows in table.groupby(["sample_id", "seed"])]
    assert len(set(draws)) > 4


def test_random_tables_do_not_depend_on_the_other_samples():
    samples, neurons = samples_and_neurons()
    table = select_random(samples, neurons, 50, seeds=2, seed=7)
    for other_samples, other_neurons in (
        (samples.iloc[::-1], neurons.iloc[::-1]),
        (samples[samples["sample_id"] == "a"], neurons[neurons["sample_id"] == "a"]),
    ):
        other_samples = other_samples.reset_index(drop=True)
        other = select_random(other_samples, other_neurons, 50, seeds=2, seed=7)
        own, others = (
            t[t["sample_id"] == "a"].sort_values(["seed", "rank"], ignore_index=True)
            for t in (table, other)
        )
        pd.testing.assert_frame_equal(own, others)
    changed = select_random(samples, neurons, 50, seeds=2, seed=8)
    assert not table["unit"].equals(changed["unit"])


def test_random_table_of_empty_selections_is_empty():
    samples, neurons = samples_and_neurons()
    table = select_random(samples, neurons.iloc[:0], 50, seeds=2, seed=7)
    assert len(table) == 0
    assert table.columns.tolist() == [*NEURON_COLUMNS, "seed"]


# ------------------------------------------------------------------------------ automatic rule


def random_values(n, seed=0, layers=4, units=200):
    rng = np.random.default_rng(seed)
    difference = rng.normal(size=(n, layers, units)).astype(np.float32)
    gradact = (0.7 * difference + rng.normal(size=difference.shape)).astype(np.float32)
    gradact[:, -1] = 0  # the inert layer
    return difference, gradact


def roles(*names):
    n = len(names)
    return pd.DataFrame(
        {"sample_id": [f"s{i}" for i in range(n)], "group": ["car"] * n, "role": names}
    )


def test_tail_thresholds_leave_the_tail():
    difference = np.arange(100.0).reshape(2, 50)
    gradact = np.arange(-10.0, 90.0).reshape(2, 50)
    threshold_a, threshold_g = tail_thresholds(difference, gradact, 0.1)
    # One in ten of a hundred distinct values is above the ninth decile's upper neighbour.
    assert (difference > threshold_a).sum() in (9, 10)
    assert (gradact > threshold_g).sum() in (9, 10)
    assert threshold_a in difference
    assert threshold_g == threshold_a - 10


def test_threshold_of_the_gradient_is_never_below_zero():
    threshold_a, threshold_g = tail_thresholds(-np.ones((1, 9)), -np.ones((1, 9)), 0.5)
    assert (threshold_a, threshold_g) == (-1, 0)


def selected_share(difference, gradact, alpha):
    """By counting: above the upper alpha quantile of both, and never on a negative gradient."""
    flat_d, flat_g = np.sort(difference.ravel()), np.sort(gradact.ravel())
    place = int(np.ceil((1 - alpha) * (flat_d.size - 1) - 1e-9))
    return ((difference > flat_d[place]) & (gradact > max(flat_g[place], 0))).mean()


def test_alpha_is_the_smallest_whose_median_selects_enough():
    difference, gradact = (values[:, :-1] for values in random_values(5))
    calibration = list(zip(difference, gradact, strict=True))
    for share in (0.005, 0.02, 0.1):
        alpha, achieved = calibrate_alpha(calibration, share)
        medians = {a: np.median([selected_share(d, g, a) for d, g in calibration]) for a in ALPHAS}
        assert alpha == min(a for a in ALPHAS if medians[a] >= share)
        assert achieved == medians[alpha] >= share
        assert all(medians[a] < share for a in ALPHAS if a < alpha)
    assert (ALPHAS[0], ALPHAS[-1]) == (0.001, 0.5)
    assert (np.diff(ALPHAS) > 0).all()


def test_alpha_without_samples_or_without_enough_neurons_is_an_error():
    with pytest.raises(ValueError, match="no calibration sample"):
        calibrate_alpha([], 0.01)
    nothing = np.zeros((2, 10))
    with pytest.raises(ValueError, match="no tail share"):
        calibrate_alpha([(nothing, nothing)], 0.01)


def test_automatic_thresholds_never_select_an_inert_layer():
    difference, gradact = random_values(6)
    difference[:, -1] += 100  # far above every threshold of stage 1
    samples = roles(*["evaluation"] * 3, *["calibration"] * 3)
    thresholds, rule = automatic_thresholds(samples, difference, gradact, [3], 0.02)
    neurons, counted = select_neurons(thresholds, difference, gradact)
    assert set(neurons["layer"]) == {0, 1, 2}
    assert (counted["n_candidates"] >= 200 + counted["n_selected"]).all()
    assert rule["n_calibration"] == 3
    assert rule["share"] == 0.02
    assert rule["share_on_calibration"] >= 0.02
    # The inert layer's values do not move a threshold either.
    difference[:, -1] -= 1000
    again, _ = automatic_thresholds(samples, difference, gradact, [3], 0.02)
    pd.testing.assert_frame_equal(again, thresholds)


def test_evaluation_samples_do_not_influence_the_rule():
    difference, gradact = random_values(6)
    samples = roles(
        "evaluation", "calibration", "evaluation", "calibration", "evaluation", "calibration"
    )
    thresholds, rule = automatic_thresholds(samples, difference, gradact, [3], 0.02)
    other_d, other_g = random_values(6, seed=1)
    evaluation = (samples["role"] == "evaluation").to_numpy()
    changed_d, changed_g = difference.copy(), gradact.copy()
    changed_d[evaluation], changed_g[evaluation] = (
        50 * other_d[evaluation] ** 3,
        -other_g[evaluation],
    )
    changed, changed_rule = automatic_thresholds(samples, changed_d, changed_g, [3], 0.02)
    assert changed_rule == rule
    columns = ["threshold_a", "threshold_g"]
    pd.testing.assert_frame_equal(
        changed.loc[~evaluation, columns], thresholds.loc[~evaluation, columns]
    )
    assert (changed.loc[evaluation, columns] != thresholds.loc[evaluation, columns]).all(axis=None)
    # Calibration samples do: against their own gradients they select fewer, so alpha grows.
    changed_g[~evaluation] *= -1
    assert (
        automatic_thresholds(samples, changed_d, changed_g, [3], 0.02)[1]["alpha"] > rule["alpha"]
    )


def test_a_samples_scale_does_not_matter():
    difference, gradact = random_values(4)
    samples = roles(*["evaluation"] * 2, *["calibration"] * 2)
    thresholds, _ = automatic_thresholds(samples, difference, gradact, [3], 0.02)
    scaled, _ = automatic_thresholds(samples, 8 * difference, gradact / 1024, [3], 0.02)
    np.testing.assert_array_equal(scaled["threshold_a"], 8 * thresholds["threshold_a"])
    np.testing.assert_array_equal(scaled["threshold_g"], thresholds["threshold_g"] / 1024)
    selected = [
        select_neurons(*parts)[0][["layer", "unit"]]
        for parts in ((thresholds, difference, gradact), (scaled, 8 * difference, gradact / 1024))
    ]
    pd.testing.assert_frame_equal(*selected)


# ------------------------------------------------------------------------------ manual thresholds


def test_manual_thresholds_by_object_and_by_sample():
    samples = pd.DataFrame(
        {
            "sample_id": ["1-fire_hydrant", "2-fire_hydrant", "3-bed"],
            "group": ["fire hydrant", "fire hydrant", "bed"],
            "role": ["evaluation", "calibration", "evaluation"],
        }
    )
    table = pd.DataFrame(
        {
            "object": ["bed", "fire hydrant", "fire hydrant", "cake"],
            "threshold_a": [1.5, 1.5, 9.0, 1.25],
            "threshold_g": [5e-4, 5e-4, 0.0, 3e-4],
        }
    )
    own = table.assign(sample_id=[None, None, "2-fire_hydrant", None])
    result = manual_thresholds(samples, own)
    assert result[["threshold_a", "threshold_g"]].to_numpy().tolist() == [
        [1.5, 5e-4],
        [9.0, 0.0],
        [1.5, 5e-4],
    ]
    assert result["sample_id"].tolist() == samples["sample_id"].tolist()
    assert result["role"].tolist() == samples["role"].tolist()
    without = manual_thresholds(samples, table.drop(index=2))
    assert without["threshold_a"].tolist() == [1.5, 1.5, 1.5]


def test_objects_without_manual_thresholds_are_named():
    samples = pd.DataFrame(
        {
            "sample_id": ["1", "2", "3", "4"],
            "group": ["tie", "bed", "cup", "dog"],
            "role": ["evaluation"] * 4,
        }
    )
    table = pd.DataFrame(
        {
            "object": ["bed", "dog"],
            "threshold_a": [1.0, 2.0],
            "threshold_g": [0.0, 0.1],
            "sample_id": [None, "4"],
        }
    )
    with pytest.raises(ValueError, match="cup, tie$"):
        manual_thresholds(samples, table)
    # A sample with its own row needs none for its object.
    result = manual_thresholds(samples[samples["group"].isin(["bed", "dog"])], table)
    assert result["threshold_a"].tolist() == [1.0, 2.0]


# ---------------------------------------------------------------------------------- whole tables


def test_selection_table_by_hand():
    difference = np.array([[[3.0, 1.0, 2.0], [5.0, 0.0, 2.0]], [[0.0] * 3] * 2], np.float32)
    gradact = np.array([[[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]], [[1.0] * 3] * 2], np.float32)
    thresholds = roles("evaluation", "calibration").assign(
        threshold_a=[1.5, 0.0], threshold_g=[0.0, 0.0]
    )
    neurons, counted = select_neurons(thresholds, difference, gradact)
    assert neurons.columns.tolist() == NEURON_COLUMNS
    assert neurons.to_numpy().tolist() == [
        ["s0", "car", "language", 0, 0, 3.0, 0],
        ["s0", "car", "language", 0, 2, 2.0, 1],
        ["s0", "car", "language", 1, 2, 2.0, 2],
    ]
    assert counted["n_candidates"].tolist() == [4, 0]
    assert counted["n_selected"].tolist() == [3, 0]
    assert "n_selected" not in thresholds


def test_selection_that_finds_nothing_is_an_empty_table():
    zeros = np.zeros((2, 2, 3), np.float32)
    thresholds = roles("evaluation", "evaluation").assign(threshold_a=1.0, threshold_g=0.0)
    neurons, counted = select_neurons(thresholds, zeros, zeros)
    assert len(neurons) == 0
    assert neurons.columns.tolist() == NEURON_COLUMNS
    assert counted["n_selected"].tolist() == [0, 0]
    baseline = select_top(thresholds, zeros, {"s0": 0, "s1": 0})
    assert baseline.dtypes.to_dict() == neurons.dtypes.to_dict()


def test_selection_from_values_without_a_number_is_an_error():
    """They exceed no threshold, and would pass for a sample without neurons."""
    values = np.ones((1, 2, 3), np.float32)
    broken = values.copy()
    broken[0, 1, 1] = np.nan
    thresholds = roles("evaluation").assign(threshold_a=0.0, threshold_g=0.0)
    for pair in ((broken, values), (values, broken)):
        with pytest.raises(ValueError, match="not-a-number"):
            select_neurons(thresholds, *pair)


def test_baselines_take_as_many_as_were_selected():
    scores = np.array([[[3.0, 1.0], [5.0, 4.0]], [[1.0, 2.0], [9.0, 9.0]]], np.float32)
    samples = roles("evaluation", "evaluation")
    table = select_top(samples, scores, {"s0": 3, "s1": 1})
    assert table[["sample_id", "layer", "unit", "score", "rank"]].to_numpy().tolist() == [
        ["s0", 1, 0, 5.0, 0],
        ["s0", 1, 1, 4.0, 1],
        ["s0", 0, 0, 3.0, 2],
        ["s1", 1, 0, 9.0, 0],
    ]
    without = select_top(samples, scores, {"s0": 1, "s1": 2}, [1])
    assert without[["layer", "unit"]].to_numpy().tolist() == [[0, 0], [0, 1], [0, 0]]
