"""History: runs into a layer, and what Ctrl+Z, renaming and removal have made of them since."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_imos._renaming import (
    Removal,
    is_renamed,
    keep_dropped,
    missing,
    rename_record,
    rename_run,
    shows,
    suspects,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from napari_imos._left import LeftLabels
    from napari_imos._provenance import Provenance
    from napari_imos._walk import Walk

_SAMPLE = 100_000  # voxels that are looked at to see whether a run was taken back ...
_SLICES = 200  # ... on so many slices at most
_NEARLY_ALL = 0.9  # share of the slices that Ctrl+Z changes, and a person hardly does


@dataclass(frozen=True)
class Change:
    """Voxels of one slice that a run changed."""

    index: int
    """Slice of the walk."""
    voxels: npt.NDArray[np.int32]
    """`(N,)` positions in the flattened slice."""
    old: npt.NDArray[Any]
    """`(N,)` labels before."""
    new: npt.NDArray[Any]
    """`(N,)` labels after."""
    noted: npt.NDArray[Any]
    """`(N,)` what the ledger said before."""


@dataclass(eq=False)
class Run:
    """One propagation into a layer."""

    walk: Walk
    anchors: tuple[int, ...]
    ids: tuple[int, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    """Model, checksum, adapter, range: what the record says of the run."""
    changes: list[Change] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)
    """Slices that have arrived."""
    before: Provenance | None = None
    """Record before the run."""
    after: Provenance | None = None
    """Record when it was taken back."""


class History:
    """Runs that stand, and those that were taken back.

    Runs that are one step of undo belong together.

    Parameters
    ----------
    left : LeftLabels
        What they left.
    records : mapping
        Walk -> what is known of its slices.
    prompts : mapping
        Walk -> slices that were prompts.
    """

    def __init__(
        self,
        left: LeftLabels,
        records: Mapping[Walk, Provenance],
        prompts: Mapping[Walk, Iterable[int]],
    ) -> None:
        self._left, self._records, self._prompts = left, records, prompts
        self._steps: list[list[Run]] = []
        self._undone: list[list[Run]] = []
        self._renamed: set[tuple[int, int]] = set()
        self._removed: dict[int, Removal] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._steps.clear()
        self._undone.clear()
        self._removed.clear()

    def begin(self, run: Run, *, joins: bool) -> None:
        """Take up a run that begins, or that joins the latest one."""
        self._undone.clear()
        if joins:
            self._steps[-1].append(run)
        else:
            self._steps.append([run])

    def drop(self, run: Run) -> None:
        """Forget a run that changed nothing."""
        self._steps = [[r for r in step if r is not run] for step in self._steps]
        self._steps = [step for step in self._steps if step]

    def settle(self, data: Any) -> None:
        """Forget the latest runs if Ctrl+Z has taken them back, and remember them on redo.

        An object that got another label throughout is followed.

        Parameters
        ----------
        data : array-like
            Of the layer.
        """
        for label, removal in list(self._removed.items()):
            if removal.is_back(data, self._left.planes):
                removal.undo(self._left.planes)
                del self._removed[label]
        # a step that was done again lies over the one before, which would seem to be gone
        while self._undone and self._is_there(data, self._undone[-1], back=False):
            self._redo(data, self._undone.pop())
        if not self._steps:
            return
        left, held = _sample(data, self._steps[-1])
        if np.array_equal(left, held):
            return
        self._follow(data, left, held)
        while self._steps and self._is_there(data, self._steps[-1], back=True):
            self._undo(data, self._steps.pop())

    def _undo(self, data: Any, step: list[Run]) -> None:
        for run in reversed(step):
            record = self._records[run.walk]
            run.after = record.copy()
            for change in reversed(run.changes):
                self._left.write(run.walk.at(change.index), change.voxels, change.noted, data.shape)
                # what was found to be right is gone
                record.checked[change.index] = False
            if run.before is not None:
                record.take(run.before, run.delivered)
                record.runs[:] = run.before.runs
                record.still_dropped(run.before)
        self._undone.append(step)

    def _redo(self, data: Any, step: list[Run]) -> None:
        for run in step:
            for change in run.changes:
                self._left.write(run.walk.at(change.index), change.voxels, change.new, data.shape)
            if run.after is not None:
                record = self._records[run.walk]
                record.take(run.after, run.delivered)
                record.runs[:] = run.after.runs
                record.still_dropped(run.after)
                for change in run.changes:
                    record.checked[change.index] |= run.after.checked[change.index]
        self._steps.append(step)

    def _follow(self, data: Any, left: npt.NDArray[Any], held: npt.NDArray[Any]) -> None:
        """Follow objects that the latest step left, and that are gone or have another label now."""
        run = self._steps[-1][-1]
        for label in missing(left, held):
            known = self._removed.get(label)
            # looking through all planes takes long: only where it may come to something
            if (known is not None and known.run is run) or shows(data, self._prompts, label):
                continue
            removal = Removal(label, self._left.planes, run)
            if removal.stands(data):
                removal.do(self._left.planes)
                self._removed[label] = removal
        for old, new in suspects(left, held).items():
            # undone: prompts may show the other label as they did before
            back = (new, old) in self._renamed
            if is_renamed(data, self._left.planes, {} if back else self._prompts, old, new):
                self._rename(data, old, new)

    def _rename(self, data: Any, old: int, new: int) -> None:
        self._renamed.add((old, new))
        for plane in self._left.planes.values():
            plane[plane == old] = new
        for step in (*self._steps, *self._undone):
            for run in step:
                rename_run(run, old, new)
        for walk, record in self._records.items():
            rename_record(record, old, new)
            keep_dropped(record, data, walk, old, new)

    def _is_there(self, data: Any, step: Sequence[Run], *, back: bool) -> bool:
        """Whether nearly all slices hold what a step left on them, or, `back`, what it found there.

        On slices that a brush has touched since, a person may have erased it, which is no undo;
        they are asked only where there are no others.
        """
        quiet, touched = [], []
        for run, change in _changes(step):
            held = _held(data, run, change)
            wanted = (change.old if back else change.new)[:: _stride(change)]
            same = np.array_equal(held, wanted)
            before = run.before is not None and run.before.painted[change.index]
            brushed = self._records[run.walk].painted[change.index] and not before
            (touched if brushed else quiet).append(same)
        return bool(np.mean(quiet) >= _NEARLY_ALL if quiet else all(touched))


def _sample(data: Any, step: Sequence[Run]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return a sample of what a step left, `(N,)`, and what the layer holds there."""
    left, held = [np.zeros(0, np.uint8)], [np.zeros(0, np.uint8)]
    for run, change in _changes(step):
        held.append(_held(data, run, change))
        left.append(change.new[:: _stride(change)])
    return np.concatenate(left), np.concatenate(held)


def _changes(step: Sequence[Run]) -> Iterator[tuple[Run, Change]]:
    """Yield some of the slices that a step changed, from all of its runs."""
    every = 1 + sum(len(run.changes) for run in step) // _SLICES
    return islice(((run, change) for run in step for change in run.changes), 0, None, every)


def _stride(change: Change) -> int:
    return 1 + change.voxels.size // (_SAMPLE // _SLICES)


def _held(data: Any, run: Run, change: Change) -> npt.NDArray[Any]:
    """What the layer holds at a sample of the voxels of a change."""
    plane = np.asarray(data[run.walk.at(change.index)])
    held: npt.NDArray[Any] = plane[np.unravel_index(change.voxels[:: _stride(change)], plane.shape)]
    return held
