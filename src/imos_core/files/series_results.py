"""Results of a series while it is filled in: files in a folder, and which volumes are finished."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError
from imos_core.walking.checkpoint import refuse_changed
from imos_core.whole_files import swapped_in, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.arrays.painted import Painted
    from imos_core.files.unchanged import ReadFiles
    from imos_core.series.steps import Found


class SeriesResults:
    """Labels of all volumes, and how sure they are, as maps of files.

    Parameters
    ----------
    folder : Path
        Where they lie.
    shape : sequence of int
        `(T, Z, Y, X)`.
    dtype : dtype
        Type of the labels.
    axis : int
        Axis of three that is walked within a volume.
    confidence : bool
        Whether it is wanted.
    """

    def __init__(
        self,
        folder: Path,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        axis: int,
        *,
        confidence: bool,
    ) -> None:
        self._folder, self._shape, self._axis = folder, tuple(shape), axis
        self._kinds = {"labels.raw": dtype}
        if confidence:
            self._kinds["confidence.raw"] = np.dtype(np.float32)

    def begin(self, painted: Callable[[int], Painted], came: Collection[int]) -> None:
        """Make the files, of what is painted.

        Parameters
        ----------
        painted : callable
            Step -> what is painted in it.
        came : collection of int
            Steps that are right as they came.

        Raises
        ------
        FileError
            If they cannot be written.
        """
        steps, size, sure = range(self._shape[0]), self._shape[1:], np.float32

        def volume(step: int) -> npt.NDArray[Any]:
            return np.moveaxis(painted(step).planes(0, size[self._axis]), 0, self._axis)

        self._write("labels.raw", map(volume, steps))
        if "confidence.raw" in self._kinds:
            self._write("confidence.raw", (np.full(size, t in came, sure) for t in steps))

    @cached_property
    def labels(self) -> npt.NDArray[Any]:
        """`(T, K, H, W)`: steps, walked slices, planes; what is written there is kept."""
        return self._walked("labels.raw")

    def note(self, found: Found) -> None:
        """Write down how sure a slice is, if somebody wants to know.

        Of labels that come one after another, the least sure one counts.
        """
        if "confidence.raw" in self._kinds:
            sure = self._sure[found.step, found.slice.index]
            new = found.slice.confidence
            sure[...] = np.minimum(sure, new) if found.again else new

    def volumes(self) -> list[npt.NDArray[Any]]:
        """`(T, Z, Y, X)` of each file: labels, and confidence if it is wanted."""
        return [self._maps[name] for name in self._kinds]

    def flush(self) -> None:
        """Bring everything to disk."""
        for array in self._maps.values():
            array.flush()

    def close(self) -> None:
        """Let go of the files: Windows removes none that is mapped."""
        for name in ("labels", "_sure", "_maps"):
            self.__dict__.pop(name, None)

    @cached_property
    def _sure(self) -> npt.NDArray[Any]:
        return self._walked("confidence.raw")

    @cached_property
    def _maps(self) -> dict[str, np.memmap[Any, Any]]:
        return {
            name: np.memmap(self._folder / name, dtype, "r+", shape=self._shape)
            for name, dtype in self._kinds.items()
        }

    def _walked(self, name: str) -> npt.NDArray[Any]:
        return np.moveaxis(self._maps[name], 1 + self._axis, 1)

    def _write(self, name: str, volumes: Iterable[npt.NDArray[Any]]) -> None:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        with writing(path), path.open("wb") as file:
            # in full, as a map of a file that turns out too large for the disk is fatal
            for volume in volumes:
                file.write(np.ascontiguousarray(volume, self._kinds[name]).data)


class FinishedVolumes:
    """Which volumes are finished, in a file that is replaced in one step.

    Parameters
    ----------
    folder : Path
        Where it lies.
    digest : str
        Tells runs apart that would not find the same.
    files : ReadFiles
        The files that are read.
    """

    def __init__(self, folder: Path, digest: str, files: ReadFiles) -> None:
        self._path, self._digest, self._files = folder / "done.json", digest, files

    @property
    def exists(self) -> bool:
        """Whether there are any."""
        return self._path.exists()

    def read(self) -> list[int]:
        """Return their numbers.

        Raises
        ------
        FileError
            If they are those of another run.
        """
        if not self.exists:
            return []
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
            digest, done = known["digest"], [int(t) for t in known["done"]]
            files = dict(known["files"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise FileError(f"{self._path} is damaged: start the run anew.") from error
        refuse_changed(self._files.marks, files)
        if digest != self._digest:
            raise FileError(
                "The interrupted run had other inputs or settings: start anew (--restart)."
            )
        return done

    def write(self, done: Sequence[int]) -> None:
        """Write their numbers down.

        Raises
        ------
        FileError
            If what is read has changed meanwhile.
        """
        self._files.refuse_changed()
        told = {"digest": self._digest, "files": self._files.marks, "done": list(done)}
        with swapped_in(self._path) as partial:
            partial.write_text(json.dumps(told), "utf-8")
