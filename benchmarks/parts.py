"""Parts: what it costs to have several objects under one label.

Run ``python benchmarks/parts.py FOLDER``; FOLDER holds ``<modality>/<name>.npz`` sequences. Two,
four and eight objects of each are painted on one slice, or on two, and carried over up to ten
slices to both sides: under one label in one window, under one label in windows of their own where
these show them much more finely (as `imos` does it), and under a label each. Training sequences
will do: ways are compared, not how good the network is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from imos_core import load_model, propagate, propagation
from imos_core.anchors import plan_legs
from imos_core.evaluation.protocols import read_sequences
from imos_core.label_ids import ids_on
from imos_core.metrics import jaccard
from imos_core.propagation import pixel_size
from imos_core.walking.starts import Starts, starts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from imos_core.evaluation.protocols import TrueSequence
    from imos_core.model import IMOS

COUNTS = (2, 4, 8)
"""Objects under one label."""
REACH = 10
"""Slices to both sides of a painted one; between two, they are so far from each other, at most."""
WAYS = ("one window", "parts", "own labels")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="imos-compact")
    options = parser.parse_args(arguments)
    model = load_model(options.model)
    found: dict[tuple[int, int], list[list[tuple[float, float]]]] = defaultdict(list)
    for sequence in tqdm(list(read_sequences(options.folder))):
        for ids in chosen(sequence):
            for anchors in painted(sequence.labels, ids):
                if not divided(sequence, ids, anchors, model):
                    continue
                each = [measured(sequence, ids, anchors, way, model) for way in WAYS]
                found[len(ids), len(anchors)].append(each)
    lines = ["| objects | painted slices | cases | " + " | ".join(f"{w}: J" for w in WAYS)]
    lines[0] += " | " + " | ".join(f"{w}: time" for w in WAYS) + " |"
    lines.append("|---:" * (3 + 2 * len(WAYS)) + "|")
    for (count, anchors), rows in sorted(found.items()):
        scores, seconds = np.mean(rows, 0).T
        cells = [f"{s:.3f}" for s in scores] + [f"{t / seconds[0]:.2f}" for t in seconds]
        lines.append(f"| {count} | {anchors} | {len(rows)} | {' | '.join(cells)} |")
    sys.stdout.write("\n".join(lines) + "\n")


def chosen(sequence: TrueSequence) -> Iterator[list[int]]:
    """Objects that are put under one label: drawn by lot, the same ones every time."""
    rng = np.random.default_rng(0)
    ids = ids_on(sequence.labels)
    for count in COUNTS:
        if len(ids) >= count:
            yield sorted(rng.choice(ids, count, replace=False).tolist())


def painted(labels: npt.NDArray[Any], ids: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Choose the slice that shows most of them, and two on either side of it."""
    shown = [len(np.intersect1d(ids, plane)) for plane in labels]
    areas = np.isin(labels, ids).sum((1, 2))
    best = max(range(len(labels)), key=lambda k: (shown[k], areas[k]))
    yield (best,)
    near = [k for k in range(len(labels)) if areas[k] and abs(k - best) <= REACH // 2]
    if near[-1] - near[0] > 2:
        yield near[0], near[-1]


def divided(
    sequence: TrueSequence, ids: Sequence[int], anchors: Sequence[int], model: IMOS
) -> bool:
    """Whether `imos` walks parts, and there is anything else to segment."""
    planes = {k: np.isin(sequence.labels[k], ids).astype(np.uint8) for k in anchors}
    legs = plan_legs({1: tuple(anchors)}, 0, len(sequence.labels), "both")
    pixel, colour = pixel_size(sequence.spacing, 0), sequence.image.ndim == 4
    starts = starts_of(legs, planes, model.config, pixel, colour=colour)
    others = np.delete(sequence.labels, anchors, 0)
    return bool(starts.parts) and bool(np.isin(others, ids).any())


def together(*arguments: Any, **options: Any) -> Starts:
    """Look at objects as if none had parts."""
    return starts_of(*arguments, **{**options, "divide": False})


def measured(
    sequence: TrueSequence, ids: Sequence[int], anchors: tuple[int, ...], way: str, model: IMOS
) -> tuple[float, float]:
    """Mean Jaccard index of all slices that show any of the objects, and seconds of processor."""
    labels = np.where(np.isin(sequence.labels, ids), sequence.labels, 0)
    truth = labels > 0
    start, stop = max(anchors[0] - REACH, 0), min(anchors[-1] + REACH + 1, len(truth))
    if len(anchors) > 1:
        start, stop = anchors[0], anchors[-1] + 1
    given = labels if way == "own labels" else truth.astype(np.uint8)
    propagation.starts_of = together if way == WAYS[0] else starts_of
    scores, began = [], time.process_time()
    for piece in propagate(
        sequence.image,
        {k: given[k] for k in anchors},
        start=start,
        stop=stop,
        model=model,
        spacing=sequence.spacing,
        channels_last=sequence.image.ndim == 4,
    ):
        if piece.index not in anchors and truth[piece.index].any():
            scores.append(float(jaccard(piece.labels > 0, truth[piece.index])))
    return float(np.mean(scores or [np.nan])), time.process_time() - began


if __name__ == "__main__":
    main()
