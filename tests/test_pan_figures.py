"""Figures and tables of Pan et al. 2024, drawn from artifacts made up in `pan_world`."""

import json

import figure_checks
import numpy as np
import pan_world as world
import pandas as pd
import pytest
from figure_checks import assert_readable, markdown_rows, texts, words
from pan_world import BLIP, FIRST, FOURTH, LLAVA, MODELS, OWL, SECOND, THIRD, TOP_K
from PIL import Image

from mmneurons.artifacts.tables import read_table, write_csv, write_table
from mmneurons.artifacts.tensors import TensorFile, write_tensors
from mmneurons.figures import (
    pan,
    pan_changes,
    pan_matrices,
    pan_pictures,
    pan_supplement,
    pan_tables,
    pictures,
    style,
)
from mmneurons.figures.inputs import by_model, read_inputs
from mmneurons.figures.pan_inputs import choose_pictures
from mmneurons.figures.pan_items import FIGURES, TABLES
from mmneurons.figures.shown import left_out_of_models, models_source, short_names
from mmneurons.figures.tables import DASH


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return world.write(tmp_path_factory.mktemp("pan"))


@pytest.fixture(scope="module")
def tables(paths):
    named = {name: path for name, path in paths.items() if name != "maps"}
    return read_inputs(named, MODELS)


@pytest.fixture(scope="module")
def source(tables):
    return models_source(MODELS, "drawn pictures", tables["concepts"], tables["exclusions"])


# ------------------------------------------------------------------------------------ what is shown


def test_pictures_are_chosen_by_order_and_by_two_concepts_in_every_model(tables):
    # The first picture has one concept in the third model, the fourth one in all.
    chosen = choose_pictures(tables["pictures"], tables["concepts"], most=9)
    assert chosen == [SECOND, THIRD]
    assert choose_pictures(tables["pictures"], tables["concepts"], skip=1) == [THIRD]
    one = tables["concepts"][tables["concepts"]["model"] == LLAVA]
    # A model without any concept is not passed over.
    assert choose_pictures(tables["pictures"], one, most=9) == []
    alone = by_model([LLAVA], [world.concepts(LLAVA)])
    assert choose_pictures(tables["pictures"], alone, most=9) == [FIRST, SECOND, THIRD]


def test_the_source_counts_concepts_and_what_was_left_out_of_each_model(source, tables):
    assert str(source) == (
        "Model: LLaVA, InstructBLIP, mPLUG-Owl2 of a made-up world (tiny). Data: drawn pictures. "
        "n = 8 (LLaVA), 7 (InstructBLIP), 6 (mPLUG-Owl2) concepts in the captions of 4 pictures. "
        "Left out: for every model: 1 no-picture, 1 placeholder; LLaVA: nothing; InstructBLIP: 1 "
        "not-generated; mPLUG-Owl2: nothing."
    )
    assert left_out_of_models(["A"], tables["exclusions"].iloc[:0]) == "A: nothing"
    # Of one model nothing is said twice.
    own = tables["exclusions"][tables["exclusions"]["model"] == BLIP]
    said = "InstructBLIP of a made-up world: 1 no-picture, 1 not-generated, 1 placeholder"
    assert left_out_of_models([BLIP], own) == said
    assert short_names(["LLaVA (7B)", "LLaVA (13B)"])["LLaVA (7B)"] == "LLaVA (7B)"


# ------------------------------------------------------------------------------------ figures


def test_figure2_counts_different_neurons(source):
    rows = [("a", 0, 3, 0), ("a", 2, 1, 1), ("b", 0, 3, 0), ("b", 0, 4, 1), ("b", 1, 9, 2)]
    table = pd.DataFrame(rows, columns=["sample_id", "layer", "unit", "rank"])
    data = pan.layers_data(by_model([LLAVA, OWL], [table, table.iloc[:0]]), [1, 2])
    # Neuron (0, 3) is the best of both samples and counts once; layer 1 has none of the two best.
    assert data["neurons"].tolist() == [1, 0, 0, 2, 0, 1]
    assert data["k"].tolist() == [1, 1, 1, 2, 2, 2] and set(data["model"]) == {LLAVA}
    figure = pan.layers_figure(data, source)
    curves = [line.get_ydata().tolist() for line in figure.axes[0].lines]
    assert curves == [[1, 0, 0], [2, 0, 1]]
    assert "no neuron was recorded" in words(figure)
    assert_readable(figure)


