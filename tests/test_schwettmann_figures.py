"""Figures and tables of Schwettmann et al. 2023, drawn from made-up `schwettmann_world`."""

import json
from collections import Counter
from pathlib import Path

import figure_checks
import numpy as np
import pandas as pd
import pytest
import schwettmann_world as world
from figure_checks import assert_readable, markdown_rows, words
from PIL import Image
from schwettmann_world import DATASET, IDS, KS, MODEL, TOP

from mmneurons.artifacts.tables import read_table, write_csv, write_table
from mmneurons.artifacts.tensors import write_tensors
from mmneurons.figures import schwettmann, schwettmann_pictures, schwettmann_tables
from mmneurons.figures.inputs import read_inputs
from mmneurons.figures.pictures import heatmap
from mmneurons.figures.schwettmann_inputs import CONDITIONS, KINDS, source_of
from mmneurons.figures.schwettmann_items import FIGURES, PICTURED, TABLES, item_data
from mmneurons.figures.tables import DASH
from mmneurons.metrics.localisation import MEAN_UNITS, receptive_field


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return world.write(tmp_path_factory.mktemp("schwettmann"))


@pytest.fixture(scope="module")
def tables(paths):
    return read_inputs({name: path for name, path in paths.items() if name != "maps"}, [MODEL])


@pytest.fixture(scope="module")
def source(tables):
    return source_of(MODEL, DATASET, tables["captions"], tables["exclusions"])


@pytest.fixture(scope="module")
def pictures():
    y, x = np.mgrid[0 : world.SIDES[1], 0 : world.SIDES[0]]
    shades = [np.stack([x * 3, y * 5, 20 * i + 0 * x], axis=-1) for i in range(len(IDS))]
    shades = [shade.astype(np.uint8) for shade in shades]
    names = [*IDS, *(name for name, _, _ in world.SINGLES)]
    return dict(zip(names, [*shades, *shades[:2]], strict=True))


def data_of(item, paths, **options):
    return world.made(item, paths, options)


def shown(item, data, source, pictures):
    """The figure or the page of an item."""
    if item in TABLES:
        return TABLES[item][1](data, source, "T")
    if item in PICTURED:
        return PICTURED[item][1](data, pictures, source)
    return FIGURES[item][1](data, source)


def emptied(inputs, folder, grid=world.GRID):
    """The same files without a row, as the workflow writes them."""
    found = {}
    for name, path in inputs.items():
        found[name] = str(folder / Path(path).name)
        if path.endswith(".safetensors"):
            maps = {"maps": np.zeros((0, world.PATCHES if grid else 0), np.float16)}
            write_tensors(maps, found[name], {"grid": grid and list(grid), "boxes": {}})
        elif path.endswith(".csv"):
            write_csv(pd.read_csv(path).iloc[:0], found[name])
        else:
            write_table(read_table(path).iloc[:0], found[name])
    return found


def lines(figure):
    """The curves of a figure's first axes by their colour: their points."""
    return {line.get_color(): line.get_xydata() for line in figure.axes[0].get_lines()}


# ------------------------------------------------------------------------------- what is shown


def test_the_source_counts_pictures_and_what_was_left_out(source, tables):
    assert str(source) == (
        f"Model: {MODEL}. Data: {DATASET}. n = 10 pictures whose caption has a noun. Left out: 1 "
        "candidate samples (1 no-noun); too-few-pictures: bear."
    )
    own = source_of(MODEL, DATASET, tables["captions"], tables["exclusions"], objects=True)
    assert own.n == "10 pictures whose caption has a noun, and 2 more with a single object"


def test_every_item_has_a_function_a_reader_and_a_caption_for_the_report():
    items = {*TABLES, *FIGURES, *PICTURED}
    assert items == set(world.READS) and items == {
        *(f"figure{n}" for n in (2, 3, 4, 5, 6, "S1", "S2", "S3", "S4")),
        *(f"table{n}" for n in (1, 2, "S1", "S2", "S3")),
        "exclusions",
    }
    folder = Path("resources/captions/schwettmann")
    assert {path.stem for path in folder.iterdir()} == items
    for item in items:
        text = (folder / f"{item}.rst").read_text(encoding="utf-8")
        assert len(text.splitlines()) == 2


