"""Figures and tables of MMNeuron (Huo et al. 2024), drawn from artifacts in `mmneuron_world`."""

import json

import figure_checks
import mmneuron_world as world
import numpy as np
import pandas as pd
import pytest
from figure_checks import assert_readable, markdown_rows, texts, words
from matplotlib.colors import to_hex
from mmneuron_world import (
    BLIP,
    DATASETS,
    DOMAINS,
    ITEMS,
    MODELS,
    NEXT,
    SELECTED,
    WORDING,
    files_of,
    made,
)
from PIL import Image

from mmneurons.artifacts.tables import read_table, write_csv, write_table
from mmneurons.datasets.pictures import read_question_picture
from mmneurons.figures import domains, mmneuron, mmneuron_cases, mmneuron_tables, style
from mmneurons.figures.domains import in_domains
from mmneurons.figures.inputs import by_model
from mmneurons.figures.mmneuron_cases import shown_samples
from mmneurons.figures.mmneuron_inputs import counted, read_domain_inputs
from mmneurons.figures.mmneuron_items import FIGURES, TABLES, read_item
from mmneurons.figures.shown import Source, joined, short_names
from mmneurons.figures.tables import DASH
from mmneurons.metrics import deviation, trials
from mmneurons.models.questions import question_prompt

NAMES = short_names(MODELS)
SOURCE = Source("; ".join(MODELS), "drawn", "some", "nothing")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return world.write(tmp_path_factory.mktemp("mmneuron"))


def shown(item, data, source, paths, **others):
    """The figure, or the text of the page."""
    if item in TABLES:
        return TABLES[item].show(data, source, "T")
    folder = paths["exclusions"].rsplit("/", 1)[0] + "/pictures"
    pictures = {
        sample_id: np.asarray(read_question_picture(folder, files))
        for sample_id, _, files in (shown_samples(data) if FIGURES[item].pictured else [])
    }
    arguments = [data, pictures] if FIGURES[item].pictured else [data]
    return FIGURES[item].show(*arguments, source, **others)


# ------------------------------------------------------------------------------------ what is shown


def test_words_of_the_library_are_those_of_the_metrics():
    assert mmneuron_tables.CONDITIONS == trials.CONDITIONS
    assert tuple(mmneuron_tables.OVER) == deviation.OVER
    assert list(domains.DOMAINS) == DOMAINS
    colours = [domain.colour for domain in domains.DOMAINS.values()]
    assert len(set(colours)) == len({d.marker for d in domains.DOMAINS.values()}) == 5
    unknown = domains.domain("other")
    assert unknown.label == "other" and unknown.colour not in colours


def test_the_source_counts_what_was_used_and_what_was_left_out(paths):
    _, source = made("figure5", paths)
    assert str(source) == (
        "Model: LLaVA-NeXT, InstructBLIP of a made-up world (tiny). Data: common, medical, "
        "driving, document, remote part of a made-up world (drawn). n = 3 VQAv2, 3 PMC-VQA, "
        "2 LingoQA, 3 DocVQA, 3 RSVQA-HR counted questions. Left out: for every model: "
        "1 missing-frame, 1 no-picture, 1 too-few-questions; LLaVA-NeXT: nothing; InstructBLIP: "
        "1 fewer-tokens."
    )
    _, source = made("table4", paths)
    assert source.n == "5 questions of each domain"
    assert source.left_out == (
        "2 candidate samples (1 missing-frame, 1 no-picture); too-few-questions: remote"
    )
    _, source = made("figure2", paths)
    assert source.n == (
        f"3 pictures of each domain ({NAMES[NEXT]}); "
        f"3 VQAv2, 3 PMC-VQA, 3 LingoQA, 0 DocVQA, 3 RSVQA-HR pictures ({NAMES[BLIP]})"
    )
    # A domain that was left out of the run is not among the categories.
    table = in_domains(pd.DataFrame({"group": ["remote", "remote"], "n": [4, 2]}), ["remote"])
    assert counted(table, table.iloc[:1], "questions") == "4 RSVQA-HR questions"


def test_labels_of_data_end_alike_once():
    assert joined(["A part of x", "B part of x", "C part of x"]) == "A, B, C part of x"
    assert joined(["x", "x y"]) == "x; x y"
    assert joined(["one"]) == "one"
    assert joined(["a x", "x"]) == "a x; x"


