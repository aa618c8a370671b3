"""Checkpoints: what a propagation remembers, written so that a run can go on after any end."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from imos_core.errors import FileError, PromptError
from imos_core.moving import patiently, remove_folder
from imos_core.whole_files import bring_to_disk, reason
from imos_core.whole_numbers import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_VERSION = 8
_BESIDE = "checkpoint.blocks"
"""Folder of what blocks of objects remember: all that is in it is ours."""
OTHER = {
    "image": "The image was replaced or written since the run was interrupted: put back the one "
    "that was there, or start anew (--restart).",
    "labels": "The painted labels were replaced or written since the run was interrupted: put back "
    "those that were there, or start anew (--restart).",
    "confidence": "The interrupted run was told another --confidence, or none: give the same, or "
    "start anew (--restart).",
}
"""What is said where a run is to go on with other files than before."""


class Checkpoint:
    """Where a propagation keeps its state, and how often.

    The file is replaced in one step, so that there is always a whole one; it holds tensors and
    plain values only. What blocks of objects remember lies beside it, and is written and read one
    block at a time: all of it together may not fit the memory.

    Parameters
    ----------
    folder : str or path
        Folder beside the result; a run makes it if it is not there.
    every : int
        Slices after which the state is written: finished ones, and those on the way to a range.
    resume : bool
        Whether to go on from the state that is there; without one, the run starts anew.

    Raises
    ------
    PromptError
        If `every` is no whole number from 1.
    FileError
        If the state that is there cannot be read.
    """

    def __init__(
        self, folder: str | os.PathLike[str], every: int = 50, *, resume: bool = False
    ) -> None:
        self.folder, self.every = Path(folder), whole(every, "every")
        if self.every < 1:
            raise PromptError("A state is written after one finished slice or more: every is 1 up.")
        self.path = self.folder / "checkpoint.pt"
        self.flush: Callable[[], None] = _nothing
        """Called before the state is written: brings the slices so far to disk."""
        self._files: dict[str, str] = {}
        self.goes_on = resume and self.path.exists()
        """Whether there is a state that a run goes on from."""
        self.finished: list[int] = []
        """Slices that were finished when the state was written; none if there is no state."""
        if self.goes_on:
            state = self._read(self.path)
            try:
                version, self._before = state["version"], dict(state["files"])
                self._fingerprint, self.finished = state["fingerprint"], list(state["finished"])
            except Exception as error:  # it may be anything
                raise self._damaged() from error
            if version != _VERSION:
                raise FileError(
                    f"{self.path} is of another version of this program: start the run anew."
                )

    @property
    def exists(self) -> bool:
        """Whether there is a state on disk, from this run or an interrupted one."""
        return self.path.exists()

    @property
    def waiting(self) -> Path:
        """File for what waits between two painted slices."""
        return self.folder / "waiting.bin"

    def compare(self, files: Mapping[str, str]) -> None:
        """Say which files the run reads, for states to come.

        Parameters
        ----------
        files : mapping of str to str
            Their marks (`imos_core.files.unchanged`).

        Raises
        ------
        FileError
            If the run that is to go on has read others.
        """
        if self.goes_on:
            refuse_changed(files, self._before)
        self._files = dict(files)

    def restore(self, fingerprint: str) -> Mapping[str, Any] | None:
        """Return the state to go on from, or None to start from the beginning.

        Raises
        ------
        FileError
            If it belongs to other inputs or settings, or is damaged since.
        """
        if not self.goes_on:
            return None
        if self._fingerprint != fingerprint:
            raise FileError(
                "The interrupted run had other inputs or settings: give the same ones, or start "
                "anew (--restart), in Python by a Checkpoint without resume."
            )
        state = self._read(self.path)
        return {**state, "blocks": self._blocks(state["blocks"])}

    def forget(self) -> None:
        """Remove the state of a run that was interrupted before this one, which starts anew.

        What waits in the folder is not that one's any more.

        Raises
        ------
        FileError
            If it cannot be removed.
        """
        try:
            patiently(lambda: self.path.unlink(missing_ok=True))
        except OSError as error:
            raise FileError(f"{self.path} cannot be removed: {reason(error)}.") from error
        self._clear_up()

    def make_folder(self) -> None:
        """Make the folder, with those above it: what waits is written before the first state.

        Raises
        ------
        FileError
            If it cannot be made, or written into.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            said = (error.strerror or type(error).__name__).lower()
            raise FileError(
                f"Checkpoints cannot be written to {self.folder} ({said}): choose another folder."
            ) from error

    def save(self, fingerprint: str, state: Mapping[str, Any]) -> None:
        """Write a state; the one before stays until this one is whole.

        Parameters
        ----------
        fingerprint : str
            Inputs and settings of the run.
        state : mapping
            What it remembers. Of its `blocks`, an iterable, one is in memory at a time.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        try:
            self.flush()
        except OSError as error:
            raise FileError(
                f"The slices so far cannot be brought to disk: {reason(error)}."
            ) from error
        self.make_folder()
        partial = self.path.with_suffix(".part")
        beside = self.folder / _BESIDE / secrets.token_hex(4)
        blocks: list[str] = []
        try:
            for block in state.get("blocks", ()):
                blocks.append(f"{_BESIDE}/{beside.name}/{len(blocks)}.pt")
                with self._writing():
                    beside.mkdir(parents=True, exist_ok=True)
                    _write(block, self.folder / blocks[-1])
                del block  # before the next one is fetched
            with self._writing():
                if self.waiting.exists():
                    bring_to_disk(self.waiting)
                told = {"version": _VERSION, "fingerprint": fingerprint, "files": self._files}
                _write({**told, **state, "blocks": blocks}, partial)
                patiently(os.replace, partial, self.path)
        except Exception:  # an interrupt may come when the new one counts
            with suppress(OSError):  # what the disk has said counts
                partial.unlink(missing_ok=True)
            remove_folder(beside)
            raise
        self._clear_up(beside)

    # ---- parts ----

    def _read(self, path: Path) -> Any:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever it likes
            raise self._damaged() from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:  # torch wraps what the disk says
            said = getattr(error, "strerror", None) or "the disk is full or broken"
            raise FileError(f"{self.path} cannot be written: {said.lower()}.") from error

    def _damaged(self) -> FileError:
        return FileError(f"{self.path} is damaged: start the run anew.")

    def _blocks(self, names: Sequence[str]) -> Iterator[Any]:
        """What blocks of objects remember, one after another."""
        for name in names:
            yield self._read(self.folder / name)

    def _clear_up(self, but: Path | None = None) -> None:
        """Remove what no state speaks of."""
        ours = self.folder / _BESIDE
        for folder in ours.glob("*") if but is not None else [ours]:
            if folder != but:
                remove_folder(folder)


def _write(state: Mapping[str, Any], path: Path) -> None:
    """Write a file, and wait until it is there for good."""
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def refuse_changed(now: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Refuse files that are not those of an interrupted run.

    Parameters
    ----------
    now, before : mapping of str to str
        Marks of each (`imos_core.files.unchanged`).

    Raises
    ------
    FileError
        If they differ.
    """
    for what, mark in now.items():
        if before.get(what) != mark:
            raise FileError(OTHER[what])


def fingerprint(*parts: Any) -> str:
    """Digest of arrays, tensors and plain values: equal for equal runs."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            part = part.detach().cpu()
            digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
            digest.update(part.flatten().clone().view(torch.uint8).numpy().tobytes())
        elif hasattr(part, "tobytes"):
            digest.update(f"{part.dtype} {part.shape}".encode())
            digest.update(part.tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()


def _nothing() -> None:
    """By default there is nothing to bring to disk."""
