"""What `imos batch` does: a list of jobs in, one result each and a line for every failure out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from imos_core.commands.output import progress_bar, say
from imos_core.errors import PropagationError
from imos_core.files.batch import JobResult, run_batch
from imos_core.files.jobs import read_jobs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path


def batch(options: argparse.Namespace) -> None:
    """Run the jobs of a list."""
    given = {
        "model": options.model,
        "device": options.device,
        "memory_budget": options.memory,
        "batch": options.batch,
    }
    done: list[JobResult] = []
    jobs = read_jobs(options.jobs, {k: v for k, v in given.items() if v is not None})
    with progress_bar(len(jobs), "job", quiet=options.quiet) as bar:

        def report(result: JobResult) -> None:
            bar.update()
            done.append(result)
            name = _as_listed(result.job.output, options.jobs)
            for words in (*result.warnings, *([] if result.error is None else [result.error])):
                bar.clear()
                sys.stderr.write(f"imos batch: {name}: {words}\n")

        try:
            run_batch(
                jobs,
                scheduler=options.scheduler,
                workers=options.workers,
                resume=options.resume,
                restart=options.restart,
                every=options.checkpoint_every,
                report=report,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_interrupted(options.scheduler, len(jobs), done)) from None
    failed = sum(result.error is not None for result in done)
    if failed:
        raise PropagationError(
            f"{failed} of {len(jobs)} jobs failed: mend them, and go on with --resume."
        )
    say(f"{len(jobs)} jobs done.")


def _as_listed(output: Path, jobs: Path) -> Path:
    """Return a path from the folder of the list, as a rule that which stands there."""
    folder = jobs.absolute().parent
    return output.relative_to(folder) if output.is_relative_to(folder) else output


def _interrupted(scheduler: str | None, jobs: int, ended: Sequence[JobResult]) -> str:
    """Say what there is of a list that was interrupted."""
    done = sum(result.error is None for result in ended)
    written = f"interrupted; {done} of {jobs} jobs had been done and written"
    others = "the others are kept up to their last checkpoints"
    if scheduler is not None:
        others = "the workers of the scheduler finish what they have begun"
    return f"{written}, {others}: go on with --resume."
