"""Autosave: what a run has written, kept on disk by a thread, so that a crash does not lose it.

A folder holds the labels as numbered ``.npz`` files, first what the layer held when the run began,
then slice after slice; ``session.json``, what was known of the slices when it began; and
``record.json``, which says whose they are, what prompted them and which process is at work. The
folder goes when the layer is saved or removed, or the process ends as it should; what is left when
the process is gone is what `_recovery` offers.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import shutil
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import psutil

from napari_imos._ledger import Ledger
from napari_imos._provenance import Kind
from napari_imos._session import describe

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from napari.layers import Image, Labels

    from napari_imos._layers import Job
    from napari_imos._series_job import SeriesJob
    from napari_imos._walk import Walk

FORMAT = "napari-imos autosave"
RECORD = "record.json"
SESSION = "session.json"
_PAUSE = 2.0
"""Seconds between two files."""
_AT_ONCE = 2**25
"""Bytes of labels in one file."""

Position = tuple[tuple[int, int], ...]
"""Axes that a plane has a position on, with the position."""


def name_of(position: Position) -> str:
    """Name a plane: ``0-7``, or ``0-3_1-7`` in a series."""
    return "_".join(f"{axis}-{k}" for axis, k in position)


def position_of(name: str) -> Position:
    """Read a name.

    Raises
    ------
    ValueError
        If it is none.
    """
    pairs = [part.split("-") for part in name.split("_")]
    return tuple((int(axis), int(k)) for axis, k in pairs)


def index_of(position: Position, ndim: int) -> tuple[int | slice, ...]:
    """Basic index of a plane."""
    where: list[int | slice] = [slice(None)] * ndim
    for axis, k in position:
        where[axis] = k
    return tuple(where)


class Kept(Protocol):
    """Labels that are kept on disk."""

    def discard(self) -> None:
        """Throw them away."""


@dataclass
class _Walked:
    """What a run did on one walk."""

    prompts: list[int]
    slices: dict[int, tuple[float | None, str, bool]] = field(default_factory=dict)
    """Slice -> confidence, source, and whether there is more on it than ours."""


class Autosave:
    """Keeps what one run writes; made and fed by the main thread, which it never keeps waiting.

    Parameters
    ----------
    labels : Labels
        Layer that is written, with an array in memory.
    image : Image
        Its image.
    job : Job or SeriesJob
        What is done.
    parent : Path
        Where the folder is made.
    before : Kept, optional
        What was kept of the layer so far; it goes once this one holds all that the layer does.
    """

    def __init__(
        self,
        labels: Labels,
        image: Image,
        job: Job | SeriesJob,
        parent: Path,
        before: Kept | None = None,
    ) -> None:
        self.labels = labels
        self.folder = parent / uuid.uuid4().hex
        self._job, self._before = job, before
        self._walks: dict[Walk, _Walked] = {}
        self._facts = {
            "format": FORMAT,
            "version": 1,
            **process_facts(),
            "labels": labels.name,
            "image": image.name,
            "image_path": image.source.path or "",
            "shape": [int(n) for n in labels.data.shape],
            "dtype": str(labels.data.dtype),
            "scale": [float(s) for s in labels.scale],
            "translate": [float(t) for t in labels.translate],
            "axis_labels": [str(name) for name in labels.axis_labels],
            "units": [str(unit) for unit in labels.units],
        }
        self._waiting: queue.SimpleQueue[tuple[Position, npt.NDArray[Any]] | None]
        self._waiting = queue.SimpleQueue()
        self._data: npt.NDArray[Any] | None = np.asarray(labels.data)
        self._session: dict[str, Any] | None = _known(labels)
        self._files = 0
        self._gone = threading.Event()
        self._lock, self._ended = threading.Lock(), False
        atexit.register(self._at_exit)
        self._thread = threading.Thread(target=self._keep, name="imos autosave", daemon=True)
        self._thread.start()

    def add(self, index: int, source: str) -> None:
        """Note a slice that the layer holds now.

        Parameters
        ----------
        index : int
            Slice, numbered as the job's.
        source : str
            Where it came from, as the engine calls it.
        """
        job, k = self._job.place(index)
        walk = job.walk
        walked = self._walks.setdefault(walk, _Walked(sorted(job.prompts)))
        record = Ledger.of(self.labels).record(self.labels, walk)
        sure = float(record.confidence[k])
        sure_of = round(sure, 4) if np.isfinite(sure) else None
        walked.slices[k] = (sure_of, source, k in record.foreign)
        self._waiting.put(((*walk.fixed, (walk.axis, k)), np.array(self.labels.data[walk.at(k)])))

    def close(self) -> None:
        """Say that the run has ended; what waits is still written."""
        self._waiting.put(None)

    def wait(self) -> None:
        """Wait until everything is written, after `close`."""
        self._thread.join()

    def discard(self) -> None:
        """Throw it away: it is saved, or nobody wants it. The thread does it if it is at work."""
        with self._lock:
            self._gone.set()
            ended = self._ended
        self.close()
        if ended:
            self._remove()

    def _at_exit(self) -> None:
        self.discard()
        self._thread.join()

    def _remove(self) -> None:
        atexit.unregister(self._at_exit)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._before is not None:
            self._before.discard()
            self._before = None

    # ---- in the thread ----

    def _keep(self) -> None:
        try:
            self.folder.mkdir(parents=True)
            self._keep_all()
            if self._before is not None and not self._gone.is_set():
                self._before.discard()
                self._before = None
            while self._keep_some():
                pass
        except OSError:
            # a full or locked disk must not end the run
            self._gone.set()
        with self._lock:
            self._ended = True
        if self._gone.is_set():
            self._remove()

    def _keep_all(self) -> None:
        """Write what the layer held, along its first axis, empty planes left out."""
        planes: dict[str, npt.NDArray[Any]] = {}
        data, self._data = self._data, None
        known, self._session = self._session, None
        assert data is not None
        (self.folder / SESSION).write_text(json.dumps(known), encoding="utf-8")
        for k in range(len(data)):
            if self._gone.is_set():
                return
            if data[k].any():
                planes[name_of(((0, k),))] = np.array(data[k])
            if sum(plane.nbytes for plane in planes.values()) > _AT_ONCE:
                self._write(planes)
                planes = {}
        self._write(planes)

    def _keep_some(self) -> bool:
        """Write what has arrived; whether more may come."""
        planes: dict[str, npt.NDArray[Any]] = {}
        until, more = time.monotonic() + _PAUSE, True
        while more and sum(plane.nbytes for plane in planes.values()) < _AT_ONCE:
            try:
                one = self._waiting.get(timeout=max(until - time.monotonic(), 0.01))
            except queue.Empty:
                break
            more = one is not None
            if one is not None:
                planes[name_of(one[0])] = one[1]
        if not self._gone.is_set() and (planes or not more):
            self._write(planes)
        return more and not self._gone.is_set()

    def _write(self, planes: dict[str, npt.NDArray[Any]]) -> None:
        if planes:
            partial = self.folder / "part"
            with partial.open("wb") as file:
                np.savez_compressed(file, **planes)  # type: ignore[arg-type]
            partial.replace(self.folder / f"{self._files:05}.npz")
            self._files += 1
        partial = self.folder / "part"
        partial.write_text(json.dumps(self._record()), encoding="utf-8")
        partial.replace(self.folder / RECORD)

    def _record(self) -> dict[str, Any]:
        walks = [
            {
                "ndim": walk.ndim,
                "axis": walk.axis,
                "fixed": [list(pair) for pair in walk.fixed],
                "prompts": walked.prompts,
                "labels": list(self._job.ids),
                "slices": {str(k): list(facts) for k, facts in walked.slices.copy().items()},
            }
            for walk, walked in self._walks.copy().items()
        ]
        return {**self._facts, "time": time.time(), "walks": walks}


def process_facts() -> dict[str, Any]:
    """Say which process is at work: by its number and when it began, as numbers come again."""
    return {"pid": os.getpid(), "started": psutil.Process().create_time()}


def _known(labels: Labels) -> dict[str, Any]:
    """Return what is known of the slices, without looking at all of them."""
    known, ledger = describe(labels), Ledger.of(labels)
    for entry, (walk, record) in zip(known["walks"], ledger.records.items(), strict=True):
        corrected = np.flatnonzero(record.kind == Kind.CORRECTED).tolist()
        entry["erased"] = {str(k): sorted(ledger.absent(labels, walk, k)) for k in corrected}
    return known
