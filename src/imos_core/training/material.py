"""Sequences with their truth that may be used, by the classes of their licences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imos_core.data.sources import refuse_empty_choice, sequence_names
from imos_core.evaluation.protocols import TrueSequence, read_sequences

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def licensed_sequences(folder: Path, licences: Iterable[str]) -> list[TrueSequence]:
    """Read the sequences of a folder whose licence is of one of these classes.

    Parameters
    ----------
    folder : Path
        See `read_sequences`; without a manifest beside it, all of them are read.
    licences : iterable of str
        See `sequence_names`.

    Raises
    ------
    FileError
        If there are none, or one cannot be read.
    """
    classes = tuple(licences)
    names = sequence_names(folder, classes)
    refuse_empty_choice(folder, names, classes)
    return [s for s in read_sequences(folder) if names is None or f"{s.modality}/{s.name}" in names]
