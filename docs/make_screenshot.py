"""Take a picture of napari with the dock widget on a sample: idle, while it runs, or when done.

Without a display: xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshot.py OUT.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import napari
from napari.layers import Layer
from qtpy.QtWidgets import QApplication

from imos_core.samples import sample_names
from napari_imos import _sample_data
from napari_imos._widget import PropagateWidget


def wait(condition, seconds: float = 600.0) -> None:
    """Let Qt work until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"Nothing happened for {seconds:.0f} seconds.")
        QApplication.processEvents()
        time.sleep(0.01)


def settle() -> None:
    """Let Qt lay out and draw."""
    end = time.monotonic() + 0.7
    wait(lambda: time.monotonic() > end)


def take(output: Path, sample: str, when: str, theme: str, *, unfold: bool = False) -> None:
    """Take one picture.

    Parameters
    ----------
    output : Path
        PNG file.
    sample : str
        Name of a sample.
    when : {"idle", "running", "done"}
        What the picture shows.
    theme : {"dark", "light"}
        Theme of napari.
    unfold : bool
        Whether the advanced options are open.
    """
    viewer = napari.Viewer(show=True)
    viewer.theme = theme
    viewer.window.resize(1400, 900)
    for data, attributes, kind in getattr(_sample_data, sample)():
        viewer.add_layer(Layer.create(data, attributes, kind))
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Propagate slice (iMOS)", area="right")
    labels = viewer.layers[-1]
    labels.opacity = 0.6
    prompt = int(labels.data.any(axis=(1, 2)).argmax())
    viewer.dims.set_point(0, prompt * labels.scale[0])
    settle()
    if unfold:
        widget.unfold()
    if when != "idle":
        total = len(labels.data)
        widget.propagate.native.click()
        wait(lambda: widget.slices_done >= total // 5 or widget.propagate.enabled)
        if when == "done":
            wait(lambda: widget.propagate.enabled)
            viewer.dims.set_point(0, (prompt + total // 5) % total * labels.scale[0])
    if when != "running":
        settle()
    viewer.reset_view()
    QApplication.processEvents()
    output.parent.mkdir(parents=True, exist_ok=True)
    viewer.screenshot(str(output), canvas_only=False, flash=False)
    widget.stop.native.click()
    wait(lambda: widget.slices_done == 0)
    viewer.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="PNG file")
    parser.add_argument("--sample", default=sample_names()[0], choices=sample_names())
    parser.add_argument("--when", default="running", choices=["idle", "running", "done"])
    parser.add_argument("--theme", default="dark", choices=["dark", "light"])
    parser.add_argument("--unfold", action="store_true", help="show the advanced options")
    given = parser.parse_args()
    take(given.output, given.sample, given.when, given.theme, unfold=given.unfold)


if __name__ == "__main__":
    main()
