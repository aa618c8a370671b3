"""Opinions on slices that other legs have yet to reach; long stretches wait on disk."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from imos_core.anchors import Contribution, merge
from imos_core.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from imos_core.anchors import Leg, Merged

_HELD_BYTES = 2**26
"""Bytes of opinions that wait in memory."""


@dataclass(frozen=True)
class _Stored:
    """An opinion on disk."""

    leg: Leg
    box: tuple[slice, slice]
    offset: int
    rivals: tuple[int, ...]


class Waiting:
    """Contributions to slices until every leg that comes there has spoken.

    Between two painted slices, one side arrives long before the other. What it said waits, in
    memory first and then in a file, so that memory does not grow with the stretch.

    Parameters
    ----------
    legs : sequence of Leg
        All legs of the run.
    areas : mapping, optional
        See `imos_core.anchors.merge`.
    """

    def __init__(
        self, legs: Sequence[Leg], areas: Mapping[tuple[int, int], int] | None = None
    ) -> None:
        self._legs, self._areas = list(legs), areas
        self._expected = Counter(index for leg in legs for index in leg.slices)
        self._ended: list[tuple[Leg, int]] = []
        self._slices: dict[int, list[Contribution | _Stored]] = {}
        self._held = 0
        self._stored = 0
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self._end = 0

    def keep_at(self, path: Path) -> None:
        """Keep what waits in a file that outlives the run."""
        self._path = path

    def add(self, contribution: Contribution) -> None:
        """Take one leg's opinion."""
        self._slices.setdefault(contribution.index, []).append(contribution)
        self._held += contribution.patch.nbytes

    def __contains__(self, index: object) -> bool:
        """Whether any leg has spoken of a slice."""
        return index in self._slices

    def merge(self, index: int, dtype: np.dtype[Any]) -> Merged:
        """Merge what is known of a slice so far, as `imos_core.anchors.merge` does."""
        said = [self._loaded(entry, index) for entry in self._slices[index]]
        return merge(said, dtype, self._areas)

    def end(self, leg: Leg, index: int) -> None:
        """Expect no more of a leg, which ends with a slice."""
        self._ended.append((leg, index))
        self._expected.subtract(leg.slices[leg.slices.index(index) + 1 :])

    def complete(self, index: int) -> bool:
        """Whether all legs have spoken that come there."""
        return len(self._slices.get(index, ())) == self._expected[index]

    def drop(self, index: int) -> None:
        """Forget a slice."""
        for entry in self._slices.pop(index):
            if isinstance(entry, Contribution):
                self._held -= entry.patch.nbytes
            else:
                self._stored -= 1

    def drop_complete(self, but: range) -> None:
        """Forget slices that are complete since a leg has ended, but for some, which are wanted."""
        for index in [k for k in self._slices if k not in but and self.complete(k)]:
            self.drop(index)

    def settle(self) -> None:
        """Move what waits to disk if it has become much."""
        if self._held > _HELD_BYTES:
            self._store()
        if not self._stored and self._end and self._path is None:
            self._truncate()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            with suppress(OSError):  # what did not fit the disk tries again
                self._file.close()
            self._file = None

    # ---- for checkpoints ----

    def state(self) -> dict[str, Any]:
        """Bring everything to disk, and say where it is."""
        self._store()
        numbers = {id(leg): i for i, leg in enumerate(self._legs)}
        entries = []
        for index, waiting in self._slices.items():
            for e in waiting:
                assert isinstance(e, _Stored)
                box = (e.box[0].start, e.box[0].stop, e.box[1].start, e.box[1].stop)
                entries.append((index, numbers[id(e.leg)], *box, e.offset, e.rivals))
        ended = [(numbers[id(leg)], index) for leg, index in self._ended]
        return {"entries": entries, "end": self._end, "ended": ended}

    def saved(self) -> None:
        """Start the file anew if the checkpoint just written needs nothing of it."""
        if not self._stored and self._end:
            self._truncate()

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        FileError
            If the file that it speaks of is gone.
        """
        self._end = state["end"]
        for leg, index in state["ended"]:
            self.end(self._legs[leg], index)
        for index, leg, top, bottom, left, right, offset, rivals in state["entries"]:
            box = (slice(top, bottom), slice(left, right))
            stored = _Stored(self._legs[leg], box, offset, tuple(rivals))
            self._slices.setdefault(index, []).append(stored)
            self._stored += 1
        if self._stored:
            try:
                assert self._path is not None
                self._file = self._path.open("r+b")
            except OSError as error:
                raise FileError(f"{self._path} is gone: start the run anew.") from error
            self._file.truncate(self._end)
        else:
            self._end = 0

    # ---- parts ----

    def _loaded(self, entry: Contribution | _Stored, index: int) -> Contribution:
        if isinstance(entry, Contribution):
            return entry
        rows, cols = (s.stop - s.start for s in entry.box)
        assert self._file is not None
        self._file.seek(entry.offset)
        data = self._file.read(rows * cols * 4)
        patch = np.frombuffer(data, np.float32).reshape(rows, cols)
        return Contribution(entry.leg, index, entry.box, patch, entry.rivals)

    def _store(self) -> None:
        try:
            for waiting in self._slices.values():
                for i, entry in enumerate(waiting):
                    if isinstance(entry, Contribution):
                        waiting[i] = self._written(entry)
                        self._stored += 1
            if self._file is not None:
                self._file.flush()
        except OSError as error:
            raise FileError(
                f"Intermediate results cannot be written ({error.strerror}): make room on the disk."
            ) from error
        self._held = 0

    def _written(self, entry: Contribution) -> _Stored:
        if self._file is None:
            self._file = (
                tempfile.TemporaryFile() if self._path is None else self._path.open("w+b")  # noqa: SIM115
            )
        offset = self._end
        self._file.seek(offset)
        self._file.write(np.ascontiguousarray(entry.patch, np.float32).tobytes())
        self._end = offset + entry.patch.size * 4
        return _Stored(entry.leg, entry.box, offset, entry.rivals)

    def _truncate(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
        self._end = 0
