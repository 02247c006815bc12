"""Figures and tables of two-stage filtering, drawn from tables and arrays made up here."""

import json

import numpy as np
import pandas as pd
import pytest
from figure_checks import assert_readable, markdown_rows, texts, words
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from scipy.ndimage import map_coordinates

from mmneurons.artifacts.tables import write_csv
from mmneurons.artifacts.tensors import TensorFile, write_tensors
from mmneurons.figures import style, tables, two_stage
from mmneurons.figures.pictures import heatmap, value_range
from mmneurons.figures.shown import Source, first_samples, left_out, marked, method_label

SOURCE = Source("a tiny model", "drawn pictures", "4 valid samples", "no candidate sample")
WILD = "The image shows a bear | <b>bold</b> *x* $x_1$ [a](b) & " + "p" * 90 + " \u718a bears."
METHODS = [("attribution", "all-layers"), ("two_stage", "auto"), ("random", "matched")]


def sample(sample_id, group, order, role="evaluation", caption=None):
    return {
        "sample_id": sample_id,
        "group": group,
        "order": order,
        "role": role,
        "file": f"{sample_id[:12]}.png",
        "boxes": [[4.0, 6.0, 20.0, 10.0], [30.0, 2.0, 8.0, 8.0]],
        "caption_original": caption or f"The image shows a {group} on the grass.",
        "caption_inpainted": "The image shows a kite on the grass.",
    }


BEAR, BEAR_2, BED, CALIBRATION = (
    "000000000007-bear",
    "000000000003-bear",
    "000000000009-bed",
    "000000000011-bear",
)


@pytest.fixture
def valid():
    return pd.DataFrame(
        [
            sample(BED, "bed", 4),
            sample(CALIBRATION, "bear", 0, "calibration"),
            sample(BEAR_2, "bear", 5),
            sample(BEAR, "bear", 2, caption=WILD),
        ]
    )


@pytest.fixture
def exclusions():
    rows = [
        ("validity", "000000000001-bus", "bus", "still-named"),
        ("validity", "000000000002-bus", "bus", "not-named"),
        ("validity", "000000000004-bed", "bed", "not-named"),
        ("validity", "", "bus", "too-few-valid-samples"),
        ("validity", "", "bed", "too-few-valid-samples"),
        ("select", BED, "bed", "nothing-above-thresholds"),
    ]
    columns = ["stage", "sample_id", "group", "reason"]
    return pd.DataFrame(rows, columns=columns).assign(detail="")


def picture(height=60, width=80, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


PICTURES = {BEAR: picture(), BEAR_2: picture(90, 50, 1), BED: picture(40, 40, 2)}


# ------------------------------------------------------------------------------------ heatmaps


def test_heatmap_of_two_patches_by_hand():
    # Centres of the patches at pixel edges 1 and 3 of 4: constant outside, linear between.
    assert heatmap(np.array([[0.0, 1.0]]), (1, 4)).tolist() == [[0.0, 0.25, 0.75, 1.0]]
    assert heatmap(np.array([[0.0], [1.0]]), (4, 2))[:, 1].tolist() == [0.0, 0.25, 0.75, 1.0]


@pytest.mark.parametrize("grid", [(16, 4), (8, 8), (1, 1)])
@pytest.mark.parametrize("size", [(224, 224), (133, 61), (37, 190), (5, 3)])
def test_heatmap_is_bilinear_between_patch_centres(grid, size):
    values = np.random.default_rng(0).normal(size=grid)
    axes = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(size, grid, strict=True)]
    rows_columns = np.meshgrid(*axes, indexing="ij")
    expected = map_coordinates(values, rows_columns, order=1, mode="nearest")
    np.testing.assert_allclose(heatmap(values, size), expected, atol=1e-6)


