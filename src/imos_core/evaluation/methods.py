"""iMOS itself as a method under evaluation, by a title of its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.propagation import propagate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from imos_core.evaluation.protocols import Task
    from imos_core.model import IMOS


class ImosMethod:
    """Propagation with a network.

    Parameters
    ----------
    model : IMOS
        Network.
    ends : bool
        Whether somebody has said where the object ends, on both sides.
    **options
        Passed to `propagate`.
    """

    def __init__(self, model: IMOS, *, ends: bool = False, **options: Any) -> None:
        self._model, self._ends, self._options = model, ends, options

    def __call__(self, task: Task) -> npt.NDArray[np.bool_]:
        """Segment a task's object."""
        sequence = task.sequence
        masks = np.zeros(sequence.labels.shape, bool)
        for item in propagate(
            sequence.image,
            {task.prompt: task.mask.astype(np.uint8)},
            start=task.start,
            stop=task.stop,
            direction=task.direction,
            model=self._model,
            spacing=sequence.spacing,
            channels_last=sequence.image.ndim == 4,
            ends={1: ends_of(task)} if self._ends else None,
            **self._options,
        ):
            masks[item.index] = item.labels > 0
        return masks


def ends_of(task: Task) -> list[int]:
    """Slices beside the object's first and last one, as far as there are any."""
    shown = np.flatnonzero((task.sequence.labels == task.label).any((1, 2)))
    beside = (int(shown[0]) - 1, int(shown[-1]) + 1)
    return [k for k in beside if task.start <= k < task.stop]


def titles(models: Sequence[str]) -> list[str]:
    """Short titles of models, all different: their stems, else with folder, else the whole names.

    Parameters
    ----------
    models : sequence of str
        Names, or weights files, which are often called ``weights.safetensors`` each.
    """
    paths = [Path(m) for m in models]
    stems = [p.stem if p.suffix else m for p, m in zip(paths, models, strict=True)]
    longer = [f"{p.parent.name}/{s}" if p.suffix else s for p, s in zip(paths, stems, strict=True)]
    for names in (stems, longer):
        if len(set(names)) == len(set(models)):
            return names
    return list(models)