def test_domains_without_a_row_and_models_stay_in_order(paths):
    files = {"pca": paths["pca"], "exclusions": paths["exclusions"], "counted": paths["counts"]}
    inputs = read_domain_inputs(files, MODELS, DOMAINS)
    assert list(inputs["pca"]["group"].cat.categories) == DOMAINS
    assert list(inputs["pca"]["model"].cat.categories) == MODELS
    assert inputs["exclusions"]["group"].tolist() == ["common", "driving", "remote"]
    own = inputs["counted"].query("model == @BLIP and module == 'qformer.text'")
    assert own[["n", "tokens"]].to_numpy().tolist() == [[n, 100 * n] for n in (3, 3, 2, 3, 3)]


# ------------------------------------------------------------------------------------ figures


def test_figure2_has_a_point_for_every_picture(paths):
    data, source = made("figure2", paths)
    figure = shown("figure2", data, source, paths)
    left, right = figure.axes[:2]
    assert [len(c.get_offsets()) for c in left.collections] == [3] * 5
    assert [len(c.get_offsets()) for c in right.collections] == [3, 3, 3, 0, 3]
    assert left.collections[1].get_offsets().tolist() == [[3, -1], [4, 0], [5, 1]]
    assert left.get_xlabel() == "first component (51 % of the variance)"
    found = [to_hex(c.get_facecolors()[0]).upper() for c in left.collections]
    assert found == [domains.DOMAINS[name].colour for name in DOMAINS]
    assert_readable(figure)
    only = shown("figure2", data[data["model"] == BLIP], source, paths)
    assert "DocVQA (documents): none" in words(only) and "no picture was embedded" in words(only)


def test_figure2_does_not_draw_what_has_no_place(paths):
    data, source = made("figure2", paths)
    data.loc[data["model"] == NEXT, ["x", "y", "explained_x", "explained_y"]] = np.nan
    figure = shown("figure2", data, source, paths)
    assert "no picture was embedded" in words(figure)
    assert figure.axes[0].get_xlabel() == "first component"


def test_figure5_counts_neurons_of_every_layer(paths):
    data, source = made("figure5", paths)
    assert len(data) == 5 * (sum(len(u) for m in MODELS for u in world.LAYERS[m].values()))
    cells = data.set_index(["model", "module", "layer", "group"])["neurons"].sort_index()
    assert cells[NEXT, "vision", 2].tolist() == [1, 1, 0, 0, 0]
    assert cells[NEXT, "language", 1].tolist() == [0, 1, 5, 0, 0]
    assert cells.groupby("model", observed=True).sum().tolist() == [15, 9]
    assert set(data.loc[data["inert"], "module"]) == {"vision", "qformer.text"}
    # Modules in the order in which a picture passes through them.
    own = data[data["model"] == BLIP]["module"].drop_duplicates().tolist()
    assert own == ["vision", "qformer.query", "qformer.text", "language"]
    figure = shown("figure5", data, source, paths)
    assert len(figure.axes) == 3 + 4 + 1
    # Documents have no neuron in the first model.
    assert len(figure.axes[0].lines) == 3 and len(figure.axes[2].lines) == 4
    assert figure.axes[0].lines[1].get_ydata().tolist() == [0, 1, 1]
    hatched = [len([p for p in axes.patches if p.get_hatch()]) for axes in figure.axes[:7]]
    assert hatched == [1, 0, 0, 0, 0, 1, 0]
    said = words(figure)
    assert "(none: LingoQA, DocVQA)" in said and "cannot affect the output" in said
    assert "the 1 % of each module" in said.replace("\n", " ")
    assert_readable(figure)


def test_figure5_of_domains_without_any_neuron(paths):
    inputs = read_domain_inputs(files_of("figure5", paths), MODELS, DOMAINS)
    none = inputs["neurons"].iloc[:0]
    data = mmneuron.layers_data(none, inputs["silent"], "paper", 0.5)
    assert not data["neurons"].any() and len(data) == 75
    figure = mmneuron.layers_figure(data, SOURCE)
    assert "RSVQA-HR (remote sensing): none" in words(figure)
    assert "as the paper prints it" in words(figure) and "0.5 %" in words(figure)
    assert_readable(figure)


