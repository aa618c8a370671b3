"""What `imos propagate` does: an image file and painted labels in, labels of every slice out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imos_core.commands import output
from imos_core.files.propagate import FileJob
from imos_core.files.series import propagate_any, series_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from imos_core.segmented import SegmentedSlice


def propagate(options: argparse.Namespace) -> None:
    """Carry the painted slices of a label file through an image file."""

    def watch(slices: Iterator[SegmentedSlice], total: int, done: int) -> Iterator[SegmentedSlice]:
        return output.with_progress(slices, total, done=done, quiet=options.quiet)

    job = job_of(options)
    whole = series_of(job, options.time) if options.series else job
    propagate_any(
        whole,
        resume=options.resume,
        restart=options.restart,
        every=options.checkpoint_every,
        watch=watch,
    )


def job_of(options: argparse.Namespace) -> FileJob:
    """Return the job that arguments describe."""
    return FileJob(
        image=options.image,
        painted=options.labels_file,
        output=options.output,
        confidence=options.confidence,
        level=options.level,
        time=options.time,
        channels=options.channels,
        axis=options.axis,
        anchors=options.anchors,
        labels=options.labels,
        start=options.start,
        stop=options.stop,
        absent=options.ended,
        fill_anchors=options.fill_anchors,
        stop_when_gone=options.stop_when_gone,
        spacing=options.spacing,
        options={
            "direction": options.direction,
            "model": options.model,
            "adapter": options.adapter,
            "device": options.device,
            "precision": options.precision,
            "window": options.window,
            "contrast": options.contrast,
            "batch": options.batch,
            "memory_budget": options.memory,
        },
    )
