"""Many propagations as tasks of dask.distributed: on this machine, or on a cluster that runs."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from imos_core.errors import DeviceError, ImosError, first_line
from imos_core.files.one_run import only_run
from imos_core.files.outdated import is_done, mark_outdated
from imos_core.files.results import discard, work_folder
from imos_core.files.series import propagate_any
from imos_core.own_warnings import told
from imos_core.whole_files import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from imos_core.files.propagate import FileJob
    from imos_core.files.series import FileSeries


_SILENT = logging.CRITICAL
"""What dask logs: jobs say themselves why they failed, and workers are closed in the middle."""

_GONE = (
    "The scheduler does not answer any more; what its workers have begun may go on: start it anew."
)


@dataclass(frozen=True)
class JobResult:
    """How a job ended."""

    job: FileJob | FileSeries
    """What was to be done."""
    error: str | None
    """Why it failed; None if the result is there."""
    attempts: int
    """Workers that tried, as far as they lived to say so."""
    warnings: tuple[str, ...] = ()
    """What the last of them has warned of."""


def run_batch(
    jobs: Sequence[FileJob | FileSeries],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    attempts: int = 2,
    resume: bool = False,
    restart: bool = False,
    every: int = 50,
    report: Callable[[JobResult], None] | None = None,
) -> list[JobResult]:
    """Run jobs, one at a time on each worker.

    A job that fails is tried again on another worker. A worker that dies is replaced, and its job
    goes on from its last checkpoint elsewhere. Neither stops the others.

    Workers on this machine are processes that import the script that starts them: there, call this
    below ``if __name__ == "__main__":``.

    Parameters
    ----------
    jobs : sequence of FileJob or FileSeries
        What is to be done; files must be reachable from every worker.
    scheduler : str, optional
        Address of a running ``dask.distributed`` scheduler. By default, a cluster on this machine,
        with one worker per GPU, or as many processes as `workers`.
    workers : int, optional
        Workers on this machine.
    attempts : int
        Workers that may try a job before it counts as failed.
    resume : bool
        Leave results that are there already, but for those of jobs that were run again since and
        failed, or were not reached.
    restart : bool
        Throw away what interrupted runs of the jobs have left; by default, they go on.
    every : int
        Slices after which a checkpoint is written.
    report : callable, optional
        Called with each job's end, in the order of ending.

    Returns
    -------
    list of JobResult
        In the order of `jobs`.

    Raises
    ------
    DeviceError
        If the scheduler cannot be reached, no worker starts, or ``dask.distributed`` is missing.
    KeyboardInterrupt
        If it is interrupted. What was reported is written. Workers on this machine end; those of
        another scheduler finish the jobs that they have begun.
    """
    if _in_imported_script():
        raise SystemExit(1)  # the process that starts this one says why
    found: dict[int, JobResult] = {}

    def end(number: int, error: str | None, tried: int, said: tuple[str, ...] = ()) -> None:
        found[number] = JobResult(jobs[number], error, tried, said)
        if report is not None:
            report(found[number])

    open_jobs = []
    for number, job in enumerate(jobs):
        if resume and is_done(job.outputs()):
            end(number, None, 0)
            continue
        mark_outdated(job.outputs())
        try:
            if restart:
                _forget(job)
        except ImosError as error:
            end(number, str(error), 0)
        else:
            open_jobs.append(number)
    if open_jobs:
        with _client(scheduler, workers, len(open_jobs)) as client:
            _run(client, jobs, open_jobs, attempts, every, end)
    return [found[number] for number in range(len(jobs))]


def _in_imported_script() -> bool:
    """Whether a new process is only importing the script that has started it."""
    return ("__mp_main__", "<module>") in _callers()


def _callers() -> Iterator[tuple[object, str]]:
    """Yield module and name of the functions that are being run, from here outwards."""
    frame = inspect.currentframe()
    while frame is not None:
        yield frame.f_globals.get("__name__"), frame.f_code.co_name
        frame = frame.f_back


def _forget(job: FileJob | FileSeries) -> None:
    """Throw away what an interrupted run has left; here, as a job may be begun several times."""
    with only_run(job.outputs()):
        discard([work_folder(path) for path in job.outputs()])


def _run(
    client: Any,
    jobs: Sequence[FileJob | FileSeries],
    numbers: Sequence[int],
    attempts: int,
    every: int,
    end: Callable[[int, str | None, int, tuple[str, ...]], None],
) -> None:
    from distributed import as_completed

    tried: dict[int, list[str]] = {number: [] for number in numbers}
    running: dict[Any, int] = {}

    def submit(number: int) -> Any:
        known = client.scheduler_info(n_workers=-1)["workers"]
        others = [w for w in known if w not in tried[number]] if tried[number] else []
        elsewhere = {"workers": others, "allow_other_workers": True} if others else {}
        future = client.submit(
            run_job,
            jobs[number],
            every,
            # what dask's dashboard shows: files of many patients may have the same name
            key=f"imos {jobs[number].output}-{uuid4().hex}",
            pure=False,
            **elsewhere,
        )
        running[future.key] = number
        return future

    ending = as_completed([submit(number) for number in numbers], loop=client.loop)
    for future in ending:
        number = running.pop(future.key)
        try:
            error, worker, said = future.result()
        except Exception as lost:  # the scheduler gave up on it, whatever the reason
            error, worker, said = f"The worker was lost: {type(lost).__name__}.", "", ()
            if client.status != "running":  # what is submitted now might never end
                end(number, _GONE, len(tried[number]) + 1, ())
                continue
        tried[number].append(worker)
        if error is not None and len(tried[number]) < attempts:
            ending.add(submit(number))
        else:
            end(number, error, len(tried[number]), said)


def run_job(job: FileJob | FileSeries, every: int) -> tuple[str | None, str, tuple[str, ...]]:
    """Do one job on a worker: what went wrong, if anything, its address, and its warnings."""
    from distributed import get_worker

    worker = get_worker()
    said: list[str] = []
    error: str | None = None
    # a worker with several threads still has one device and one memory
    turn: threading.Lock = worker.__dict__.setdefault("imos_turn", threading.Lock())
    with turn, told(said.append):
        try:
            propagate_any(job, resume=True, every=every)
        except ImosError as raised:
            error = " ".join(str(raised).split())
        except Exception as raised:  # one job must not stop the others
            error = f"{type(raised).__name__}: {raised}"
    return error, worker.address, tuple(said)


@contextmanager
def _client(scheduler: str | None, workers: int | None, jobs: int) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise DeviceError(
            'Batches need dask.distributed: pip install "napari-imos[batch]".'
        ) from error
    with ExitStack() as stack:
        stack.callback(logging.disable, logging.root.manager.disable)
        stack.callback(_on_interrupt, signal.getsignal(signal.SIGINT))
        try:
            if scheduler is None:
                cluster = stack.enter_context(_started(workers, jobs))
                client = Client(cluster, set_as_default=False)
            else:
                stack.enter_context(_quiet("distributed.client"))  # it logs that a scheduler went
                client = _connected(scheduler)
            yield stack.enter_context(client)
        except KeyboardInterrupt:
            # dask would tell, with tracebacks, of every worker that is closed in the middle
            logging.disable(logging.CRITICAL)
            _on_interrupt(signal.SIG_IGN)  # closing takes seconds, and some press it once more
            raise


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep one of dask's loggers from saying what we say ourselves."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(_SILENT)
    try:
        yield
    finally:
        logger.setLevel(before)


def _on_interrupt(handler: Any) -> None:
    """Set what Ctrl-C does, where that can be set."""
    with suppress(ValueError, TypeError):  # in a thread; for a handler that is not Python's
        signal.signal(signal.SIGINT, handler)


def _connected(scheduler: str) -> Any:
    from distributed import Client

    try:
        return Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise DeviceError(
            f"No scheduler answers at {scheduler}: start one with 'dask scheduler', or leave the "
            "address out."
        ) from error


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait, and have processes that are started here leave it to this one.

    The terminal sends it to all of them; threads and processes, and theirs, inherit what is
    blocked. Windows knows nothing of the kind.
    """
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # or it lets them through, when the first process starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _started(workers: int | None, jobs: int) -> Any:
    try:
        with _interrupts_wait():
            return _local_cluster(workers, jobs)
    except (RuntimeError, OSError, TimeoutError) as error:
        hint = (
            'if this is a script, call run_batch under if __name__ == "__main__", as every worker '
            "first runs what is outside of it."
        )
        if ("imos_core.commands.batch", "batch") in _callers():
            hint = "mend that, or give the address of a scheduler (--scheduler)."
        raise DeviceError(
            f"No workers could be started on this machine ({_root_of(error)}): {hint}"
        ) from None  # what dask says is pages, and does not say this


