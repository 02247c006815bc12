"""What the browser shows of MMNeuron (Huo et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmneurons.artifacts.counts import TotalCounts, read_count_batches, read_counts
from mmneurons.artifacts.tables import read_facts, read_table
from mmneurons.browser.parts import Method, Part, Shown, View, Where, with_control
from mmneurons.datasets.pictures import read_question_picture

MEASURES = {
    "accuracy": "the domain's neurons of this module deactivated: how good replies are",
    "deviation": "the domain's neurons of this module deactivated: how far hidden states move",
}
NO_MAPS = "MMNeuron counts activations over tokens and records no map of them."


def domains_part(
    inputs: Mapping[str, Sequence[str]],
    model: str,
    label: str,
    datasets: Mapping[str, str],
    roots: Mapping[str, str],
    pictures: int,
) -> Part:
    """Read the artifacts of one model.

    inputs: paths by name: questions, neurons (one table), counts, sample_counts, accuracy,
    deviation, answers, exclusions (several). datasets: labels of the domains' data. pictures: so
    many questions of each domain that are answered are shown.
    """
    questions = read_table(inputs["questions"][0])
    (path,) = inputs["neurons"]
    counts, facts = read_counts(inputs["counts"][0])
    rule = read_facts(path)["rule"]
    method = f"dape/{Path(path).name.split('.')[2]}"
    found = read_table(path)
    found = found.assign(method=method, key=found["group"] + "/" + found["module"])
    found = found.assign(sample_id=found["group"])
    left_out = [read_table(table) for table in inputs["exclusions"]]
    accuracy = pd.read_csv(inputs["accuracy"][0], keep_default_na=False)
    deviation = pd.read_csv(inputs["deviation"][0], keep_default_na=False)
    tables = {
        "accuracy": accuracy[accuracy["variant"] == "official"],
        "deviation": deviation[deviation["over"] == "all_tokens"],
    }
    percent = f"{rule['share'] * 100:g} %"
    return Part(
        paper="mmneuron",
        model=model,
        label=label,
        data="; ".join(dict.fromkeys(datasets.values())),
        groups="domain",
        layers=facts["layers"],
        inert=facts.get("inert", {}),
        methods=[
            Method(
                method,
                f"domain activation entropy ({rule['variant']}, {percent} of a module)",
                "domain entropy",
                "score: entropy of the unit's activation probabilities over domains, in nats; the "
                "lower, the more specific. Random neurons are drawn from the same layers; they are "
                "not kept one by one",
                counted="domains",
            )
        ],
        found=found,
        views=_views(questions, read_table(inputs["answers"][0]), datasets, roots, pictures),
        group_of=dict(zip(questions["sample_id"], questions["group"], strict=True)),
        effects=_effects(tables, method),
        measures=MEASURES,
        exclusions=pd.concat([table for table in left_out if len(table)] or left_out[:1]),
        no_maps=NO_MAPS,
        top_label="share of its tokens at which the unit is active",
        tops=_tops(inputs["sample_counts"][0], facts["layers"]),
        no_tops="No question at whose tokens it is active was recorded by itself.",
        shares=_shares(counts, facts),
        rates=_rates(tables),
    )


def _views(
    questions: pd.DataFrame,
    answers: pd.DataFrame,
    datasets: Mapping[str, str],
    roots: Mapping[str, str],
    pictures: int,
) -> list[View]:
    replies = {sample: rows for sample, rows in answers.groupby("sample_id")}
    views = []
    for row in questions.itertuples():
        files = list(row.files)
        identify = row.part == "identify"
        if not identify and row.order >= pictures:
            continue
        options = f" {' '.join(row.options)}" if len(row.options) else ""
        details = [("reference answer", row.answer)]
        details.append(("used to", "find neurons" if identify else "test neurons"))
        details += _replies(replies[row.sample_id]) if row.sample_id in replies else []
        views.append(
            View(
                picture=f"mmneuron-{row.sample_id}",
                heading=f"{row.group} question {row.source_id}",
                shown=Shown(
                    f"{row.group}/{'+'.join(files)}",
                    f"Picture of the domain {row.group}. Question: {row.question}",
                    _reader(roots[row.group], files),
                ),
                text=[(row.question + options, row.sample_id)],
                samples=[row.sample_id],
                details=details,
                data=datasets[row.group],
            )
        )
    return views


def _replies(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Replies, each once for what was deactivated; of random neurons that of the first draw."""
    found = []
    own = rows.sort_values(["condition", "control", "seed"], kind="stable")
    plain = own.loc[own["condition"] == "none", "reply"]
    if len(plain):
        found.append(("reply", plain.iloc[0]))
    for condition, of_one in own[own["condition"] != "none"].groupby("condition", sort=True):
        for control, what in (("dape", "domain neurons"), ("random", "random neurons")):
            reply = of_one.loc[of_one["control"] == control, "reply"]
            if len(reply):
                found.append((f"reply without {what}, {condition}", reply.iloc[0]))
    return found


