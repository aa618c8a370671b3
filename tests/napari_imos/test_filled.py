"""Objects that a person paints on different slices: each is filled in on the slices of the others.

Along axis 0, 1 is painted on slice 3 and 2 on slice 8:

    slice 3:  1 1 . .     slice 8:  . . . .      after a run, every slice:  1 1 . .
              1 1 . .               . . 2 2                                 1 1 2 2
              . . . .               . . 2 2                                 . . 2 2
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image
from napari.layers._source import layer_source
from test_widget import click, open_widget, shown, wait, wait_done  # noqa: F401

import napari_imos
from imos_core.cli import main
from imos_core.errors import PromptError
from napari_imos._job import Rules
from napari_imos._opening import filled_on, open_stream
from napari_imos._record.filled import goes_through
from napari_imos._record.ledger import Ledger
from napari_imos._record.provenance import Kind, Provenance
from napari_imos._saved.session import restore, save_session
from napari_imos._walk import Walk

ONE, TWO, THREE = np.s_[4:10, 4:10], np.s_[8:14, 14:20], np.s_[14:19, 2:8]
WALK = Walk(3, 0)


@pytest.fixture
def scene(qtbot, engine, open_widget):  # noqa: F811
    """A viewer; an object on slice 3 and another one on slice 8."""
    labels = np.zeros((12, 20, 24), np.uint8)
    viewer, _, layer, widget = open_widget(labels=labels)
    stroke(viewer, layer, 3, ONE, 1)
    stroke(viewer, layer, 8, TWO, 2)
    return viewer, layer, widget


def stroke(viewer, layer, k, where, label):
    """Paint a rectangle on a slice as one stroke of a brush."""
    viewer.dims.set_point(0, k)
    rows, columns = (np.arange(s.start, s.stop) for s in where)
    with layer.block_history():
        for r in rows:
            layer.data_setitem((np.full(columns.size, k), np.full(columns.size, r), columns), label)
    layer.selected_label = label
    layer.brush_size = 1
    layer.paint((k, int(rows[0]), int(columns[0])), label)


def erase(viewer, layer, k, label, where=np.s_[:, :]):
    """Erase a label on a slice."""
    viewer.dims.set_point(0, k)
    inside = np.zeros(layer.data.shape[1:], bool)
    inside[where] = True
    rows, columns = np.nonzero((layer.data[k] == label) & inside)
    with layer.block_history():
        layer.data_setitem((np.full(rows.size, k), rows, columns), 0)
    layer.brush_size = 1
    layer.paint((k, 0, 0), 0)


def run(qtbot, widget):
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)


def kinds(layer):
    ledger = Ledger.of(layer)
    for _ in ledger.examine_all(layer, WALK):
        pass
    return {k: Kind(v) for k, v in enumerate(ledger.record(layer, WALK).kind)}


def both_everywhere(layer, *, but=()):
    for k in range(12):
        if k not in but:
            assert (layer.data[k][ONE] == 1).all(), k
            two = layer.data[k][TWO]
            assert (two == 2).all(), k


def test_no_holes_on_the_slices_of_others(qtbot, scene):
    _, layer, widget = scene
    run(qtbot, widget)
    both_everywhere(layer)
    found = kinds(layer)
    assert found[3] == found[8] == Kind.DRAWN
    assert Ledger.of(layer).anchors(layer, WALK) == [3, 8]


def painted_beside(viewer, layer, others, two=TWO):
    """2 is painted on slices that lie directly beside the one of 1."""
    for k in others:
        stroke(viewer, layer, k, two, 2)


@pytest.mark.parametrize(
    ("one", "others", "later"), [(4, (3, 5), True), (0, (1,), False), (11, (10,), False)]
)
def test_no_holes_between_anchors_that_lie_side_by_side(
    qtbot,
    engine,
    open_widget,  # noqa: F811
    one,
    others,
    later,
):
    viewer, _, layer, widget = open_widget(labels=np.zeros((12, 20, 24), np.uint8))
    stroke(viewer, layer, one, ONE, 1)
    if later:
        run(qtbot, widget)
    painted_beside(viewer, layer, others)
    run(qtbot, widget)
    both_everywhere(layer)
    layer.undo()
    assert not (layer.data[one] == 2).any()
    run(qtbot, widget)
    both_everywhere(layer)
    layer.undo()
    layer.redo()
    # all of that is done: a correction elsewhere does not come by again
    stroke(viewer, layer, 7, np.s_[14:16, 14:20], 2)
    run(qtbot, widget)
    last = engine.calls[-1]
    assert one not in range(last["start"], last["stop"])


def test_what_was_filled_in_follows_a_correction_on_both_sides(qtbot, engine, open_widget):  # noqa: F811
    viewer, _, layer, widget = open_widget(labels=np.zeros((12, 20, 24), np.uint8))
    stroke(viewer, layer, 4, ONE, 1)
    painted_beside(viewer, layer, (3, 5), np.s_[10:12, 14:20])
    run(qtbot, widget)
    painted_beside(viewer, layer, (3, 5))
    run(qtbot, widget)
    both_everywhere(layer)


def test_once_more_they_prompt_what_was_painted_only(qtbot, engine, scene):
    _, layer, widget = scene
    run(qtbot, widget)
    run(qtbot, widget)
    prompts = engine.calls[-1]["prompts"]
    assert {k: sorted(np.unique(p).tolist()) for k, p in prompts.items()} == {3: [0, 1], 8: [0, 2]}
    assert engine.calls[-1]["through"] == {1: [8], 2: [3]}
    both_everywhere(layer)


def test_one_step_of_undo_takes_all_back(qtbot, scene):
    _, layer, widget = scene
    before = layer.data.copy()
    run(qtbot, widget)
    after = layer.data.copy()
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)
    layer.redo()
    np.testing.assert_array_equal(layer.data, after)
    layer.undo()
    assert not Ledger.of(layer).noted(WALK.at(8), layer.data[8]).any()
    run(qtbot, widget)
    np.testing.assert_array_equal(layer.data, after)


def test_what_is_painted_stays(qtbot, engine, scene):
    """2 lies over a part of 1 on its own slice."""
    viewer, layer, widget = scene
    stroke(viewer, layer, 8, np.s_[4:7, 4:7], 2)
    run(qtbot, widget)
    assert (layer.data[8, 4:7, 4:7] == 2).all()
    assert (layer.data[8, 7:10, 4:10] == 1).all()


def test_a_correction_makes_it_an_anchor_of_that_object(qtbot, engine, scene):
    viewer, layer, widget = scene
    run(qtbot, widget)
    viewer.dims.set_point(0, 8)
    layer.brush_size = 1
    layer.paint((8, 2, 2), 1)
    run(qtbot, widget)
    prompts = engine.calls[-1]["prompts"]
    assert set(np.unique(prompts[8])) == {0, 1, 2}
    assert "through" not in engine.calls[-1] or 8 not in engine.calls[-1]["through"].get(1, [])
    assert layer.data[8, 2, 2] == 1
    layer.undo()
    layer.undo()
    run(qtbot, widget)
    assert set(np.unique(engine.calls[-1]["prompts"][8])) == {0, 2}
    both_everywhere(layer)


def test_erased_there_it_has_ended(qtbot, engine, scene):
    viewer, layer, widget = scene
    run(qtbot, widget)
    viewer.dims.set_point(0, 8)
    with layer.block_history():
        rows, columns = np.nonzero(layer.data[8] == 1)
        layer.data_setitem((np.full(rows.size, 8), rows, columns), 0)
    layer.paint((8, 0, 0), 0)
    run(qtbot, widget)
    assert not (layer.data[8:] == 1).any()
    assert (layer.data[8:][:, TWO[0], TWO[1]] == 2).all()
    assert (layer.data[:8][:, ONE[0], ONE[1]] == 1).all()


def test_ended_before_it_is_gone_there_too(qtbot, scene):
    viewer, layer, widget = scene
    run(qtbot, widget)
    viewer.dims.set_point(0, 6)
    layer.selected_label = 1
    widget.loop.end_shown()
    wait_done(qtbot, widget)
    assert not (layer.data[6:] == 1).any()
    assert (layer.data[:6][:, ONE[0], ONE[1]] == 1).all()
    assert (layer.data[8][TWO] == 2).all()
    layer.undo()
    both_everywhere(layer)


def test_ends_on_the_very_slice(qtbot, scene):
    viewer, layer, widget = scene
    run(qtbot, widget)
    viewer.dims.set_point(0, 8)
    layer.selected_label = 1
    widget.loop.end_shown()
    wait_done(qtbot, widget)
    assert not (layer.data[8:] == 1).any()
    assert (layer.data[7][ONE] == 1).all()
    run(qtbot, widget)
    assert not (layer.data[8:] == 1).any()


def test_erased_before_it_is_gone_there_too(qtbot, scene):
    viewer, layer, widget = scene
    run(qtbot, widget)
    viewer.dims.set_point(0, 6)
    with layer.block_history():
        rows, columns = np.nonzero(layer.data[6] == 1)
        layer.data_setitem((np.full(rows.size, 6), rows, columns), 0)
    layer.paint((6, 0, 0), 0)
    run(qtbot, widget)
    assert not (layer.data[6:] == 1).any()
    assert (layer.data[8][TWO] == 2).all()


def test_a_new_object_goes_through_slices_that_are_older(qtbot, engine, scene):
    """Also where they share objects with its own slice, on which a run had left them."""
    viewer, layer, widget = scene
    run(qtbot, widget)
    stroke(viewer, layer, 5, THREE, 3)
    run(qtbot, widget)
    both_everywhere(layer)
    for k in range(12):
        assert (layer.data[k][THREE] == 3).all(), k
    run(qtbot, widget)
    assert set(np.unique(engine.calls[-1]["prompts"][8])) == {0, 2}
    assert set(np.unique(engine.calls[-1]["prompts"][3])) == {0, 1}


def test_slices_that_share_objects_are_complete(qtbot, scene):
    """Who paints all objects of two slices has left out on one what is not there."""
    viewer, layer, widget = scene
    stroke(viewer, layer, 3, THREE, 2)
    run(qtbot, widget)
    assert not (layer.data[8] == 1).any()


def test_checked_slices_stay(qtbot, engine, scene):
    viewer, layer, widget = scene
    viewer.dims.set_point(0, 8)
    widget.loop.toggle_shown()
    run(qtbot, widget)
    assert not (layer.data[8] == 1).any()
    widget.loop.toggle_checked([8])
    run(qtbot, widget)
    both_everywhere(layer)
    # checked as it is now, it stands for both
    widget.loop.toggle_checked([8])
    run(qtbot, widget)
    assert set(np.unique(engine.calls[-1]["prompts"][8])) == {0, 1, 2}


def test_erasing_the_prompt_takes_the_object_away_everywhere(qtbot, scene):
    viewer, layer, widget = scene
    run(qtbot, widget)
    viewer.dims.set_point(0, 3)
    with layer.block_history():
        rows, columns = np.nonzero(layer.data[3] == 1)
        layer.data_setitem((np.full(rows.size, 3), rows, columns), 0)
    layer.paint((3, 0, 0), 0)
    run(qtbot, widget)
    assert not (layer.data == 1).any()
    assert (layer.data[8][TWO] == 2).all()


def test_a_painted_slice_that_is_cleared_is_no_prompt_and_what_was_filled_in_stays_away(
    qtbot, scene
):
    viewer, layer, widget = scene
    stroke(viewer, layer, 10, TWO, 2)
    run(qtbot, widget)
    assert (layer.data[8] == 1).any()
    for label in (1, 2):
        erase(viewer, layer, 8, label)
    run(qtbot, widget)
    assert (layer.data[8][TWO] == 2).all(), "found from slice 10"
    assert not (layer.data[8] == 1).any()


def test_painted_while_it_runs_it_is_an_anchor_of_that_object(qtbot, engine, scene):
    viewer, layer, widget = scene
    engine.hold_at = 8
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: (layer.data[3][TWO] == 2).all())
    stroke(viewer, layer, 8, np.s_[0:3, 0:3], 1)
    engine.release.set()
    wait_done(qtbot, widget)
    assert (layer.data[8] == 1).sum() == 9
    run(qtbot, widget)
    assert set(np.unique(engine.calls[-1]["prompts"][8])) == {0, 1, 2}


LEAK = np.s_[7:10, 4:10]


def leak_erased(qtbot, scene):
    """1 has leaked on a predicted slice, where it is erased; 3 is painted next to it elsewhere."""
    viewer, layer, widget = scene
    run(qtbot, widget)
    erase(viewer, layer, 6, 1, LEAK)
    stroke(viewer, layer, 5, LEAK, 3)
    run(qtbot, widget)


def test_no_hole_where_another_one_was_erased(qtbot, engine, scene):
    layer, widget = scene[1:]
    leak_erased(qtbot, scene)
    for _ in range(2):
        assert (layer.data[6][LEAK] == 3).all()
        assert kinds(layer)[6] == Kind.CORRECTED
        assert Ledger.of(layer).anchors(layer, WALK) == [3, 5, 6, 8]
        assert set(np.unique(engine.calls[-1]["prompts"][6])) == {0, 1, 2}
        run(qtbot, widget)


def test_a_hole_that_was_filled_is_undone(qtbot, engine, scene):
    layer, widget = scene[1:]
    leak_erased(qtbot, scene)
    after = layer.data.copy()
    layer.undo()
    assert not Ledger.of(layer).record(layer, WALK).erased
    assert (layer.data[6][LEAK] == 0).all()
    assert kinds(layer)[6] == Kind.CORRECTED
    layer.redo()
    np.testing.assert_array_equal(layer.data, after)
    assert kinds(layer)[6] == Kind.CORRECTED
    for _ in ("the run", "3", "what was erased"):
        layer.undo()
        Ledger.of(layer).settle(layer)
    assert kinds(layer)[6] == Kind.PREDICTED
    run(qtbot, widget)
    both_everywhere(layer)


def test_all_of_an_object_was_erased_where_another_one_is_filled_in(qtbot, scene):
    viewer, layer, widget = scene
    run(qtbot, widget)
    erase(viewer, layer, 6, 1)
    stroke(viewer, layer, 5, ONE, 3)
    for _ in range(2):
        run(qtbot, widget)
        assert (layer.data[6][ONE] == 3).all()
        assert not (layer.data[6:] == 1).any()


def test_the_only_anchor_of_one_is_dropped_and_its_results_stay(qtbot, scene):
    _, layer, widget = scene
    run(qtbot, widget)
    widget.loop.toggle_anchor(8)
    assert Ledger.of(layer).anchors(layer, WALK) == [3]
    run(qtbot, widget)
    both_everywhere(layer)


def test_the_only_anchor_of_one_is_given_back_and_its_results_stay(qtbot, scene):
    _, layer, widget = scene
    run(qtbot, widget)
    widget.loop.release([8])
    assert Ledger.of(layer).anchors(layer, WALK) == [3]
    run(qtbot, widget)
    both_everywhere(layer)


def test_where_all_are_dropped_the_shown_slice_stands_for_all_on_it(qtbot, engine, scene):
    _, layer, widget = scene
    run(qtbot, widget)
    for k in (3, 8):
        scene[0].dims.set_point(0, k)
        widget.loop.toggle_anchor()
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 8, labels 1-2")
    run(qtbot, widget)
    prompts = engine.calls[-1]["prompts"]
    assert {k: set(np.unique(p)) for k, p in prompts.items()} == {8: {0, 1, 2}}
    both_everywhere(layer)


def test_whoever_names_a_slice_means_all_on_it(qtbot, engine, scene):
    viewer, layer, widget = scene
    run(qtbot, widget)
    image = viewer.layers[0]
    napari_imos.propagate(image, layer, anchors=[8], ids=[1])
    prompts = engine.calls[-1]["prompts"]
    assert set(np.unique(prompts[8])) == {0, 1, 2}
    # but not where another one shows it
    napari_imos.propagate(image, layer, anchors=[3, 8])
    assert set(np.unique(engine.calls[-1]["prompts"][8])) == {0, 2}


def test_what_is_said_of_a_slice_counts_at_once(qtbot, scene):
    """Checked, it is an anchor of what was filled in as well."""
    viewer, layer, widget = scene
    run(qtbot, widget)
    ledger = Ledger.of(layer)
    assert ledger.ids_seen(layer, WALK, 8) == (2,)
    widget.loop.toggle_checked([8])
    assert ledger.ids_seen(layer, WALK, 8) == (1, 2)
    widget.loop.toggle_checked([8])
    assert ledger.ids_seen(layer, WALK, 8) == (2,)
    viewer.dims.set_point(0, 6)
    layer.selected_label = 1
    widget.loop.toggle_checked([8])
    widget.loop.end_shown()
    assert "both sides" in widget.status.value


def test_another_label_throughout(qtbot, engine, scene):
    _, layer, widget = scene
    run(qtbot, widget)
    where = np.nonzero(layer.data == 1)
    layer.data_setitem(where, 7)
    run(qtbot, widget)
    assert {k: set(np.unique(p)) for k, p in engine.calls[-1]["prompts"].items()} == {
        3: {0, 7},
        8: {0, 2},
    }
    assert not (layer.data == 1).any()


def test_another_label_throughout_but_for_a_voxel(qtbot, engine, scene):
    """Of a contiguous fill; the voxel is on a slice that the object was filled in on."""
    _, layer, widget = scene
    run(qtbot, widget)
    where = np.argwhere(layer.data == 1)
    where = where[(where != (8, 4, 4)).any(axis=1)]
    layer.data_setitem(tuple(where.T), 7)
    run(qtbot, widget)
    assert {k: set(np.unique(p)) for k, p in engine.calls[-1]["prompts"].items()} == {
        3: {0, 7},
        8: {0, 2},
    }
    assert not (np.delete(layer.data, 8, axis=0) == 1).any()


def test_only_empty_voxels(qtbot, engine, scene):
    """What was filled in stays, too, and is not taken away again and again once it has ended."""
    viewer, layer, widget = scene
    run(qtbot, widget)
    erase(viewer, layer, 6, 1)
    widget.advanced.only_empty.value = True
    before = layer.data.copy()
    for _ in range(2):
        run(qtbot, widget)
        np.testing.assert_array_equal(layer.data, before)
    stream, _ = open_stream(viewer.layers[0], layer, 0, None, {}, viewer)
    stream.commit()
    job, ledger = stream.job, Ledger.of(layer)
    assert filled_on(job, ledger) == {3: {2}, 8: {1}}
    assert filled_on(replace(job, rules=Rules(only_empty=True)), ledger) == {}


def test_locked_labels(qtbot, scene):
    _, layer, widget = scene
    widget.advanced.locked.value = "1"
    run(qtbot, widget)
    assert not (layer.data[8] == 1).any()
    assert (layer.data[3][TWO] == 2).all()


def test_saved_and_gone_on_with(qtbot, engine, scene, tmp_path, volume):
    _, layer, widget = scene
    run(qtbot, widget)
    path = tmp_path / "labels.tif"
    image, back = reopened(layer, path, volume)
    napari_imos.propagate(image, back)
    prompts = engine.calls[-1]["prompts"]
    assert {k: sorted(np.unique(p).tolist()) for k, p in prompts.items()} == {3: [0, 1], 8: [0, 2]}
    np.testing.assert_array_equal(back.data, layer.data)


def reopened(layer, path, volume):
    """Return image and labels of a session that is saved and opened again."""
    save_session(layer, path)
    again = ViewerModel()
    image = again.add_image(volume)
    layer = again.add_labels(tifffile.imread(path))
    assert restore(layer, path) == 0
    return image, layer


def test_erased_there_it_has_ended_after_reopening_too(qtbot, engine, scene, tmp_path, volume):
    viewer, layer, widget = scene
    run(qtbot, widget)
    erase(viewer, layer, 8, 1)
    run(qtbot, widget)
    path = tmp_path / "labels.tif"
    for _ in range(2):
        image, layer = reopened(layer, path, volume)
        napari_imos.propagate(image, layer)
        assert not (layer.data[8:] == 1).any()
        assert 8 not in engine.calls[-1].get("through", {}).get(1, [])


def test_corrected_there_it_is_an_anchor_of_that_object_after_reopening_too(
    qtbot, engine, scene, tmp_path, volume
):
    viewer, layer, widget = scene
    run(qtbot, widget)
    erase(viewer, layer, 6, 1, LEAK)
    stroke(viewer, layer, 9, THREE, 3)
    run(qtbot, widget)
    erase(viewer, layer, 6, 3, np.s_[14:16, :])
    corrected = layer.data[6] == 3
    assert corrected.any()
    assert Ledger.of(layer).ids_on(layer, WALK, 6) == (1, 2, 3)
    path = tmp_path / "labels.tif"
    for _ in range(2):
        image, layer = reopened(layer, path, volume)
        assert Ledger.of(layer).ids_on(layer, WALK, 6) == (1, 2, 3)
        layer.data[9, 18, 7] = 0
        napari_imos.propagate(image, layer)
        np.testing.assert_array_equal(layer.data[6] == 3, corrected)


def test_a_session_once_more(tmp_path):
    """With the real engine: `imos rerun` finds the same, holes filled."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:10, :64, :72]
    first = (y - 20 - z) ** 2 + (x - 22) ** 2 < 90
    second = (y - 44) ** 2 + (x - 50 + z) ** 2 < 70
    image = (90 + 90 * first - 60 * second + rng.normal(0, 6, first.shape)).clip(0, 255)
    tifffile.imwrite(tmp_path / "image.tif", image.astype(np.uint8))
    viewer = ViewerModel()
    with layer_source(path=str(tmp_path / "image.tif")):
        layer = Image(image.astype(np.uint8))
    viewer.add_layer(layer)
    labels = viewer.add_labels(np.zeros(image.shape, np.uint16))
    labels.data[3][first[3]] = 1
    labels.data[6][second[6]] = 2
    napari_imos.propagate(layer, labels, precision="float32", device="cpu", anchors=[3, 6])
    assert (labels.data[6] == 1).sum() > 100
    assert (labels.data[3] == 2).sum() > 100
    save_session(labels, tmp_path / "labels.tif")
    again = str(tmp_path / "again.tif")
    assert main(["rerun", str(tmp_path / "labels.tif"), "-o", again, "--quiet"]) == 0
    np.testing.assert_array_equal(tifffile.imread(again), labels.data)