def test_figure2_has_no_curve_for_more_neurons_than_were_recorded(tables):
    few = tables["act"].query("model != @OWL or rank < 5")
    data = pan.layers_data(few, [1, 5, 6, 10, 11])
    ks = data.groupby("model", observed=True)["k"].unique()
    assert {model: found.tolist() for model, found in ks.items()} == {
        LLAVA: [1, 5, 6, 10],
        BLIP: [1, 5, 6, 10],
        OWL: [1, 5],
    }


def test_figure3_draws_both_methods_with_chance(tables, source):
    data = pan.invariance_data(tables["invariance"], "act", dict.fromkeys(MODELS, 160))
    assert set(data["method"]) == {"contribution", "attribution"}
    own = data[(data["model"] == BLIP) & (data["method"] == "contribution")]
    np.testing.assert_allclose(own["value"], [0.875, 0.775, 0.65])
    np.testing.assert_allclose(own["chance"], [1 / 160, 5 / 160, 10 / 160])
    figure = pan.invariance_figure(data, source)
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.875, 0.775, 0.65])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [0.575, 0.475, 0.35])
    colours = [line.get_color() for line in axes.lines[:2]]
    assert colours == [style.METHOD_COLOURS[name] for name in ("contribution", "attribution")]
    assert "no concept is in both captions" in words(figure)
    assert "two random selections" in words(figure)
    assert "random" not in words(pan.invariance_figure(data.assign(chance=np.nan), source))
    assert_readable(figure)


def test_figure4_shows_the_most_frequent_concepts_that_have_a_value(tables, source):
    data = pan.cross_image_data(tables["cross_image"], tables["concepts"], "act", [2], [5])
    # "dog" is in 3 + 3 + 2 captions and "tree" in 1 + 1 + 1; "ball" has no value.
    assert list(dict.fromkeys(data["group"])) == ["dog", "tree"]
    own = data[(data["model"] == LLAVA) & (data["method"] == "contribution")]
    np.testing.assert_allclose(own["value"], [0.45, 0.45])
    figure = pan.cross_image_figure(data, source)
    heights = [bar.get_height() for bar in figure.axes[2].patches]
    np.testing.assert_allclose(heights, [0.45, 0.15])  # No bar for "dog" in the third model.
    assert sum(t.get_text() == DASH for t in texts(figure)) == 2
    assert_readable(figure)
    most = pan.cross_image_data(tables["cross_image"], tables["concepts"], "act", [2], [5], 1)
    assert set(most["group"]) == {"dog"}


def test_figure6_has_a_panel_for_each_model_number_and_k(tables, source):
    data = pan.cross_image_data(tables["cross_image"], tables["concepts"], "act", [2, 3], [1, 5])
    figure = pan.cross_image_figure(data, source, height=0.9)
    assert words(figure).count("3 pictures, k = 5") == 3
    assert len(figure.axes) == 3 * 2 * 2 + 1
    assert_readable(figure)
    nothing = pan.cross_image_data(tables["cross_image"], tables["concepts"], "act", [5], [1])
    assert "no concept is named in enough captions" in words(
        pan.cross_image_figure(nothing, source)
    )


def matrix_inputs(tables):
    names = ("cross_scores", "captions", "concepts", "pictures")
    return {name: tables[name] for name in names} | {"site": "act"}


def test_figure5_divides_by_the_neurons_largest_score(tables, source):
    data = pan_matrices.matrices_data(**matrix_inputs(tables))
    assert set(data["picture_id"]) == {SECOND}
    own = data[data["model"] == LLAVA]
    cells = own.pivot(index="neuron_group", columns="group", values="normalised")
    names = ["dog", "grass", "ball"]
    expected = [[1, 0.25, 0.25], [-0.25, 1, 0.25], [-0.25, -0.25, 1]]
    assert cells.loc[names, names].to_numpy().tolist() == expected
    assert own["neuron_group"].tolist() == [name for name in names for _ in names]
    figure = pan_matrices.matrices_figure(data, source)
    mesh = figure.axes[0].collections[0]
    assert mesh.get_array().tolist() == expected and mesh.get_cmap().name == "viridis"
    assert "dog (L1.U10)" in words(figure)
    assert_readable(figure)


