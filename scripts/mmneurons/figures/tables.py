"""The tables of two-stage filtering (Sato & Takagi 2025): numbers for CSV, a page for readers.

Each table has a function `*_data`, whose result is the CSV, and a function `*_page`, which sets
that result in Markdown. Text from models and datasets is escaped in pages, and nothing that is
missing is left out without a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmneurons.figures.shown import (
    NO_SAMPLE,
    Source,
    evaluation_samples,
    first_samples,
    in_order,
    marked,
    method_label,
    object_reasons,
    sample_reasons,
    short_names,
)
from mmneurons.metrics.suppression import MEASURES

DASH = "\u2013"
NO_NOISE = "no noise"
NOISE_UNITS = {
    "rms": "times the root mean square of the site's activations",
    "absolute": "standard deviations of 1 (absolute)",
}
SIMILARITIES = {
    "bleu1": "BLEU-1",
    "bleu4": "BLEU-4",
    "rouge1": "ROUGE-1",
    "rougeL": "ROUGE-L",
    "bertscore": "BERTScore",
}

Methods = Sequence[tuple[str, str]]
"""(method, variant) pairs, in the order in which they are shown."""


# Tables 1 and 5: captions under noise.


def captions_data(
    valid: pd.DataFrame,
    noise: pd.DataFrame,
    exclusions: pd.DataFrame,
    objects: Sequence[str],
    methods: Methods,
    level: float | None = None,
    draw: int = 0,
) -> pd.DataFrame:
    """Captions of each object's first evaluation sample: without noise, and under each method's.

    noise: captions under noise; those of the sample's own picture under its own neurons are taken,
    at `level` (None: the middle one) and `draw`, of random neurons those of the lowest seed.
    Columns: group, sample_id, method and variant ("no noise", "" for the first row), level, draw,
    seed, caption, note (why there is no caption).
    """
    picked, missing = first_samples(valid, objects)
    if level is None:
        level = middle_level(noise)
    own = noise[
        (noise["sample_id"] == noise["picture_id"])
        & (noise["level"] == level)
        & (noise["draw"] == draw)
    ].sort_values("seed", kind="stable")
    cells = {
        (row.sample_id, row.method, row.variant): row
        for row in own[::-1].itertuples()  # The lowest seed comes last and stays.
    }
    rows = []
    for sample in picked.itertuples():
        head = {"group": sample.group, "sample_id": sample.sample_id}
        rows.append({**head, "method": NO_NOISE, "caption": sample.caption_original})
        for method, variant in methods:
            row = {**head, "method": method, "variant": variant, "level": level, "draw": draw}
            found = cells.get((sample.sample_id, method, variant))
            if found is None:
                why = sample_reasons(exclusions, [sample.sample_id])
                rows.append({**row, "note": "no caption: " + (why or "no neuron selected")})
            else:
                rows.append({**row, "caption": found.caption, "seed": found.seed})
    rows += [{"group": group, **_without_sample(exclusions, group)} for group in missing]
    columns = [
        "group", "sample_id", "method", "variant", "level", "draw", "seed", "caption", "note",
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns).sort_values(
        "group", key=lambda names: names.map(list(objects).index), kind="stable", ignore_index=True
    )
    texts = ["group", "sample_id", "method", "variant", "caption", "note"]
    whole = {"draw": "Int64", "seed": "Int64", "level": "float64"}
    # A column without any text is one of floats.
    table[texts] = table[texts].astype(object).fillna("")
    return table.astype(whole)


def captions_page(data: pd.DataFrame, source: Source, noise_unit: str, title: str) -> str:
    """Set `captions_data` as a page: one table an object, its name bold in the captions."""
    levels, draws = data["level"].dropna().unique(), data["draw"].dropna().unique()
    under = ""
    if len(levels):
        unit = NOISE_UNITS.get(noise_unit, noise_unit)
        under = f" Noise level {levels[0]:g} ({unit}), draw {draws[0]}"
        under += ", random control with its first seed." if data["seed"].notna().any() else "."
    blocks = {}
    for group, rows in data.groupby("group", sort=False):
        sample_id = rows["sample_id"].iloc[0]
        heading = f"{escaped(group)}, sample {escaped(sample_id)}" if sample_id else escaped(group)
        blocks[heading] = _captions_block(rows)
    caption = (
        "Captions of the first valid sample of each object, without noise and with noise on the "
        f"neurons that each method selects for it.{under} Words that name the object are bold."
    )
    return page(title, caption, blocks, source)


def _captions_block(rows: pd.DataFrame) -> pd.DataFrame | str:
    if not rows["method"].any():
        return escaped(rows["note"].iloc[0])
    cells = [
        {
            "neurons": NO_NOISE if r.method == NO_NOISE else method_label(r.method, r.variant),
            "caption": f"*{escaped(r.note)}*" if r.note else _marked_up(r.caption, r.group),
        }
        for r in rows.itertuples()
    ]
    return pd.DataFrame(cells)


def _marked_up(caption: str, group: str) -> str:
    parts = ((escaped(text), bold) for text, bold in marked(caption, group))
    return "".join(f"**{text}**" if bold else text for text, bold in parts) or "*(empty caption)*"


def middle_level(noise: pd.DataFrame) -> float:
    """Return the middle one of the noise levels, of an even number the upper; NaN for none."""
    levels = sorted(noise["level"].unique())
    return float(levels[len(levels) // 2]) if levels else np.nan


# Table 2: suppression, retention, score.


def suppression_data(
    suppression: pd.DataFrame,
    valid: pd.DataFrame,
    exclusions: pd.DataFrame,
    objects: Sequence[str],
    methods: Methods | None = None,
) -> pd.DataFrame:
    """Rows object x noise level, then averages over objects; columns for each method.

    suppression: the table of `mmneurons.metrics.suppression`. Columns: group ("average" for the
    mean over objects), level (NaN in the last row: the mean over levels too), then
    "{method}/{variant} {measure}" with " low" and " high", and note (why an object has no numbers).
    """
    suppression = suppression.assign(
        group=suppression["group"].fillna(""), variant=suppression["variant"].fillna("")
    )
    methods = list(in_order(suppression)) if methods is None else list(methods)
    levels = sorted(suppression["level"].dropna().unique())
    cells = {
        (row["method"], row["variant"], row["group"], _key(row["level"])): row
        for row in suppression.to_dict("records")
    }
    samples = evaluation_samples(valid).groupby("group")["sample_id"].agg(list)
    rows = []
    for group in objects:
        if (suppression["group"] == group).any():
            rows += [{"group": group, "level": level, "note": ""} for level in levels]
        elif group in samples:
            why = sample_reasons(exclusions, samples[group]) or "no neuron selected"
            rows.append({"group": group, "level": np.nan, "note": "no caption: " + why})
        else:
            rows.append({"group": group, "level": np.nan, **_without_sample(exclusions, group)})
    rows += [{"group": "average", "level": level, "note": ""} for level in [*levels, np.nan]]
    for row in rows:
        name = "" if row["group"] == "average" else row["group"]
        for method, variant in methods:
            key = (method, variant, name, _key(row["level"]))
            found = {} if row["note"] else cells.get(key, {})
            for measure in MEASURES:
                head = f"{method}/{variant} {measure}"
                row[head] = found.get(measure, np.nan)
                row[f"{head} low"] = found.get(f"{measure}_low", np.nan)
                row[f"{head} high"] = found.get(f"{measure}_high", np.nan)
    table = pd.DataFrame(rows)
    return table[[*(name for name in table if name != "note"), "note"]]


def suppression_page(data: pd.DataFrame, source: Source, noise_unit: str, title: str) -> str:
    """Set `suppression_data` as a page: a table a measure, with 95 % intervals as text."""
    heads = [name.removesuffix(" score") for name in data if name.endswith(" score")]
    blocks = {}
    for measure in MEASURES:
        rows = []
        for row in data.to_dict("records"):
            cells = {"object": escaped(row["group"]), "noise level": _level(row)}
            for head in heads:
                value, low, high = (row[f"{head} {measure}{end}"] for end in ("", " low", " high"))
                cells[method_label(*head.split("/", 1))] = interval(value, low, high)
            if row["note"]:
                cells["noise level"] = f"*{escaped(row['note'])}*"
            rows.append(cells)
        blocks[measure.capitalize()] = pd.DataFrame(rows)
    caption = (
        "Noise on the selected neurons of one picture of an object. Suppression: share of captions "
        "of the object's pictures that no longer name it. Retention: share of captions of other "
        "objects' pictures that still name theirs. Score: their mean. In brackets: 95 % bootstrap "
        "intervals, of an object over pairs of pictures, of the averages over objects. Noise "
        f"levels: {NOISE_UNITS.get(noise_unit, noise_unit)}. {DASH}: no number, or no interval "
        "because there are fewer than two units to resample."
    )
    return page(title, caption, blocks, source)


def interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """Write a number and its interval, such as "0.71 [0.60, 0.81]"; a dash for what is missing."""
    if pd.isna(value):
        return DASH
    missing = pd.isna(low) or pd.isna(high)
    ends = DASH if missing else f"{low:.{digits}f}, {high:.{digits}f}"
    return f"{value:.{digits}f} [{ends}]"


def bounds(value: float, low: float, high: float) -> str:
    """`interval` with three digits, such as "0.713 [0.602, 0.811]"."""
    return interval(value, low, high, digits=3)


def least_to_most(counts: pd.Series) -> str:
    """Write one number where all counts are the same, else such as "3 to 17"."""
    low, high = counts.min(), counts.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _key(level: float) -> float | None:
    return None if np.isnan(level) else float(level)


def _level(row: dict) -> str:
    if np.isnan(row["level"]):
        return "all" if row["group"] == "average" else DASH
    return f"{row['level']:g}"


# Table 3: similarity to the inpainted picture's caption.


def similarity_data(similarity: pd.DataFrame, methods: Methods | None = None) -> pd.DataFrame:
    """Return the rows of the chosen methods in order; a row of NaN for a method without captions.

    similarity: method, variant, bleu1, bleu4, rouge1, rougeL and bertscore, each with _low and
    _high, n_pairs, n_left_out, encoder. The result has the same columns.
    """
    similarity = similarity.assign(variant=similarity["variant"].fillna(""))
    methods = in_order(similarity) if methods is None else [tuple(pair) for pair in methods]
    index = pd.MultiIndex.from_tuples(methods, names=["method", "variant"])
    table = similarity.set_index(["method", "variant"]).reindex(index).reset_index()
    counts = {"n_pairs": "Int64", "n_left_out": "Int64"}
    return table.assign(encoder=table["encoder"].fillna("")).astype(counts)


def similarity_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `similarity_data` as a page that names the encoder of BERTScore."""
    rows = []
    for row in data.to_dict("records"):
        cells = {"neurons": method_label(row["method"], row["variant"])}
        for name, head in SIMILARITIES.items():
            cells[head] = interval(row[name], row[f"{name}_low"], row[f"{name}_high"])
        counts = (row["n_pairs"], row["n_left_out"])
        n_pairs, n_left_out = (DASH if pd.isna(count) else str(count) for count in counts)
        rows.append({**cells, "caption pairs": n_pairs, "left out": n_left_out})
    encoders = [escaped(name) for name in data["encoder"].unique() if name]
    caption = (
        "Similarity of captions under noise to the caption of the inpainted picture, averaged over "
        "captions, with 95 % bootstrap intervals. Higher: noise on the neurons acts more like "
        "painting the object out. BERTScore is F1 without baseline rescaling, by the encoder "
        f"{' and '.join(encoders) or DASH}. {DASH}: no captions, or no interval."
    )
    return page(title, caption, {"": pd.DataFrame(rows)}, source)


