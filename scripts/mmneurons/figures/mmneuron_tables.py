"""The tables of MMNeuron (Huo et al. 2024): numbers for CSV, and pages.

Each table has a function `*_data`, whose result is the CSV, and a function `*_page`, which sets
that result in Markdown. Columns `model` and `group` are categorical, see
`mmneurons.figures.mmneuron_inputs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmneurons.figures.domains import (
    MODULES,
    PARTS,
    VARIANTS,
    domain_label,
    domains_of,
    part_of,
    selection,
)
from mmneurons.figures.inputs import models_of, of_models
from mmneurons.figures.mmneuron import KINDS
from mmneurons.figures.shown import Source, short_names
from mmneurons.figures.tables import DASH, escaped, interval, least_to_most, left_out_page, page

ANY = "any"
"""In the column `group`: units that are specific to any domain, each counted once."""
NEURON = ["module", "layer", "unit"]
NOTHING = {"": "Nothing to show: no model was measured."}


# Tables 1, 6 and 7: domain neurons of every module.


def neurons_data(
    neurons: pd.DataFrame,
    silent: pd.DataFrame,
    counts: pd.DataFrame,
    variant: str,
    share: float,
) -> pd.DataFrame:
    """Count the domain neurons of every module, and of all, for each domain.

    neurons: model, group, module, layer, unit, inert, selected by the `variant` of DAPE, `share`
    percent of each module. silent: model, module, n_units, a row a layer. counts: model, group,
    module, n, tokens. Columns: variant, share, model, part (key of PARTS), group (ANY: different
    neurons of all domains), neurons, inert, n_units, n_samples, tokens.
    """
    units = _by_part(silent).groupby(["model", "part"], observed=True)["n_units"].sum()
    seen = _by_part(counts)
    rows = []
    for model in models_of(neurons):
        own = _by_part(neurons[neurons["model"] == model])
        parts = [part for part in PARTS if (model, part) in units.index]
        for part in parts:
            of_part = own[own["part"] == part]
            tokens = seen[(seen["model"] == model) & (seen["part"] == part)]
            for group in [*domains_of(neurons), ANY]:
                found, counted = (
                    table if group == ANY else table[table["group"] == group]
                    for table in (of_part, tokens)
                )
                found = found.drop_duplicates(NEURON)
                row = [model, part, group, len(found), int(found["inert"].sum())]
                # Both branches of a Q-Former see the same samples.
                samples = counted.drop_duplicates("group")["n"].sum()
                rows.append([*row, units[model, part], samples, counted["tokens"].sum()])
    columns = ["model", "part", "group", "neurons", "inert", "n_units", "n_samples", "tokens"]
    table = of_models(pd.DataFrame(rows, columns=columns), neurons)
    table = table.assign(variant=variant, share=share)
    return table[["variant", "share", *columns]]


def _by_part(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of every module with their part, and once more as the part "all"."""
    own = table.assign(part=[part_of(module) for module in table["module"]])
    return pd.concat([own, table.assign(part="all")], ignore_index=True)


