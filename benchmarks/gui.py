"""How long the window is blocked while a propagation streams into 512 x 512 x 300 voxels.

The engine is replaced by one that hands over ready slices as fast as it is told, so that the
numbers are those of the window alone; with ``--engine`` the embedded model runs, and the time from
the click to the first slice is that of a person.

    xvfb-run -a python benchmarks/gui.py [--rate 30] [--engine] [--json FILE]

A timer that should fire every 2 ms writes down when it does: the longest gap is the longest time
for which the window did not answer. Beside it stands the processor time that the window's thread
took within one gap, which does not depend on what else the machine is doing. The slider is moved
all the time, as by a person who scrubs. Last, the timeline strip of 1,000 slices is drawn again and
again, every time with new colours: 60 frames a second leave 16.7 ms for each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_SETTLE = 1.5  # seconds before the click
_SCRUB = 100  # milliseconds between two moves of the slider


@dataclass
class _Slice:
    index: int
    labels: Any
    confidence: Any
    source: str


class Ready:
    """An engine whose slices are ready: discs that wander, at most `rate` a second."""

    def __init__(self, rate: float, shape: tuple[int, ...]) -> None:
        self.pause = 1 / rate
        # made beforehand: nothing but the window should need the interpreter
        self._slices = [disc(shape[1:], k) for k in range(shape[0])]
        self._sure = np.full(shape[1:], 0.9, np.float16)

    def __call__(self, image: Any, prompts: Any, **keywords: Any) -> Any:
        """Yield slices as `imos_core.propagate` does."""
        length = image.shape[0]
        (first,) = prompts
        yield _Slice(first, prompts[first], self._sure, "anchor")
        for k in sorted(set(range(length)) - {first}, key=lambda k: abs(k - first)):
            time.sleep(self.pause)
            if keywords["cancel"].is_set():
                return
            yield _Slice(k, self._slices[k], self._sure, "forward" if k > first else "backward")


def disc(plane: tuple[int, int], k: int) -> np.ndarray:
    """Three discs of a slice, `(H, W)`, labels 1 to 3."""
    rows, columns = np.ogrid[: plane[0], : plane[1]]
    labels = np.zeros(plane, np.uint8)
    for label in (1, 2, 3):
        y, x = plane[0] * label / 4, plane[1] / 2 + 0.2 * plane[1] * np.sin(k / 40 + label)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < (plane[0] / 10) ** 2] = label
    return labels


class Gaps:
    """Times at which a quick timer fired."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.times: list[float] = []
        self.used: list[float] = []
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(2)

    def _tick(self) -> None:
        self.times.append(time.perf_counter())
        self.used.append(time.thread_time())

    def used_between(self, begin: float, end: float) -> np.ndarray:
        """Processor time within the gaps of a stretch, in milliseconds."""
        used = [u for t, u in zip(self.times, self.used, strict=True) if begin < t < end]
        return np.diff(used) * 1000

    def between(self, begin: float, end: float) -> np.ndarray:
        """Gaps within a stretch, in milliseconds."""
        times = np.asarray([begin, *(t for t in self.times if begin < t < end), end])
        return np.diff(times) * 1000

    def worst_at(self, begin: float, end: float) -> float:
        """When the gap of the most processor time was over."""
        times = [t for t in self.times if begin < t < end]
        return times[int(self.used_between(begin, end).argmax()) + 1]


def timeline_ms(slices: int = 1000, frames: int = 200) -> np.ndarray:
    """Time to draw the timeline strip, a tenth of whose slices are anchors, in milliseconds."""
    from napari_imos._record.provenance import Kind, Provenance
    from napari_imos._timeline import Timeline

    rng, record, timeline = np.random.default_rng(0), Provenance(slices), Timeline()
    record.kind[:] = Kind.PREDICTED
    timeline.resize(600, timeline.sizeHint().height())
    took = []
    for k in range(frames):
        record.confidence[:] = rng.random(slices)
        begin = time.perf_counter()
        timeline.show_record(record, np.arange(0, slices, 10))
        timeline.show_current(k)
        timeline.grab()
        took.append(time.perf_counter() - begin)
    return 1000 * np.asarray(took)