@pytest.mark.parametrize("item", sorted({*FIGURES, *PICTURED}))
def test_every_figure_can_be_read(item, paths, source, pictures):
    figure = shown(item, data_of(item, paths), source, pictures)
    assert_readable(figure)
    assert MODEL in words(figure) and "n = 10 pictures" in words(figure).replace("\n", " ")


NOTHING = {
    "figure2": "Nothing to draw: no picture with an object has interpretable units.",
    "figure3": "no picture whose caption has a noun has a score",
    "figure4": "Nothing to draw: no interpretable unit is among the best of any picture.",
    "figure5": "no picture with one annotated object has a map",
    **dict.fromkeys(["figure6", "figureS3"], "no picture whose caption has a noun"),
    "figureS1": "Nothing to draw: no picture with one annotated object has interpretable units.",
    "figureS2": "Nothing to draw: no category has enough pictures and interpretable units.",
    "figureS4": "no unit was recorded",
    **dict.fromkeys(
        ["table1", "table2", "tableS1", "tableS2", "tableS3"],
        "Nothing to show: no picture has a caption with a noun.",
    ),
    "exclusions": "*Nothing to show.*",
}


@pytest.mark.parametrize("item", sorted(world.READS))
def test_without_any_picture_every_item_says_so(item, paths, source, tmp_path):
    inputs = emptied(world.inputs_of(item, paths), tmp_path)
    data, source = item_data(item, inputs, world.OPTIONS.get(item, {}), MODEL, DATASET)
    assert data.empty and "n = 0 pictures" in str(source)
    result = shown(item, data, source, {})
    text = result if item in TABLES else words(result)
    assert NOTHING[item] in text.replace("\n", " ")
    if item not in TABLES:
        assert_readable(result)


# ------------------------------------------------------------------------------------- curves


def test_figure3_shows_every_score_and_the_test_against_image_prompts(paths, source):
    data = data_of("figure3", paths)
    assert list(dict.fromkeys(data["kind"])) == list(schwettmann.PROMPT_KINDS)
    own = data[data["kind"] == "gpt"]
    assert own["clipscore"].tolist() == [24 + n - 4.5 for n in range(10)]
    tests = data.drop_duplicates("kind").set_index("kind")["ks_statistic"]
    # Given from either side; neither the other kinds nor BERTScore stand in for it.
    assert tests["random_prompts"] == 0.1 and tests["coco_nouns"] == 0.95
    assert tests[["image_prompts", "image_prompts_max", "random_prompts_max", "gpt"]].isna().all()
    figure = schwettmann.prompts_figure(data, source)
    drawn = {tuple(dots.get_offsets()[:, 0]) for dots in figure.axes[0].collections}
    assert drawn == {tuple(rows["clipscore"]) for _, rows in data.groupby("kind")}
    assert "D = 0.950, p < 0.001" in words(figure) and "D = 0.100, p = 0.900" in words(figure)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [KINDS[kind] for kind in schwettmann.PROMPT_KINDS]


def test_image_tokens_that_were_decoded_are_counted(paths, source):
    """Of the first two pictures alone; scores are there of all."""
    data = data_of("figure3", paths)
    found = {kind: own["patches"].max() for kind, own in data.groupby("kind")}
    prompts = {kind for kind, n in found.items() if n == world.PROMPT_PATCHES}
    assert prompts == {kind for kind in KINDS if "_prompts" in kind}
    assert data[data["kind"].isin(["gpt", "coco_nouns"])]["patches"].isna().all()
    text = words(schwettmann.prompts_figure(data, source)).replace("\n", " ")
    assert "Image prompts: up to 40 image tokens of a picture" in text
    page = schwettmann_tables.prompts_page(data_of("table2", paths), source, "T")
    assert "Up to 40 image tokens of a picture are decoded" in page
    page = schwettmann_tables.nearest_page(data_of("tableS2", paths), source, "T")
    assert "nearest by cosine to 35 image tokens of the picture" in page


