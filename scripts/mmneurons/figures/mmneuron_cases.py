"""Questions one by one in MMNeuron (Huo et al. 2024): the logit lens, prompts, the domains' data.

Figures 6 and 10 to 13 read the residual stream at one image token and one text token, figure 8
shows what a model is given, table 4 what the domains are. Each has a function `*_data`, whose
result is the CSV, and one that draws that result with the pictures of its questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from string import Formatter, ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from mmneurons.figures.domains import domain, domain_label, domains_of
from mmneurons.figures.pictures import fitted, show_colour_bar, show_picture
from mmneurons.figures.shown import Source, short_names, visible
from mmneurons.figures.style import (
    BODY,
    FAINT,
    MARGIN,
    MARKED,
    SMALL,
    Page,
    Run,
    shortened,
    uniform_colormap,
)
from mmneurons.models.questions import question_prompt

Pictures = Mapping[str, np.ndarray]
"""What a model is shown with each question, `height x width x 3`, by sample_id."""

SHOWN = ["files", "question", "options", "answer"]
"""Columns of a question that figures show; lists are JSON."""


def written(questions: pd.DataFrame) -> pd.DataFrame:
    """Questions as a CSV has them: their lists of files and options as JSON."""
    lists = {
        name: [json.dumps([str(text) for text in texts], ensure_ascii=False) for texts in values]
        for name, values in questions[["files", "options"]].items()
    }
    columns = ["sample_id", "group", *SHOWN]
    return questions.assign(**lists)[columns].reset_index(drop=True)


# Figures 6, 10 to 13: the logit lens.


def lens_data(lens: pd.DataFrame, questions: pd.DataFrame, item: str, top: int = 5) -> pd.DataFrame:
    """The best tokens of every layer at each token that a case reads, with the case's question.

    lens: model, sample_id, group, item, position, place, layer, rank, token, probability. Columns:
    model, sample_id, group, files, question, options, answer, place, position, layer, rank, token,
    probability.
    """
    own = lens[(lens["item"] == item) & (lens["rank"] < top)].drop(columns="group")
    table = own.merge(written(questions), on="sample_id")
    table = table.sort_values(["place", "layer", "rank"], kind="stable", ignore_index=True)
    columns = ["model", "sample_id", "group", *SHOWN, "place", "position", "layer", "rank"]
    return table[[*columns, "token", "probability"]]


def lens_figure(
    data: pd.DataFrame,
    pictures: Pictures,
    source: Source,
    width: float = 9.0,
    cell: float = 0.26,
    colormap: str = "viridis",
) -> Figure:
    """Draw `lens_data`: the question, and a heatmap layers x tokens for each token that is read.

    `cell` is the height of a layer's row.
    """
    page = Page(width)
    y = page.header("What would each layer say next?", source)
    colours, norm = uniform_colormap(colormap), Normalize(0.0, 1.0)
    if data.empty:
        text = "Nothing to draw: no question of this domain was read at such tokens."
        y = page.text([(text, False)], MARGIN, y, page.inner) + 0.1
    else:
        first = data.iloc[0]
        title = f"(a) A question of {domain_label(first['group'])}"
        y = page.text([(title, True)], MARGIN, y, page.inner) + 0.06
        y = _question(page, y, first, pictures[first["sample_id"]], MARGIN, page.inner) + 0.15
        y = _lens_panels(page, y, data, cell, norm, colours) + 0.1
    explanation = (
        "(b), (c): for every layer, from the input embeddings (0) down to the last, the most "
        "probable next tokens that the hidden state at this place of the prompt gives through the "
        "final norm and the unembedding (logit lens), the most probable one on the left. Colour: "
        "probability, on the same scale in all figures of this kind. \u2581 begins a word, "
        "\u2423 is a space, \u2026 marks a token that is longer than its cell."
    )
    return page.figure(page.footer(y, explanation, source))


def _lens_panels(
    page: Page, y: float, data: pd.DataFrame, cell: float, norm: Normalize, colours: Colormap
) -> float:
    """Place the heatmaps side by side, in the order of the prompt, and one colour bar."""
    left, between, bar = 0.45, 0.3, 0.62
    places = list(data.groupby("place", sort=True))
    columns = max(2, len(places))
    panel = (page.inner - bar - between * (columns - 1)) / columns
    xs = [MARGIN + number * (panel + between) for number in range(columns)]
    heads = [own["position"].iloc[0] for _, own in places]
    heads += ["nothing to draw: the prompt has no such token"] * (columns - len(places))
    tops = [
        page.text([(f"({letter}) {head[:1].upper()}{head[1:]}", True)], x, y, panel)
        for head, x, letter in zip(heads, xs, ascii_lowercase[1:], strict=False)
    ]
    top, height = max(tops) + 0.06, cell * data["layer"].nunique()
    for number, ((_, own), x) in enumerate(zip(places, xs, strict=False)):

        def draw(axes: Axes, own=own, first=number == 0) -> None:
            _lens_cells(axes, own, norm, colours, (panel - left) * 0.94, first)

        page.axes(x + left, top, panel - left, height, draw)
    page.axes(
        page.width - MARGIN - bar + 0.12,
        top,
        0.12,
        min(height, 2.2),
        lambda axes: show_colour_bar(axes, norm, colours, "probability", 1),
    )
    return top + height + 0.42


def _lens_cells(
    axes: Axes,
    own: pd.DataFrame,
    norm: Normalize,
    colours: Colormap,
    width: float,
    first: bool,
) -> None:
    """One heatmap with the tokens in its cells; `width` inches are the room of all its columns."""
    layers, ranks = sorted(own["layer"].unique()), sorted(own["rank"].unique())
    values = own.pivot(index="layer", columns="rank", values="probability")
    tokens = own.pivot(index="layer", columns="rank", values="token")
    columns, rows = np.arange(len(ranks) + 1) - 0.5, np.arange(len(layers) + 1) - 0.5
    grid = np.ma.masked_invalid(values.to_numpy(dtype=float))
    axes.pcolormesh(columns, rows, grid, cmap=colours, norm=norm, edgecolor="white", linewidth=0.5)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    for row, layer in enumerate(layers):
        for column, rank in enumerate(ranks):
            token = tokens.loc[layer, rank]
            if not isinstance(token, str):
                continue
            value = values.loc[layer, rank]
            axes.text(
                column,
                row,
                shortened(visible(token), width / len(ranks), SMALL),
                ha="center",
                va="center",
                size=SMALL,
                color="black" if value == value and norm(value) >= 0.6 else "white",
                parse_math=False,
            )
    axes.set_xticks(range(len(ranks)), [str(rank + 1) for rank in ranks])
    step = 1 if len(layers) <= 20 else 2
    axes.set_yticks(range(0, len(layers), step), [str(layer) for layer in layers[::step]])
    axes.tick_params(length=0)
    axes.set(xlabel="rank of the token", ylabel="layer" if first else "")
    for spine in axes.spines.values():
        spine.set_visible(False)


# A question.


def _question(
    page: Page,
    y: float,
    row: pd.Series,
    picture: np.ndarray,
    x: float,
    width: float,
    tallest: float = 1.7,
    size: float = BODY,
) -> float:
    """Place a question with its picture on its left, or above it where the picture is wide."""
    picture_width, height = fitted(picture.shape[:2], width, tallest)
    page.axes(x, y, picture_width, height, lambda axes: show_picture(axes, picture))
    beside = picture_width <= width / 2
    text_x = x + picture_width + 0.15 if beside else x
    end = y if beside else y + height + 0.06
    lines: list[list[Run]] = [[("Question: ", False), (row["question"], False)]]
    options = json.loads(row["options"])
    if options:
        lines.append([("Options: ", False), ("; ".join(options), False)])
    lines.append([("Answer aimed at: ", False), (row["answer"], False)])
    frames = len(json.loads(row["files"]))
    if frames > 1:
        lines.append([(f"{frames} frames, shown to the model as one picture.", False)])
    for line in lines:
        end = page.text(line, text_x, end, width - (text_x - x), size) + 0.05
    return max(end, y + height)


# Figure 8: what a model is given.


def prompts_data(
    questions: pd.DataFrame,
    prompts: Mapping[str, Mapping[str, str]],
    roles: Mapping[str, str],
) -> pd.DataFrame:
    """The prompt of one open question and of one with options, for every model.

    questions: sample_id, group, part, order, files, question, options, answer; of each form the
    first in the seeded order of the first domain that has one is taken, from those that accuracy is
    measured on if there are any. prompts: by model, templates `open` and `choice` with {role},
    {question} and {options}. roles: by domain. Columns: form, model, sample_id, group, files,
    question, options, answer, prompt, inserted (JSON: start and end of what was filled in, as
    characters of the prompt).
    """
    rows = []
    for form, row in _examples(questions):
        options, role = json.loads(row["options"]), roles.get(row["group"], "")
        values = {"role": role, "question": row["question"], "options": str(options)}
        for model, templates in prompts.items():
            prompt = question_prompt(templates, row["question"], options, role)
            inserted = json.dumps(_inserted(templates[form], values))
            rows.append({"form": form, "model": model, **row, "prompt": prompt})
            rows[-1]["inserted"] = inserted
    columns = ["form", "model", "sample_id", "group", *SHOWN, "prompt", "inserted"]
    return pd.DataFrame(rows, columns=columns)


def _inserted(template: str, values: Mapping[str, str]) -> list[list[int]]:
    """Where the values stand in the filled template: start and end of each that has any text."""
    found, end = [], 0
    for literal, name, *_ in Formatter().parse(template):
        start = end + len(literal)
        end = start + len(values[name] if name else "")
        if end > start:
            found.append([start, end])
    return found


def _examples(questions: pd.DataFrame) -> Iterator[tuple[str, dict]]:
    """(form, question) for every form that a question has."""
    has_options = np.array([len(options) > 0 for options in questions["options"]], dtype=bool)
    for form, own in (("open", questions[~has_options]), ("choice", questions[has_options])):
        first = first_questions(own)
        if len(first):
            yield form, written(first).iloc[0].to_dict()


def first_questions(questions: pd.DataFrame) -> pd.DataFrame:
    """The first question of each domain, of those for evaluation if there are any."""
    parts = questions.assign(later=questions["part"] != "evaluate")
    order = parts.sort_values(["group", "later", "order"], kind="stable")
    return order.drop_duplicates("group").dropna(subset="group")


def prompts_figure(
    data: pd.DataFrame, pictures: Pictures, source: Source, width: float = 9.0
) -> Figure:
    """Draw `prompts_data`: for each form the picture, and the prompt of every model."""
    page = Page(width)
    y = page.header("What the models are given", source)
    names = short_names(list(dict.fromkeys(data["model"])))
    heads = {"open": "An open question", "choice": "A question with options"}
    for form, head in heads.items():
        own = data[data["form"] == form]
        if own.empty:
            text = f"{head}: nothing to show, no domain has such a question."
            y = page.text([(text, False)], MARGIN, y, page.inner) + 0.2
            continue
        first = own.iloc[0]
        title = [(f"{head}, {domain_label(first['group'])}", True)]
        y = page.text(title, MARGIN, y, page.inner) + 0.08
        picture = pictures[first["sample_id"]]
        picture_width, height = fitted(picture.shape[:2], 2.4, 1.9)

        def draw(axes: Axes, picture=picture) -> None:
            show_picture(axes, picture)

        bottom = page.axes(MARGIN, y, picture_width, height, draw)
        x = MARGIN + 2.4 + 0.25
        for row in own.itertuples():
            y = page.text([(names[row.model], True)], x, y, page.width - MARGIN - x, SMALL, FAINT)
            y = _prompt(page, x, y + 0.03, page.width - MARGIN - x, row) + 0.1
        y = max(y, bottom) + 0.15
    explanation = (
        "Prompts as the models get them when accuracy is measured; bold and red: what comes from "
        "the question. <image> stands for the picture's tokens; where a prompt has none, they come "
        "before the text. Shown: the first question of its kind in the seeded order."
    )
    return page.figure(page.footer(y, explanation, source))


def _prompt(page: Page, x: float, y: float, width: float, row) -> float:
    """Write a prompt line by line, what was filled in bold; return where it ends."""
    bold = np.zeros(len(row.prompt), dtype=bool)
    for start, end in json.loads(row.inserted):
        bold[start:end] = True
    start = 0
    for line in row.prompt.split("\n"):
        marks = bold[start : start + len(line)]
        cuts = [0, *(np.flatnonzero(np.diff(marks)) + 1), len(line)]
        runs = [(line[a:b], bool(marks[a])) for a, b in zip(cuts, cuts[1:], strict=False) if b > a]
        y = page.text(runs, x, y, width, marked=MARKED)
        start += len(line) + 1
    return y


# Table 4: the domains.


def domains_data(questions: pd.DataFrame, datasets: Mapping[str, str]) -> pd.DataFrame:
    """What each domain is, how many questions it has, and its first one as an example.

    questions: sample_id, group, part, order, files, question, options, answer. datasets: labels of
    the data by domain. Columns: group, label, definition, dataset, n_identify, n_evaluate,
    sample_id, files, question, options, answer (empty for a domain without a question).
    """
    rows = []
    examples = written(first_questions(questions)).set_index("group")
    for name in domains_of(questions):
        own = questions[questions["group"] == name]
        counts = {
            f"n_{part}": int((own["part"] == part).sum()) for part in ("identify", "evaluate")
        }
        found = name in examples.index
        example = examples.loc[name] if found else dict.fromkeys(examples.columns, "")
        look = {"label": domain_label(name), "definition": domain(name).definition}
        rows.append({"group": name, **look, "dataset": datasets[name], **counts, **dict(example)})
    columns = ["group", "label", "definition", "dataset", "n_identify", "n_evaluate", "sample_id"]
    return pd.DataFrame(rows, columns=[*columns, *SHOWN])


def domains_figure(
    data: pd.DataFrame, pictures: Pictures, source: Source, width: float = 9.0
) -> Figure:
    """Draw `domains_data`, a row a domain."""
    page = Page(width)
    y = page.header("The domains and their questions", source)
    gap = 0.2
    widths = [1.75, 1.6, 1.15, page.inner - 4.5 - 3 * gap]
    xs = [MARGIN + sum(widths[:n]) + n * gap for n in range(4)]
    heads = ("domain", "data", "questions", "example")
    ends = [
        page.text([(head, False)], x, y, width, SMALL, FAINT)
        for head, x, width in zip(heads, xs, widths, strict=True)
    ]
    y = max(ends) + 0.06
    for _, row in data.iterrows():
        cells = [
            [[(row["label"], True)], [(row["definition"], False)]],
            [[(row["dataset"], False)]],
            [
                [(f"{row['n_identify']} to find neurons", False)],
                [(f"{row['n_evaluate']} to test them", False)],
            ],
        ]
        ends = []
        for lines, x, column in zip(cells, xs, widths, strict=False):
            end = y
            for line in lines:
                end = page.text(line, x, end, column) + 0.03
            ends.append(end)
        if row["sample_id"]:
            picture = pictures[row["sample_id"]]
            ends.append(_question(page, y, row, picture, xs[3], widths[3], 1.1, SMALL))
        else:
            ends.append(page.text([("no question was found", False)], xs[3], y, widths[3]))
        y = max(ends) + 0.18
    explanation = (
        "Questions: those whose activations are counted to find neurons come from the training "
        "split, those that accuracy is measured on from the validation split. Example: the first "
        "question in the seeded order."
    )
    return page.figure(page.footer(y, explanation, source))


def shown_samples(data: pd.DataFrame) -> Sequence[tuple[str, str, list[str]]]:
    """(sample_id, domain, files) of every question whose picture is drawn."""
    rows = data[data["sample_id"] != ""].drop_duplicates("sample_id")
    columns = ["sample_id", "group", "files"]
    return [(s, g, json.loads(files)) for s, g, files in rows[columns].itertuples(index=False)]
