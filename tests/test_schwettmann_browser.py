"""What the neuron browser shows of Schwettmann et al. 2023, from made-up `schwettmann_world`."""

import json
import re

import numpy as np
import pytest
import schwettmann_world as world
from PIL import Image
from schwettmann_world import IDS, KS, LAYERS, MODEL, TOP, UNITS

from mmneurons.artifacts.tables import read_table
from mmneurons.browser import schwettmann
from mmneurons.browser.run import read_parts
from mmneurons.browser.site import write_site

PAIRS = 12
NAMES = ("captions", "units", "maps", "index", "ablated", "ablation", "iou", "exclusions")


def read(folder, paths):
    """The part, read as the workflow's script does."""
    inputs = {f"schwettmann_{name}": paths[name] for name in NAMES}
    options = {"dataset": "coco", "dataset_label": world.DATASET, "root": str(folder)}
    part = {"paper": "schwettmann", "model": "one", "label": MODEL}
    tokens = {"one": read_table(paths["tokens"])}
    return read_parts(inputs, [part | {"options": options | {"pairs": PAIRS}}], tokens)[0], tokens


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schwettmann")
    paths = world.write(folder)
    for name, _, _ in world.EVERY:
        Image.new("RGB", world.SIDES, "gray").save(folder / f"{name}.png")
    return (folder, paths, *read(folder, paths))


def test_neurons_are_the_best_units_the_interpretable_ones_and_random_ones(made):
    _, _, part, _ = made
    own = part.found[part.found["sample_id"] == IDS[0]]
    every = own[own["method"] == schwettmann.ALL]
    assert [(r.layer, r.unit) for r in every.itertuples()] == world.best(IDS[0])[:PAIRS]
    words = own[own["method"] == schwettmann.INTERPRETABLE]
    kept = [(layer, unit) for layer, unit in world.best(IDS[0])[:PAIRS] if unit % 2 == 0]
    assert [(r.layer, r.unit) for r in words.itertuples()] == kept
    assert words["rank"].tolist() == list(range(len(kept)))
    drawn = own[own["method"] == schwettmann.RANDOM]
    assert len(drawn) == TOP and set(drawn["rank"]) == {-1} and set(drawn["group"]) == {"dog"}
    assert part.layers == {"language": [UNITS] * LAYERS}


def test_maps_are_those_of_the_best_units_and_their_means(made):
    _, _, part, _ = made
    maps = part.maps[IDS[1]]
    assert maps.neurons == world.best(IDS[1])[:TOP]
    expected = np.zeros((TOP, world.PATCHES))
    expected[np.arange(TOP), 8 + np.arange(TOP)] = TOP - np.arange(TOP)
    np.testing.assert_allclose(maps.values, expected)
    assert [name for name, _ in maps.means] == [
        "mean of the 5 best units",
        "mean of the 8 best units",
    ]
    np.testing.assert_allclose(maps.means[0][1], expected[:5].mean(axis=0), atol=1e-6)


def test_effects_are_what_is_lost_beside_random_units(made):
    _, _, part, _ = made
    own = part.effects.query("key == @IDS[0] and method == @schwettmann.ALL").iloc[0]
    most = max(KS)
    assert own["best"] == most and str(most) in part.measures[own["measure"]]
    assert own["value"] == pytest.approx(1 - world.probability("all", most) / 0.8)
    assert own["control"] == pytest.approx(1 - world.probability("random", most) / 0.8)
    assert (own["n"], own["n_control"]) == (1, 2)
    rates = part.rates.set_index(["what", "method"])["value"]
    (overlap,) = {what for what, _ in rates.index if "intersection" in what}
    assert rates[overlap, schwettmann.INTERPRETABLE] == 0.2
    assert rates[overlap, schwettmann.ALL] == 0.15
    (last,) = {what for what, _ in rates.index if f"of {most} units" in what}
    assert rates[last, schwettmann.ALL] == pytest.approx(world.probability("all", most) / 0.8)


def test_the_first_noun_of_a_caption_leads_to_its_neurons(made):
    _, _, part, _ = made
    view = next(view for view in part.views if view.samples == [IDS[0]])
    assert [(piece, name) for piece, name in view.text if name] == [("dog", IDS[0])]
    assert "".join(piece for piece, _ in view.text) == world.caption("dog")
    assert view.shown.read().size == (world.BOX[2] - world.BOX[0], world.BOX[3] - world.BOX[1])
    again = schwettmann._pieces("a dog and a dog", "dog", "s")
    assert [name for _, name in again] == ["", "s", "", ""]


def test_a_site_is_written_with_and_without_maps(made, tmp_path):
    folder, paths, part, tokens = made
    write_site(tmp_path / "site", "run", [part], tokens, neurons=20, pictures=4)
    text = (tmp_path / "site" / "data" / "index.js").read_text("ascii")
    index = json.loads(re.fullmatch(r"mmneurons\(\"index\",(.*)\);\n", text, re.DOTALL)[1])
    assert index["papers"]["schwettmann"] == "Schwettmann et al. 2023"
    assert index["models"][0]["neurons"] == 20
    world.maps(folder / "none.safetensors", grid=None)
    part, _ = read(folder, paths | {"maps": str(folder / "none.safetensors")})
    assert part.maps == {} and "no place on the picture" in part.no_maps
    write_site(tmp_path / "none", "run", [part], tokens, neurons=20, pictures=4)
