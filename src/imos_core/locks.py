"""Locks of the operating system on files: they go with the process that holds them."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_BUSY = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)
"""What a lock that another one has answers: which of them depends on the file system."""
_TRIES = 100
"""Lock files may go while one waits for them, each time with a run that has just ended."""


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold the lock of a file, which is made for it and goes with it.

    Gives whether there is one: some file systems have no locks.

    Raises
    ------
    BlockingIOError
        If somebody else holds it.
    """
    descriptor = _opened(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            if sys.platform == "win32":  # it removes no file that is open
                os.close(descriptor)
                _remove(path)
            else:  # before anybody else can have the lock
                _remove(path)
                os.close(descriptor)


def _opened(path: Path) -> int | None:
    """Open and lock a file; None where there are no locks."""
    for _ in range(_TRIES):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None  # what is wrong with the folder, the run itself will say
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _BUSY:
                raise BlockingIOError(error.errno, error.strerror) from error
            _remove(path)
            return None
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)
    return None


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether what is locked was not removed just before, by the run that had the lock."""
    if sys.platform == "win32":
        return True  # no file goes while it is open
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
