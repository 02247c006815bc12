"""From originals to the directory that an adapter loads: key by key, in bounded memory.

A conversion is a plan (`Plan`): which files hold which weights under which names, and what the
network expects. Names and shapes are compared before the first tensor is read; then tensors are
copied one after the other, and the directory gets its name when it is whole.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from mmneurons.artifacts.files import read_json, write_json
from mmneurons.checkpoints.sources import CONVERSIONS, MADE_OF, RECEIPT
from mmneurons.checkpoints.tensors import ShardWriter, shape_of, tensors_of
from mmneurons.console import progress
from mmneurons.downloads.space import require_space

LARGEST_SHARD = 2 * 10**9
"""Bytes of a written file, at most; less where the files that are read are small."""


class ConversionError(ValueError):
    """The files are not those of this model; the message lists what differs."""


@dataclass(frozen=True)
class Piece:
    """Files with weights.

    rename: from the name in the files to that in the network; None leaves a tensor out, which
    is for what the network has no use for and is known by name. inside: see `tensors_of`. rows: how
    many of the first rows of a tensor are used, by its name in the files, where not all of them
    are. There have to be as many.
    """

    files: Sequence[Path]
    rename: Callable[[str], str | None]
    inside: str | None = None
    rows: Mapping[str, int] = field(default_factory=dict)

    def used(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """What of a tensor is used."""
        return tensor[: self.rows[name]] if name in self.rows else tensor

    def used_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Its shape."""
        if name not in self.rows:
            return shape
        return (min(shape[0], self.rows[name]), *shape[1:])


@dataclass(frozen=True)
class Plan:
    """A conversion.

    network, config: what the weights have to fill; pieces: where they come from; made: weights that
    nobody published because they are known, by the network's name.
    """

    network: type[PreTrainedModel]
    config: PreTrainedConfig
    pieces: Sequence[Piece]
    made: Mapping[str, torch.Tensor] = field(default_factory=dict)


def convert(name: str, originals: Mapping[str, Path], target: Path) -> None:
    """Make the directory `target` of originals by the conversion `name`.

    It appears when it is whole. Raises ConversionError, also where `target` holds files already:
    what somebody placed is never touched.
    """
    module = importlib.import_module(CONVERSIONS[name])
    with new_directory(target) as folder:
        module.convert(originals, folder)
        receipts = {part: path / RECEIPT for part, path in originals.items()}
        made_of = {part: read_json(path) for part, path in receipts.items() if path.exists()}
        write_json({"convert": name, "originals": made_of}, folder / MADE_OF)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A directory beside `target` that takes its name if the block ends without an exception.

    A `target` that is a link, such as to a larger disk, stays one: what it leads to is made.
    """
    target = target.resolve()
    if target.is_dir() and any(target.iterdir()):
        raise ConversionError(
            f"{target} holds files, but no config.json: complete it, or remove it so that it can "
            "be made again"
        )
    folder = target.with_name(f".{target.name}.part")
    shutil.rmtree(folder, ignore_errors=True)  # of a conversion that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
        folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_weights(plan: Plan, folder: Path, largest_shard: int = LARGEST_SHARD) -> None:
    """Check names and shapes, then copy the weights in the types that they were published in.

    Memory: at most 1.5 times the largest file that is read, of which the file itself, mapped and
    not copied, is the most. Raises ConversionError, and DownloadError where the disk of `folder`
    has no room for as much as is read, which is what is written or a little more.
    """
    check(plan)
    files = [path for piece in plan.pieces for path in piece.files]
    require_space(folder, sum(path.stat().st_size for path in files), "the converted checkpoint")
    # What is written at a time stands in memory beside the file that it is read from, twice while
    # it is put into its format.
    most = min(largest_shard, max(path.stat().st_size for path in files) // 5)
    writer = ShardWriter(folder, most)
    for name, tensor in plan.made.items():
        writer.add(name, tensor)
    work = [(piece, path) for piece in plan.pieces for path in piece.files]
    for piece, path in progress(work, description="convert"):
        with tensors_of(path, piece.inside) as tensors:
            for original in tensors:
                if (name := piece.rename(original)) is not None:
                    writer.add(name, piece.used(original, tensors[original]))
            writer.flush()
    writer.close()


def check(plan: Plan) -> None:
    """Compare all names and shapes with those of the network, which is built without memory."""
    with torch.device("meta"):
        network = plan.network(plan.config)
    expected = {name: tuple(w.shape) for name, w in network.state_dict().items()}
    found: dict[str, tuple[int, ...]] = {}
    twice = []
    for name, shape in _renamed(plan):
        if name in found:
            twice.append(name)
        found[name] = shape
    differences = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "twice": sorted(twice),
        "mis-shaped": [
            f"{name} {found[name]}, not {shape}"
            for name, shape in sorted(expected.items())
            if name in found and found[name] != shape
        ],
    }
    if any(differences.values()):
        lists = "; ".join(f"{kind}: {', '.join(n)}" for kind, n in differences.items() if n)
        raise ConversionError(f"these are not the weights of {plan.network.__name__}: {lists}")


def _renamed(plan: Plan) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from ((name, tuple(tensor.shape)) for name, tensor in plan.made.items())
    for piece in plan.pieces:
        for path in piece.files:
            with tensors_of(path, piece.inside) as tensors:
                for original in tensors:
                    if (name := piece.rename(original)) is not None:
                        yield name, piece.used_shape(original, shape_of(tensors, original))


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint in the format of transformers: those of its index, if it has one.

    Safetensors are preferred to pickles. Raises ConversionError where there are none, or where
    some of the index are missing.
    """
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        found = {path.name: path for path in sorted(folder.glob(pattern))}
        stem, _, suffix = pattern.partition("*")
        index = folder / f"{stem}{suffix}.index.json"
        if index.is_file():
            named = sorted(set(read_json(index)["weight_map"].values()))
            if missing := [name for name in named if name not in found]:
                raise ConversionError(f"{folder} lacks {', '.join(missing)} of its {index.name}")
            return [found[name] for name in named]
        if found:
            return list(found.values())
    raise ConversionError(f"{folder} has no weights")


def copy_files(folder: Path, target: Path, patterns: Iterable[str]) -> None:
    """Copy the files that match some pattern."""
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            shutil.copyfile(path, target / path.name)


def read_config(folder: Path) -> dict:
    """The `config.json` of an original."""
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def require(config: Mapping, folder: Path, **expected: object) -> None:
    """Raise ConversionError where a configuration has another value than the conversion assumes."""
    for key, value in expected.items():
        if config.get(key) != value:
            raise ConversionError(f"{folder}: {key} is {config.get(key)!r}, not {value!r}")
