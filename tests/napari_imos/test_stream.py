"""The only writer of a Labels layer: what it never touches, and one undo step for a run."""

from __future__ import annotations

import time

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from imos_core.errors import PropagationError
from napari_imos._job import Job
from napari_imos._record.ledger import Ledger
from napari_imos._record.said import toggle_anchor
from napari_imos._stream import LabelsStream
from napari_imos._walk import Walk

SHAPE = (10, 12, 14)
LENGTH = {0: 10, 1: 12, 2: 14}


def plane_of(axis: int) -> tuple[int, ...]:
    return tuple(n for a, n in enumerate(SHAPE) if a != axis)


def make(axis: int = 0, prompt: int = 4):
    """Return a layer with label 3 painted in the corner of one slice, and what follows from it."""
    layer = ViewerModel().add_labels(np.zeros(SHAPE, np.uint8))
    walk = Walk(3, axis)
    layer.data[walk.at(prompt)][2:6, 2:6] = 3
    plane = layer.data[walk.at(prompt)].copy()
    return layer, walk, plane, Job(None, {prompt: plane}, (3,), walk, LENGTH[axis], {})


def run(layer, job, result, slices=None):
    stream = LabelsStream(layer, job)
    for k in range(job.length) if slices is None else slices:
        stream.write(k, result)
    stream.commit()
    return stream


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_run_is_one_step_of_undo_even_if_someone_paints_meanwhile(axis):
    layer, _, plane, job = make(axis)
    layer.brush_size = 2
    layer.paint((0, 0, 0), 9)
    before = layer.data.copy()
    stream = LabelsStream(layer, job)
    for k in range(LENGTH[axis]):
        stream.write(k, plane)
        if k == 6:
            layer.paint((9, 11, 13), 5)
    streamed = layer.data.copy()
    stream.commit()
    np.testing.assert_array_equal(layer.data, streamed)
    assert (layer.data == 3).sum() == 16 * LENGTH[axis], "nothing was propagated"

    layer.undo()
    assert (layer.data == 3).sum() == 16
    assert (layer.data == 5).any()
    layer.redo()
    np.testing.assert_array_equal(layer.data, streamed)
    layer.undo()
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)


def test_prompts_paint_and_other_labels_stay():
    layer, _, plane, job = make()
    layer.data[7, 0:4, 0:4] = 8
    layer.data[8, 5:8, 5:8] = 3
    kept = layer.data.copy()
    bigger = np.full_like(plane, 3)
    stream = LabelsStream(layer, job)
    stream.write(4, bigger)
    stream.write(7, bigger)
    stream.write(8, np.zeros_like(plane))
    layer.data[9, 0, 0] = 6  # painted while it runs
    stream.write(9, bigger)
    np.testing.assert_array_equal(layer.data[4], plane)
    assert (layer.data[7, 0:4, 0:4] == 8).all()
    assert layer.data[9, 0, 0] == 6
    np.testing.assert_array_equal(layer.data[kept != 0], kept[kept != 0])
    assert (layer.data[7] == 3).any(), "nothing was written where it may be"


def test_a_second_run_replaces_the_first_but_not_what_was_corrected():
    layer, _, plane, job = make()
    run(layer, job, plane)
    layer.data[8, 10, 10] = 3  # corrections
    layer.data[8, 2, 2] = 7
    moved = np.roll(plane, 3, axis=1)
    second = LabelsStream(layer, job)
    for k in range(10):
        second.write(k, moved)
    second.commit()
    np.testing.assert_array_equal(layer.data[6], moved)
    assert layer.data[8, 10, 10] == 3
    assert layer.data[8, 2, 2] == 7
    np.testing.assert_array_equal(layer.data[4], plane)


