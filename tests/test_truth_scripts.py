"""The truth benchmark from pictures to pages, by the scripts of its rules."""

import filecmp

import pandas as pd
import pytest
import truth_world

from mmneurons.artifacts.tables import read_table
from mmneurons.figures.truth import FIGURES, TABLES


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return truth_world.write(tmp_path_factory.mktemp("truth"))


def test_every_method_is_asked_on_every_kept_picture(made):
    standings, plantings = (read_table(made["record"][name]) for name in ("standings", "plantings"))
    assert plantings["planting"].tolist() == list(truth_world.PLANTINGS)
    assert (plantings["n_pictures"] > 0).all() and (plantings["n_units"] == 2304).all()
    rankings = standings.groupby(["planting", "method", "site"])["picture_id"].nunique()
    assert len(rankings) == 3 * (2 * 4 + 4)  # four methods at two sites, four at none
    kept = plantings.set_index("planting")["n_pictures"]
    assert (rankings == rankings.index.get_level_values("planting").map(kept) + 1).all()
    assert (standings["above"] + standings["tied"] <= 2304).all() and (standings["tied"] > 0).all()


def test_units_of_the_last_layer_are_not_seen_at_image_tokens(made):
    standings = read_table(made["record"]["standings"])
    last = standings[standings["planting"] == "cat-last"]
    entering = last[last["method"] == "two_stage"]
    # Two-stage filtering lets none of them in, so they share the end of its ranking.
    assert (entering["above"] + entering["tied"] == 2304).all()
    attributed = last[last["method"].str.startswith("attribution")]
    assert (attributed["tied"] >= 384).all()  # no gradient: all units of the layer have 0


@pytest.mark.parametrize("shards", [2, 4])  # of three plantings
def test_results_are_the_same_for_any_number_of_shards(made, shards, tmp_path):
    cut = truth_world.write(tmp_path, shards=shards)
    for part in ("record", "metrics"):
        for name, path in made[part].items():
            assert filecmp.cmp(path, cut[part][name], shallow=False), name


@pytest.mark.parametrize("item", [*FIGURES, *TABLES])
def test_items_are_drawn(made, item, tmp_path):
    files = truth_world.draw(made, item, tmp_path)
    if item != "exclusions":
        assert len(pd.read_csv(files["csv"])) > 0
    if "md" in files:
        assert truth_world.LABEL.split(" (")[0] in files["md"].read_text()
    else:
        again = truth_world.draw(made, item, tmp_path / "again")
        assert filecmp.cmp(files["svg"], again["svg"], shallow=False)
