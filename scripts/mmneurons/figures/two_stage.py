"""The figures of two-stage filtering (Sato & Takagi 2025): pairs of pictures, layers, heatmaps."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmneurons.artifacts.neurons import Neuron
from mmneurons.artifacts.tensors import TensorFile
from mmneurons.figures.panels import shade_layers
from mmneurons.figures.pictures import (
    fitted,
    show_boxes,
    show_colour_bar,
    show_overlay,
    show_picture,
    value_range,
)
from mmneurons.figures.shown import (
    NO_SAMPLE,
    Source,
    evaluation_samples,
    first_samples,
    in_order,
    marked,
    method_label,
    visible,
)
from mmneurons.figures.style import (
    BODY,
    FAINT,
    MARGIN,
    MARKED,
    METHOD_COLOURS,
    METHOD_MARKERS,
    OTHER_COLOUR,
    SMALL,
    VARIANT_LINES,
    Page,
    Run,
    uniform_colormap,
)

BOX_COLOUR = "#F0E442"

# Figure 1: original and inpainted pictures.


def pairs_data(valid: pd.DataFrame, objects: Sequence[str], most: int = 3) -> pd.DataFrame:
    """Return what `pairs_figure` shows: the first evaluation sample of up to `most` objects.

    Columns: sample_id, group, file, boxes (JSON, x, y, width, height in pixels), caption_original,
    caption_inpainted. Objects without a valid sample are passed over.
    """
    picked, _ = first_samples(valid, objects)
    columns = ["sample_id", "group", "file", "boxes", "caption_original", "caption_inpainted"]
    table = picked.head(most)[columns].reset_index(drop=True)
    boxes = [json.dumps([[float(n) for n in box] for box in of_one]) for of_one in table["boxes"]]
    return table.assign(boxes=pd.Series(boxes, dtype="str"))


def pairs_figure(
    data: pd.DataFrame,
    originals: Mapping[str, np.ndarray],
    inpainted: Mapping[str, np.ndarray],
    source: Source,
    width: float = 7.4,
    box_colour: str = BOX_COLOUR,
) -> Figure:
    """Draw each sample's original with its boxes beside its inpainted picture, captions below.

    data: see `pairs_data`. originals, inpainted: pictures `height x width x 3` by sample_id.
    """
    page = Page(width)
    y = page.header("Pictures with and without the object", source)
    if data.empty:
        y = page.text([(f"Nothing to draw: {NO_SAMPLE}.", False)], MARGIN, y, page.inner) + 0.1
    cell = (page.inner - 0.3) / 2
    for row in data.itertuples():
        headings = [(row.group, True), (f" in picture {picture_number(row.sample_id)}", False)]
        sides = (
            (headings, originals[row.sample_id], json.loads(row.boxes), row.caption_original),
            (
                [("the same picture, ", False), (row.group, True), (" inpainted", False)],
                inpainted[row.sample_id],
                [],
                row.caption_inpainted,
            ),
        )
        xs = (MARGIN, MARGIN + cell + 0.3)
        top = max(page.text(side[0], x, y, cell) for side, x in zip(sides, xs, strict=True)) + 0.05
        low = top
        for (_, picture, boxes, _), x in zip(sides, xs, strict=True):
            w, h = fitted(picture.shape[:2], cell, 0.85 * cell)
            draw = _picture_drawer(picture, boxes, box_colour)
            low = max(low, page.axes(x, top, w, h, draw))
        y = 0.25 + max(
            page.text(_caption(side[3], row.group), x, low + 0.08, cell, marked=MARKED)
            for side, x in zip(sides, xs, strict=True)
        )
    explanation = (
        "Left: the picture with the annotated boxes of every instance of the object. Right: the "
        "picture with these boxes painted over from their surroundings. Below each: the model's "
        "caption; words that name the object are bold and red. The first valid sample of each "
        "object is shown."
    )
    return page.figure(page.footer(y, explanation, source))


def _caption(caption: str, group: str) -> list[Run]:
    return marked(caption, group) if caption.strip() else [("(empty caption)", False)]


def picture_number(sample_id: str) -> str:
    """Return the picture's number in the dataset, which a sample_id begins with."""
    return sample_id.split("-", 1)[0].lstrip("0") or "0"


