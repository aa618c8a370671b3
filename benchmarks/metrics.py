"""How long metrics take: all of them on 1,000 slices of 512 x 512 with 5 objects.

Processor time is what counts, so that other work on the machine does not.

``python benchmarks/metrics.py [--slices 1000] [--sequences 10] [--cores 2]``
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import torch

from imos_core.evaluation.leak import leak
from imos_core.evaluation.surfaces import SurfaceMetrics
from imos_core.metrics import j_and_f

SIZE, OBJECTS = 512, 5
SPACING = (2.0, 0.8, 0.8)
GOAL = 60.0  # seconds, on two cores


def sequence(slices: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Lobed bodies of 40 to 90 pixels' radius that swell, shrink and drift, and a result beside it.

    Returns
    -------
    tuple of ndarray of uint8
        Result and truth, `(T, H, W)`.
    """
    random = np.random.default_rng(seed)
    truth = np.zeros((slices, SIZE, SIZE), np.uint8)
    rows, columns = np.ogrid[:SIZE, :SIZE]
    centres = [(130, 110), (130, 330), (380, 90), (380, 270), (380, 430)]
    for label, (y, x) in enumerate(centres, start=1):
        radius, lobes, phase = random.uniform(40, 90), random.integers(2, 7), random.uniform(0, 6)
        for k in range(slices):
            dy, dx = rows - y - 8 * np.sin(k / 11 + phase), columns - x - 8 * np.cos(k / 13)
            edge = radius * np.sin(np.pi * (k + 0.5) / slices)
            edge = edge + 4 * np.sin(lobes * np.arctan2(dy, dx) + k / 17)
            truth[k][np.hypot(dy, dx) < edge] = label
    return np.roll(truth, (1, 3, -2), (0, 1, 2)), truth


def measure(slices: int, seed: int) -> dict[str, float]:
    """Processor seconds for each metric on one sequence."""
    result, truth = sequence(slices, seed)
    surfaces = SurfaceMetrics()
    surfaces(truth[:2] == 1, truth[:2] == 1, SPACING)  # what is loaded once does not count
    seconds = dict.fromkeys(("J and F", "leak", "surface Dice, HD95"), 0.0)
    for label in range(1, OBJECTS + 1):
        marks = [time.process_time()]
        a, b = result == label, truth == label
        j_and_f(a, b, skip=(0,))
        marks.append(time.process_time())
        leak(a, b)
        marks.append(time.process_time())
        surfaces(a, b, SPACING)
        marks.append(time.process_time())
        for name, step in zip(seconds, np.diff(marks), strict=True):
            seconds[name] += float(step)
    return seconds


def main() -> None:
    """Measure, and say whether the goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--sequences", type=int, default=10, help="that the slices belong to")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    each = options.slices // options.sequences
    with ProcessPoolExecutor(
        options.cores, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        found = list(pool.map(partial(measure, each), range(options.sequences)))
    total = {name: sum(f[name] for f in found) for name in found[0]}
    lines = [f"{name:<20}{seconds:7.1f} s" for name, seconds in total.items()]
    wall = sum(total.values()) / options.cores
    lines.append(f"{'all':<20}{sum(total.values()):7.1f} s")
    lines.append(f"{f'on {options.cores} cores':<20}{wall:7.1f} s   (goal {GOAL:.0f} s)")
    sys.stdout.write("\n".join(lines) + "\n")
    if options.slices == 1000 and wall > GOAL:
        sys.exit(1)


if __name__ == "__main__":
    main()
