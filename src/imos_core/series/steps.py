"""Series: a whole (t, z) series of volumes, each prompted by the one before; nothing is written.

At the time point where a person painted, the objects are carried along z, as ever. Every other
step is prompted by the step before it, where an object is best seen: on up to three of its slices
there, the one where it is largest and one halfway to either end, the engine carries the masks from
the one time point to the next, as in a video of that slice; never on slices from which a person
erased the object in the new step. From these slices it goes along z through the new step. So every
engine call is one that the engine knows; an object may grow, shrink and move along z, because the
slices are chosen anew in every step. Labels that come to a step from different sides are followed
through it one side after the other.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from imos_core.label_ids import carries, ids_on

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from imos_core.segmented import Cancel, SegmentedSlice

    Planes = dict[int, npt.NDArray[Any]]
    """Slice -> `(H, W)` labels."""

_THIN = 0.25  # share of its largest slice below which an object is cut too near to its end


@dataclass(frozen=True)
class Step:
    """One time step, for the labels that come to it from one side."""

    index: int
    """Position along the series."""
    source: int | None
    """Position of the step that it is prompted by; None where it starts by itself."""
    labels: frozenset[int]
    """Labels that are followed."""
    taken: bool = False
    """Whether it is taken as it is."""


@dataclass(frozen=True)
class Found:
    """One finished slice of a series."""

    number: int
    """Position of its step among those that are done."""
    step: int
    """Position of its step along the series."""
    again: bool
    """Whether the slice was found before, for other labels."""
    slice: SegmentedSlice
    """The slice, by its index in the step."""
    carried: Collection[int] = ()
    """Slices of the step on which it was prompted by the step before."""
    origin: Literal["walked", "carried", "empty"] = "walked"
    """From within the step; from the step before; or there is nothing left to follow."""


class Volumes(Protocol):
    """The volumes of a series, as whoever has them shows them."""

    @property
    def length(self) -> int:
        """Slices of a volume."""
        ...

    def painted(self, step: int) -> Mapping[int, npt.NDArray[Any]]:
        """What a person painted in a step: slice -> `(H, W)` labels."""
        ...

    def absent(self, step: int) -> Mapping[int, Collection[int]]:
        """Label -> slices from which a person erased it in a step."""
        ...

    def current(self, step: int, index: int) -> npt.NDArray[Any]:
        """Labels that a slice holds now, `(H, W)`."""
        ...

    def merged(self, number: int, index: int, found: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Labels that a slice holds once these, `(H, W)`, have been found on it in a step.

        That is told by its position among those that are done.
        """
        ...

    def wanted(self, step: int) -> Iterable[int]:
        """Slices that are asked for."""
        ...

    def walk(
        self,
        step: int,
        prompts: Mapping[int, npt.NDArray[Any]],
        labels: Collection[int],
        *,
        away: int = 0,
        within: tuple[int, int] | None = None,
    ) -> Generator[SegmentedSlice, None, None]:
        """Go through a step from prompts that are `away` steps from what a person painted."""
        ...

    def across(self, index: int) -> tuple[Any, Mapping[str, Any]]:
        """Return the image of a slice over all steps, and its keywords of `propagate`."""
        ...


def walk_series(
    steps: Sequence[Step], volumes: Volumes, cancel: Cancel | None = None
) -> Generator[Found, None, None]:
    """Yield the slices of a series, step by step.

    Parameters
    ----------
    steps : sequence of Step
        A source always before the steps that it prompts (`order_of`).
    volumes : Volumes
        What they are made of.
    cancel : Cancel, optional
        Stops it.
    """
    parents = parents_of(steps)
    keys: dict[int, Planes] = {}  # step -> the slices of its source that it is prompted by
    seen: set[int] = set()
    for number, step in enumerate(steps):
        planes: Planes = {}
        found_there = partial(Found, number, step.index, step.index in seen)
        seen.add(step.index)
        targets = [n for n, p in enumerate(parents) if p == number and not steps[n].taken]
        if not step.taken:
            carried: dict[int, SegmentedSlice] = {}
            if step.source is not None:
                carried = _carry(volumes, step, step.source, keys.pop(number), cancel)
            if _stopped(cancel):
                return
            away = _away(number, parents)
            with closing(_through(volumes, found_there, step, carried, away)) as slices:
                for found in slices:
                    k = found.slice.index
                    if targets and k not in volumes.painted(step.index):
                        planes[k] = volumes.merged(number, k, found.slice.labels)
                    yield found
                    if _stopped(cancel):
                        return
        if targets:
            chosen = _key_planes(volumes, step, planes, [steps[n] for n in targets])
            keys.update(zip(targets, chosen, strict=True))


