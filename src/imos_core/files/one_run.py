"""One run at a time writes an output: locks of the operating system, which die with a process."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from imos_core.errors import FileError
from imos_core.whole_files import hidden_beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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
def only_run(outputs: Iterable[Path]) -> Iterator[None]:
    """Refuse outputs that another run is writing, on this machine or on the same network drive.

    A hidden file beside each output is locked meanwhile. The system lets go of it whatever ends the
    process; on a file system that has no locks, nobody is refused.

    Parameters
    ----------
    outputs : iterable of Path
        What is to be written.

    Raises
    ------
    FileError
        If another run is writing one of them.
    """
    with ExitStack() as locks:
        for output in outputs:
            try:
                locks.enter_context(_locked(lock_file(output)))
            except BlockingIOError as error:
                raise FileError(
                    f"{output} is being written by another run: wait for it, or choose another "
                    "output."
                ) from error
        yield


def lock_file(output: Path) -> Path:
    """File beside an output that is locked while a run writes it."""
    return hidden_beside(output, "lock")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock; `BlockingIOError` if somebody else does."""
    descriptor = _opened(path)
    try:
        yield
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