def test_figure7_averages_over_samples_that_have_such_tokens(paths):
    data, source = made("figure7", paths)
    cells = data.set_index(["model", "kind", "group", "layer"])
    # Two samples, 8.0 and 8.01 at the input; half of a nat less after each of two layers.
    own = cells.loc[(NEXT, "image", "common"), "entropy"]
    np.testing.assert_allclose(own, [8.005, 7.505, 7.005])
    remote = cells.loc[(NEXT, "image", "remote", 0)]
    assert remote.tolist() == pytest.approx([8.4, 1])
    figure = shown("figure7", data, source, paths)
    dashed = [line for line in figure.axes[0].lines if line.is_dashed()]
    assert len(dashed) == 5 and len(figure.axes[0].lines) == 10
    np.testing.assert_allclose(dashed[0].get_ydata(), [8.005, 7.505, 7.005])
    assert source.n == "2 questions of each domain"
    assert_readable(figure)


def test_figure9_stacks_silent_units_on_activated_ones(paths):
    data, source = made("figure9", paths)
    assert data["n_activated"].tolist() == [7] * 5 and data["n_silent"].tolist() == [3] * 5
    assert data["inert"].tolist() == [False, False, True, False, False]
    figure = shown("figure9", data, source, paths)
    bars = [p for p in figure.axes[0].patches if not p.get_hatch()]
    assert [(b.get_y(), b.get_height()) for b in bars] == [(0, 7)] * 3 + [(7, 3)] * 3
    assert_readable(figure)
    without = shown("figure9", data.assign(inert=False, n_silent=0), source, paths)
    assert "cannot affect" not in words(without) and "any domain: none" in words(without)


# ------------------------------------------------------------------------------------ the lens


def test_lens_shows_the_best_tokens_in_the_order_of_the_prompt(paths):
    data, source = made("figure6", paths)
    assert set(data["sample_id"]) == {"remote-evaluate-0"} and set(data["group"]) == {"remote"}
    assert data["place"].tolist() == [3] * 15 + [20] * 15
    assert data["rank"].tolist() == [0, 1, 2, 3, 4] * 6
    assert data["token"].head(5).tolist() == [world.TOKENS[2 * rank] for rank in range(5)]
    np.testing.assert_allclose(data["probability"].head(3), [0.4, 0.2, 0.4 / 3])
    figure = shown("figure6", data, source, paths)
    image, text = figure.axes[1:3]
    meshes = [axes.collections[0] for axes in (image, text)]
    for mesh in meshes:
        assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 1) and mesh.get_cmap().name == "viridis"
        np.testing.assert_allclose(mesh.get_array()[:, 0], [0.4, 0.6, 0.8])
    assert image.get_ylim()[0] > image.get_ylim()[1]  # The input embeddings are on top.
    said = words(figure)
    assert "(b) Image token 2 of 16" in said and "(c) Last text token of 9" in said
    assert "(a) A question of RSVQA-HR (remote sensing)" in said
    assert source.n == "1 question, the first in the seeded order"
    assert_readable(figure)


def test_tokens_are_never_markup_and_always_visible(paths):
    data, source = made("figure6", paths)
    figure = shown("figure6", data, source, paths)
    cells = {t.get_text(): t for axes in figure.axes[1:3] for t in axes.texts}
    assert {"<s>", "$x$", "*a*", "|", "\\n", "\\u718a", "\u2581dog"} <= set(cells)
    assert not any(text.get_parse_math() for text in cells.values())
    long = next(text for text in cells if text.startswith("unchar"))
    assert long.endswith("\u2026") and len(long) < len("uncharacteristically")
    # White letters on dark cells and black ones on bright cells.
    best = figure.axes[1].texts[10]
    assert data["probability"].iloc[10] == pytest.approx(0.8) and best.get_color() == "black"
    assert figure.axes[1].texts[0].get_color() == "white"


def test_lens_without_a_token_or_without_a_case_says_so(paths):
    data, source = made("figure6", paths)
    one = shown("figure6", data[data["place"] == 20], source, paths)
    assert "(b) Last text token of 9" in words(one)
    assert "(c) Nothing to draw: the prompt has no such token" in words(one)
    assert_readable(one)
    none, _ = made("figure6", paths, item="figure11")
    figure = shown("figure6", none, source, paths)
    assert none.empty and "Nothing to draw: no question of this domain" in words(figure)
    nothing = data.assign(probability=np.nan, token=None)
    figure = shown("figure6", nothing, source, paths)
    assert figure.axes[1].collections[0].get_array().mask.all() and not figure.axes[1].texts