def test_figure7_shows_the_next_pictures_or_says_that_there_is_none(tables, source):
    more = pan_matrices.matrices_data(**matrix_inputs(tables), skip=1, most=3)
    assert set(more["picture_id"]) == {THIRD}
    none = pan_matrices.matrices_data(**matrix_inputs(tables), skip=2)
    figure = pan_matrices.matrices_figure(none, source)
    assert "Nothing to draw: no picture whose caption names two concepts" in words(figure)


def test_equal_data_give_equal_bytes(tables, source, tmp_path):
    makes = {
        "layers": lambda: pan.layers_figure(pan.layers_data(tables["act"], TOP_K), source),
        "matrix": lambda: pan_matrices.matrices_figure(
            pan_matrices.matrices_data(**matrix_inputs(tables)), source
        ),
    }
    for name, make in makes.items():
        for number in range(2):
            stem = tmp_path / f"{name}{number}"
            style.save(make(), stem.with_suffix(".svg"), stem.with_suffix(".png"), dpi=50)
        for kind in ("svg", "png"):
            one, two = (tmp_path / f"{name}{number}.{kind}" for number in range(2))
            assert one.read_bytes() == two.read_bytes()


# ------------------------------------------------------------------------------------ tables 1, 8


@pytest.fixture(scope="module")
def entries(paths, tables):
    records = dict(zip(MODELS, map(TensorFile, paths["maps"]), strict=True))
    names = ("captions", "concepts", "pictures")
    return pan_pictures.concept_maps(records, **{n: tables[n] for n in names}, site="act")


def test_maps_are_those_of_the_chosen_picture(entries):
    assert [(e.model, e.group) for e in entries] == [
        *((LLAVA, group) for group in ("dog", "grass", "ball")),
        *((BLIP, group) for group in ("dog", "ball")),
        *((OWL, group) for group in ("dog", "grass")),
    ]
    assert {entry.picture_id for entry in entries} == {SECOND}
    assert list(entries[0].maps) == TOP_K and not entries[-1].maps
    # Patch 8 + 1 of 4 x 6 for the second k, whose value is 1 + 5.
    assert entries[0].maps[5].shape == (4, 6) and entries[0].maps[5][1, 3] == 6
    assert [entry.through_queries for entry in entries] == [False] * 3 + [True] * 2 + [False] * 2


def test_maps_of_more_neurons_than_there_are_say_how_many(paths, tables, tmp_path):
    record = TensorFile(paths["maps"][0])
    facts = record.facts | {"top_k": [1, 50, 100], "recorded": 7}
    write_tensors({name: record[name] for name in record.names}, tmp_path / "maps", facts)
    names = ("captions", "concepts")
    own = {name: by_model([LLAVA], [getattr(world, name)(LLAVA)]) for name in names}
    (entry, *_) = pan_pictures.concept_maps(
        {LLAVA: TensorFile(tmp_path / "maps")}, **own, pictures=tables["pictures"], site="act"
    )
    assert list(entry.maps) == [1, 7]
    assert entry.maps[7].max() == 11  # Of all, as the map of 100 is.


def test_maps_lie_on_the_part_that_the_model_sees(entries, source):
    assert [entry.box for entry in entries] == [world.WHOLE] * 3 + [world.MIDDLE] * 2 + [
        world.WHOLE
    ] * 2
    picture = np.zeros((40, 60, 3), dtype=np.uint8)
    picture[:, 10:50] = np.arange(40)[:, None]  # As many values as the middle has columns.
    entry = entries[3]
    figure = pan_pictures.maps_figure([entry], {SECOND: picture}, MODELS, source)
    images = [image for axes in figure.axes for image in axes.images]
    shown = [i.get_array() for i in images if i.get_array().shape[-1] == 3]
    assert len(shown) == 1 + len(TOP_K)
    assert all(np.array_equal(image, picture[:, 10:50]) for image in shown)
    clear = next(i.get_array()[..., 3] == 0 for i in images if i.get_array().shape[-1] == 4)
    assert clear.shape == (40, 40)
    # Patch (1, 2) of 4 x 6, k = 1, covers 6.7 pixels of the middle's 40.
    assert 40 / 6 * 2 <= np.nonzero(clear)[1].mean() < 40 / 6 * 3
    data = pan_pictures.maps_data([entry])
    edges = data[["left", "top", "right", "bottom"]].drop_duplicates().to_numpy().tolist()
    assert edges == [list(world.MIDDLE)]
    scaled = pictures.heatmap(entry.maps[1], (40, 40))
    assert data.loc[data["k"] == 1, "threshold"].unique() == pytest.approx(
        [np.percentile(scaled, 95)]
    )
    assert "or the middle where the model crops" in words(figure)