def test_figure5_draws_categories_by_name_and_all_of_them_last(paths, source):
    data = data_of("figure5", paths)
    assert list(dict.fromkeys(data["category"])) == ["cat", "dog", "vase", "all categories"]
    assert set(data["kind"]) == {"multimodal", "all", "random"}
    figure = schwettmann.localisation_figure(data, source)
    axes = figure.axes[0]
    heights = [round(bar.get_height(), 6) for bar in axes.patches]
    expected = [data[data["kind"] == kind]["value"].tolist() for kind in schwettmann.OF_KIND]
    np.testing.assert_allclose(heights, np.concatenate(expected))
    segments = [path for lines in axes.collections for path in lines.get_segments()]
    ends = [segment[:, 1] for segment in segments if len(segment)]
    known = data.dropna(subset="value")
    assert {tuple(np.round(end, 6)) for end in ends} >= {
        (round(row.low, 6), round(row.high, 6)) for row in known.itertuples()
    }
    # One dash for the category without random units, and no bar of height 0 passed off as one.
    assert [text.get_text() for text in axes.texts] == [DASH]
    assert "dog (2)" in words(figure) and "of each bar" not in words(figure)
    more = data.assign(n=data["n"] + ((data["kind"] == "all") & (data["category"] == "dog")))
    text = words(schwettmann.localisation_figure(more, source)).replace("\n", " ")
    assert "dog (2/3/2)" in text and "cat (1)" in text and "of each bar where they differ" in text


def test_figure6_draws_means_and_one_pictures_captions(paths, source):
    data = data_of("figure6", paths)
    means = data[data["part"] == "mean"]
    figure = schwettmann.probability_figure(data, source)
    for condition in CONDITIONS:
        own = means[means["condition"] == condition]
        curve = lines(figure)[schwettmann.CONDITION_COLOURS[condition]]
        np.testing.assert_allclose(curve, own[["k", "relative"]])
        assert own["k"].tolist() == list(KS)
    case = data[data["part"] == "picture"]
    assert set(case["picture_id"]) == {IDS[0]} and len(case) == 3 * len(KS)
    assert set(case.loc[case["condition"] == "random", "seed"]) == {2}  # The lowest.
    text = words(figure)
    assert "A picture of all 50 (0.13)" in text and "drop of 80 % at k = 6400" in text
    assert "LiMBeR-BEIT" in text.split("The paper reports")[1]
    # Not all pictures were captioned under ablation.
    fewer = schwettmann.probability_figure(data.assign(n=7), source)
    assert "Mean over 7 of these pictures of the" in words(fewer).replace("\n", " ")


def test_figure6_shows_the_picture_nearest_to_the_means(paths):
    """Neither the first one, which ablation does nothing to, nor one that loses all at once."""
    ablated, captions = (pd.read_parquet(paths[name]) for name in ("ablated", "captions"))
    first, last = IDS[0], IDS[-1]
    changed = ablated["k"] > 0
    ablated.loc[changed & (ablated["picture_id"] == first), "probability"] = 0.8
    ablated.loc[changed & (ablated["picture_id"] == last), "probability"] = 0.0
    assert set(schwettmann.case_data(ablated, captions)["picture_id"]) == {IDS[1]}
    # One of which a number of units is missing is shown only if it is the only one.
    short = ablated[(ablated["picture_id"] != IDS[1]) | (ablated["k"] < 50)]
    assert set(schwettmann.case_data(short, captions)["picture_id"]) == {IDS[2]}
    alone = short[short["picture_id"] == IDS[1]]
    assert set(schwettmann.case_data(alone, captions)["picture_id"]) == {IDS[1]}
    assert schwettmann.case_data(ablated[:0], captions).empty


@pytest.mark.parametrize("lost", [False, True])
def test_pictures_without_enough_units_are_said(paths, source, lost):
    """Interpretable units lack in some pictures, or in all, which then have no row."""
    data = data_of("figureS3", paths)
    most = (data["condition"] == "interpretable") & (data["k"] == 50)
    few = most | ((data["condition"] == "interpretable") & (data["k"] == 20))
    data = data[~most] if lost else data.assign(n=data["n"] - 3 * few)
    n, k = (0, 50) if lost else (7, 20)
    text = words(schwettmann.similarity_figure(data, source)).replace("\n", " ")
    said = f"not all have enough units: {n} at k = {k}, interpretable units of highest attribution)"
    assert f"mean over 10 of these pictures (fewer where {said}" in text


