"""What all figures and tables of a run share: which samples are shown, and in what words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from mmneurons.metrics.naming import spans

NO_SAMPLE = "no valid sample"

METHODS = {
    "two_stage": "two-stage",
    "attribution": "attribution (Schwettmann et al.)",
    "contribution": "contribution (Pan et al.)",
    "random": "random control",
    "activation": "activation at the last input token",
}
VARIANTS = {
    "auto": "automatic thresholds",
    "manual": "manual thresholds",
    "difference": "stage 1 only, equal number",
    "gradact": "stage 2 only, equal number",
    "all-layers": "",
    "no-last": "without inert layers",
    "matched": "layers and number of two-stage",
}


@dataclass(frozen=True)
class Source:
    """What a figure or table rests on: model and data as named to a reader, samples in and out."""

    model: str
    dataset: str
    n: str
    left_out: str

    def __str__(self) -> str:
        """Return the line at the foot of every figure and table."""
        return (
            f"Model: {self.model}. Data: {self.dataset}. n = {self.n}. Left out: {self.left_out}."
        )


def evaluation_source(
    model: str, dataset: str, valid: pd.DataFrame, exclusions: pd.DataFrame
) -> Source:
    """The source of what rests on all valid samples for evaluation."""
    n = f"{len(evaluation_samples(valid))} valid samples for evaluation"
    return Source(model, dataset, n, left_out(exclusions))


def models_source(
    models: Sequence[str], dataset: str, concepts: pd.DataFrame, exclusions: pd.DataFrame
) -> Source:
    """The source of what rests on the concepts of several models' captions.

    concepts (sample_id, picture_id, variant) and exclusions have a column `model`.
    """
    rows = concepts[concepts["variant"] == "plain"]
    counts = ", ".join(
        f"{(rows['model'] == model).sum()} ({name})" for model, name in short_names(models).items()
    )
    n = f"{counts} concepts in the captions of {rows['picture_id'].nunique()} pictures"
    return Source(joined(models), dataset, n, left_out_of_models(models, exclusions))


def method_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Split names such as "two_stage/auto" into (method, variant)."""
    return [(method, variant) for method, _, variant in (name.partition("/") for name in names)]


def method_label(method: str, variant: str) -> str:
    """Return a method's name for readers, such as "two-stage, automatic thresholds"."""
    words = (METHODS.get(method, method), VARIANTS.get(variant, variant))
    return ", ".join(word for word in words if word)


def method_order(method: str, variant: str) -> tuple[int, int, str, str]:
    """Sort key that puts methods and their variants in the order of METHODS and VARIANTS."""
    places = (
        list(known).index(name) if name in known else len(known)
        for name, known in ((method, METHODS), (variant, VARIANTS))
    )
    return (*places, method, variant)


