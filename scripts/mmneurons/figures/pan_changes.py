"""The tables of Pan et al. 2024 on causes: noise on output rows, and edits of words.

Single captions, as in the paper, stand above rates over all pairs that were tried. The tables have
a column `part`: "caption" or "rate". Tables of several models have a categorical column `model`
(`mmneurons.figures.inputs`).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mmneurons.figures.inputs import models_of, of_models
from mmneurons.figures.pan_inputs import picture_name, picture_order
from mmneurons.figures.pan_tables import marked_up
from mmneurons.figures.shown import Source, method_label, short_names
from mmneurons.figures.tables import DASH, bounds, escaped, middle_level, page
from mmneurons.metrics.edits import MEASURES as EDIT_MEASURES
from mmneurons.metrics.weight_noise import MEASURES as NOISE_MEASURES

LEVEL_UNITS = {
    "row": "times the root mean square of the row's weights",
    "absolute": "standard deviation of the noise, absolute",
}
KINDS = {
    "token": "the first token of source and target, as in the paper",
    "word": "all tokens of source and target",
}
EDIT_HEADS = {"success": "success", "target_named": "target named", "source_gone": "source gone"}
EDIT_HEADS |= {name: name.replace("_", " ") for name in EDIT_MEASURES if name not in EDIT_HEADS}
EDIT_WORDS = (
    "Rates: success: the caption of the edited picture names the target and no longer the source "
    "(target named, source gone: each alone). Transfer: success on other pictures whose captions "
    "name the source. Locality: captions of pictures without the source stay word by word. Others "
    "kept: share of the edited caption's other concepts that are still named. Unedited: share of "
    "the neurons that the edit leaves as they are, because their gradient is not longer than "
    "beta. In brackets: 95 % bootstrap intervals over samples; the random control has as many "
    f"neurons of the same layers. {DASH}: no number, or no interval."
)


# Tables 5 and 11: noise on output rows.


def noise_data(
    weight_noise: pd.DataFrame,
    pictures: pd.DataFrame,
    rates: pd.DataFrame | None = None,
    skip: int = 0,
    most: int = 1,
    draw: int = 0,
) -> pd.DataFrame:
    """Captions of chosen pictures under noise on each concept's neurons, and all rates.

    weight_noise: model, sample_id, group, picture_id, method, seed, unit, level, draw,
    caption_before, caption. Of each model the pictures with the most concepts tried are shown, the
    first of them first: `most` after the first `skip`; at the level of `_shown_level` and `draw`,
    of random neurons those of the lowest seed. rates: the table of `metrics.weight_noise` or None.
    """
    place = {name: number for number, name in enumerate(picture_order(pictures))}
    parts = []
    for model in models_of(weight_noise):
        own = weight_noise[weight_noise["model"] == model]
        own = _shown_level(own[own["draw"] == draw])
        tried = own.groupby("picture_id")["group"].nunique()
        chosen = sorted(tried.index, key=lambda name: (-tried[name], place[name]))
        for picture_id in chosen[skip : skip + most]:
            rows = own[own["picture_id"] == picture_id].sort_values(
                ["method", "group", "seed"], kind="stable"
            )
            parts.append(rows.drop_duplicates(["method", "group"]).assign(part="caption"))
    columns = [
        *("part", "model", "picture_id", "group", "method", "seed", "unit", "level", "draw"),
        *("caption_before", "caption", "measure", "value", "low", "high", "n", "n_left_out"),
    ]
    return _with_rates(parts, rates, columns, weight_noise)


def _shown_level(noise: pd.DataFrame) -> pd.DataFrame:
    """The rows at the highest level of the unit "row", or else at the first unit's middle level."""
    relative = noise[noise["unit"] == "row"]
    if len(relative):
        return relative[relative["level"] == relative["level"].max()]
    own = noise[noise["unit"].isin(noise["unit"].head(1))]
    return own[own["level"] == middle_level(own)]


