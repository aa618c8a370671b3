"""Files that are written whole or not at all, under hidden names beside what they replace."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import secrets
import shutil
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from imos_core.errors import FileError
from imos_core.locks import held
from imos_core.moving import patiently, remove_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONGEST, _KEPT = 220, 40
"""Bytes of a name that is kept whole, and characters that are left of others: systems take 255
bytes, of which ours are up to 20, and a character is up to 4."""
_LOCK, _OLD = ".lock", "old"
"""In a hidden folder: what is locked as long as somebody writes to it, and what is replaced."""
_RANDOM = 4
"""Random bytes in the name of a hidden folder."""
_DEAD = 24 * 3600
"""Seconds after which nobody is at work in a folder without a lock: it could not be removed."""


@contextmanager
def swapped_in(path: Path) -> Iterator[Path]:
    """Give a name in the same folder to write to; then put it in place of `path`, or remove it.

    Raises
    ------
    FileError
        If the system refuses anything.
    """
    with writing(path), ExitStack() as stack:
        path = path.resolve()  # a link stays: what it leads to is written
        _clear_up(path)
        folder = _hidden_folder(path, stack)
        # short, as Windows takes 260 characters of a path; formats look at the suffixes
        bare = path.name.startswith(".")
        partial = folder / (path.name if bare else "_" + "".join(path.suffixes[-2:]))
        yield partial
        if path.is_dir():
            _replace_folder(path, partial, folder / _OLD)
        else:
            patiently(os.replace, partial, path)


def _replace_folder(path: Path, new: Path, old: Path) -> None:
    """Folders cannot be replaced in one step, so the old one is put back if need be."""
    try:
        patiently(os.rename, path, old)
        patiently(os.rename, new, path)
    except BaseException:
        if _is_all_there_is(old, path):
            try:
                patiently(os.rename, old, path)
            except OSError as error:
                raise FileError(
                    f"{path} cannot be written, and what was there is now {old} "
                    f"({reason(error)}): rename it back."
                ) from error
        raise


def _is_all_there_is(old: Path, path: Path) -> bool:
    """Whether what was to be replaced has been moved away, and nothing has taken its place."""
    return old.exists() and not path.exists()


def _remove(folder: Path, path: Path) -> None:
    """Remove a hidden folder, but not the only copy of what somebody had."""
    if not _is_all_there_is(folder / _OLD, path):
        remove_folder(folder)


def _hidden_folder(path: Path, stack: ExitStack) -> Path:
    """Make a hidden folder beside a file; with the stack go its lock, then all that it holds."""
    while True:
        folder = new_folder(path)
        stack.callback(_remove, folder, path)
        with suppress(BlockingIOError):
            stack.enter_context(held(folder / _LOCK))
            if folder.is_dir():
                return folder
        # somebody who clears up has found it before it was locked


def new_folder(path: Path) -> Path:
    """Make a hidden folder of a name of its own beside a file.

    It is as open to others as any: on Windows, what `tempfile` makes is its maker's alone, and so
    is what moves out of it.
    """
    folder = hidden_beside(path, secrets.token_hex(_RANDOM))
    folder.mkdir()
    return folder


def _clear_up(path: Path) -> None:
    """Remove what processes that were killed while they wrote a file have left beside it."""
    for folder in path.parent.glob(
        f".{glob.escape(shortened(path.name))}.{'[0-9a-f]' * 2 * _RANDOM}"
    ):
        with suppress(OSError):  # those of other people may not be looked into
            lock = folder / _LOCK
            if _is_all_there_is(folder / _OLD, path):
                continue
            if lock.is_file():
                with held(lock) as dead:
                    if dead:
                        shutil.rmtree(folder, ignore_errors=True)
                folder.rmdir()  # Windows leaves it, as the lock was open
            elif time.time() - folder.stat().st_mtime > _DEAD and _is_ours(folder, path):
                remove_folder(folder)


def _is_ours(folder: Path, path: Path) -> bool:
    """Whether a folder holds nothing but what is written here: a date is such a name, too."""
    names = {one.name for one in folder.iterdir()}
    return all(name in (_OLD, path.name) or name.startswith("_") for name in names)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one sentence what the system refuses while a file or folder is written.

    Raises
    ------
    FileError
        If it refuses anything.
    """
    try:
        yield
    except OSError as error:
        raise FileError(f"{path} cannot be written: {reason(error)}.") from error


def reason(error: OSError) -> str:
    """Say in a few words why something could not be written."""
    if error.strerror:
        held = sys.platform == "win32" and isinstance(error, PermissionError)
        return f"{error.strerror.lower()}{'; close it in other programs' if held else ''}"
    said = str(error) or type(error).__name__
    # numpy counts the bytes that did not fit, without an error number
    return f"the disk is full ({said})" if re.search(r"requested and \d+ written", said) else said


def bring_to_disk(path: Path) -> None:
    """Wait until what was written to a file is there for good."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hidden_beside(path: Path, what: str) -> Path:
    """Return a hidden file or folder beside another: ``a.tif`` -> ``.a.tif.lock``.

    Parameters
    ----------
    path : Path
        The other one.
    what : str
        What the hidden one ends in.
    """
    return path.absolute().parent / f".{shortened(path.name)}.{what}"


def shortened(name: str) -> str:
    """Return a name that others add to: itself, or the beginning of a long one and a digest."""
    told = os.fsencode(name)
    if len(told) <= _LONGEST:
        return name
    return f"{name[:_KEPT]}-{hashlib.sha256(told).hexdigest()[:16]}"
