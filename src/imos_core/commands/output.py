"""What commands say: lines on stdout, progress on stderr."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from imos_core.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tqdm import tqdm

    from imos_core.propagation import SegmentedSlice


def with_progress(
    slices: Iterator[SegmentedSlice], total: int, *, done: int = 0, quiet: bool
) -> Iterator[SegmentedSlice]:
    """Show progress over slices, of which some may be done already."""
    with progress_bar(total, "slice", done=done, quiet=quiet) as bar:
        for item in slices:
            yield item
            bar.update()


@contextmanager
def progress_bar(
    total: int | None, unit: str, *, done: int = 0, quiet: bool
) -> Iterator[tqdm[Any]]:
    """Progress on stderr; it waits a moment, so that errors that come at once stand alone."""
    from tqdm import tqdm

    quiet = quiet or sys.stderr is None  # it may be closed
    bar = tqdm(total=total, unit=unit, initial=done, file=sys.stderr, disable=quiet, delay=0.5)
    try:
        yield bar
    except BaseException:
        bar.leave = False
        raise
    finally:
        bar.close()


def say(text: str) -> None:
    """Write to stdout, if it is not closed.

    Raises
    ------
    FileError
        If what it leads to is full, or fails.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        from imos_core.whole_files import reason

        raise FileError(f"stdout cannot be written: {reason(error)}.") from error
