"""Calls as people write them, for mypy alone: what works is what the annotations allow."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import numpy.typing as npt

import imos_core
from imos_core.checkpoint import Checkpoint


def calls(image: npt.NDArray[np.uint8], painted: npt.NDArray[np.uint16]) -> None:
    """Call, without ever being called."""
    slices = imos_core.propagate(
        image,
        {np.int64(4): painted[4]},
        labels=np.int64(1),
        contrast=[0, 255],
        spacing=[1, 2, 3],
        memory_budget=4e9,
        checkpoint=Checkpoint("folder"),
        ends={np.int64(1): [np.int64(9)]},
    )
    slices.close()
    imos_core.adapt(image, {4: painted[4]}, labels=1, spacing=np.array([1.0, 2.0, 3.0]))
    with suppress(imos_core.ImosError, imos_core.errors.PromptError):
        imos_core.propagate(image, {4: painted[4]}, labels=[1, 2], spacing=(1, 1, 1))