def test_frames_are_shown_side_by_side(paths):
    data, source = made("figure6", paths, item="figure13")
    figure = shown("figure6", data, source, paths)
    (image,) = figure.axes[0].images
    assert image.get_array().shape == (40, 5 * 60, 3)
    assert [image.get_array()[0, 60 * n, 0] for n in range(5)] == [200, 170, 140, 110, 80]
    assert "5 frames, shown to the model as one picture." in words(figure)
    assert_readable(figure)


# ------------------------------------------------------------------------------------ prompts


def test_figure8_shows_the_prompt_that_the_model_gets(paths):
    data, source = made("figure8", paths)
    assert data[["form", "sample_id"]].drop_duplicates().to_numpy().tolist() == [
        ["open", "common-evaluate-0"],
        ["choice", "medical-evaluate-0"],
    ]
    rows = world.questions().set_index("sample_id")
    for row in data.itertuples():
        asked = rows.loc[row.sample_id]
        expected = question_prompt(WORDING[row.model], asked["question"], asked["options"], "")
        assert row.prompt == expected
        inserted = [row.prompt[start:end] for start, end in json.loads(row.inserted)]
        options = [str(asked["options"])] if row.form == "choice" else []
        assert inserted == [asked["question"], *options]
    assert source.n == "2 questions, the first in the seeded order"
    figure = shown("figure8", data, source, paths)
    bold = [t.get_text() for t in texts(figure) if t.get_color() == style.MARKED]
    assert " ".join(bold[:1]) == "What is $x$ in common <evaluate> 0?"
    assert_readable(figure)


def test_figure8_writes_a_role_and_keeps_line_breaks(paths):
    own = in_domains(world.questions(["driving"]), ["driving"])
    released = {model: templates["released"] for model, templates in world.PROMPTS.items()}
    data = mmneuron_cases.prompts_data(own, released, world.ROLES)
    first = data.iloc[0]
    lines = "USER: <image>\nRole: you drive. Question: What is $x$ in driving <evaluate> 0?\n"
    assert first["prompt"].startswith(lines)
    assert len(json.loads(first["inserted"])) == 2
    pictures = {"driving-evaluate-0": np.zeros((40, 300, 3), np.uint8)}
    figure = mmneuron_cases.prompts_figure(data, pictures, SOURCE)
    drawn = [text.get_text() for text in texts(figure)]
    assert "USER: <image>" in drawn  # A line of its own.
    assert "A question with options: nothing to show" in words(figure)
    assert_readable(figure)
    # Without questions for evaluation, the first one for finding neurons is shown.
    other = own[own["part"] == "identify"]
    ids = mmneuron_cases.prompts_data(other, released, world.ROLES)["sample_id"]
    assert set(ids) == {"driving-identify-0"}


def test_table4_counts_questions_and_shows_the_first(paths):
    data, source = made("table4", paths)
    assert data["group"].tolist() == DOMAINS
    assert data["n_identify"].tolist() == [3] * 5 and data["n_evaluate"].tolist() == [2] * 5
    assert data["sample_id"].tolist() == [f"{name}-evaluate-0" for name in DOMAINS]
    assert data["dataset"].tolist() == list(DATASETS.values())
    assert json.loads(data["options"][1]) == ["A: a | b", "B: <b>lung</b>"]
    figure = shown("table4", data, source, paths)
    assert sum(len(axes.images) for axes in figure.axes) == 5
    said = words(figure)
    assert "3 to find neurons" in said and "Options: A: a | b; B: <b>lung</b>" in said
    assert_readable(figure)


def test_table4_says_where_a_domain_has_no_question(paths):
    few = in_domains(world.questions(["common"]), ["common", "remote"])
    data = mmneuron_cases.domains_data(few, DATASETS)
    assert data["n_identify"].tolist() == [3, 0] and data["sample_id"][1] == ""
    assert shown_samples(data) == [("common-evaluate-0", "common", ["common-evaluate-0.0.png"])]
    pictures = {"common-evaluate-0": np.zeros((48, 64, 3), np.uint8)}
    figure = mmneuron_cases.domains_figure(data, pictures, SOURCE)
    assert "no question was found" in words(figure)