def test_maps_figure_masks_the_highest_twentieth_and_names_models_without_a_grid(entries, source):
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    figure = pan_pictures.maps_figure(entries, {SECOND: picture}, MODELS, source)
    shades = [
        image.get_array()[..., 3]
        for axes in figure.axes
        for image in axes.images
        if image.get_array().ndim == 3 and image.get_array().shape[-1] == 4
    ]
    assert len(shades) == 5 * len(TOP_K)
    clear = shades[1] == 0
    assert clear.mean() == pytest.approx(0.05, abs=0.01)
    rows, columns = np.nonzero(clear)
    # Patch (1, 3) covers pixels 10 to 20 down and 30 to 40 to the right.
    assert 10 <= rows.mean() < 20 and 30 <= columns.mean() < 40
    assert set(np.unique(shades[1])) == {0, pan_pictures.SHADE}
    shown = words(figure)
    assert "through the cross-attention of its queries" in shown and "no heatmap to draw" in shown
    assert_readable(figure)
    data = pan_pictures.maps_data(entries)
    cell = data[(data["model"] == BLIP) & (data["k"] == 10) & (data["value"] > 0)]
    assert cell[["group", "row", "column", "value"]].to_numpy().tolist() == [
        ["dog", 1, 4, 11.0],
        ["ball", 1, 4, 11.0],
    ]
    assert data.loc[data["model"] == OWL, "note"].tolist() == [pan_pictures.NO_GRID] * 2
    empty = pan_pictures.maps_figure([], {}, MODELS, source)
    assert "Nothing to draw" in words(empty)


# ------------------------------------------------------------------------------------ tables


def test_table2_shows_the_concept_that_all_models_share(tables, source):
    names = ("attribution", "activation", "tokens", "captions", "concepts", "pictures")
    inputs = {name: tables[name] for name in names} | {"contribution": tables["act"]}
    data = pan_tables.methods_data(**inputs)
    # "dog" is common to two pictures; of these the second one comes first in the order.
    assert set(data["group"]) == {"dog"} and set(data["picture_id"]) == {SECOND}
    assert len(data) == 3 * 3 * 3
    own = world.neurons(BLIP, "attribution", "pre")
    best = own[(own["sample_id"] == f"{SECOND}-dog") & (own["rank"] == 0)].iloc[0]
    row = data[(data["model"] == BLIP) & (data["method"] == "attribution")].iloc[0]
    assert row["neuron"] == f"language/L{best['layer']}.U{best['unit']}"
    tokens = world.tokens().set_index(["layer", "unit"])["tokens"]
    assert json.loads(row["tokens"]) == tokens[best["layer"], best["unit"]][:5]
    text = pan_tables.methods_page(data, source, "Title | <x>")
    assert "# Title \\| &lt;x&gt;" in text and "<" not in text
    assert {len(cells) for cells in markdown_rows(text)} == {2, 5}
    assert "An image of a **dog** and a \\| &lt;b&gt; grass" in text
    assert text.rstrip().endswith("mPLUG-Owl2: nothing.")
    without = inputs | {"concepts": tables["concepts"].query("model != @OWL")}
    nothing = pan_tables.methods_data(**without)
    assert "No concept is named by all models" in pan_tables.methods_page(nothing, source, "T")


