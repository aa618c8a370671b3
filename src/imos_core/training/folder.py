"""The folder of a run: no other run's, and gone again if nothing comes into it."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from imos_core.errors import FileError
from imos_core.file_identity import identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def run_folder(folder: Path, resume: str | None) -> Iterator[None]:
    """Make the folder of a run before anything takes long.

    Parameters
    ----------
    folder : Path
        Folder, which may be there.
    resume : str or None
        What the run goes on with.

    Raises
    ------
    FileError
        If it cannot be made, or holds a run that is not gone on with.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} is no folder and cannot become one: choose another.") from error
    earlier = folder / "checkpoint.pt"
    if earlier.exists() and (resume is None or identity(resume) != identity(earlier)):
        raise FileError(
            f"{folder} holds an earlier run: go on with it (--resume {earlier}), or choose another "
            "folder (--output)."
        )
    try:
        yield
    finally:
        for path in made:
            with suppress(OSError):  # it holds something
                path.rmdir()
