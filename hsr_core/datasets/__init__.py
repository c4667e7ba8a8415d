"""Data sets that the user has on disk, one file a set.

from hsr_core.datasets import open_dataset
dataset = open_dataset("3dpw", "3DPW")
for name in dataset.sequences():
    for sample in dataset.open(name):
        ...
"""

from __future__ import annotations

import os

from ..registry import BUILT_IN, create
from .base import Conventions, Dataset, ReferencePerson, Sample, Sequence

__all__ = ["DATASETS", "Conventions", "Dataset", "ReferencePerson", "Sample", "Sequence", "open_dataset"]

DATASETS: tuple[str, ...] = tuple(BUILT_IN["dataset"])
"""Names of the built-in sets."""


def open_dataset(
    name: str, folder: str | os.PathLike[str], *, split: str = "", body_models: str | os.PathLike[str] = ""
) -> Dataset:
    """Open a data set; images are read when a sequence is iterated.

    Args:
        name: One of `DATASETS`, or the name of a plug-in (entry point group `hsr.dataset`).
        folder: Where the user has unpacked it.
        split: One of the set's `conventions.splits`; empty = the first of them.
        body_models: Folder with the user's SMPL files, from which sets that ship parameters only get joints and
            vertices. Empty: the folder in HSR_BODY_MODELS, and without that none.

    Raises:
        ConfigError: No such set or split; the message lists those that exist.
        MissingFile: The folder or a part of it is missing; the message says what belongs where.
        BadFile: A file is torn, of another layout, or holds anything but numbers and containers.
        MissingPackage: The set needs an optional package.
    """
    return create("dataset", name, folder, split=split, body_models=body_models)