def test_table3_has_a_table_an_aggregation_and_says_what_was_not_computed(tables, source):
    data = pan_tables.sensitivity_data(tables["sensitivity"], tables["bleurt"], "act")
    text = pan_tables.sensitivity_page(data, source, "T")
    assert text.index("## Mean over tokens") < text.index("## Max over tokens")
    rows = markdown_rows(text)
    head = rows[0]
    assert head[2:5] == ["BERTScore", "MoverScore", "BLEURT"]
    line = next(cells for cells in rows if cells[:2] == [short_names(MODELS)[BLIP],
                "contribution (Pan et al.)"])  # fmt: skip
    assert line[2:] == ["0.200 [0.120, 0.280]", "0.400 [0.320, 0.480]", "not computed", "7", "1"]
    assert sum(cells[0] == short_names(MODELS)[BLIP] for cells in rows) == 3 * 2
    assert "here tiny\\|encoder." in text


def test_table4_keeps_both_divisors_apart(tables, source):
    data = pan_tables.specificity_data(tables["specificity"], "act")
    assert set(data["divisor"]) == {"m", "released"}
    text = pan_tables.specificity_page(data, source, "T")
    printed, released = text.split("## Sum over at most ten tokens")
    name = short_names(MODELS)[LLAVA]
    related = [[name, "related"], [name, "random"]]
    first, second = (
        [cells for cells in markdown_rows(part) if cells[:2] in related]
        for part in (printed, released)
    )
    assert first[0][5] == "3.000 [2.990, 3.010]" and second[0][5] == "0.060 [0.050, 0.070]"
    assert first[1][2] == "0.020 [0.010, 0.030]" and first[0][6] == "7"


def test_table5_shows_the_picture_with_most_concepts_tried(tables, source):
    data = pan_changes.noise_data(
        tables["weight_noise"], tables["pictures"], tables["weight_noise_rates"]
    )
    captions = data[data["part"] == "caption"]
    own = captions[captions["model"] == LLAVA]
    assert set(own["picture_id"]) == {SECOND}  # Of three concepts.
    # The highest level of "row", the first draw, the lowest seed of the random neurons.
    assert set(own["unit"]) == {"row"}
    assert set(own["level"]) == {16.0} and set(own["draw"]) == {0}
    said = own[(own["method"] == "random") & (own["group"] == "grass")]["caption"].tolist()
    assert said == ["An image of random grass 1 row 16 0"]
    # Without that unit the middle level.
    other = captions[captions["model"] == OWL]
    assert set(other["unit"]) == {"absolute"} and set(other["level"]) == {4.0}
    text = pan_changes.noise_page(data, source, "T")
    names = short_names(MODELS)
    assert f"## {names[LLAVA]}, picture 3, level 16 of the unit \u201crow\u201d" in text
    assert f"## {names[OWL]}, picture 3, level 4 of the unit \u201cabsolute\u201d" in text
    assert "the highest level of the unit \u201crow\u201d where the model has it" in text
    assert "\u201cabsolute\u201d: standard deviation of the noise, absolute" in text
    rows = markdown_rows(text)
    assert ["random neurons instead of the neurons of \u201cgrass\u201d",
            "An image of random **grass** 1 row 16 0"] in rows  # fmt: skip
    head = [names[OWL], "contribution (Pan et al.)"]
    assert [*head, "row", "16", "0.500 [0.420, 0.580] (n = 12)",
            "0.600 [0.520, 0.680] (n = 12)", "0.700 [0.620, 0.780] (n = 12)"] in rows  # fmt: skip
    assert [*head, "absolute", "16", "0.250 [0.170, 0.330] (n = 12)",
            "0.350 [0.270, 0.430] (n = 12)", "0.450 [0.370, 0.530] (n = 12)"] in rows  # fmt: skip
    more = pan_changes.noise_data(tables["weight_noise"], tables["pictures"], skip=1, most=1)
    assert set(more["picture_id"]) == {THIRD} and set(more["part"]) == {"caption"}
    assert "Rates" not in pan_changes.noise_page(more, source, "T")
    empty = pan_changes.noise_data(tables["weight_noise"].iloc[:0], tables["pictures"])
    assert "No caption under noise" in pan_changes.noise_page(empty, source, "T")


