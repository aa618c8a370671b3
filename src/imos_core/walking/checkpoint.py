"""Checkpoints: what a propagation remembers, written so that a run can go on after any end."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from imos_core.errors import FileError, PromptError
from imos_core.moving import patiently
from imos_core.whole_files import bring_to_disk, reason
from imos_core.whole_numbers import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_VERSION = 7
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
    plain values only.

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
        self._state: Mapping[str, Any] | None = None
        self._files: dict[str, str] = {}
        self._before: dict[str, str] = {}
        if resume and self.path.exists():
            try:
                self._state = torch.load(self.path, map_location="cpu", weights_only=True)
                version, self._before = self._state["version"], dict(self._state["files"])
            except Exception as error:  # torch raises whatever it likes
                raise FileError(f"{self.path} is damaged: start the run anew.") from error
            if version != _VERSION:
                raise FileError(
                    f"{self.path} is of another version of this program: start the run anew."
                )

    @property
    def finished(self) -> list[int]:
        """Slices that were finished when the state was written; none if there is no state."""
        return [] if self._state is None else list(self._state["finished"])

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
        if self._state is not None:
            refuse_changed(files, self._before)
        self._files = dict(files)

    def restore(self, fingerprint: str) -> Mapping[str, Any] | None:
        """Return the state to go on from, or None to start from the beginning.

        Raises
        ------
        FileError
            If it belongs to other inputs or settings.
        """
        if self._state is not None and self._state["fingerprint"] != fingerprint:
            raise FileError(
                "The interrupted run had other inputs or settings: give the same ones, or start "
                "anew (--restart), in Python by a Checkpoint without resume."
            )
        return self._state

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
        try:
            if self.waiting.exists():
                bring_to_disk(self.waiting)
            with partial.open("wb") as file:
                told = {"version": _VERSION, "fingerprint": fingerprint, "files": self._files}
                torch.save({**told, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            patiently(os.replace, partial, self.path)
        except (OSError, RuntimeError) as error:  # torch wraps what the disk says
            with suppress(OSError):  # what the disk has said counts
                partial.unlink(missing_ok=True)
            said = getattr(error, "strerror", None) or "the disk is full or broken"
            raise FileError(f"{self.path} cannot be written: {said.lower()}.") from error


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
