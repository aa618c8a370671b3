"""Many objects, large and small, that get other labels, or are taken away, throughout."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from test_ledger import WALK, anchors, kinds, run

from napari_imos._dock.loop import LoopPanel
from napari_imos._record.ledger import Ledger
from napari_imos._record.left import LeftLabels
from napari_imos._record.said import release, toggle_anchor
from napari_imos._saved.session import restore, save_session


def scene_of(plane):
    """A layer of 6 slices, painted on slice 2."""
    viewer = ViewerModel()
    image = viewer.add_image(np.random.default_rng(0).integers(0, 200, (6, *plane.shape)))
    labels = np.zeros((6, *plane.shape), plane.dtype)
    labels[2] = plane
    layer = viewer.add_labels(labels)
    viewer.dims.set_point(0, 2)
    return viewer, image, layer


def rename(labels, names):
    """Write other labels, as a plugin does."""
    before = labels.data.copy()
    for old, new in names.items():
        labels.data[before == old] = new
    labels.refresh()


@pytest.fixture
def small():
    """Two large objects, and 20 that are a hundredth of them or less."""
    plane = np.zeros((128, 128), np.uint32)
    plane[:60, 1:125], plane[62:110, 1:125] = 1, 2
    for n in range(20):
        plane[114 : 118 + n % 3, 6 * n : 6 * n + 3 + n % 2] = 10 + n
    return plane


@pytest.mark.parametrize("which", [[10], [17], [1], range(10, 30)])
def test_small_objects_that_are_renamed_stay_predicted(engine, small, which):
    scene = scene_of(small)
    labels = scene[2]
    run(scene, engine)
    rename(labels, {old: old + 500 for old in which})
    assert kinds(labels) == "ppdppp"
    assert anchors(labels) == [2]
    record = Ledger.of(labels).record(labels, WALK)
    assert {old + 500 for old in which} <= set(record.ids)
    assert not set(which) & set(record.ids)


def test_small_objects_of_a_run_below_the_latest_are_followed_too(engine, small):
    scene = scene_of(small)
    labels = scene[2]
    run(scene, engine)
    labels.data[4, 120:124, 0:4] = 40
    run(scene, engine)
    rename(labels, {13: 513})
    assert kinds(labels) == "ppdpcp"


def test_a_small_object_that_is_taken_away_throughout_locks_nothing(engine, small):
    scene = scene_of(small)
    labels = scene[2]
    run(scene, engine)
    rename(labels, {13: 0})
    assert kinds(labels) == "ppdppp"
    labels.data[4, 114, 18] = 99  # one of another, on one slice
    assert anchors(labels) == [2, 4]


@pytest.fixture
def many():
    """40 objects, 3, 6, 9 and so on."""
    plane = np.zeros((64, 90), np.uint32)
    for n in range(40):
        plane[8 * (n // 10) : 8 * (n // 10) + 7, 9 * (n % 10) : 9 * (n % 10) + 8] = 3 * (n + 1)
    return plane


@pytest.fixture
def passes(monkeypatch):
    """How often somebody goes through all that runs left."""
    counted = []
    planes = LeftLabels.planes

    def count(left):
        counted.append(left)
        return planes(left)

    monkeypatch.setattr(LeftLabels, "planes", count)
    return counted


@pytest.fixture
def reads(monkeypatch):
    """How often somebody reads from a Zarr array."""
    counted = []
    read = zarr.Array.__getitem__

    def count(*given):
        counted.append(given[1])
        return read(*given)

    monkeypatch.setattr(zarr.Array, "__getitem__", count)
    return counted


def names_of(which):
    """Old -> new."""
    old = range(3, 123, 3)
    return {
        "far": {i: i + 1000 for i in old},
        "among them": {i: i // 3 for i in old},
        "rising": {i: i + 3 for i in old},
        "some": {i: i + 1000 for i in list(old)[::2]},
    }[which]


@pytest.mark.parametrize("which", ["far", "among them", "rising", "some"])
def test_many_objects_are_renamed_at_once(engine, many, passes, which):
    scene, names = scene_of(many), names_of(which)
    labels = scene[2]
    run(scene, engine)
    record = Ledger.of(labels).record(labels, WALK)
    before = record.basis.copy()
    assert kinds(labels) == "ppdppp"
    passes.clear()
    rename(labels, names)
    assert kinds(labels) == "ppdppp"
    assert len(passes) <= 2, "not once for each of them"
    assert anchors(labels) == [2]
    assert record.ids == tuple(sorted(names.get(i, i) for i in before))
    assert all((record.basis[names.get(i, i)] == made).all() for i, made in before.items())
    # a correction is one, under the new label
    labels.data[4, 50:54, 0:4] = names[3]
    assert anchors(labels) == [2, 4]
    run(scene, engine)
    assert (labels.data[5, 50:54, 0:4] == names[3]).all()
    assert anchors(labels) == [2, 4]


def test_many_objects_that_are_renamed_keep_single_voxels(engine, many):
    scene = scene_of(many)
    labels = scene[2]
    run(scene, engine)
    kinds(labels)
    names = names_of("far")
    rename(labels, names)
    labels.data[4, 3, 4] = 3
    assert kinds(labels) == "ppdppp"
    assert 3 not in Ledger.of(labels).record(labels, WALK).ids
    labels.data[4, 3, 5] = 3
    labels.data[4, 20:24, 0:4] = 1009
    assert anchors(labels) == [2, 4], "all the same a correction is seen"


@pytest.mark.parametrize("which", [slice(None, None, 2), slice(5, 30)])
def test_many_objects_are_taken_away_at_once_and_come_back(engine, many, passes, which):
    scene = scene_of(many)
    labels = scene[2]
    run(scene, engine)
    kinds(labels)
    passes.clear()
    ids = list(range(3, 123, 3))[which]
    where = np.nonzero(np.isin(labels.data, ids))
    before = labels.data.copy()
    labels.data_setitem(where, np.zeros(len(where[0]), labels.data.dtype))
    assert kinds(labels) == "ppdppp"
    assert len(passes) <= 3
    assert anchors(labels) == [2]
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    assert kinds(labels) == "ppdppp"
    ours = Ledger.of(labels).ours(WALK.at(4), labels.data[4])
    assert ours[labels.data[4] != 0].all(), "they are of that run again"


@pytest.mark.parametrize(("over", "most"), [(0, 5), (200, 10)], ids=["whole", "painted over"])
def test_many_objects_on_disk_are_taken_away_in_few_reads(tmp_path, many, reads, over, most):
    planes = np.stack([many] * 5)
    labels = ViewerModel().add_labels(zarr.create_array(tmp_path / "a.zarr", data=planes))
    ledger = Ledger.of(labels)
    for k in range(5):
        release(ledger, labels, WALK, k)
    ledger.settle(labels)
    reads.clear()
    ledger.settle(labels)
    look = len(reads)
    planes[planes > 60] = 0
    planes[2, :, ::3][many[:, ::3] > 60] = over
    labels.data[:, :, :] = planes
    reads.clear()
    ledger.settle(labels)
    assert len(reads) <= look + most
    assert not ledger.noted(WALK.at(1), planes[1])[many > 60].any()


def test_a_slice_that_was_dropped_stays_so_when_many_are_renamed(engine, many):
    scene = scene_of(many)
    labels = scene[2]
    run(scene, engine)
    labels.data[4, 50:54, 0:4] = 3
    assert anchors(labels) == [2, 4]
    toggle_anchor(Ledger.of(labels), labels, WALK, 4)
    assert anchors(labels) == [2]
    rename(labels, names_of("among them"))
    assert anchors(labels) == [2]


@pytest.fixture
def labelled(engine):
    """Objects on all slices that came from elsewhere, but 1 on slices 1 and 3; a run for that."""
    plane = np.zeros((20, 30), np.uint16)
    plane[2:8, 2:8], plane[2:8, 12:18], plane[12:18, 12:18] = 1, 2, 3
    scene = scene_of(plane)
    labels = scene[2]
    labels.data[:] = plane
    for k in (1, 3):
        labels.data[k][plane == 1] = 0
    run(scene, engine, anchors=[2], labels=[1])
    assert (labels.data[3] == plane).all()
    assert kinds(labels) == "ppdppp"
    return scene


@pytest.mark.parametrize("names", [{2: 3}, {2: 7}, {2: 3, 3: 2}, {2: 0}, {1: 7}])
def test_what_becomes_of_other_objects_is_no_correction(labelled, names):
    labels = labelled[2]
    rename(labels, names)
    assert kinds(labels) == "ppdppp"
    assert anchors(labels) == [2]


def test_corrections_beside_other_objects_are_seen(labelled):
    labels = labelled[2]
    rename(labels, {2: 3})
    labels.data[4, 2:8, 2:4] = 0  # of what lay there before
    assert anchors(labels) == [2, 4]
    labels.data[3, 2:8, 2:4] = 0  # of what the run has filled in
    assert anchors(labels) == [2, 3, 4]
    labels.data[3:5, 2:8, 2:4] = 1
    assert anchors(labels) == [2]
    labels.data[5, 2:8, 8:10] = 1
    assert anchors(labels) == [2, 5]


@pytest.mark.parametrize("k", [3, 4])
def test_all_is_ours_on_a_slice_that_was_given_back_since(labelled, k):
    labels = labelled[2]
    release(Ledger.of(labels), labels, WALK, k)
    assert anchors(labels) == [2]
    labels.data[k, 12:15, 12:18] = 0  # of one that came from elsewhere
    assert anchors(labels) == [2, k]


def test_who_paints_another_object_corrects_the_slice(labelled):
    labels = labelled[2]
    Ledger.of(labels).record(labels, WALK).painted[4] = True  # as the window notes it
    assert anchors(labels) == [2]
    Ledger.of(labels).record(labels, WALK).painted[4] = True
    labels.data[4, 12:15, 12:18] = 8  # the half of one that came from elsewhere
    assert anchors(labels) == [2, 4]
    labels.data[4, 12:15, 12:18] = 3
    assert anchors(labels) == [2]


def test_what_becomes_of_other_objects_is_no_correction_on_another_day(labelled, tmp_path):
    labels = labelled[2]
    save_session(labels, tmp_path / "labels.npy")
    again = ViewerModel().add_labels(labels.data.copy())
    assert restore(again, tmp_path / "labels.npy") == 0
    rename(again, {2: 3})
    assert kinds(again) == "ppdppp"
    again.data[4, 2:8, 2:4] = 0
    assert anchors(again) == [2, 4]


@pytest.mark.parametrize(("dimensions", "expected"), [(2, [3]), (3, [])])
def test_a_bucket_that_fills_a_volume_makes_no_anchor(qtbot, many, dimensions, expected):
    viewer = ViewerModel()
    labels = viewer.add_labels(np.stack([many] * 6))
    panel = LoopPanel(viewer)
    qtbot.addWidget(panel.native)
    panel.follow(labels, WALK)
    labels.events.paint.connect(lambda event: panel.painted())
    assert panel.anchors() == []
    viewer.dims.set_point(0, 3)
    labels.mode, labels.n_edit_dimensions = "fill", dimensions
    labels.fill((3, 1, 1), 500)
    assert (labels.data == 500).any(axis=(1, 2)).sum() == (1 if dimensions == 2 else 6)
    assert panel.anchors() == expected
    panel.stop()


def again_of(labels, how, tmp_path):
    """The labels in another layer, which knows nothing of their runs but what was kept of it."""
    viewer = ViewerModel()
    image = viewer.add_image(np.random.default_rng(0).integers(0, 200, labels.data.shape))
    if how == "duplicate":
        given = {"metadata": dict(labels.metadata)}
        again = viewer.add_labels(labels.data.copy(), **given)
    else:
        path = tmp_path / "labels.npy"
        save_session(labels, path)
        again = viewer.add_labels(np.load(path))
        assert restore(again, path) == 0
    viewer.dims.set_point(0, 2)
    return viewer, image, again


@pytest.mark.parametrize("how", ["session", "duplicate"])
@pytest.mark.parametrize("names", [{13: 513}, {13: 0}, {13: 1}, {1: 14}, {1: 513, 15: 14}])
def test_objects_of_another_day_stay_predicted(engine, small, tmp_path, how, names):
    scene = scene_of(small)
    run(scene, engine)
    scene = again_of(scene[2], how, tmp_path)
    labels = scene[2]
    assert kinds(labels) == "ppdppp"
    before = labels.data.copy()
    rename(labels, names)
    assert kinds(labels) == "ppdppp"
    assert anchors(labels) == [2]
    labels.data[...] = before  # as Ctrl+Z has it
    labels.refresh()
    assert kinds(labels) == "ppdppp"
    assert anchors(labels) == [2]
    rename(labels, names)
    # a correction is one, and is carried on
    new = max(names[max(names)], 2)
    labels.data[4, 120:124, 0:4] = new
    assert kinds(labels) == "ppdpcp"
    run(scene, engine)
    assert (labels.data[5, 120:124, 0:4] == new).all()
    assert anchors(labels) == [2, 4]


@pytest.mark.parametrize("names", [{13: 513}, {13: 0}, {13: 1}])
def test_objects_that_a_run_on_another_day_did_not_touch_stay_predicted(
    engine, small, tmp_path, names
):
    scene = scene_of(small)
    run(scene, engine)
    scene = again_of(scene[2], "session", tmp_path)
    labels = scene[2]
    labels.data[4, 120:124, 0:4] = 40
    run(scene, engine)
    assert kinds(labels) == "ppdpcp"
    rename(labels, names)
    assert kinds(labels) == "ppdpcp"
    assert anchors(labels) == [2, 4]
    # and so they do on a third day
    again = again_of(labels, "session", tmp_path)[2]
    rename(again, {14: 514})
    assert kinds(again) == "ppdpcp"


def test_an_object_of_a_slice_that_was_given_back_stays_ours(engine, small, tmp_path):
    labels = scene_of(small)[2]
    labels.data[:] = small
    ledger = Ledger.of(labels)
    for k in (0, 1, 3, 4, 5):
        release(ledger, labels, WALK, k)
    assert kinds(labels) == "ppdppp"
    rename(labels, {13: 513})
    assert kinds(labels) == "ppdppp"


@pytest.mark.parametrize("which", [1, 30, 58, 60])
def test_an_object_of_few_slices_of_many_stays_predicted_on_another_day(tmp_path, which):
    objects = np.repeat(np.arange(1, 61, dtype=np.uint8), 2)  # each on two slices
    labels = ViewerModel().add_labels(np.tile(objects[:, None, None], (1, 8, 8)))
    for k in range(len(objects)):
        release(Ledger.of(labels), labels, WALK, k)
    again = again_of(labels, "session", tmp_path)[2]
    rename(again, {which: 244})
    assert kinds(again) == "p" * len(objects)


@pytest.mark.parametrize(
    ("objects", "thickness", "most"),
    [(np.ones(120, np.uint8), 1, 2), (np.repeat(np.arange(1, 61, dtype=np.uint8), 2), 40, 3)],
    ids=["the same everywhere", "few slices each"],
)
def test_a_look_at_labels_of_another_day_on_disk_reads_little(
    tmp_path, reads, objects, thickness, most
):
    planes = np.tile(objects[:, None, None], (1, 8, 8))
    data = zarr.create_array(tmp_path / "a.zarr", data=planes, chunks=(thickness, 8, 8))
    labels = ViewerModel().add_labels(data)
    ledger = Ledger.of(labels)
    for k in range(len(objects)):
        release(ledger, labels, WALK, k)
    reads.clear()
    ledger.redrawn()
    ledger.settle(labels)
    assert len(reads) == most


@pytest.mark.parametrize(("new", "over"), [(501, 40), (0, 40), (2, 40), (501, 0), (2, 0)])
def test_an_object_that_was_corrected_before_is_followed_all_the_same(engine, small, new, over):
    scene = scene_of(small)
    labels = scene[2]
    run(scene, engine)
    labels.data[4, 10:30, 30:100] = over
    assert kinds(labels) == "ppdpcp"
    before = labels.data.copy()
    rename(labels, {1: new})
    assert kinds(labels) == "ppdpcp"
    assert anchors(labels) == [2, 4]
    labels.data[...] = before  # as Ctrl+Z has it
    labels.refresh()
    assert kinds(labels) == "ppdpcp"
    labels.data[4, 10:30, 30:100] = 1
    labels.refresh()
    assert kinds(labels) == "ppdppp"