def test_what_runs_left_is_read_only_where_something_went_through(qtbot, scene, monkeypatch):
    """It is costly for large slices, and hardly any slice needs it."""
    _, layer, widget = scene
    run(qtbot, widget)
    ledger, read = Ledger.of(layer), []
    monkeypatch.setattr(ledger, "noted", lambda where, plane: read.append(where) or plane)
    for k in range(12):
        ledger.filled(WALK, k, layer.data[k])
    assert read == [WALK.at(3), WALK.at(8)]
    ledger.record(layer, WALK).checked[8] = True
    ledger.filled(WALK, 8, layer.data[8])
    assert len(read) == 2


def test_what_runs_let_through_is_let_through_again():
    record, ids = Provenance(9), range(1, 41)
    common = np.zeros((8, 8), np.uint8)
    common[7] = 41  # on both, so that nobody painted one of the others alone
    prompts = {k: common.copy() for k in (2, 6)}
    prompts[2].flat[:20], prompts[6].flat[:20] = ids[:20], ids[20:]
    through = {"2": list(ids[20:]), "6": list(ids[:20])}
    record.runs = [{"labels": [*ids, 41], "anchors": [2, 6], "through": through}] * 2
    goes = goes_through(record, prompts, ids, {})
    assert goes == {i: [6] if i <= 20 else [2] for i in ids}


