"""Drawing many pictures, on several processes if told."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CHUNK = 256


def draw_chunks(draw: Callable[[int, int], tuple], n: int, processes: int) -> list[tuple]:
    """What `draw(start, number)` gives of every chunk of `n` pictures, column by column.

    Chunks are the same for any number of processes, and so is what is drawn if `draw` depends on
    its arguments alone. With several processes it has to be a function of a module, or a `partial`
    of one.
    """
    jobs = [(start, min(CHUNK, n - start)) for start in range(0, n, CHUNK)]
    if processes == 1:
        parts = [draw(*job) for job in jobs]
    else:
        with _no_main():
            pool = multiprocessing.get_context("spawn").Pool(processes)
        with pool:
            parts = pool.starmap(draw, jobs)
    return list(zip(*parts, strict=True))


@contextmanager
def _no_main() -> Iterator[None]:
    """While open, new processes do not begin by running the main script once more.

    A rule's script is such a one: without `snakemake` it fails, and the pool would replace the
    process that failed for ever.
    """
    main = sys.modules["__main__"]
    hidden = {name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)
