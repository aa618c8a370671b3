"""Worker: the engine's generator in a thread, with stop, progress and errors of one sentence."""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, Any

from napari.qt.threading import GeneratorWorker, create_worker

from imos_core.errors import ImosError, PropagationError
from napari_imos._activity import ActivityBar
from napari_imos._engine import Control
from napari_imos._series.engine import segment_any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from imos_core import SegmentedSlice
    from napari_imos._job import Job
    from napari_imos._series.job import SeriesJob
    from napari_imos._series.stream import SeriesStream
    from napari_imos._stream import LabelsStream


_PATIENCE = 0.05
"""Seconds between two looks at whether a stop was asked for."""


class PropagationWorker(GeneratorWorker):
    """Worker that finishes the slice in hand when asked to quit, and closes the engine itself.

    It never emits `errored`: napari 0.9 with PySide6 answers that signal with an exception of its
    own. Look at `error` when it has `finished`.

    Parameters
    ----------
    func : generator function
        See `paced`.
    *args
        Its first arguments.
    control : Control
        Its last one.
    """

    def __init__(self, func: Callable[..., Any], *args: Any, control: Control) -> None:
        super().__init__(func, *args, control)
        self._control = control
        self.broken = False
        """Whether the layer cannot, or must not, be written any more."""
        self.end: Callable[[], None] = lambda: None
        """What ends the run; done once, by itself when the worker has finished."""

    @property
    def error(self) -> ImosError | None:
        """What went wrong, as one sentence."""
        return self._control.error

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._control.cancel.is_set()

    def quit(self) -> None:
        """Stop after the slice in hand; the generator ends in its own thread and frees memory."""
        self._control.cancel.set()

    def abandon(self) -> None:
        """Stop and end the run now: a slice that is in hand comes too late."""
        self.broken = True
        self.quit()
        self.end()


def segmented(
    job: Job | SeriesJob, options: dict[str, Any], control: Control
) -> Generator[SegmentedSlice, None, None]:
    """Run the engine; errors of any kind end up in `control`.

    Parameters
    ----------
    job : Job or SeriesJob
        From the layers.
    options : dict
        Further keywords of `imos_core.propagate`.
    control : Control
        To stop, and for what goes wrong.
    """
    try:
        with closing(segment_any(job, options, control)) as slices:
            yield from slices
    except ImosError as error:
        control.error = error
    except Exception as error:
        reason = str(error) or type(error).__name__
        control.error = PropagationError(f"The propagation failed: {reason}.")


def paced(
    job: Job | SeriesJob, options: dict[str, Any], control: Control
) -> Generator[SegmentedSlice, None, None]:
    """Do as `segmented`, but wait while the main thread has its hands full."""
    for item in segmented(job, options, control):
        while not control.room.acquire(timeout=_PATIENCE) and not control.cancel.is_set():
            pass
        yield item


def make_worker(
    stream: LabelsStream | SeriesStream,
    options: dict[str, Any],
    finish: Callable[[], None] | None = None,
) -> PropagationWorker:
    """Connect the engine to a stream; the caller starts the worker.

    Parameters
    ----------
    stream : LabelsStream or SeriesStream
        Where slices go, with the job. It is committed when the worker finishes, however it does.
    options : dict
        Further keywords of `imos_core.propagate`.
    finish : callable, optional
        What commits the stream; by default its `commit`.
    """
    control = Control()
    worker: PropagationWorker = create_worker(
        paced,
        stream.job,
        options,
        control=control,
        _worker_class=PropagationWorker,
        _start_thread=False,
    )

    bar = ActivityBar(stream.job.expected(options), "iMOS")

    def take(item: SegmentedSlice) -> None:
        score = control.scores.get(item.index, math.nan)
        try:
            if not worker.broken:
                stream.write(item.index, item.labels, score, item.source)
        except PropagationError as error:
            worker.broken = True
            control.error = error
            worker.quit()
        finally:
            control.room.release()
        bar.reach(stream.slices)

    def over() -> None:
        worker.end()

    def end() -> None:
        worker.end = lambda: None
        # Qt would keep alive what is connected, and all arrays with it
        worker.yielded.disconnect()
        worker.finished.disconnect(over)
        bar.close()
        stream.tell(control.facts)
        try:
            (finish or stream.commit)()
        except PropagationError as error:
            control.error = control.error or error  # what came first

    worker.yielded.connect(take)
    worker.end = end
    worker.finished.connect(over)
    return worker
