"""Figures and tables of the comparison, drawn from made-up numbers of which every one is known."""

import numpy as np
import pandas as pd
import pytest
from figure_checks import assert_readable, markdown_rows, words

from mmneurons.figures import comparison
from mmneurons.figures.comparison_items import draw_figure, set_table
from mmneurons.figures.comparison_tables import CONTROL, DIFFERENCE
from mmneurons.figures.inputs import by_model
from mmneurons.figures.tables import DASH
from mmneurons.metrics.comparison import (
    AGREEMENT_COLUMNS,
    ALL_MODELS,
    CELL_COLUMNS,
    MEASURES,
    summary,
)

MODELS = ["LLaVA of a made-up world (tiny)", "mPLUG-Owl2 of a made-up world (tiny)"]
METHODS = {"contribution": "contribution (Pan et al.)", "dape": "DAPE (Huo et al.)"}
GROUPS = ["bear", "bus", "pizza"]
CAPTION = "What is shown.\nAll of it,\nin two lines."
MAIN = ["noise.score", "edit.success", "localisation"]


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    rows = [
        (model, method, measure, group, rng.random(), 4, rng.random())
        for model in MODELS
        for method in METHODS
        for measure in MEASURES
        for group in GROUPS
    ]
    cells = pd.DataFrame(rows, columns=["model", *CELL_COLUMNS])
    # The second model has no places on the picture, and no DAPE at all.
    bare = cells["model"] == MODELS[1]
    no_place = bare & (cells["measure"] == "localisation")
    cells.loc[no_place, ["value", "n", "control"]] = np.nan, 0, np.nan
    cells = cells[~(bare & (cells["method"] == "dape"))]
    pairs = [
        (one, other, group, 1.0 if one == other else 0.25, 1.0 if one == other else 0.75)
        for one in METHODS
        for other in METHODS
        for group in GROUPS
    ]
    agreement = pd.DataFrame(pairs, columns=list(AGREEMENT_COLUMNS))
    layers = pd.DataFrame(
        {
            "method": ["contribution"] * 2 + ["dape"] * 2,
            "layer": [0, 1] * 2,
            "share": [0.2, 0.8, 1, 0],
        }
    )
    capabilities = pd.DataFrame(
        {
            "kind": ["method", "method", "measure"],
            "name": ["contribution", "dape", "localisation"],
            "needs": ["sites", "sites concepts", "sites patches"],
            "runs": [True, False, False],
            "reason": [np.nan, "one concept", "no place"],
        }
    )
    costs = pd.DataFrame(
        {
            "method": list(METHODS),
            "seconds": [0.5, 0.25],
            "bytes": [1_500_000, 2_000_000],
            "n_samples": 8,
        }
    )
    valid = pd.DataFrame({"sample_id": ["a", "b", "c"], "group": GROUPS})
    left_out = pd.DataFrame(
        [("validity", "d", "bear", "original-does-not-name", "grass | sky")],
        columns=["stage", "sample_id", "group", "reason", "detail"],
    )
    of_both = {"agreement": agreement, "layers": layers, "capabilities": capabilities}
    of_both |= {"costs": costs, "counted": valid, "exclusions": left_out}
    return {"summary": summary(cells)} | {
        name: by_model(MODELS, [table, table]) for name, table in of_both.items()
    }


def draw(item, inputs, **style):
    options = {"measures": MAIN} if item in ("figure1", "figureS1", "figureS2") else {}
    return draw_figure(
        item, inputs, options, METHODS, MODELS, "drawn pictures", "A title", CAPTION, style
    )


def table(item, inputs):
    options = {"measures": MAIN} if item == "table1" else {}
    return set_table(item, inputs, options, METHODS, MODELS, "drawn pictures", "A title", CAPTION)


@pytest.mark.parametrize("item", ["figure1", "figureS3", "figureS4"])
def test_figures_are_readable_and_say_what_they_rest_on(item, inputs):
    _, figure = draw(item, inputs)
    assert_readable(figure)
    said = words(figure)
    assert "A title" in said and "All of it, in two lines." in " ".join(said.split())
    for word in ("drawn pictures", "original-does-not-name", "contribution", "DAPE"):
        assert word in said


