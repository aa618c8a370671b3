"""What each subcommand of `imos` does; everything slow to import is imported where it is used."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError, PromptError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from tqdm import tqdm

    from imos_core.propagation import SegmentedSlice


def demo(options: argparse.Namespace) -> None:
    """Propagate the prompt of the sample, score the result and draw it."""
    import imos_core
    from imos_core.evaluation.volumes import as_table, compare
    from imos_core.io import Volume, write_labels
    from imos_core.overview import contact_sheet
    from imos_core.review import anchor_distance, expected_jaccard
    from imos_core.samples import load_sample
    from imos_core.whole_files import reason, swapped_in

    model = imos_core.load_model(options.model, device=options.device)
    folder: Path = options.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"The folder {folder} cannot be made ({reason(error)}): choose another."
        ) from error
    sample = load_sample()
    k = sample.prompt_slice
    result = np.zeros_like(sample.labels)
    certain = np.full(len(result), np.nan)
    slices = imos_core.propagate(
        sample.image, {k: sample.labels[k]}, model=model, spacing=sample.spacing
    )
    started = time.perf_counter()
    for item in with_progress(slices, len(result), quiet=options.quiet):
        result[item.index] = item.labels
        away = anchor_distance(item.index, [k])
        certain[item.index] = expected_jaccard(item.confidence, item.labels, away)
    rate = (len(result) - 1) / (time.perf_counter() - started)
    scores = compare(result, sample.labels, skip=[k])
    sheet = contact_sheet(
        sample.image,
        result,
        [k],
        confidence=certain,
        truth=sample.labels,
        pixel=sample.spacing[1:],
        title=sample.description,
        captions={s.label: f"{s.label}   J {s.j:.3f}   F {s.f:.3f}" for s in scores},
    )
    write_labels(folder / "labels.tif", result, Volume(result, sample.spacing, unit="millimeter"))
    with swapped_in(folder / "overview.png") as partial:
        sheet.save(partial)
    say(
        f"{sample.description} Prompt: slice {k} of {len(result)}.\n\n{as_table(scores)}\n\n"
        f"{rate:.1f} slices/s\n"
        f"wrote {folder / 'labels.tif'} and {folder / 'overview.png'}"
    )


def from_axis(array: Any, axis: int) -> npt.NDArray[Any]:
    """Put the walked axis first; a view."""
    values = np.asarray(array)
    if values.ndim != 3:
        raise PromptError(f"A volume has three axes, but this has shape {values.shape}.")
    if not -3 <= axis < 3:
        raise PromptError(f"Axis {axis} is out of range: give 0, 1 or 2.")
    return np.moveaxis(values, axis, 0)


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