def test_table6_shows_the_most_edited_source(tables, source):
    data = pan_changes.edits_data(tables["edits"], tables["pictures"], tables["edit_rates"])
    captions = data[data["part"] == "caption"]
    assert set(captions["source"]) == {"dog"}
    own = captions[captions["model"] == LLAVA].drop_duplicates("edit_id")
    assert own["picture_id"].tolist() == [SECOND, THIRD]
    assert set(captions.loc[captions["method"] == "random", "seed"]) == {2}
    text = pan_changes.edits_page(data, source, "T")
    assert [
        "3", "polar bear",
        "An image of a **dog** and a  &lt;b&gt; grass and a  &lt;b&gt; ball in the sun",
        "An image of a **polar bear** token 0", "An image of a **polar bear** word 0",
        "An image of a **dog** token 2", "2 of 5",
    ] in markdown_rows(text)  # fmt: skip
    rates = data[(data["part"] == "rate") & (data["model"] == BLIP)]
    assert set(rates["kind"]) == {"token"}
    line = [c for c in markdown_rows(text) if c[1] == "random control"][0]
    assert line[2] == "0.100 [0.020, 0.180] (n = 6)" and line[6] == DASH  # Locality.
    second = pan_changes.edits_data(tables["edits"], tables["pictures"], skip=1)
    assert set(second["source"]) == {"car"}
    none = pan_changes.edits_data(tables["edits"].iloc[:0], tables["pictures"])
    assert "No edit to show" in pan_changes.edits_page(none, source, "T")


def test_table7_takes_edits_with_all_three_pictures(tables, source):
    data = pan_changes.transfer_data(tables["edits"], tables["pictures"], most=1)
    own = data[(data["model"] == BLIP) & (data["kind"] == "token")]
    own = own[own["method"] == "contribution"].set_index("role")
    assert own["picture_id"].to_dict() == {"edited": SECOND, "transfer": FOURTH, "locality": FIRST}
    rows = markdown_rows(pan_changes.transfer_page(data, source, "T"))
    assert ["(c) one without it: 7", "An image of a car and a  &lt;b&gt; road in the sun"] in [
        cells[:2] for cells in rows
    ]
    only_car = tables["edits"][tables["edits"]["source"] == "car"]
    none = pan_changes.transfer_data(only_car, tables["pictures"])
    assert "No edit has pictures of all three kinds" in pan_changes.transfer_page(none, source, "T")


def test_table9_lists_every_concept_of_the_chosen_pictures(tables, source):
    names = ("tokens", "captions", "concepts", "pictures")
    inputs = {name: tables[name] for name in names} | {"contribution": tables["act"]}
    data = pan_tables.concepts_data(**inputs, n_pictures=1)
    counts = data.groupby(["model", "group"], observed=True).size()
    assert counts.to_dict() == {
        **{(LLAVA, group): 5 for group in ("ball", "dog", "grass")},
        **{(BLIP, group): 5 for group in ("ball", "dog")},
        **{(OWL, group): 5 for group in ("dog", "grass")},
    }
    assert data["score"].head(5).tolist() == [3.0, 2.75, 2.5, 2.25, 2.0]
    text = pan_tables.concepts_page(data, source, "T")
    assert {len(cells) for cells in markdown_rows(text)} == {5}
    assert (
        "\u201c\u2423\u201d" not in text and "\u201c\\\\n\u201d" in text
    )  # A token of white space.


def test_table10_compares_neurons_before_and_after(tables, source):
    names = ("captions", "concepts", "pictures")
    inputs = {name: tables[name] for name in names}
    inputs |= {"before": tables["act"], "after": tables["shuffled"]}
    data = pan_tables.shuffled_data(**inputs, most=10, n_pictures=1)
    own = data[data["model"] == LLAVA].set_index("group")
    assert list(own.index) == ["dog", "grass", "ball"]
    # Shuffled captions name the first concept only, and five of its ten neurons stay.
    assert own.loc["dog", "kept"] == 0.5 and own["kept"].isna().tolist() == [False, True, True]
    assert json.loads(own.loc["ball", "neurons_shuffled"]) == []
    rows = markdown_rows(pan_tables.shuffled_page(data, source, "T"))
    assert ["ball", "*not named*", DASH] in [[cells[0], *cells[2:]] for cells in rows]
    assert ["3", short_names(MODELS)[OWL], "An image of a **dog** in the sun"] in [
        [*cells[:2], cells[-1]] for cells in rows
    ]