def test_figure_s3_draws_the_similarity_to_the_caption(paths, source):
    data = data_of("figureS3", paths)
    figure = schwettmann.similarity_figure(data, source)
    for condition in CONDITIONS:
        own = data[data["condition"] == condition]
        curve = lines(figure)[schwettmann.CONDITION_COLOURS[condition]]
        np.testing.assert_allclose(curve, own[["k", "bertscore"]])


def test_figure_s4_draws_all_and_interpretable_units_of_every_layer(paths, source):
    data = data_of("figureS4", paths)
    assert data["layer"].tolist() == [0, 1, 2, 3]
    bars = [bar.get_height() for bar in schwettmann.layers_figure(data, source).axes[0].patches]
    assert bars == [4, 25, 30, 0, 0, 20, 12, 0]
    none = data.assign(neurons=0, interpretable=0)
    assert "no unit was recorded" in words(schwettmann.layers_figure(none, source))


# ----------------------------------------------------------------------------------- pictures


def test_masks_are_the_receptive_fields_that_were_measured():
    values = world.rng("field").normal(size=(14, 14)).astype(np.float32)
    scaled = heatmap(values, (224, 200))
    drawn = scaled > schwettmann_pictures.mask_threshold(scaled, 95)
    measured = receptive_field(values, (224, 200), 95)
    assert (drawn == measured).mean() > 0.9999


def test_figure2_shows_the_best_interpretable_units_of_every_supercategory(paths, tables):
    data = data_of("figure2", paths)
    assert list(dict.fromkeys(data["supercategory"])) == [
        "animal", "food", "furniture", "indoor", "sports", "vehicle",
    ]  # fmt: skip
    # The first picture in the seed's order, not the one of the lowest number.
    own = data[data["supercategory"] == "animal"]
    assert set(own["picture_id"]) == {IDS[0]}
    kept = [(rank, unit) for rank, unit in enumerate(world.best(IDS[0])[:TOP]) if not unit[1] % 2]
    units = json.loads(own["units"].iloc[0])
    assert [unit["unit"] for unit in units] == [f"L{layer}.U{n}" for _, (layer, n) in kept[:5]]
    assert all(len(unit["tokens"]) == 2 for unit in units)
    # Unit of rank r is active at patch 8 + r alone.
    expected = np.zeros(world.PATCHES)
    for rank, _ in kept[:5]:
        expected[8 + rank] = (TOP - rank) / len(kept[:5])
    np.testing.assert_allclose(own["value"], expected, atol=1e-3)
    left, top, right, bottom = world.BOX
    scaled = heatmap(expected.reshape(world.GRID), (bottom - top, right - left))
    assert own["threshold"].iloc[0] == pytest.approx(np.percentile(scaled, 95), abs=1e-3)
    assert set(own[["left", "top", "right", "bottom"]].iloc[0]) == set(world.BOX)
    with_other = data_of("figure2", paths, percentile=80)
    assert with_other["threshold"].iloc[0] < own["threshold"].iloc[0]
    assert set(with_other["percentile"]) == {80}


def test_figure2_passes_over_pictures_without_an_interpretable_unit(paths, tables, tmp_path):
    units = tables["units"].copy()
    units.loc[units["sample_id"] == IDS[0], "interpretable"] = False
    write_table(units, tmp_path / "units.parquet")
    data = data_of("figure2", paths | {"units": str(tmp_path / "units.parquet")})
    assert set(data.loc[data["supercategory"] == "animal", "picture_id"]) == {IDS[1]}


def test_figure4_shows_the_most_frequent_interpretable_units(paths):
    data = data_of("figure4", paths, neurons=2)
    first = data.drop_duplicates(["neuron", "picture_id"])
    counts = first.groupby("neuron", sort=False).size()
    among = Counter(unit for name in IDS for unit in set(world.best(name)[:TOP]))
    readable = sorted((-n, layer, unit) for (layer, unit), n in among.items() if unit % 2 == 0)
    expected = {f"language/L{layer}.U{unit}": -n for n, layer, unit in readable[:2]}
    assert counts.to_dict() == expected and list(counts.index) == list(expected)
    # What is left out: as frequent ones of a later layer, rarer ones, one that is no word.
    assert {n for n, _, _ in readable[2:]} == {-3, -2, -1} and among[1, 7] == 3
    own = first[first["neuron"] == counts.index[0]]
    values = [
        data[(data["neuron"] == row.neuron) & (data["picture_id"] == row.picture_id)]["value"].max()
        for row in own.itertuples()
    ]
    assert values == sorted(values, reverse=True) and own["rank"].tolist() == list(range(len(own)))


