"""One run at a time writes an output."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from imos_core.errors import FileError
from imos_core.locks import held
from imos_core.whole_files import hidden_beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


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
                locks.enter_context(held(lock_file(output)))
            except BlockingIOError as error:
                raise FileError(
                    f"{output} is being written by another run: wait for it, or choose another "
                    "output."
                ) from error
        yield


def lock_file(output: Path) -> Path:
    """File beside an output that is locked while a run writes it."""
    return hidden_beside(output, "lock")
