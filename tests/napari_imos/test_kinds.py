"""Every kind of layer that people have: one click, and what is painted goes where it should."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from test_widget import click, wait, wait_done

import napari_imos
from napari_imos._layers import read_job
from napari_imos._picture import Picture
from napari_imos._record.ledger import Ledger
from napari_imos._walk import find_walk, shown_axis, shown_slice
from napari_imos._widget import PropagateWidget

OBJECT = (slice(4, 10), slice(4, 10))
INTEGERS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"]


def run(qtbot, widget):
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert widget.status.value.startswith("Done"), widget.status.value


def docked(viewer):
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    return widget


# ---- Order of the axes ----


@pytest.mark.parametrize("turn", ["transpose", "roll", "reversed"])
def test_turned_dims(qtbot, engine, make_napari_viewer, volume, turn):
    viewer = make_napari_viewer()
    viewer.add_image(volume, scale=(3, 1, 0.5))
    labels = viewer.add_labels(np.zeros(volume.shape, np.uint8), scale=(3, 1, 0.5))
    widget = docked(viewer)
    match turn:
        case "transpose":
            viewer.dims.transpose()
        case "roll":
            viewer.dims.roll()
        case "reversed":
            viewer.dims.order = (2, 1, 0)
    axis = viewer.dims.order[0]
    assert widget.choices.walked_axis == axis
    k = volume.shape[axis] // 2
    viewer.dims.set_point(axis, k * labels.scale[axis])
    at = [9, 9, 9]
    at[axis] = k
    labels.brush_size = 4
    labels.paint(at, 3)
    painted = np.take(labels.data, k, axis).copy()
    assert painted.any()
    wait(qtbot, lambda: widget.prompt.value == f"Prompt: slice {k}, label 3")
    run(qtbot, widget)
    assert engine.calls[0]["axis"] == axis
    for plane in np.moveaxis(labels.data, axis, 0):
        np.testing.assert_array_equal(plane, painted)
    labels.undo()
    assert np.count_nonzero(labels.data.any(axis=tuple(a for a in range(3) if a != axis))) == 1


def test_four_axes_turned(qtbot, engine, make_napari_viewer):
    viewer = make_napari_viewer()
    pixels = np.random.default_rng(0).random((3, 6, 12, 14))
    viewer.add_image(pixels, axis_labels=[*"tzyx"])
    labels = viewer.add_labels(np.zeros(pixels.shape, np.uint8), axis_labels=[*"tzyx"])
    widget = docked(viewer)
    viewer.dims.order = (1, 0, 2, 3)  # z outermost: time is walked
    assert widget.choices.walked_axis == 0
    viewer.dims.set_point((0, 1), (1, 4))
    labels.data[1, 4, 3:6, 3:6] = 1
    labels.refresh()
    widget.choices._series_box.value = 1
    assert widget.choices._series_box.current_choice == "all of z"
    run(qtbot, widget)
    assert (labels.data == 1).sum() == 3 * 6 * 9
    assert engine.calls[0]["image"].shape == (3, 12, 14)


def test_the_axis_by_name(engine, volume, painted):
    viewer = ViewerModel()
    image = viewer.add_image(volume, axis_labels=("slice", "row", "column"))
    labels = viewer.add_labels(painted, axis_labels=("slice", "row", "column"))
    napari_imos.propagate(image, labels, axis="row", anchors=[8])
    assert engine.calls[0]["axis"] == 1
    assert list(engine.calls[0]["prompts"]) == [8]


# ---- Scale and position ----


def test_oblong_voxels_away_from_the_origin(qtbot, engine, make_napari_viewer, volume):
    viewer = make_napari_viewer()
    place = {"scale": (4, 0.5, 0.25), "translate": (100, -7, 3)}
    viewer.add_image(volume, **place)
    labels = viewer.add_labels(np.zeros(volume.shape, np.uint8), **place)
    labels.data[(5, *OBJECT)] = 1
    widget = docked(viewer)
    viewer.dims.set_point(0, 100 + 4 * 5)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 5, label 1")
    run(qtbot, widget)
    assert engine.calls[0]["spacing"] == (4.0, 0.5, 0.25)
    assert (labels.data[(slice(None), *OBJECT)] == 1).all()


@pytest.mark.parametrize(
    ("geometry", "serves"),
    [
        ({"scale": (3, 1, 1), "translate": (0.4, 0, 0)}, True),
        ({"scale": (3.01, 1, 1)}, True),
        ({"scale": (3, 1, 1), "translate": (3, 0, 0)}, False),
        ({"scale": (3, 1.2, 1.2)}, False),
        ({"scale": (1, 1, 1)}, False),
    ],
)
def test_places_that_differ_are_said_before_the_press(
    qtbot, engine, make_napari_viewer, volume, painted, geometry, serves
):
    viewer = make_napari_viewer()
    image = viewer.add_image(volume, name="ct", scale=(3, 1, 1))
    viewer.add_labels(painted, **geometry)
    widget = docked(viewer)
    viewer.window._qt_window.show()
    assert widget.renew.visible is not serves
    assert ("does not lie on the image" in widget.prompt.value) is not serves
    if not serves:
        click(qtbot, widget.renew)
        new = viewer.layers[-1]
        np.testing.assert_allclose(new.scale, image.scale)
        np.testing.assert_array_equal(new.data, painted)
        assert not widget.renew.visible
    viewer.dims.set_point(0, 15)
    run(qtbot, widget)
    assert (viewer.layers[-1].data[:, 5, 5] == 1).all()


# ---- More and fewer axes ----


def test_labels_with_fewer_axes_than_the_image(qtbot, engine, make_napari_viewer, painted):
    viewer = make_napari_viewer()
    stack = np.random.default_rng(0).random((3, *painted.shape))
    viewer.add_image(stack, axis_labels=[*"tzyx"])
    labels = viewer.add_labels(painted)
    viewer.dims.set_point((0, 1), (2, 5))
    widget = docked(viewer)
    assert widget.choices.walked_axis == 0
    run(qtbot, widget)
    np.testing.assert_array_equal(engine.calls[0]["image"][7], stack[2, 7])
    assert (labels.data[:, 5, 5] == 1).all()


def test_labels_with_more_axes_than_the_image(qtbot, engine, make_napari_viewer, volume):
    viewer = make_napari_viewer()
    viewer.add_image(volume)
    labels = viewer.add_labels(np.zeros((3, *volume.shape), np.uint8))
    labels.data[(2, 5, *OBJECT)] = 1
    viewer.dims.set_point((0, 1), (2, 5))
    widget = docked(viewer)
    assert widget.prompt.value == "Prompt: slice 5, label 1"
    run(qtbot, widget)
    assert (labels.data[(2, slice(None), *OBJECT)] == 1).all()
    assert not labels.data[:2].any()


def test_five_axes(engine):
    viewer = ViewerModel()
    pixels = np.random.default_rng(0).random((2, 3, 5, 8, 9))
    image = viewer.add_image(pixels)
    labels = viewer.add_labels(np.zeros(pixels.shape, np.uint8))
    labels.data[1, 2, 3, 2:5, 2:5] = 1
    viewer.dims.set_point((0, 1, 2), (1, 2, 3))
    walk = find_walk(labels, shown_axis(labels, viewer), viewer)
    assert walk.fixed == ((0, 1), (1, 2))
    assert shown_slice(labels, walk, viewer) == 3
    job = read_job(image, labels, 2, None, None, viewer, Ledger.of(labels))
    np.testing.assert_array_equal(job.image[4], pixels[1, 2, 4])


def test_lazy_images_beside_labels_with_an_axis_less(painted, tmp_path):
    stack = np.random.default_rng(0).random((3, *painted.shape))
    stored = zarr.create_array(tmp_path / "a.zarr", data=stack, chunks=(1, 1, 20, 24))
    for lazy in (stored, da.from_array(stack, chunks=(1, 1, 20, 24))):
        viewer = ViewerModel()
        image = viewer.add_image(lazy, contrast_limits=(0, 1), axis_labels=[*"tzyx"])
        labels = viewer.add_labels(painted)
        viewer.dims.set_point(0, 1)
        pixels = Picture(image, labels, viewer).on(find_walk(labels, 0, viewer))
        np.testing.assert_array_equal(np.asarray(pixels[4]), stack[1, 4])


# ---- Labels ----


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_every_integer_type(engine, volume, painted, dtype):
    big = min(int(np.iinfo(dtype).max), 2**40) if dtype != "u4" else 2**32 - 1
    data = np.where(painted == 1, big, painted.astype("i8")).astype(dtype)
    viewer = ViewerModel()
    image, labels = viewer.add_image(volume), viewer.add_labels(data)
    napari_imos.propagate(image, labels)
    assert labels.data.dtype == dtype
    assert (labels.data[:, 5, 5] == big).all()
    assert (labels.data[:, 9, 15] == 2).all()
    labels.undo()
    np.testing.assert_array_equal(labels.data, data)
    assert Ledger.of(labels).anchors(labels, find_walk(labels, 0, None)) == [5]


def test_several_labels_layers_do_not_mix(qtbot, engine, make_napari_viewer, volume, painted):
    viewer = make_napari_viewer()
    viewer.add_image(volume)
    first = viewer.add_labels(np.where(painted == 1, 1, 0), name="first")
    second = viewer.add_labels(np.where(painted == 2, 2, 0), name="second")
    viewer.dims.set_point(0, 5)
    widget = docked(viewer)
    assert widget.choices.labels_layer is second
    run(qtbot, widget)
    assert (second.data[:, 9, 15] == 2).all()
    assert first.data.any(axis=(1, 2)).sum() == 1
    viewer.layers.selection.active = first
    assert widget.prompt.value == "Prompt: slice 5, label 1"
    run(qtbot, widget)
    assert (first.data[:, 5, 5] == 1).all()
    assert not (second.data == 1).any()
    first.undo()
    assert first.data.any(axis=(1, 2)).sum() == 1
    assert second.data.any(axis=(1, 2)).all(), "each has its own steps of undo"
    # a run goes on in its layer while another one is chosen
    engine.hold_at = 9
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: bool(first.data[8].any()))
    viewer.layers.selection.active = second
    engine.release.set()
    wait_done(qtbot, widget)
    assert (first.data[:, 5, 5] == 1).all()
    assert not (second.data == 1).any()


def test_one_label_in_several_parts(qtbot, engine, make_napari_viewer, volume):
    viewer = make_napari_viewer()
    viewer.add_image(volume)
    labels = viewer.add_labels(np.zeros(volume.shape, np.uint16))
    parts = [(slice(1, 4), slice(1, 4)), (slice(12, 16), slice(2, 5)), (slice(6, 9), slice(18, 22))]
    for part in parts:
        labels.data[(5, *part)] = 4
    viewer.dims.set_point(0, 5)
    widget = docked(viewer)
    run(qtbot, widget)
    for part in parts:
        assert (labels.data[(slice(None), *part)] == 4).all()
    # a part is erased on one slice: the others stay, and the slice is as it was left
    labels.data[(9, *parts[0])] = 0
    labels.refresh()
    viewer.dims.set_point(0, 9)
    kept = labels.data[9].copy()
    run(qtbot, widget)
    np.testing.assert_array_equal(labels.data[9], kept)
    assert not labels.data[(11, *parts[0])].any()
    assert (labels.data[(11, *parts[1])] == 4).all()


@pytest.mark.parametrize("kind", ["read-only", "multiscale", "zarr read-only"])
def test_labels_that_cannot_be_written(
    qtbot, engine, make_napari_viewer, volume, painted, kind, tmp_path
):
    viewer = make_napari_viewer()
    viewer.add_image(volume, name="ct")
    match kind:
        case "read-only":
            data = painted.copy()
            data.flags.writeable = False
        case "multiscale":
            data = [painted, painted[:, ::2, ::2]]
        case "zarr read-only":
            zarr.create_array(tmp_path / "a.zarr", data=painted)
            data = zarr.open_array(tmp_path / "a.zarr", mode="r")
    layer = viewer.add_labels(data)
    viewer.dims.set_point(0, 5)
    widget = docked(viewer)
    viewer.window._qt_window.show()
    assert kind.split()[-1] in widget.prompt.value
    assert widget.renew.visible
    click(qtbot, widget.renew)
    new = viewer.layers[-1]
    assert new is not layer
    np.testing.assert_array_equal(new.data, painted)
    run(qtbot, widget)
    assert (new.data[:, 5, 5] == 1).all()