def _picture_drawer(
    picture: np.ndarray, boxes: Sequence, colour: str = BOX_COLOUR
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        show_picture(axes, picture)
        show_boxes(axes, boxes, colour)

    return draw


# Figure 2: neurons per layer.


def layers_data(
    selections: Mapping[tuple[str, str], pd.DataFrame],
    samples: Collection[str],
    n_layers: int,
    inert_layers: Collection[int],
) -> pd.DataFrame:
    """Count the selected neurons of every layer, summed over samples.

    selections: neuron tables (sample_id, layer, ...) by (method, variant); of a table with several
    random seeds the mean over seeds is counted. samples: the sample_ids that count. Columns:
    method, variant, layer, neurons, inert (whether the layer cannot reach the logit); a row for
    every layer, also where no neuron was selected.
    """
    rows = []
    for (method, variant), table in selections.items():
        own = table[table["sample_id"].isin(samples)]
        counts = own["layer"].value_counts().reindex(range(n_layers), fill_value=0)
        seeds = own["seed"].nunique() if "seed" in own and len(own) else 1
        rows += [
            (method, variant, layer, count / seeds if seeds > 1 else count, layer in inert_layers)
            for layer, count in counts.items()
        ]
    return pd.DataFrame(rows, columns=["method", "variant", "layer", "neurons", "inert"])


def layers_figure(
    data: pd.DataFrame, source: Source, width: float = 9.0, height: float = 3.6
) -> Figure:
    """Draw neurons per layer, a line per method and variant; inert layers are hatched.

    data: see `layers_data`. `height` is that of the axes.
    """
    page = Page(width)
    y = page.header("Selected neurons per layer", source) + 0.2
    legend_width = 3.1
    y = page.axes(
        MARGIN + 0.5, y, page.inner - 0.6 - legend_width, height, lambda ax: _draw_layers(ax, data)
    )
    explanation = (
        "Neurons of the language model's feed-forward layers, summed over samples; layers count "
        "from 0. Each baseline selects, sample by sample, as many neurons as two-stage filtering. "
        "Noise at the image tokens of a hatched layer changes no caption: no later layer reads "
        "them. Thin, broken lines: variants and controls."
    )
    return page.figure(page.footer(y + 0.55, explanation, source))


def _draw_layers(axes: Axes, data: pd.DataFrame) -> None:
    layers = sorted(data["layer"].unique())
    shade_layers(axes, data.loc[data["inert"], "layer"].unique(), "cannot reach the logit")
    for method, variant in in_order(data):
        own = data[(data["method"] == method) & (data["variant"] == variant)].sort_values("layer")
        thin = variant in VARIANT_LINES
        thick_marker = 6 if len(layers) <= 16 else 4.5
        axes.plot(
            own["layer"],
            own["neurons"],
            label=method_label(method, variant),
            color=METHOD_COLOURS.get(method, OTHER_COLOUR),
            marker=METHOD_MARKERS.get(method, "v"),
            markersize=3.5 if thin else thick_marker,
            markerfacecolor="white" if thin else None,
            linestyle=VARIANT_LINES.get(variant, "-"),
            linewidth=1.0 if thin else 2.2,
            zorder=3 if thin else 2,
            clip_on=False,
        )
    if data.empty or not data["neurons"].any():
        axes.text(0.5, 0.5, "no neuron was selected", transform=axes.transAxes, ha="center")
        axes.set_ylim(top=1)
    if layers:
        axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, borderaxespad=0)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="layer", ylabel="neurons, sum over samples")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(axis="y", color="#E0E0E0", linewidth=0.6)
    axes.set_axisbelow(True)


# Figure 3: heatmaps and decoded tokens.