def _root_of(error: BaseException) -> str:
    """Say what an error of dask's came from, as far as it tells: by itself it only says that."""
    said = [first_line(error)]
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            said.append(reason(cause))
        elif not isinstance(cause, AssertionError) and str(cause):  # on states of dask's own
            said.append(first_line(cause))
        cause = cause.__cause__ or cause.__context__
    return said[-1]


def _local_cluster(workers: int | None, jobs: int) -> Any:
    """Start one worker per GPU, or processes that share the cores."""
    import torch
    from distributed import LocalCluster, Nanny, Scheduler, SpecCluster

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus:
        count = min(workers or gpus, gpus, jobs)
        options = {"nthreads": 1, "silence_logs": _SILENT}
        specs = {
            i: {"cls": Nanny, "options": {**options, "env": {"CUDA_VISIBLE_DEVICES": str(i)}}}
            for i in range(count)
        }
        return SpecCluster(
            scheduler={"cls": Scheduler, "options": {"dashboard_address": ":0"}},
            workers=specs,
            silence_logs=_SILENT,
        )
    cores = os.cpu_count() or 1
    count = min(workers or max(cores // 2, 1), jobs)
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        silence_logs=_SILENT,
        memory_limit=0,  # memory is what --memory says; dask would kill workers that map files
        env={"OMP_NUM_THREADS": str(max(cores // count, 1))},
    )