def parents_of(steps: Sequence[Step]) -> list[int | None]:
    """Say for every step by which one of them it is prompted.

    Parameters
    ----------
    steps : sequence of Step
        A source always before the steps that it prompts.
    """
    parents: list[int | None] = []
    for step in steps:
        there = [n for n, other in enumerate(steps) if other.index == step.source]
        # every label is followed through a step once: with others, or by itself
        own = [n for n in there if steps[n].labels >= step.labels]
        parents.append(next(iter(own or there), None))
    return parents


def key_slices(area: npt.NDArray[np.int64]) -> list[int]:
    """Slices on which an object is best seen.

    Parameters
    ----------
    area : ndarray
        `(Z,)` pixels of the object on every slice.

    Returns
    -------
    list of int
        The largest slice, and one halfway to either end where the object is not thin.
    """
    best = int(np.argmax(area))
    held = np.flatnonzero(area)
    # of equally large slices, the one in the middle of the object
    largest = np.flatnonzero(area == area[best])
    best = int(largest[np.argmin(np.abs(largest - held.mean()))])
    keys = [best]
    for end in (int(held[0]), int(held[-1])):
        half = round((best + end) / 2)
        if abs(half - best) > 1 and area[half] > _THIN * area[best]:
            keys.append(half)
    return sorted(keys)


def _through(
    volumes: Volumes,
    found: Callable[..., Found],
    step: Step,
    carried: Mapping[int, SegmentedSlice],
    away: int,
) -> Generator[Found, None, None]:
    """Walk through one time step."""
    painted = volumes.painted(step.index)
    prompts = _prompts(painted, carried)
    held = {i for plane in prompts.values() for i in ids_on(plane)} & step.labels
    if not held:
        yield from _nothing(volumes, found, step)
        return
    side: Any = "forward" if step.source is None or step.index > step.source else "backward"
    with closing(volumes.walk(step.index, prompts, held, away=away)) as slices:
        for item in slices:
            if item.index in carried and item.index not in painted:
                certain = carried[item.index].confidence
                given = replace(item, source=side, confidence=certain)
                yield found(given, carried, "carried")
            else:
                yield found(item, carried)


def _away(number: int, parents: Sequence[int | None]) -> int:
    """How many steps lie between this one and the one where its prompts were painted."""
    away, parent = 0, parents[number]
    while parent is not None:
        away, parent = away + 1, parents[parent]
    return away


def _prompts(
    painted: Mapping[int, npt.NDArray[Any]], carried: Mapping[int, SegmentedSlice]
) -> Planes:
    """Put together what was painted and what was carried; what was painted goes first."""
    prompts = {k: plane.copy() for k, plane in painted.items()}
    for k, made in carried.items():
        plane = prompts.setdefault(k, np.zeros_like(made.labels))
        np.copyto(plane, made.labels, where=plane == 0, casting="unsafe")
    return prompts


def _nothing(
    volumes: Volumes, found: Callable[..., Found], step: Step
) -> Generator[Found, None, None]:
    """Yield a step in which no object is left, without asking the engine."""
    from imos_core.segmented import SegmentedSlice

    empty = np.zeros_like(volumes.current(step.index, 0))
    sure = np.ones(empty.shape, np.float16)
    for k in volumes.wanted(step.index):
        yield found(SegmentedSlice(k, empty, sure, "forward"), origin="empty")


