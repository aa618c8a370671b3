"""Results that a list of jobs is about to make anew: until it has, older ones do not count."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from imos_core.whole_files import hidden_beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def mark_outdated(outputs: Sequence[Path]) -> None:
    """Note beside results that are there that they are to be made anew, whatever happens then."""
    if all(path.exists() for path in outputs):
        with suppress(OSError):  # what is wrong with the folder, the job itself will say
            _mark(outputs).touch()


def is_done(outputs: Sequence[Path]) -> bool:
    """Whether results are there, and none of them is older than the run that was to make them."""
    if not all(path.exists() for path in outputs):
        return False
    try:
        marked = _mark(outputs).stat().st_mtime_ns
    except OSError:
        return True
    # somebody may have saved them since
    return all(_changed(path) > marked for path in outputs)


def _changed(path: Path) -> int:
    """When a file, or what lies in a folder, was changed last, in nanoseconds."""
    inside = path.rglob("*") if path.is_dir() else ()
    return max(int(entry.stat().st_mtime_ns) for entry in (path, *inside))


def mark_done(outputs: Sequence[Path]) -> None:
    """Note that results have been made."""
    with suppress(OSError):
        _mark(outputs).unlink(missing_ok=True)


def _mark(outputs: Sequence[Path]) -> Path:
    return hidden_beside(outputs[0], "outdated")
