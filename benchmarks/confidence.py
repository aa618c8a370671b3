"""What per-slice confidence is worth: how it ranks true Jaccard indices, and whether it is true.

Run ``python benchmarks/confidence.py FOLDER``; FOLDER holds ``<modality>/<name>.npz``. Protocol
``middle``: one painted slice, the whole sequence.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

from imos_core import load_model, propagate
from imos_core.evaluation.protocols import read_sequences, tasks_of
from imos_core.metrics import jaccard
from imos_core.review import anchor_distance, expected_jaccard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imos_core.evaluation.protocols import Task
    from imos_core.model import IMOS


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="imos-compact")
    parser.add_argument("--max-objects", type=int, default=2, help="most objects per sequence")
    options = parser.parse_args(arguments)
    model = load_model(options.model)
    rows: list[tuple[str, float, float]] = []
    ranks: dict[str, list[float]] = {}
    for sequence in tqdm(list(read_sequences(options.folder))):
        for task in tasks_of(sequence, "middle", options.max_objects):
            pairs = judged(model, task)
            rows += [(sequence.modality, c, j) for c, j in pairs]
            if len(pairs) > 4 and len(set(pairs)) > 1:
                confidence, scores = np.array(pairs).T
                if np.ptp(confidence) and np.ptp(scores):
                    found = float(spearmanr(confidence, scores).statistic)
                    ranks.setdefault(sequence.modality, []).append(found)
    sys.stdout.write(ranking(rows, ranks) + "\n\n" + reliability(rows) + "\n")


def judged(model: IMOS, task: Task) -> list[tuple[float, float]]:
    """Confidence and true Jaccard index of every slice that is not painted."""
    sequence = task.sequence
    pairs = []
    for piece in propagate(
        sequence.image,
        {task.prompt: task.mask.astype(np.uint8)},
        model=model,
        spacing=sequence.spacing,
        channels_last=sequence.image.ndim == 4,
    ):
        if piece.source != "anchor":
            truth = sequence.labels[piece.index] == task.label
            score = float(jaccard(piece.labels > 0, truth))
            away = anchor_distance(piece.index, [task.prompt])
            pairs.append((expected_jaccard(piece.confidence, piece.labels, away), score))
    return pairs


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
