"""Where the neurons of Schwettmann et al. 2023 are active: heatmaps and masks on pictures.

`maps` is a tensor of units' activations at the image tokens, `rows x patches`, and its index a
table with `row`, picture_id, layer, unit, kind and rank (0 best), kind being "multimodal" (the
picture's units of highest attribution) or "random" (of the same layers). The file's facts have
`grid`, rows and columns of the patches or None, where there is no map and the index has no row, and
`boxes`, the part of each picture that they cover. Each figure has a function `*_data`, whose result
is the CSV and all that the figure shows besides the pictures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from mmneurons.artifacts.tables import in_order
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.figures.pan_pictures import NO_GRID, mask_threshold, show_mask
from mmneurons.figures.panels import name_room
from mmneurons.figures.pictures import (
    fitted,
    heatmap,
    show_colour_bar,
    show_masked_overlay,
    show_picture,
)
from mmneurons.figures.schwettmann_inputs import (
    first_pictures,
    of_supercategories,
    picture_name,
    quoted,
    unit_name,
    with_tokens,
)
from mmneurons.figures.shown import Source, marked
from mmneurons.figures.style import FAINT, MARGIN, MARKED, SMALL, Page, uniform_colormap
from mmneurons.metrics.localisation import MEAN_UNITS

EDGES = ["left", "top", "right", "bottom"]
CELLS = ["row", "column", "value"]
MEAN = "multimodal-mean"
"""The kind of the mean map of a picture's units among the rows of localisation."""


def read_map(maps: TensorFile, rows: pd.DataFrame) -> np.ndarray:
    """The mean map of some rows of the index, `rows x columns` of patches."""
    values = maps["maps"][rows["row"].to_numpy(dtype=int)].astype(np.float32)
    return values.mean(axis=0).reshape(maps.facts["grid"])


