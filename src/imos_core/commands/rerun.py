"""What `imos rerun` does: labels saved with a session are made anew from their anchors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from imos_core.commands import output
from imos_core.files.saved_jobs import job_from, model_differs, series_from
from imos_core.files.series import propagate_any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from imos_core.segmented import SegmentedSlice


def rerun(options: argparse.Namespace) -> None:
    """Propagate the anchors of saved labels once more."""
    given = {
        "model": options.model,
        "adapter": options.adapter,
        "device": options.device,
        "precision": options.precision,
        "memory_budget": options.memory,
        "batch": options.batch,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    series = None
    if (options.axis, options.time, options.plane) == (None, None, None):
        series = series_from(options.session, options.output, image=options.image, options=chosen)
    job = (
        series.start
        if series is not None
        else job_from(
            options.session,
            options.output,
            image=options.image,
            axis=options.axis,
            time=options.time,
            plane=options.plane,
            options=chosen,
        )
    )
    if options.model is None and model_differs(options.session, job):
        sys.stderr.write(
            f"imos rerun: the model {job.options['model']} is not the one that made the labels; "
            "the result will differ.\n"
        )
    if not job.by_index:
        sys.stderr.write(
            f"imos rerun: {job.image} does not hold what the labels were made from; the result "
            "may differ.\n"
        )

    def watch(slices: Iterator[SegmentedSlice], total: int, done: int) -> Iterator[SegmentedSlice]:
        return output.with_progress(slices, total, done=done, quiet=options.quiet)

    propagate_any(
        series or job,
        resume=options.resume,
        restart=options.restart,
        every=options.checkpoint_every,
        watch=watch,
    )