def test_what_is_drawn_is_what_was_measured(inputs):
    data, figure = draw("figure1", inputs)
    assert len(data) == 3 * 2 * 3
    panel = figure.axes[0]  # noise.score
    points = {(round(y, 2), x) for line in panel.lines for x, y in [*line.get_xydata()]}
    own = data[(data["measure"] == "noise.score") & (data["model"] == ALL_MODELS)]
    for row, value in enumerate(own["value"]):
        assert (float(row), value) in points
        assert {(float(row), own["low"].iloc[row]), (float(row), own["high"].iloc[row])} <= points
        assert (round(row + 0.33, 2), own["control"].iloc[row]) in points
    assert [label.get_text() for label in panel.get_yticklabels()] == ["contribution", "DAPE"]


def test_the_matrix_has_overlap_above_and_rank_overlap_below(inputs):
    data, figure = draw("figureS3", inputs)
    assert set(data["n_groups"]) == {3}
    matrix = figure.axes[0].images[0].get_array()
    assert matrix[0, 1] == 0.25 and matrix[1, 0] == 0.75
    assert np.ma.getmaskarray(np.ma.masked_invalid(matrix)).diagonal().all()


def test_table_of_measures(inputs):
    data, page = table("table1", inputs)
    assert "## Mean over models" in page and "## LLaVA\n" in page
    rows = [row for row in markdown_rows(page) if "---" not in row[0]]
    heads = [row for row in rows if row[0] == "method"]
    assert heads[0] == [
        "method",
        "noise: score",
        "edit: success",
        "localisation (IoU)",
        "concepts",
        "models",
    ]
    last = rows[-1]
    # The second model has no DAPE.
    assert last == ["DAPE (Huo et al.)", DASH, DASH, DASH, "0"]
    found = data[(data["model"] == MODELS[0]) & (data["method"] == "contribution")]
    value, low, high = found[["value", "low", "high"]].iloc[0]
    assert f"{value:.2f} [{low:.2f}, {high:.2f}]" in page
    # Under the method its control and the difference, of the same measures.
    kinds = [row[0] for row in rows[:4]]
    assert kinds == ["method", "contribution (Pan et al.)", CONTROL, DIFFERENCE]
    own = data[(data["model"] == ALL_MODELS) & (data["method"] == "contribution")]
    ends = own[["control", "control_low", "control_high"]].to_numpy()
    assert rows[2][1:4] == [f"{c:.2f} [{low:.2f}, {high:.2f}]" for c, low, high in ends]
    ends = own[["difference", "difference_low", "difference_high"]].to_numpy()
    assert rows[3][1:4] == [f"{d:.2f} [{low:.2f}, {high:.2f}]" for d, low, high in ends]
    assert rows[1][4:] == ["3", "1 to 2"] and rows[4][4:] == ["3", "1"]


def test_tables_of_costs_capabilities_and_exclusions(inputs):
    data, page = table("tableS2", inputs)
    assert data["relative"].tolist() == [2, 1, 2, 1]
    assert ["contribution (Pan et al.)", "0.5000", "2.0", "1.5", "8"] in markdown_rows(page)
    _, page = table("tableS3", inputs)
    assert ["method DAPE (Huo et al.)", "sites concepts", "one concept", "one concept"] in (
        markdown_rows(page)
    )
    assert ["method contribution (Pan et al.)", "sites", "yes", "yes"] in markdown_rows(page)
    _, page = table("exclusions", inputs)
    assert r"grass \| sky" in page


def test_a_measure_that_no_model_has_is_said(inputs):
    none = inputs["summary"].assign(value=np.nan, low=np.nan, high=np.nan)
    _, figure = draw("figure1", inputs | {"summary": none})
    assert words(figure).count(comparison.EMPTY) == 3
    _, page = table("table1", inputs | {"summary": none})
    assert f"| {DASH}" in page


@pytest.mark.parametrize("whose", [[MODELS[1]], MODELS])
def test_models_that_carry_nothing_leave_the_others_drawn(inputs, whose):
    """Their tables have no row; what CSV makes of those has no types either."""
    bare = {
        name: table[~table["model"].isin(whose)]
        for name, table in inputs.items()
        if name != "capabilities"
    }
    if whose == MODELS:
        bare["summary"] = pd.DataFrame(columns=inputs["summary"].columns)
    else:
        alone = bare["summary"][bare["summary"]["model"] != ALL_MODELS]
        bare["summary"] = pd.concat([alone, alone.assign(model=ALL_MODELS)])
    inputs = inputs | bare
    for item in ("figure1", "figureS1", "figureS2", "figureS3", "figureS4"):
        data, figure = draw(item, inputs)
        assert_readable(figure)
        assert len(data) or whose == MODELS
    for item in ("table1", "tableS2", "tableS3", "exclusions"):
        _, page = table(item, inputs)
        assert "LLaVA, mPLUG-Owl2 of a made-up world" in page