def test_table5_has_every_wording_and_marks_the_one_that_is_used(paths):
    data, source = made("table5", paths)
    assert data.groupby("step").size().to_dict() == {
        "identify": 2,
        "open": 4,
        "choice": 4,
        "role": 1,
    }
    assert data.loc[data["variant"] != "", "used"].tolist() == [True, False] * 4
    text = shown("table5", data, source, paths)
    rows = markdown_rows(text)
    assert [NAMES[NEXT], "&lt;image&gt;\\\\n{question}"] in rows
    line = [NAMES[NEXT], "in the code", "no"]
    assert [*line, "USER: &lt;image&gt;\\\\n{role}Question: {question}\\\\nAnswer briefly. "
            "ASSISTANT:"] in rows  # fmt: skip
    assert ["LingoQA (driving)", "Role: you drive."] in rows
    none = mmneuron_tables.prompts_data(world.PROMPTS, {}, "paper")
    assert "Nothing, in any domain" in mmneuron_tables.prompts_page(none, source, "T")


# ------------------------------------------------------------------------------------ tables


def test_table1_counts_different_neurons_and_those_of_inert_layers(paths):
    data, source = made("table1", paths)
    cells = data.set_index(["model", "part", "group"])
    numbers = ["neurons", "inert", "n_units", "n_samples", "tokens"]
    assert cells.loc[(NEXT, "vision", "medical"), numbers].tolist() == [2, 1, 30, 3, 300]
    # The unit that two domains share counts once.
    assert cells.loc[(NEXT, "vision", "any"), numbers].tolist() == [4, 1, 30, 14, 1400]
    # Both branches of the Q-Former: two units each, one of them inert.
    assert cells.loc[(BLIP, "qformer", "any"), numbers].tolist() == [4, 1, 24, 14, 2800]
    assert cells.loc[(BLIP, "qformer", "common"), numbers].tolist() == [2, 1, 24, 3, 600]
    # All modules: equal layers and units of different modules are different neurons.
    assert cells.loc[(BLIP, "all", "any"), "neurons"] == 9
    assert cells.loc[(NEXT, "all", "document"), "neurons"] == 0
    assert cells.loc[(NEXT, "all", "any"), ["n_units", "inert"]].tolist() == [78, 1]
    rows = markdown_rows(shown("table1", data, source, paths))
    assert ["vision encoder", "2 (1 inert)", "2 (1 inert)", "none", "none", "1", "4", "30",
            "25%"] in rows  # fmt: skip
    assert ["all modules", "3 (1 inert)", "4 (1 inert)", "5", "none", "3", "13", "78", "8%"] in rows
    assert ["Q-Former", "2 (1 inert)", "2", "none", "none", "none", "4", "24", "25%"] in rows
    assert ["tokens in the Q-Former", "600", "600", "400", "600", "600"] in rows
    assert ["questions", "3", "3", "2", "3", "3"] in rows


def test_table2_puts_random_neurons_together_over_seeds(paths):
    data, source = made("table2", paths)
    cells = data.set_index(["variant", "model", "condition", "control", "group"])
    own = cells.loc[("official", BLIP, "qformer", "random", "remote")]
    assert own[["value", "least", "most"]].tolist() == pytest.approx([0.7, 0.6, 0.8])
    assert own["seeds"] == 3 and np.isnan(own["low"]) and own["n"] == 2
    own = cells.loc[("official", NEXT, "projector", "dape", "remote")]
    assert own[["value", "low", "high"]].tolist() == pytest.approx([0.5, 0.4, 0.6])
    assert own["seeds"] == 0 and np.isnan(own["least"])
    order = data[data["model"] == BLIP].drop_duplicates(["condition", "control"])["condition"]
    assert order.tolist() == ["none", *np.repeat(world.CONDITIONS[BLIP], 2)]
    text = shown("table2", data, source, paths)
    rows = markdown_rows(text)
    # Of all domains only the medical one has another measure in the released code.
    head = next(cells for cells in rows if cells[0] == "deactivated")
    assert head[1:4] == [
        "VQAv2 (common scenes)",
        "PMC-VQA (medical)",
        "PMC-VQA (medical), released code's measure",
    ]
    assert len(head) == 7
    line = next(cells for cells in rows if cells[0] == "Q-Former: random neurons")
    assert line[1:4] == ["70.0 (60.0 to 80.0)", "70.0 (60.0 to 80.0)", "140.0 (120.0 to 160.0)"]
    line = next(cells for cells in rows if cells[0] == "nothing")
    assert line[1] == "90.0 \\[80.0, 100.0\\]"
    assert ["PMC-VQA (medical)", "letters of the reply that are the label", "by the released code",
            "2"] in rows  # fmt: skip
    assert ["LingoQA (driving)", "exact match (no Lingo-Judge configured)", "officially",
            "2"] in rows  # fmt: skip
    assert "projector's together" not in text
    masked, _ = made("table2", paths, masks="released")
    assert "neurons and the projector's together" in shown("table2", masked, source, paths)


