"""Tensors of published files, one at a time, and safetensors files written in bounded memory."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

INDEX = "model.safetensors.index.json"


@contextmanager
def tensors_of(path: Path, inside: str | None = None) -> Iterator[Mapping[str, torch.Tensor]]:
    """The tensors of a .safetensors file or of what torch.save wrote, by name.

    Nothing is read before a tensor is asked for, but for files in torch's format of before 2020,
    which are read whole. inside: the key under which a training checkpoint keeps its weights.
    Of a pickle only tensors and plain containers are read (`weights_only`). Raises KeyError
    where there is no such key.
    """
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            yield _Lazy(file)
        return
    mmap = zipfile.is_zipfile(path)
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    if inside is not None:
        if inside not in content:
            raise KeyError(f"{path} holds {', '.join(map(str, content))}, not {inside}")
        content = content[inside]
    yield {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}


class _Lazy(Mapping):
    """A safetensors file as a mapping."""

    def __init__(self, file):
        self._file, self._names = file, list(file.keys())

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())


def shape_of(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...]:
    """The shape of a tensor without reading it."""
    return tensors.shape(name) if isinstance(tensors, _Lazy) else tuple(tensors[name].shape)


class ShardWriter:
    """Writes tensors into safetensors files of at most `most` bytes, in the order they come.

    A tensor that is larger than `most` gets a file of its own. `close` names the files as
    transformers does and writes the index. Memory: the tensors of one file.
    """

    def __init__(self, folder: Path, most: int):
        self._folder, self._most = folder, most
        self._held: dict[str, torch.Tensor] = {}
        self._bytes = self._total = 0
        self._names: list[list[str]] = []

    def add(self, name: str, tensor: torch.Tensor) -> None:
        if self._held and self._bytes + tensor.nbytes > self._most:
            self.flush()
        self._held[name] = tensor.contiguous()
        self._bytes += tensor.nbytes

    def flush(self) -> None:
        """Write what is held; afterwards the tensors that were added may go."""
        if not self._held:
            return
        save_file(self._held, self._folder / f"{len(self._names)}.part", metadata={"format": "pt"})
        self._names.append(list(self._held))
        self._total += self._bytes
        self._held, self._bytes = {}, 0

    def close(self) -> None:
        self.flush()
        n, where = len(self._names), {}
        for i, names in enumerate(self._names):
            file = f"model-{i + 1:05}-of-{n:05}.safetensors"
            (self._folder / f"{i}.part").rename(self._folder / file)
            where |= dict.fromkeys(names, file)
        index = {"metadata": {"total_size": self._total}, "weight_map": dict(sorted(where.items()))}
        text = json.dumps(index, indent=2) + "\n"
        (self._folder / INDEX).write_text(text, encoding="utf-8")