def test_figure_s1_has_the_iou_of_every_mask(paths, source, pictures):
    data = data_of("figureS1", paths)
    sheep = world.SINGLES[1][0]
    assert list(dict.fromkeys(data["picture_id"])) == [*(IDS[n] for n in (0, 1, 2, 4)), sheep]
    own = data[data["picture_id"] == IDS[0]].drop_duplicates("unit")
    kept = [(rank, unit) for rank, unit in enumerate(world.best(IDS[0])[:TOP]) if not unit[1] % 2]
    count = min(len(kept), MEAN_UNITS)
    assert own["unit"].tolist() == [
        f"mean of {count} units", *(f"L{layer}.U{unit}" for _, (layer, unit) in kept[:6])
    ]  # fmt: skip
    expected = [0.55, *(0.4 - rank / 20 for rank, _ in kept[:6])]
    np.testing.assert_allclose(own["iou"], expected)
    text = words(schwettmann_pictures.masks_figure(data, pictures, source))
    assert all(f"IoU {iou:.2f}" in text for iou in expected)


def test_figure_s2_writes_the_numbers_of_every_cell(paths, source, pictures):
    data = data_of("figureS2", paths)
    names = ["car", "cat", "dog", "vase"]
    assert list(dict.fromkeys(data["units_of"])) == names
    figure = schwettmann_pictures.selectivity_figure(data, pictures, source)
    matrix = next(axes for axes in figure.axes if len(axes.texts) == 16)
    written = np.array([float(text.get_text()) for text in matrix.texts]).reshape(4, 4)
    expected = data.pivot(index="units_of", columns="pictures_of", values="value")
    np.testing.assert_allclose(written, expected.loc[names, names], atol=0.005)
    # A category without a picture stands there all the same: three pictures, matrix and colour bar.
    assert len(figure.axes) == 3 + 2
    assert "car (17)" in words(figure)


def test_a_model_without_patches_says_so(paths, tables, source, pictures, tmp_path):
    """No map is recorded then, so that index and localisation have no row either."""
    lacking = {name: paths[name] for name in ("maps", "index", "localisation")}
    own = paths | emptied(lacking, tmp_path, grid=None)
    for item in ("figure2", "figure4", "figureS1"):
        data = data_of(item, own)
        assert data["value"].isna().all() and len(data) == 1
        text = words(shown(item, data, source, pictures)).replace("\n", " ")
        assert "no place on the picture" in text


# ------------------------------------------------------------------------------------- tables


def test_table1_has_our_numbers_beside_the_papers(paths, source):
    data = data_of("table1", paths)
    assert list(dict.fromkeys(data["kind"])) == ["random", "multimodal", "gpt"]
    page = schwettmann_tables.descriptions_page(data, source, "T")
    assert [
        KINDS["multimodal"], "23.00 [22.50, 23.50]", "23.43",
        "0.4000 [0.3500, 0.4500]", "0.3848", "10",
    ] in markdown_rows(page)  # fmt: skip
    assert "CLIPScore by tiny\\|clipscore" in page and "own model's, LiMBeR-BEIT" in page


def test_table2_has_scores_and_tests_of_its_own_texts(paths, source):
    data = data_of("table2", paths)
    assert list(dict.fromkeys(data["kind"].dropna())) == list(schwettmann_tables.TABLE2)
    tests = data[data["part"] == "test"]
    assert "multimodal" not in set(tests["first"]) and len(tests) == 3
    rows = markdown_rows(schwettmann_tables.prompts_page(data, source, "T"))
    image, other = KINDS["image_prompts"], KINDS["random_prompts"]
    assert [image, other, "BERTScore", "0.200", "p = 0.800", "10 and 10"] in rows
    assert [cells[2] for cells in rows if cells[0] == image and len(cells) == 6][:1] == ["19.17"]
    alone = schwettmann_tables.prompts_data(read_inputs(paths | {"maps": paths["means"]}, [MODEL])[
        "means"], pd.read_csv(paths["ks"]).iloc[:0], world.prompts())  # fmt: skip
    assert "No test was made" in schwettmann_tables.prompts_page(alone, source, "T")


