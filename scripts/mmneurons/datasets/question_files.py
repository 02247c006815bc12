"""Where datasets of questions lie on disk: names of files only, so that rules can ask for them."""

from __future__ import annotations

from pathlib import Path

_NAMES = {
    "vqav2": ("v2_OpenEnded_mscoco_{split}_questions.json", "v2_mscoco_{split}_annotations.json"),
    "pmc_vqa": ("{split}.csv",),
    "doc_vqa": ("data/{split}-00000-of-00001.parquet",),
    "lingo_qa": ("{split}/{split}.parquet",),
    "rsvqa": ("USGS_split_{split}_questions.json", "USGS_split_{split}_answers.json"),
}
_LINGO_QA_TRAIN = ("train/scenery.parquet", "train/action.parquet")


def questions_file(split: str) -> str:
    """Where DocVQA's questions are that were fetched without their pictures, below the root."""
    return f"data/{split}.questions.parquet"


def annotation_files(reader: str, root: str | Path, split: str, fetched: bool = False) -> list[str]:
    """The files that `reader` opens to read the questions of a split, below `root`.

    DocVQA's are the pieces that are there. Where none is, it is the questions without pictures if
    the dataset can be fetched, else the only piece of a dataset in one.
    """
    names = _NAMES[reader]
    if reader == "lingo_qa" and split == "train":
        names = _LINGO_QA_TRAIN
    if reader == "doc_vqa":
        pieces = sorted(Path(root).glob(f"data/{split}-[0-9]*-of-[0-9]*.parquet"))
        absent = (questions_file(split),) if fetched else names
        names = [piece.relative_to(root).as_posix() for piece in pieces] or absent
    return [f"{root}/{name.format(split=split)}" for name in names]