@pytest.mark.parametrize("other", [0, 9])
def test_what_is_erased_ahead_of_a_second_run_stays_so_and_is_a_step_of_its_own(other):
    """Whether or not another object lies on that slice."""
    layer, walk, plane, job = make()
    layer.data[7, 0, 0] = other
    run(layer, job, plane)
    larger = plane.copy()
    larger[2:9, 2:6] = 3
    row = np.full(4, 7), np.full(4, 2), np.arange(2, 6)
    stream = LabelsStream(layer, job)
    stream.write(5, larger)
    layer.data_setitem(row, 0)
    for k in (6, 7, 8):
        stream.write(k, larger)
    stream.commit()
    for found in (larger, plane):
        np.testing.assert_array_equal(layer.data[6], found)
        rest = found.copy()
        rest[row[1:]] = 0
        rest[0, 0] = other
        np.testing.assert_array_equal(layer.data[7], rest)
        assert Ledger.of(layer).user_slices(layer, walk) == [4, 7]
        layer.undo()
    plane[0, 0] = other
    np.testing.assert_array_equal(layer.data[7], plane)


def test_of_a_slice_that_is_no_anchor_any_more_what_was_erased_is_found_again():
    layer, walk, plane, job = make()
    run(layer, job, plane)
    layer.data[7, 2, 2:6] = 0
    assert not toggle_anchor(Ledger.of(layer), layer, walk, 7)
    across = Walk(3, 1)
    side = np.zeros((len(layer.data), layer.data.shape[2]), layer.data.dtype)
    side[4:8, 2:6] = 3
    stream = LabelsStream(layer, Job(None, {}, (3,), across, LENGTH[1], {}))
    stream.write(2, side)
    stream.commit()
    assert (layer.data[7, 2, 2:6] == 3).all()
    layer.undo()
    run(layer, job, plane)
    np.testing.assert_array_equal(layer.data[7], plane)


def test_a_label_that_is_not_propagated_stays_though_an_earlier_run_wrote_it():
    layer, walk, plane, job = make()
    run(layer, job, plane)
    other = Job(None, {4: plane}, (2,), walk, 10, {})
    run(layer, other, np.full_like(plane, 2))
    assert (layer.data[6][plane == 3] == 3).all()
    assert (layer.data[6][plane == 0] == 2).all()


def test_an_undone_run_is_forgotten():
    layer, walk, plane, job = make()
    moved = np.roll(plane, 3, axis=1)
    run(layer, job, plane)
    run(layer, job, moved)
    layer.undo()
    np.testing.assert_array_equal(layer.data[6], plane)
    assert Ledger.of(layer).user_slices(layer, walk) == [4], "no slice was corrected"
    run(layer, job, np.zeros_like(plane))
    assert not layer.data[6].any(), "what the first run wrote is ours again"


def test_prompts_and_corrected_slices_are_remembered():
    layer, walk, plane, job = make()
    assert Ledger.of(layer).user_slices(layer, walk) == []
    run(layer, job, plane)
    ledger = Ledger.of(layer)
    assert ledger.user_slices(layer, walk) == [4]
    layer.data[7, 2, 2] = 0
    layer.data[9, 0, 0] = 3
    layer.data[1:3, 0, 0] = 8  # another label, on two slices: no correction of ours
    assert ledger.user_slices(layer, walk) == [4, 7, 9]
    assert ledger.user_slices(layer, Walk(3, 1)) == []


def test_two_runs_at_once_are_refused():
    layer, _, plane, job = make()
    first = LabelsStream(layer, job)
    with pytest.raises(PropagationError, match="already running"):
        LabelsStream(layer, job)
    first.commit()
    LabelsStream(layer, job)
    assert plane.any()


@pytest.mark.parametrize("arrives", [True, False])
def test_an_array_that_the_layer_is_given_meanwhile_is_left_alone(arrives):
    layer, _, plane, job = make()
    stream = LabelsStream(layer, job)
    stream.write(5, plane)
    former, other = layer.data, np.zeros_like(layer.data)
    other[2, 5:9, 5:9] = 9
    given = other.copy()
    layer.data = other
    if arrives:
        with pytest.raises(PropagationError, match="another array"):
            stream.write(3, plane)
    with pytest.raises(PropagationError, match="another array"):
        stream.commit()
    assert not stream.undoable
    np.testing.assert_array_equal(other, given)
    np.testing.assert_array_equal(former[5], plane)
    job.prompts.clear()
    job.prompts[2] = other[2].copy()
    run(layer, job, np.where(other[2] > 0, 3, 0))
    assert (layer.data[8] == 3).any(), "the next run does not write"