def test_in_a_series(engine, series):
    """Where it starts, objects are painted on different slices of one time point."""
    labels = series[1]
    napari_imos.propagate(*series, axis="z", series="t", anchors=[2, 5])
    for t in range(3):
        for k in range(8):
            assert (labels.data[(t, k, *ONE)] == 1).all(), (t, k)
            assert (labels.data[(t, k, *TWO)] == 2).all(), (t, k)


def test_in_a_series_anchors_may_lie_side_by_side(engine, series):
    labels = series[1]
    labels.data[1] = 0
    labels.data[(1, 0, *ONE)], labels.data[(1, 1, *TWO)] = 1, 2
    napari_imos.propagate(*series, axis="z", series="t", anchors=[0, 1])
    assert (labels.data[(1, 0, *TWO)] == 2).all()


def test_whoever_names_them_decides(engine, volume):
    viewer = ViewerModel()
    image = viewer.add_image(volume)
    labels = viewer.add_labels(np.zeros((12, 20, 24), np.uint8))
    labels.data[3][ONE] = 1
    labels.data[8][TWO] = 2
    napari_imos.propagate(image, labels, anchors=[3, 8], through={1: [8]})
    assert (labels.data[8][ONE] == 1).all()
    assert not (labels.data[3] == 2).any()
    labels.undo()
    napari_imos.propagate(image, labels, anchors=[3, 8], through={})
    assert not (labels.data[8] == 1).any()


