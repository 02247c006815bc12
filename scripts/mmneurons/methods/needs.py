"""Which methods and measures can run, by what model and data lack (resources/methods.yaml)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

NO_PICTURE = (
    "no concept has a valid picture: the model's captions name no object, or name it where it was "
    "painted out too"
)
"""Why nothing can run then."""


def lacks_of_data(n_concepts: int) -> dict[str, str]:
    """Why the data do not provide a need, by need; "" for what they do.

    n_concepts: that have valid pictures.
    """
    few = f"{n_concepts} concept with valid pictures, and entropy needs two"
    return {"concepts": few if n_concepts == 1 else NO_PICTURE if n_concepts == 0 else ""}


def pruned(needs: Mapping[str, Sequence[str]], lacks: Mapping[str, str]) -> dict[str, str]:
    """Why each name that has needs cannot run, "" for those that can.

    needs: by method or measure. Raises ValueError for a need that nobody can answer.
    """
    unknown = {need for own in needs.values() for need in own} - set(lacks)
    if unknown:
        raise ValueError(f"no such need: {', '.join(sorted(unknown))}; known: {', '.join(lacks)}")
    return {
        name: "; ".join(lacks[need] for need in own if lacks[need]) for name, own in needs.items()
    }


def capability_table(
    rows: Mapping[str, Mapping[str, Mapping]], why: Mapping[str, Mapping[str, str]]
) -> pd.DataFrame:
    """Every method and measure, what it needs, whether it runs and why not.

    rows: of the registry, by kind ("method", "measure") and name; why: of `pruned`, by kind.
    """
    return pd.DataFrame(
        [
            (kind, name, " ".join(rows[kind][name]["needs"]), not reason, reason)
            for kind, reasons in why.items()
            for name, reason in reasons.items()
        ],
        columns=["kind", "name", "needs", "runs", "reason"],
    )