def test_table2_has_a_dash_where_a_domain_was_not_measured(paths):
    data, source = made("table2", paths)
    few = data[data["group"] != "document"]
    rows = markdown_rows(shown("table2", few, source, paths))
    assert next(cells for cells in rows if cells[0] == "nothing")[5] == DASH


def test_table3_has_a_table_for_every_way_to_average(paths):
    data, source = made("table3", paths)
    assert data["over"].drop_duplicates().tolist() == list(world.OVER)
    assert "none" not in set(data["condition"])
    text = shown("table3", data, source, paths)
    parts = text.split("\n## ")
    assert [part.splitlines()[0] for part in parts[1:]] == list(mmneuron_tables.OVER.values())
    rows = markdown_rows(parts[1])
    value = "10.00 \\[9.00, 11.00\\]"
    assert [NAMES[NEXT], "projector: domain neurons", *[value] * 5, "2"] in rows
    # Seeds 0, 1 and 2: 5.0, 5.1 and 5.2 percent.
    assert [NAMES[BLIP], "all modules: random neurons", *["5.10 (5.00 to 5.20)"] * 5, "2"] in rows
    line = next(cells for cells in markdown_rows(parts[4]) if cells[0] == NAMES[NEXT])
    assert line[6] == DASH and line[7] == "0 to 2"  # Remote questions without text tokens.


def test_table9_shows_four_depths(paths):
    data, source = made("table9", paths)
    own = data[(data["model"] == NEXT) & (data["group"] == "any") & (data["kind"] == "image")]
    assert own["layer"].tolist() == [0, 1, 2]  # Of two layers: 0, 1 (28 % and 70 %), 2.
    # Ten samples, one without image tokens: 8 + mean of place / 10 + n / 100.
    values = [place / 10 + n / 100 for place in range(5) for n in range(2)][:-1]
    np.testing.assert_allclose(own["entropy"], 8 + np.mean(values) - np.arange(3) / 2)
    assert own["n"].tolist() == [9] * 3
    rows = markdown_rows(shown("table9", data, source, paths))
    assert ["image", "RSVQA-HR (remote sensing)", "8.400", "7.900", "7.400", "1"] in rows
    assert ["tokens", "domain", "input embeddings", "after layer 1 of 2", "after layer 2 of 2",
            "questions"] in rows  # fmt: skip


def test_table9_takes_the_papers_layers_of_forty():
    deep = by_model([NEXT], [world.entropy(NEXT, layers=40)])
    data = mmneuron_tables.entropy_data(in_domains(deep, DOMAINS))
    assert data["layer"].drop_duplicates().tolist() == [0, 11, 28, 40]
    assert set(data["layers"]) == {40}


def test_table_s1_compares_the_two_variants(paths):
    data, source = made("tableS1", paths)
    cells = data.set_index(["model", "module", "group"])
    numbers = ["released", "paper", "both"]
    # The printed variant lacks each domain's first, of driving (1, 0), and has (0, 19).
    assert cells.loc[(NEXT, "language", "common"), numbers].tolist() == [1, 2, 1]
    assert cells.loc[(NEXT, "language", "driving"), numbers].tolist() == [5, 5, 4]
    assert cells.loc[(NEXT, "language", "driving"), "overlap"] == pytest.approx(4 / 6)
    assert np.isnan(cells.loc[(NEXT, "projector", "document"), "overlap"])
    # Of units 1, 5, 7 and 2 the one that two domains share is left.
    assert cells.loc[(NEXT, "vision", "any"), numbers].tolist() == [4, 1, 1]
    rows = markdown_rows(shown("tableS1", data, source, paths))
    assert ["language model", "LingoQA (driving)", "5", "5", "4", "0.67"] in rows
    assert ["projector", "DocVQA (documents)", "0", "0", "0", DASH] in rows


