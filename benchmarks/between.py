"""Between two painted slices: J&F of every slice there, by how far they are apart.

Run ``python benchmarks/between.py FOLDER``; FOLDER holds ``<modality>/<name>.npz`` sequences. Where
both neighbours of a slice are painted, hardly more can be known: what is missing there to a
perfect score is missing from every protocol that knows less.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from imos_core import load_model, propagate
from imos_core.evaluation.interpolation import interpolate_shapes
from imos_core.evaluation.protocols import read_sequences, tasks_of
from imos_core.metrics import j_and_f

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imos_core.evaluation.protocols import Task
    from imos_core.model import IMOS

GAPS = (2, 4, 8)
"""Distances of two painted slices."""
RIGHT = 0.9
"""Jaccard index of a slice that nobody would paint anew."""


@dataclass(frozen=True)
class Scored:
    """What two methods make of one slice."""

    modality: str
    gap: int
    jaccard: float
    mean: float
    interpolated: float
    """J&F of shape interpolation."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="imos-compact")
    parser.add_argument("--max-objects", type=int, default=2, help="most objects per sequence")
    parser.add_argument("--most", type=int, default=8, help="most stretches per object and gap")
    options = parser.parse_args(arguments)
    model = load_model(options.model)
    scores: list[Scored] = []
    for sequence in tqdm(list(read_sequences(options.folder))):
        for task in tasks_of(sequence, "first", options.max_objects):
            for gap in GAPS:
                scores += between(task, gap, options.most, model)
    sys.stdout.write(table(scores) + "\n")


def between(task: Task, gap: int, most: int, model: IMOS) -> Iterator[Scored]:
    """Score all slices between slices that are `gap` apart and both show the object."""
    truth = task.sequence.labels == task.label
    shown = truth.any(axis=(1, 2))
    starts = [k for k in range(task.start, task.stop - gap, gap) if shown[k] and shown[k + gap]]
    if len(starts) > most:
        starts = [starts[i] for i in np.linspace(0, len(starts) - 1, most).round().astype(int)]
    for low in starts:
        ends = {k: truth[k] for k in (low, low + gap)}
        shapes = interpolate_shapes(ends, len(truth))
        for piece in propagate(
            task.sequence.image,
            {k: mask.astype(np.uint8) for k, mask in ends.items()},
            start=low,
            stop=low + gap + 1,
            model=model,
            spacing=task.sequence.spacing,
            channels_last=task.sequence.image.ndim == 4,
        ):
            if piece.source != "anchor":
                wanted = truth[piece.index][None]
                ours = j_and_f(piece.labels[None] > 0, wanted)
                interpolated = j_and_f(shapes[piece.index][None], wanted)
                yield Scored(task.sequence.modality, gap, ours.j, ours.mean, interpolated.mean)


def table(scores: Sequence[Scored]) -> str:
    """Markdown: by modality and gap, J&F, that of interpolation, and how many slices are right."""
    heads = [f"{g} apart: slices | J&F | interpolation | J >= {RIGHT:g}, %" for g in GAPS]
    lines = [f"| modality | {' | '.join(heads)} |", "|---|" + "---:|" * 4 * len(GAPS)]
    groups = {
        m: [s for s in scores if s.modality == m] for m in sorted({s.modality for s in scores})
    }
    for name, group in [*groups.items(), ("**all slices**", list(scores))]:
        cells = []
        for gap in GAPS:
            found = [s for s in group if s.gap == gap]
            if not found:
                cells += ["0", "-", "-", "-"]
                continue
            right = 100 * np.mean([s.jaccard >= RIGHT for s in found])
            means = [np.mean([getattr(s, n) for s in found]) for n in ("mean", "interpolated")]
            cells += [str(len(found)), *(f"{m:.3f}" for m in means), f"{right:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
