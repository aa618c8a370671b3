"""Images with several channels: up to three of them are what the engine sees as colours."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, Qt
from superqt import QCollapsible
from test_widget import click, wait, wait_done

import napari_imos
from imos_core.arrays.channels import StackedChannels, limits_of
from imos_core.errors import PromptError
from imos_core.sweep import Sweep
from napari_imos._layers import fitting_image, read_job
from napari_imos._new_labels import add_labels_for
from napari_imos._picture import channel_axis
from napari_imos._record.ledger import Ledger
from napari_imos._widget import PropagateWidget

SHAPE = (12, 20, 24)
RANGES = (10, 200, 4000, 60000)  # channels differ in brightness


@pytest.fixture
def pixels():
    """`(4, 12, 20, 24)`: four channels."""
    noise = np.random.default_rng(0).random((4, *SHAPE))
    return (noise * np.reshape(RANGES, (4, 1, 1, 1))).astype(np.uint16)


def job_of(image, labels, viewer=None, channels=None):
    return read_job(image, labels, 0, [5], None, viewer, Ledger.of(labels), channels=channels)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize("named", [True, False])
def test_a_channel_axis_wherever_it_stands(pixels, painted, at, named):
    moved = np.moveaxis(pixels, 0, at)
    names = [*"zyx"]
    names.insert(at, "c")
    viewer = ViewerModel()
    image = viewer.add_image(moved, rgb=False, **({"axis_labels": names} if named else {}))
    labels = viewer.add_labels(painted)
    assert channel_axis(image, labels) == at
    job = job_of(image, labels, viewer, [3, 0, 1])
    assert job.keywords["channels_last"]
    assert job.keywords["contrast"] == (0.0, 1.0)
    assert job.image.shape == (*SHAPE, 3)
    frame = Sweep(job.image, 0, channels_last=True).frame(7)
    for colour, channel in enumerate([3, 0, 1]):
        truth = pixels[channel, 7] / RANGES[channel]
        inside = (frame[..., colour] > 0) & (frame[..., colour] < 1)
        assert np.corrcoef(frame[..., colour][inside], truth[inside])[0, 1] > 0.99
        assert 0.4 < frame[..., colour].mean() < 0.6, "each channel has limits of its own"


def test_one_two_and_no_channels(pixels, painted):
    viewer = ViewerModel()
    image = viewer.add_image(pixels, axis_labels=("channel", "z", "y", "x"))
    labels = viewer.add_labels(painted)
    one = job_of(image, labels, viewer, [2])
    assert not one.keywords["channels_last"]
    assert "contrast" not in one.keywords, "the layer's limits are those of all channels"
    np.testing.assert_array_equal(one.image[4], pixels[2, 4])
    two = job_of(image, labels, viewer, [0, 1]).image[4]
    np.testing.assert_allclose(two[..., 2], two[..., :2].mean(-1), rtol=1e-6)
    viewer.dims.set_point(0, 3)
    shown = job_of(image, labels, viewer)
    np.testing.assert_array_equal(shown.image[4], pixels[3, 4])
    assert shown.keywords["contrast"] == tuple(image.contrast_limits)


def test_labels_with_the_channel_axis_too(pixels, painted):
    """napari's own button makes labels of the image's shape."""
    viewer = ViewerModel()
    image = viewer.add_image(pixels, axis_labels=[*"czyx"])
    labels = viewer.add_labels(np.stack([painted] * 4), axis_labels=[*"czyx"])
    viewer.dims.set_point((0, 1), (2, 5))
    job = read_job(image, labels, "z", [5], None, viewer, Ledger.of(labels), channels=[0, 1, 3])
    assert job.image.shape == (*SHAPE, 3)
    assert job.walk.fixed == ((0, 2),)
    with pytest.raises(PromptError, match="'c' holds channels"):
        read_job(image, labels, "c", [2], None, viewer, Ledger.of(labels), channels=[0, 1])


def test_layers_as_channels(pixels, painted, engine):
    viewer = ViewerModel()
    images = [
        viewer.add_image(one, contrast_limits=(0, r)) for one, r in zip(pixels, RANGES, strict=True)
    ]
    labels = viewer.add_labels(painted)
    napari_imos.propagate(images[0], labels, channels=images[:3])
    call = engine.calls[0]
    assert call["channels_last"]
    expected = np.clip(pixels[:3, 6] / np.reshape(RANGES[:3], (3, 1, 1)), 0, 1)
    np.testing.assert_allclose(call["image"][6], np.moveaxis(expected, 0, -1), rtol=1e-5)
    assert (labels.data[:, 5, 5] == 1).all()


def test_lazy_arrays_are_read_slice_by_slice(pixels, painted):
    read = []

    def load(block, block_info=None):
        read.append(block_info[0]["array-location"][:2] if block_info else None)
        return block

    lazy = da.from_array(pixels, chunks=(1, 1, 20, 24)).map_blocks(load, dtype=pixels.dtype)
    viewer = ViewerModel()
    image = viewer.add_image(lazy, contrast_limits=(0, 1000), axis_labels=[*"czyx"])
    labels = viewer.add_labels(painted)
    job = job_of(image, labels, viewer, [0, 2])
    read.clear()
    job.image[9]
    assert sorted(read) == [[(0, 1), (9, 10)], [(2, 3), (9, 10)]]


def test_arrays(pixels, painted, engine):
    napari_imos.propagate(pixels, painted, channels=[0, 1, 2])
    assert engine.calls[0]["image"].shape == (*SHAPE, 3)
    assert engine.calls[0]["channels_last"]
    for number, one in enumerate(([1], 1), 1):
        napari_imos.propagate(pixels, painted, channels=one)
        assert engine.calls[number]["image"].shape == SHAPE
        assert not engine.calls[number]["channels_last"]
        np.testing.assert_array_equal(np.asarray(engine.calls[number]["image"]), pixels[1])


def test_one_channel_needs_no_list(pixels, painted):
    viewer = ViewerModel()
    image = viewer.add_image(pixels, axis_labels=[*"czyx"])
    labels = viewer.add_labels(painted)
    np.testing.assert_array_equal(job_of(image, labels, viewer, 0).image[9], pixels[0, 9])
    other = viewer.add_image(pixels[2])
    np.testing.assert_array_equal(job_of(image, labels, viewer, other).image[9], pixels[2, 9])


@pytest.mark.parametrize("names", ["zyx", "tzyx"], ids=["volume", "series"])
@pytest.mark.parametrize("layer", [False, True], ids=["number", "layer"])
def test_nor_does_one_of_layers(painted, engine, names, layer):
    shape = (3, *SHAPE)[-len(names) :]
    pixels = np.random.default_rng(0).random((2, *shape))
    viewer = ViewerModel()
    image = viewer.add_image(pixels, axis_labels=[*"c", *names])
    beside = viewer.add_image(pixels[0], axis_labels=[*names])
    labels = viewer.add_labels(np.zeros(shape, np.uint8), axis_labels=[*names])
    labels.data[..., 5, :, :] = painted[5]
    series = "t" if "t" in names else None
    channel = beside if layer else 0
    napari_imos.propagate(image, labels, axis="z", series=series, channels=channel)
    assert (labels.data[..., 5, 5] == 1).all()
    seen = pixels[0, 0, 3] if series else pixels[0, 3]
    np.testing.assert_array_equal(np.asarray(engine.calls[0]["image"][3]), seen)


def test_a_series_of_channels(painted, engine):
    pixels = np.random.default_rng(0).random((3, 2, *SHAPE))
    viewer = ViewerModel()
    image = viewer.add_image(pixels, axis_labels=[*"tczyx"])
    labels = viewer.add_labels(np.zeros((3, *SHAPE), np.uint8), axis_labels=[*"tzyx"])
    labels.data[1] = painted
    napari_imos.propagate(image, labels, axis="z", series="t", channels=[0, 1])
    shapes = {call["image"].shape for call in engine.calls}
    assert shapes == {(*SHAPE, 3), (3, 20, 24, 3)}
    assert (labels.data[:, :, 5, 5] == 1).all()
    given = np.zeros((3, *SHAPE), np.uint8)
    given[1] = painted
    result = napari_imos.propagate(pixels, given, axis=1, series=0, channels=[0, 1])
    assert (result[:, :, 5, 5] == 1).all()


@pytest.mark.parametrize(("axis", "series"), [(0, None), (-1, None), (1, 0), (3, 1)])
def test_channels_of_arrays_are_as_bright_as_the_prompts(engine, axis, series):
    pixels = 1000 + np.random.default_rng(0).random((2, 3, 6, 7, 8))  # c, t, z, y, x
    labels = np.zeros(pixels.shape[1:], np.uint8)
    labels[1, [2, 4], 2:4, 2:4] = 1
    pixels[:, 1, 4] -= 1000  # the prompt, which alone is dark
    pixels[1, 1, 4] *= 50
    if series is None:
        pixels, labels = pixels[:, 1], labels[1]
    places = [axis % 3] if series is None else [series, axis]
    labels = np.moveaxis(labels, range(len(places)), places)
    pixels = np.moveaxis(pixels, range(1, len(places) + 1), [a + 1 for a in places])
    napari_imos.propagate(pixels, labels, axis=axis, series=series, anchors=-2, channels=[0, 1])
    call = engine.calls[0]
    shades = Sweep(call["image"], call["axis"], channels_last=True).frame(4).mean((0, 1))
    np.testing.assert_allclose(shades, 0.5, atol=0.1)


@pytest.mark.parametrize(
    ("channels", "sentence"),
    [
        ([0, 1, 2, 3], "up to 3 channels"),
        ([4], "no channel 4"),
        (["red"], "numbers, or as grey"),
        ("red", "numbers, or as grey"),
        (1.5, "numbers, or as grey"),
    ],
)
def test_channels_that_are_not_there(pixels, painted, channels, sentence):
    viewer = ViewerModel()
    image, labels = viewer.add_image(pixels, axis_labels=[*"czyx"]), viewer.add_labels(painted)
    with pytest.raises(PromptError, match=sentence):
        job_of(image, labels, viewer, channels)
    flat = viewer.add_image(pixels[0])
    with pytest.raises(PromptError, match="no channel axis"):
        job_of(flat, labels, viewer, [0])
    with pytest.raises(PromptError, match="one axis more"):
        napari_imos.propagate(pixels[0], painted, channels=[0])
    with pytest.raises(PromptError, match="channels must be whole numbers"):
        napari_imos.propagate(pixels, painted, channels="red")


def test_time_is_no_channel_axis(pixels, painted):
    viewer = ViewerModel()
    image, labels = viewer.add_image(pixels, axis_labels=[*"tzyx"]), viewer.add_labels(painted)
    assert channel_axis(image, labels) is None
    long = viewer.add_image(np.zeros((9, *SHAPE)))
    assert channel_axis(long, labels) is None


def test_new_labels_have_no_channels(pixels):
    viewer = ViewerModel()
    image = viewer.add_image(pixels, axis_labels=[*"czyx"], scale=(1, 3, 0.5, 0.5))
    labels = add_labels_for(viewer, image)
    assert labels.data.shape == SHAPE
    np.testing.assert_allclose(labels.scale, (3, 0.5, 0.5))
    assert fitting_image(viewer.layers, labels) is image


@pytest.mark.parametrize(("names", "axis"), [("tczyx", 1), ("tzcyx", 2), ("zcyx", 1)])
def test_channels_behind_other_axes_are_split(qtbot, engine, make_napari_viewer, names, axis):
    """napari would lay the labels' axes on those of the channels."""
    sizes = {"t": 3, "c": 2, "z": 12, "y": 20, "x": 24}
    pixels = np.random.default_rng(0).integers(0, 200, [sizes[n] for n in names], dtype=np.uint8)
    viewer = make_napari_viewer()
    image = viewer.add_image(
        pixels, name="cells", axis_labels=[*names], scale=np.arange(len(names)) + 1
    )
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    rest = [n for n in names if n != "c"]
    labels = viewer.add_labels(np.zeros([sizes[n] for n in rest], np.uint8), axis_labels=rest)
    labels.scale = [s for s, n in zip(image.scale, names, strict=True) if n != "c"]
    assert "split the channels" in widget.prompt.value
    assert widget.renew.text == "Split channels"
    labels.data[..., 5, 2:6, 2:6] = 1
    click(qtbot, widget.propagate)
    assert "split the channels" in widget.status.value
    assert not engine.calls
    click(qtbot, widget.renew)
    one, other = viewer.layers["cells c 0"], viewer.layers["cells c 1"]
    np.testing.assert_array_equal(one.data, pixels.take(0, axis))
    assert np.shares_memory(other.data, pixels), "nothing is copied"
    assert image not in viewer.layers, "its sliders would stay"
    assert viewer.dims.ndim == len(rest)
    assert widget.choices.image_layer == one
    assert widget.choices.labels_layer == labels, "they stay where they are"
    assert len(viewer.layers) == 3
    assert not widget.renew.visible
    viewer.dims.set_point(0, 5 * image.scale[0] if names == "zcyx" else 2)
    assert widget.choices.walked_axis == rest.index("z")
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert engine.calls[0]["image"].shape == SHAPE
    boxes = list(widget.choices._channels_box)
    assert [box.text for box in boxes] == ["cells c 0", "cells c 1"]


