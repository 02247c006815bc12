"""Drawing many pictures, on several processes if told."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

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
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            parts = pool.starmap(draw, jobs)
    return list(zip(*parts, strict=True))