def main() -> int:
    """Measure, and say it in one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="300,512,512", help="slices, rows, columns")
    parser.add_argument("--rate", type=float, default=30, help="slices a second")
    parser.add_argument("--engine", action="store_true", help="run the embedded model")
    parser.add_argument("--slices", type=int, default=0, help="stop after so many; 0: all")
    parser.add_argument("--still", action="store_true", help="do not scrub")
    parser.add_argument("--json", type=Path, help="where the numbers go as well")
    options = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "xcb" if "DISPLAY" in os.environ else "offscreen")
    shape = tuple(int(n) for n in options.shape.split(","))

    import napari
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    import imos_core
    from napari_imos._widget import PropagateWidget

    if not options.engine:
        vars(imos_core)["propagate"] = Ready(options.rate, shape)
    rng = np.random.default_rng(0)
    image = np.empty(shape, np.uint8)
    for k in range(shape[0]):
        image[k] = 60 + 40 * (disc(shape[1:], k) > 0) + rng.integers(0, 40, shape[1:])
    labels_data = np.zeros(shape, np.uint8)
    middle = shape[0] // 2
    labels_data[middle] = disc(shape[1:], middle)

    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1400, 1000)
    viewer.add_image(image)
    labels = viewer.add_labels(labels_data)
    viewer.dims.set_current_step(0, middle)
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Propagate slice")
    gaps, scrubbing = Gaps(), QTimer()
    moves = iter(rng.integers(0, shape[0], 1_000_000).tolist())
    scrubbing.timeout.connect(lambda: viewer.dims.set_current_step(0, next(moves)))

    def run_until(done: Any, limit: float = 3600) -> float:
        end = time.perf_counter() + limit
        while not done() and time.perf_counter() < end:
            QApplication.processEvents()
            time.sleep(0.0005)
        return time.perf_counter()

    begin = time.perf_counter()
    settled = run_until(lambda: False, _SETTLE)
    if not options.still:
        scrubbing.start(_SCRUB)
        idle = (settled, run_until(lambda: False, 2.0))
    else:
        idle = (begin, settled)
    clicked, busy = time.perf_counter(), time.process_time()
    widget.propagate.native.click()
    # the prompt comes first: a slice is what was not painted
    first = run_until(lambda: widget.slices_done >= 2)
    busy = time.process_time() - busy
    if options.slices:
        run_until(lambda: widget.slices_done >= options.slices or not widget.stop.enabled)
        widget.stop.native.click()
    streamed = run_until(lambda: widget.status.value.startswith(("Finishing", "Done", "Stopped:")))
    finished = run_until(lambda: widget.propagate.enabled)
    scrubbing.stop()
    during, ending = gaps.between(clicked, streamed), gaps.between(streamed, finished)
    before, strip = gaps.between(*idle), timeline_ms()
    result = {
        "shape": shape,
        "engine": bool(options.engine),
        "first_slice_s": round(first - clicked, 2),
        "first_slice_cpu_s": round(busy, 2),
        "slices_per_s": round(int(labels.data.any(axis=(1, 2)).sum()) / (streamed - clicked), 1),
        "worst_ms": round(float(during.max()), 1),
        "p99_ms": round(float(np.percentile(during, 99)), 1),
        "over_50_ms": int((during > 50).sum()),
        "worst_cpu_at_s": round(gaps.worst_at(clicked, finished) - clicked, 2),
        "worst_cpu_ms": round(float(gaps.used_between(clicked, finished).max()), 1),
        "worst_cpu_without_propagation_ms": round(float(gaps.used_between(*idle).max()), 1),
        "worst_while_finishing_ms": round(float(ending.max()), 1),
        "finishing_s": round(finished - streamed, 2),
        "worst_without_propagation_ms": round(float(before.max()), 1),
        "timeline_median_ms": round(float(np.median(strip)), 2),
        "timeline_worst_ms": round(float(strip.max()), 2),
        "load": os.getloadavg()[0],
    }
    sys.stdout.write(json.dumps(result) + "\n")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    viewer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