@dataclass(frozen=True)
class DecodedNeuron:
    """A neuron's written name, its best tokens, and whether its activation map was recorded."""

    name: str
    tokens: tuple[str, ...]
    has_map: bool


@dataclass(frozen=True)
class ObjectMaps:
    """What figure 3 shows of one object.

    sample_id: the identifying sample, "" where the object has none. maps: mean activation of the
    neurons, `rows x columns` of the patch grid, by sample_id, the identifying one first. gradcam:
    the map of the target word on the identifying picture, or None.
    """

    group: str
    sample_id: str = ""
    neurons: tuple[DecodedNeuron, ...] = ()
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    gradcam: np.ndarray | None = None

    @property
    def note(self) -> str:
        """What is missing, "" where nothing is."""
        if not self.sample_id:
            return NO_SAMPLE
        if not self.neurons:
            return "no neuron was selected for the identifying sample"
        return "" if self.maps else "no activation map was recorded for these neurons"


def object_maps(
    valid: pd.DataFrame,
    neurons: pd.DataFrame,
    tokens: pd.DataFrame,
    record: TensorFile,
    gradcam: TensorFile,
    site: str,
    objects: Sequence[str],
    pictures: int = 3,
    top: int = 5,
) -> list[ObjectMaps]:
    """Read what figure 3 shows, an entry per object in the order of `objects`.

    The identifying sample is the object's first evaluation sample. neurons: a table of two-stage
    filtering, whose rank is by activation difference; the `top` first of the identifying sample are
    averaged. The pictures are the object's evaluation samples in their order.
    """
    firsts, _ = first_samples(valid, objects)
    identifying = dict(zip(firsts["group"], firsts["sample_id"], strict=True))
    shown = evaluation_samples(valid)
    group_of = dict(zip(valid["sample_id"], valid["group"], strict=True))
    result = []
    for group in objects:
        if group not in identifying:
            result.append(ObjectMaps(group))
            continue
        sample_id = identifying[group]
        best = neurons[neurons["sample_id"] == sample_id].nsmallest(top, "rank")
        places = _places(record, site, group, best)
        decoded = _decoded(best, tokens[tokens["group"] == group], places)
        recorded = [s for s in record.facts["sample_ids"] if group_of[s] == group]
        own = shown.loc[shown["group"] == group, "sample_id"].tolist()[:pictures]
        found = [place for place in places if place is not None]
        maps = {}
        if found:
            values = record[f"{site}/maps/{group}"]
            maps = {
                s: values[recorded.index(s)][found].astype(np.float32).mean(axis=0)
                for s in own
                if s in recorded
            }
        grid = record.facts["grid"]
        maps = {s: mean.reshape(grid) for s, mean in maps.items()}
        result.append(ObjectMaps(group, sample_id, decoded, maps, _gradcam_of(gradcam, sample_id)))
    return result


def _places(record: TensorFile, site: str, group: str, neurons: pd.DataFrame) -> list[int | None]:
    """Return each neuron's row among the object's recorded maps, None where it has none."""
    if f"{site}/map_units/{group}" not in record:
        return [None] * len(neurons)
    units = record[f"{site}/map_units/{group}"].tolist()
    where = {(layer, unit): place for place, (layer, unit) in enumerate(units)}
    return [where.get((row.layer, row.unit)) for row in neurons.itertuples()]


def _decoded(
    neurons: pd.DataFrame, tokens: pd.DataFrame, places: Sequence[int | None], best: int = 5
) -> tuple[DecodedNeuron, ...]:
    by_unit = {(row.layer, row.unit): row.tokens for row in tokens.itertuples()}
    return tuple(
        DecodedNeuron(
            str(Neuron(row.module, row.layer, row.unit)),
            tuple(str(token) for token in by_unit.get((row.layer, row.unit), ())[:best]),
            place is not None,
        )
        for row, place in zip(neurons.itertuples(), places, strict=True)
    )


def _gradcam_of(gradcam: TensorFile, sample_id: str) -> np.ndarray | None:
    ids = list(gradcam.facts["sample_ids"])
    return gradcam["maps"][ids.index(sample_id)].astype(np.float32) if sample_id in ids else None