def test_axes_that_are_named_afterwards(qtbot, engine, make_napari_viewer):
    viewer = make_napari_viewer()
    image = viewer.add_image(np.random.default_rng(0).random((9, 5, 6, 8)))
    labels = viewer.add_labels(np.zeros(image.data.shape, np.uint8))
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    choices = widget.choices
    assert choices.walked_axis == 1
    image.axis_labels = labels.axis_labels = ("t", "c", "y", "x")
    assert choices.walked_axis == 0
    box = choices._axis_box.native
    assert [box.itemText(k) for k in range(box.count())] == ["t", "c", "y", "x"]
    assert not choices._series_box.visible
    viewer.layers.remove(labels)
    assert widget.renew.text == "Split channels"
    image.axis_labels = ("t", "z", "y", "x")
    assert widget.renew.text == "New Labels layer"


def test_axes_that_are_named_leave_the_chosen_one(choices_in):
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((9, 5, 6, 8)))
    labels = viewer.add_labels(np.zeros(image.data.shape, np.uint8))
    choices = choices_in(viewer)
    choices._axis_box.value = 2
    labels.axis_labels = ("t", "z", "y", "x")
    choices.refresh()
    assert choices.walked_axis == 2
    assert choices._axis_box.native.currentText() == "y"


@pytest.mark.parametrize("names", ["zcyx", "tczyx"])
def test_without_labels_there_are_new_ones_beside_split_channels(qtbot, make_napari_viewer, names):
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((4, 2, 6, 8, 9)[-len(names) :], np.uint8), axis_labels=[*names])
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    click(qtbot, widget.renew)
    labels = widget.choices.labels_layer
    assert labels.axis_labels == tuple(n for n in names if n != "c")
    assert labels.data.shape == widget.choices.image_layer.data.shape
    assert not widget.renew.visible


