"""What per-slice confidence is worth: how it ranks true Jaccard indices, and whether it is true.

Run ``python benchmarks/confidence.py FOLDER``; FOLDER holds ``<modality>/<name>.npz``. Protocol
``middle``: one painted slice, the whole sequence. With ``--fit``, print the calibration that suits
the folder best, for `imos_core.review`; every object counts the same.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.stats import spearmanr
from tqdm import tqdm

from imos_core import load_model, propagate
from imos_core.evaluation.protocols import read_sequences, tasks_of
from imos_core.metrics import jaccard
from imos_core.review import CALIBRATION, Calibration, anchor_distance, slice_confidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from imos_core.evaluation.protocols import Task
    from imos_core.model import IMOS


class Slice(NamedTuple):
    """A slice that is not painted."""

    modality: str
    object: int
    """Number of the object."""
    confidence: float
    """As from `slice_confidence`."""
    distance: float
    """Slices from the painted one."""
    empty: bool
    """Whether nothing was found."""
    jaccard: float
    """With the truth."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print two tables, or fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="imos-compact")
    parser.add_argument("--max-objects", type=int, default=2, help="most objects per sequence")
    parser.add_argument("--fit", action="store_true", help="print a calibration")
    options = parser.parse_args(arguments)
    model = load_model(options.model)
    tasks = [
        task
        for sequence in read_sequences(options.folder)
        for task in tasks_of(sequence, "middle", options.max_objects)
    ]
    slices = [one for i, task in enumerate(tqdm(tasks)) for one in judged(model, task, i)]
    if options.fit:
        sys.stdout.write(f"{fitted(slices)}\n")
        return
    rows, ranks = [], {}
    for _, group in groupby(slices, key=lambda one: one.object):
        own = [
            (one.modality, CALIBRATION.expected(*one[2:4], empty=one.empty), one.jaccard)
            for one in group
        ]
        rows += own
        confidence, scores = np.array([(c, j) for _, c, j in own]).T
        if len(own) > 4 and np.ptp(confidence) and np.ptp(scores):
            found = float(spearmanr(confidence, scores).statistic)
            ranks.setdefault(own[0][0], []).append(found)
    sys.stdout.write(ranking(rows, ranks) + "\n\n" + reliability(rows) + "\n")


def judged(model: IMOS, task: Task, number: int) -> list[Slice]:
    """Confidence and true Jaccard index of every slice that is not painted."""
    sequence = task.sequence
    return [
        Slice(
            sequence.modality,
            number,
            slice_confidence(piece.confidence, piece.labels),
            anchor_distance(piece.index, [task.prompt]),
            not piece.labels.any(),
            float(jaccard(piece.labels > 0, sequence.labels[piece.index] == task.label)),
        )
        for piece in propagate(
            sequence.image,
            {task.prompt: task.mask.astype(np.uint8)},
            model=model,
            spacing=sequence.spacing,
            channels_last=sequence.image.ndim == 4,
        )
        if piece.source != "anchor"
    ]


def fitted(slices: Sequence[Slice]) -> Calibration:
    """Least squares between expected and true Jaccard indices."""
    by_object = Counter(one.object for one in slices)
    weights = np.array([1 / by_object[one.object] for one in slices])
    truth = np.array([one.jaccard for one in slices])
    empty = np.array([one.empty for one in slices])

    def loss(x: npt.NDArray[np.float64]) -> float:
        ours = Calibration(*x)
        made = np.array([ours.expected(one.confidence, one.distance) for one in slices])
        return float((weights * (made - truth) ** 2)[~empty].sum())

    best = minimize(loss, (-1.0, 1.0, 0.5), method="Nelder-Mead").x
    found = np.average(truth[empty], weights=weights[empty]) if empty.any() else 1.0
    return Calibration(*(round(float(x), 3) for x in (*best, found)))


def ranking(rows: Sequence[tuple[str, float, float]], ranks: dict[str, list[float]]) -> str:
    """Markdown: Spearman's rank correlation by modality, over all slices and within objects."""
    lines = [
        "| modality | slices | Spearman, all slices | within an object (mean) |",
        "|---|---:|---:|---:|",
    ]
    for name in [*sorted({m for m, _, _ in rows}), "**all**"]:
        own = np.array([(c, j) for m, c, j in rows if name in (m, "**all**")])
        within = [r for m, some in ranks.items() if name in (m, "**all**") for r in some]
        whole = float(spearmanr(own[:, 0], own[:, 1]).statistic) if len(own) > 2 else np.nan
        inner = float(np.mean(within)) if within else np.nan
        lines.append(f"| {name} | {len(own)} | {whole:.2f} | {inner:.2f} |")
    return "\n".join(lines)


def reliability(rows: Sequence[tuple[str, float, float]]) -> str:
    """Markdown: mean true Jaccard index of the slices in each tenth of confidence."""
    values = np.array([(c, j) for _, c, j in rows])
    bins = np.minimum((values[:, 0] * 10).astype(int), 9)
    lines = ["| confidence | slices | mean confidence | mean J |", "|---|---:|---:|---:|"]
    for k in range(10):
        own = values[bins == k]
        if len(own):
            mean = own.mean(0)
            span = f"{k / 10:.1f} to {(k + 1) / 10:.1f}"
            lines.append(f"| {span} | {len(own)} | {mean[0]:.2f} | {mean[1]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
