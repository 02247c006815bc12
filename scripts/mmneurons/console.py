"""What a job says while it runs: a log file, and progress that fits a terminal or a log."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

GPU_IS_FULL = """
The GPU's memory is full. Less of it is needed with, in the configuration,
  compute.batch_size        a smaller number: pictures, samples or questions a batch
  compute.noise_batch_size  a smaller number: captions under noise, replies with neurons deactivated
  mmneuron.evaluate.batch_size  the same, of replies alone
  compute.dtype             float16, if even one row does not fit
More of it: on a cluster `gpu_model` in the profile asks for another GPU; on one machine, end what
else uses the GPU, and give --resources gpu=N no more than there are GPUs.
"""

# cuBLAS says NOT_INITIALIZED where its handle finds no room; elsewhere that is another error.
_FULL = re.compile(
    "CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    r"|CUBLAS_STATUS_NOT_INITIALIZED.*\bcublasCreate"
)

SECONDS = 10
"""Between two lines of progress in a log, at least."""


def log_to(path: str | Path) -> None:
    """Send everything that the process says, tracebacks included, to a rule's log.

    After the traceback of a full GPU the log says which settings help.
    """
    log = open(path, "w", buffering=1, encoding="utf-8")  # noqa: SIM115 - open for the whole process
    sys.stderr = sys.stdout = log
    sys.excepthook = _explain
    library = logging.getLogger("mmneurons")
    library.setLevel(logging.INFO)
    library.addHandler(logging.StreamHandler(log))
    # Bars of transformers would fill the log; it reads the variable when it is imported.
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    if imported := sys.modules.get("transformers.utils.logging"):
        imported.disable_progress_bar()


def progress(
    items: Iterable, total: int | None = None, description: str = ""
) -> tqdm | ProgressLines:
    """A bar on the terminal, even where messages go to a log; without a terminal, log lines."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    if sys.__stderr__ is None or not sys.__stderr__.isatty():
        return ProgressLines(items, total, description, sys.stderr)
    return tqdm(
        items, total=total, desc=description, file=sys.__stderr__, mininterval=0.2, leave=False
    )


class ProgressLines:
    """Progress as lines: one every `SECONDS` at most, and one at the end or where a loop fails."""

    def __init__(self, items: Iterable, total: int | None, description: str, file: TextIO):
        self.items, self.total, self.description, self.file = items, total, description, file
        self.postfix = ""

    def set_postfix(self, refresh: bool = True, **values: str) -> None:
        """Words that the next line ends with, as tqdm's; `refresh` means nothing here."""
        self.postfix = ", ".join(f"{key}={value}" for key, value in values.items())

    def __iter__(self) -> Iterator:
        start = last = time.monotonic()
        done, said = 0, None
        try:
            for item in self.items:
                yield item
                done += 1
                if time.monotonic() - last >= SECONDS:
                    last, said = time.monotonic(), done
                    self._say(done, last - start)
        finally:
            if done != said:
                self._say(done, time.monotonic() - start)

    def _say(self, done: int, elapsed: float) -> None:
        of = "{n_fmt} [{elapsed}"
        if self.total:
            of = "{percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}"
        line = tqdm.format_meter(
            done,
            self.total,
            elapsed,
            prefix=f"{self.description}: " if self.description else "",
            postfix=self.postfix,
            bar_format=f"{{desc}}{of}, {{rate_fmt}}{{postfix}}]",
        )
        print(line, file=self.file)


def gpu_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it followed from, is that of a GPU without free memory.

    Judged by names and words, so that no job imports torch to find out.
    """
    while error is not None:
        kind = type(error)
        if kind.__name__ == "OutOfMemoryError" and kind.__module__.partition(".")[0] == "torch":
            return True
        # What CUDA's libraries report themselves, torch passes on in words.
        if isinstance(error, RuntimeError) and _FULL.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _explain(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    sys.__excepthook__(kind, error, traceback)
    if gpu_is_full(error):
        print(GPU_IS_FULL, file=sys.stderr)