def test_exclusions_are_listed_for_every_model(paths):
    data, source = made("exclusions", paths)
    assert data.groupby("model", observed=True).size().tolist() == [3, 4]
    text = shown("exclusions", data, source, paths)
    assert [NAMES[BLIP], "record", "fewer-tokens", "1"] in markdown_rows(text)
    assert "no file a\\|b.png" in text


# ------------------------------------------------------------------------------------ all items


def test_equal_data_give_equal_bytes(paths, tmp_path):
    for item in ("figure5", "figure6", "figure8"):
        for number in range(2):
            stem = tmp_path / f"{item}{number}"
            figure = shown(item, *made(item, paths), paths)
            style.save(figure, stem.with_suffix(".svg"), stem.with_suffix(".png"), dpi=50)
        for kind in ("svg", "png"):
            one, two = (tmp_path / f"{item}{number}.{kind}" for number in range(2))
            assert one.read_bytes() == two.read_bytes()


def emptied(paths, folder):
    """The same files without a row, as the workflow writes them; counts stay as they are."""
    if isinstance(paths, list):
        return [emptied(path, folder / f"{number}") for number, path in enumerate(paths)]
    target = folder / paths.rsplit("/", 1)[-1]
    if target.suffix == ".safetensors":
        return paths
    if target.suffix == ".csv":
        write_csv(pd.read_csv(paths).iloc[:0], target)
    else:
        write_table(read_table(paths).iloc[:0], target)
    return str(target)


@pytest.mark.parametrize("item", sorted(set(ITEMS) - {"table5"}))
def test_without_any_row_every_item_says_so(item, paths, tmp_path):
    _, options, models = ITEMS[item]
    files = {name: emptied(found, tmp_path) for name, found in files_of(item, paths).items()}
    data, source = read_item((FIGURES | TABLES)[item], files, options, models, DATASETS)
    found = shown(item, data, source, paths)
    text = found if item in TABLES else words(found)
    sentences = (
        "Nothing to",
        "nothing to show",
        "no picture was embedded",
        "no entropy was recorded",
        "No entropy was recorded",
        "no layer of a vision encoder",
        "no question was found",
    )
    assert any(sentence in text for sentence in sentences)
    if item in FIGURES:
        assert_readable(found)


def test_every_item_has_a_caption_for_the_report():
    items = {*TABLES, *FIGURES}
    assert items == {
        *("figure2", *(f"figure{n}" for n in range(5, 14))),
        *(f"table{n}" for n in (*range(1, 10), "S1")),
        "exclusions",
    }
    for item in items:
        with open(f"resources/captions/mmneuron/{item}.rst", encoding="utf-8") as caption:
            title, text = caption.read().splitlines()
        assert title and text


def run_script(name, tmp_path, inputs, **params):
    common = {"models": MODELS, "datasets": DATASETS, "title": "T", "dpi": 40, "roots": {}}
    return figure_checks.run_script(name, tmp_path, inputs, **common | params)


def test_scripts_write_what_the_library_makes(paths, tmp_path):
    options = {"item": "table1", "options": SELECTED}
    output = run_script("draw_mmneuron_table", tmp_path, files_of("table1", paths), **options)
    assert pd.read_csv(output.csv)["neurons"].sum() == made("table1", paths)[0]["neurons"].sum()
    with open(output.md, encoding="utf-8") as page:
        assert page.read().startswith(f"# T\n\nModel: {joined([NEXT, BLIP])}.")
    options = {"item": "figure9", "options": {}, "style": {"width": 8.0}}
    output = run_script("draw_mmneuron_figure", tmp_path, files_of("figure9", paths), **options)
    assert len(pd.read_csv(output.csv)) == 5 and Image.open(output.png).size[0] == 320


def test_script_of_figures_reads_pictures_where_each_domain_has_them(paths, tmp_path):
    roots = {name: tmp_path / name for name in DOMAINS}
    for name, root in roots.items():
        root.mkdir()
        for row in world.questions([name]).itertuples():
            for file in row.files:
                Image.new("RGB", (30, 20), "gray").save(root / file)
    inputs = files_of("table4", paths) | {"pictures": ["x"]}
    options = {"item": "table4", "options": {"datasets": DATASETS}, "style": {"width": 9.0}}
    roots = {name: str(root) for name, root in roots.items()}
    output = run_script("draw_mmneuron_figure", tmp_path, inputs, **options, roots=roots)
    assert pd.read_csv(output.csv)["n_identify"].tolist() == [3] * 5
