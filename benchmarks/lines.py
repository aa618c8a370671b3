"""Lines: long objects of a few pixels' width, in one window and in stretches.

Run ``python benchmarks/lines.py``: drawn rings and lines in 512 x 512, in noise and shade, which
move from slice to slice; painted on the first of nine slices.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from imos_core import load_model, propagate
from imos_core.metrics import jaccard
from imos_core.walking import starts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from imos_core.model import IMOS

    Drawn = Callable[[int], npt.NDArray[np.bool_]]

SIDE, SLICES = 512, 9
WIDTHS = (2, 3, 5)
Y, X = np.indices((SIDE, SIDE))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="imos-compact")
    options = parser.parse_args(arguments)
    model, lost = load_model(options.model), starts._LOST
    lines = ["| drawn | one window: J | stretches: J | time |", "|---|---:|---:|---:|"]
    for name, drawn in tqdm(cases().items()):
        truth = np.stack([drawn(k) for k in range(SLICES)])
        noise = np.random.default_rng(0).normal(0, 8, truth.shape)
        image = (90 + 60 * truth + 10 * np.sin(X / 30) + noise).clip(0, 255).astype(np.uint8)
        starts._LOST = 0.0
        (before, once), starts._LOST = measured(image, truth, model), lost
        after, then = measured(image, truth, model)
        lines.append(f"| {name} | {before:.3f} | {after:.3f} | {then / once:.1f} |")
    sys.stdout.write("\n".join(lines) + "\n")


def cases() -> dict[str, Drawn]:
    """What is drawn, by slice."""
    made: dict[str, Drawn] = {}
    for width in WIDTHS:
        made[f"ring, {width} pixels"] = ring(width, 180, -1, drift=1.5)
        made[f"line, {width} pixels"] = line(width, 1.5, wave=0.1)
    made["line that moves 7 pixels a slice"] = line(3, 7.0, top=150)
    made["ring that grows by 8"] = ring(3, 100, 8)
    made["ring that shrinks by 8"] = ring(3, 200, -8)
    return made


def ring(width: float, radius: float, grows: float, drift: float = 0.0) -> Drawn:
    """Draw a circle that moves and grows by so many pixels a slice."""

    def drawn(k: int) -> npt.NDArray[np.bool_]:
        away = np.hypot(Y - 250 - k * (drift > 0), X - 250 - drift * k)
        inside: npt.NDArray[np.bool_] = np.abs(away - radius - grows * k) < width / 2
        return inside

    return drawn


def line(width: float, drift: float, top: float = 250, wave: float = 0.0) -> Drawn:
    """Draw a wave across the slice that moves down."""

    def drawn(k: int) -> npt.NDArray[np.bool_]:
        away = np.abs(Y - top - drift * k - 30 * np.sin(X / 60 + wave * k))
        inside: npt.NDArray[np.bool_] = (away < width / 2) & (X > 40) & (X < 470)
        return inside

    return drawn


def measured(
    image: npt.NDArray[Any], truth: npt.NDArray[np.bool_], model: IMOS
) -> tuple[float, float]:
    """Mean Jaccard index of the slices behind the painted one, and seconds of processor."""
    began, scores = time.process_time(), []
    for piece in propagate(image, {0: truth[0].astype(np.uint8)}, model=model):
        if piece.index:
            scores.append(float(jaccard(piece.labels > 0, truth[piece.index])))
    return float(np.mean(scores)), time.process_time() - began


if __name__ == "__main__":
    main()
