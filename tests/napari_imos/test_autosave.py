"""Autosave: what a run has written survives a crash, and goes when nobody needs it any more."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QFileDialog
from test_widget import click, wait, wait_done

from imos_core.errors import FileError
from napari_imos._dock import loop as _loop
from napari_imos._dock import recovery_panel as _recovery_panel
from napari_imos._record.ledger import Ledger
from napari_imos._record.provenance import Kind
from napari_imos._saved.autosave import RECORD, Autosave, index_of, name_of, position_of
from napari_imos._saved.recovery import bring_back, find_unsaved
from napari_imos._walk import Walk
from napari_imos._widget import PropagateWidget

WALK = Walk(3, 0, ())


@pytest.fixture
def scene(make_napari_viewer, volume, painted):
    """A viewer with the widget, its layers, and a button to press."""
    viewer = make_napari_viewer()
    viewer.add_image(volume, name="cells")
    labels = viewer.add_labels(painted, name="mine", scale=(1, 1, 1), units=("mm", "mm", "mm"))
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.dims.set_point(0, 5)
    return viewer, labels, widget


def crash(unsaved):
    """Let it look as if the process that wrote the autosave were gone."""
    for file in unsaved.glob(f"*/{RECORD}"):
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, "started": record["started"] - 1000}))


def propagate(qtbot, scene):
    _viewer, labels, widget = scene
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    for layer, kept in widget.recovery._kept:
        if layer is labels:
            kept.wait()


def test_what_a_run_wrote_comes_back_with_its_anchors(qtbot, engine, scene, unsaved, volume):
    _viewer, labels, _widget = scene
    propagate(qtbot, scene)
    assert not find_unsaved(), "the process is alive"
    crash(unsaved)
    other = ViewerModel()
    other.add_image(volume)
    (found,) = find_unsaved()
    again = bring_back(found, other)
    assert again.name == "mine (restored)"
    assert again.data.dtype == labels.data.dtype
    assert again.units == labels.units
    np.testing.assert_array_equal(again.data, labels.data)
    assert Ledger.of(again).anchors(again, WALK) == [5]
    mine, theirs = (Ledger.of(x).record(x, WALK) for x in (again, labels))
    np.testing.assert_allclose(mine.confidence, theirs.confidence, atol=1e-4)


@pytest.mark.parametrize("new", [7, 1, 0])
def test_objects_that_came_back_are_followed(qtbot, engine, scene, unsaved, new):
    propagate(qtbot, scene)
    crash(unsaved)
    (found,) = find_unsaved()
    again = bring_back(found, ViewerModel())
    again.data[again.data == 2] = new
    again.refresh()
    ledger = Ledger.of(again)
    assert ledger.anchors(again, WALK) == [5]
    assert (np.delete(ledger.record(again, WALK).kind, 5) == Kind.PREDICTED).all()


def test_what_was_there_before_the_last_run_keeps_its_record(qtbot, engine, scene, unsaved):
    viewer, labels, widget = scene
    propagate(qtbot, scene)
    viewer.dims.set_point(0, 9)
    labels.brush_size = 3
    labels.paint((9, 12, 3), 1)
    labels.data[2][labels.data[2] == 2] = 0
    labels.data[6:8, 0, 0] = 9  # of somebody else
    click(qtbot, widget.loop.checked)
    viewer.dims.set_point(0, 11)
    click(qtbot, widget.loop.checked)
    labels.data[0, 9:11, 9:11] = 1
    widget.loop.toggle_anchor(0)
    assert widget.status.value == "Slice 0 is no longer an anchor."
    propagate(qtbot, scene)
    ledger = Ledger.of(labels)
    anchors = ledger.anchors(labels, WALK)
    assert anchors == [2, 5, 9, 11]
    crash(unsaved)
    other = ViewerModel()
    (found,) = find_unsaved()
    again = bring_back(found, other)
    np.testing.assert_array_equal(again.data, labels.data)
    restored = Ledger.of(again)
    assert restored.anchors(again, WALK) == anchors
    mine, theirs = restored.record(again, WALK), ledger.record(labels, WALK)
    np.testing.assert_array_equal(mine.kind, theirs.kind)
    np.testing.assert_array_equal(mine.checked, theirs.checked)
    assert restored.absent(again, WALK, 2) == ledger.absent(labels, WALK, 2) == {2}
    assert mine.runs[-1]["ranges"]
    assert not restored.ours(WALK.at(7), again.data[7])[0, 0], "it stays somebody else's"


def test_other_time_points_keep_their_record(qtbot, engine, make_napari_viewer, unsaved):
    viewer = make_napari_viewer()
    shape = (4, 6, 16, 18)
    viewer.add_image(np.random.default_rng(0).integers(0, 200, shape, dtype=np.uint8))
    labels = viewer.add_labels(np.zeros(shape, np.uint8), name="mine")
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    labels.brush_size = 4
    for t in (1, 2):
        viewer.dims.set_point((0, 1), (t, 3))
        labels.paint((t, 3, 8, 8), 1)
        propagate(qtbot, (viewer, labels, widget))
    crash(unsaved)
    (found,) = find_unsaved()
    again = bring_back(found, ViewerModel())
    for t in (1, 2):
        walk = Walk(4, 1, ((0, t),))
        record = Ledger.of(again).record(again, walk)
        assert Ledger.of(again).anchors(again, walk) == [3]
        assert record.kind[3] == Kind.DRAWN
        assert (np.delete(record.kind, 3) == Kind.PREDICTED).all()


def test_the_next_start_offers_it(qtbot, engine, scene, unsaved, make_napari_viewer, volume):
    _viewer, labels, _widget = scene
    propagate(qtbot, scene)
    crash(unsaved)
    viewer = make_napari_viewer()
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    assert widget.recovery.native.isHidden(), "no image that it fits"
    viewer.add_image(np.zeros((3, 8, 8)))
    assert widget.recovery.native.isHidden()
    viewer.add_image(volume)
    assert not widget.recovery.native.isHidden()
    assert "Labels of 'mine' were not saved" in widget.recovery._words.value
    click(qtbot, widget.recovery.restore)
    assert widget.recovery.native.isHidden()
    assert widget.status.value == "Added 'mine (restored)': check it and save it."
    np.testing.assert_array_equal(viewer.layers[-1].data, labels.data)
    assert not find_unsaved(), "it is this process's now"
    viewer.layers.pop()
    assert not list(unsaved.glob("*")) or find_unsaved() == []


def test_what_comes_back_goes_on_with_its_image(
    qtbot, engine, scene, unsaved, make_napari_viewer, volume
):
    propagate(qtbot, scene)
    crash(unsaved)
    viewer = make_napari_viewer()
    image = viewer.add_image(volume, name="cells")
    other = viewer.add_image(volume[::-1], name="other")
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.layers.selection.active = other
    assert widget.choices.image_layer is other
    click(qtbot, widget.recovery.restore)
    assert widget.choices.image_layer is image
    viewer.layers.selection.active = other
    assert widget.choices.image_layer is image


def test_discarding(qtbot, engine, scene, unsaved, make_napari_viewer, volume):
    propagate(qtbot, scene)
    crash(unsaved)
    viewer = make_napari_viewer()
    viewer.add_image(volume)
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    assert not widget.recovery.native.isHidden()
    click(qtbot, widget.recovery.discard)
    assert widget.recovery.native.isHidden()
    assert not list(unsaved.glob("*"))


def test_it_goes_when_the_labels_are_saved_or_removed(
    qtbot, engine, scene, unsaved, tmp_path, monkeypatch
):
    viewer, labels, widget = scene
    propagate(qtbot, scene)
    assert len(list(unsaved.glob(f"*/{RECORD}"))) == 1
    path = str(tmp_path / "mine.tif")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (path, ""))
    click(qtbot, widget.saving.save)
    assert not list(unsaved.glob("*"))
    propagate(qtbot, scene)
    assert len(list(unsaved.glob("*"))) == 1
    viewer.layers.remove(labels)
    assert not list(unsaved.glob("*"))


def test_a_second_run_takes_the_place_of_the_first(qtbot, engine, scene, unsaved, volume):
    viewer, labels, _widget = scene
    propagate(qtbot, scene)
    labels.data_setitem((np.array([9, 9]), np.array([3, 3]), np.array([3, 4])), 2)
    viewer.dims.set_point(0, 9)
    propagate(qtbot, scene)
    assert len(list(unsaved.glob("*"))) == 1
    crash(unsaved)
    other = ViewerModel()
    again = bring_back(find_unsaved()[0], other)
    np.testing.assert_array_equal(again.data, labels.data)
    assert Ledger.of(again).anchors(again, WALK) == [5, 9]


def test_it_can_be_switched_off(qtbot, engine, scene, unsaved):
    scene[2].advanced._autosave_box.value = False
    propagate(qtbot, scene)
    assert not unsaved.exists()


def test_a_folder_that_cannot_be_made_does_not_end_a_run(qtbot, engine, scene, unsaved):
    unsaved.parent.mkdir(parents=True)
    unsaved.write_text("a file is in the way")
    status = scene[2].status
    propagate(qtbot, scene)
    assert scene[1].data[0].any()
    wait(qtbot, lambda: "not kept safe" in status.value)
    assert status.value.startswith("Done")
    assert f"as {unsaved} cannot be written" in status.value
    assert status.value.endswith("Ctrl+Z takes it back.")
    unsaved.unlink()
    propagate(qtbot, scene)
    scene[2].recovery.look_for_failures()
    assert "not kept safe" not in status.value
    assert len(list(unsaved.glob("*"))) == 1


def test_what_cannot_be_kept_is_said_once(qtbot, scene, unsaved):
    unsaved.parent.mkdir(parents=True)
    unsaved.write_text("a file is in the way")
    said = []
    scene[2].recovery.warned.connect(said.append)
    for k in (2, 9):
        stroke(scene, k)
        keep_changes(qtbot, scene)
        scene[2].recovery.look_for_failures()
    assert len(said) == 1


def test_a_full_disk_leaves_what_was_kept_before(qtbot, engine, scene, unsaved, monkeypatch):
    viewer, labels, widget = scene
    propagate(qtbot, scene)
    before = labels.data.copy()
    stroke(scene, 9)
    with monkeypatch.context() as full:
        full.setattr(np, "savez_compressed", no_room)
        propagate(qtbot, scene)
        keep_changes(qtbot, scene)
    assert "Done" in widget.status.value
    assert len(list(unsaved.glob("*"))) == 1
    crash(unsaved)
    (found,) = find_unsaved()
    np.testing.assert_array_equal(bring_back(found, ViewerModel()).data, before)
    crash(unsaved)
    stroke(scene, 0)
    keep_changes(qtbot, scene)
    wait(qtbot, lambda: len(list(unsaved.glob("*"))) == 1)
    comes_back(unsaved, labels)
    viewer.layers.remove(labels)
    wait(qtbot, lambda: not any(unsaved.glob("*")))


def test_a_disk_that_is_full_for_a_while(qtbot, engine, scene, unsaved, monkeypatch):
    _viewer, labels, _widget = scene
    propagate(qtbot, scene)
    before = labels.data.copy()
    stroke(scene, 9)
    with monkeypatch.context() as full:
        full.setattr(np, "savez_compressed", no_room)
        keep_changes(qtbot, scene)
    crash(unsaved)
    (found,) = find_unsaved()
    np.testing.assert_array_equal(bring_back(found, ViewerModel()).data, before)
    stroke(scene, 0)
    keep_changes(qtbot, scene)
    comes_back(unsaved, labels)


def no_room(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_damaged_ones_are_said_or_passed_over(qtbot, engine, scene, unsaved):
    propagate(qtbot, scene)
    crash(unsaved)
    (folder,) = unsaved.glob("*")
    (unsaved / "other").mkdir()
    (unsaved / "other" / RECORD).write_text("{")
    (found,) = find_unsaved()
    for file in folder.glob("*.npz"):
        file.write_bytes(file.read_bytes()[:40])
    viewer = ViewerModel()
    with pytest.raises(FileError, match="damaged: discard them"):
        bring_back(found, viewer)
    assert not viewer.layers


@pytest.mark.parametrize("held", [RECORD, "00000.npz"])
def test_what_could_not_be_removed_is_not_offered(qtbot, scene, unsaved, monkeypatch, held):
    """Windows removes no file that somebody looks at."""
    stroke(scene, 2)
    keep_changes(qtbot, scene)
    crash(unsaved)
    (found,) = find_unsaved()
    unlink = os.unlink

    def refused(path, **more):
        if str(path).endswith(held):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        unlink(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refused)
        found.discard()
    assert [file.name for file in found.folder.iterdir()] == [held]
    assert find_unsaved() == []
    long_ago = time.time() - 15 * 24 * 3600
    if held == RECORD:
        with pytest.raises(FileError, match="damaged: discard them"):
            bring_back(found, ViewerModel())
        record = {**found.record, "time": long_ago}
        (found.folder / RECORD).write_text(json.dumps(record))
    os.utime(found.folder, (long_ago, long_ago))
    find_unsaved()
    assert not found.folder.exists()


def test_old_ones_are_deleted(qtbot, engine, scene, unsaved):
    propagate(qtbot, scene)
    crash(unsaved)
    (file,) = unsaved.glob(f"*/{RECORD}")
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "time": time.time() - 15 * 24 * 3600}))
    assert not find_unsaved()
    assert not file.exists()


def keep_changes(qtbot, scene):
    """Do what the clock does ten seconds after a change."""
    recovery = scene[2].recovery
    wait(qtbot, lambda: all(scene[2].loop.has_seen(layer) for layer, _ in recovery._changed))
    assert recovery._timer.isActive()
    recovery._timer.stop()
    recovery.keep_changes()
    for _layer, kept in recovery._kept:
        kept.wait()


def comes_back(unsaved, labels):
    """Bring back what a crash would leave; it is what the layer holds."""
    crash(unsaved)
    (found,) = find_unsaved()
    again = bring_back(found, ViewerModel())
    np.testing.assert_array_equal(again.data, labels.data)
    return again


def stroke(scene, k, label=1, at=(12, 3)):
    viewer, labels, _widget = scene
    viewer.dims.set_point(0, k)
    labels.brush_size, labels.selected_label = 3, label
    labels.paint((k, *at), label)


def test_what_was_filled_in_is_no_anchor_when_it_comes_back(qtbot, engine, scene, unsaved):
    """But what was erased of it has ended there."""
    labels = scene[1]
    labels.data[...] = 0
    labels.data[3, 4:8, 4:8], labels.data[8, 10:14, 10:14] = 1, 2
    propagate(qtbot, scene)
    labels.data[3][labels.data[3] == 2] = 0
    stroke(scene, 8, label=2)
    keep_changes(qtbot, scene)
    again = comes_back(unsaved, labels)
    ledger = Ledger.of(again)
    assert ledger.anchors(again, WALK) == [3, 8]
    assert {k: ledger.ids_on(again, WALK, k) for k in (3, 8)} == {3: (1,), 8: (2,)}
    assert ledger.absent(again, WALK, 3) == {2}


def test_strokes_before_the_first_run_come_back(qtbot, scene, unsaved):
    stroke(scene, 2)
    assert not unsaved.exists()
    keep_changes(qtbot, scene)
    stroke(scene, 9, 2)
    keep_changes(qtbot, scene)
    again = comes_back(unsaved, scene[1])
    assert Ledger.of(again).anchors(again, WALK) == [2, 5, 9]


def test_strokes_after_a_run_come_back_as_corrections(qtbot, engine, scene, unsaved):
    viewer, labels, widget = scene
    propagate(qtbot, scene)
    stroke(scene, 9)
    keep_changes(qtbot, scene)
    viewer.dims.set_point(0, 3)
    click(qtbot, widget.loop.checked)
    keep_changes(qtbot, scene)
    stroke(scene, 0, 2)
    labels.data[7][labels.data[7] == 2] = 0
    labels.refresh()
    keep_changes(qtbot, scene)
    ledger = Ledger.of(labels)
    anchors = ledger.anchors(labels, WALK)
    assert anchors == [0, 3, 5, 7, 9]
    again = comes_back(unsaved, labels)
    restored = Ledger.of(again)
    assert restored.anchors(again, WALK) == anchors
    mine, theirs = restored.record(again, WALK), ledger.record(labels, WALK)
    np.testing.assert_array_equal(mine.kind, theirs.kind)
    assert restored.absent(again, WALK, 7) == {2}


@pytest.mark.parametrize("checked", [False, True])
def test_what_was_painted_after_a_run_comes_back_as_a_person_s(
    qtbot, engine, scene, unsaved, checked
):
    _viewer, labels, widget = scene
    propagate(qtbot, scene)
    stroke(scene, 9)
    if checked:
        click(qtbot, widget.loop.checked)
    keep_changes(qtbot, scene)
    again = comes_back(unsaved, labels)
    ledger = Ledger.of(again)
    kind = Kind.CHECKED if checked else Kind.CORRECTED
    assert ledger.record(again, WALK).kind[9] == kind
    assert not ledger.ours(WALK.at(9), again.data[9])[12, 3]
    assert ledger.ours(WALK.at(8), again.data[8])[5, 5], "what nobody has touched stays ours"


@pytest.mark.parametrize("axis", [0, 2])
def test_a_run_that_was_undone_stays_undone(qtbot, engine, scene, unsaved, axis):
    viewer, labels, widget = scene
    walk = Walk(3, axis, ())
    if axis:
        viewer.dims.order = (2, 0, 1)
        viewer.dims.set_point(2, 9)
        assert widget.choices.walked_axis == axis
    before = labels.data.copy()
    propagate(qtbot, scene)
    assert (labels.data != before).any()
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    keep_changes(qtbot, scene)
    again = comes_back(unsaved, labels)
    assert not Ledger.of(again).record(again, walk).written.any()
    crash(unsaved)
    labels.redo()
    keep_changes(qtbot, scene)
    again = comes_back(unsaved, labels)
    assert Ledger.of(again).record(again, walk).written.any()


def test_what_was_saved_is_kept_no_more_until_something_changes(
    qtbot, scene, unsaved, tmp_path, monkeypatch
):
    _viewer, _labels, widget = scene
    stroke(scene, 2)
    keep_changes(qtbot, scene)
    assert len(list(unsaved.glob("*"))) == 1
    widget.recovery.forget(scene[1])
    wait(qtbot, lambda: not any(unsaved.glob("*")))
    scene[1].refresh()
    assert not widget.recovery._timer.isActive()
    stroke(scene, 3)
    keep_changes(qtbot, scene)
    assert len(list(unsaved.glob("*"))) == 1


def test_a_stroke_is_on_disk_before_long(qtbot, scene, unsaved, monkeypatch):
    monkeypatch.setattr(_recovery_panel, "_PAUSE", 50)
    stroke(scene, 2)
    wait(qtbot, lambda: any(unsaved.glob(f"*/{RECORD}")))
    scene[2].recovery._kept[0][1].wait()
    comes_back(unsaved, scene[1])


def session_of(unsaved):
    """Name of the session that counts."""
    return [json.loads(file.read_text()).get("session") for file in unsaved.glob(f"*/{RECORD}")]


def test_strokes_come_back_from_a_run_that_goes_on(qtbot, engine, scene, unsaved):
    viewer, labels, widget = scene
    engine.hold_at = 9
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: widget.slices_done == 8)
    stroke(scene, 3, label=2)
    stroke(scene, 10)
    click(qtbot, widget.loop.checked)
    viewer.dims.set_point(0, 2)
    click(qtbot, widget.loop.checked)
    wait(qtbot, lambda: not widget.loop.looking)
    assert widget.recovery._timer.isActive()
    widget.recovery.keep_changes()
    wait(qtbot, lambda: session_of(unsaved) == ["session-1.json"])
    again = comes_back(unsaved, labels)
    ledger = Ledger.of(again)
    assert ledger.anchors(again, WALK) == [2, 3, 5, 10]
    assert ledger.record(again, WALK).checked.nonzero()[0].tolist() == [2, 10]
    assert not ledger.ours(WALK.at(3), again.data[3])[12, 3]
    assert ledger.ours(WALK.at(4), again.data[4])[5, 5]
    assert ledger.record(again, WALK).kind[8] == Kind.PREDICTED
    engine.release.set()
    wait_done(qtbot, widget)


def test_what_a_run_finds_beside_a_stroke_ahead_of_it_is_no_stroke(qtbot, engine, scene, unsaved):
    _viewer, labels, widget = scene
    engine.hold_at = 9
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: widget.slices_done == 8)
    stroke(scene, 10, label=2)
    engine.release.set()
    wait_done(qtbot, widget)
    for _layer, kept in widget.recovery._kept:
        kept.wait()
    again = comes_back(unsaved, labels)
    ledger = Ledger.of(again)
    assert ledger.anchors(again, WALK) == Ledger.of(labels).anchors(labels, WALK) == [5, 10]
    assert not ledger.ours(WALK.at(10), again.data[10])[12, 3], "it stays a person's"


def test_who_goes_to_another_layer_leaves_nothing_behind(qtbot, engine, scene, unsaved):
    viewer, labels, widget = scene
    propagate(qtbot, scene)
    stroke(scene, 3, label=2)
    other = viewer.add_labels(np.zeros_like(labels.data), name="another")
    viewer.layers.selection.active = other
    assert widget.choices.labels_layer is other
    stroke((viewer, other, widget), 7)
    keep_changes(qtbot, scene)
    crash(unsaved)
    found = {one.name: bring_back(one, ViewerModel()) for one in find_unsaved()}
    again, fresh = found["mine"], found["another"]
    np.testing.assert_array_equal(again.data, labels.data)
    assert Ledger.of(again).anchors(again, WALK) == [3, 5]
    np.testing.assert_array_equal(fresh.data, other.data)


def test_what_was_left_is_looked_at_once_and_not_at_one_go(
    qtbot, engine, scene, unsaved, monkeypatch
):
    viewer, labels, widget = scene
    propagate(qtbot, scene)
    ledger, looks = Ledger.of(labels), []
    ledger.record(labels, Walk(3, 1, ()))
    stroke(scene, 3, label=2)
    labels.data[7][labels.data[7] == 2] = 0
    viewer.add_labels(np.zeros_like(labels.data), name="another")
    examine = Ledger.examine

    def note(self, layer, walk, k):
        if self is ledger:
            looks.append((walk, k))
        examine(self, layer, walk, k)

    monkeypatch.setattr(Ledger, "examine", note)
    widget.recovery.keep_changes()
    assert not looks, "nobody waits for it"
    with monkeypatch.context() as busy:
        busy.setattr(widget.recovery._kept[0][1], "refresh", lambda: False)
        wait(qtbot, lambda: widget.loop.has_seen(labels))
        for _ in range(3):
            widget.recovery.keep_changes()
    assert looks == [(WALK, k) for k in range(12)]
    keep_changes(qtbot, scene)
    assert len(looks) == 12
    assert Ledger.of(again := comes_back(unsaved, labels)).anchors(again, WALK) == [3, 5, 7]


def test_what_was_left_unchanged_is_looked_at_no_more(qtbot, make_napari_viewer, monkeypatch):
    viewer, shape = make_napari_viewer(), (4, 6, 16, 18)
    monkeypatch.setattr(_loop, "_AT_ONCE", 0)
    viewer.add_image(np.zeros(shape, np.uint8))
    labels = viewer.add_labels(np.zeros(shape, np.uint8))
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    labels.brush_size = 3
    viewer.dims.set_point(0, 1)
    labels.paint((1, 2, 8, 8), 1)
    for t in (2, 3, 0):
        viewer.dims.set_point(0, t)
    looks, examine = [], Ledger.examine

    def note(self, layer, walk, k):
        looks.append((walk.fixed, k))
        examine(self, layer, walk, k)

    monkeypatch.setattr(Ledger, "examine", note)
    wait(qtbot, lambda: not widget.loop.looking and widget.loop.has_seen(labels))
    assert {fixed for fixed, _ in looks} == {((0, 0),), ((0, 1),)}


def test_a_layer_that_is_removed_takes_no_change_of_others_along(qtbot, scene, unsaved):
    viewer, labels, widget = scene
    other = viewer.add_labels(np.zeros_like(labels.data), name="another")
    stroke((viewer, other, widget), 7)
    keep_changes(qtbot, scene)
    viewer.layers.selection.active = labels
    stroke(scene, 3)
    viewer.layers.remove(other)
    keep_changes(qtbot, scene)
    wait(qtbot, lambda: len(list(unsaved.glob("*"))) == 1)
    comes_back(unsaved, labels)


def test_large_labels_are_looked_at_less_often(qtbot, scene, unsaved):
    stroke(scene, 2)
    keep_changes(qtbot, scene)
    recovery = scene[2].recovery
    recovery._kept[0][1].took = 3.0
    stroke(scene, 3)
    assert recovery._timer.interval() == 60_000


def test_small_labels_do_not_wait_for_large_ones(qtbot, scene, unsaved):
    viewer, labels, widget = scene
    stroke(scene, 2)
    keep_changes(qtbot, scene)
    widget.recovery._kept[0][1].took = 3.0
    stroke(scene, 3)
    other = viewer.add_labels(np.zeros_like(labels.data), name="another")
    stroke((viewer, other, widget), 7)
    assert widget.recovery._timer.interval() == 10_000


def test_what_was_cut_off_does_not_count(qtbot, scene, unsaved):
    stroke(scene, 2)
    keep_changes(qtbot, scene)
    (folder,) = unsaved.glob("*")
    np.savez(folder / "00001.npz", **{name_of(((0, 4),)): np.ones((3, 3))})
    comes_back(unsaved, scene[1])


def test_a_file_that_does_not_count_stands_for_none_that_is_gone(qtbot, scene, unsaved):
    stroke(scene, 2)
    keep_changes(qtbot, scene)
    crash(unsaved)
    (folder,) = unsaved.glob("*")
    (folder / "00000.npz").rename(folder / "00001.npz")
    assert find_unsaved() == []


def test_a_layer_of_another_shape_is_kept_anew(qtbot, scene, unsaved):
    _viewer, labels, _widget = scene
    stroke(scene, 2)
    keep_changes(qtbot, scene)
    labels.data = labels.data.astype(np.uint16)
    stroke(scene, 3)
    keep_changes(qtbot, scene)
    wait(qtbot, lambda: len(list(unsaved.glob("*"))) == 1)
    assert comes_back(unsaved, labels).data.dtype == np.uint16


def test_labels_that_are_cut_while_they_are_written_are_kept_anew(
    qtbot, engine, scene, unsaved, monkeypatch
):
    _viewer, labels, widget = scene
    put, at_it, may_go_on = Autosave._put, Event(), Event()

    def put_slowly(self, planes):
        at_it.set()
        assert may_go_on.wait(20)
        put(self, planes)

    propagate(qtbot, scene)
    stroke(scene, 2)
    wait(qtbot, lambda: widget.loop.has_seen(labels))
    monkeypatch.setattr(Autosave, "_put", put_slowly)
    widget.recovery.keep_changes()
    assert at_it.wait(20)
    labels.data = labels.data[:4].copy()
    may_go_on.set()
    ((_, kept),) = widget.recovery._kept
    kept.wait()
    stroke(scene, 3)
    keep_changes(qtbot, scene)
    assert len(comes_back(unsaved, labels).data) == 4


def test_labels_on_disk_are_left_alone(qtbot, scene, unsaved, tmp_path):
    viewer, labels, widget = scene
    mapped = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, labels.data.shape)
    viewer.add_labels(mapped, name="mapped")
    assert widget.choices.labels_layer.name == "mapped"
    stroke((viewer, widget.choices.labels_layer, widget), 2)
    widget.recovery.keep_changes()
    assert not unsaved.exists()


def test_names_of_planes():
    for position in (((0, 7),), ((0, 3), (1, 12))):
        assert position_of(name_of(position)) == position
    assert index_of(((1, 4),), 3) == (slice(None), 4, slice(None))


_KILLED = """
import sys, time
import numpy as np
from pathlib import Path
from napari.components import ViewerModel
from napari_imos._saved.autosave import Autosave
from napari_imos._record.ledger import Ledger
from napari_imos._layers import read_job
from napari_imos._stream import LabelsStream