def neurons_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `neurons_data` as a page: for each model the numbers, then what was counted."""
    blocks, counted = {}, {}
    groups = [group for group in dict.fromkeys(data["group"]) if group != ANY]
    for model, name in short_names(models_of(data)).items():
        own = data[data["model"] == model]
        cells = {(row.part, row.group): row for row in own.itertuples()}
        lines, tokens = [], []
        for part in dict.fromkeys(own["part"]):
            line = {"module": PARTS[part]}
            line |= {_head(group): _neurons(cells[part, group]) for group in groups}
            every = cells[part, ANY]
            line["different neurons"] = f"{every.neurons:,}"
            line["units"] = f"{every.n_units:,}"
            line["inert share"] = f"{every.inert / every.neurons:.0%}" if every.neurons else DASH
            lines.append(line)
            seen = {_head(group): f"{cells[part, group].tokens:,}" for group in groups}
            tokens.append({"counted": f"tokens in the {PARTS[part]}", **seen})
        if lines:
            numbers = {_head(g): f"{cells[part, g].n_samples:,}" for g in groups}
            # The last part is all modules, whose tokens of different kinds make no sum.
            tokens = [{"counted": "questions", **numbers}, *tokens[:-1]]
        blocks[escaped(name)] = pd.DataFrame(lines)
        counted[f"{escaped(name)}: questions and tokens counted"] = pd.DataFrame(tokens)
    caption = (
        f"Domain-specific neurons of every module. {_selection(data)} In brackets: how many of "
        "them lie in inert layers, which cannot affect the output; the inert share is that of the "
        "different neurons. Q-Former: the query branch and the text branch added up. In the last "
        "row, all modules added up."
    )
    return page(title, caption, blocks | counted, source)


def _selection(data: pd.DataFrame) -> str:
    return escaped(selection(data)) if len(data) else ""


def _head(group: str) -> str:
    return escaped(domain_label(group))


def _neurons(row) -> str:
    if not row.neurons:
        return "none"
    return f"{row.neurons:,}" + (f" ({row.inert:,} inert)" if row.inert else "")


# Tables 2, 8 and 3: while neurons are deactivated.

CONDITIONS = ("none", *PARTS)


def trials_data(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Values while neurons are deactivated, those of random neurons put together over seeds.

    table: model, group, condition, control ("dape", "random" or nothing), seed, `keys`, value, low,
    high, n. Columns: `keys`, model, condition, control, group, value (of random neurons the mean
    over seeds), low, high (95 % interval over samples; NaN of random neurons), least, most (over
    seeds; NaN of others), seeds, n (the largest).
    """
    table = table.assign(control=table["control"].fillna(""))
    heads = [*keys, "model", "condition", "control", "group"]
    random = table["control"] == "random"
    over_seeds = table[random].groupby(heads, observed=True, sort=False)
    drawn = over_seeds.agg(
        value=("value", "mean"),
        least=("value", "min"),
        most=("value", "max"),
        seeds=("seed", "nunique"),
        n=("n", "max"),
    ).reset_index()
    own = table.loc[~random, [*heads, "value", "low", "high", "n"]].assign(seeds=0)
    together = pd.concat([part for part in (own, drawn) if len(part)] or [own], ignore_index=True)
    columns = [*heads, "value", "low", "high", "least", "most", "seeds", "n"]
    together = _like(together.reindex(columns=columns), table)
    places = {"condition": list(CONDITIONS).index, "control": ["", "dape", "random"].index}
    return together.sort_values(
        ["model", "condition", "control", "group"],
        key=lambda column: column.map(places[column.name]) if column.name in places else column,
        kind="stable",
        ignore_index=True,
    )


