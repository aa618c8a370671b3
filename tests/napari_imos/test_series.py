"""A whole (time, z) series from one painted slice or volume."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import zarr
from napari.components import ViewerModel
from test_widget import click, wait, wait_done

import napari_imos
from imos_core.errors import PromptError, PropagationError
from napari_imos._job import Rules
from napari_imos._record.ledger import Ledger
from napari_imos._record.provenance import Kind
from napari_imos._saved.session import describe, restore, save_session
from napari_imos._series.stream import open_series
from napari_imos._walk import Walk
from napari_imos._widget import PropagateWidget

SHAPE = (5, 6, 16, 18)
OBJECT = (slice(4, 9), slice(5, 10))


def walk(t: int) -> Walk:
    return Walk(4, 1, ((0, t),))


@pytest.fixture
def series():
    """A viewer at time 2, slice 3, where label 1 is painted."""
    viewer = ViewerModel()
    pixels = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)
    image = viewer.add_image(pixels, axis_labels=("t", "z", "y", "x"))
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint16), axis_labels=("t", "z", "y", "x"))
    labels.data[(2, 3, *OBJECT)] = 1
    viewer.dims.set_point((0, 1), (2, 3))
    return viewer, image, labels


def propagate(viewer, image, labels, **keywords):
    """Run a series as the front door does, in this viewer."""
    rules = keywords.pop("rules", None)
    axis, along = keywords.pop("axis", 1), keywords.pop("series", 0)
    keywords["labels"] = keywords.pop("ids", None)
    from napari_imos._engine import Control
    from napari_imos._series.engine import segment_any

    stream, options = open_series(image, labels, axis, along, None, keywords, viewer, rules)
    control = Control()
    for item in segment_any(stream.job, options, control):
        stream.write(item.index, item.labels, control.scores[item.index], item.source)
    stream.tell(control.facts)
    stream.commit()
    return stream


def test_one_slice_becomes_the_series_and_one_undo(series, engine):
    _, image, labels = series
    before = labels.data.copy()
    stream = propagate(*series)
    assert (labels.data[(..., *OBJECT)] == 1).all()
    assert (labels.data == 1).sum() == 5 * 6 * 25
    assert stream.slices == stream.job.expected({}) == 30
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    labels.redo()
    assert (labels.data == 1).sum() == 5 * 6 * 25

    # z first, where it was painted; then along time and along z in turns, from the step before
    first, *rest = engine.calls
    assert first["image"].shape == SHAPE[1:]
    assert list(first["prompts"]) == [3]
    across = [call for call in rest if call["image"].shape == (5, 16, 18)]
    steps = [(next(iter(c["prompts"])), c["start"], c["stop"]) for c in across]
    assert list(dict.fromkeys(steps)) == [(2, 2, 4), (2, 1, 3), (3, 3, 5), (1, 0, 2)]
    np.testing.assert_array_equal(across[0]["image"][:], image.data[:, 2])


def reopened(labels, path):
    """Save a session, and open it as napari does."""
    save_session(labels, path)
    tif = path.suffix == ".tif"
    saved = tifffile.imread(path) if tif else zarr.open(path, mode="r")["labels/labels/0"][:]
    again = ViewerModel().add_labels(saved)
    assert restore(again, path) == 0
    return again


@pytest.mark.parametrize("name", ["labels.tif", "labels.zarr"])
def test_every_step_knows_what_it_is(series, engine, tmp_path, name):
    labels = series[2]
    propagate(*series)
    ledger = Ledger.of(labels)
    assert not ledger.busy
    assert ledger.anchors(labels, walk(2)) == [3]
    for t in (0, 1, 3, 4):
        record = ledger.record(labels, walk(t))
        assert ledger.anchors(labels, walk(t)) == [], "what was carried is no prompt of a person"
        assert (record.kind == Kind.PREDICTED).all()
        assert np.isfinite(record.confidence).all()
        assert record.runs[-1]["series"]["from"] == t + (1 if t < 2 else -1)
        assert record.runs[-1]["series"]["start"] == 2
    assert ledger.record(labels, walk(2)).kind[3] == Kind.DRAWN
    assert len(json.loads(json.dumps(describe(labels)))["walks"]) == 5
    again = reopened(labels, tmp_path / name)
    assert again.axis_labels == ("t", "z", "y", "x"), "files keep no names"
    for t in range(5):
        mine, theirs = (Ledger.of(one).record(one, walk(t)) for one in (labels, again))
        np.testing.assert_array_equal(theirs.kind, mine.kind)
        assert theirs.runs == mine.runs
    labels.undo()
    ledger.settle(labels)
    assert ledger.record(labels, walk(4)).runs == []
    assert (ledger.record(labels, walk(4)).kind == Kind.EMPTY).all()


def test_paint_locks_and_other_labels_stay(series, engine):
    labels = series[2]
    labels.data[4, 2, 4:6, 5:7] = 7  # another object in the way
    labels.data[0, 0, 0, 0] = 9
    kept = labels.data.copy()
    propagate(*series)
    np.testing.assert_array_equal(labels.data[kept != 0], kept[kept != 0])
    assert labels.data[4, 2, 8, 8] == 1


def test_what_was_painted_at_another_time_counts(series, engine):
    _, _, labels = series
    labels.data[4, 1, 0:3, 0:3] = 1
    Ledger.of(labels).record(labels, walk(4)).painted[1] = True
    painted = labels.data[4, 1].copy()
    propagate(*series)
    np.testing.assert_array_equal(labels.data[4, 1], painted)
    assert (labels.data[4, :, 0:3, 0:3] == 1).all()
    assert not labels.data[(4, slice(None), *OBJECT)].any(), "it starts from what was painted there"
    assert (labels.data[(slice(0, 4), slice(None), *OBJECT)] == 1).all()
    assert Ledger.of(labels).anchors(labels, walk(4)) == [1]


def test_a_correction_redoes_only_the_steps_that_are_reached_through_it(series, engine):
    viewer, _, labels = series
    propagate(*series)
    before = labels.data.copy()
    labels.data[4, 2, 12:14, 12:14] = 1
    viewer.dims.set_point((0, 1), (4, 2))
    engine.calls.clear()
    propagate(*series)
    changed = np.flatnonzero((labels.data != before).any(axis=(1, 2, 3)))
    assert changed.tolist() == [3, 4] or changed.tolist() == [4], changed
    assert (labels.data[4, :, 12:14, 12:14] == 1).all()
    assert all(0 not in call["prompts"] for call in engine.calls if call["image"].shape[0] == 5)
    # nothing is stale now: whoever asks again gets all of it
    engine.calls.clear()
    propagate(*series)
    assert len(engine.calls) > 5


def test_what_was_erased_is_gone_from_there_on(series, engine):
    _, _, labels = series
    propagate(*series)
    labels.data[2, 4] = 0
    engine.calls.clear()
    propagate(*series)
    assert not labels.data[2, 4:].any()
    assert (labels.data[(2, slice(0, 4), *OBJECT)] == 1).all()
    assert engine.calls, "other steps come from this one"
    steps = [call for call in engine.calls if call["image"].shape[0] == 6]
    assert len(steps) == 4, "this one needs no walk"


@pytest.mark.parametrize("t", [0, 4])
def test_who_erases_a_whole_time_point_has_not_taken_the_run_back(series, engine, t):
    """Whichever of them was done last."""
    _, _, labels = series
    propagate(*series)
    labels.data[t] = 0
    ledger = Ledger.of(labels)
    assert ledger.anchors(labels, walk(t)) == list(range(6))
    propagate(*series)
    assert not labels.data[t].any()
    assert (labels.data[2] == 1).any()
    assert (ledger.record(labels, walk(t)).kind == Kind.CORRECTED).all()


def test_a_label_that_is_another_one_at_one_time_point(series, engine):
    _, _, labels = series
    propagate(*series)
    labels.data[0][labels.data[0] == 1] = 7
    ledger = Ledger.of(labels)
    ledger.anchors(labels, walk(0))
    assert (ledger.record(labels, walk(0)).kind == Kind.CORRECTED).all()
    assert (ledger.record(labels, walk(4)).kind == Kind.PREDICTED).all()
    labels.data[0][labels.data[0] == 7] = 1
    ledger.anchors(labels, walk(0))
    assert (ledger.record(labels, walk(0)).kind == Kind.PREDICTED).all()


def test_nothing_is_carried_to_a_slice_from_which_it_was_erased(series, engine):
    labels = series[2]
    propagate(*series)
    for k in (2, 3):
        labels.data[3, k] = 0
    engine.calls.clear()
    propagate(*series)
    *_, through = (c for c in engine.calls if c["image"].shape == SHAPE[1:] and 2 in c["prompts"])
    assert not through["prompts"][2].any()
    assert not through["prompts"][3].any()
    shown = [k for k, plane in through["prompts"].items() if plane.any()]
    assert shown == [1], "in the middle of what is left"


def test_labels_that_are_painted_at_different_times_meet(series, engine):
    _, _, labels = series
    labels.data[3, 4, 0:3, 12:15] = 2
    Ledger.of(labels).record(labels, walk(3)).painted[4] = True
    labels.data[3, 4, 0:3, 0:3] = 1
    propagate(*series, ids=[1, 2])
    assert (labels.data[3:, :, 0:3, 12:15] == 2).all(), "from there on"
    assert (labels.data[3:, :, 0:3, 0:3] == 1).all()
    assert (labels.data[(slice(0, 3), slice(None), *OBJECT)] == 1).all()


def test_a_label_is_carried_beside_one_that_is_painted_there(series, engine):
    _, _, labels = series
    labels.data[2, 3, 0:3, 12:15] = 2
    labels.data[3, 5, 12:15, 0:3] = 1  # moved: painted again
    propagate(*series)
    assert (labels.data[3, :5, 0:3, 12:15] == 2).all(), "carried"
    assert not labels.data[3, 5, 0:3, 12:15].any(), "an anchor is as it was painted"
    assert (labels.data[3, :, 12:15, 0:3] == 1).all(), "from where it was painted"
    assert not (labels.data[(3, slice(None), *OBJECT)] == 1).any()


def test_a_volume_is_taken_as_it_is(series, engine):
    _, _, labels = series
    labels.data[(2, slice(1, 5), *OBJECT)] = 1
    propagate(*series)
    assert not labels.data[2, 0].any()
    assert not labels.data[2, 5].any()
    assert (labels.data[(3, slice(None), *OBJECT)] == 1).all()
    assert all(
        call["image"].shape[0] == 5 or call["prompts"].keys() != {3} for call in engine.calls[:1]
    )


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_volume_that_is_corrected_reaches_all_that_comes_from_it(series, engine, elsewhere):
    """Also where all the same not everything is done again: something else was painted, too."""
    _, _, labels = series
    labels.data[(2, slice(1, 5), *OBJECT)] = 1
    propagate(*series)
    more = np.s_[1:3, 12:15]
    labels.data[(2, slice(2, 4), *more)] = 1
    if elsewhere:
        labels.data[(0, 3, *more)] = 1
        Ledger.of(labels).record(labels, walk(0)).painted[3] = True
    propagate(*series)
    assert (labels.data[(3, slice(2, 4), *more)] == 1).all()


def test_stop_keeps_what_is_done_and_the_rest_follows(series, engine):
    from napari_imos._engine import Control
    from napari_imos._series.engine import segment_any

    viewer, image, labels = series
    stream, options = open_series(image, labels, "z", "t", None, {}, viewer)
    control = Control()
    for item in segment_any(stream.job, options, control):
        stream.write(item.index, item.labels, 0.9, item.source)
        if stream.slices == 9:
            control.cancel.set()
    stream.commit()
    assert (labels.data == 1).sum() == 9 * 25
    engine.calls.clear()
    propagate(*series)
    assert (labels.data == 1).sum() == 30 * 25
    assert engine.calls[0]["image"].shape[0] == 5, "the first time step is not done again"
    labels.undo()
    assert (labels.data == 1).sum() == 9 * 25
    labels.undo()
    assert (labels.data == 1).sum() == 25


def test_an_array_that_the_layer_is_given_meanwhile_is_left_alone(series, engine):
    from napari_imos._engine import Control
    from napari_imos._series.engine import segment_any

    viewer, image, labels = series
    stream, options = open_series(image, labels, "z", "t", None, {}, viewer)
    other = np.zeros_like(labels.data)
    slices = segment_any(stream.job, options, Control())
    for _ in range(SHAPE[1]):
        item = next(slices)
        stream.write(item.index, item.labels, 0.9, item.source)
    labels.data = other
    item = next(slices)  # of the next time step
    with pytest.raises(PropagationError, match="another array"):
        stream.write(item.index, item.labels, 0.9, item.source)
    slices.close()
    with pytest.raises(PropagationError, match="another array"):
        stream.commit()
    assert not other.any()
    assert not Ledger.of(labels).busy


def test_an_object_that_ends_asks_the_engine_no_further(series, engine, monkeypatch):
    import imos_core

    real = engine.__call__

    def vanishing(image, prompts, **keywords):
        engine.gone = {4} if image.shape[0] == 5 else set()
        return real(image, prompts, **keywords)

    monkeypatch.setitem(vars(imos_core), "propagate", vanishing)
    propagate(*series)
    labels = series[2]
    assert (labels.data[3] == 1).any()
    assert not labels.data[4].any()
    assert Ledger.of(labels).record(labels, walk(4)).written.all()


def test_direction_range_and_locked_labels(series, engine):
    _, _, labels = series
    labels.data[2, 3, 0:3, 12:15] = 2
    propagate(*series, direction="forward", start=1, stop=5, rules=Rules(locked=(2,)))
    assert (labels.data[(slice(2, 5), slice(1, 5), *OBJECT)] == 1).all()
    assert not labels.data[:2].any()
    assert not labels.data[2:, 0].any()
    assert not labels.data[2:, 5].any()
    assert (labels.data == 2).sum() == 9


def test_the_other_order_of_axes(engine):
    viewer = ViewerModel()
    pixels = np.random.default_rng(0).random((6, 5, 16, 18))
    image = viewer.add_image(pixels, axis_labels=("z", "t", "y", "x"))
    labels = viewer.add_labels(np.zeros(pixels.shape, int), axis_labels=("z", "t", "y", "x"))
    labels.data[(3, 2, *OBJECT)] = 1
    assert napari_imos.propagate(image, labels, axis="z", series="t") is labels, "without a viewer"
    assert (labels.data == 1).sum() == 30 * 25


@pytest.mark.parametrize("t", [0, 2])
def test_time_points_that_the_image_lacks_stay(series, engine, t):
    viewer, image, labels = series
    labels.data[t, 3] = labels.data[2, 3]
    if t == 0:
        labels.data[2, 3] = 0
    image.data = image.data[:3]
    labels.data[4, 1, 2, 2] = 5  # nobody can follow it
    viewer.dims.set_point((0, 1), (t, 3))
    propagate(*series)
    assert (labels.data[(slice(0, 3), slice(None), *OBJECT)] == 1).all()
    assert (labels.data[3:] != 0).sum() == 1
    across = [c["image"].shape[0] for c in engine.calls if c["image"].shape[0] != 6]
    assert set(across) == {5}, "what the image lacks is filled up"


def test_what_does_not_serve(series, engine, volume, painted):
    viewer, image, labels = series
    with pytest.raises(PromptError, match="must differ"):
        propagate(*series, axis="t", series="t")
    with pytest.raises(PromptError, match="no axis 'q'"):
        propagate(*series, series="q")
    flat = viewer.add_labels(painted)
    with pytest.raises(PromptError, match="four axes"):
        napari_imos.propagate(viewer.add_image(volume), flat, axis=0, series=1)
    still = viewer.add_image(image.data[0])
    with pytest.raises(PromptError, match="shape"):
        propagate(viewer, still, labels)
    labels.data[:] = 0
    with pytest.raises(PromptError, match="Nothing is painted"):
        propagate(*series)
    assert engine.calls == []


def test_arrays(engine):
    pixels = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)
    given = np.zeros(SHAPE, np.uint16)
    given[(2, 3, *OBJECT)] = 5
    given[0, 0, 0, 0] = 9
    result = napari_imos.propagate(pixels, given, axis=1, series=0, ids=[5])
    assert (result[(..., *OBJECT)] == 5).all()
    assert result[0, 0, 0, 0] == 9
    assert (given == 5).sum() == 25
    given[(2, slice(2, 5), *OBJECT)] = 5
    result = napari_imos.propagate(pixels, given, axis=1, series=0, ids=[5])
    assert not result[2, 0].any(), "a volume is taken as it is"
    assert (result[(3, slice(None), *OBJECT)] == 5).all()
    with pytest.raises(PromptError, match="four axes"):
        napari_imos.propagate(pixels[0], given[0], series=1)


@pytest.fixture
def docked(make_napari_viewer):
    """The widget beside a 4D image, at time 2, slice 3, where label 1 is painted."""
    viewer = make_napari_viewer()
    pixels = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)
    viewer.add_image(pixels, axis_labels=("t", "z", "y", "x"))
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint16), axis_labels=("t", "z", "y", "x"))
    labels.data[(2, 3, *OBJECT)] = 1
    viewer.dims.set_point((0, 1), (2, 3))
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.window._qt_window.show()
    return viewer, labels, widget


def test_the_series_in_the_widget(qtbot, engine, docked):
    viewer, labels, widget = docked
    box = widget.choices._series_box
    assert box.visible
    assert [text for text, _ in box._offered()] == ["this one only", "all of t"]
    assert widget.prompt.value == "Prompt: slice 3, label 1"
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert (labels.data == 1).sum() == 6 * 25, "this one only"
    box.value = 0
    assert widget.prompt.value == "Prompt: slice 3, label 1, then all of t"
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert (labels.data == 1).sum() == 30 * 25
    assert widget.status.value.startswith("Done: 24 slices"), "the first step stood already"
    assert viewer.dims.current_step[:2] == (2, 3), "the view comes back"
    viewer.dims.set_point(0, 4)
    wait(qtbot, lambda: widget.loop.timeline.describe(2).startswith("Slice 2: predicted"))
    labels.undo()
    assert (labels.data == 1).sum() == 6 * 25


def test_who_looks_from_another_side_and_comes_back_still_wants_the_series(docked):
    viewer, labels, widget = docked
    widget.choices._series_box.value = 0
    for _ in range(4):
        viewer.dims.roll()
    assert widget.prompt.value == "Prompt: slice 3, label 1, then all of t"
    # other labels have not been asked about
    viewer.add_labels(labels.data.copy(), axis_labels=("t", "z", "y", "x"))
    assert widget.choices.series_axis is None
    viewer.layers.selection.active = labels
    widget.choices._series_box.value = -1
    for _ in range(4):
        viewer.dims.roll()
    assert widget.choices.series_axis is None


def test_nothing_where_the_sliders_stand(docked):
    viewer, _, widget = docked
    viewer.dims.set_point(0, 4)
    widget._tell_prompt()
    assert widget.prompt.value == (
        "Nothing is painted at t 4: paint an object on one slice first, or move the sliders."
    )


def paint(qtbot, docked, t, k, place, label):
    """Move the sliders and paint a dot, at once, as a quick person would."""
    viewer, labels, widget = docked
    viewer.dims.set_point((0, 1), (t, k))
    labels.brush_size = 3
    labels.paint((t, k, *place), label)
    wait(qtbot, lambda: not widget.loop.looking)


def labels_by_slice(labels, label):
    """Slices of every time point that hold a label."""
    return [int((volume == label).any(axis=(1, 2)).sum()) for volume in labels.data]


@pytest.mark.parametrize("t", [0, 1, 3, 4])
@pytest.mark.parametrize("series_first", [True, False])
def test_an_object_that_is_painted_later_joins(qtbot, engine, docked, t, series_first):
    _, labels, widget = docked
    box = widget.choices._series_box
    box.value = 0 if series_first else -1
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    box.value = 0
    paint(qtbot, docked, t, 0, (13, 14), 2)
    assert Ledger.of(labels).record(labels, walk(t)).painted[0]
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels_by_slice(labels, 2) == [6, 6, 5, 6, 6], "a prompt is as it was painted"
    ones = labels_by_slice(labels, 1)
    if not series_first:
        # it was not on the slice that was painted, and the fake engine copies the nearest one
        assert ones.pop(t) == 4
    assert set(ones) == {6}
    before = labels.data.copy()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    np.testing.assert_array_equal(labels.data, before)
    labels.undo()
    if not series_first:
        assert labels_by_slice(labels, 1) == [0, 0, 6, 0, 0]


def test_labels_keep_what_they_have_while_another_one_is_followed(qtbot, engine, docked):
    """The one that is painted now starts elsewhere, on a slice that does not show the first one."""
    _, labels, widget = docked
    widget.choices._series_box.value = 0
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    labels.data[4, 1] = 0  # it is not on this slice
    labels.refresh()
    paint(qtbot, docked, 4, 1, (13, 14), 2)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels_by_slice(labels, 1)[:4] == [6, 6, 6, 6]
    assert labels_by_slice(labels, 2) == [6, 6, 5, 6, 6]


def test_all_that_a_brush_painted_before_the_first_run(qtbot, engine, docked):
    viewer, labels, widget = docked
    widget.choices._series_box.value = 0
    paint(qtbot, docked, 4, 2, (13, 14), 3)
    viewer.dims.set_point((0, 1), (2, 3))
    wait(qtbot, lambda: widget.prompt.value.endswith(", with t 4, then all of t"))
    viewer.dims.set_point((0, 1), (0, 3))
    said = "Prompt: what is painted at t 4, then all of t"
    wait(qtbot, lambda: widget.prompt.value == said)
    viewer.dims.set_point((0, 1), (2, 3))
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels_by_slice(labels, 1) == [6, 6, 6, 6, 5]
    assert labels_by_slice(labels, 3) == [6, 6, 5, 6, 6]


def test_an_object_that_is_painted_beside_others_cuts_no_holes_into_them(series, engine):
    """At later time points, the slice on which it was painted alone is no prompt for the others."""
    viewer, _, labels = series
    viewer.dims.set_point((0, 1), (2, 3))
    labels.data[3, 1, 12:15, 12:15] = 2
    Ledger.of(labels).record(labels, walk(3)).painted[1] = True
    propagate(*series)
    assert labels_by_slice(labels, 1)[4] == 6
    assert labels_by_slice(labels, 2) == [6, 6, 5, 6, 6]


@pytest.mark.parametrize("t", [2, 4])
def test_a_label_that_takes_the_place_of_another_one(series, engine, t):
    """Whichever time point is shown; and one step of undo brings back what was there."""
    viewer, _, labels = series
    propagate(*series)
    labels.data_setitem(
        tuple(np.full(25, i) for i in (4, 3)) + tuple(grid.ravel() for grid in np.mgrid[OBJECT]), 2
    )
    Ledger.of(labels).record(labels, walk(4)).painted[3] = True
    before = labels.data.copy()
    viewer.dims.set_point((0, 1), (t, 3))
    propagate(*series)
    assert labels_by_slice(labels, 2)[4] == 6
    assert labels_by_slice(labels, 1)[:3] == [6, 6, 6]
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    ledger = Ledger.of(labels)
    assert ledger.anchors(labels, walk(4)) == [3]
    assert ledger.anchors(labels, walk(0)) == []
    labels.redo()
    assert labels_by_slice(labels, 2)[4] == 6
    assert ledger.anchors(labels, walk(4)) == [3]
    assert ledger.anchors(labels, walk(0)) == []


def test_undo_brings_back_what_a_series_has_replaced_twice(series, engine):
    """A label makes way for another one and finds its place anew: one change, for the history."""
    viewer, _, labels = series
    propagate(*series)
    ledger, corner = Ledger.of(labels), (slice(0, 4), slice(0, 4))
    labels.data[(4, 3, *OBJECT)] = 2
    ledger.record(labels, walk(4)).painted[3] = True
    labels.data[(2, 3, *OBJECT)] = 0
    labels.data[(2, 3, *corner)] = 1
    before = labels.data.copy()
    viewer.dims.set_point((0, 1), (4, 3))
    propagate(*series)
    assert (labels.data[(0, slice(None), *corner)] == 1).all()
    assert (labels.data[(0, slice(None), *OBJECT)] == 2).all()
    after = labels.data.copy()
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    labels.redo()
    np.testing.assert_array_equal(labels.data, after)


def test_a_ball_that_is_painted_at_once_is_no_volume_that_came(qtbot, engine, docked):
    viewer, labels, widget = docked
    widget.choices._series_box.value = 0
    viewer.dims.set_point((0, 1), (1, 3))
    wait(qtbot, lambda: not widget.loop.looking)
    labels.n_edit_dimensions, labels.brush_size = 3, 3
    labels.paint((1, 3, 8, 8), 4)
    assert labels_by_slice(labels, 4)[1] == 3
    wait(qtbot, lambda: Ledger.of(labels).record(labels, walk(1)).painted[2:5].all())
    assert not Ledger.of(labels).record(labels, walk(1)).painted[[0, 1, 5]].any()
    wait(
        qtbot, lambda: widget.prompt.value == "Prompt: slice 3 (with 2, 4), label 4, then all of t"
    )
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels_by_slice(labels, 4)[:2] == [6, 6]


def test_the_prompt_says_what_a_series_starts_from(qtbot, engine, docked):
    viewer, labels, widget = docked
    widget.choices._series_box.value = 0

    def says(words):
        wait(qtbot, lambda: widget.prompt.value == words)

    says("Prompt: slice 3, label 1, then all of t")
    widget.choices._direction_box.value = "forward"
    says("Prompt: slice 3, label 1, then on along t")
    widget.choices._direction_box.value = "both"
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    # predictions are no prompt
    viewer.dims.set_point((0, 1), (4, 2))
    says("Prompt: what is painted at t 2, then all of t")
    click(qtbot, widget.loop.checked)
    says("Prompt: slice 2, label 1, with t 2, then all of t")
    viewer.dims.set_point((0, 1), (2, 3))
    says("Prompt: slice 3, label 1, with t 4, then all of t")
    viewer.dims.set_point((0, 1), (4, 2))
    click(qtbot, widget.loop.checked)
    # what was painted and undone is none either, also where nobody has looked since
    paint(qtbot, docked, 3, 1, (13, 14), 1)
    says("Prompt: slice 1, label 1, with t 2, then all of t")
    labels.undo()
    viewer.dims.set_point((0, 1), (2, 3))
    says("Prompt: slice 3, label 1, then all of t")
    widget.loop.toggle_anchor(3)
    says("Nothing is painted: paint an object on one slice first.")
    widget.loop.toggle_anchor(3)
    widget.advanced._objects_box.value = True
    labels.selected_label = 7
    says("The selected label 7 is not painted on any prompt slice.")
    labels.selected_label = 1
    says("Prompt: slice 3, label 1, then all of t")


def test_the_timeline_is_that_of_the_time_point_that_is_shown(qtbot, engine, docked):
    viewer, labels, widget = docked
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert widget.loop.timeline.describe(2).startswith("Slice 2: predicted")
    viewer.dims.set_point(0, 3)
    assert widget.loop.timeline.describe(2) == "Slice 2: not reached yet"
    click(qtbot, widget.loop.checked)
    assert Ledger.of(labels).record(labels, walk(3)).checked[3]
    assert not Ledger.of(labels).record(labels, walk(2)).checked.any()


def test_stop_and_go_on(qtbot, engine, docked):
    _, labels, widget = docked
    widget.choices._series_box.value = 0
    engine.pause = 0.05
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: bool((labels.data[3] == 1).any()))
    assert "of 30 slices" in widget.status.value
    click(qtbot, widget.stop)
    wait_done(qtbot, widget)
    done = int((labels.data == 1).sum()) // 25
    assert 6 < done < 30
    assert widget.status.value.startswith(f"Stopped: {done} of 30 slices")
    engine.pause = 0
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert (labels.data == 1).sum() == 30 * 25
    labels.undo()
    assert (labels.data == 1).sum() == done * 25


def test_a_volume_and_the_row_that_hides(qtbot, engine, docked):
    viewer, labels, widget = docked
    labels.data[(2, slice(1, 5), *OBJECT)] = 1
    labels.refresh()
    widget.choices._series_box.value = 0
    wait(qtbot, lambda: widget.prompt.value == "Prompt: the volume at t 2, then all of t")
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert not labels.data[2, 0].any()
    assert (labels.data[(0, slice(None), *OBJECT)] == 1).all()
    viewer.add_image(np.zeros(SHAPE[1:], np.uint8))
    viewer.add_labels(np.zeros(SHAPE[1:], np.uint8))
    assert not widget.choices._series_box.visible
    assert widget.choices.series_axis is None


def test_no_series_where_the_image_has_no_time(make_napari_viewer):
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros(SHAPE[1:], np.uint8))
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint8), axis_labels=("t", "z", "y", "x"))
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.window._qt_window.show()
    assert widget.choices.labels_layer == labels
    assert not widget.choices._series_box.visible
    viewer.add_image(np.zeros(SHAPE, np.uint8))
    viewer.layers.selection.active = labels
    widget.choices._image_box.value = viewer.layers[-1]
    assert widget.choices._series_box.visible


def test_words_are_said_once_while_slices_are_looked_at(qtbot, engine, docked):
    viewer, labels, widget = docked
    widget.choices._series_box.value = 0
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    viewer.dims.set_point((0, 1), (2, 4))
    labels.data[2, 4] = 0
    for _ in range(2):
        widget.loop.look_again()
        widget._tell_prompt()
        assert widget.loop.looking
    assert widget.prompt.value == "Prompt: slice 3, label 1, then all of t"
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 3 (with 4), label 1, then all of t")


def test_a_viewer_that_closes_ends_the_series(qtbot, engine, docked):
    viewer, labels, widget = docked
    widget.choices._series_box.value = 0
    engine.pause = 0.02
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: bool((labels.data[2, 4] == 1).any()))
    viewer.close()
    wait(qtbot, lambda: engine.closed)