def test_heatmap_of_16_rows_and_4_columns_puts_a_token_where_its_patches_are():
    values = np.zeros((16, 4))
    values.flat[4 * 10 + 1] = 1.0  # Image token 41: row 10, second quarter of the row.
    row, column = np.unravel_index(heatmap(values, (160, 200)).argmax(), (160, 200))
    assert 100 <= row < 110 and 50 <= column < 100


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_heatmap_refuses_an_empty_picture(size):
    with pytest.raises(ValueError, match="cannot scale"):
        heatmap(np.ones((2, 2)), size)


def test_value_range_spans_all_arrays_and_is_never_empty():
    norm = value_range([np.array([1.0, 2.0]), np.array([[-3.0]])])
    assert (norm.vmin, norm.vmax) == (-3.0, 2.0)
    flat = value_range([np.zeros((2, 2), np.float16)])
    assert flat.vmin == 0 < flat.vmax


# ------------------------------------------------------------------------------------ style


def test_colours_of_methods_are_fixed_and_only_uniform_colour_maps_are_taken():
    assert style.METHOD_COLOURS["two_stage"] == "#0072B2"
    assert len(set(style.METHOD_COLOURS.values())) == len(style.METHOD_COLOURS) == 6
    assert style.METHOD_COLOURS["attribution_mean"] == style.METHOD_COLOURS["attribution"]
    assert style.METHOD_COLOURS["unknown"] == style.FAINT
    assert style.uniform_colormap("cividis").name == "cividis"
    with pytest.raises(ValueError, match="jet"):
        style.uniform_colormap("jet")


def test_wrapped_text_keeps_every_word_and_its_weight_within_the_width():
    runs = [("a bear", False), ("bears", True), (", and " + "p" * 300 + " end", False)]
    lines = style.wrapped(runs, 2.0, 9)
    flat = [piece for line in lines for piece in line]
    assert "".join(t for _, t, _ in flat).replace(" ", "") == "abearbears,and" + "p" * 300 + "end"
    assert [t for _, t, bold in flat if bold] == ["bears"]
    ends = [x + style._advance(t, bold, 9) / 72 for x, t, bold in flat]
    assert max(ends) <= 2.0 and len(lines) > 5
    assert lines[0][0] == (0.0, "a bear", False)
    assert style.wrapped([("", False)], 1.0, 9) == [[]]


def test_characters_that_cannot_be_drawn_are_written_as_escapes():
    assert style.drawable("caf\u00e9 \u718a\x07") == "caf\u00e9 \\u718a\\x07"


def test_the_page_names_model_data_and_what_was_left_out(exclusions):
    assert left_out(exclusions) == (
        "4 candidate samples (2 not-named, 1 nothing-above-thresholds, 1 still-named); "
        "too-few-valid-samples: bus, bed"
    )
    assert left_out(exclusions.iloc[:0]) == "no candidate sample"
    line = str(Source("a tiny model", "pictures", "3", left_out(exclusions)))
    assert line.startswith("Model: a tiny model. Data: pictures. n = 3. Left out: 4 candidate")


def test_first_samples_are_those_of_lowest_order_for_evaluation(valid):
    picked, missing = first_samples(valid, ["bus", "bear", "bed"])
    assert picked["sample_id"].tolist() == [BEAR, BED] and missing == ["bus"]


def test_marked_text_is_the_caption_and_marks_whole_words():
    pieces = marked("A bear, bearded, and BEARS", "bear")
    assert "".join(text for text, _ in pieces) == "A bear, bearded, and BEARS"
    assert [text for text, bold in pieces if bold] == ["bear", "BEARS"]


# ------------------------------------------------------------------------------------ figure 1


