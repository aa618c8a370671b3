"""LabelsStream: the only writer of a Labels layer. Main thread only, public napari API only."""

from __future__ import annotations

import math
import time
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import PropagationError
from imos_core.label_ids import carries
from napari_imos._pace import Pace
from napari_imos._record.changes import Change, Run
from napari_imos._record.covered import covered_parts
from napari_imos._record.ledger import Ledger
from napari_imos._record.left import box_of, within
from napari_imos._record.pages import SinglePages, SlabPages, thickness_of
from napari_imos._record.settled import Settled
from napari_imos._walk import ids_on

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import numpy.typing as npt
    from napari.layers import Labels

    from napari_imos._job import Job
    from napari_imos._record.pages import Pages
    from napari_imos._walk import Walk

_FASTEST = 1 / 15  # seconds between two refreshes at least
_SOON = 0.4  # seconds that slices of one chunk may wait for each other
_MOST = 4_000_000  # voxels that are put into the history together
_REPLACED = (
    "The labels were given another array while the propagation ran, so it has stopped: what was "
    "done is in the former array, and the new one is as it was given."
)


class LabelsStream:
    """Slices of one run on their way into a layer.

    A voxel is written only where the layer holds 0 or one of the propagated labels that an earlier
    run of ours wrote. Prompt slices and everything else that a person painted stay; prompts along
    other axes get no more of what they show.

    Parameters
    ----------
    labels : Labels
        Layer that is written.
    job : Job
        What is propagated.
    visible : callable, optional
        Whether the viewer shows a slice; slices that it does not show need no refresh.
    facts : dict, optional
        What the record should say of the run: model, adapter, range.
    joins : bool
        Whether it is part of a run that is writing already.
    ends : tuple of (Walk, int, int)
        Slices of walks, and labels that a person said have ended before them: what it follows.

    Raises
    ------
    PropagationError
        If another run is writing into the layer.
    """

    def __init__(
        self,
        labels: Labels,
        job: Job,
        visible: Callable[[int], bool] | None = None,
        facts: dict[str, Any] | None = None,
        *,
        joins: bool = False,
        ends: tuple[tuple[Walk, int, int], ...] = (),
    ) -> None:
        self.labels, self.job, self._walk = labels, job, job.walk
        self._array: Any = labels.data
        self._arrived: set[int] = set()
        self._hindered: dict[int, int] = {}
        self.undoable = True
        """After `commit`: whether Ctrl+Z takes the run back."""
        self._visible = visible or (lambda index: True)
        self._ledger = Ledger.of(labels)
        if self._ledger.busy and not joins:
            raise PropagationError(
                f"A propagation is already running in {labels.name!r}: stop it or let it finish."
            )
        self._anchors = self._kept() | set(job.prompts)
        self._settled = Settled(self._ledger, labels, self._walk, job.prompts)
        self._run = Run(job.walk, tuple(job.prompts), job.ids, dict(facts or {}), ends=ends)
        self._ledger.open(self._run, labels)
        self._runs = self._ledger.record(labels, job.walk).runs
        self._dirty, self._pace = False, Pace(_FASTEST)
        # another run of the same step may look at what this one has written
        self._thickness = 1 if joins else thickness_of(labels.data, job.walk)
        self._waiting: list[tuple[int, npt.NDArray[Any], float, str]] = []
        # while voxels are put back, where they are and what was there
        self._put_back: tuple[tuple[npt.NDArray[Any], ...], npt.NDArray[Any]] | None = None
        self._put_at = 0.0

    def check_array(self) -> None:
        """Refuse to write into an array that the layer was given while the run went on.

        Raises
        ------
        PropagationError
            If it was.
        """
        if self.labels.data is not self._array:
            raise PropagationError(_REPLACED)

    def is_visible(self, index: int) -> bool:
        """Whether the viewer shows a slice."""
        return self._visible(index)

    @property
    def slices(self) -> int:
        """How many slices have arrived, prompts included."""
        return len(self._arrived)

    @property
    def changes(self) -> list[Change]:
        """What was written so far."""
        return self._run.changes

    @property
    def hindered(self) -> tuple[int, int]:
        """How many slices hold other labels where objects were found, and how many voxels."""
        return len(self._hindered), sum(self._hindered.values())

    def write(
        self,
        index: int,
        result: npt.NDArray[Any],
        confidence: float = math.nan,
        source: str = "",
    ) -> None:
        """Write one finished slice.

        Parameters
        ----------
        index : int
            Slice.
        result : ndarray
            `(H, W)` labels.
        confidence : float
            How sure the engine is of it, 0..1.
        source : str
            Where it comes from, as the engine calls it.

        Raises
        ------
        PropagationError
            If the layer cannot be written.
        """
        self.check_array()
        self._arrived.add(index)
        try:
            self._receive(index, result, confidence, source)
        except Exception as error:  # a full disk, data of another shape
            raise PropagationError(_not_written(error)) from error
        self._refresh()

    def _receive(
        self, index: int, result: npt.NDArray[Any], confidence: float, source: str
    ) -> None:
        """Write a slice, or keep it for the others of its chunk."""
        if self._thickness == 1:
            self._take(SinglePages(self.labels.data, self._walk), index, result, confidence, source)
            return
        self._waiting.append((index, result, confidence, source))
        late = time.monotonic() - self._put_at >= _SOON
        if late or len(self._waiting) >= 2 * self._thickness:
            self._put()

    def _put(self) -> None:
        """Write what waits for the chunk that most of it belongs to, which costs what one does."""
        chunks = Counter(item[0] // self._thickness for item in self._waiting)
        ((chosen, _),) = chunks.most_common(1)
        items = sorted(
            (item for item in self._waiting if item[0] // self._thickness == chosen),
            key=lambda item: item[0],
        )
        self._waiting = [i for i in self._waiting if i[0] // self._thickness != chosen]
        pages = SlabPages(self.labels.data, self._walk, items[0][0], items[-1][0] + 1)
        for item in items:
            self._take(pages, *item)
        pages.close()
        self._put_at = time.monotonic()

    def _take(
        self,
        pages: Pages,
        index: int,
        result: npt.NDArray[Any],
        confidence: float,
        source: str,
    ) -> None:
        if self._ledger.record(self.labels, self._walk).checked[index]:
            return
        basis = {label: int(made[index]) for label, made in self.job.basis.items()}
        if index in self._anchors:
            onto = self._fillable(index)
            self._write(pages, index, result, onto)
            made = {label: value for label, value in basis.items() if label in onto}
            self._ledger.fill(self._run, index, made)
        else:
            self._write(pages, index, result)
            self._ledger.deliver(self._run, index, confidence, source, basis)

    def confidence(self, index: int) -> float:
        """How sure the record is of a slice so far, 0..1."""
        return float(self._ledger.record(self.labels, self._walk).confidence[index])

    def witness(self) -> Callable[[], bool]:
        """Return what says whether the run stands, or was taken back; it keeps no array alive."""
        runs, count = self._runs, len(self._runs)
        return lambda: len(runs) >= count

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Add to what the record says of the run."""
        self._run.facts.update(facts)

    def commit(self) -> None:
        """End the run and make it one step of the layer's undo history."""
        for _ in self.commit_slowly():
            pass

    def commit_slowly(self) -> Iterator[None]:
        """Do what `commit` does, bit by bit; what is painted meanwhile joins the step."""
        yield from commit_together([self])

    def _kept(self) -> set[int]:
        """Slices that a person made and that hold our labels, or a hole in them: not written."""
        data: Any = self.labels.data
        record = self._ledger.record(self.labels, self._walk)
        kept = set()
        for k in self._ledger.user_slices(self.labels, self._walk):
            about = set(ids_on(data[self._walk.at(k)]))
            about |= self._ledger.absent(self.labels, self._walk, k)
            if record.checked[k] or about & set(self.job.ids):
                kept.add(k)
        return kept

    def _fillable(self, index: int) -> set[int]:
        """Labels that a person's slice says nothing of: they are filled in, or gone from there."""
        data: Any = self.labels.data
        where, given = self._walk.at(index), self.job.filled.get(index, ())
        plane = np.asarray(data[where])
        if given:
            # what was painted meanwhile makes it an anchor of that object
            new = (plane != self.job.prompts[index]) & (plane != self._ledger.noted(where, plane))
            given = set(given).difference(ids_on(plane[new]))
        there = self._ledger.filled(self._walk, index, plane)
        return there.union(given).intersection(self.job.ids)

    def _write(
        self,
        pages: Pages,
        index: int,
        result: npt.NDArray[Any],
        onto: Collection[int] | None = None,
    ) -> None:
        """Write a slice; of a person's, only labels that it says nothing of, `onto` it."""
        if onto is not None and not onto:
            return
        where, plane = self._walk.at(index), pages.read(index)
        # of a large slice, hardly anything is looked at more than once
        box = self._ledger.reach(where, plane, result)
        there, held = within(where, box), np.array(plane[box])
        left = self._ledger.noted(there, held)
        ours = (held != 0) & (held == left)
        missing = False
        if onto is None:
            made = self.job.merge(held, ours, result[box])
            self._note_hindered(index, held, result[box], made)
            if self._may_be_erased(index):
                erased = (held == 0) & carries(left, self.job.ids)
                missing = bool(erased.any())
                made[erased] = 0
        else:
            made = self.job.fill(held, left, result[box], onto)
        made = self._settled.keep(index, plane, box, made)

        def after() -> npt.NDArray[Any]:
            whole = np.array(plane)
            whole[box] = made
            return whole

        if onto is None:
            more = bool(np.count_nonzero(plane) > np.count_nonzero(ours))
            self._ledger.keep_dropped(self._run, index, plane, after)
            self._ledger.keep_foreign(self._run, index, more and not missing, plane, after)
        differs = held != made
        tight = box_of(differs)
        if tight is None:
            return
        rows, columns = np.nonzero(differs)
        voxels = (rows + box[0].start) * plane.shape[1] + columns + box[1].start
        old, new, noted = held[differs], made[differs], left[differs]
        if onto is not None:
            # where it was erased, nothing says so any more
            self._ledger.keep_erased(self._run, index, noted[(old == 0) & (noted != 0)])
        pages.write(index, within(box, tight), made[tight])
        change = Change(index, voxels.astype(np.int32), old, new, noted)
        self._ledger.note(self._run, where, change, self.labels.data.shape)
        self._dirty |= self._visible(index)

    def _may_be_erased(self, index: int) -> bool:
        """Whether what a walk left on a slice may have been erased since this run began.

        What was erased before makes a slice an anchor, and what other walks left is `Settled`'s.
        """
        record = self._ledger.record(self.labels, self._walk)
        # or only filled in, on what was a person's slice
        left = record.written[index] or any(made[index] for made in record.basis.values())
        return bool(left) and not self._ledger.is_dropped(self.labels, self._walk, index)

    def _note_hindered(
        self,
        index: int,
        held: npt.NDArray[Any],
        found: npt.NDArray[Any],
        made: npt.NDArray[Any],
    ) -> None:
        """Note where an object was found that other labels keep out."""
        stays = found[(found != 0) & (held != 0) & (made != found)]
        if count := np.count_nonzero(carries(stays, self.job.ids)):
            self._hindered[index] = count
        else:
            self._hindered.pop(index, None)

    def _refresh(self) -> None:
        """Redraw, but leave most of the main thread's time to the person."""
        if self._dirty and self._pace.redraw(lambda: self.labels.refresh(extent=False)):
            self._dirty = False

    def _bundles(self) -> Iterator[list[Change]]:
        """Yield changes, those together whose slices lie in the same chunks of labels on disk."""
        thickness = thickness_of(self.labels.data, self._walk)
        bundles: dict[int, list[Change]] = {}
        for change in self.changes:
            bundles.setdefault(change.index // thickness, []).append(change)
        for bundle in bundles.values():
            some: list[Change] = []
            voxels = 0
            for change in bundle:
                voxels += change.voxels.size
                if some and voxels > _MOST:
                    yield some
                    some, voxels = [], change.voxels.size
                some.append(change)
            yield some

    def _restage(self, changes: Sequence[Change]) -> None:
        """Put changes back and make them again through the layer, which records them."""
        data: Any = self.labels.data
        parts = [self._indices(change) for change in changes]
        indices = tuple(np.concatenate(along) for along in zip(*parts, strict=True))
        left = np.concatenate([change.new for change in changes])
        # what was painted since stays
        held = np.asarray(data[indices])
        still = held == left
        self._run.covered += covered_parts(changes, ~still)
        if not still.any():
            return
        indices, left = tuple(along[still] for along in indices), left[still]
        value = left[0].item() if (left == left[0]).all() else left
        with _shown(self.labels):
            self._put_back = indices, left
            data[indices] = np.concatenate([change.old for change in changes])[still]
            self.labels.data_setitem(indices, value, refresh=False)
            self._put_back = None

    def _indices(self, change: Change) -> tuple[npt.NDArray[Any], ...]:
        """Where the layer's array holds the voxels of a change: `(N,)` indices along each axis."""
        where, shape = self._walk.at(change.index), self.labels.data.shape
        size = tuple(n for n, i in zip(shape, where, strict=True) if isinstance(i, slice))
        inside = iter(np.unravel_index(change.voxels, size))
        # napari keeps the indices: the smallest type that holds them, or they fill the memory
        return tuple(
            (next(inside) if isinstance(i, slice) else np.full(change.voxels.size, i)).astype(
                np.min_scalar_type(n)
            )
            for n, i in zip(shape, where, strict=True)
        )

    def _make_again(self) -> None:
        """Make what is put back again, without a word to the layer's history."""
        if self._put_back is not None:
            indices, left = self._put_back
            self.labels.data[indices] = left  # type: ignore[index]


@contextmanager
def _shown(labels: Labels) -> Iterator[None]:
    """Show a hidden layer for a moment, too short to be seen.

    napari does not slice what is hidden, and then fails to note what changes in it.
    """
    hidden = not labels.visible
    if hidden:
        labels.visible = True
    try:
        yield
    finally:
        if hidden:
            labels.visible = False


def _check_points(data: Any) -> None:
    """Refuse an array that takes all combinations of indices, as xarray does: they fill the memory.

    Raises
    ------
    IndexError
        If it is such a one.
    """
    if np.shape(data[(np.zeros(2, np.intp),) * data.ndim]) != (2,):
        raise IndexError("indices along several axes are no points")


def _not_written(error: Exception) -> str:
    """Say that a layer cannot be written."""
    reason = str(error) or type(error).__name__
    return f"The labels cannot be written: {reason}. What was written before stays."


def commit_together(streams: Sequence[LabelsStream]) -> Iterator[None]:
    """End runs into one layer and make them one step of its undo history, bit by bit.

    Raises
    ------
    PropagationError
        If the layer cannot be written any more; the run has ended all the same.
    """
    labels, ledger = streams[0].labels, streams[0]._ledger
    if not ledger.busy:
        return
    try:
        for stream in streams:
            while stream._waiting:
                stream.check_array()
                stream._put()
                yield
        _check_points(labels.data)
        with labels.block_history():
            for stream in streams:
                for changes in stream._bundles():
                    stream.check_array()
                    stream._restage(changes)
                    yield
            ledger.committing = True
    except Exception as error:
        for stream in streams:
            stream.undoable = False
            with suppress(Exception):
                stream._make_again()
            ledger.close(stream._run)  # no step takes it back
        ledger.committing = True
        with suppress(Exception), labels.block_history():
            pass  # what the layer has noted by now is a step of its own, not part of the next one
        # dask and its like do not index point by point, which napari's history needs
        if isinstance(error, PropagationError):
            raise
        if not isinstance(error, NotImplementedError | TypeError | IndexError):
            raise PropagationError(_not_written(error)) from error
    finally:
        ledger.committing = False
        for stream in streams if ledger.busy else ():
            ledger.close(stream._run)
    labels.refresh(extent=False)