def in_order(pairs: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the distinct (method, variant) of a table, in the order of `method_order`."""
    distinct = set(pairs[["method", "variant"]].itertuples(index=False, name=None))
    return sorted(distinct, key=lambda pair: method_order(*pair))


def evaluation_samples(valid: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of role "evaluation", in their order within each object."""
    return valid[valid["role"] == "evaluation"].sort_values("order", kind="stable")


def first_samples(valid: pd.DataFrame, objects: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the first evaluation sample of each object, and the objects that have none.

    Both are in the order of `objects`; "first" is the lowest `order`, which the seed fixed before
    anything was captioned.
    """
    firsts = evaluation_samples(valid).drop_duplicates("group").set_index("group", drop=False)
    found = [name for name in objects if name in firsts.index]
    missing = [name for name in objects if name not in firsts.index]
    return firsts.loc[found].reset_index(drop=True), missing


def left_out(exclusions: pd.DataFrame) -> str:
    """Say how many candidate samples were left out and why, and which objects fell short.

    exclusions: stage, sample_id ("" for a row about a whole object), group, reason, detail.
    """
    samples = exclusions[exclusions["sample_id"] != ""].drop_duplicates("sample_id")
    reasons = sorted(samples["reason"].value_counts().items(), key=lambda item: (-item[1], item[0]))
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons)
    parts = [f"{len(samples)} candidate samples ({counts})" if counts else "no candidate sample"]
    objects = exclusions[exclusions["sample_id"] == ""]
    for reason, rows in objects.groupby("reason", sort=True):
        parts.append(f"{reason}: {', '.join(dict.fromkeys(rows['group'].replace('', 'all')))}")
    return "; ".join(parts)


def left_out_of_models(models: Sequence[str], exclusions: pd.DataFrame) -> str:
    """Say what was left out of every model alike, where there are several, and what else of each.

    By reason. exclusions: model, stage, sample_id, group, reason.
    """
    columns = ["stage", "sample_id", "group", "reason"]
    rows = {
        model: set(own[columns].itertuples(index=False, name=None))
        for model, own in exclusions.groupby("model", observed=True)
    }
    several = len(models) > 1
    alike = set.intersection(*(rows.get(model, set()) for model in models)) if several else set()
    parts = [("for every model", alike)] if alike else []
    parts += [(name, rows.get(model, set()) - alike) for model, name in short_names(models).items()]
    return "; ".join(f"{head}: {_reasons(found)}" for head, found in parts)


def _reasons(rows: Iterable[tuple]) -> str:
    counts = Counter(row[-1] for row in rows)
    found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {reason}" for reason, count in found) or "nothing"


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Each model's name without the words that end all of them, and without what is in brackets.

    Names as they are where two would be alike: "LLaVA of the world (tiny)" and "LiMBeR of the world
    (tiny)" are "LLaVA" and "LiMBeR".
    """
    heads = [model.split(" (")[0] for model in models]
    ending = common_ending(heads)
    heads = [head.removesuffix(ending) for head in heads]
    alike = len(set(heads)) < len(set(models))
    return dict(zip(models, models if alike else heads, strict=True))


def joined(labels: Sequence[str]) -> str:
    """Labels one after the other, the words that all of them end with only once.

    >>> joined(["A of the drawn world", "B of the drawn world"])
    'A, B of the drawn world'
    >>> joined(["A 2017", "B 2014"])
    'A 2017; B 2014'
    """
    ending = common_ending(labels)
    if not ending:
        return "; ".join(labels)
    return ", ".join(label.removesuffix(ending) for label in labels) + ending


def common_ending(labels: Sequence[str]) -> str:
    """The words that all of several labels end with, a space before each; "" for a single label."""
    if len(labels) < 2:
        return ""
    words = [label.split(" ") for label in labels]
    alike = 0
    while all(len(own) > alike + 1 and own[-1 - alike] == words[0][-1 - alike] for own in words):
        alike += 1
    return "".join(f" {word}" for word in words[0][len(words[0]) - alike :])


def sample_reasons(exclusions: pd.DataFrame, sample_ids: Iterable[str]) -> str:
    """Return the reasons for which any of the samples was left out, "" where there is none."""
    own = exclusions[exclusions["sample_id"].isin(list(sample_ids))]
    return ", ".join(dict.fromkeys(own["reason"]))


def object_reasons(exclusions: pd.DataFrame, group: str) -> str:
    """Return the reasons stated for an object as a whole, "" where there is none."""
    own = exclusions[(exclusions["group"] == group) & (exclusions["sample_id"] == "")]
    return ", ".join(dict.fromkeys(own["reason"]))


def marked(caption: str, concept: str) -> list[tuple[str, bool]]:
    """Cut a caption into (text, whether the text names the concept) by the whole-word rule."""
    pieces, end = [], 0
    for start, stop in spans(caption, concept):
        pieces += [(caption[end:start], False), (caption[start:stop], True)]
        end = stop
    return [(text, bold) for text, bold in [*pieces, (caption[end:], False)] if text]


def visible(token: str) -> str:
    """Return a token as it can be seen: outer spaces cut, a token of white space spelt out."""
    if token.strip():
        return token.strip()
    return "".join(
        "\u2423" if letter == " " else letter.encode("unicode_escape").decode("ascii")
        for letter in token
    )
