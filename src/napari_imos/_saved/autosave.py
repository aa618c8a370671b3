"""Autosave: what a layer holds, kept on disk by a thread, so that a crash does not lose it.

A folder holds the labels as numbered ``.npz`` files, first what the layer held when it was made,
then slice after slice of a run, and what has changed besides; ``session-N.json``, what was known of
the slices before the run or at the last change; and ``record.json``, which says how many of the
files count, what the run has done and which process is at work. The folder goes when the layer is
saved or removed, or the process ends as it should; what is left when the process is gone is what
`_recovery` offers.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import psutil

from imos_core.moving import patiently, remove_folder
from napari_imos._placed import placed
from napari_imos._record.ledger import Ledger
from napari_imos._record.provenance import Kind, checksum
from napari_imos._saved.session import describe, filled_on_anchors
from napari_imos._walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt
    from napari.layers import Image, Labels

    from napari_imos._job import Job
    from napari_imos._series.job import SeriesJob

FORMAT = "napari-imos autosave"
RECORD = "record.json"
_PAUSE = 2.0
"""Seconds between two files."""
_UNKNOWN = -1
"""In place of the checksum of a plane that is to be written again, whatever it holds."""
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
    slices: dict[int, tuple[float | None, str, bool, bool]] = field(default_factory=dict)
    """Slice -> confidence, source, whether there is more on it than ours, and whether a person has
    corrected it."""


@dataclass
class _Look:
    """What a layer held, and what was known of it, at some moment of a run."""

    data: npt.NDArray[Any]
    known: dict[str, Any]
    done: dict[Walk, list[int]]
    """Slices that the run had done by then, which is known of them."""


class Autosave:
    """Keeps what a layer holds; made and fed by the main thread, which it never keeps waiting.

    Parameters
    ----------
    labels : Labels
        Layer that is written, with an array in memory.
    image : Image
        Its image.
    job : Job or SeriesJob or None
        What a run does that begins; None: nobody but the person is at work.
    parent : Path
        Where the folder is made.
    before : Kept, optional
        What was kept of the layer so far; it goes once this one holds all that the layer does.
    """

    def __init__(
        self,
        labels: Labels,
        image: Image,
        job: Job | SeriesJob | None,
        parent: Path,
        before: Kept | None = None,
    ) -> None:
        self.labels = labels
        self.folder = parent / uuid.uuid4().hex
        self.took = 0.0
        """Seconds of the last look at all planes."""
        self.failure = ""
        """Why nothing was kept the last time, as one sentence."""
        self._job, self._before = job, before
        self._walks: dict[Walk, _Walked] = {}
        self._facts = {
            "format": FORMAT,
            "version": 1,
            **process_facts(),
            "labels": labels.name,
            "image": image.name,
            "shape": [int(n) for n in labels.data.shape],
            "dtype": str(labels.data.dtype),
            **placed(labels),
        }
        self._waiting: queue.SimpleQueue[tuple[Position, npt.NDArray[Any]] | _Look | None]
        self._waiting = queue.SimpleQueue()
        self._sums: dict[tuple[int, ...], int] = {}
        self._files = self._sessions = 0
        self._gone, self._failed = threading.Event(), threading.Event()
        self._lock, self._ended = threading.Lock(), False
        self._feeds = job is not None  # whether a run does
        atexit.register(self._at_exit)
        self._start(self._keep)
        if job is None:
            self.close()

    def _start(self, work: Callable[[npt.NDArray[Any], dict[str, Any]], None]) -> None:
        """Do something with what the layer holds and what is known of it, in a thread."""
        given = (work, np.asarray(self.labels.data), describe(self.labels))
        self._thread = threading.Thread(
            target=self._until_gone, args=given, name="imos autosave", daemon=True
        )
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether all is written, or nothing more can be."""
        with self._lock:
            return self._ended

    def fits(self, labels: Labels) -> bool:
        """Whether it may go on with a layer: it has begun, and shape and type are as they were."""
        if self._failed.is_set() and not self._sessions:
            return False
        shape, dtype = self._facts["shape"], self._facts["dtype"]
        return [int(n) for n in labels.data.shape] == shape and str(labels.data.dtype) == dtype

    def refresh(self) -> bool:
        """Keep what has changed that no run has added: what was painted, and what was undone.

        Returns
        -------
        bool
            False if it is still at work on what was before: ask again.
        """
        with self._lock:
            if self._gone.is_set():
                return True
            if not self._ended and not self._feeds:
                return False
            ended, self._ended = self._ended, False
            if ended:
                self._feeds = False  # nobody would read what a run adds
                self._failed.clear()  # there may be room by now
                self.failure = ""
        if ended:
            self._walks.clear()  # what a run has done is known by now
            self._start(self._keep_changes)
        else:
            done = {walk: list(walked.slices) for walk, walked in self._walks.items()}
            data = np.asarray(self.labels.data)
            self._waiting.put(_Look(data, describe(self.labels), done))
        return True

    def add(self, index: int, source: str) -> None:
        """Note a slice that the layer holds now.

        Parameters
        ----------
        index : int
            Slice, numbered as the job's.
        source : str
            Where it came from, as the engine calls it.
        """
        assert self._job is not None
        if self._gone.is_set() or self._failed.is_set() or not self._feeds:
            return
        job, k = self._job.place(index)
        walk = job.walk
        walked = self._walks.setdefault(walk, _Walked(sorted(job.prompts)))
        ledger = Ledger.of(self.labels)
        record = ledger.record(self.labels, walk)
        if record.painted[k]:
            ledger.examine(self.labels, walk, k)  # a stroke may have come ahead of the run
        corrected = bool(record.kind[k] == Kind.CORRECTED)
        sure = float(record.confidence[k])
        sure_of = round(sure, 4) if np.isfinite(sure) else None
        walked.slices[k] = (sure_of, source, k in record.foreign, corrected)
        self._waiting.put(((*walk.fixed, (walk.axis, k)), np.array(self.labels.data[walk.at(k)])))

    def close(self) -> None:
        """Say that the run has ended; what waits is still written."""
        self._feeds = False
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
        throw_away(self.folder)
        if self._before is not None:
            self._before.discard()
            self._before = None

    # ---- in the thread ----

    def _until_gone(
        self,
        work: Callable[[npt.NDArray[Any], dict[str, Any]], None],
        data: npt.NDArray[Any],
        known: dict[str, Any],
    ) -> None:
        try:
            work(data, known)
        except OSError as error:
            self.failure = (
                f"Labels are not kept safe from crashes, as {self.folder.parent} cannot be written "
                f"({error.strerror or error}): save the session yourself."
            )
            # a full or locked disk must not end the run; what is on it is not known any more
            self._failed.set()
            self._sums = dict.fromkeys(self._sums, _UNKNOWN)
        finally:
            with self._lock:
                self._ended = True
        if self._gone.is_set():
            self._remove()
        elif self._failed.is_set() and not self._sessions:
            # what was kept before is old, but all there is
            throw_away(self.folder)

    def _keep(self, data: npt.NDArray[Any], known: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True)
        self._keep_changes(data, known)
        if self._before is not None and not self._gone.is_set():
            self._before.discard()
            self._before = None
        while self._keep_some():
            pass

    def _keep_changes(
        self,
        data: npt.NDArray[Any],
        known: dict[str, Any],
        done: Mapping[Walk, Iterable[int]] | None = None,
    ) -> None:
        """Write planes of the last two axes that are not as they were; at first, empty ones are.

        Of slices that were `done`, what is known counts, not what the run has said of them.
        """
        planes: dict[str, npt.NDArray[Any]] = {}
        began = time.monotonic()
        for where in np.ndindex(data.shape[:-2]):
            if self._gone.is_set():
                return
            plane = np.array(data[where])
            held = checksum(plane)
            before, self._sums[where] = self._sums.get(where), held
            if held == before or (before is None and not plane.any()):
                continue
            planes[name_of(tuple(enumerate(where)))] = plane
            if sum(plane.nbytes for plane in planes.values()) > _AT_ONCE:
                self._put(planes)
                planes = {}
        self._put(planes)
        self.took = time.monotonic() - began
        self._add_erased(known, data)
        name = f"session-{self._sessions}.json"
        (self.folder / name).write_text(json.dumps(known), encoding="utf-8")
        former = self._facts.get("session")
        self._facts["session"], self._sessions = name, self._sessions + 1
        for walk, slices in (done or {}).items():
            for k in slices:
                self._walks[walk].slices.pop(k, None)
        self._say()
        if former is not None:
            with suppress(OSError):  # it goes with the folder
                (self.folder / former).unlink()

    def _add_erased(self, known: dict[str, Any], data: npt.NDArray[Any]) -> None:
        """Say which labels were erased or filled in, which takes too long to wait for."""
        ledger = Ledger.of(self.labels)
        for entry in known["walks"]:
            if self._gone.is_set() or self.labels.data is not data:
                return
            walk = Walk.from_plain(entry)
            entry["erased"] = {}
            entry["filled"] = filled_on_anchors(self.labels, walk, entry["anchors"], ledger)
            for k, kind in enumerate(entry["kind"]):
                if kind != Kind.CORRECTED.name.lower():
                    continue
                if self._gone.is_set() or self.labels.data is not data:
                    return
                entry["erased"][str(k)] = sorted(ledger.absent(self.labels, walk, k))

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
            if isinstance(one, _Look):
                self._put(planes)
                planes = {}
                self._keep_changes(one.data, one.known, one.done)
            elif one is not None:
                planes[name_of(one[0])] = one[1]
                self._note(*one)
        if not self._gone.is_set() and (planes or not more):
            self._put(planes)
            self._say()
        return more and not self._gone.is_set()

    def _note(self, position: Position, plane: npt.NDArray[Any]) -> None:
        """Note what the files say of a plane now, or of none if this one lies across them."""
        axes, where = zip(*sorted(position), strict=True)
        if axes == tuple(range(len(self._facts["shape"]) - 2)):
            self._sums[where] = checksum(plane)
        else:
            self._sums = dict.fromkeys(self._sums, _UNKNOWN)

    def _put(self, planes: dict[str, npt.NDArray[Any]]) -> None:
        """Write planes to a file of their own, which counts once the record says so."""
        if planes:
            with (self.folder / f"{self._files:05}.npz").open("wb") as file:
                np.savez_compressed(file, **planes)  # type: ignore[arg-type]
            self._files += 1

    def _say(self) -> None:
        put_record(self.folder, self._record())

    def _record(self) -> dict[str, Any]:
        walks = [
            {
                **walk.plain(),
                "prompts": walked.prompts,
                "labels": [] if self._job is None else list(self._job.ids),
                "slices": {str(k): list(facts) for k, facts in walked.slices.copy().items()},
            }
            for walk, walked in self._walks.copy().items()
        ]
        return {**self._facts, "time": time.time(), "files": self._files, "walks": walks}


def put_record(folder: Path, record: dict[str, Any]) -> None:
    """Write what a folder's files are, in one step."""
    partial = folder / "part"
    partial.write_text(json.dumps(record), encoding="utf-8")
    patiently(os.replace, partial, folder / RECORD)


def throw_away(folder: Path) -> None:
    """Remove a folder; first its record, as what cannot be removed is no autosave without it."""
    with suppress(OSError):
        patiently(os.unlink, folder / RECORD)
    remove_folder(folder)


def process_facts() -> dict[str, Any]:
    """Say which process is at work: by its number and when it began, as numbers come again."""
    return {"pid": os.getpid(), "started": psutil.Process().create_time()}