def test_pairs_show_what_their_data_say(valid, tmp_path):
    data = two_stage.pairs_data(valid, ["bear", "bus", "bed"])
    assert data["sample_id"].tolist() == [BEAR, BED]
    figure = two_stage.pairs_figure(data, PICTURES, PICTURES, SOURCE)
    write_csv(data, tmp_path / "a.csv")
    again = pd.read_csv(tmp_path / "a.csv")
    assert again["caption_original"].tolist() == [WILD, "The image shows a bed on the grass."]
    drawn = "".join(words(figure).split())
    for caption in again[["caption_original", "caption_inpainted"]].to_numpy().ravel():
        assert "".join(style.drawable(caption).split()) in drawn
    assert "a tiny model" in words(figure) and "n = 4 valid samples" in words(figure)
    bold = {t.get_text() for t in texts(figure) if t.get_color() == style.MARKED}
    assert bold == {"bear", "bears", "bed"}
    outlines = [
        [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in axes.patches]
        for axes in figure.axes
    ]
    boxes = [tuple(box) for box in json.loads(again["boxes"][0])]
    assert outlines == [[b for b in boxes for _ in range(2)], []] * 2
    assert_readable(figure)


def test_pairs_of_nothing_say_so(valid):
    data = two_stage.pairs_data(valid, ["bus"])
    figure = two_stage.pairs_figure(data, {}, {}, SOURCE)
    assert "no valid sample" in words(figure) and not figure.axes


# ------------------------------------------------------------------------------------ figure 2


def selection(*neurons, seed=None):
    table = pd.DataFrame(neurons, columns=["sample_id", "layer"]).assign(unit=0)
    return table if seed is None else table.assign(seed=seed)


@pytest.fixture
def layers():
    selections = {
        ("contribution", "no-last"): selection((BEAR, 1)),
        ("contribution", "all-layers"): selection((BEAR, 3), (BED, 3), (BED, 1)),
        ("two_stage", "auto"): selection((BEAR, 1), (BED, 1), (BED, 2), (CALIBRATION, 0)),
        ("random", "matched"): pd.concat(
            [selection((BEAR, 1), (BED, 2), seed=0), selection((BEAR, 1), (BED, 1), seed=1)]
        ),
    }
    return two_stage.layers_data(selections, [BEAR, BED], 4, [3])


def test_layers_are_counted_over_the_given_samples(layers):
    counts = {
        pair: rows["neurons"].tolist()
        for pair, rows in layers.groupby(["method", "variant"], sort=False)
    }
    assert counts == {
        ("contribution", "no-last"): [0, 1, 0, 0],
        ("contribution", "all-layers"): [0, 1, 0, 2],
        ("two_stage", "auto"): [0, 2, 1, 0],
        ("random", "matched"): [0, 1.5, 0.5, 0],
    }
    assert layers["inert"].tolist() == [False, False, False, True] * 4


def test_layers_are_drawn_as_their_data_say(layers, tmp_path):
    write_csv(layers, tmp_path / "a.csv")
    again = pd.read_csv(tmp_path / "a.csv")
    axes = two_stage.layers_figure(layers, SOURCE).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == [
        "two-stage, automatic thresholds",
        "contribution (Pan et al.)",
        "contribution (Pan et al.), without inert layers",
        "random control, layers and number of two-stage",
    ]
    for (method, variant), rows in again.groupby(["method", "variant"]):
        line = lines[method_label(method, variant)]
        assert line.get_xdata().tolist() == rows["layer"].tolist()
        assert line.get_ydata().tolist() == rows["neurons"].tolist()
        assert to_hex(line.get_color()).upper() == style.METHOD_COLOURS[method]
    dashed = {label for label, line in lines.items() if line.get_linestyle() != "-"}
    assert dashed == {list(lines)[2], list(lines)[3]}
    hatched = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert [(p.get_x(), p.get_width()) for p in hatched] == [(2.5, 1.0)]
    assert "cannot reach the logit" in words(axes.figure)
    assert axes.get_xlabel() == "layer" and "neurons" in axes.get_ylabel()
    assert_readable(axes.figure)


def test_an_empty_selection_is_said_to_be_empty():
    data = two_stage.layers_data({("two_stage", "auto"): selection()}, [BEAR], 4, [3])
    assert data["neurons"].tolist() == [0, 0, 0, 0]
    figure = two_stage.layers_figure(data, SOURCE)
    assert "no neuron was selected" in words(figure)
    assert_readable(figure)