def noise_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `noise_data` as a page: a table a picture, then the rates."""
    names = short_names(models_of(data))
    captions = data[data["part"] == "caption"]
    blocks: dict = {}
    for (model, picture_id), own in captions.groupby(
        ["model", "picture_id"], observed=True, sort=False
    ):
        groups = list(dict.fromkeys(own["group"]))
        first = own.iloc[0]
        rows = [{"noise on": "no neuron", "caption": marked_up(first["caption_before"], groups)}]
        rows += [
            {
                "noise on": ("" if row.method == "contribution" else "random neurons instead of ")
                + f"the neurons of \u201c{escaped(row.group)}\u201d",
                "caption": marked_up(row.caption, groups),
            }
            for row in own.itertuples()
        ]
        level = f"level {first['level']:g} of the unit \u201c{first['unit']}\u201d"
        heading = f"{names[model]}, {picture_name(picture_id)}, {level}"
        blocks[escaped(heading)] = pd.DataFrame(rows)
    if captions.empty:
        blocks["Captions"] = "No caption under noise to show."
    rates = data[data["part"] == "rate"]
    if len(rates):
        by = ["method", "unit", "level"]
        blocks["Rates"] = _rates_block(rates, by, dict.fromkeys(NOISE_MEASURES))
    units = [
        f"\u201c{unit}\u201d: {LEVEL_UNITS[unit]}" if unit in LEVEL_UNITS else f"\u201c{unit}\u201d"
        for unit in dict.fromkeys(data["unit"].dropna())
    ]
    caption = (
        "Captions while Gaussian noise lies on the output rows of a concept's best neurons, "
        "or of as many random neurons of the same layers; words that name a concept whose neurons "
        "were tried are bold. Shown, of each model: the pictures of which most concepts were "
        "tried, at the highest level of the unit \u201crow\u201d where the model has it, else at "
        "the middle level; first draw, first random seed. Units of the level: "
        f"{escaped('; '.join(units)) or DASH}."
    )
    if len(rates):
        caption += (
            " Rates over all pictures and concepts tried: suppression: the caption no longer names "
            "the concept; retention: share of the caption's other concepts that it still names; "
            "unchanged: it is the same caption. In brackets: 95 % bootstrap intervals over "
            f"samples. {DASH}: no number, or no interval."
        )
    return page(title, caption, blocks, source)


# Tables 6 and 12: edits of a source word into targets.


def edits_data(
    edits: pd.DataFrame,
    pictures: pd.DataFrame,
    rates: pd.DataFrame | None = None,
    skip: int = 0,
    most: int = 1,
    targets: int = 4,
) -> pd.DataFrame:
    """Captions of edited pictures for chosen source words, and the rates of first-token edits.

    edits: model, edit_id, source, target, kind, method, seed, picture_id, role, n_neurons,
    n_unedited, caption_before, caption. Source words: those that most models edit, then those of
    most edits, then by alphabet; `most` after the first `skip`, of each and of each model the first
    `targets` edits in the pictures' order. Of random neurons the lowest seed is shown. rates: the
    table of `metrics.edits` or None.
    """
    own = edits[edits["role"] == "edited"]
    distinct = own.drop_duplicates(["model", "edit_id"])
    n_models = distinct.groupby("source")["model"].nunique()
    n_edits = distinct["source"].value_counts()
    sources = sorted(n_edits.index, key=lambda word: (-n_models[word], -n_edits[word], word))
    parts = []
    for source in sources[skip : skip + most]:
        for model in models_of(edits):
            rows = own[(own["source"] == source) & (own["model"] == model)]
            parts.append(_first_edits(rows, pictures, targets))
    if rates is not None:
        rates = rates[rates["kind"] == "token"]
    return _with_rates(parts, rates, _EDIT_COLUMNS, edits)


_EDIT_COLUMNS = [
    *("part", "model", "source", "target", "edit_id", "picture_id", "role", "kind", "method"),
    *("seed", "n_neurons", "n_unedited", "caption_before", "caption"),
    *("measure", "value", "low", "high", "n", "n_left_out"),
]


def _first_edits(rows: pd.DataFrame, pictures: pd.DataFrame, most: int) -> pd.DataFrame:
    """The first `most` edits in the order of the pictures; the lowest seed of each method."""
    place = {name: number for number, name in enumerate(picture_order(pictures))}
    edited = rows[rows["role"] == "edited"].drop_duplicates("edit_id")
    order = sorted(
        zip(edited["edit_id"], edited["picture_id"], edited["target"], strict=True),
        key=lambda edit: (place[edit[1]], edit[2]),
    )
    chosen = {edit[0]: number for number, edit in enumerate(order[:most])}
    kept = rows[rows["edit_id"].isin(chosen)]
    kept = kept.assign(number=kept["edit_id"].map(chosen).astype(int))
    kept = kept.sort_values(["number", "kind", "method", "seed"], kind="stable")
    return kept.drop_duplicates(["edit_id", "kind", "method", "picture_id"]).assign(part="caption")


def edits_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `edits_data` as a page: a table a source word and model, then the rates."""
    names = short_names(models_of(data))
    captions = data[data["part"] == "caption"]
    blocks: dict = {}
    for (word, model), own in captions.groupby(["source", "model"], observed=True, sort=False):
        rows = []
        for _, edit in own.groupby("edit_id", sort=False):
            first = edit.iloc[0]
            head = {
                "picture": picture_name(first["picture_id"]).removeprefix("picture "),
                "target": escaped(first["target"]),
                "unedited": marked_up(first["caption_before"], [first["source"]]),
            }
            rows.append(head | _edited_cells(edit) | {"left as they are": _unedited(edit)})
        blocks[f"\u201c{escaped(word)}\u201d, {escaped(names[model])}"] = pd.DataFrame(rows)
    if captions.empty:
        blocks["Captions"] = "No edit to show."
    rates = data[data["part"] == "rate"]
    if len(rates):
        blocks["Rates of first-token edits"] = _rates_block(rates, ["method"], EDIT_HEADS)
    caption = (
        "Captions after the output rows of a source word's best neurons were edited so that "
        "they raise a target word instead (Algorithm 1). Words that name the source are bold "
        "before the edit, words that name source or target after it. Source words: those edited "
        "in most models and most often; their edits in the seeded order of the pictures. Left as "
        "they are: neurons that the first-token edit does not change, of all."
    )
    return page(title, f"{caption} {EDIT_WORDS}" if len(rates) else caption, blocks, source)