def test_table_s1_lists_pairs_of_the_first_pictures(paths, source):
    data = data_of("tableS1", paths)
    assert data.groupby("picture_id", sort=False).size().to_dict() == dict.fromkeys(IDS[:3], 20)
    own = data[data["picture_id"] == IDS[0]]
    # A unit stands there for each of its patches.
    assert own["neuron"].iloc[0] == own["neuron"].iloc[1] and own["patch"].tolist()[:2] == [0, 1]
    assert own["score"].tolist() == pytest.approx([(30 - rank) / 1000 for rank in range(20)])
    layer, unit = world.best(IDS[0])[0]
    expected = world.tokens().query("module == 'language' and layer == @layer and unit == @unit")
    assert json.loads(own["tokens"].iloc[0]) == expected["tokens"].iloc[0][:5]
    page = schwettmann_tables.pairs_page(data, source, "T")
    assert "## Picture 7: A picture of a **dog** and a \\| &lt;b&gt; in the sun" in page
    assert {len(cells) for cells in markdown_rows(page)} == {6}


def test_table_s2_takes_the_same_patches_of_both_kinds(paths, source):
    data = data_of("tableS2", paths)
    assert set(data["picture_id"]) == {IDS[0]}
    kinds = {kind: rows for kind, rows in data.groupby("kind")}
    assert len(kinds["image"]) == 35 == kinds["image"]["patch"].nunique()
    assert set(kinds["image"]["patch"]) == set(kinds["random"]["patch"])
    row = kinds["random"].iloc[0]
    assert row["bertscore"] == (row["patch"] + 1) / 100 and row["cosine"] == row["patch"] / 100
    rows = markdown_rows(schwettmann_tables.nearest_page(data, source, "T"))
    mean = kinds["image"]["bertscore"].mean()
    assert ["mean", "", f"{kinds['image']['cosine'].mean():.3f}", f"{mean:.4f}"] in rows


def test_table_s3_has_every_condition_and_number_of_units(paths, source):
    data = data_of("tableS3", paths)
    counts = data.groupby(["picture_id", "condition"]).size()
    assert set(counts) == {len(KS)} and len(counts) == 3 * 3
    page = schwettmann_tables.captions_page(data, source, "T")
    assert ["50", "A picture of all 50", "0.500", "0.133"] in markdown_rows(page)
    assert f"## Picture 7, {CONDITIONS['random']}" in page


def test_exclusions_are_counted_and_listed(paths, source):
    page = shown("exclusions", data_of("exclusions", paths), source, {})
    rows = markdown_rows(page)
    assert ["captions", "no-noun", "1"] in rows and "too-few-pictures" in page
    assert "a \\| b" in page


# ------------------------------------------------------------------------------------ scripts


def run_script(name, tmp_path, paths, item, **params):
    common = {"model": MODEL, "dataset_label": DATASET, "title": "T", "dpi": 40, "options": {}}
    own = common | {"item": item} | params
    return figure_checks.run_script(name, tmp_path, world.inputs_of(item, paths), **own)


def test_scripts_write_what_the_library_makes(paths, tmp_path):
    for name in IDS:
        Image.new("RGB", world.SIDES, "gray").save(tmp_path / f"{name}.png")
    output = run_script("draw_schwettmann_table", tmp_path, paths, "table1")
    assert pd.read_csv(output.csv)["paper"].tolist()[2:4] == [23.43, 0.3848]
    assert Path(output.md).read_text(encoding="utf-8").startswith(f"# T\n\nModel: {MODEL}.")
    output = run_script("draw_schwettmann_figure", tmp_path, paths, "figure5", style={"width": 8.0})
    assert len(pd.read_csv(output.csv)) == 12 and Image.open(output.png).size[0] == 320
    style = {"width": 8.0, "cell": 1.0}
    folder = str(tmp_path)
    output = run_script(
        "draw_schwettmann_pictures", tmp_path, paths, "figure2", style=style, root=folder
    )
    assert len(pd.read_csv(output.csv)) == 6 * world.PATCHES
    output = run_script(
        "draw_schwettmann_pictures", tmp_path, paths, "figureS2", style=style, root=folder
    )
    assert pd.read_csv(output.csv, dtype={"picture_id": str})["picture_id"].dropna().isin(IDS).all()