def test_equal_data_give_equal_bytes(layers, valid, tmp_path):
    data = two_stage.pairs_data(valid, ["bed"])
    for number in range(2):
        for name, figure in (
            ("layers", two_stage.layers_figure(layers, SOURCE)),
            ("pairs", two_stage.pairs_figure(data, PICTURES, PICTURES, SOURCE)),
        ):
            paths = (tmp_path / f"{name}{number}.{kind}" for kind in ("svg", "png"))
            style.save(figure, *paths, dpi=60)
    for name in ("layers", "pairs"):
        for kind in ("svg", "png"):
            one, two = (tmp_path / f"{name}{number}.{kind}" for number in range(2))
            assert one.read_bytes() == two.read_bytes()
        assert b"<dc:date>" not in (tmp_path / f"{name}0.svg").read_bytes()


# ------------------------------------------------------------------------------------ figure 3


@pytest.fixture
def recording(tmp_path):
    """A bear recorded on three samples: neurons (1, 5), (0, 2) and (2, 9) of 16 x 4 tokens."""
    maps = np.zeros((3, 3, 64), np.float16)
    maps[:, 0] = np.arange(64)
    maps[:, 1] = 2.0
    maps[1] += 10  # The second of the three samples, BEAR_2.
    maps[:, 2] = 1000
    tensors = {
        "post/map_units/bear": np.array([[1, 5], [0, 2], [2, 9]], np.int32),
        "post/maps/bear": maps,
        "post/map_units/bed": np.zeros((0, 2), np.int32),
        "post/maps/bed": np.zeros((1, 0, 64), np.float16),
    }
    facts = {"sample_ids": [BED, CALIBRATION, BEAR_2, BEAR], "grid": [16, 4]}
    write_tensors(tensors, tmp_path / "record.safetensors", facts)
    gradcam = {"maps": np.linspace(0, 1, 2 * 64).reshape(2, 16, 4).astype(np.float16)}
    ids = {"sample_ids": [BEAR_2, BEAR]}
    write_tensors(gradcam, tmp_path / "gradcam.safetensors", ids)
    return TensorFile(tmp_path / "record.safetensors"), TensorFile(tmp_path / "gradcam.safetensors")


@pytest.fixture
def objects(valid, recording):
    rows = [(BEAR, 0, 2, 1), (BEAR, 1, 5, 0), (BEAR, 3, 3, 2), (BEAR, 2, 9, 3), (BEAR_2, 2, 9, 0)]
    neurons = pd.DataFrame(rows, columns=["sample_id", "layer", "unit", "rank"])
    neurons["module"] = "language"
    tokens = pd.DataFrame(
        {
            "group": ["bear", "bear", "bed"],
            "layer": [1, 0, 1],
            "unit": [5, 2, 5],
            "tokens": [[" bear", "|", "\n", "<s>", "$x$", "sixth"], ["zoo"], ["wrong"]],
        }
    )
    record, gradcam = recording
    names = ["bear", "bed", "bus"]
    return two_stage.object_maps(valid, neurons, tokens, record, gradcam, "post", names, 3, top=3)


def test_object_maps_average_the_top_neurons_of_the_identifying_sample(objects):
    bear, bed, bus = objects
    assert bear.sample_id == BEAR and list(bear.maps) == [BEAR, BEAR_2]
    # Of the three best, (1, 5), (0, 2) and (3, 3), the last has no recorded map.
    expected = (np.arange(64).reshape(16, 4) + 2) / 2
    np.testing.assert_array_equal(bear.maps[BEAR], expected)
    # maps[1] is the object's second recorded sample, BEAR_2.
    np.testing.assert_array_equal(bear.maps[BEAR_2], expected + 10)
    assert [n.name for n in bear.neurons] == ["language/L1.U5", "language/L0.U2", "language/L3.U3"]
    assert [n.has_map for n in bear.neurons] == [True, True, False]
    assert bear.neurons[0].tokens == (" bear", "|", "\n", "<s>", "$x$")
    assert bear.neurons[1].tokens == ("zoo",) and bear.neurons[2].tokens == ()
    assert bear.gradcam[0, 0] > 0.5 and bed.gradcam is None
    assert bear.note == "" and "no neuron" in bed.note and bus.note == "no valid sample"