def heatmaps_data(objects: Sequence[ObjectMaps]) -> pd.DataFrame:
    """Return all that `heatmaps_figure` draws as one long table.

    kind "mean activation" and "gradcam": a row per cell of a map, with row, column and value. kind
    "neuron": a row per neuron, with name and tokens (JSON). kind "note": what an object lacks.
    """
    columns = ["group", "kind", "sample_id", "row", "column", "value", "neuron", "tokens", "note"]
    parts = [pd.DataFrame(columns=columns)]
    for entry in objects:
        maps = [("mean activation", sample_id, values) for sample_id, values in entry.maps.items()]
        if entry.gradcam is not None:
            maps.append(("gradcam", entry.sample_id, entry.gradcam))
        for kind, sample_id, values in maps:
            cells = {"kind": kind, "sample_id": sample_id, "value": values.ravel()}
            row, column = np.indices(values.shape).reshape(2, -1)
            parts.append(pd.DataFrame({**cells, "row": row, "column": column}))
        for neuron in entry.neurons:
            words = json.dumps(neuron.tokens, ensure_ascii=False)
            note = "" if neuron.has_map else "no map recorded"
            cells = {"kind": "neuron", "sample_id": entry.sample_id, "neuron": neuron.name}
            parts.append(pd.DataFrame([{**cells, "tokens": words, "note": note}]))
        if entry.note:
            cells = {"kind": "note", "sample_id": entry.sample_id, "note": entry.note}
            parts.append(pd.DataFrame([cells]))
        for part in parts:
            if "group" not in part:
                part["group"] = entry.group
    filled = [part.astype("object") for part in parts if len(part)] or parts
    table = pd.concat(filled, ignore_index=True).reindex(columns=columns)
    return table.astype({"row": "Int64", "column": "Int64", "value": "float64"})


def heatmaps_figure(
    objects: Sequence[ObjectMaps],
    pictures: Mapping[str, np.ndarray],
    boxes: Mapping[str, Sequence],
    source: Source,
    cell: float = 1.55,
    colormap: str = "viridis",
    gradcam_colormap: str = "magma",
) -> Figure:
    """Draw, per object, its identifying picture, heatmaps, Grad-CAM map and decoded tokens.

    pictures (`height x width x 3`) and boxes (x, y, width, height) by sample_id. `cell` is a
    picture's longest side. The heatmaps of an object share one colour scale.
    """
    columns = _Columns(cell, max([1, *(len(entry.maps) for entry in objects)]))
    colormaps = uniform_colormap(colormap), uniform_colormap(gradcam_colormap)
    page = Page(columns.page_width)
    y = page.header("Where the top five neurons are active, and what they decode to", source)
    if not objects:
        y = page.text([("Nothing to draw: no object.", False)], MARGIN, y, page.inner) + 0.1
    for entry in objects:
        y = page.text([(entry.group, True)], MARGIN, y, page.inner, BODY + 1.5) + 0.03
        if entry.sample_id:
            y = _panel_row(page, y, entry, pictures, boxes, columns, colormaps)
        if entry.note:
            note = f"{entry.note[0].upper()}{entry.note[1:]}."
            y = page.text([(note, False)], MARGIN, y + 0.04, page.inner)
        y = _token_lines(page, y + 0.06, entry.neurons) + 0.2
    explanation = (
        "Neurons: of the first valid sample of each object (the identifying picture, outlined in "
        "yellow), the five selected ones with the largest activation difference between original "
        "and inpainted picture. Heatmaps: their mean activation at each image token, scaled "
        "bilinearly from the grid of image tokens to the picture; one colour scale an object. "
        "Grad-CAM: pytorch-grad-cam's map of the object's word on the identifying picture. Tokens: "
        "the five best of each neuron's output weights times the unembedding, best first; \u2581 "
        "begins a word."
    )
    return page.figure(page.footer(y, explanation, source))