@pytest.fixture
def layers(volume):
    """Layers of a script: 1 on slice 3, 2 on slice 8."""
    viewer = ViewerModel()
    image = viewer.add_image(volume)
    labels = viewer.add_labels(np.zeros((12, 20, 24), np.uint8))
    labels.data[3][ONE] = 1
    labels.data[8][TWO] = 2
    return image, labels


@pytest.mark.parametrize(
    "through",
    [{1: 8}, {np.int64(1): np.array([8])}, {1: (k for k in [8])}, {1: [-4]}],
    ids=["number", "numpy", "generator", "negative"],
)
def test_they_may_be_named_in_any_way(engine, layers, through, tmp_path):
    image, labels = layers
    napari_imos.propagate(image, labels, anchors=[3, 8], through=through)
    assert engine.calls[-1]["through"] == {1: [8]}
    assert (labels.data[8][ONE] == 1).all()
    save_session(labels, tmp_path / "labels.tif")


@pytest.mark.parametrize(
    ("through", "said"),
    [
        ([1], "Through is painted slices by label, as in {3: [45]}, not list."),
        ({1: [5]}, "Label 1 goes through painted slices only: slice 5 is none of [3, 8]."),
        ({1: [-5]}, "Label 1 goes through painted slices only: slice -5 is none of [3, 8]."),
        (
            {9: [8]},
            "Label 9 cannot go through slices, as it is not painted or not propagated: choose from "
            "[1, 2].",
        ),
        (
            {2: [8]},
            "Label 2 is painted on slice 8 only, and through takes it out there: leave one slice "
            "on which it is painted out of through.",
        ),
        ({"a": [8]}, "Each label of through must be a whole number, not 'a': give one."),
        ({1: ["a"]}, "Each of slices in through must be a whole number, not 'a': give one."),
    ],
)
def test_what_does_not_serve_is_refused_before_anything_is_done(engine, layers, through, said):
    image, labels = layers
    with pytest.raises(PromptError) as refused:
        napari_imos.propagate(image, labels, anchors=[3, 8], through=through)
    assert str(refused.value) == said
    assert not engine.calls
    assert not Ledger.of(labels).record(labels, WALK).runs