def _carry(
    volumes: Volumes, step: Step, source: int, keys: Planes, cancel: Cancel | None
) -> dict[int, SegmentedSlice]:
    """Carry key slices of the step before to this one, along time.

    Labels that a person painted in this step are walked first, so that they stand on the slices
    that are carried.
    """
    own, absent = _own(volumes, step), volumes.absent(step.index)
    painted = volumes.painted(step.index)
    there = _painted_labels(volumes, step, own, [k for k in keys if k not in painted])
    carried: dict[int, SegmentedSlice] = {}
    for k, plane in keys.items():
        if _stopped(cancel):
            return carried
        item = _pass_on(volumes, k, plane, source, step, cancel)
        if item is None:
            continue
        wanted = {i for i in step.labels if i not in own and k not in absent.get(i, ())}
        labels = np.where(carries(item.labels, wanted), item.labels, 0)
        if k in there:
            labels = np.where(there[k] != 0, there[k], labels)
        carried[k] = replace(item, index=k, labels=labels.astype(plane.dtype))
    return carried


def _pass_on(
    volumes: Volumes,
    index: int,
    plane: npt.NDArray[Any],
    source: int,
    step: Step,
    cancel: Cancel | None,
) -> SegmentedSlice | None:
    """Carry a slice from one step to the next; None if it was stopped."""
    import imos_core

    image, keywords = volumes.across(index)
    given = {
        **keywords,
        "labels": ids_on(plane),
        "start": min(source, step.index),
        "stop": max(source, step.index) + 1,
    }
    slices: Any = imos_core.propagate(image, {source: plane}, cancel=cancel, **given)
    with closing(slices):
        return next((item for item in slices if item.index == step.index), None)


def _painted_labels(volumes: Volumes, step: Step, own: set[int], open_: list[int]) -> Planes:
    """Find, on the slices that are carried, the labels that are painted elsewhere in the step."""
    if not own or not open_:
        return {}
    within = (min(open_), max(open_) + 1)
    walk = volumes.walk(step.index, volumes.painted(step.index), own, within=within)
    with closing(walk) as slices:
        return {
            item.index: np.where(carries(item.labels, own), item.labels, 0)
            for item in slices
            if item.index in open_
        }


def _own(volumes: Volumes, step: Step) -> set[int]:
    """Labels that a person painted in a step: they are not carried to it."""
    return {i for p in volumes.painted(step.index).values() for i in ids_on(p)} & step.labels


def _key_planes(
    volumes: Volumes, step: Step, planes: Planes, targets: Sequence[Step]
) -> list[Planes]:
    """Choose the slices of a finished step on which each of the next ones is prompted."""

    def plane_of(k: int, labels: Collection[int]) -> npt.NDArray[Any]:
        plane = planes[k] if k in planes else volumes.current(step.index, k)
        return np.where(carries(plane, labels), plane, plane.dtype.type(0))

    areas: dict[int, npt.NDArray[np.int64]] = {}
    for k in range(volumes.length):
        ids, counts = np.unique(plane_of(k, step.labels), return_counts=True)
        for label, count in zip(ids.tolist(), counts.tolist(), strict=True):
            if label:
                areas.setdefault(label, np.zeros(volumes.length, np.int64))[k] = count
    keys = []
    hidden = _incomplete(areas, volumes.painted(step.index))
    for target in targets:
        own, absent = _own(volumes, target), volumes.absent(target.index)
        chosen: set[int] = set()
        for label in areas.keys() & target.labels - own:
            area = areas[label].copy()
            area[list(absent.get(label, ()))] = 0
            whole = area.copy()
            whole[hidden] = 0
            if area.any():
                chosen.update(key_slices(whole if whole.any() else area))
        shown = step.labels & target.labels
        keys.append({k: plane_of(k, shown) for k in sorted(chosen)})
    return keys


def _incomplete(areas: Mapping[int, npt.NDArray[np.int64]], painted: Collection[int]) -> list[int]:
    """Painted slices that lack an object which is on a slice beside them.

    They are as somebody painted them; as prompts of another step they would say that it is not
    there.
    """
    found = []
    for k in painted:
        beside = [n for n in (k - 1, k + 1) if n >= 0]
        for area in areas.values():
            if area[k] == 0 and any(n < len(area) and area[n] for n in beside):
                found.append(k)
                break
    return found


def _stopped(cancel: Cancel | None) -> bool:
    return cancel is not None and cancel.is_set()