def test_heatmaps_are_drawn_as_their_data_say(objects, valid):
    boxes = dict(zip(valid["sample_id"], valid["boxes"], strict=True))
    figure = two_stage.heatmaps_figure(objects, PICTURES, boxes, SOURCE)
    data = two_stage.heatmaps_data(objects)
    cells = data[(data["kind"] == "mean activation") & (data["sample_id"] == BEAR_2)]
    np.testing.assert_array_equal(cells["value"].to_numpy().reshape(16, 4), objects[0].maps[BEAR_2])
    overlays = [
        axes.images[1]
        for axes in figure.axes
        if len(axes.images) == 2 and axes.images[1].get_cmap().name == "viridis"
    ]
    shapes = [PICTURES[name].shape[:2] for name in (BEAR, BEAR_2)]
    assert [image.get_array().shape for image in overlays] == shapes
    np.testing.assert_allclose(overlays[1].get_array(), heatmap(objects[0].maps[BEAR_2], shapes[1]))
    assert {image.get_clim() for image in overlays} == {(1.0, 42.5)}
    shown = words(figure)
    for text in ("language/L1.U5", "\u201cbear\u201d", "\u201c\\n\u201d", "\u201c$x$\u201d", "bus"):
        assert text in shown
    assert "No valid sample." in shown and "No neuron was selected" in shown
    assert "no activation map recorded" in shown and "no decoded token" in shown
    assert json.loads(data.loc[data["neuron"] == "language/L0.U2", "tokens"].item()) == ["zoo"]
    assert data.loc[data["kind"] == "note", "group"].tolist() == ["bed", "bus"]
    assert_readable(figure)


def test_tokens_of_white_space_are_spelt_out():
    shown = [two_stage.visible(token) for token in (" bear ", " ", "\n\t", "a b")]
    assert shown == ["bear", "\u2423", "\\n\\t", "a b"]


# ------------------------------------------------------------------------------------ tables


def noise_table():
    rows = [
        (
            *pair,
            seed,
            BEAR,
            picture_id,
            level,
            draw,
            f"{pair[0]} {seed} {level:g} {draw} bear | <i>",
        )
        for pair in METHODS
        for seed in ((4, 2) if pair[0] == "random" else (0,))
        for picture_id in (BED, BEAR)
        for level in (16.0, 4.0, 8.0)
        for draw in (1, 0)
    ]
    columns = ["method", "variant", "seed", "sample_id", "picture_id", "level", "draw", "caption"]
    return pd.DataFrame(rows, columns=columns)


def test_captions_table_takes_middle_level_given_draw_and_lowest_seed(valid, exclusions):
    names = ["bed", "bus", "bear"]
    data = tables.captions_data(valid, noise_table(), exclusions, names, METHODS)
    bear = data[data["group"] == "bear"]
    assert bear["caption"].tolist() == [
        WILD,
        "attribution 0 8 0 bear | <i>",
        "two_stage 0 8 0 bear | <i>",
        "random 2 8 0 bear | <i>",
    ]
    assert set(bear["sample_id"]) == {BEAR}
    assert list(dict.fromkeys(data["group"])) == names
    bed = data[data["group"] == "bed"]
    assert bed["caption"].tolist() == ["The image shows a bed on the grass.", "", "", ""]
    assert set(bed["note"]) == {"", "no caption: nothing-above-thresholds"}
    bus = data[data["group"] == "bus"]
    assert bus["note"].tolist() == ["no valid sample (too-few-valid-samples)"]