def _edited_cells(rows: pd.DataFrame) -> dict[str, str]:
    """The captions of one picture under one edit: by first tokens, by words, of random neurons."""
    cells = {}
    for head, kind, method in (
        ("edited by first token", "token", "contribution"),
        ("edited by all tokens", "word", "contribution"),
        ("random neurons, first token", "token", "random"),
    ):
        found = rows[(rows["kind"] == kind) & (rows["method"] == method)]
        words = [*found["source"].head(1), *found["target"].head(1)]
        cells[head] = marked_up(found["caption"].iloc[0], words) if len(found) else DASH
    return cells


def _unedited(rows: pd.DataFrame) -> str:
    own = rows[(rows["kind"] == "token") & (rows["method"] == "contribution")]
    return f"{own['n_unedited'].iloc[0]:g} of {own['n_neurons'].iloc[0]:g}" if len(own) else DASH


# Table 7: the same edit on other pictures.


def transfer_data(edits: pd.DataFrame, pictures: pd.DataFrame, most: int = 2) -> pd.DataFrame:
    """Captions of the edited picture, of another with the source, of one without, by model.

    edits: as for `edits_data`. Of each model the first `most` edits in the pictures' order that
    have a picture of every role; of each role the first picture.
    """
    parts = []
    for model in models_of(edits):
        own = edits[edits["model"] == model]
        roles = own.groupby("edit_id")["role"].nunique()
        rows = _first_edits(own[own["edit_id"].isin(roles.index[roles == 3])], pictures, most)
        parts.append(rows.drop_duplicates(["edit_id", "kind", "method", "role"]))
    table = _with_rates(parts, None, _EDIT_COLUMNS, edits)
    return table.drop(columns=["part", "measure", "value", "low", "high", "n", "n_left_out"])


