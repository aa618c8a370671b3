"""Calls as people write them, for mypy alone: what works is what the annotations allow."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

import imos_core
from imos_core.files.propagate import FileJob, propagate_files
from imos_core.walking.checkpoint import Checkpoint

if TYPE_CHECKING:
    from pathlib import Path


def calls(image: npt.NDArray[np.uint8], painted: npt.NDArray[np.uint16]) -> None:
    """Call, without ever being called."""
    slices = imos_core.propagate(
        image,
        {np.int64(4): painted[4]},
        axis=np.int64(0),
        start=np.int64(3),
        labels=np.int64(1),
        contrast=[0, 255],
        spacing=[1, 2, 3],
        memory_budget=4e9,
        checkpoint=Checkpoint("folder"),
        ends={np.int64(1): [np.int64(9)]},
        through={1: np.array([3])},
    )
    slices.close()
    imos_core.adapt(image, {4: painted[4]}, labels=1, spacing=np.array([1.0, 2.0, 3.0]))
    imos_core.adapt(image, {4: painted[4]}, axis=np.int64(0), contrast=np.array([0.0, 255.0]))
    with suppress(imos_core.ImosError, imos_core.errors.PromptError):
        imos_core.propagate(image, {4: painted[4]}, labels=[1, 2], spacing=(1, 1, 1))


def files(folder: Path) -> None:
    """Name files and slices as people do."""
    job = FileJob("a.tif", folder / "b.tif", "c.tif", "d.tif", anchors=4, labels=[np.int64(1)])
    propagate_files(replace(job, output="e.tif", anchors=[4, 5], confidence=None), resume=True)
    beside: Path = job.output.parent
    anchors: list[int] = list(job.anchors or ())
    propagate_files(FileJob(job.image, beside / "b.tif", beside / "c.tif", anchors=anchors))
    FileJob("a.tif", "b.tif", 3)  # type: ignore[arg-type]
    job.image = beside  # type: ignore[misc]  # it is frozen