def test_captions_page_escapes_text_and_marks_the_object(valid, exclusions):
    data = tables.captions_data(valid, noise_table(), exclusions, ["bear", "bus"], METHODS)
    text = tables.captions_page(data, SOURCE, "rms", "Table 1 <draft>")
    assert {len(cells) for cells in markdown_rows(text)} == {2}
    assert "a **bear** \\| &lt;b&gt;bold&lt;/b&gt; \\*x\\* \\$x\\_1\\$ \\[a\\](b) &amp;" in text
    assert "<" not in text and "# Table 1 &lt;draft&gt;" in text
    assert "## bus\n\n*no valid sample (too-few-valid-samples)*" in text
    assert "Noise level 8 (times the root mean square" in text
    assert "Model: a tiny model." in text and "Left out: no candidate sample." in text


def test_captions_table_without_any_noise_says_so(valid, exclusions):
    data = tables.captions_data(valid, noise_table().iloc[:0], exclusions, ["bear"], METHODS[:1])
    assert data["note"].tolist() == ["", "no caption: no neuron selected"]
    assert "no neuron selected" in tables.captions_page(data, SOURCE, "rms", "T")


def suppression_table():
    rows = []
    for method, variant in METHODS:
        for group, level, value in (
            ("bear", 4.0, 0.25),
            ("bear", 8.0, 0.5),
            ("bear", np.nan, 0.375),
            ("", 4.0, 0.25),
            ("", 8.0, 0.5),
            ("", np.nan, 0.376),
        ):
            if (method, group, level) == ("attribution", "bear", 8.0):
                continue
            row = {"method": method, "variant": variant, "group": group, "level": level}
            for measure in tables.MEASURES:
                row |= {measure: value, f"{measure}_low": value - 0.1, f"{measure}_high": np.nan}
            row |= {"suppression_high": value + 0.1, "retention": np.nan}
            rows.append(row)
    return pd.DataFrame(rows)


def test_suppression_table_has_a_row_per_object_and_level(valid, exclusions, tmp_path):
    write_csv(suppression_table(), tmp_path / "s.csv")
    read = pd.read_csv(tmp_path / "s.csv")  # Where the empty group comes back as NaN.
    data = tables.suppression_data(read, valid, exclusions, ["bear", "bed", "bus"])
    levels = data["level"].fillna(-1).tolist()
    assert list(zip(data["group"], levels, strict=True)) == [
        ("bear", 4), ("bear", 8), ("bed", -1), ("bus", -1),
        ("average", 4), ("average", 8), ("average", -1),
    ]  # fmt: skip
    np.testing.assert_array_equal(
        data["two_stage/auto suppression"], [0.25, 0.5, np.nan, np.nan, 0.25, 0.5, 0.376]
    )
    assert np.isnan(data["attribution/all-layers score"][1])
    assert data["two_stage/auto suppression high"][0] == pytest.approx(0.35)
    heads = [name.removesuffix(" score") for name in data if name.endswith(" score")]
    assert heads == ["two_stage/auto", "attribution/all-layers", "random/matched"]
    assert data["note"][2:4].tolist() == [
        "no caption: nothing-above-thresholds",
        "no valid sample (too-few-valid-samples)",
    ]
    rows = markdown_rows(tables.suppression_page(data, SOURCE, "absolute", "T"))
    assert ["bear", "4", *["0.25 [0.15, 0.35]"] * 3] in rows
    assert ["bear", "8", "0.50 [0.40, 0.60]", tables.DASH, "0.50 [0.40, 0.60]"] in rows
    assert ["average", "all", *["0.38 [0.28, 0.48]"] * 3] in rows
    assert ["average", "all", *[tables.DASH] * 3] in rows  # Retention.
    assert ["average", "all", *[f"0.38 [{tables.DASH}]"] * 3] in rows  # Score, without a bound.
    missing = "*no valid sample (too-few-valid-samples)*"
    assert rows.count(["bus", missing, *[tables.DASH] * 3]) == 3