def transfer_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `transfer_data` as a page: a table a model and edit."""
    names = short_names(models_of(data))
    roles = {
        "edited": "(a) edited on",
        "transfer": "(b) another with the source",
        "locality": "(c) one without it",
    }
    blocks: dict = {}
    for (model, _), edit in data.groupby(["model", "edit_id"], observed=True, sort=False):
        rows = []
        for role, words in roles.items():
            own = edit[edit["role"] == role]
            first = own.iloc[0]
            number = picture_name(first["picture_id"])
            head = {"picture": f"{words}: {number.removeprefix('picture ')}"}
            head["unedited"] = marked_up(first["caption_before"], [first["source"]])
            rows.append(head | _edited_cells(own))
        words = f"{names[model]}: \u201c{first['source']}\u201d to \u201c{first['target']}\u201d"
        blocks[escaped(words)] = pd.DataFrame(rows)
    if not blocks:
        blocks[""] = "No edit has pictures of all three kinds."
    caption = (
        "An edit made on picture (a) and the captions under it: of (a), of another picture (b) "
        "whose caption names the source, which should change too, and of a picture (c) whose "
        "caption does not, which should stay. Words that name the source are bold before the edit, "
        "words that name source or target after it. Of each model the first edits in the seeded "
        "order of the pictures that have all three."
    )
    return page(title, caption, blocks, source)


# Table S2: rates of all edits.


def rates_data(rates: pd.DataFrame) -> pd.DataFrame:
    """Rates of edits by model, kind, method and measure, in this order."""
    place = {name: number for number, name in enumerate(EDIT_HEADS)}
    return rates.sort_values(
        ["kind", "model", "method", "measure"],
        key=lambda column: column.map(place) if column.name == "measure" else column,
        kind="stable",
        ignore_index=True,
    )


def rates_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `rates_data` as a page: a table a kind of edit."""
    blocks = {
        f"Edited by {KINDS.get(kind, kind)}": _rates_block(rows, ["method"], EDIT_HEADS)
        for kind, rows in data.groupby("kind", sort=False)
    }
    blocks = blocks or {"": "Nothing to show: nothing was edited."}
    caption = (
        "Edits between words of several tokens are beyond the paper, which edits the first token "
        f"only; so are rates, intervals and the random control. {EDIT_WORDS}"
    )
    return page(title, caption, blocks, source)


# Shared.


def _with_rates(
    parts: Sequence[pd.DataFrame],
    rates: pd.DataFrame | None,
    columns: list[str],
    like: pd.DataFrame,
) -> pd.DataFrame:
    """Captions and, below them, rates in one table."""
    together = [*parts, *([] if rates is None else [rates.assign(part="rate")])]
    # Of mixed types: a column of one part is empty in the other.
    filled = [table.astype(object) for table in together if len(table)]
    table = pd.concat(filled or [pd.DataFrame(columns=columns)], ignore_index=True)
    table = table.reindex(columns=columns)
    numbers = [name for name in ("level", "value", "low", "high") if name in columns]
    whole = [
        name
        for name in ("seed", "draw", "n", "n_left_out", "n_neurons", "n_unedited")
        if name in columns
    ]
    types = dict.fromkeys(numbers, "float64") | dict.fromkeys(whole, "Int64")
    return of_models(table.astype(types), like)


def _rates_block(rates: pd.DataFrame, by: list[str], heads: dict) -> pd.DataFrame:
    """A row a model and combination of `by`, a column a measure with its interval and n."""
    names = short_names(models_of(rates))
    rows = []
    for key, own in rates.groupby(["model", *by], observed=True, sort=False):
        line = {"model": escaped(names[key[0]])}
        for name, value in zip(by, key[1:], strict=True):
            line[name] = _key_cell(name, value)
        found = own.set_index("measure")
        for measure, head in heads.items():
            cell = DASH
            if measure in found.index:
                row = found.loc[measure]
                cell = bounds(row["value"], row["low"], row["high"])
                cell += f" (n = {row['n']})" if not pd.isna(row["value"]) else ""
            line[head or measure] = cell
        rows.append(line)
    return pd.DataFrame(rows)


def _key_cell(name: str, value: str | float) -> str:
    """What a row of rates is about: its method, or its unit or level of noise."""
    if name == "method":
        return method_label(value, "")
    return escaped(value) if isinstance(value, str) else f"{value:g}"
