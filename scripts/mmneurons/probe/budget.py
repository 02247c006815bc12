"""Equal numbers of tokens a domain: which questions are counted (Huo et al. 2024, section 4.1)."""

from __future__ import annotations

import pandas as pd


def within_budget(
    questions: pd.DataFrame, budget: int | None
) -> tuple[pd.DataFrame, int, list[dict]]:
    """The questions of each group, in their order, until the group has `budget` tokens.

    questions: sample_id, group, order, n_tokens. The question that reaches the budget is the last,
    so that groups differ by less than one question. None takes the tokens of the group that has the
    fewest. Returns the questions, the budget, and what fell short of it as rows of exclusions.
    """
    totals = questions.groupby("group", sort=False)["n_tokens"].sum()
    wanted = int(totals.min()) if budget is None else budget
    ordered = questions.sort_values("order", kind="stable")
    before = ordered.groupby("group")["n_tokens"].cumsum() - ordered["n_tokens"]
    kept = questions.loc[before.reindex(questions.index) < wanted]
    short = [
        {
            "stage": "record",
            "sample_id": "",
            "group": group,
            "reason": "fewer-tokens",
            "detail": f"{total} tokens of the language model, {wanted} are the budget",
        }
        for group, total in totals.items()
        if total < wanted
    ]
    return kept.reset_index(drop=True), wanted, short
