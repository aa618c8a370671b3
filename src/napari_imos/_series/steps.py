"""Series: from the layers to the steps of a whole (time, z) series (`imos_core.series.steps`).

What a person painted counts. Labels that are painted at a time point start from there, and are not
carried. Time points on which all labels are painted are sources: every other one is reached from
the nearest of them, so a correction redoes only the steps that are reached through it. A label that
does not reach a step this way is carried there by itself (`steps_of`). A time point that came
labelled as a volume (neighbouring slices that no brush has touched) is taken as it is. Steps that
are what the anchors would make of them are not done again.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import PromptError
from imos_core.formats.volume import in_time
from imos_core.label_ids import carries
from imos_core.prompt import check_ends, inside
from imos_core.series.plan import steps_of
from imos_core.series.steps import parents_of
from napari_imos._anchor_choice import choose_anchors
from napari_imos._job import Job, Rules
from napari_imos._layers import absent_on, check_writable, keywords_on
from napari_imos._made_with import made_with
from napari_imos._opening import filled_on
from napari_imos._picture import Picture
from napari_imos._record.filled import goes_through, whole_where_alone
from napari_imos._record.ledger import Ledger
from napari_imos._record.plan import ENDED, Stale, bases, find_stale, leftovers
from napari_imos._record.provenance import Kind
from napari_imos._series.job import SeriesJob, SeriesWalk, Step
from napari_imos._walk import Walk, ids_on, position, read_axis

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from imos_core.series.steps import Step as Planned
    from napari_imos._record.provenance import Provenance


@dataclass
class _Painted:
    """What a person made at one time point."""

    prompts: dict[int, npt.NDArray[Any]]
    """Slice -> labels."""
    volume: tuple[int, ...] = ()
    """Labels of a volume that is taken as it is; empty if there is none."""

    @property
    def ids(self) -> set[int]:
        """All labels."""
        return {i for plane in self.prompts.values() for i in ids_on(plane)} | set(self.volume)


def series_walks(labels: Labels, axis: int | str, series: int | str) -> list[Walk]:
    """Return the walk through every step of a series.

    Raises
    ------
    PromptError
        If the layer has no such axes.
    """
    number, along = read_axis(labels, axis), read_axis(labels, series)
    if labels.ndim != 4:
        raise PromptError(
            f"A whole series needs labels with four axes, but these have {labels.ndim}."
        )
    if number == along:
        raise PromptError("The axis of the series and the one that is walked must differ.")
    return [Walk(4, number, ((along, t),)) for t in range(labels.data.shape[along])]


def read_series(
    image: Image,
    labels: Labels,
    axis: int | str,
    series: int | str,
    anchors: Iterable[int] | None,
    options: Mapping[str, Any],
    viewer: ViewerModel | None,
    rules: Rules,
    channels: Iterable[Any] | None = None,
) -> SeriesJob:
    """Read what is to be done in a series.

    Parameters
    ----------
    image, labels : Image, Labels
        Layers; the labels have four axes.
    axis, series : int or str
        Axes of the Labels layer, by number or name: the one that is walked within a step, and that
        of the steps.
    anchors : iterable of int, optional
        Prompt slices at the time point where it starts.
    options : mapping
        Keywords of `imos_core.propagate`; `direction` is that of the series, `start` and `stop`
        are slices.
    viewer : ViewerModel, optional
        Viewer; its time point is where it starts. Without one, the first painted time point.
    rules : Rules
        What may be written.
    channels : iterable, optional
        See `Picture`.

    Raises
    ------
    PromptError, ImageError
        If something does not serve.
    """
    check_writable(labels)
    walks = series_walks(labels, axis, series)
    along, length = walks[0].fixed[0][0], labels.data.shape[walks[0].axis]
    picture = Picture(image, labels, viewer, channels)
    through = Walk(4, along, ((walks[0].axis, length // 2),))
    picture.check(through)
    reached = picture.covered(through)
    here = None if viewer is None else position(labels, viewer)[along]
    picture.check(walks[reached.start if here not in reached else here])
    ledger = Ledger.of(labels)
    painted = {t: _painted_at(labels, walks[t], ledger, t == here) for t in reached}
    main = _start_at(painted, here)
    # the engine hears, at each time point, only of labels that are painted there
    check_ends(options.get("ends"), {i for p in painted.values() for i in p.ids})
    wanted = options.get("labels")
    given = None if wanted is None else {int(i) for i in wanted}
    if anchors is not None:
        slices = inside(anchors, length)
        named = _planes(labels, walks[main], slices, ledger)
        data: Any = labels.data
        whole_where_alone(named, {k: np.asarray(data[walks[main].at(k)]) for k in slices})
        painted[main] = _Painted(named)
    ids = _ids(labels, walks, painted, main, given, viewer, ledger)
    free = tuple(i for i in sorted(ids) if i not in rules.locked)
    if not free:
        raise PromptError("All painted labels are locked: unlock one.")
    made_by = made_with(options, channels)
    elsewhere, grid = picture.elsewhere(walks[main]), picture.grid(walks[main])
    jobs = {}
    # brightness of channels is that of the slices that are read first
    for t in sorted(reached, key=lambda t: t != main):
        walk = walks[t]
        prompts = {
            k: plane
            for k, plane in painted[t].prompts.items()
            if ids & ({*ids_on(plane)} | ledger.absent(labels, walk, k, ids))
        }
        pixels = picture.on(walk, prompts)
        keywords = keywords_on(picture, labels, walk, tuple(sorted(ids)))
        absent = absent_on(labels, walk, sorted(prompts), ids, ledger)
        jobs[t] = Job(
            pixels,
            prompts,
            free,
            walk,
            length,
            keywords,
            rules,
            layer=labels,
            absent=absent,
            through=goes_through(ledger.record(labels, walk), prompts, free, absent),
            elsewhere=elsewhere,
            grid=grid,
        )
    volumes = {t for t, p in painted.items() if p.volume and ids & set(p.volume)}
    direction = str(options.get("direction", "both"))
    shown = {t: p.ids for t, p in painted.items()}
    plan = steps_of(reached, main, shown, ids, volumes, direction)
    steps = _steps(labels, jobs, plan, made_by, options, ledger)
    order = tuple(step.index for step in steps)
    walk = SeriesWalk(4, walks[0].axis, (), along, length, order)

    def across(k: int) -> Any:
        return picture.on(Walk(4, along, ((walks[0].axis, k),)))

    over = keywords_on(picture, labels, through, None)
    # the axis of a series is time, whatever it is called
    over["spacing"] = in_time(over["spacing"], over["axis"])
    return SeriesJob(steps, free, walk, across, over, rules, picture.files)


def _painted_at(labels: Labels, walk: Walk, ledger: Ledger, look: bool) -> _Painted:
    """Find what a person made at a time point; arrays on disk are looked at only if `look`."""
    data: Any = labels.data
    in_memory = isinstance(data, np.ndarray)
    if in_memory and walk not in ledger.records and not data[walk.at(slice(None))].any():
        return _Painted({})
    if not in_memory and look:
        for _ in ledger.examine_all(labels, walk):
            pass
    anchors = ledger.anchors(labels, walk)
    record = ledger.record(labels, walk)
    came = [k for k in np.flatnonzero(record.kind == Kind.DRAWN).tolist() if k not in anchors]
    came = [k for k in came if k not in record.dropped]
    volume = {i for k in came for i in ids_on(data[walk.at(k)])}
    return _Painted(_planes(labels, walk, anchors, ledger), tuple(sorted(volume)))


def _planes(
    labels: Labels, walk: Walk, slices: Iterable[int], ledger: Ledger
) -> dict[int, npt.NDArray[Any]]:
    return {k: ledger.meant(labels, walk, k) for k in slices}


def _start_at(painted: Mapping[int, _Painted], here: int | None) -> int:
    """Choose the time point where it starts: the one that is shown, or else the best painted."""
    if here is not None and here in painted and painted[here].ids:
        return here
    known = {t: len(p.ids) for t, p in painted.items() if p.ids}
    if not known:
        raise PromptError("Nothing is painted: paint an object on one slice first.")
    return min(known, key=lambda t: (-known[t], abs(t - (here or 0))))


def _ids(
    labels: Labels,
    walks: list[Walk],
    painted: dict[int, _Painted],
    main: int,
    given: set[int] | None,
    viewer: ViewerModel | None,
    ledger: Ledger,
) -> set[int]:
    """Choose the labels, and at the start the slices, as for a single walk."""
    everything = {i for p in painted.values() for i in p.ids}
    looped = is_looped(ledger, walks[main])
    if given is not None:
        if missing := given - everything:
            raise PromptError(f"Label {min(missing)} is not painted on any prompt slice.")
        return given
    if looped or viewer is None or painted[main].volume:
        return everything if looped else painted[main].ids
    choice = choose_anchors(labels, walks[main], viewer, ledger)
    slices = (choice.main, *choice.others)
    painted[main] = replace(painted[main], prompts=_planes(labels, walks[main], slices, ledger))
    elsewhere = (
        ids_on(painted[t].prompts[k])
        for t, slices in anchors_elsewhere(labels, ledger, walks[main]).items()
        if t in painted
        for k in painted[t].prompts.keys() & slices
    )
    return set(choice.ids).union(*elsewhere)


def is_looped(ledger: Ledger, walk: Walk) -> bool:
    """Whether a run has been through any time point of the series that a walk is a step of."""
    return any(record.runs for other, record in ledger.records.items() if _beside(walk, other))


def anchors_elsewhere(labels: Labels, ledger: Ledger, walk: Walk) -> dict[int, set[int]]:
    """Time point other than that of a walk -> its anchors, as last seen.

    Before the first run only those that a brush was seen on, as what came from a file may be
    anything.

    Parameters
    ----------
    labels : Labels
        Layer.
    ledger : Ledger
        Its ledger.
    walk : Walk
        Along the same axis, at one time point.
    """
    result, looped = {}, is_looped(ledger, walk)
    for other, record in list(ledger.records.items()):
        if other == walk or not _beside(walk, other):
            continue
        # what was painted there may be undone
        touched = np.flatnonzero(record.painted | (record.kind == Kind.CORRECTED)).tolist()
        if ledger.unseen and isinstance(labels.data, np.ndarray):
            for k in touched:
                ledger.examine(labels, other, k)
        found = set(ledger.known_anchors(labels, other))
        if not looped:
            found &= set(touched)
        if found:
            result[other.fixed[0][1]] = found
    ledger.unseen = False
    return result


def _beside(walk: Walk, other: Walk) -> bool:
    """Whether two walks are steps of one series."""
    alike = other.axis == walk.axis and len(other.fixed) == len(walk.fixed) == 1
    return alike and other.fixed[0][0] == walk.fixed[0][0]


def _steps(
    labels: Labels,
    jobs: Mapping[int, Job],
    plan: Sequence[Planned],
    made_by: str,
    options: Mapping[str, Any],
    ledger: Ledger,
) -> tuple[Step, ...]:
    """Say of every time step whether it has to be done, and what its slices will be made from."""
    steps: list[Step] = []
    marks: list[int] = []
    for planned, parent in zip(plan, parents_of(plan), strict=True):
        t, followed = planned.index, planned.labels
        job = jobs[t]
        ids = tuple(i for i in job.ids if i in followed)
        known = tuple(sorted(followed))
        job = replace(job, ids=ids, keywords={**job.keywords, "labels": known})
        if planned.taken:
            marks.append(_mark_of_volume(job))
            steps.append(Step(t, planned.source, followed, job, taken=True, volume=True))
            continue
        own = {i for plane in job.prompts.values() for i in ids_on(plane)}
        basis = bases(job.prompts, ids, job.length, made_by, job.absent)
        planes = [(k, zlib.crc32(np.ascontiguousarray(p))) for k, p in sorted(job.prompts.items())]
        before = None if parent is None or set(ids) <= own else marks[parent]
        absent = sorted((i, sorted(slices)) for i, slices in job.absent.items())
        made = (made_by, planes, absent, _kept_beside(labels, job, ledger), before)
        marks.append(zlib.crc32(repr(made).encode()))
        for label in set(ids) - own:
            basis[label] = np.full(job.length, max(marks[-1], 1), np.uint32)
        record = ledger.record(labels, job.walk)
        start, stop = job.ranges(options)[0]
        there = filled_on(job, ledger)
        fresh = _is_fresh(record, basis, range(start, stop), job)
        fresh = fresh and not leftovers(basis, there, (start, stop))
        stale: Stale | None = None
        if set(ids) <= own and not fresh:
            shown = {i: k for i, k in job.painted.items() if i in basis}
            within, kept = (start, stop), job.prompts
            stale = find_stale(record, basis, shown, job.absent, within, kept, there, job.through)
        job = replace(job, basis=basis)
        if stale is not None:
            job = replace(job, spans=stale.spans, ended=stale.ended)
        steps.append(Step(t, planned.source, followed, job, taken=fresh))
    steps = [_making_room(n, steps) for n in range(len(steps))]
    if all(step.taken for step in steps):
        # whoever asks again wants it done again
        steps = [replace(step, taken=step.volume or not step.job.ids) for step in steps]
    return tuple(steps)


def _making_room(number: int, steps: Sequence[Step]) -> Step:
    """Let a step replace what earlier runs found of labels that are followed through it later on.

    They find their place anew, beside what is found now.
    """
    step = steps[number]
    later = [s for s in steps[number + 1 :] if s.index == step.index and not s.taken]
    more = tuple(i for s in later for i in s.job.ids)
    if step.taken or not more:
        return step
    unmade = {i: np.zeros(step.job.length, np.uint32) for i in more}
    job = replace(step.job, ids=(*step.job.ids, *more), basis={**step.job.basis, **unmade})
    return replace(step, job=job)


def _kept_beside(labels: Labels, job: Job, ledger: Ledger) -> list[tuple[int, int]]:
    """Checksum what a person painted on slices that are no prompts: it is carried to other steps.

    These were dropped as anchors; nothing else that a person paints is no prompt.
    """
    result = []
    for k in sorted(ledger.record(labels, job.walk).dropped.keys() - job.prompts.keys()):
        held = job.held(k)
        painted = carries(held, job.ids) & ~ledger.ours(job.walk.at(k), held)
        if painted.any():
            result.append((k, zlib.crc32(np.where(painted, held, 0))))
    return result


def _mark_of_volume(job: Job) -> int:
    """Checksum what a volume that is taken as it is holds of the labels: others come from it."""
    mark = zlib.crc32(repr(("volume", job.walk.fixed, job.ids)).encode())
    for k in range(job.length):
        held = job.held(k)
        mark = zlib.crc32(np.where(carries(held, job.ids), held, 0), mark)
    return mark


def _is_fresh(
    record: Provenance,
    basis: Mapping[int, npt.NDArray[np.uint32]],
    slices: Iterable[int],
    job: Job,
) -> bool:
    """Whether all slices that may be written are what the anchors would make of them."""
    free = [k for k in slices if k not in job.prompts and not record.checked[k]]
    nothing = np.zeros(record.length, np.uint32)
    for i, made in basis.items():
        filled = (k for k in job.through.get(i, ()) if k in slices and made[k] != ENDED)
        which = [*free, *filled]
        if (record.basis.get(i, nothing)[which] != made[which]).any():
            return False
    return True