def test_nobody_is_asked_to_walk_through_channels(make_napari_viewer):
    """Labels of the image's shape, as napari's own button makes them."""
    viewer = make_napari_viewer()
    shape = (6, 2, 8, 9)
    viewer.add_image(np.zeros(shape, np.uint8), axis_labels=[*"zcyx"])
    labels = viewer.add_labels(np.zeros(shape, np.uint8), axis_labels=[*"zcyx"])
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    assert widget.choices.walked_axis == 0
    labels.data[3, 1, 2:4, 2:4] = 1
    viewer.dims.set_point((0, 1), (3, 1))
    widget._tell_prompt()
    assert widget.prompt.value == "Prompt: slice 3, label 1"


def test_channels_far_from_zero_keep_their_shades():
    shades = np.arange(64).reshape(1, 8, 8)
    far = StackedChannels([shades + 10**12, shades], [(10**12, 10**12 + 63), (0, 63)])[0]
    np.testing.assert_allclose(far[..., 0], far[..., 1], atol=1e-6)


def test_the_stack_is_an_array(pixels):
    stack = StackedChannels([pixels[0], pixels[1]], [(0, 10), (0, 200)])
    assert stack.shape == (*SHAPE, 3)
    assert stack[3].shape == (20, 24, 3)
    assert stack[3, 2:5, :, 1].shape == (3, 24)
    assert stack[:, :, 4].shape == (12, 20, 3)