viewer = ViewerModel()
image = viewer.add_image(np.random.default_rng(0).random((40, 16, 16)))
painted = np.zeros((40, 16, 16), np.uint8)
painted[3, 4:9, 4:9] = 1
labels = viewer.add_labels(painted, name="lost")
job = read_job(image, labels, 0, [3], None, None, Ledger.of(labels))
stream = LabelsStream(labels, job)
kept = Autosave(labels, image, job, Path(sys.argv[1]))
for k in range(40):
    stream.write(k, painted[3], 0.5, "forward")
    kept.add(k, "forward")
    print(k, flush=True)
    time.sleep(0.15)
"""


def test_a_process_that_is_killed_leaves_what_it_had_written(unsaved):
    command = [sys.executable, "-c", _KILLED, str(unsaved)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            if text.strip() == "30":
                break
        process.send_signal(signal.SIGKILL)
    (found,) = find_unsaved()
    again = bring_back(found, ViewerModel())
    done = [k for k in range(40) if again.data[k].any()]
    assert len(done) > 10, "all but the last seconds"
    assert all((again.data[k] == again.data[3]).all() for k in done)
    assert Ledger.of(again).anchors(again, WALK) == [3]
    assert Path(found.folder).is_dir()
    found.discard()
    assert not found.folder.exists()


def test_streaming_slices_are_on_disk_before_the_end(qtbot, engine, scene, unsaved):
    engine.hold_at = 8
    _viewer, _labels, widget = scene
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: any(unsaved.glob("*/00001.npz")))
    engine.release.set()
    wait_done(qtbot, widget)
