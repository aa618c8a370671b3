"""From layers and viewer to a job: geometry, positions; one sentence for what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

import napari_imos
from imos_core.arrays.axes import AxesView
from imos_core.errors import ImageError, PromptError
from napari_imos._anchor_choice import choose_anchors
from napari_imos._dock.prompt_line import Asked, prompt_line
from napari_imos._layers import read_job
from napari_imos._record.ledger import Ledger
from napari_imos._walk import Walk, axis_names, find_walk, shown_axis, shown_slice, slider_names


def read(viewer, image, labels, axis=0, anchors=None, wanted=None):
    return read_job(image, labels, axis, anchors, wanted, viewer, Ledger.of(labels))


@pytest.fixture
def scene(volume, painted):
    viewer = ViewerModel()
    image = viewer.add_image(volume, scale=(3, 1, 1.5), contrast_limits=(10, 150))
    labels = viewer.add_labels(painted, scale=(3, 1, 1.5))
    viewer.dims.set_point(0, 15)  # slice 5
    return viewer, image, labels


def test_what_the_engine_gets(scene, painted):
    job = read(*scene)
    assert list(job.prompts) == [5]
    np.testing.assert_array_equal(job.prompts[5], painted[5])
    assert job.ids == (1, 2)
    assert job.keywords == {
        "axis": 0,
        "spacing": (3.0, 1.0, 1.5),
        "channels_last": False,
        "labels": (1, 2),
        "contrast": (10.0, 150.0),
    }


def test_the_prompt_is_a_copy(scene, painted):
    job = read(*scene)
    scene[2].data[5] = 0
    assert job.prompts[5].any()


def test_the_only_painted_slice_serves_if_the_shown_one_is_empty(scene):
    viewer, image, labels = scene
    viewer.dims.set_point(0, 0)
    assert list(read(viewer, image, labels).prompts) == [5]
    labels.data[6] = labels.data[5]
    with pytest.raises(PromptError, match=r"slice 0: .* painted slice \(5-6\)"):
        read(viewer, image, labels)


def test_what_was_painted_slice_by_slice_before_the_dock_was_opened_is_meant(scene):
    viewer, image, labels = scene
    labels.data[9, 4:6, 4:6] = 3
    job = read(viewer, image, labels)
    assert (sorted(job.prompts), job.ids) == ([5, 9], (1, 2, 3))
    viewer.dims.set_point(0, 0)
    assert sorted(read(viewer, image, labels).prompts) == [5, 9]


def test_the_axis_follows_the_order_of_the_dims(scene):
    viewer, image, labels = scene
    assert shown_axis(labels, viewer) == 0
    viewer.dims.order = (2, 0, 1)
    assert shown_axis(labels, viewer) == 2
    viewer.dims.set_point(2, 5 * 1.5)
    job = read(viewer, image, labels, axis=2)
    np.testing.assert_array_equal(job.prompts[5], labels.data[:, :, 5])
    assert job.keywords["axis"] == 2


@pytest.mark.parametrize(
    ("shape", "names", "axis"),
    [
        ((9, 2, 6, 8), None, 0),  # two channels, most likely
        ((3, 2, 6, 8), None, 0),
        ((9, 30, 3, 6, 8), None, 1),
        ((9, 5, 6, 8), None, 1),
        ((9, 2, 6, 8), "tzyx", 1),
        ((9, 1, 6, 8), None, 0),
        ((9, 1, 6, 8), "tzyx", 0),
        ((1, 1, 6, 8), None, 1),
    ],
)
def test_the_axis_is_one_that_holds_slices(shape, names, axis):
    viewer = ViewerModel()
    labels = viewer.add_labels(np.zeros(shape, np.uint8), axis_labels=names)
    assert shown_axis(labels, viewer) == axis


def test_an_axis_of_one_slice_is_named_before_the_button_is_pressed():
    viewer = ViewerModel()
    image = viewer.add_image(np.random.default_rng(0).random((9, 1, 6, 8)))
    labels = viewer.add_labels(np.zeros((9, 1, 6, 8), np.uint8))
    labels.data[2, 0, 2:4, 2:4] = 1
    viewer.dims.set_point(0, 2)
    asked = Asked(image, labels, 1, None, None, "both", None)
    said = "There is only one slice along this axis: choose another one under Axis."
    assert prompt_line(asked, viewer, "", looking=False) == said
    assert prompt_line(replace(asked, axis=0), viewer, "", looking=False).startswith("Prompt")


def test_a_predicted_slice_is_no_prompt_while_others_are_looked_at(engine, scene):
    viewer, image, labels = scene
    napari_imos.propagate(image, labels)
    asked = Asked(image, labels, 0, None, None, "both", None)
    viewer.dims.set_point(0, 8 * 3)
    assert prompt_line(asked, viewer, "", looking=True) is None, "what is said stays"
    ledger, walk = Ledger.of(labels), Walk(3, 0)
    ledger.examine(labels, walk, 5)
    assert prompt_line(asked, viewer, "", looking=True) == "Prompt: slice 5, labels 1-2"
    # a brush comes before anybody looks
    labels.data[8, :2, :2] = 3
    ledger.record(labels, walk).painted[8] = True
    assert prompt_line(asked, viewer, "", looking=True) == "Prompt: slice 8, labels 1-3"


def test_axes_by_name_and_from_the_end(volume, painted):
    viewer = ViewerModel()
    image = viewer.add_image(volume, axis_labels=("z", "y", "x"))
    labels = viewer.add_labels(painted, axis_labels=("z", "y", "x"))
    assert read(viewer, image, labels, axis="z", anchors=[5]).walk.axis == 0
    assert read(viewer, image, labels, axis=-3, anchors=[-7]).prompts.keys() == {5}
    with pytest.raises(PromptError, match="no axis 'q'"):
        read(viewer, image, labels, axis="q")


@pytest.mark.parametrize("default", ["axis {}", "{}"], ids=["napari 0.6", "napari 0.7"])
def test_axes_that_nobody_named_are_counted(volume, default):
    names = [default.format(a) for a in (-3, -2, -1)]
    assert axis_names(Image(volume, axis_labels=names)) == ["axis 0", "axis 1", "axis 2"]


@pytest.mark.parametrize("default", ["axis {}", "{}"], ids=["napari 0.6", "napari 0.7"])
def test_choices_call_axes_as_the_sliders_do(choices_in, volume, default):
    viewer = ViewerModel()
    image = viewer.add_image(volume[None])
    labels = viewer.add_labels(np.zeros_like(volume), axis_labels=("-3", "rows", "-1"))
    viewer.dims.axis_labels = [default.format(a) for a in (-4, -3, -2, -1)]
    assert slider_names(labels, viewer) == ["axis 0 (-3)", "rows", "axis 2 (-1)"]
    choices = choices_in(viewer)
    box = choices._axis_box.native
    assert [box.itemText(k) for k in range(3)] == ["axis 0 (-3)", "rows", "axis 2 (-1)"]
    image.axis_labels = ("t", "z", "y", "x")
    choices.refresh()
    assert {box.itemText(k) for k in range(3)} == {"z", "rows", "x"}


def test_a_4d_image_beside_3d_labels_is_read_where_the_viewer_stands(painted):
    viewer = ViewerModel()
    stack = np.random.default_rng(0).random((4, 12, 20, 24))
    image = viewer.add_image(stack)
    labels = viewer.add_labels(painted)
    viewer.dims.set_point((0, 1), (2, 5))
    job = read(viewer, image, labels)
    assert isinstance(job.image, AxesView)
    np.testing.assert_array_equal(job.image[3], stack[2, 3])
    assert job.image.shape == painted.shape


@pytest.mark.parametrize(("axis", "fixed"), [(0, 1), (1, 0), (2, 0)])
def test_a_4d_series_walks_one_axis_and_holds_another(axis, fixed):
    viewer = ViewerModel()
    data = np.random.default_rng(0).random((6, 7, 8, 9))
    image = viewer.add_image(data)
    labels = viewer.add_labels(np.ones(data.shape, np.uint8))
    viewer.dims.set_point((0, 1), (3, 4))
    job = read(viewer, image, labels, axis=axis)
    position = (3, 4)[fixed]
    assert job.walk.fixed == ((fixed, position),)
    np.testing.assert_array_equal(job.image[:], np.take(data, position, fixed))


def test_colour_and_multiscale_images(painted):
    viewer = ViewerModel()
    colour = np.random.default_rng(0).integers(0, 255, (12, 20, 24, 3)).astype(np.uint8)
    image = viewer.add_image(colour, rgb=True)
    labels = viewer.add_labels(painted)
    keywords = read(viewer, image, labels, anchors=[5]).keywords
    assert keywords["channels_last"]
    assert "contrast" not in keywords
    pyramid = viewer.add_image([colour[..., 0], colour[:, ::2, ::2, 0]])
    job = read(viewer, pyramid, labels, anchors=[5])
    np.testing.assert_array_equal(job.image, colour[..., 0])


def test_the_button_for_new_labels_makes_labels_that_fit(volume):
    viewer = ViewerModel()
    image = viewer.add_image(volume, scale=(3, 0.7, 0.7), translate=(2, 1, 0))
    labels = viewer.add_labels(
        np.zeros(volume.shape, int), scale=image.scale, translate=image.translate
    )
    labels.data[5, 4:8, 4:8] = 1
    assert list(read(viewer, image, labels).prompts) == [5]
    viewer.dims.set_point(0, 2 + 3 * 7)
    assert shown_slice(labels, find_walk(labels, 0, viewer), viewer) == 7


# ---- What is wrong, in one sentence each ----


def test_empty_layer(scene):
    scene[2].data[:] = 0
    with pytest.raises(PromptError, match="Nothing is painted"):
        read(*scene)


def test_negative_labels(scene):
    viewer, _, labels = scene
    labels.data = labels.data.astype(np.int16)
    labels.data[5, 0, 0] = -2
    with pytest.raises(PromptError, match="Slice 5 holds negative labels"):
        choose_anchors(labels, find_walk(labels, 0, viewer), viewer, Ledger.of(labels), look=False)


def test_empty_anchor(scene):
    with pytest.raises(PromptError, match="Nothing is painted on slice 7"):
        read(*scene, anchors=[7])


def test_anchor_out_of_range(scene):
    with pytest.raises(PromptError, match="prompt slice 12 is outside"):
        read(*scene, anchors=[12])


def test_shapes_differ(scene, volume):
    viewer, _, labels = scene
    flat = viewer.add_image(volume[0])
    with pytest.raises(PromptError, match=r"shape \(12, 20, 24\) and the image \(20, 24\)"):
        read(viewer, flat, labels)
    short = viewer.add_image(volume[:4], scale=labels.scale)
    with pytest.raises(PromptError, match="does not reach slice 5"):
        read(viewer, short, labels)


@pytest.mark.parametrize("geometry", [{"scale": (3, 1, 1)}, {"translate": (0, 9, 0)}])
def test_places_differ(volume, painted, geometry):
    viewer = ViewerModel()
    image, labels = viewer.add_image(volume, **geometry), viewer.add_labels(painted)
    with pytest.raises(PromptError, match="does not lie on the image"):
        read(viewer, image, labels)


def test_axis_out_of_range(scene):
    with pytest.raises(PromptError, match="Axis 3 is out of range"):
        read(*scene, axis=3)


def test_unknown_label(scene):
    with pytest.raises(PromptError, match="Label 9 is not painted"):
        read(*scene, wanted=[9])


def test_nan_image(scene, painted):
    viewer, _, labels = scene
    image = viewer.add_image(np.full(painted.shape, np.nan), scale=labels.scale)
    with pytest.raises(ImageError, match="NaN"):
        read(viewer, image, labels)


def test_constant_image(scene, painted):
    viewer, _, labels = scene
    image = viewer.add_image(np.full(painted.shape, 7), scale=labels.scale)
    with pytest.raises(ImageError, match="constant"):
        read(viewer, image, labels)


def test_one_slice(volume):
    viewer = ViewerModel()
    image, labels = viewer.add_image(volume[:1]), viewer.add_labels(np.ones((1, 20, 24), int))
    with pytest.raises(ImageError, match="only one slice"):
        read(viewer, image, labels)


def test_flat_labels(volume):
    viewer = ViewerModel()
    image, labels = viewer.add_image(volume), viewer.add_labels(np.ones((20, 24), int))
    with pytest.raises(PromptError, match="needs a volume or a video"):
        read(viewer, image, labels)


def test_multiscale_labels(scene, painted):
    viewer, image, _ = scene
    labels = viewer.add_labels([painted, painted[:, ::2, ::2]])
    with pytest.raises(PromptError, match="multiscale"):
        read(viewer, image, labels)


def test_read_only_labels(scene, painted):
    viewer, image, _ = scene
    frozen = painted.copy()
    frozen.flags.writeable = False
    labels = viewer.add_labels(frozen, scale=image.scale)
    with pytest.raises(PromptError, match="read-only"):
        read(viewer, image, labels)
