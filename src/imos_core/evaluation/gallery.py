"""Results that are kept to be drawn: one object of each modality, not chosen by its scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.evaluation.protocols import Protocol, Task, TrueSequence


@dataclass
class Example:
    """What every method made of one object."""

    sequence: TrueSequence
    label: int
    size: tuple[int, int]
    """Slices with the object, and its volume: what it was chosen by."""
    tasks: dict[Protocol, Task] = field(default_factory=dict)
    """Its task under each protocol."""
    given: dict[tuple[Protocol, str], tuple[int, ...]] = field(default_factory=dict)
    """Slices that a method was given under a protocol."""
    _found: dict[tuple[Protocol, str], npt.NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def truth(self) -> npt.NDArray[np.bool_]:
        """True masks `(T, H, W)`."""
        truth: npt.NDArray[np.bool_] = self.sequence.labels == self.label
        return truth

    def keep(
        self,
        task: Task,
        protocol: Protocol,
        method: str,
        masks: npt.NDArray[np.bool_],
        given: tuple[int, ...],
    ) -> None:
        """Keep masks `(T, H, W)`, as bits."""
        self.tasks[protocol] = task
        self.given[protocol, method] = given
        self._found[protocol, method] = np.packbits(masks)

    def masks(self, protocol: Protocol, method: str) -> npt.NDArray[np.bool_] | None:
        """Masks `(T, H, W)` that a method found; None if there are none."""
        bits = self._found.get((protocol, method))
        if bits is None:
            return None
        shape = self.sequence.labels.shape
        return np.unpackbits(bits, count=math.prod(shape)).reshape(shape).astype(bool)

    def methods(self, protocol: Protocol) -> list[str]:
        """Methods that there are masks of, in order."""
        return [m for p, m in self._found if p == protocol]


class Gallery:
    """Keeps the object of each modality that is in most slices, the larger one of two.

    Pass it to `evaluate_folder` as `watch`.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Example] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._sequence: TrueSequence | None = None

    def __call__(
        self,
        task: Task,
        protocol: Protocol,
        method: str,
        masks: npt.NDArray[np.bool_],
        given: tuple[int, ...],
    ) -> None:
        """Keep masks if their object is the one to be drawn."""
        sequence = task.sequence
        if self._sequence is not sequence:
            self._sequence, self._sizes = sequence, {}
        if task.label not in self._sizes:
            areas = np.count_nonzero(sequence.labels == task.label, axis=(1, 2))
            self._sizes[task.label] = int(np.count_nonzero(areas)), int(areas.sum())
        size = self._sizes[task.label]
        best = self._kept.get(sequence.modality)
        if best is None or size > best.size:
            best = self._kept[sequence.modality] = Example(sequence, task.label, size)
        if best.sequence is sequence and best.label == task.label:
            best.keep(task, protocol, method, masks, given)

    @property
    def examples(self) -> dict[str, Example]:
        """By modality, sorted."""
        return dict(sorted(self._kept.items()))
