"""Plan of a series: which step is prompted by which, by what a person painted where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imos_core.errors import PromptError
from imos_core.label_ids import ids_on
from imos_core.series.steps import Step

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy.typing as npt

    Planes = Mapping[int, npt.NDArray[Any]]
    """Slice -> `(H, W)` labels."""

_VOLUME = 3
"""So many painted slices beside each other are a volume, which is taken as it is."""


@dataclass(frozen=True)
class SeriesPlan:
    """What is done in a series, and in which order."""

    main: int
    """Step where it starts."""
    labels: tuple[int, ...]
    """Labels that are followed."""
    steps: tuple[Step, ...]
    """A source always before the steps that it prompts."""
    prompts: Mapping[int, Planes]
    """Step -> painted slices that serve as prompts; none in a volume that is taken as it is."""


def plan_series(
    painted: Mapping[int, Planes],
    count: int,
    *,
    labels: Collection[int] | None = None,
    main: int | None = None,
    anchors: Collection[int] | None = None,
    volumes: Collection[int] | None = None,
    direction: str = "both",
) -> SeriesPlan:
    """Plan a series.

    Steps on which all labels are painted start by themselves; every other one is reached from the
    nearest of them.

    Parameters
    ----------
    painted : mapping of int to mapping
        Step -> its painted slices.
    count : int
        Steps.
    labels : collection of int, optional
        Only these; by default all that are painted.
    main : int, optional
        Step where it starts; by default the first of those on which most labels are painted.
    anchors : collection of int, optional
        Painted slices of that step to use, which is no volume then; by default all of them.
    volumes : collection of int, optional
        Steps that are taken as they are; by default those with several painted slices beside each
        other.
    direction : {"both", "forward", "backward"}
        Which steps are done, seen from `main`.

    Raises
    ------
    PromptError
        If nothing is painted there.
    """
    shown = {t: _shown(planes) for t, planes in painted.items()}
    everything = set().union(*shown.values())
    chosen = everything if labels is None else {int(i) for i in labels}
    if not everything:
        raise PromptError("Nothing is painted: paint an object on one slice first.")
    if missing := chosen - everything:
        raise PromptError(f"Label {min(missing)} is not painted on any prompt slice.")
    if main is None:
        main = max(shown, key=lambda t: (len(shown[t] & chosen), -t))
    if not shown.get(main, set()) & chosen:
        raise PromptError(f"Nothing is painted at time point {main}: start where something is.")
    if volumes is None:
        volumes = {t for t, planes in painted.items() if _is_volume(planes)}
    if anchors is not None:
        if unpainted := set(anchors) - painted[main].keys():
            raise PromptError(
                f"Nothing is painted on slice {min(unpainted)} of time point {main}: choose "
                "painted slices as anchors."
            )
        painted = {**painted, main: {k: painted[main][k] for k in anchors}}
        volumes = set(volumes) - {main}
        shown[main] = _shown(painted[main])
        if labels is None:
            chosen &= set().union(*shown.values())
    prompts = {
        t: {
            k: plane
            for k, plane in painted.get(t, {}).items()
            # what was erased from a slice counts too
            if t not in volumes and (chosen.intersection(ids_on(plane)) or not plane.any())
        }
        for t in range(count)
    }
    steps = steps_of(count, main, shown, chosen, volumes, direction)
    return SeriesPlan(main, tuple(sorted(chosen)), steps, prompts)


def steps_of(
    count: int | range,
    main: int,
    shown: Mapping[int, Collection[int]],
    labels: Collection[int],
    volumes: Collection[int],
    direction: str,
) -> tuple[Step, ...]:
    """Order the steps of a series, each with the labels that are followed through it.

    First all steps away from where it starts, and from those on which all labels are painted. What
    is painted in between goes on from there, and in the end back by itself to the steps that lie
    before it.

    Parameters
    ----------
    count : int or range
        Steps.
    main : int
        Where it starts.
    shown : mapping of int to collection of int
        Step -> labels that are painted there.
    labels : collection of int
        Labels that are followed.
    volumes : collection of int
        Steps that are taken as they are.
    direction : {"both", "forward", "backward"}
        Which steps are done, and which way labels are carried.
    """
    chosen = frozenset(labels)
    painted = {t: chosen & set(there) for t, there in shown.items()}
    sources = {t for t, there in painted.items() if there == chosen} | {main}
    order = order_of(count, main, sources, direction)
    reached: dict[int, frozenset[int]] = {}
    for t, source in order:
        before = frozenset[int]() if source is None or t in volumes else reached[source]
        reached[t] = before | painted.get(t, frozenset())
    steps = [
        Step(t, source, chosen if t in volumes else reached[t], t in volumes) for t, source in order
    ]
    alone: dict[tuple[tuple[int, int], ...], set[int]] = {}
    for label in chosen:
        there = {t for t, labels in reached.items() if label in labels}
        if way := _way_back(there, set(reached) - set(volumes), direction):
            alone.setdefault(way, set()).add(label)
    for way, group in sorted(alone.items()):
        steps += [Step(t, source, frozenset(group)) for t, source in way]
    return tuple(steps)


def _way_back(there: set[int], open_: set[int], direction: str) -> tuple[tuple[int, int], ...]:
    """Return the steps that a label still has to be carried to, each with the one before it.

    Parameters
    ----------
    there : set of int
        Steps that it has reached.
    open_ : set of int
        Steps that it may be carried to.
    direction : {"both", "forward", "backward"}
        Which way.
    """
    sides = [
        side for side, name in ((1, "forward"), (-1, "backward")) if direction in ("both", name)
    ]
    way, ring = [], sorted(there)
    there = set(there)
    while ring:
        following = []
        for t in ring:
            for side in sides:
                if t + side in open_ - there:
                    there.add(t + side)
                    way.append((t + side, t))
                    following.append(t + side)
        ring = following
    return tuple(way)


def order_of(
    count: int | range, main: int, sources: set[int], direction: str
) -> list[tuple[int, int | None]]:
    """Order the steps of a series, each with the step that it is prompted by.

    Parameters
    ----------
    count : int or range
        Steps.
    main : int
        Where it starts.
    sources : set of int
        Steps that start by themselves.
    direction : {"both", "forward", "backward"}
        Which steps are done.

    Returns
    -------
    list of (int, int or None)
        The start and the other sources first, then ring by ring away from the nearest source.
    """
    whole = range(count) if isinstance(count, int) else count
    first = main if direction == "forward" else whole.start
    last = main + 1 if direction == "backward" else whole.stop
    others = (s for s in sources if first <= s < last and s != main)
    starts = [main, *sorted(others, key=lambda s: abs(s - main))]
    order: list[tuple[int, int | None]] = [(s, None) for s in starts]
    rest = []
    for t in range(first, last):
        if t in starts:
            continue
        # of two that are equally near, the one where it starts, or that is nearer to it
        nearest = min(starts, key=lambda s: (abs(s - t), abs(s - main)))
        rest.append((abs(nearest - t), t < nearest, t, t + (1 if nearest > t else -1)))
    return order + [(t, source) for _, _, t, source in sorted(rest)]


def _shown(planes: Planes) -> set[int]:
    return {i for plane in planes.values() for i in ids_on(plane)}


def _is_volume(slices: Collection[int]) -> bool:
    painted = set(slices)
    return any({k + i for i in range(_VOLUME)} <= painted for k in painted)