def interpretable(index: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    """The rows of each picture's units of highest attribution that are interpretable for it."""
    words = units[units["interpretable"].astype(bool)][
        ["sample_id", "layer", "unit"]
    ].drop_duplicates()
    words = words.rename(columns={"sample_id": "picture_id"})
    own = index[index["kind"] == "multimodal"]
    return own.merge(words, on=["picture_id", "layer", "unit"])


def _cells(maps: TensorFile, rows: pd.DataFrame, percentile: float, **head) -> pd.DataFrame:
    """A row a patch of the mean map of `rows`: head, EDGES, CELLS, threshold and percentile.

    head: picture_id, and what else stands in every row.
    """
    values = read_map(maps, rows)
    box = [int(edge) for edge in maps.facts["boxes"][head["picture_id"]]]
    left, top, right, bottom = box
    row, column = np.indices(values.shape).reshape(2, -1)
    cells = dict(zip(EDGES, box, strict=True))
    cells |= {"row": row, "column": column, "value": values.ravel()}
    threshold = mask_threshold(heatmap(values, (bottom - top, right - left)), percentile)
    cells |= {"threshold": threshold, "percentile": percentile, "note": ""}
    return pd.DataFrame(head | cells)


def _together(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    columns = [*columns, *EDGES, *CELLS, "threshold", "percentile", "note"]
    filled = [part.astype(object) for part in parts if len(part)]
    table = pd.concat(filled or [pd.DataFrame(columns=columns)], ignore_index=True)
    table = table.reindex(columns=columns)
    whole = dict.fromkeys([*EDGES, "row", "column"], "Int64")
    return table.astype(whole | dict.fromkeys(["value", "threshold", "percentile"], "float64"))


def _without_grid(columns: Sequence[str]) -> pd.DataFrame:
    """The data of a model whose image tokens have no place on the picture: one row, a note."""
    return _together([pd.DataFrame([{"note": NO_GRID}])], columns)


def _nothing(data: pd.DataFrame, otherwise: str) -> str | None:
    """What to say where there is nothing to draw: the note of the data, or what else is lacking."""
    if data["picture_id"].notna().any():
        return None
    return next(iter(data["note"]), f"Nothing to draw: {otherwise}")


def _percentile(data: pd.DataFrame) -> float:
    """The percentile above which a map of the CSV is shown; the paper's where there is no map."""
    return next(iter(data["percentile"].dropna()), 95.0)


def _above(data: pd.DataFrame) -> str:
    return f"above its {_percentile(data):g}th percentile"


def _map_of(rows: pd.DataFrame) -> np.ndarray:
    """The map of a CSV's rows."""
    return rows.pivot(index="row", columns="column", values="value").to_numpy(dtype=np.float32)


def _part(pictures: Mapping[str, np.ndarray], rows: pd.DataFrame) -> np.ndarray:
    """What the patches cover of a picture."""
    first = rows.iloc[0]
    left, top, right, bottom = (int(first[edge]) for edge in EDGES)
    return pictures[first["picture_id"]][top:bottom, left:right]


# Figure 2: the best five units of one picture of each supercategory.


def supercategories_data(
    maps: TensorFile,
    index: pd.DataFrame,
    units: pd.DataFrame,
    captions: pd.DataFrame,
    tokens: pd.DataFrame,
    percentile: float = 95,
    most: int = 6,
    n_units: int = 5,
    n_tokens: int = 2,
) -> pd.DataFrame:
    """The mean map of the best interpretable units of one picture a supercategory.

    units: sample_id, layer, unit, interpretable. `n_units` units of each of `most` supercategories.
    Columns: picture_id, file, supercategory, caption, group, units (JSON: name and best tokens of
    each, best first), then a row a patch: left, top, right, bottom (the part of the picture that
    the patches cover, in pixels), row, column, value, threshold (of the mask, on the map scaled to
    that part), percentile (its), note (of a model without maps, in the only row).
    """
    columns = ["picture_id", "file", "supercategory", "caption", "group", "units"]
    if maps.facts["grid"] is None:
        return _without_grid(columns)
    own = interpretable(index, units)
    known = captions[captions["picture_id"].isin(own["picture_id"])]
    parts = []
    for picture in of_supercategories(known, most).itertuples():
        best = own[own["picture_id"] == picture.picture_id]
        best = with_tokens(best.sort_values("rank").head(n_units), tokens, n_tokens)
        named = [
            {"unit": unit_name(row.layer, row.unit), "tokens": json.loads(row.tokens)}
            for row in best.itertuples()
        ]
        head = {
            name: getattr(picture, name)
            for name in ("picture_id", "file", "supercategory", "caption", "group")
        }
        head["units"] = json.dumps(named, ensure_ascii=False)
        parts.append(_cells(maps, best, percentile, **head))
    return _together(parts, columns)


def supercategories_figure(
    data: pd.DataFrame,
    pictures: Mapping[str, np.ndarray],
    source: Source,
    width: float = 9.0,
    cell: float = 1.35,
    colormap: str = "viridis",
) -> Figure:
    """Draw `supercategories_data`, two pictures side by side.

    pictures: `height x width x 3` by picture_id, whole.
    """
    page = Page(width)
    colours = uniform_colormap(colormap)
    y = page.header("Where the multimodal neurons of a noun are active, and what they say", source)
    entries = [rows for _, rows in data.groupby("picture_id", sort=False)]
    if text := _nothing(data, "no picture with an object has interpretable units."):
        y = page.text([(text, False)], MARGIN, y, page.inner) + 0.1
    column = (page.inner - 0.3) / 2
    for start in range(0, len(entries), 2):
        ends = [
            _supercategory(page, x, y, column, rows, pictures, cell, colours)
            for rows, x in zip(
                entries[start : start + 2], (MARGIN, MARGIN + column + 0.3), strict=False
            )
        ]
        y = max(ends) + 0.2
    explanation = (
        "The first picture of each supercategory, that of its largest annotated object, which need "
        "not be what the noun names. Left: what the model sees of the picture; right: the mean "
        "activation of the five interpretable units of highest attribution, scaled bilinearly, "
        f"where it is {_above(data)}, in colours from there to the highest value, which is the "
        "brightest. Beside: these units, each with the two tokens that it raises most. Below: the "
        "caption; the noun whose first token they are attributed to is bold and red."
    )
    return page.figure(page.footer(y, explanation, source))


def _supercategory(
    page: Page,
    x: float,
    y: float,
    width: float,
    rows: pd.DataFrame,
    pictures: Mapping[str, np.ndarray],
    cell: float,
    colours: Colormap,
) -> float:
    first = rows.iloc[0]
    head = [(first["supercategory"], True), (f", {picture_name(first['picture_id'])}", False)]
    y = page.text(head, x, y, width) + 0.05
    part, values, share = _part(pictures, rows), _map_of(rows), _percentile(rows)
    w, h = fitted(part.shape[:2], cell, cell)
    page.axes(x, y, w, h, lambda axes: show_picture(axes, part))
    right = x + w + 0.06
    page.axes(right, y, w, h, lambda axes: show_masked_overlay(axes, part, values, colours, share))
    right += w + 0.1
    end = y
    for unit in json.loads(first["units"]):
        words = quoted(json.dumps(unit["tokens"])) or "not decoded"
        end = page.text(
            [(unit["unit"], True), (f" {words}", False)], right, end, x + width - right, SMALL
        )
        end += 0.03
    return page.text(
        marked(first["caption"], first["group"]),
        x,
        max(end, y + h) + 0.06,
        width,
        marked=MARKED,
    )


# Figure 4: the pictures that activate two neurons most.


def examples_data(
    maps: TensorFile,
    index: pd.DataFrame,
    units: pd.DataFrame,
    captions: pd.DataFrame,
    tokens: pd.DataFrame,
    percentile: float = 95,
    neurons: int = 2,
    most: int = 8,
    n_tokens: int = 5,
) -> pd.DataFrame:
    """The maps of a few units on the pictures that activate them most.

    The units are the `neurons` interpretable ones that are among the best of most pictures (lower
    layer and unit where equal), the pictures the `most` of these with the highest `value` in the
    index. units: sample_id, layer, unit, interpretable. Columns: neuron, tokens (JSON), layer,
    unit, rank (0: the strongest picture), picture_id, file, then a row a patch as in
    `supercategories_data`.
    """
    columns = ["neuron", "tokens", "layer", "unit", "rank", "picture_id"]
    if maps.facts["grid"] is None:
        return _without_grid([*columns, "file"])
    files = captions.drop_duplicates("picture_id").set_index("picture_id")["file"]
    own = interpretable(index, units)
    own = own[own["picture_id"].isin(files.index)]
    frequent = own.groupby(["layer", "unit"]).size().sort_values(ascending=False, kind="stable")
    parts = []
    for layer, unit in frequent.index[:neurons]:
        rows = own[(own["layer"] == layer) & (own["unit"] == unit)]
        rows = rows.sort_values(["value", "picture_id"], ascending=[False, True]).head(most)
        rows = with_tokens(rows, tokens, n_tokens).assign(rank=range(len(rows)))
        for place, row in rows.iterrows():
            head = {name: row[name] for name in columns} | {"file": files[row["picture_id"]]}
            parts.append(_cells(maps, rows.loc[[place]], percentile, **head))
    return _together(parts, [*columns, "file"])


def examples_figure(
    data: pd.DataFrame,
    pictures: Mapping[str, np.ndarray],
    source: Source,
    width: float = 9.0,
) -> Figure:
    """Draw `examples_data`: for each unit a row of pictures, masked where it is not active."""
    page = Page(width)
    y = page.header("The pictures that activate two neurons most", source)
    if text := _nothing(data, "no interpretable unit is among the best of any picture."):
        y = page.text([(text, False)], MARGIN, y, page.inner) + 0.1
    share = _percentile(data)
    most = max([4, *(data["rank"].dropna().astype(int) + 1)])
    cell = (page.inner - 0.08 * (most - 1)) / most
    for (_, tokens), own in data.groupby(["neuron", "tokens"], sort=False):
        first = own.iloc[0]
        head = [(unit_name(first["layer"], first["unit"]), True)]
        head.append((f"  raises {quoted(tokens) or 'tokens that were not decoded'}", False))
        y = page.text(head, MARGIN, y + 0.05, page.inner) + 0.06
        low, x = y, MARGIN
        for picture_id, rows in own.groupby("picture_id", sort=False):
            part, values = _part(pictures, rows), _map_of(rows)
            w, h = fitted(part.shape[:2], cell, cell)

            def place(axes: Axes, part=part, values=values, share=share) -> None:
                show_mask(axes, part, values, share)

            end = page.axes(x, y, w, h, place)
            words = f"{picture_name(picture_id)}, {values.max():.2f}"
            low = max(low, page.text([(words, False)], x, end + 0.03, cell, SMALL))
            x += cell + 0.08
        y = low + 0.15
    explanation = (
        "The two interpretable units that are among the best of most pictures, and of these "
        "pictures the ones on whose image tokens their activation is highest (its maximum stands "
        f"below), strongest first. Bright: where the scaled activation is {_above(data)}; the rest "
        "is darkened."
    )
    return page.figure(page.footer(y, explanation, source))


# Figure S1: masks of single units, and of their mean.


def masks_data(
    maps: TensorFile,
    index: pd.DataFrame,
    captions: pd.DataFrame,
    localisation: pd.DataFrame,
    percentile: float = 95,
    most: int = 8,
    units: int = 6,
) -> pd.DataFrame:
    """The mean map of each picture's interpretable units and those of its best, with their IoU.

    localisation: picture_id, category, layer, unit, kind, interpretable, iou; the row of kind
    "multimodal-mean" is that of the mean of the best MEAN_UNITS. The pictures are the first `most`
    of those that have one, of each the best `units` units stand alone. Columns: picture_id, file,
    category, unit ("mean of n units", or a unit's name), iou, then a row a patch as in
    `supercategories_data`.
    """
    columns = ["picture_id", "file", "category", "unit", "iou"]
    if maps.facts["grid"] is None:
        return _without_grid(columns).astype({"iou": "float64"})
    files = captions.drop_duplicates("picture_id").set_index("picture_id")["file"]
    scored = localisation[localisation["kind"].isin(["multimodal", MEAN])]
    # A file without a row has columns without a type.
    scored = scored[scored["interpretable"].astype(bool)]
    own = interpretable(index, scored.rename(columns={"picture_id": "sample_id"}))
    own = own.sort_values("rank", kind="stable")
    known = {(r.picture_id, r.layer, r.unit): r.iou for r in scored.itertuples()}
    means = scored[scored["kind"] == MEAN].set_index("picture_id")["iou"].to_dict()
    categories = scored.drop_duplicates("picture_id").set_index("picture_id")["category"]
    parts = []
    candidates = set(scored["picture_id"]) & set(own["picture_id"])
    for picture_id in first_pictures(captions, sorted(candidates), most):
        rows = own[own["picture_id"] == picture_id].head(MEAN_UNITS)
        head = {"picture_id": picture_id, "file": files[picture_id]}
        head["category"] = categories[picture_id]
        name = f"mean of {len(rows)} units"
        iou = means.get(picture_id, np.nan)
        parts.append(_cells(maps, rows, percentile, **head, unit=name, iou=iou))
        for place, row in rows.head(units).iterrows():
            iou = known.get((picture_id, row["layer"], row["unit"]), np.nan)
            name = unit_name(row["layer"], row["unit"])
            row = rows.loc[[place]]
            parts.append(_cells(maps, row, percentile, **head, unit=name, iou=iou))
    table = _together(parts, columns)
    return table.astype({"iou": "float64"})


def masks_figure(
    data: pd.DataFrame,
    pictures: Mapping[str, np.ndarray],
    source: Source,
    cell: float = 1.0,
) -> Figure:
    """Draw `masks_data`, a row a picture; `cell` is the longest side of one."""
    gap = 0.08
    columns = 2 + max([6, *(own["unit"].nunique() - 1 for _, own in data.groupby("picture_id"))])
    page = Page(2 * MARGIN + columns * (cell + gap))
    y = page.header("Masks of single neurons and of their mean, against the object", source)
    if text := _nothing(data, "no picture with one annotated object has interpretable units."):
        y = page.text([(text, False)], MARGIN, y, page.inner) + 0.1
    share = _percentile(data)
    for picture_id, own in data.groupby("picture_id", sort=False):
        part = _part(pictures, own)
        w, h = fitted(part.shape[:2], cell, cell)
        words = [(own["category"].iloc[0], True), (f", {picture_name(picture_id)}", False)]
        top = page.text(words, MARGIN, y, page.inner) + 0.03
        page.axes(MARGIN, top, w, h, lambda axes, part=part: show_picture(axes, part))
        end, x = top + h, MARGIN + cell + gap
        for unit, rows in own.groupby("unit", sort=False):
            values = _map_of(rows)

            def place(axes: Axes, part=part, values=values, share=share) -> None:
                show_mask(axes, part, values, share)

            page.axes(x, top, w, h, place)
            below = page.text([(unit, False)], x, top + h + 0.03, cell, SMALL)
            iou = rows["iou"].iloc[0]
            said = "no IoU" if np.isnan(iou) else f"IoU {iou:.2f}"
            end = max(end, page.text([(said, False)], x, below, cell, SMALL, FAINT))
            x += cell + gap
        y = max(y, end) + 0.12
    explanation = (
        "Pictures with one annotated object, the mask of the mean activation of the interpretable "
        "units of highest attribution to the caption's noun, and the masks of the best six alone. "
        f"Bright: where the scaled activation is {_above(data)}. IoU: "
        "intersection over union of the mask and the object's annotated outline; since a mask "
        f"covers {100 - _percentile(data):g} % of the picture, the IoU with a larger object is "
        "bounded below 1."
    )
    return page.figure(page.footer(y, explanation, source))


# Figure S2: selectivity.


def selectivity_data(selectivity: pd.DataFrame, pictures: pd.DataFrame) -> pd.DataFrame:
    """How active each category's units are on the pictures of every category.

    selectivity: units_of, pictures_of, value (relative to the largest over pictures_of), activation
    (mean, absolute), n_units, n_pictures. pictures: category, picture_id, file; the first of each
    category is shown. Columns: those of selectivity, and picture_id and file of the picture shown.
    """
    firsts = pictures.drop_duplicates("category").rename(columns={"category": "pictures_of"})
    categories = sorted({*selectivity["units_of"], *selectivity["pictures_of"]})
    table = in_order(in_order(selectivity, "pictures_of", categories), "units_of", categories)
    return table.merge(firsts[["pictures_of", "picture_id", "file"]], on="pictures_of", how="left")


def selectivity_figure(
    data: pd.DataFrame,
    pictures: Mapping[str, np.ndarray],
    source: Source,
    width: float = 9.0,
    cell: float = 0.56,
    colormap: str = "viridis",
) -> Figure:
    """Draw `selectivity_data`: a matrix of categories, with a picture of each above it."""
    page = Page(width)
    colours = uniform_colormap(colormap)
    y = page.header("Are the neurons of one category active on pictures of others too?", source)
    units = list(dict.fromkeys(data["units_of"]))
    columns = list(dict.fromkeys(data["pictures_of"]))
    if data.empty:
        text = "Nothing to draw: no category has enough pictures and interpretable units."
        y = page.text([(text, False)], MARGIN, y, page.inner) + 0.1
    else:
        left, bar = 1.9, 0.9
        side = min(cell, (page.inner - left - bar) / len(columns))
        page.text([("pictures of", False)], MARGIN, y + side / 2, left - 0.1, SMALL, FAINT)
        for number, category in enumerate(columns):
            name = data.loc[data["pictures_of"] == category, "picture_id"].iloc[0]
            if not pd.isna(name):
                picture = pictures[name]
                w, h = fitted(picture.shape[:2], side - 0.06, side - 0.06)
                x = MARGIN + left + number * side + (side - w) / 2

                def place(axes: Axes, picture=picture) -> None:
                    show_picture(axes, picture)

                page.axes(x, y + side - 0.03 - h, w, h, place)
        top = y + side + 0.04
        page.text([("units of", False)], MARGIN, y + side - 0.12, left, SMALL, FAINT)
        low = min(0.0, float(data["value"].min()))
        norm = Normalize(low, 1.0)
        extent = (side * len(columns), side * len(units))
        page.axes(
            MARGIN + left,
            top,
            *extent,
            lambda axes: _matrix(axes, data, units, columns, norm, colours),
        )
        page.axes(
            MARGIN + left + extent[0] + 0.12,
            top,
            0.1,
            extent[1],
            lambda axes: show_colour_bar(axes, norm, colours, "relative activation", 1),
        )
        y = top + extent[1] + name_room(columns) + 0.05
    explanation = (
        "Rows: the interpretable units that are among the best of most pictures of a category; "
        "their number stands in brackets. Columns: pictures of a category, the first of which is "
        "shown. "
        "Numbers: mean activation over units, pictures and image tokens, relative to the largest "
        "of the row. 1 on the diagonal means that no other category activates the units more. "
        "\u2013: the mean is above 0 on pictures of no category, so nothing can be relative to it."
    )
    return page.figure(page.footer(y, explanation, source))


def _matrix(
    axes: Axes,
    data: pd.DataFrame,
    units: Sequence[str],
    columns: Sequence[str],
    norm: Normalize,
    colours: Colormap,
) -> None:
    values = data.pivot(index="units_of", columns="pictures_of", values="value")
    values = values.reindex(index=units, columns=columns)
    axes.pcolormesh(
        np.arange(len(columns) + 1) - 0.5,
        np.arange(len(units) + 1) - 0.5,
        values,
        cmap=colours,
        norm=norm,
        edgecolor="white",
        linewidth=1,
    )
    axes.set_ylim(len(units) - 0.5, -0.5)
    for row, of_units in enumerate(units):
        for column, of_pictures in enumerate(columns):
            value = values.loc[of_units, of_pictures]
            text = "\u2013" if np.isnan(value) else f"{value:.2f}"
            ink = "white" if norm(value) < 0.6 else "black"
            axes.text(column, row, text, ha="center", va="center", size=SMALL - 1, color=ink)
    counts = data.drop_duplicates("units_of").set_index("units_of")["n_units"]
    axes.set_xticks(range(len(columns)), columns, rotation=40)
    axes.set_yticks(range(len(units)), [f"{name} ({counts[name]})" for name in units])
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor", parse_math=False)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