def test_similarity_table_names_the_encoder_and_keeps_methods_without_captions():
    row = {"method": "two_stage", "variant": "auto", "encoder": "tiny|encoder"}
    row |= {"n_pairs": 30, "n_left_out": 2}
    for place, name in enumerate(tables.SIMILARITIES):
        row |= {name: 0.5 + place / 10, f"{name}_low": 0.1, f"{name}_high": 0.95}
    data = tables.similarity_data(pd.DataFrame([row]), [*METHODS[:2]])
    assert data["method"].tolist() == ["attribution", "two_stage"]
    text = tables.similarity_page(data, SOURCE, "T")
    assert "by the encoder tiny\\|encoder." in text
    head, _, attribution, ours = markdown_rows(text)
    assert head[1:] == [*tables.SIMILARITIES.values(), "caption pairs", "left out"]
    assert attribution[1:] == [tables.DASH] * 7
    assert ours[0] == "two-stage, automatic thresholds"
    assert ours[1] == "0.50 [0.10, 0.95]" and ours[5:] == ["0.90 [0.10, 0.95]", "30", "2"]


def test_thresholds_stand_beside_the_papers(valid, exclusions):
    rows = [
        (CALIBRATION, "bear", "calibration", 0.5, 0.01, 40, 4),
        (BEAR, "bear", "evaluation", 0.6, 0.02, 30, 3),
        (BED, "bed", "evaluation", 0.7, 0.03, 20, 0),
    ]
    columns = ["sample_id", "group", "role", "threshold_a", "threshold_g", "n_candidates"]
    auto = pd.DataFrame(rows, columns=[*columns, "n_selected"])
    paper = pd.read_csv("resources/thresholds/two_stage_paper.csv")
    names = ["bed", "bear", "bus", "kite"]
    tables_by_rule = {"auto": auto, "manual": auto.iloc[1:2]}
    data = tables.thresholds_data(tables_by_rule, paper, valid, exclusions, names)
    assert data[["group", "sample_id", "rule"]].to_numpy().tolist() == [
        ["bed", BED, "auto"],
        ["bear", CALIBRATION, "auto"],
        ["bear", BEAR, "auto"],
        ["bear", BEAR, "manual"],
        ["bus", "", ""],
        ["kite", "", ""],
    ]
    assert data["note"].tolist() == [
        "no neuron selected", "", "", "",
        "no valid sample (too-few-valid-samples)", "no valid sample",
    ]  # fmt: skip
    np.testing.assert_array_equal(data["paper_threshold_a"], [1.5, 1, 1, 1, 1.5, np.nan])
    cells = markdown_rows(tables.thresholds_page(data, SOURCE, "T"))
    assert [BED, "evaluation", "auto", "0.7", "0.03", "20", "0", "1.5", "0.0005"] in [
        row[1:] for row in cells
    ]
    assert cells[-1] == ["kite", "*no valid sample*", *[tables.DASH] * 8]


def test_the_papers_thresholds_are_those_of_its_table():
    paper = pd.read_csv("resources/thresholds/two_stage_paper.csv").set_index("object")
    assert len(paper) == paper.index.nunique() == 30
    assert list(paper.columns) == ["threshold_a", "threshold_g"]
    # The strict comparison with zero that only a signed value makes sense of.
    assert paper.index[paper["threshold_g"] == 0].tolist() == ["airplane"]
    for name, pair in {
        "banana": (2.5, 3e-4),
        "stop sign": (1, 7.5e-4),
        "toaster": (1, 1e-3),
        "umbrella": (0.8, 1.5e-3),
        "vase": (1, 7e-4),
    }.items():
        assert tuple(paper.loc[name]) == pair
    assert paper["threshold_a"].sum() == pytest.approx(41.0)
    assert paper["threshold_g"].sum() == pytest.approx(0.0172)