def test_table_s1_compares_sites(tables, source):
    names = ("sensitivity", "invariance", "cross_image", "specificity", "act", "post")
    data = pan_supplement.sites_data(**{name: tables[name] for name in names})
    cells = data.set_index(["model", "measure", "setting", "site"])["value"]
    assert cells[LLAVA, "region invariance", "k = 5", "post"] == pytest.approx(0.675)
    assert cells[LLAVA, "specificity", "S@5, related tokens", "post"] == pytest.approx(4)
    # "dog" and "tree" at 0.45; "ball" has no value.
    assert cells[LLAVA, "cross-image invariance", "2 pictures, k = 5", "act"] == pytest.approx(0.45)
    one, other = (world.neurons(LLAVA, "contribution", site) for site in world.SITES)
    both = [
        set(zip(*(a[a["sample_id"] == s].head(5)[c] for c in ("layer", "unit")), strict=True))
        & set(zip(*(b[b["sample_id"] == s].head(5)[c] for c in ("layer", "unit")), strict=True))
        for a, b in [(one, other)]
        for s in one["sample_id"].unique()
    ]
    share = np.mean([len(found) / 5 for found in both])
    assert share > 0
    assert cells[LLAVA, "neurons in common", "k = 5", "act"] == pytest.approx(share)
    text = pan_supplement.sites_page(data, source, "T")
    name = short_names(MODELS)[LLAVA]
    line = [name, "k = 10", "0.650 [0.570, 0.730]", "0.550 [0.470, 0.630]", "4"]
    assert line in markdown_rows(text)


def test_table_s1_has_no_share_of_more_neurons_than_were_recorded(tables, source):
    names = ("sensitivity", "invariance", "cross_image", "specificity", "act", "post")
    inputs = {name: tables[name] for name in names}
    # Both sites agree on everything, and the last model has three neurons a concept.
    inputs["act"] = inputs["post"] = tables["act"].query("model != @OWL or rank < 3")
    data = pan_supplement.sites_data(**inputs).query("measure == 'neurons in common'")
    shares = data.set_index(["model", "setting"])[["value", "n"]].to_dict("index")
    assert shares[LLAVA, "k = 10"] == {"value": 1, "n": 8}
    assert shares[OWL, "k = 1"] == {"value": 1, "n": 6}
    assert np.isnan(shares[OWL, "k = 5"]["value"]) and shares[OWL, "k = 5"]["n"] == 0
    rows = markdown_rows(pan_supplement.sites_page(data, source, "T"))
    assert [short_names(MODELS)[OWL], "k = 5", DASH, "0"] in rows


def test_table_s2_and_exclusions(tables, source):
    data = pan_changes.rates_data(tables["edit_rates"])
    text = pan_changes.rates_page(data, source, "T")
    assert text.index("first token of source and target") < text.index("all tokens of source")
    assert len(markdown_rows(text)) == 2 * (2 + 3 * 2)
    page = pan_supplement.exclusions_page(tables["exclusions"], source, "T")
    rows = markdown_rows(page)
    assert [short_names(MODELS)[BLIP], "captions", "not-generated", "1"] in rows
    assert "a \\| b" in page


# ------------------------------------------------------------------------------------ scripts


def run_script(name, tmp_path, inputs, **params):
    common = {"models": MODELS, "dataset_label": "drawn pictures", "title": "T", "dpi": 40}
    return figure_checks.run_script(name, tmp_path, inputs, **common | params)


def picked(paths, *names, **others):
    found = {name: paths[name] for name in names} | {n: paths[o] for n, o in others.items()}
    return found | {"counted": paths["concepts"], "exclusions": paths["exclusions"]}


