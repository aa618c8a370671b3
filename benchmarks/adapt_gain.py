"""What adapting gains: J&F before and after `adapt`, with 1, 3 and 5 painted slices.

Run ``python benchmarks/adapt_gain.py FOLDER``; FOLDER holds ``<modality>/<name>.npz``. One
object per sequence is painted with the truth on evenly spaced slices; what is scored is the rest
of its range, propagated from the same slices with the base and with what `adapt` returns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from imos_core import adapt, load_model, propagate
from imos_core.evaluation.protocols import read_sequences, tasks_of
from imos_core.metrics import j_and_f

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imos_core.evaluation.protocols import Task
    from imos_core.model import IMOS


@dataclass(frozen=True)
class Gain:
    """One object with some painted slices."""

    modality: str
    sequence: str
    label: int
    painted: int
    before: float
    after: float
    kept_base: bool
    held_back_before: float
    held_back_after: float
    steps: int
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="imos-compact")
    parser.add_argument("--painted", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--seconds", type=float, default=120.0, help="time of each adaptation")
    parser.add_argument("--sequences", type=int, default=2, help="most sequences per modality")
    parser.add_argument("--slices", type=int, default=60, help="most slices of a sequence")
    parser.add_argument("--json", type=Path, help="also write every result there")
    options = parser.parse_args(arguments)
    base = load_model(options.model)
    results: list[Gain] = []
    for task in tqdm(_tasks(options.folder, options.sequences, options.slices)):
        for painted in options.painted:
            if task.stop - task.start >= 2 * painted + 1:
                results.append(measure(base, task, painted, options.seconds))
                tqdm.write(str(results[-1]))
                if options.json:
                    options.json.write_text(json.dumps([asdict(r) for r in results], indent=1))
    sys.stdout.write(table(results) + "\n")


def measure(base: IMOS, task: Task, painted: int, seconds: float) -> Gain:
    """Adapt to evenly spaced slices of an object; score the rest of its range."""
    sequence = task.sequence
    image = sequence.image[task.start : task.stop]
    truth = sequence.labels[task.start : task.stop] == task.label
    present = np.nonzero(truth.any((1, 2)))[0]
    places = ((np.arange(painted) + 0.5) / painted * len(present)).astype(int)
    prompts = {int(k): truth[k].astype(np.uint8) for k in present[places]}

    def score(model: IMOS) -> float:
        found = np.zeros_like(truth)
        for piece in propagate(
            image,
            prompts,
            model=model,
            spacing=sequence.spacing,
            channels_last=image.ndim == 4,
        ):
            found[piece.index] = piece.labels > 0
        return j_and_f(found, truth, skip=tuple(prompts)).mean

    before = score(base)
    started = time.monotonic()
    result = adapt(
        image,
        prompts,
        model=base,
        spacing=sequence.spacing,
        channels_last=image.ndim == 4,
        seconds=seconds,
    )
    spent = time.monotonic() - started
    after = score(result.model) if result.better else before
    return Gain(
        sequence.modality,
        sequence.name,
        task.label,
        painted,
        before,
        after,
        not result.better,
        result.before,
        result.after,
        len(result.losses),
        spent,
    )


def table(results: Sequence[Gain]) -> str:
    """Markdown: mean J&F before and after, by painted slices and modality."""
    counts = sorted({r.painted for r in results})
    lines = [
        "| modality | " + " | ".join(f"{n} painted: before | after" for n in counts) + " |",
        "|---|" + "---:|---:|" * len(counts),
    ]
    groups = {
        m: [r for r in results if r.modality == m] for m in sorted({r.modality for r in results})
    }
    for name, group in [*groups.items(), ("**all**", list(results))]:
        cells = []
        for n in counts:
            own = [(r.before, r.after) for r in group if r.painted == n]
            means = np.mean(own, axis=0) if own else (np.nan, np.nan)
            cells.append(f"{means[0]:.3f} | {means[1]:.3f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    kept = sum(r.kept_base for r in results)
    seconds = np.mean([r.seconds for r in results])
    lines += ["", f"Base kept in {kept} of {len(results)}; {seconds:.0f} s each."]
    return "\n".join(lines)


def _tasks(folder: Path, most: int, slices: int) -> list[Task]:
    """One object of each of the first sequences of every modality, cut to a few slices."""
    tasks: list[Task] = []
    for sequence in read_sequences(folder):
        if sum(t.sequence.modality == sequence.modality for t in tasks) >= most:
            continue
        for task in tasks_of(sequence, "first", 1):
            if task.stop - task.start >= 3:
                stop = min(task.stop, task.start + slices)
                tasks.append(
                    type(task)(sequence, task.label, task.prompt, task.start, stop, "both")
                )
    return tasks


if __name__ == "__main__":
    main()