def _like(table: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The table with the categories of another one."""
    group = pd.Categorical(table["group"], categories=domains_of(other))
    return of_models(table.assign(group=group), other)


def accuracy_data(accuracy: pd.DataFrame, masks: str) -> pd.DataFrame:
    """`trials_data` of accuracy, with masks; keys: variant (official, released), metric, label.

    masks: "paper", or "released" where the vision encoder's neurons go with the projector's.
    """
    return trials_data(accuracy, ["variant", "metric", "label"]).assign(masks=masks)


def accuracy_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `accuracy_data` as a page: what is measured, then a table a model, in percent."""
    blocks = {}
    differing = _differing(data)
    columns = [
        (group, variant)
        for group in domains_of(data)
        for variant in ("official", "released")
        if variant == "official" or group in differing
    ]
    for model, name in short_names(models_of(data)).items():
        own = data[data["model"] == model]
        lines = []
        for head, rows in own.groupby(["condition", "control"], sort=False):
            cells = {(row.group, row.variant): row for row in rows.itertuples()}
            line = {"deactivated": _deactivated(*head)}
            for group, variant in columns:
                of = "" if variant == "official" else ", released code's measure"
                line[_head(group) + of] = _percent(cells.get((group, variant)), 1)
            lines.append(line)
        if lines:
            blocks[escaped(name)] = pd.DataFrame(lines)
    measured = [
        {
            "domain": _head(group),
            "measure": escaped(" or ".join(dict.fromkeys(rows["label"]))),
            "computed": "officially" if variant == "official" else "by the released code",
            "questions": least_to_most(rows["n"]),
        }
        for (group, variant), rows in data.groupby(["group", "variant"], observed=True)
        if (group, variant) in columns
    ]
    caption = (
        "Accuracy in percent while the neurons of the question's domain are deactivated (their "
        "activation set to zero at every token), in one module or in all. In brackets: 95 % "
        f"bootstrap intervals over questions. {_RANDOM} A column for the released code's measure "
        "stands where it gives other numbers than the official one; it may exceed 100. "
        f"{_masks(data)}{DASH}: not measured."
    )
    if not blocks:
        return page(title, caption, NOTHING, source)
    return page(title, caption, blocks | {"What is measured": pd.DataFrame(measured)}, source)


_RANDOM = (
    "Random neurons: as many, in the same layers; the mean over seeds with, in round brackets, the "
    "least and the largest. A domain without a specific neuron in a module loses none there."
)


def _masks(data: pd.DataFrame) -> str:
    """What is to be said where the vision encoder's neurons are not deactivated alone."""
    if not (data["masks"] == "released").any():
        return ""
    return "Vision encoder: its neurons and the projector's together, as the released code does. "


def _differing(data: pd.DataFrame) -> set[str]:
    """Domains of which the released measure ever gives another number than the official one."""
    heads = ["model", "condition", "control", "group"]
    wide = data.pivot_table("value", heads, "variant", observed=True)
    if not {"official", "released"} <= set(wide):
        return set()
    other = ~np.isclose(wide["official"], wide["released"], equal_nan=True, atol=1e-12)
    return set(wide.index.get_level_values("group")[other])


def _deactivated(condition: str, control: str) -> str:
    if condition == "none":
        return "nothing"
    which = "random neurons" if control == "random" else "domain neurons"
    return f"{PARTS[condition]}: {which}"


def _percent(row, digits: int) -> str:
    """A value in percent with its interval, or with the range over seeds."""
    if row is None or pd.isna(row.value):
        return DASH
    if row.control == "random":
        value, least, most = (f"{100 * v:.{digits}f}" for v in (row.value, row.least, row.most))
        return f"{value} ({least} to {most})"
    return escaped(interval(*(100 * v for v in (row.value, row.low, row.high)), digits=digits))


OVER = {
    "all_tokens": "All tokens of the prompt taken together (the paper's definition, as we read it)",
    "per_token": "Mean over the tokens of the prompt of each token's own deviation",
    "image": "Mean over image tokens of each token's own deviation",
    "text": "Mean over text tokens of each token's own deviation",
    "last": "The prompt's last token, which the answer follows",
}
"""What a deviation is taken over, in the order of the table."""


def deviation_data(deviation: pd.DataFrame, masks: str) -> pd.DataFrame:
    """`trials_data` of the deviation of the last hidden states, with masks; the key is `over`.

    The deviation is from what is computed with nothing deactivated, which has no row.
    """
    disturbed = deviation[deviation["condition"] != "none"]
    data = trials_data(disturbed, ["over"]).assign(masks=masks)
    return data.sort_values(
        "over", key=lambda names: names.map(list(OVER).index), kind="stable", ignore_index=True
    )


def deviation_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `deviation_data` as a page: a table for each way to take it over tokens, in percent."""
    names = short_names(models_of(data))
    blocks = {}
    for over, of_all in data.groupby("over", sort=False):
        lines = []
        for head, rows in of_all.groupby(["model", "condition", "control"], sort=False):
            model, *trial = head
            cells = {row.group: row for row in rows.itertuples()}
            line = {"model": escaped(names[model]), "deactivated": _deactivated(*trial)}
            line |= {_head(g): _percent(cells.get(g), 2) for g in domains_of(data)}
            lines.append(line | {"questions": least_to_most(rows["n"])})
        blocks[escaped(OVER[over])] = pd.DataFrame(lines)
    caption = (
        "How far the language model's last hidden states, after the final norm, move when the "
        "neurons of the question's domain are deactivated: the norm of the difference over the "
        "norm of the undisturbed hidden states, in percent, averaged over questions. The paper "
        "does not say which tokens its numbers are taken over; all tokens of a prompt as one "
        "matrix (Frobenius norms) is the plain reading, other readings follow. In square brackets: "
        "95 % bootstrap "
        f"intervals over questions. {_RANDOM} {_masks(data)}{DASH}: not measured."
    )
    return page(title, caption, blocks or NOTHING, source)


# Table 5: prompts.

STEPS = {
    "identify": "finding neurons",
    "open": "testing, open question",
    "choice": "testing, question with options",
}


def prompts_data(
    prompts: Mapping[str, Mapping[str, Mapping[str, str]]],
    roles: Mapping[str, str],
    used: str,
) -> pd.DataFrame:
    """The prompt templates by step.

    prompts: by model, templates `identify`, and `paper` and `released` with `open` and `choice`.
    roles: by domain, what {role} stands for. used: the variant that the run uses. Columns: step,
    model ("" of a role), group (of a role), variant, used, template.
    """
    rows = []
    for step in STEPS:
        for model, templates in prompts.items():
            if step == "identify":
                rows.append([step, model, "", "", True, templates["identify"]])
                continue
            rows += [
                [step, model, "", variant, variant == used, templates[variant][step]]
                for variant in ("paper", "released")
            ]
    rows += [["role", "", group, "", True, text] for group, text in roles.items()]
    columns = ["step", "model", "group", "variant", "used", "template"]
    return pd.DataFrame(rows, columns=columns)


def prompts_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `prompts_data` as a page: a table a step."""
    names = short_names([name for name in dict.fromkeys(data["model"]) if name])
    blocks = {}
    for step, words in STEPS.items():
        lines = []
        for row in data[data["step"] == step].itertuples():
            line = {"model": escaped(names[row.model])}
            if row.variant:
                line["worded as"] = f"in the {'paper' if row.variant == 'paper' else 'code'}"
                line["used here"] = "yes" if row.used else "no"
            lines.append(line | {"prompt": _template(row.template)})
        blocks[f"{words[:1].upper()}{words[1:]}"] = pd.DataFrame(lines)
    roles = data[data["step"] == "role"]
    lines = [{"domain": _head(r.group), "role": _template(r.template)} for r in roles.itertuples()]
    blocks["What {role} stands for"] = pd.DataFrame(lines) if lines else "Nothing, in any domain."
    caption = (
        "Prompts of every step and model. {question}, {options} and {role} are filled in; <image> "
        "stands for the picture's tokens, which come first where a prompt has none; \\n is a line "
        "break. Options are written as a list of texts such as 'A: lung'."
    )
    return page(title, escaped(caption), blocks, source)


def _template(text: str) -> str:
    return escaped(text.replace("\n", "\\n"))


# Table 9: entropy at some layers.

DEPTHS = (0.0, 0.275, 0.7, 1.0)
"""Shares of the layers after which the entropy is shown: 0, 11, 28 and 40 of the paper's 40."""


def entropy_data(entropy: pd.DataFrame) -> pd.DataFrame:
    """Mean entropy at four depths: model, kind, group (ANY: all), layer, layers, entropy, n.

    entropy: model, sample_id, group, layer, kind, entropy; 0 is before the first layer. Every
    sample counts once; samples without a token of the kind have NaN and do not count.
    """
    known = entropy.dropna(subset="entropy")
    rows = []
    for model in models_of(entropy):
        of_model = known[known["model"] == model]
        last = int(of_model["layer"].max()) if len(of_model) else 0
        depths = list(dict.fromkeys(round(depth * last) for depth in DEPTHS))
        for kind in KINDS:
            for group in [ANY, *domains_of(entropy)] if len(of_model) else []:
                own = of_model[of_model["kind"] == kind]
                own = own if group == ANY else own[own["group"] == group]
                for layer in depths:
                    values = own.loc[own["layer"] == layer, "entropy"]
                    rows.append([model, kind, group, layer, last, values.mean(), len(values)])
    columns = ["model", "kind", "group", "layer", "layers", "entropy", "n"]
    return of_models(pd.DataFrame(rows, columns=columns), entropy)


def entropy_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `entropy_data` as a page: a table a model."""
    blocks = {}
    for model, name in short_names(models_of(data)).items():
        own = data[data["model"] == model]
        lines = []
        for (kind, group), rows in own.groupby(["kind", "group"], sort=False):
            line = {"tokens": KINDS[kind][0].removesuffix(" tokens")}
            line["domain"] = "all" if group == ANY else _head(group)
            for row in rows.itertuples():
                after = f"after layer {row.layer} of {row.layers}"
                head = after if row.layer else "input embeddings"
                line[head] = DASH if pd.isna(row.entropy) else f"{row.entropy:.3f}"
            lines.append(line | {"questions": least_to_most(rows["n"])})
        blocks[escaped(name)] = pd.DataFrame(lines) if lines else "No entropy was recorded."
    caption = (
        "Entropy in nats of the distribution over the vocabulary that a hidden state gives through "
        "the final norm and the unembedding, averaged over the image or text tokens of a prompt "
        "and then over questions: at the input, after about 28 % and 70 % of the layers, as in the "
        f"paper, and after the last one. {DASH}: no such token."
    )
    return page(title, caption, blocks or NOTHING, source)


# Table S1: DAPE as printed and as released.


def variants_data(
    released: pd.DataFrame, paper: pd.DataFrame, silent: pd.DataFrame, share: float
) -> pd.DataFrame:
    """How many neurons each variant of DAPE selects, and how many both.

    released, paper: model, group, module, layer, unit, selected by the variant at `share` percent.
    silent: model and module, of which modules there are. Columns: share, model, module, group (ANY:
    different neurons of all domains), released, paper, both, overlap (Jaccard index; NaN where
    neither has one).
    """
    rows = []
    for model, module in _modules(silent):
        tables = [
            table[(table["model"] == model) & (table["module"] == module)]
            for table in (released, paper)
        ]
        for group in [*domains_of(released), ANY]:
            one, other = (
                set(
                    (table if group == ANY else table[table["group"] == group])[
                        ["layer", "unit"]
                    ].itertuples(index=False, name=None)
                )
                for table in tables
            )
            overlap = len(one & other) / len(one | other) if one | other else np.nan
            rows.append([model, module, group, len(one), len(other), len(one & other), overlap])
    columns = ["model", "module", "group", "released", "paper", "both", "overlap"]
    table = of_models(pd.DataFrame(rows, columns=columns), released).assign(share=share)
    return table[["share", *columns]]


def _modules(silent: pd.DataFrame) -> list[tuple[str, str]]:
    """(model, module) in the order in which they are shown."""
    pairs = silent[["model", "module"]].drop_duplicates()
    found = set(pairs.itertuples(index=False, name=None))
    return [(m, module) for m in models_of(silent) for module in MODULES if (m, module) in found]


def variants_page(data: pd.DataFrame, source: Source, title: str) -> str:
    """Set `variants_data` as a page: a table a model."""
    blocks = {}
    for model, name in short_names(models_of(data)).items():
        lines = [
            {
                "module": MODULES[row.module],
                "domain": "any" if row.group == ANY else _head(row.group),
                "as released": f"{row.released:,}",
                "as printed": f"{row.paper:,}",
                "in both": f"{row.both:,}",
                "share in both": DASH if pd.isna(row.overlap) else f"{row.overlap:.2f}",
            }
            for row in data[data["model"] == model].itertuples()
        ]
        blocks[escaped(name)] = pd.DataFrame(lines)
    share = " or ".join(f"{share:g} %" for share in data["share"].unique())
    caption = (
        f"Does it matter which DAPE is taken? Neurons that each variant selects, {share} of each "
        f"module: {VARIANTS['released']} (activation probabilities divided by their sum over "
        f"domains before the entropy is taken), and {VARIANTS['paper']} (the probabilities "
        "themselves, so that units that are active nearly everywhere rank low as well). Share in "
        f"both: of the neurons that either selects; {DASH} where neither selects one. Any: "
        "different neurons of all domains."
    )
    return page(title, caption, blocks or NOTHING, source)


# Exclusions.


def exclusions_page(exclusions: pd.DataFrame, source: Source, title: str) -> str:
    """Set what was left out as a page."""
    caption = (
        "Questions, pictures and domains that were tried and left out, with the stage and the "
        "reason. What concerns the choice of questions is the same for every model."
    )
    return left_out_page(exclusions, source, title, caption)