def test_a_4d_layer_is_written_at_its_time_point_only():
    layer = ViewerModel().add_labels(np.zeros((3, *SHAPE), np.uint16))
    walk = Walk(4, 1, ((0, 2),))
    plane = np.full(SHAPE[1:], 300, np.uint16)
    stream = run(layer, Job(None, {4: plane}, (300,), walk, 10, {}), plane)
    assert stream.undoable
    assert (layer.data[2] == 300).sum() == 9 * plane.size
    assert not layer.data[:2].any()
    layer.undo()
    assert not layer.data.any()


class Combining:
    """An array that takes index arrays along several axes for all their combinations, as xarray."""

    def __init__(self, data):
        self._data, self.asked = data, [0]
        self.shape, self.ndim, self.dtype, self.size = data.shape, data.ndim, data.dtype, data.size

    def _combined(self, key):
        arrays = isinstance(key, tuple) and all(np.ndim(k) == 1 for k in key)
        self.asked.append(int(np.prod([np.size(k) for k in key])) if arrays else 0)
        return np.ix_(*key) if arrays else key

    def __getitem__(self, key):
        return self._data[self._combined(key)]

    def __setitem__(self, key, value):
        self._data[self._combined(key)] = value

    def __array__(self, dtype=None, copy=None):
        return np.array(self._data, dtype)


@pytest.mark.parametrize("kind", ["zarr", "dask", "combining"])
def test_lazy_labels_are_written_too(kind, tmp_path):
    plane = np.zeros(SHAPE[1:], np.uint8)
    plane[2:6, 2:6] = 3
    if kind == "zarr":
        zarr = pytest.importorskip("zarr")
        data = zarr.create_array(tmp_path / "a.zarr", shape=SHAPE, dtype="u1", chunks=(1, 12, 14))
    elif kind == "combining":
        data = Combining(np.zeros(SHAPE, np.uint8))
    else:
        data = pytest.importorskip("dask.array").zeros(SHAPE, dtype="u1", chunks=(1, 12, 14))
    layer = ViewerModel().add_labels(data)
    stream = run(layer, Job(None, {4: plane}, (3,), Walk(3, 0), 10, {}), plane)
    assert (np.asarray(layer.data) == 3).sum() == 16 * 9
    assert stream.undoable == (kind == "zarr")
    if kind == "combining":
        assert max(data.asked) < data.size, "as many bytes as there are combinations"
    if stream.undoable:
        layer.undo()
        assert not np.asarray(layer.data).any()


@pytest.mark.parametrize("most", [10**6, 16 * 16 * 3])
def test_of_labels_in_chunks_only_what_changes_is_written_and_kept_together(
    most, tmp_path, monkeypatch
):
    zarr = pytest.importorskip("zarr")
    shape, chunks = (20, 64, 96), (5, 32, 32)
    data = zarr.create_array(tmp_path / "a.zarr", shape=shape, dtype="u1", chunks=chunks)
    plane = np.zeros(shape[1:], np.uint8)
    plane[40:56, 70:86] = 3
    data[4] = plane
    layer = ViewerModel().add_labels(data)
    written = []
    write = zarr.Array.__setitem__
    monkeypatch.setattr(zarr.Array, "__setitem__", lambda *a: (written.append(a[1]), write(*a))[1])
    monkeypatch.setattr("napari_imos._stream._MOST", most)
    monkeypatch.setattr("napari_imos._stream._SOON", float("inf"))
    stream = LabelsStream(layer, Job(None, {4: plane}, (3,), Walk(3, 0), 20, {}))
    for k in (7, 3, *range(8, 20), *range(3), 5, 6):
        stream.write(k, plane)
    # whenever ten wait: those of the chunk of five that most of them belong to
    assert written[0][0] == slice(10, 15)
    first = len(written)
    stream.commit()
    # put back and made again: for a chunk once, or by threes
    put = len(written) - 2 * (4 if most > 1000 else 8)
    assert 2 <= first < put < 10
    assert [w[1:] for w in written[:put]] == [(slice(40, 56), slice(70, 86))] * put
    streamed = np.asarray(data)
    assert (streamed == 3).sum() == 16 * 16 * 20
    layer.undo()
    assert (np.asarray(data) == 3).sum() == 16 * 16
    layer.redo()
    np.testing.assert_array_equal(np.asarray(data), streamed)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("soon", [0.0, float("inf")])