def test_scripts_write_what_the_library_makes(paths, tmp_path):
    inputs = picked(paths, "edits", "pictures", rates="edit_rates")
    output = run_script("draw_pan_table", tmp_path, inputs, item="table6", options={"most": 1})
    assert pd.read_csv(output.csv)["part"].unique().tolist() == ["caption", "rate"]
    with open(output.md, encoding="utf-8") as page:
        assert page.read().startswith("# T\n\nModel: LLaVA, InstructBLIP, ")
    inputs = picked(paths, neurons="act")
    options = {"item": "figure2", "options": {"top_k": TOP_K}, "style": {"width": 8.0}}
    output = run_script("draw_pan_figure", tmp_path, inputs, **options)
    assert set(pd.read_csv(output.csv)["k"]) == set(TOP_K)
    assert Image.open(output.png).size[0] == 320
    inputs = picked(paths)
    output = run_script("draw_pan_exclusions", tmp_path, inputs)
    assert len(pd.read_csv(output.csv)) == 7


def test_script_of_maps_reads_pictures(paths, tmp_path):
    for name in world.ORDER:
        Image.new("RGB", (60, 40), "gray").save(tmp_path / f"{name}.png")
    names = ("captions", "concepts", "pictures", "maps", "exclusions")
    inputs = {name: paths[name] for name in names}
    options = {"options": {"site": "act"}, "style": {"cell": 0.9}, "root": str(tmp_path)}
    output = run_script("draw_pan_maps", tmp_path, inputs, **options)
    data = pd.read_csv(output.csv)
    assert len(data) == 5 * len(TOP_K) * 24 + 2


def test_every_item_has_a_caption_for_the_report():
    items = {*TABLES, *FIGURES, "table1", "table8", "exclusions"}
    assert items == {
        *(f"figure{n}" for n in range(2, 8)),
        *(f"table{n}" for n in (*range(1, 13), "S1", "S2")),
        "exclusions",
    }
    for item in items:
        with open(f"resources/captions/pan/{item}.rst", encoding="utf-8") as caption:
            assert len(caption.read().splitlines()) == 2


ITEMS = {
    "figure2": ((), {"neurons": "act"}, {"top_k": TOP_K}),
    "figure3": (("invariance",), {}, {"site": "act"}),
    "figure4": (("cross_image", "concepts"), {}, {"site": "act", "n_pictures": [5], "top_k": [5]}),
    "figure5": (("cross_scores", "captions", "concepts", "pictures"), {}, {"site": "act"}),
    "table2": (
        ("attribution", "activation", "tokens", "captions", "concepts", "pictures"),
        {"contribution": "act"},
        {},
    ),
    "table3": (("sensitivity", "bleurt"), {}, {"site": "act"}),
    "table4": (("specificity",), {}, {"site": "act"}),
    "table5": (("weight_noise", "pictures"), {"rates": "weight_noise_rates"}, {}),
    "table6": (("edits", "pictures"), {"rates": "edit_rates"}, {}),
    "table7": (("edits", "pictures"), {}, {}),
    "table9": (("tokens", "captions", "concepts", "pictures"), {"contribution": "act"}, {}),
    "table10": (("captions", "concepts", "pictures"), {"before": "act", "after": "shuffled"}, {}),
    "tableS1": (
        ("sensitivity", "invariance", "cross_image", "specificity", "act", "post"),
        {},
        {},
    ),
    "tableS2": ((), {"rates": "edit_rates"}, {}),
}


def emptied(paths, folder):
    """The same files without a row, as the workflow writes them; paths as they were given."""
    if isinstance(paths, list):
        return [emptied(path, folder / f"{number}") for number, path in enumerate(paths)]
    target = folder / paths.rsplit("/", 1)[-1]
    if target.suffix == ".csv":
        write_csv(pd.read_csv(paths).iloc[:0], target)
    else:
        write_table(read_table(paths).iloc[:0], target)
    return str(target)


@pytest.mark.parametrize("item", ITEMS)
def test_without_any_caption_every_item_says_so(item, paths, source, tmp_path):
    names, others, options = ITEMS[item]
    files = {name: emptied(paths[name], tmp_path) for name in names}
    files |= {name: emptied(paths[other], tmp_path) for name, other in others.items()}
    inputs = read_inputs(files, MODELS)
    data_of, show = (TABLES | FIGURES)[item]
    shown = show(data_of(**inputs, **options), source, *(["T"] if item in TABLES else []))
    text = shown if item in TABLES else words(shown)
    sentences = ("Nothing to", "No concept", "No edit", "No caption", "no neuron was", "no concept")
    assert any(sentence in text for sentence in sentences)
