"""Speed: the reference network against its plain mode, the embedded one, flat cost, start-up.

Run ``python benchmarks/speed.py [r50] [compact] [precision] [ending] [flat] [start]``; without
names, all of them. Every ratio comes from one run in which all sides took turns; times are medians.
Synthetic slices: speed does not depend on what they show, except where an object is lost or has
ended.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from copy import deepcopy
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch

import imos_core
from imos_core.config import IMOS_R50
from imos_core.metrics import jaccard
from imos_core.model import IMOS
from imos_core.preprocess import normalise
from imos_core.propagator import Propagator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    Volume = npt.NDArray[np.uint8]
    Labels = npt.NDArray[np.int32]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts: dict[str, Callable[[argparse.Namespace], list[str]]] = {
        "r50": against_plain,
        "compact": embedded,
        "precision": precisions,
        "ending": with_ends,
        "flat": flat_cost,
        "start": start_up,
    }
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="what to measure")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads (%(default)s)")
    parser.add_argument("--slices", type=int, default=5000, help="slices of flat (%(default)s)")
    parser.add_argument("--plot", type=Path, help="picture of flat's memory (.png)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for name in options.parts or parts:
        sys.stdout.write("\n".join(parts[name](options)) + "\n\n")
        sys.stdout.flush()


def discs(count: int, size: int, objects: int) -> tuple[Volume, Labels]:
    """Bright discs on smooth noise, and their labels in slice 0."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 18, (4, size // 8 + 1, size // 8 + 1))
    textures = np.kron(coarse, np.ones((8, 8)))[:, :size, :size]
    per_row = int(np.ceil(np.sqrt(objects)))
    pitch = size / per_row
    rows, cols = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    for k in range(objects):
        y, x = ((k // per_row + 0.5) * pitch, (k % per_row + 0.5) * pitch)
        labels[(rows - y) ** 2 + (cols - x) ** 2 < min(20.0, 0.35 * pitch) ** 2] = k + 1
    image = np.empty((count, size, size), np.uint8)
    for t in range(count):
        mixed = textures[t % 4] * 0.3 + textures[0] * 0.7
        image[t] = np.clip(100 + mixed + 60 * (labels > 0), 0, 255)
    return image, labels


def follow(image: Any, labels: Labels, model: IMOS, **how: Any) -> tuple[float, float, Labels]:
    """Propagate from slice 0: seconds to the first slice, seconds in all, labels of the last."""
    started = time.perf_counter()
    first, last = 0.0, labels
    # what is lost on the way would cost nothing
    how = {"patience": None, **how}
    for item in imos_core.propagate(image, {0: labels}, model=model, **how):
        if item.source != "anchor":
            first = first or time.perf_counter() - started
            last = item.labels
    return first, time.perf_counter() - started, last


@torch.inference_mode()
def plain(image: Volume, masks: torch.Tensor, model: IMOS) -> Labels:
    """Labels of the last slice, frame by frame in one direction, in float32.

    Parameters
    ----------
    image : ndarray
        `(Z, H, W)` in 0..255.
    masks : Tensor
        `(n, H, W)` float32, of the objects on slice 0.
    model : IMOS
        Network.
    """
    walk = Propagator(model)
    for t, plane in enumerate(image):
        unit = torch.from_numpy(plane.astype(np.float32) / 255)
        frame = normalise(unit.expand(3, -1, -1), model.config.normalisation)
        if t == 0:
            walk.memorize(frame, masks)
        else:
            probability = walk.segment(frame)
    found: Labels = probability.argmax(0).numpy().astype(np.int32)
    return found


def against_plain(options: argparse.Namespace) -> list[str]:
    """Whole slices of 480 x 480 through the reference network, random weights.

    The yardstick follows one object at a time; masks are compared with those of the same plain
    mode in which objects compete, as they do in `propagate`.
    """
    torch.manual_seed(0)
    model = IMOS(IMOS_R50)
    # a copy for inference is kept of each network: who works with one precision makes it once
    models = {precision: deepcopy(model) for precision in ("float32", "auto")}
    lines = [
        "| imos-r50, 480 x 480, 12 slices | plain s/slice | ours s/slice | ratio | agreement |",
        "|---|---:|---:|---:|---:|",
    ]
    for objects in (1, 5):
        image, labels = discs(12, 480, objects)
        ids = np.arange(1, objects + 1)[:, None, None]
        masks = torch.from_numpy((labels == ids).astype(np.float32))
        wanted = plain(image, masks, model)
        sides: dict[str, list[float]] = {"plain": [], "float32": [], "auto": []}
        found: dict[str, Labels] = {}
        for _ in range(options.repeats):
            started = time.perf_counter()
            for mask in masks:
                plain(image, mask[None], model)
            sides["plain"].append(time.perf_counter() - started)
            for precision, ours in models.items():
                _, seconds, found[precision] = follow(
                    image, labels, ours, window="full", precision=precision, contrast=(0, 255)
                )
                sides[precision].append(seconds)
        for precision in models:
            before, after = (median(sides[s]) / (len(image) - 1) for s in ("plain", precision))
            same = agreement(found[precision], wanted)
            lines.append(
                f"| {objects} objects, {precision} | {before:.2f} | {after:.2f} | "
                f"{before / after:.2f} | {same:.4f} |"
            )
    return lines


def agreement(a: Labels, b: Labels) -> float:
    """Jaccard index of two label images: the mean over all labels of either."""
    ids = np.union1d(a, b)
    return float(np.mean([jaccard(a == i, b == i) for i in ids[ids > 0]] or [1.0]))


def embedded(options: argparse.Namespace) -> list[str]:
    """Windows of the embedded network."""
    model = imos_core.load_model("imos-compact", device="cpu")
    cases = {
        "512 x 512, 1 object": discs(40, 512, 1),
        "512 x 512, 50 objects": discs(6, 512, 50),
        "2048 x 2048, 1 object": discs(20, 2048, 1),
    }
    firsts: dict[str, list[float]] = {name: [] for name in cases}
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(options.repeats):
        for name, (image, labels) in cases.items():
            first, seconds, _ = follow(image, labels, model)
            firsts[name].append(first)
            rates[name].append(seconds / (len(image) - 1))
    base = median(rates["512 x 512, 1 object"])
    lines = [
        "| imos-compact, window auto | first slice s | slices/s | cost against 1 object |",
        "|---|---:|---:|---:|",
    ]
    for name in cases:
        cost = median(rates[name])
        lines.append(
            f"| {name} | {median(firsts[name]):.2f} | {1 / cost:.1f} | {cost / base:.1f} |"
        )
    return lines


def precisions(options: argparse.Namespace) -> list[str]:
    """The embedded network in each type of arithmetic, in turns."""
    embedded = imos_core.load_model("imos-compact", device="cpu")
    # a copy for inference is kept of each network: who works with one precision makes it once
    models = {name: deepcopy(embedded) for name in ("float32", "bfloat16", "int8")}
    lines = [
        "| imos-compact, 512 x 512 | float32 ms/slice | bfloat16 | int8 | int8 times as fast "
        "as float32, bfloat16 | same pixels as float32: bfloat16, int8 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for objects, count in ((1, 40), (50, 6)):
        image, labels = discs(count, 512, objects)
        sides: dict[str, list[float]] = {name: [] for name in models}
        found: dict[str, Labels] = {}
        for turn in range(options.repeats + 1):
            for name, model in models.items():
                _, seconds, found[name] = follow(image, labels, model, precision=name)
                if turn:  # the first one prepares the network
                    sides[name].append(1000 * seconds / (count - 1))
        plain, half, eight = (median(sides[name]) for name in models)
        same = [agreement(found["float32"], found[name]) for name in ("bfloat16", "int8")]
        lines.append(
            f"| {objects} objects | {plain:.1f} | {half:.1f} | {eight:.1f} "
            f"| {plain / eight:.2f}, {half / eight:.2f} | {same[0]:.3f}, {same[1]:.3f} |"
        )
    return lines


def with_ends(options: argparse.Namespace) -> list[str]:
    """Objects that end along a volume, as cells do: with and without patience."""
    model = imos_core.load_model("imos-compact", device="cpu")
    image, labels = discs(100, 512, 50)
    lasts = np.random.default_rng(0).integers(5, 30, 50)
    empty, _ = discs(4, 512, 50)
    nothing = np.where(labels > 0, 100, empty[0]).astype(np.uint8)
    for t in range(len(image)):
        over = np.isin(labels, 1 + np.flatnonzero(lasts < t))
        image[t][over] = nothing[over]
    sides: dict[str, list[float]] = {"to the end": [], "auto": []}
    for _ in range(options.repeats):
        for name, patience in (("to the end", None), ("auto", "auto")):
            _, seconds, _ = follow(image, labels, model, patience=patience)
            sides[name].append(seconds / (len(image) - 1))
    before, after = (median(sides[name]) for name in ("to the end", "auto"))
    return [
        "| 50 objects that end within 30 of 100 slices | ms/slice | times as fast |",
        "|---|---:|---:|",
        f"| looked for to the end | {1000 * before:.0f} | 1.0 |",
        f"| patience auto | {1000 * after:.0f} | {before / after:.1f} |",
    ]


class _Endless:
    """A volume of any length that takes no memory."""

    def __init__(self, image: Volume, length: int) -> None:
        self._image, self.shape, self.dtype = image, (length, *image.shape[1:]), image.dtype

    def __getitem__(self, where: Any) -> Volume:
        index = where[0] % (2 * len(self._image) - 2)
        # there and back again, so that nothing jumps
        return self._image[min(index, 2 * len(self._image) - 2 - index)]


def flat_cost(options: argparse.Namespace) -> list[str]:
    """Time per slice and memory along a long sequence, for both presets.

    The last slices are timed in turns with the first ones of a second, fresh run, as a shared
    processor's speed drifts by more over minutes than what is asked here.
    """
    torch.manual_seed(0)
    reference = IMOS(IMOS_R50).eval()
    embedded = imos_core.load_model("imos-compact", device="cpu")
    lines = [
        f"| {options.slices} slices | ms/slice, first | last | ratio | MiB, first | last | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    traces = {}
    for name, size, model, window in (
        ("imos-compact, 256 x 256", 256, embedded, "auto"),
        ("imos-r50, computed at 480 x 480", 128, reference, "full"),
    ):
        times, memory = _flat(model, size, window, options.slices)
        first, last = (float(median(side)) for side in zip(*times, strict=True))
        before, after = max(memory[: len(times)]), max(memory)
        lines.append(
            f"| {name} | {1000 * first:.1f} | {1000 * last:.1f} | {last / first:.2f} "
            f"| {before:.0f} | {after:.0f} | {after / before:.2f} |"
        )
        traces[name] = memory
    if options.plot:
        _plot(traces, options.plot)
    return lines


def _flat(
    model: IMOS, size: int, window: str, slices: int
) -> tuple[list[tuple[float, float]], list[float]]:
    """Seconds of the first and the last tenth of slices, in pairs; resident MiB at every slice."""
    image, labels = discs(20, size, 1)

    def walk() -> Iterator[object]:
        endless = _Endless(image, slices)
        how: dict[str, Any] = {"model": model, "window": window, "patience": None}
        return imos_core.propagate(endless, {0: labels}, **how)

    part = max(slices // 10, 1)
    process = psutil.Process()
    old = walk()
    memory = [process.memory_info().rss / 2**20 for _ in islice(old, slices - part)]
    new = walk()
    next(new)
    times: list[tuple[float, float]] = []
    for _ in range(part):
        stamps = [time.perf_counter()]
        for run in (new, old):
            next(run)
            stamps.append(time.perf_counter())
        times.append((stamps[1] - stamps[0], stamps[2] - stamps[1]))
    return times, memory


def _plot(traces: dict[str, list[float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, memory in traces.items():
        axes.plot(memory, label=name)
    axes.set(xlabel="slice", ylabel="resident memory in MiB", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


_FRESH = """
import time; started = time.perf_counter()
import numpy as np, imos_core
image = np.random.default_rng(0).normal(100, 5, (20, 512, 512)).astype(np.float32)
image[:, 200:240, 200:240] += 60
labels = np.zeros((512, 512), np.int32); labels[200:240, 200:240] = 1
slices = imos_core.propagate(image, {0: labels})
next(slices); next(slices)
print(time.perf_counter() - started)
"""
_IMPORT = """
import sys, time; started = time.perf_counter()
import napari_imos
print(time.perf_counter() - started); assert "torch" not in sys.modules
"""


def start_up(options: argparse.Namespace) -> list[str]:
    """Fresh processes: importing the plugin, and the first slice, imports and model included."""
    lines = ["| fresh process | s |", "|---|---:|"]
    for title, code in (("import napari_imos", _IMPORT), ("first slice of 512 x 512", _FRESH)):
        seconds = []
        for _ in range(options.repeats):
            command = [sys.executable, "-c", code]
            seconds.append(float(subprocess.run(command, check=True, capture_output=True).stdout))
        lines.append(f"| {title} | {median(seconds):.2f} |")
    return lines


if __name__ == "__main__":
    main()
