"""Adapting: `imos_core.adapt` in a thread, to be followed, stopped and stored by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker, create_worker

from imos_core.errors import ImosError, PropagationError

if TYPE_CHECKING:
    from pathlib import Path

    from imos_core import Adaptation
    from imos_core.adaptation.tune import AdaptProgress
    from napari_imos._job import Job


@dataclass
class Tuning:
    """What the main thread and the one that learns tell each other."""

    cancel: Event = field(default_factory=Event)
    """Set by the main thread to stop."""
    steps: list[AdaptProgress] = field(default_factory=list)
    """What the learning thread reports; it only ever grows."""
    outcome: Adaptation | None = None
    """Set by the learning thread at the end."""
    stored: bool = False
    """Whether the adapter was written."""
    error: ImosError | None = None
    """What went wrong."""


class TuningWorker(FunctionWorker):
    """Worker that stops at the next step when asked to quit, also by a viewer that closes.

    It never emits `errored`, like `PropagationWorker`.

    Parameters
    ----------
    func : callable
        See `tune`.
    *args
        Its first arguments.
    tuning : Tuning
        Its last one.
    """

    def __init__(self, func: Any, *args: Any, tuning: Tuning) -> None:
        super().__init__(func, *args, tuning)
        self._tuning = tuning

    def quit(self) -> None:
        """Stop at the next step."""
        self._tuning.cancel.set()


def tune(job: Job, options: dict[str, Any], path: Path, tuning: Tuning) -> None:
    """Tune an adapter and write it if it is better; errors of any kind end up in `tuning`.

    Parameters
    ----------
    job : Job
        From the layers.
    options : dict
        `model`, `device` and `seconds`, as `imos_core.adapt` takes them.
    path : Path
        Where the adapter goes.
    tuning : Tuning
        To follow, and to stop.
    """
    try:
        # torch is imported here, in the thread
        import imos_core

        tuning.outcome = imos_core.adapt(
            job.image,
            job.prompts,
            **{**job.keywords, **options},
            cancel=tuning.cancel,
            progress=tuning.steps.append,
        )
        if tuning.outcome.better and not tuning.cancel.is_set():
            tuning.outcome.save(path)
            tuning.stored = True
    except ImosError as error:
        tuning.error = error
    except Exception as error:
        reason = str(error) or type(error).__name__
        tuning.error = PropagationError(f"Adapting failed: {reason}.")


def make_tuner(job: Job, options: dict[str, Any], path: Path, tuning: Tuning) -> TuningWorker:
    """Return the worker; the caller starts it."""
    worker: TuningWorker = create_worker(
        tune,
        job,
        options,
        path,
        tuning=tuning,
        _worker_class=TuningWorker,
        _start_thread=False,
    )
    return worker