def tick(qtbot, box):
    """Click on the square, not on the empty space behind the words."""
    place = QPoint(8, box.native.height() // 2)
    qtbot.mouseClick(box.native, Qt.MouseButton.LeftButton, pos=place)


def test_ticks_in_the_widget(qtbot, engine, make_napari_viewer, pixels, painted):
    viewer = make_napari_viewer()
    image = viewer.add_image(pixels, name="cells", axis_labels=[*"czyx"])
    labels = viewer.add_labels(painted)
    viewer.dims.set_point((0, 1), (0, 5))
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.window._qt_window.show()
    box = widget.choices._channels_box
    assert box.visible
    assert [one.text for one in box] == ["c 0", "c 1", "c 2", "c 3"]
    for one in list(box)[:3]:
        tick(qtbot, one)
    assert widget.choices.channels == [0, 1, 2]
    assert not box[3].enabled, "up to three"
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert engine.calls[0]["image"].shape == (*SHAPE, 3)
    assert (labels.data[:, 5, 5] == 1).all()

    # one layer per channel, as napari splits them
    single = viewer.add_image(pixels[0], name="red")
    widget.choices._image_box.value = single
    assert not box.visible
    viewer.add_image(pixels[1], name="green")
    assert [one.text for one in box] == ["red", "green"]
    for one in box:
        tick(qtbot, one)
    assert widget.choices.channels == [single, viewer.layers["green"]]
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert engine.calls[-1]["image"].shape == (*SHAPE, 3)
    widget.choices._image_box.value = image
    assert len(box) == 4
    viewer.layers.remove(image)
    viewer.layers.remove("green")
    assert not box.visible


def test_many_channels_are_folded_away_and_the_chosen_image_comes_first(
    qtbot, engine, make_napari_viewer, pixels, painted
):
    viewer = make_napari_viewer()
    images = [viewer.add_image(pixels[0], name=f"i{k}") for k in range(14)]
    viewer.add_labels(painted)
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.window._qt_window.show()
    box = widget.choices._channels_box
    (fold,) = widget.choices.native.findChildren(QCollapsible)
    assert fold.text() == "0 of 14 ticked"
    assert not box.visible
    viewer.layers.selection.active = images[13]
    names = [f"i{k}" for k in [13, *range(11)]]
    assert [one.text for one in list(box)[:-1]] == names
    assert box[12].value == "2 more are not listed: one that is chosen as Image is."
    qtbot.mouseClick(fold.toggleButton(), Qt.MouseButton.LeftButton)
    wait(qtbot, lambda: box[2].visible)
    for k in (0, 2):
        tick(qtbot, box[k])
    assert fold.text() == "2 of 14 ticked"
    # what is ticked stays in the list, and channels in the order of the layers
    viewer.layers.selection.active = images[12]
    assert [one.text for one in list(box)[:-1]] == ["i12", *names[1:12], "i13"]
    assert widget.choices.channels == [images[1], images[13]]
    assert box.visible, "it stays open"
    # few of them are not folded
    for image in images[:10]:
        viewer.layers.remove(image)
    assert [one.text for one in box] == ["i12", "i10", "i11", "i13"]
    assert not fold.toggleButton().isVisible()
    wait(qtbot, lambda: box[3].visible)
    viewer.add_image(pixels[0], name="more")
    assert fold.toggleButton().isVisible()
    wait(qtbot, lambda: not box.visible)


def test_a_channel_that_is_not_finite_everywhere(pixels):
    masked = pixels[0].astype(np.float64)
    masked[:, :, 12:] = np.nan
    masked[:, 0, 0] = 1e300
    low, high = limits_of(masked, 0, {5: masked[5] > 0})
    assert 0 <= low < high <= RANGES[0]
    assert limits_of(masked * np.nan, 0, {5: masked[5] > 0}) == (0, 1)
    seen = StackedChannels([masked, pixels[1]], [(low, high), (0, 200)])[5]
    assert np.isfinite(seen).all()
    assert not seen[:, 12:, 0].any()
    assert seen[0, 0, 0] == 1
    np.testing.assert_allclose(seen[:, 12:, 2], seen[:, 12:, 1] / 2)
