"""Runs methods on tasks and scores what they find."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from imos_core.evaluation.leak import leak
from imos_core.evaluation.memory import PeakMemory
from imos_core.evaluation.protocols import (
    PROTOCOLS,
    Task,
    mirror_images,
    read_sequences,
    said_of,
    tasks_of,
)
from imos_core.metrics import boundary_f, jaccard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.evaluation.protocols import Protocol
    from imos_core.evaluation.surfaces import SurfaceMetrics

Method = Callable[[Task], "npt.NDArray[np.bool_]"]
"""From a task to masks `(T, H, W)` of the whole sequence.

One that is told more than the prompt has a method ``given(task)`` with the slices that it is told,
which then do not count.
"""
Watch = Callable[[Task, "Protocol", str, "npt.NDArray[np.bool_]", tuple[int, ...]], None]
"""Shown every task, protocol, method, what was found, and the slices that were given."""


@dataclass(frozen=True)
class Result:
    """Scores of one method on one task."""

    method: str
    protocol: Protocol
    modality: str
    sequence: str
    label: int
    j: float
    f: float
    slices: int
    """Slices that it segmented."""
    seconds: float
    """Time it took for them."""
    leak: float | None = None
    """Mean area on slices beyond the object's ends, as a share of its largest true area."""
    leaking: float | None = None
    """Share of those slices that are not empty; None for both where there are no such slices."""
    category: str = ""
    """What the object is, if that is known."""
    seen: bool | None = None
    """Whether the category is trained on, if that is known."""
    surface_dice: float | None = None
    """Surface Dice; None if it was not asked for."""
    hd95: float | None = None
    """HD95 in units of the spacing; None also where one of both surfaces is missing."""
    prompts: int = 1
    """Slices whose truth it was given."""
    memory: int = 0
    """Most bytes that the process held meanwhile."""
    gpu_memory: int = 0
    """Most bytes that PyTorch held on the GPU meanwhile."""
    by_slice: tuple[tuple[int, float], ...] = ()
    """Distance from the nearest prompt, in slices, and J, of every counted slice that truly shows
    the object."""

    @property
    def mean(self) -> float:
        """J&F."""
        return (self.j + self.f) / 2

    @property
    def seconds_per_slice(self) -> float:
        """Time for one slice."""
        return self.seconds / max(self.slices, 1)


def given_slices(task: Task, method: Method) -> tuple[int, ...]:
    """Slices of the task's range whose truth a method is told, in order."""
    tell: Callable[[Task], Sequence[int]] | None = getattr(method, "given", None)
    return (task.prompt,) if tell is None else tuple(sorted(set(tell(task))))


def score(
    task: Task,
    protocol: Protocol,
    name: str,
    method: Method,
    *,
    surfaces: SurfaceMetrics | None = None,
    watch: Watch | None = None,
) -> Result:
    """Run a method on a task and score it, what it was given left out.

    Parameters
    ----------
    task : Task
        Object, and what is known of it.
    protocol : str
        Protocol of the task.
    name : str
        Title of the method.
    method : callable
        See `Method`.
    surfaces : SurfaceMetrics, optional
        Adds surface scores, which take their time.
    watch : callable, optional
        Shown what was found.
    """
    with PeakMemory() as memory:
        started = time.perf_counter()
        masks = method(task)
        seconds = time.perf_counter() - started
    if watch is not None:
        watch(task, protocol, name, masks, given_slices(task, method))
    sequence = task.sequence
    within = slice(task.start, task.stop)
    found, truth = masks[within], sequence.labels[within] == task.label
    given = [k - task.start for k in given_slices(task, method)]
    counted = [k for k in range(len(truth)) if k not in given]
    j, f = jaccard(found[counted], truth[counted]), boundary_f(found[counted], truth[counted])
    beyond = leak(found, truth)
    surface = None
    if surfaces is not None:
        surface = surfaces(found, truth, sequence.spacing, sequence.axis, given)
    return Result(
        method=name,
        protocol=protocol,
        modality=sequence.modality,
        sequence=sequence.name,
        label=task.label,
        j=float(j.mean()) if counted else float("nan"),
        f=float(f.mean()) if counted else float("nan"),
        slices=len(counted),
        seconds=seconds,
        leak=None if beyond is None else beyond.area,
        leaking=None if beyond is None else beyond.share,
        category=sequence.category,
        seen=sequence.seen,
        surface_dice=None if surface is None or np.isnan(surface.dice) else surface.dice,
        hd95=None if surface is None else surface.hd95,
        prompts=len(given),
        memory=memory.process,
        gpu_memory=memory.gpu,
        by_slice=tuple(
            (min(abs(k - g) for g in given), float(value))
            for k, value in zip(counted, j, strict=True)
            if truth[k].any()
        ),
    )


def evaluate_folder(
    folder: Path,
    methods: Mapping[str, Method],
    protocols: Sequence[Protocol] = PROTOCOLS,
    max_objects: int | None = None,
    modalities: Sequence[str] = (),
    *,
    mirrored: bool = False,
    by_hand: bool = False,
    surfaces: SurfaceMetrics | None = None,
    watch: Watch | None = None,
) -> Iterator[Result]:
    """Score methods on every object of every sequence of a folder.

    A method that is given every slice of a task has nothing to do there, and no result.

    Parameters
    ----------
    folder : Path
        See `read_sequences`.
    methods : mapping of str to callable
        Methods by name.
    protocols : sequence of str
        Protocols.
    max_objects : int, optional
        Most objects per sequence; see `tasks_of`.
    modalities : sequence of str
        Only these; empty: all.
    mirrored : bool
        Whether every sequence is also met in its mirror images; see `mirror_images`.
    by_hand : bool
        Whether prompts are as people paint; see `Task`.
    surfaces, watch
        See `score`.

    Raises
    ------
    ImosError
        If there are no sequences, or one of them does not serve; which, it says.
    """
    for protocol, exact in _tasks(folder, protocols, max_objects, modalities, mirrored):
        task = replace(exact, by_hand=by_hand)
        for name, method in methods.items():
            if len(given_slices(task, method)) < task.stop - task.start:
                with said_of(task.sequence):
                    result = score(task, protocol, name, method, surfaces=surfaces, watch=watch)
                yield result


def _tasks(
    folder: Path,
    protocols: Sequence[Protocol],
    max_objects: int | None,
    modalities: Sequence[str],
    mirrored: bool,
) -> Iterator[tuple[Protocol, Task]]:
    for original in read_sequences(folder, modalities):
        for sequence in mirror_images(original) if mirrored else (original,):
            for protocol in protocols:
                for task in tasks_of(sequence, protocol, max_objects):
                    yield protocol, task