# Table 4: thresholds.


def thresholds_data(
    thresholds: Mapping[str, pd.DataFrame],
    paper: pd.DataFrame,
    valid: pd.DataFrame,
    exclusions: pd.DataFrame,
    objects: Sequence[str],
) -> pd.DataFrame:
    """Return a row per sample and rule, beside the paper's pair for the object (Table IV).

    thresholds: by rule ("auto", "manual"), tables with sample_id, group, role, threshold_a,
    threshold_g, n_candidates, n_selected. paper: object, threshold_a, threshold_g. Columns: group,
    sample_id, role, rule, threshold_a, threshold_g, n_candidates, n_selected, paper_threshold_a,
    paper_threshold_g (NaN where the paper has not the object), note.
    """
    order = {sample_id: place for place, sample_id in enumerate(valid["sample_id"])}
    pairs = paper.set_index("object")
    rows = []
    for group in objects:
        own = [
            {**row, "rule": rule, "note": "" if row["n_selected"] else "no neuron selected"}
            for rule, table in thresholds.items()
            for row in table[table["group"] == group].to_dict("records")
        ]
        own.sort(key=lambda row: order[row["sample_id"]])
        if not any(row["role"] == "evaluation" for row in own):
            own.append({"group": group, **_without_sample(exclusions, group)})
        for row in own:
            for name in ("threshold_a", "threshold_g"):
                row[f"paper_{name}"] = pairs[name].get(group, np.nan)
        rows += own
    columns = [
        "group", "sample_id", "role", "rule", "threshold_a", "threshold_g", "n_candidates",
        "n_selected", "paper_threshold_a", "paper_threshold_g", "note",
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    texts = dict.fromkeys(["sample_id", "role", "rule", "note"], "")
    return table.fillna(texts).astype({"n_candidates": "Int64", "n_selected": "Int64"})


def thresholds_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `thresholds_data` as a page."""
    rows = [
        {
            "object": escaped(row["group"]),
            "sample": escaped(row["sample_id"]) or f"*{escaped(row['note'])}*",
            "role": row["role"] or DASH,
            "rule": row["rule"] or DASH,
            "threshold_a": _number(row["threshold_a"]),
            "threshold_g": _number(row["threshold_g"]),
            "candidates (stage 1)": _count(row["n_candidates"]),
            "selected": _count(row["n_selected"]),
            "paper's threshold_a": _number(row["paper_threshold_a"]),
            "paper's threshold_g": _number(row["paper_threshold_g"]),
        }
        for row in data.to_dict("records")
    ]
    rows = [{escaped(name): cell for name, cell in row.items()} for row in rows]
    caption = (
        "Thresholds of the activation difference (threshold_a) and of gradient x activation "
        "(threshold_g) of every sample, and the numbers of neurons above the first and above both. "
        "Samples for calibration serve only to fix the automatic rule. The paper's pair was set by "
        "hand for one other picture of the object and for MiniGPT-4 with Llama-2-7B; thresholds "
        f"are bound to a model's scale. {DASH}: none."
    )
    return page(title, escaped(caption), {"": pd.DataFrame(rows)}, source)


def _number(value: float) -> str:
    return DASH if pd.isna(value) else f"{value:.3g}"


def _count(value: int) -> str:
    return DASH if pd.isna(value) else str(value)


# Pages.


def page(title: str, caption: str, blocks: Mapping[str, pd.DataFrame | str], source: Source) -> str:
    """Put a page of Markdown together: title, caption, tables (or a sentence) by heading, source.

    Cells, headings and the caption are Markdown already; title and source are plain text.
    """
    parts = [f"# {escaped(title)}", f"Model: {escaped(source.model)}.", caption]
    for heading, block in blocks.items():
        parts += [f"## {heading}"] if heading else []
        if isinstance(block, str):
            parts.append(f"*{block}*")
        elif block.empty:
            parts.append("*Nothing to show.*")
        else:
            parts.append(block.to_markdown(index=False, disable_numparse=True))
    return "\n\n".join([*parts, escaped(str(source))]) + "\n"


def left_out_page(exclusions: pd.DataFrame, source: Source, title: str, caption: str) -> str:
    """Set exclusions as a page: how often each reason, then every one.

    exclusions: stage, sample_id, group, reason, detail; of several models a categorical `model`.
    """
    shown, heads = exclusions[["stage", "sample_id", "group", "reason", "detail"]], []
    if "model" in exclusions:
        names = (
            exclusions["model"]
            .astype(str)
            .map(short_names(list(exclusions["model"].cat.categories)))
        )
        shown, heads = pd.concat([names, shown], axis="columns"), ["model"]
    grouped = shown.groupby([*heads, "stage", "reason"], sort=not heads)
    counts = grouped.size().rename("times").reset_index()
    blocks = {
        "How often": counts.map(lambda cell: escaped(str(cell))),
        "Each": shown.map(lambda cell: escaped(str(cell))),
    }
    return page(title, caption, blocks, source)


def escaped(text: str) -> str:
    """Return text that Markdown and HTML take literally, on one line."""
    text = re.sub(r"\s+", " ", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", text)


def _without_sample(exclusions: pd.DataFrame, group: str) -> dict[str, str]:
    why = object_reasons(exclusions, group)
    return {"note": NO_SAMPLE + (f" ({why})" if why else "")}