@pytest.fixture
def series():
    """Layers of a script with time points; at 1, 1 on slice 2 and 2 on slice 5 are painted."""
    viewer = ViewerModel()
    shape = (3, 8, 20, 24)
    names = ("t", "z", "y", "x")
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    image = viewer.add_image(pixels, axis_labels=names)
    labels = viewer.add_labels(np.zeros(shape, np.uint8), axis_labels=names)
    labels.data[(1, 2, *ONE)] = 1
    labels.data[(1, 5, *TWO)] = 2
    viewer.dims.set_point((0, 1), (1, 2))
    return image, labels


def test_nobody_names_them_in_a_series(engine, series):
    with pytest.raises(PromptError, match=r"^Through is for one volume: leave it out with series"):
        napari_imos.propagate(*series, axis="z", series="t", anchors=[2, 5], through={1: [5]})
    assert not engine.calls


def test_nor_in_a_series_of_arrays(engine, series):
    image, labels = (layer.data for layer in series)
    with pytest.raises(PromptError, match=r"^Through is for one volume: leave it out with series"):
        napari_imos.propagate(image, labels, axis=1, series=0, through={1: [5]})
    assert not engine.calls


def test_ended_before_it_is_gone_there_too_in_a_series(engine, series):
    labels = series[1]
    napari_imos.propagate(*series, axis="z", series="t", anchors=[2, 5])
    labels.data[1, 4][labels.data[1, 4] == 1] = 0
    napari_imos.propagate(*series, axis="z", series="t")
    assert not (labels.data[1, 4:] == 1).any()
    for k in range(4):
        assert (labels.data[(1, k, *ONE)] == 1).all(), k


def test_only_what_was_filled_in_is_left_over_in_a_series(engine, series):
    """The steps are fresh but for that."""
    labels = series[1]
    napari_imos.propagate(*series, axis="z", series="t", anchors=[2, 5])
    walk = Walk(4, 1, ((0, 1),))
    Ledger.of(labels).record(labels, walk).end(5, 1)
    napari_imos.propagate(*series, axis="z", series="t")
    assert not (labels.data[1, 5:] == 1).any()
    assert (labels.data[(1, 4, *ONE)] == 1).all()
