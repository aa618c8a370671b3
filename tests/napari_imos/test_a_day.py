"""A person's day: paint, propagate, scrub, stop, correct, propagate, undo, save, reopen."""

from __future__ import annotations

from dataclasses import dataclass

import dask.array as da
import numpy as np
import pytest
import zarr
from npe2 import PluginManifest
from qtpy.QtWidgets import QFileDialog
from test_widget import MANIFEST, click, wait, wait_done

from napari_imos._widget import PropagateWidget

OBJECT = (slice(4, 10), slice(4, 10))


@dataclass
class Scene:
    """Layers of a kind; `at` turns a slice of the walk into an index of the labels."""

    image: object
    labels: object
    axis: int
    lead: tuple[int, ...] = ()
    rgb: bool = False
    scale: tuple[float, ...] | None = None
    name: str = "day.npy"

    def at(self, index):
        return (*self.lead, index)


def scenes(name: str, folder) -> Scene:
    pixels = np.random.default_rng(0).integers(0, 200, (12, 20, 24)).astype(np.uint8)
    empty = np.zeros((12, 20, 24), np.uint8)
    match name:
        case "3D":
            return Scene(pixels, empty, 0, name="day.tif")
        case "anisotropic":
            return Scene(
                pixels, empty.astype(np.int64), 0, scale=(2.5, 0.5, 0.5), name="day.nii.gz"
            )
        case "4D along z":
            return Scene(np.stack([pixels] * 3), np.stack([empty] * 3), 1, (1,))
        case "3D labels of a 4D image":
            return Scene(np.stack([pixels] * 3), empty, 0)
        case "RGB":
            return Scene(np.stack([pixels] * 3, axis=-1), empty, 0, rgb=True)
        case "dask":
            return Scene(da.from_array(pixels, chunks=(1, 20, 24)), empty, 0)
        case "zarr":
            stored = zarr.create_array(folder / "image.zarr", data=pixels, chunks=(1, 20, 24))
            return Scene(stored, empty, 0, name="day.zarr")
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name",
    ["3D", "anisotropic", "4D along z", "3D labels of a 4D image", "RGB", "dask", "zarr"],
)
def test_a_day(name, qtbot, engine, make_napari_viewer, npe2pm, tmp_path, monkeypatch):
    scene = scenes(name, tmp_path)
    viewer = make_napari_viewer()
    image = viewer.add_image(scene.image, rgb=scene.rgb)
    labels = viewer.add_labels(scene.labels)
    if scene.scale is not None:
        image.scale = labels.scale = scene.scale
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    slider = scene.axis + viewer.dims.ndim - labels.ndim

    def go(layer, index):
        for axis, position in enumerate(scene.lead):
            viewer.dims.set_current_step(axis, position)
        viewer.dims.set_current_step(slider, index)

    def paint(layer, index, row, label=1, size=6):
        go(layer, index)
        layer.brush_size = size
        layer.paint((*scene.at(index), row, row), label)

    def filled(layer, index):
        return bool(layer.data[(*scene.at(index), 7, 7)])

    # paint and propagate, scrub and stop
    paint(labels, 5, 7)
    assert widget.choices.walked_axis == scene.axis
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 5, label 1")
    engine.hold_at = 9
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: filled(labels, 8))
    for k in (2, 11, 4):
        go(labels, k)
        qtbot.wait(10)
    click(qtbot, widget.stop)
    engine.release.set()
    wait_done(qtbot, widget)
    assert not filled(labels, 11)

    # go on, correct, propagate again
    engine.hold_at = None
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert all(filled(labels, k) for k in range(12))
    assert labels.data.any(axis=(-1, -2)).sum() == 12, "nothing beyond the walk"
    before = labels.data.copy()
    paint(labels, 9, 15, size=2)
    corrected = labels.data[scene.at(9)].copy()
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 9 (with 5), label 1")
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert (engine.calls[-1]["start"], engine.calls[-1]["stop"]) == (6, 12)
    assert labels.data[(*scene.at(11), 15, 15)] == 1
    np.testing.assert_array_equal(labels.data[scene.at(9)], corrected)

    # undo the run, then the stroke
    labels.undo()
    assert labels.data[(*scene.at(11), 15, 15)] == 0
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    labels.redo()

    # save, and reopen on another day
    path = tmp_path / scene.name
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(path), ""))
    click(qtbot, widget.saving.save)
    assert widget.status.value.startswith("Saved ")
    saved = labels.data.copy()
    viewer.layers.remove(labels)
    if path.suffix in (".gz", ".zarr"):
        with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)):
            (again,) = viewer.open(path, plugin="napari-imos")
    else:
        with npe2pm.tmp_plugin(manifest=PluginManifest.from_distribution("napari")):
            (again,) = viewer.open(path, plugin="napari", layer_type="labels")
    assert widget.status.value.startswith("Took over ")
    np.testing.assert_array_equal(again.data, saved)
    again.scale = image.scale[-again.ndim :] if not scene.rgb else image.scale
    go(again, 9)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 9 (with 5), label 1")
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert (engine.calls[-1]["start"], engine.calls[-1]["stop"]) == (6, 12)
    assert again.data[(*scene.at(11), 15, 15)] == 1


def test_what_cannot_work_is_said_before_and_a_new_layer_offered(qtbot, engine, make_napari_viewer):
    viewer = make_napari_viewer()
    pixels = np.random.default_rng(0).integers(0, 200, (12, 20, 24)).astype(np.uint8)
    image = viewer.add_image(pixels, scale=(3, 1, 1), name="ct")
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.window._qt_window.show()
    assert widget.renew.visible
    assert widget.prompt.value == "Add a Labels layer and paint an object on one slice."
    click(qtbot, widget.renew)
    labels = viewer.layers["ct labels"]
    assert labels.data.shape == image.data.shape
    np.testing.assert_allclose(labels.scale, image.scale)
    assert viewer.layers.selection.active is labels
    assert labels.mode == "paint"
    assert widget.status.value == "Paint over an object on this slice, then press Propagate."
    assert not widget.renew.visible

    data = np.zeros((12, 20, 24), np.uint8)
    data[5, 4:9, 4:9] = 1
    frozen = data.copy()
    frozen.flags.writeable = False
    for name, given, place, word in [
        ("frozen", frozen, 0, "read-only"),
        ("pyramid", [data, data[:, ::2, ::2]], 0, "multiscale"),
        ("beside", data[:, ::2], 99, "does not lie on the image"),
    ]:
        layer = viewer.add_labels(given, name=name, scale=(3, 1, 1), translate=(0, 0, place))
        assert word in widget.prompt.value
        assert widget.renew.visible
        click(qtbot, widget.renew)
        new = viewer.layers[-1]
        assert new is not layer
        assert new.data.shape == (12, 20, 24)
        assert new.data[5].any() == (name != "beside")
        assert not widget.renew.visible
        assert engine.calls == []
        viewer.layers.remove(new)
        viewer.layers.remove(layer)


def test_a_multiscale_image_is_read_at_its_finest(qtbot, engine, make_napari_viewer):
    viewer = make_napari_viewer()
    pixels = np.random.default_rng(0).integers(0, 200, (12, 20, 24)).astype(np.uint8)
    viewer.add_image([pixels, pixels[:, ::2, ::2]])
    labels = viewer.add_labels(np.zeros((12, 20, 24), np.uint8))
    labels.data[5, 4:9, 4:9] = 1
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert engine.calls[0]["image"].shape == (12, 20, 24)
    assert labels.data.any(axis=(1, 2)).all()
