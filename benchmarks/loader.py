"""How many clips per second the data engine makes, by source and by number of processes.

Run ``python benchmarks/loader.py PHASE.toml``, such as a file that ``imos train --example DIR``
writes. Paths in the phase are taken as they stand; ``--pack DIR`` points them to a data pack. With
``--step cuda`` (or ``cpu``), the training step that eats the clips is timed too, on the same
machine and with the phase's batch; with ``--estimate``, it is counted what a step does, for a
device that is not at hand.

Processor time per clip is measured in line, on one thread, and hardly depends on what else the
machine is doing. Clips per second of several processes are wall time. What is said of more cores
than there are is extrapolated from processor time, as if they shared nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from imos_core.data.batches import Batch, ClipBatches, sound
from imos_core.data.sources import SequenceSource, StaticSource, SyntheticSource
from imos_core.training.config import read_config
from imos_core.training.overflow import overflow_pass
from imos_core.training.phases import network_of, sources_of
from imos_core.training.unroll import training_pass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from imos_core.data.sources import Source
    from imos_core.model import IMOS
    from imos_core.training.config import TrainConfig

_NAMES = {StaticSource: "static", SequenceSource: "sequences", SyntheticSource: "synthetic"}
_SEED = 5
_PER_OPERATOR = 5e-6
"""Seconds that PyTorch takes at least to start an operator on a GPU: an assumption."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", type=Path, help="TOML file of a training phase")
    parser.add_argument("--pack", type=Path, help="folder of a data pack")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="processes (1 2)")
    parser.add_argument("--seconds", type=float, default=8, help="per measurement (8)")
    parser.add_argument("--cores", type=int, default=16, help="extrapolate to so many (16)")
    parser.add_argument("--step", metavar="DEVICE", help="time the training step there too")
    parser.add_argument("--estimate", action="store_true", help="count what a step does")
    options = parser.parse_args(arguments)
    config = read_config(options.phase)
    if options.pack:
        config = replace(
            config,
            static=str(options.pack / "static") if config.static else "",
            sequences=str(options.pack / "sequences/train") if config.sequences else "",
        )
    torch.set_num_threads(1)
    mixture = sources_of(config)
    choices = {_NAMES.get(type(source), "folders"): [(source, 1.0)] for source, _ in mixture}
    if len(mixture) > 1:
        choices["as in the phase"] = mixture
    head = ["processor ms per clip", *(f"{n} process(es), clips/s" for n in options.workers)]
    head.append(f"{options.cores} cores, clips/s (extrapolated)")
    lines = [f"| source | {' | '.join(head)} |", "|---|" + "---:|" * len(head)]
    rate = 0.0
    for name, sources in tqdm(choices.items(), unit="source"):
        busy = processor_time(sources, config, options.seconds)
        rates = [clips_per_second(sources, config, n, options.seconds) for n in options.workers]
        rate = options.cores / busy  # of the last source, which is the mixture
        cells = [f"{1000 * busy:.1f}", *(f"{r:.0f}" for r in rates), f"{rate:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    frames = f"{config.frames} frames of {config.size} x {config.size}, batches of"
    sys.stdout.write(f"{options.phase.name}: {frames} {config.batch_size}\n\n")
    sys.stdout.write("\n".join(lines) + "\n\n")
    if options.estimate or options.step:
        batch = next(iter(ClipBatches(mixture, config, config.batch_size, _SEED)))
    if options.estimate:
        work, operators = operations(config, batch)
        fastest = config.batch_size / (operators * _PER_OPERATOR)
        sys.stdout.write(
            f"A clip costs {work / config.batch_size / 1e9:.0f} GFLOP and a step "
            f"{operators} operators, forward and backward (counted). At 5 us to start one "
            f"(assumed), a GPU eats at most {fastest:.0f} clips/s in these batches; "
            f"{options.cores} cores make {rate / fastest:.1f} times as many (extrapolated). In "
            f"larger batches, a GPU that does {rate * work / config.batch_size / 1e12:.0f} TFLOP/s "
            "eats all they make.\n"
        )
    if options.step:
        eaten = config.batch_size / step_time(config, batch, torch.device(options.step))
        sys.stdout.write(
            f"The training step on {options.step} eats {eaten:.1f} clips/s (measured); "
            f"{options.cores} cores make {rate / eaten:.1f} times as many (extrapolated).\n"
        )


def processor_time(
    sources: Sequence[tuple[Source, float]], config: TrainConfig, seconds: float
) -> float:
    """Seconds of one core per clip, in line; pools and caches are filled before."""
    batches = iter(ClipBatches(sources, config, 1, _SEED))
    for _ in islice(batches, 40):
        pass
    started, count = time.process_time(), 0
    while time.process_time() - started < seconds:
        next(batches)
        count += 1
    return (time.process_time() - started) / count


def clips_per_second(
    sources: Sequence[tuple[Source, float]], config: TrainConfig, workers: int, seconds: float
) -> float:
    """Clips that arrive from so many processes per second of wall time, after a start."""
    loader = DataLoader(
        ClipBatches(sources, config, config.batch_size, _SEED),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    batches = sound(loader)
    # what was made ahead while nobody asked is not counted: every queue is emptied first
    for _ in islice(batches, 6 * max(workers, 1)):
        pass
    started, count = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        next(batches)
        count += config.batch_size
    return count / (time.monotonic() - started)


class _OperatorCount(TorchDispatchMode):
    """Count what is started on the device; views start nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def operations(config: TrainConfig, batch: Batch) -> tuple[float, int]:
    """Floating-point operations and operators of a step, forward and backward."""
    model, _ = network_of(config)
    with _OperatorCount() as operators, FlopCounterMode(display=False) as counter:
        _pass(model.train(), batch, config)
    return float(counter.get_total_flops()), operators.count


def step_time(config: TrainConfig, batch: Batch, device: torch.device) -> float:
    """Seconds of a training step on a device: median of some, after some to warm up."""
    model, _ = network_of(config)
    model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate)
    on_device = Batch(*(x.to(device) for x in batch))
    times = []
    for _ in range(4 if device.type == "cpu" else 20):
        started = time.monotonic()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            _pass(model, on_device, config)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - started)
    rest = sorted(times[len(times) // 4 :])
    return rest[len(rest) // 2]


def _pass(model: IMOS, batch: Batch, config: TrainConfig) -> None:
    if config.memory is not None:
        overflow_pass(
            model,
            batch,
            _backward,
            memory=config.memory,
            truncate=config.truncate,
            iteration=0,
            warm_up=(0, 1),
        )
        return
    result = training_pass(
        model,
        batch,
        iteration=0,
        warm_up=(0, 1),
        references=config.references,
        generator=torch.Generator().manual_seed(_SEED),
    )
    _backward(result.loss)


def _backward(loss: Tensor) -> None:
    loss.backward()


if __name__ == "__main__":
    main()
