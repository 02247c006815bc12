"""Accuracy of replies by domain, while neurons are deactivated (Huo et al. 2024, Tables 2 and 8).

Every question has the measure of its dataset, in its official variant and in that of the released
code (see `mmneurons.metrics.answers`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mmneurons.metrics.answers import LABELS, VARIANTS, score
from mmneurons.metrics.trials import TRIAL, sample_means

COLUMNS = [
    *("group", "condition", "control", "seed", "metric", "variant"),
    *("value", "low", "high", "n", "n_left_out", "label"),
]
_OF_A_QUESTION = ["answer", "answers", "confidence", "options"]


def accuracy_table(
    questions: pd.DataFrame,
    answers: pd.DataFrame,
    judged: pd.DataFrame | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per group, condition, control, seed and variant, with the columns COLUMNS.

    The value is the mean over samples, its interval bootstrap over samples, the same samples drawn
    for all trials of a group. n counts the samples measured, n_left_out those that have nothing to
    be compared with; without any the value is NaN. Groups are in the order of `questions`; a group
    whose questions have several metrics has rows for each. `metric` and `label` say what was
    measured: without a judge that is exact matches. Arguments and errors: see `scored_answers`; two
    replies to a question in one trial raise ValueError, too.
    """
    scored = scored_answers(questions, answers, judged)
    groups = list(questions["group"].unique())
    means = sample_means(scored, groups, VARIANTS, ["measure"], level, draws, seed)
    label = [LABELS[row.measure][VARIANTS.index(row.name)] for row in means.itertuples(index=False)]
    means = means.rename(columns={"name": "variant"})
    metric = means["measure"].replace("no_judge", "exact")
    return means.assign(metric=metric, label=label)[COLUMNS]


def scored_answers(
    questions: pd.DataFrame, answers: pd.DataFrame, judged: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The replies with their question's group and measure, and a column for each of VARIANTS.

    questions: a row a question, of which sample_id, group, answer, answers, confidence, options and
    metric are read. answers: sample_id, condition, control, seed, reply. judged: what
    `mmneurons.metrics.lingo_judge.judge_replies` gives, or None without a judge; then the measure
    of its questions is "no_judge".

    Scores are NaN where there is nothing to compare with. Raises ValueError for a question that is
    there twice, for replies to unknown questions, and for replies that `judged` lacks.
    """
    twice = questions["sample_id"].duplicated()
    if twice.any():
        raise ValueError(f"the table has {questions.loc[twice, 'sample_id'].iloc[0]} twice")
    of_sample = questions.set_index("sample_id")
    unknown = sorted(set(answers["sample_id"]) - set(of_sample.index))
    if unknown:
        raise ValueError(f"there is no question {unknown[0]}, to which there are replies")
    stand_in = {"lingo_judge": "no_judge"} if judged is None else {}
    measures = {name: stand_in.get(metric, metric) for name, metric in of_sample["metric"].items()}
    # Most trials give a question the same reply, which is scored once.
    pairs = answers[["sample_id", "reply"]].drop_duplicates(ignore_index=True)
    asked = of_sample.loc[pairs["sample_id"], _OF_A_QUESTION].itertuples(index=False, name=None)
    verdicts = _verdicts(judged)
    scores = []
    rows = zip(pairs["sample_id"].tolist(), pairs["reply"].tolist(), asked, strict=True)
    for sample_id, reply, (answer, *lists) in rows:
        measure = measures[sample_id]
        if measure == "lingo_judge":
            scores.append(_verdict(verdicts, sample_id, reply, lists[0]))
        else:
            scores.append(score(measure, reply, answer, *map(list, lists)))
    pairs[list(VARIANTS)] = np.array(scores, dtype=float).reshape(-1, len(VARIANTS))
    scored = answers[["sample_id", *TRIAL, "reply"]].merge(pairs, on=["sample_id", "reply"])
    ids = scored["sample_id"]
    return scored.assign(group=ids.map(of_sample["group"]), measure=ids.map(measures))


def _verdicts(judged: pd.DataFrame | None) -> dict[tuple[str, str], tuple[float, float]]:
    """Official and released score by sample and reply: the best over references, cut in two."""
    if judged is None or judged.empty:
        return {}
    best = judged.groupby(["sample_id", "reply"])[["logit", "score"]].max()
    return {
        pair: (float(logit > 0), float(score > 0.5))
        for pair, logit, score in zip(best.index, best["logit"], best["score"], strict=True)
    }


def _verdict(verdicts: dict, sample_id: str, reply: str, references: list[str]) -> tuple:
    nothing_said = score("exact", "", "", list(references))
    if not reply.strip() or np.isnan(nothing_said[0]):
        return nothing_said
    if (sample_id, reply) not in verdicts:
        raise ValueError(f"the reply {reply!r} to {sample_id} was not judged")
    return verdicts[sample_id, reply]


def majority_answer(questions: pd.DataFrame) -> pd.DataFrame:
    """What always giving the most frequent answer would reach, a row a group.

    Columns: group, answer (the one that most questions of the group aim at; of several the first by
    its text), metric, value (its mean official score, without a judge), n (questions). Groups are
    in the order of `questions`, which has the columns that `scored_answers` reads.
    """
    rows = []
    for group, own in questions.groupby("group", sort=False):
        counts = own["answer"].value_counts()
        answer = min(counts.index[counts == counts.max()])
        constant = own[["sample_id"]].assign(condition="none", control="", seed=-1, reply=answer)
        table = accuracy_table(own, constant, draws=2)
        official = table[table["variant"] == "official"]
        for row in official.itertuples():
            rows.append(
                {"group": group, "answer": answer, "metric": row.metric, "value": row.value}
                | {"n": row.n}
            )
    return pd.DataFrame(rows, columns=["group", "answer", "metric", "value", "n"])
