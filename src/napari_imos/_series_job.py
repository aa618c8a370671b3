"""SeriesJob: the steps of a series in the order in which they are done, slices numbered through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_imos._walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from napari_imos._layers import Job, Rules
    from napari_imos._walk import Index


@dataclass(frozen=True)
class SeriesWalk(Walk):
    """Slices of all steps, numbered through: ``step * length + slice``."""

    along: int = 0
    """Axis of the series."""
    length: int = 1
    """Slices of a step."""

    def at(self, index: int | slice) -> Index:
        """Basic index of one slice in the layer's data."""
        where: list[int | slice] = [slice(None)] * self.ndim
        for axis, k in self.positions(index) if isinstance(index, int) else ():
            where[axis] = k
        return tuple(where)

    def positions(self, index: int) -> tuple[tuple[int, int], ...]:
        """Axes that a slice has a position on, with the position."""
        step, k = divmod(index, self.length)
        return ((self.along, step), (self.axis, k))


@dataclass(frozen=True)
class Step:
    """One time step."""

    index: int
    """Position along the series."""
    source: int | None
    """Step that it is prompted by; None where it starts."""
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
    """In the order in which they are done: a source always before its steps."""
    main: int
    """Step where it starts."""
    known: tuple[int, ...]
    """Labels that are followed, locked ones too, because they compete."""
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

    @property
    def start(self) -> Step:
        """Step where it starts."""
        return next(step for step in self.steps if step.index == self.main)

    @property
    def prompts(self) -> dict[int, npt.NDArray[Any]]:
        """Slice, numbered through -> what a person painted on it."""
        first = self.start
        rest = (step for step in self.steps if step is not first)
        return {
            step.index * self.walk.length + k: plane
            for step in (first, *rest)
            for k, plane in step.job.prompts.items()
        }

    @property
    def main_slice(self) -> int:
        """Slice, numbered through, from which it starts."""
        first = self.start.job
        return self.main * self.walk.length + next(iter(first.prompts), first.length // 2)

    def leads(self, index: int, main: int, *, ahead: bool) -> bool:
        """Whether a slice is shown while it runs: the one of each step that a person painted."""
        return (index - main) % self.walk.length == 0

    def ranges(self, options: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
        """Range of slices, numbered through."""
        numbers = [step.index for step in self.steps]
        return ((min(numbers) * self.walk.length, (max(numbers) + 1) * self.walk.length),)

    def expected(self, options: Mapping[str, Any]) -> int:
        """How many slices there are to do."""
        inner = {**options, "direction": "both"}
        return sum(step.job.expected(inner) for step in self.steps if not step.taken)
