"""How well a tiny model names what is on pictures that it has not seen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from mmneurons.metrics.naming import named


def object_recall_precision(
    captions: Iterable[str], objects: Sequence[Collection[str]], categories: Collection[str]
) -> dict[str, float]:
    """Share of the objects that are named, and share of the named categories that are there.

    captions and objects: one a picture; counted over all pictures together.
    """
    hits = wanted = claimed = 0
    for caption, present in zip(captions, objects, strict=True):
        says = named(caption, categories)
        hits += len(says & set(present))
        wanted += len(set(present))
        claimed += len(says)
    return {"recall": hits / wanted, "precision": hits / claimed if claimed else 0.0}