def test_thick_chunks_hold_what_an_array_in_memory_would(axis, soon, tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr")
    monkeypatch.setattr("napari_imos._stream._SOON", soon)
    rng = np.random.default_rng(axis)
    start = rng.choice(np.array([0, 0, 0, 3, 7], np.uint8), SHAPE)
    array = zarr.create_array(tmp_path / "a.zarr", shape=SHAPE, dtype="u1", chunks=(4, 5, 3))
    array[:] = start
    layers = [ViewerModel().add_labels(start.copy()), ViewerModel().add_labels(array)]
    walk = Walk(3, axis)
    masks = [rng.choice(np.array([0, 3], np.uint8), plane_of(axis)) for _ in range(LENGTH[axis])]
    order = rng.permutation([k for k in range(LENGTH[axis]) if k != 4]).tolist()
    prompt = np.array(start[walk.at(4)])
    job = Job(None, {4: prompt}, (3,), walk, LENGTH[axis], {})
    streams = [LabelsStream(layer, job) for layer in layers]
    for n, k in enumerate(order):
        for layer, stream in zip(layers, streams, strict=True):
            stream.write(k, masks[k])
            if n == 5:
                layer.data_setitem((np.array([2, 9]), np.array([1, 8]), np.array([0, 11])), 8)
    for stream in streams:
        stream.commit()
    memory, disk = (np.asarray(layer.data) for layer in layers)
    np.testing.assert_array_equal(disk, memory)
    assert (memory != start).any()
    for layer in layers:
        layer.undo()
    memory, disk = (np.asarray(layer.data) for layer in layers)
    np.testing.assert_array_equal(disk == 8, memory == 8)
    untouched = memory == start
    np.testing.assert_array_equal(disk[untouched], start[untouched])


def test_what_is_painted_on_while_a_run_is_put_into_the_history_stays():
    layer, _, plane, job = make()
    layer.data[job.main_slice][2:6, 2:6] = 3
    stream = LabelsStream(layer, job)
    for k in range(job.length):
        stream.write(k, plane)
    steps = stream.commit_slowly()
    next(steps)
    layer.data[9, 2, 2] = 0
    layer.data[9, 3, 3] = 8
    for _ in steps:
        pass
    assert layer.data[9, 2, 2] == 0
    assert layer.data[9, 3, 3] == 8
    layer.undo()
    assert layer.data[9, 3, 3] == 8
    assert (layer.data == 3).sum() == 16


def test_a_slice_that_is_not_shown_costs_no_refresh():
    layer, _, plane, job = make()
    drawn = []
    layer.events.set_data.connect(lambda event: drawn.append(1))
    stream = LabelsStream(layer, job, visible=lambda index: index == 6)
    stream.write(5, plane)
    assert not drawn
    stream.write(6, plane)
    assert drawn
    stream.commit()


def test_what_takes_long_to_draw_is_drawn_less_often(qtbot):
    layer, _, plane, job = make()
    drawn = []

    def draw():
        drawn.append(time.monotonic())
        time.sleep(0.04)

    layer.events.set_data.connect(lambda event: QTimer.singleShot(0, draw))
    stream = LabelsStream(layer, job)
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        stream.write(6, 0 * plane if len(drawn) % 2 else plane)
        QApplication.processEvents()
    stream.commit()
    # a window that draws later on than it is told to, as all do, is left four times as long alone
    assert 2 <= len(drawn) <= 5


def test_a_4d_layer_with_its_last_axis_held():
    layer = ViewerModel().add_labels(np.zeros((3, *SHAPE), np.uint8))
    walk = Walk(4, 2, ((3, 5),))
    plane = np.full((3, 10), 2, np.uint8)
    job = Job(None, {4: plane}, (2,), walk, 12, {})
    run(layer, job, plane)
    run(layer, job, np.zeros_like(plane))
    assert not layer.data.any(), "the second run takes away what the first wrote"
