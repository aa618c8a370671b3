"""SeriesJob: the steps of a series as they are done, one after another, slices numbered through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_imos._walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from napari_imos._job import Job, Rules
    from napari_imos._walk import Index


@dataclass(frozen=True)
class SeriesWalk(Walk):
    """Slices of all steps, numbered through: ``number of the step * length + slice``.

    Steps are numbered as they are done; one that labels reach from different sides is done more
    than once.
    """

    along: int = 0
    """Axis of the series."""
    length: int = 1
    """Slices of a step."""
    steps: tuple[int, ...] = ()
    """Position of each step along the series."""

    def at(self, index: int | slice) -> Index:
        """Basic index of one slice in the layer's data."""
        where: list[int | slice] = [slice(None)] * self.ndim
        for axis, k in self.positions(index) if isinstance(index, int) else ():
            where[axis] = k
        return tuple(where)

    def positions(self, index: int) -> tuple[tuple[int, int], ...]:
        """Axes that a slice has a position on, with the position."""
        number, k = divmod(index, self.length)
        return ((self.along, self.steps[number]), (self.axis, k))


@dataclass(frozen=True)
class Step:
    """One time step, for the labels that come to it from one side."""

    index: int
    """Position along the series."""
    source: int | None
    """Position of the step that it is prompted by; None where it starts."""
    labels: frozenset[int]
    """Labels that are followed, locked ones too, because they compete."""
    job: Job
    """Walk through it; its prompts are the person's."""
    taken: bool = False
    """Whether it is taken as it is."""
    volume: bool = False
    """Whether it came as a labelled volume."""


@dataclass(frozen=True)
class SeriesJob:
    """Everything that the engine needs for a series; stands in for a `Job` in the widget."""

    steps: tuple[Step, ...]
    """In the order in which they are done, first where it starts: a source before its steps."""
    ids: tuple[int, ...]
    """Labels that are written."""
    walk: SeriesWalk
    """Where slices lie in the Labels layer."""
    across: Callable[[int], Any]
    """Slice -> the image of that slice over all steps, three spatial axes."""
    keywords: dict[str, Any]
    """Keywords of `imos_core.propagate` for `across`."""
    rules: Rules
    """What may be written."""
    files: tuple[Path, ...] = ()
    """See `Job`."""

    @property
    def start(self) -> Step:
        """Step where it starts."""
        return self.steps[0]

    @property
    def prompts(self) -> dict[int, npt.NDArray[Any]]:
        """Slice, numbered through -> what a person painted on it."""
        return {
            number * self.walk.length + k: plane
            for number, step in enumerate(self.steps)
            for k, plane in step.job.prompts.items()
        }

    @property
    def main_slice(self) -> int:
        """Slice, numbered through, from which it starts."""
        first = self.start.job
        return next(iter(first.prompts), first.length // 2)

    def place(self, index: int) -> tuple[Job, int]:
        """Job of the step of a slice, numbered through, and its number there."""
        number, k = divmod(index, self.walk.length)
        return self.steps[number].job, k

    def again(self, index: int) -> bool:
        """Whether the slice, numbered through, is done before, for other labels."""
        number = index // self.walk.length
        here = self.steps[number].index
        return any(step.index == here and not step.taken for step in self.steps[:number])

    def leads(self, index: int, main: int, *, ahead: bool) -> bool:
        """Whether a slice is shown while it runs: the one of each step that a person painted."""
        return (index - main) % self.walk.length == 0

    def ranges(self, options: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
        """Range of slices, numbered through."""
        return ((0, len(self.steps) * self.walk.length),)

    def expected(self, options: Mapping[str, Any]) -> int:
        """How many slices there are to do."""
        inner = {**options, "direction": "both"}
        return sum(step.job.expected(inner) for step in self.steps if not step.taken)