def _reader(root: str, files: Sequence[str]):
    return lambda: read_question_picture(root, files)


def _effects(tables: Mapping[str, pd.DataFrame], method: str) -> pd.DataFrame:
    parts = []
    for measure, table in tables.items():
        rows = table[table["condition"].isin(["vision", "projector", "language", "qformer"])]
        rows = rows.assign(key=rows["group"] + "/" + rows["condition"])
        rows = rows.assign(method=np.where(rows["control"] == "random", "random", method))
        numbers = rows.astype({"value": object}).assign(
            value=pd.to_numeric(rows["value"], errors="coerce"), n=pd.to_numeric(rows["n"])
        )
        means = numbers.groupby(["method", "key"]).agg(value=("value", "mean"), n=("n", "sum"))
        parts.append(means.reset_index().assign(measure=measure))
    table = with_control(pd.concat(parts, ignore_index=True), ["key"], "random")
    # The Q-Former's branches are deactivated together, and counted apart.
    of_qformer = table[table["key"].str.endswith("/qformer")]
    branches = [
        of_qformer.assign(key=of_qformer["key"] + f".{branch}") for branch in ("query", "text")
    ]
    return pd.concat([table, *branches], ignore_index=True).assign(best=2**31)


def _rates(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    rows = []
    for measure, table in tables.items():
        keys = ["group", "condition", "control"]
        for (group, condition, control), own in table.groupby(keys, sort=False):
            numbers = [
                pd.to_numeric(own[name], errors="coerce") for name in ("value", "low", "high")
            ]
            if control == "random":  # over random selections: their mean, the least and the most
                bounds = (numbers[0].mean(), numbers[0].min(), numbers[0].max())
            else:
                bounds = tuple(number.iloc[0] for number in numbers)
            what = f"{measure}, {group}: {condition} deactivated"
            method = {"dape": "dape", "random": "random"}.get(control, "none")
            if condition == "none":
                what = f"{measure}, {group}: nothing deactivated"
            rows.append((what, method, *bounds, int(pd.to_numeric(own["n"]).sum())))
    return pd.DataFrame(rows, columns=["what", "method", "value", "low", "high", "n"])


def _tops(path: str, layers: Mapping[str, Sequence[int]]) -> Callable:
    """For units, the questions at the largest share of whose tokens they are active."""

    def tops(neurons: Sequence[Where], most: int) -> dict[Where, list[tuple[str, float]]]:
        found: dict[Where, list[tuple[str, float]]] = {where: [] for where in neurons}
        for module in sorted({where[0] for where in neurons}):
            own = [where for where in neurons if where[0] == module]
            places = [sum(layers[module][:layer]) + unit for _, layer, unit in own]
            best = np.zeros((len(own), 0), np.float64)
            names: np.ndarray = np.zeros((len(own), 0), object)
            for batch in read_count_batches(path, [f"tokens.{module}", f"counts.{module}"]):
                kept = [i for i, name in enumerate(batch.sample_ids) if name]
                if not kept:
                    continue
                tokens = np.maximum(batch.tokens[module][kept], 1)
                share = (batch.counts[module][kept][:, places] / tokens[:, None]).T
                ids = np.array([batch.sample_ids[i] for i in kept], object)
                best = np.concatenate([best, share], axis=1)
                names = np.concatenate([names, np.broadcast_to(ids, share.shape)], axis=1)
                order = np.argsort(-best, axis=1, kind="stable")[:, :most]
                best = np.take_along_axis(best, order, axis=1)
                names = np.take_along_axis(names, order, axis=1)
            for place, where in enumerate(own):
                found[where] = [
                    (str(name), float(value))
                    for name, value in zip(names[place], best[place], strict=True)
                    if value > 0
                ]
        return found

    return tops


def _shares(counts: TotalCounts, facts: Mapping) -> Callable:
    """For units, the share of each domain's tokens at which they are active."""

    def shares(neurons: Sequence[Where]) -> dict[Where, list[tuple[str, float, str]]]:
        found = {}
        for module, layer, unit in neurons:
            place = sum(facts["layers"][module][:layer]) + unit
            found[module, layer, unit] = [
                (
                    group,
                    float(counts.counts[module][number, place]) / max(int(n), 1),
                    f"{int(n)} tokens of {int(counts.n_samples[number])} questions",
                )
                for number, (group, n) in enumerate(
                    zip(facts["groups"], counts.tokens[module], strict=True)
                )
            ]
        return found

    return shares