@dataclass(frozen=True)
class _Columns:
    """Where the columns of figure 3 stand: picture, `n_maps` heatmaps, bar, Grad-CAM, bar."""

    cell: float
    n_maps: int
    gap: float = 0.12
    bar_room: float = 0.72

    def picture(self, number: int) -> float:
        return MARGIN + number * (self.cell + self.gap)

    def bar(self, n_maps: int) -> float:
        return self.picture(n_maps + 1) - 0.04

    @property
    def gradcam(self) -> float:
        return self.picture(self.n_maps + 1) + self.bar_room

    @property
    def gradcam_bar(self) -> float:
        return self.gradcam + self.cell + self.gap - 0.04

    @property
    def page_width(self) -> float:
        return self.gradcam_bar + self.bar_room + MARGIN


_Panel = tuple[float, str, str, Callable[[Axes], None]]
"""x, heading, sample_id of the picture, and what draws it."""


def _panel_row(page, y, entry, pictures, boxes, columns, colormaps) -> float:
    """Place one object's pictures and colour bars under their headings; return where they end."""
    identifying = _picture_drawer(pictures[entry.sample_id], boxes[entry.sample_id])
    panels: list[_Panel] = [
        (columns.picture(0), "identifying picture", entry.sample_id, identifying)
    ]
    bars = []
    if entry.maps:
        norm, colormap = value_range(entry.maps.values()), colormaps[0]
        bars.append((columns.bar(len(entry.maps)), _bar_drawer(norm, colormap, "mean activation")))
        for number, (sample_id, values) in enumerate(entry.maps.items(), start=1):
            which = "identifying" if sample_id == entry.sample_id else "another"
            draw = _overlay_drawer(pictures[sample_id], values, norm, colormap)
            heading = f"mean of {_mapped(entry)}: {which} picture"
            panels.append((columns.picture(number), heading, sample_id, draw))
    if entry.gradcam is None:
        page.text([("no Grad-CAM map recorded", False)], columns.gradcam, y, columns.cell, SMALL)
    else:
        norm, colormap = value_range([entry.gradcam]), colormaps[1]
        bars.append((columns.gradcam_bar, _bar_drawer(norm, colormap, "Grad-CAM")))
        draw = _overlay_drawer(pictures[entry.sample_id], entry.gradcam, norm, colormap)
        heading = f"Grad-CAM of \u201c{entry.group}\u201d"
        panels.append((columns.gradcam, heading, entry.sample_id, draw))
    cell = columns.cell
    top = low = 0.04 + max(page.text([(text, False)], x, y, cell, SMALL) for x, text, *_ in panels)
    for x, _, sample_id, draw in panels:
        w, h = fitted(pictures[sample_id].shape[:2], cell, cell)
        end = page.axes(x, top, w, h, draw)
        name = f"picture {picture_number(sample_id)}"
        low = max(low, page.text([(name, False)], x, end + 0.02, cell, SMALL, FAINT))
    for x, draw in bars:
        page.axes(x, top, 0.1, 0.75 * cell, draw)
    return low


def _mapped(entry: ObjectMaps) -> str:
    count = sum(neuron.has_map for neuron in entry.neurons)
    return "the only neuron" if count == 1 else f"the top {count} neurons"


def _token_lines(page: Page, y: float, neurons: Sequence[DecodedNeuron]) -> float:
    for neuron in neurons:
        words = "  ".join(f"\u201c{visible(token)}\u201d" for token in neuron.tokens)
        text = words or "no decoded token was recorded"
        if not neuron.has_map:
            text += " (no activation map recorded; not in the mean)"
        page.text([(neuron.name, False)], MARGIN, y, 1.7, BODY, FAINT)
        y = page.text([(text, False)], MARGIN + 1.7, y, page.inner - 1.7, BODY)
    return y


def _overlay_drawer(picture, values, norm, colormap):
    return lambda axes: show_overlay(axes, picture, values, norm, colormap)


def _bar_drawer(norm, colormap, label):
    return lambda axes: show_colour_bar(axes, norm, colormap, label)
