"""Worker: the engine's generator in a thread, with stop, progress and errors of one sentence."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from napari.qt.threading import GeneratorWorker, create_worker

from imos_core.errors import ImosError, PropagationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from imos_core import SegmentedSlice
    from napari_imos._layers import Job
    from napari_imos._stream import LabelsStream


@dataclass
class Control:
    """What the two threads tell each other."""

    cancel: Event = field(default_factory=Event)
    """Set by the main thread to stop."""
    error: ImosError | None = None
    """Set by the worker when it fails."""


class PropagationWorker(GeneratorWorker):
    """Worker that finishes the slice in hand when asked to quit, and closes the engine itself.

    It never emits `errored`: napari 0.9 with PySide6 answers that signal with an exception of its
    own. Look at `error` when it has `finished`.

    Parameters
    ----------
    func : generator function
        See `segmented`.
    *args
        Its first arguments.
    control : Control
        Its last one.
    """

    def __init__(self, func: Callable[..., Any], *args: Any, control: Control) -> None:
        super().__init__(func, *args, control)
        self._control = control

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


def segmented(
    job: Job, options: dict[str, Any], control: Control
) -> Generator[SegmentedSlice, None, None]:
    """Run the engine; errors of any kind end up in `control`.

    Parameters
    ----------
    job : Job
        From the layers.
    options : dict
        Further keywords of `imos_core.propagate`.
    control : Control
        To stop, and for what goes wrong.
    """
    cancel = control.cancel
    try:
        # torch is imported here, in the thread: a menu must open at once
        from imos_core import propagate

        slices = propagate(job.image, job.prompts, cancel=cancel, **job.keywords, **options)
        with closing(slices):
            for item in slices:
                yield item
                if cancel.is_set():
                    return
    except ImosError as error:
        control.error = error
    except Exception as error:
        reason = str(error) or type(error).__name__
        control.error = PropagationError(f"The propagation failed: {reason}.")


def make_worker(stream: LabelsStream, options: dict[str, Any]) -> PropagationWorker:
    """Connect the engine to a stream; the caller starts the worker.

    Parameters
    ----------
    stream : LabelsStream
        Where slices go, with the job. It is committed when the worker finishes, however it does.
    options : dict
        Further keywords of `imos_core.propagate`.
    """
    worker: PropagationWorker = create_worker(
        segmented,
        stream.job,
        options,
        control=Control(),
        _worker_class=PropagationWorker,
        _progress={"total": stream.job.expected(options), "desc": "iMOS"},
        _start_thread=False,
    )
    worker.yielded.connect(lambda item: stream.write(item.index, item.labels))
    worker.finished.connect(stream.commit)
    return worker
