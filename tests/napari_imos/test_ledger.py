"""What every slice is, and who made it an anchor."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers import Labels

import napari_imos
from napari_imos._anchor_choice import choose_anchors
from napari_imos._dock.prompt_line import Asked, prompt_line
from napari_imos._job import Job, Rules
from napari_imos._opening import open_stream
from napari_imos._record import ledger as _ledger
from napari_imos._record.ledger import Ledger
from napari_imos._record.said import release, toggle_anchor, toggle_checked
from napari_imos._walk import Walk

WALK = Walk(3, 0)


@pytest.fixture
def scene(engine, volume, painted):
    viewer = ViewerModel()
    image, labels = viewer.add_image(volume), viewer.add_labels(painted)
    viewer.dims.set_point(0, 5)
    return viewer, image, labels


def run(scene, engine, rules=None, **keywords):
    """Propagate as the widget does; return the slices that the engine was asked for."""
    viewer, image, labels = scene
    from napari_imos._engine import Control, segment

    stream, options = open_stream(image, labels, 0, None, keywords, viewer, rules)
    control = Control()
    for item in segment(stream.job, options, control):
        stream.write(item.index, item.labels, control.scores[item.index], item.source)
    stream.tell(control.facts)
    stream.commit()
    return list(stream.job.spans)


def kinds(labels):
    ledger = Ledger.of(labels)
    for _ in ledger.examine_all(labels, WALK):
        pass
    return "".join(".pdck"[k] for k in ledger.record(labels, WALK).kind)


def anchors(labels):
    return Ledger.of(labels).anchors(labels, WALK)


def test_what_is_forgotten_while_somebody_looks_stays_forgotten(scene, engine):
    labels = scene[2]
    run(scene, engine)
    looks = Ledger.of(labels).examine_all(labels, WALK)
    next(looks)
    labels.metadata.pop("napari-imos")
    assert list(looks)
    assert kinds(labels) == "dddddddddddd"


def test_a_shown_slice_that_was_given_back_before_any_run_is_no_prompt(scene, engine):
    labels = scene[2]
    labels.data[9] = labels.data[5]
    release(Ledger.of(labels), labels, WALK, 5)
    run(scene, engine)
    assert [sorted(call["prompts"]) for call in engine.calls] == [[9]]


def test_every_slice_knows_what_it_is(scene, engine):
    labels = scene[2]
    assert kinds(labels) == ".....d......"
    run(scene, engine)
    assert kinds(labels) == "pppppdpppppp"
    labels.data[8, 0, 0] = 1
    labels.data[2:4, 0, 0] = 9  # another object, on slices beside each other: no correction of ours
    toggle_checked(Ledger.of(labels), labels, WALK, 10)
    assert kinds(labels) == "pppppdppcpkp"
    assert anchors(labels) == [5, 8, 10]
    record = Ledger.of(labels).record(labels, WALK)
    assert record.confidence[7] == pytest.approx(0.9, abs=1e-3)
    assert np.isnan(record.confidence[5])
    assert record.runs[0]["model"] == "imos-compact" or record.runs[0]["model"] == ""
    assert len(record.runs[0]["sha256"]) == 64
    assert record.runs[0]["ranges"] == [[0, 12]]


@pytest.mark.parametrize("ahead", [True, False])
def test_a_new_object_that_is_painted_while_a_run_is_on_its_way(scene, engine, ahead):
    viewer, image, labels = scene
    record = Ledger.of(labels).record(labels, WALK)
    stream, _ = open_stream(image, labels, 0, None, {"labels": [1]}, viewer)
    for k in (4, 3, 2, 1, 0, 6, 7, 8, 9, 10, 11):
        if k == (6 if ahead else 11):
            labels.data[9, 17, 17] = 7
            record.painted[9] = True
        stream.write(k, np.where(labels.data[5] == 1, 1, 0), 0.5, "forward")
    stream.commit()
    for _ in range(2):
        assert kinds(labels)[9] == "c"
    assert 9 in anchors(labels)


def test_a_correction_redoes_only_what_it_can_improve(scene, engine):
    _, _, labels = scene
    assert run(scene, engine) == [(0, 12)]
    labels.data[9, 0:3, 0:3] = 1
    corrected = labels.data[9].copy()
    labels.data[2, 17, 17] = 0
    assert run(scene, engine) == [(6, 12)]
    assert sorted(engine.calls[1]["prompts"]) == [5, 9]
    np.testing.assert_array_equal(labels.data[9], corrected)
    assert (labels.data[8, 0:3, 0:3] == 1).all(), "the nearer anchor is copied"
    assert not labels.data[4, 0:3, 0:3].any()
    # a second correction between the two
    labels.data[7, 18:20, 18:20] = 2
    assert run(scene, engine) == [(6, 9)]
    assert sorted(engine.calls[2]["prompts"]) == [5, 7, 9]
    np.testing.assert_array_equal(labels.data[9], corrected)
    record = Ledger.of(labels).record(labels, WALK)
    assert record.source[8] == 4, "between two anchors: from both sides"


def test_two_corrections_far_apart_are_two_ranges(scene, engine):
    _, _, labels = scene
    labels.data[8] = labels.data[5]
    labels.data[2] = labels.data[5]
    run(scene, engine)
    labels.data[0, 0, 0] = 1
    labels.data[10, 0, 0] = 1
    assert run(scene, engine) == [(1, 2), (9, 12)]
    assert [(c["start"], c["stop"]) for c in engine.calls[1:]] == [(1, 2), (9, 12)]


def test_painted_slices_are_prompts_if_a_person_painted_them_one_by_one(scene, engine):
    viewer, _, labels = scene
    labels.data[9, 4:6, 4:6] = 1
    choice = choose_anchors(labels, WALK, viewer, Ledger.of(labels))
    assert (choice.main, choice.others, choice.ids) == (5, (9,), (1, 2))
    labels.data[7:] = labels.data[5]
    choice = choose_anchors(labels, WALK, viewer, Ledger.of(labels))
    assert choice.others == (), "a labelled volume is no set of prompts"


def test_a_predicted_slice_on_screen_is_no_prompt(scene, engine):
    viewer = scene[0]
    run(scene, engine)
    viewer.dims.set_point(0, 10)
    run(scene, engine)
    assert list(engine.calls[1]["prompts"]) == [5]


def test_an_anchor_is_set_and_dropped_and_painting_sets_it_again(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    ledger = Ledger.of(labels)
    assert toggle_anchor(ledger, labels, WALK, 9)
    assert anchors(labels) == [5, 9]
    assert not toggle_anchor(ledger, labels, WALK, 9)
    assert anchors(labels) == [5]
    labels.data[7, 0:2, 0:2] = 1
    assert anchors(labels) == [5, 7]
    assert not toggle_anchor(ledger, labels, WALK, 7)
    assert anchors(labels) == [5]
    run(scene, engine)
    assert (labels.data[7, 0:2, 0:2] == 1).all(), "what was painted stays"
    labels.data[7, 3, 0] = 1
    assert anchors(labels) == [5, 7]


def test_a_slice_given_back_is_redone(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data[7, 0:2, 0:2] = 1
    release(Ledger.of(labels), labels, WALK, 7)
    assert anchors(labels) == [5]
    run(scene, engine)
    np.testing.assert_array_equal(labels.data[7], labels.data[5])


def test_checked_slices_and_locked_labels_never_change(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    toggle_checked(Ledger.of(labels), labels, WALK, 8)
    labels.data[5, 4:6, 4:6] = 0  # a smaller object
    labels.data[5, 12:14, 14:18] = 2
    checked, before = labels.data[8].copy(), labels.data.copy()
    run(scene, engine, Rules(locked=(2,)))
    np.testing.assert_array_equal(labels.data[8], checked)
    np.testing.assert_array_equal(labels.data == 2, before == 2)
    assert not labels.data[2, 4:6, 4:6].any()
    assert engine.calls[1]["labels"] == (1, 2), "a locked label competes"


def test_ids_that_are_one_float_are_told_apart(engine, volume):
    first = 720575940612000000
    # as many as it takes for NumPy to look them up otherwise than one by one
    ids = [first + 300 * n for n in range(1, 61)]
    near = next(ids[2] + d for d in range(1, 128) if float(ids[2] + d) == float(ids[2]))
    labels = np.zeros(volume.shape, np.uint64)
    labels[5].reshape(-1)[:240] = np.repeat(np.array(ids, np.uint64), 4)
    labels[7, :5] = near  # the person's
    done = napari_imos.propagate(volume, labels, anchors=[5], progress=False)
    assert (done[7, :5] == near).all()
    assert np.array_equal(done[8], labels[5])

    held = np.zeros(volume.shape[1:], np.uint64)
    found = np.full_like(held, near)
    job = Job(None, {}, (near,), WALK, 1, {}, Rules(locked=(7, *ids)))
    assert np.array_equal(job.merge(held, held != 0, found), found)


def test_fill_only_empty_voxels(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data[5, 4:6, 4:6] = 0
    labels.data[5, 0:2, 0:2] = 1
    run(scene, engine, Rules(only_empty=True))
    assert (labels.data[2, 4:6, 4:6] == 1).all(), "an earlier result stays"
    assert (labels.data[2, 0:2, 0:2] == 1).all()


def test_an_erased_object_has_ended(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data[8][labels.data[8] == 2] = 0
    run(scene, engine)
    assert (labels.data[9:] != 2).all()
    assert (labels.data[6] == 2).any()
    assert (labels.data[9:] == 1).any(axis=(1, 2)).all()
    assert not (labels.data[8] == 2).any()


def test_what_was_erased_is_taken_away_behind_it_without_the_engine(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    before = labels.data.copy()
    labels.data[8] = 0
    labels.data[10, 0:2, 0:2] = 2  # painted, not ours
    labels.data[10, 0, 20] = 9  # another object
    toggle_anchor(Ledger.of(labels), labels, WALK, 10)  # is no anchor
    engine.calls.clear()
    assert run(scene, engine, labels=[2]) == []
    assert engine.calls == []
    wanted = before.copy()
    wanted[8] = 0
    wanted[9:][wanted[9:] == 2] = 0
    wanted[10, 0:2, 0:2], wanted[10, 0, 20] = 2, 9
    np.testing.assert_array_equal(labels.data, wanted)
    record = Ledger.of(labels).record(labels, WALK)
    assert record.confidence[9] == np.float32(np.float16(0.9)), "what is known of label 1 there"
    labels.undo()
    assert (labels.data[9] == 2).any()
    labels.redo()
    # whoever asks again gets all of it
    assert run(scene, engine, labels=[2]) == [(0, 12)]


def test_where_all_was_erased_nothing_is_in_doubt(scene, engine):
    _, _, labels = scene
    engine.confidence = dict.fromkeys(range(12), 0.3)
    run(scene, engine)
    labels.data[8] = 0
    assert run(scene, engine) == []
    record = Ledger.of(labels).record(labels, WALK)
    np.testing.assert_array_equal(record.confidence[9:], 1)
    assert not labels.data[9:].any()
    # repainted there: from there on again
    labels.data[8, 4:10, 4:10] = 1
    assert run(scene, engine) == [(6, 12)]
    assert (labels.data[9:] == 1).any(axis=(1, 2)).all()
    assert not (labels.data[9:] == 2).any()


def test_erased_at_one_end_and_corrected_at_the_other(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data[8] = 0
    labels.data[2, 0:2, 0:2] = 1
    assert run(scene, engine) == [(0, 5)]
    assert not labels.data[8:].any()
    assert (labels.data[:4, 0:2, 0:2] == 1).all()
    # a walk that is done anew goes no further than where the object has ended
    labels.data[5, 0:2, 0:2] = 1
    assert run(scene, engine) == [(3, 8)]
    assert not labels.data[8:].any()


def test_a_label_that_is_painted_over_on_its_only_anchor_makes_way(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data[8, 15:17, 0:2] = 1  # by hand, on a slice that is given up as an anchor
    toggle_anchor(Ledger.of(labels), labels, WALK, 8)
    labels.data[5][labels.data[5] == 1] = 7
    assert run(scene, engine) == [(0, 12)]
    assert (labels.data == 7).any(axis=(1, 2)).all()
    assert np.argwhere(labels.data == 1)[:, 0].tolist() == [8] * 4, "what a person painted stays"
    assert (labels.data == 2).any(axis=(1, 2)).all(), "another object stays"
    # erased there, not painted over: it goes too
    labels.data[5][labels.data[5] == 7] = 0
    assert run(scene, engine) == []
    assert not (labels.data == 7).any()
    assert (labels.data == 2).any(axis=(1, 2)).all()


def test_only_the_label_that_is_asked_for(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data[5][labels.data[5] == 1] = 7
    run(scene, engine, labels=[2])
    assert (np.delete(labels.data, 5, 0) == 1).any(axis=(1, 2)).all()


def test_a_painted_slice_that_was_cleared_is_no_anchor_once_a_run_has_filled_it(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data[8, 0:2, 0:2] = 1
    labels.data[5] = 0
    run(scene, engine)
    assert labels.data[5].any()
    assert anchors(labels) == [8]
    assert Ledger.of(labels).known_anchors(labels, WALK) == [8]


def test_a_dropped_anchor_stays_dropped_when_runs_write_around_it(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data[8, 0:2, 0:2] = 1
    assert anchors(labels) == [5, 8]
    toggle_anchor(Ledger.of(labels), labels, WALK, 8)
    assert anchors(labels) == [5]
    labels.data[5, 0:2, 20:24] = 1
    run(scene, engine)
    assert (labels.data[8, 0:2, 20:24] == 1).all()
    assert (labels.data[8, 0:2, 0:2] == 1).all(), "what is painted stays"
    assert anchors(labels) == [5]
    labels.undo()
    assert anchors(labels) == [5]
    labels.redo()
    assert anchors(labels) == [5]
    labels.data[8, 0, 3] = 1
    assert anchors(labels) == [5, 8], "painted again"


def test_stop_where_the_object_has_ended_is_the_engines_patience(scene, engine):
    run(scene, engine)
    assert "patience" not in engine.calls[-1]
    run(scene, engine, Rules(stop_when_gone=True))
    assert engine.calls[-1]["patience"] == 3


def test_undo_and_redo_take_the_record_along(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.undo()
    assert kinds(labels) == ".....d......"
    assert Ledger.of(labels).record(labels, WALK).runs == []
    labels.redo()
    assert kinds(labels) == "pppppdpppppp"
    assert anchors(labels) == [5]
    labels.data[9, 0:3, 0:3] = 1
    assert run(scene, engine) == [(6, 12)]
    labels.undo()
    assert kinds(labels) == "pppppdpppcpp"
    assert run(scene, engine) == [(6, 12)]


@pytest.mark.parametrize("undone", [True, False])
def test_a_prompt_that_was_given_back_is_none_when_its_run_is_done_again(scene, engine, undone):
    _, _, labels = scene
    run(scene, engine)
    if undone:
        labels.undo()
        kinds(labels)
    release(Ledger.of(labels), labels, WALK, 5)
    if not undone:
        labels.undo()
        kinds(labels)
    labels.redo()
    assert kinds(labels) == "p" * 12
    labels.data[:, 0:2, 0:2] = 9  # of another program, on all slices
    assert anchors(labels) == []


def test_a_stroke_may_be_undone_after_its_slice_was_given_back(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data_setitem((np.full(4, 8), np.array([9, 9, 10, 10]), np.array([8, 9, 8, 9])), 2)
    assert anchors(labels) == [5, 8]
    release(Ledger.of(labels), labels, WALK, 8)
    for step in (labels.undo, labels.redo, labels.undo):
        step()
        assert kinds(labels) == "pppppdpppppp"
        assert anchors(labels) == [5]
    labels.data[5] = np.where(labels.data[5] == 1, 0, labels.data[5])
    labels.data[5, 0:3, 0:3] = 1
    run(scene, engine)
    np.testing.assert_array_equal(labels.data[8], labels.data[5])


def fill_everywhere(labels, old, new):
    """Do what the fill bucket does with three editable axes."""
    where = np.nonzero(labels.data == old)
    labels.data_setitem(where, np.full(len(where[0]), new, labels.data.dtype))


def test_an_object_that_is_renamed_stays_predicted(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    toggle_checked(Ledger.of(labels), labels, WALK, 9)
    fill_everywhere(labels, 1, 7)
    assert kinds(labels) == "pppppdpppkpp"
    assert anchors(labels) == [5, 9]
    record = Ledger.of(labels).record(labels, WALK)
    assert record.ids == (2, 7)
    assert record.confidence[8] == pytest.approx(0.9, abs=1e-3)
    # a correction of it redoes what it would have redone, under the new label
    toggle_checked(Ledger.of(labels), labels, WALK, 9)
    labels.data[2, 0:2, 0:2] = 7
    assert run(scene, engine) == [(0, 5)]
    assert (labels.data[0, 0:2, 0:2] == 7).all()
    assert not (labels.data == 1).any()


@pytest.mark.parametrize("stray", [8, 5])
def test_a_voxel_that_a_fill_bucket_leaves_locks_nothing(scene, engine, stray):
    """Where it fills what is connected only: on a predicted slice, or on the prompt."""
    _, _, labels = scene
    run(scene, engine)
    before = labels.data.copy()
    where = np.nonzero(labels.data == 1)
    kept = ~((where[0] == stray) & (where[1] == 4) & (where[2] == 4))
    where = tuple(axis[kept] for axis in where)
    labels.data_setitem(where, np.full(len(where[0]), 7, labels.data.dtype))
    for _ in range(2):
        assert kinds(labels) == "pppppdpppppp"
        assert anchors(labels) == [5]
        assert Ledger.of(labels).record(labels, WALK).ids == (2, 7)
    # a new object goes on from slice 2, through all that are predicted
    labels.data_setitem((np.full(2, 2), np.array([0, 0]), np.array([0, 1])), 3)
    Ledger.of(labels).record(labels, WALK).painted[2] = True
    run(scene, engine)
    assert all((plane == 3).any() for plane in labels.data)
    assert labels.data[stray, 4, 4] == 1
    assert anchors(labels) == [2, 5]
    for _ in range(3):
        labels.undo()
        kinds(labels)
    np.testing.assert_array_equal(labels.data, before)
    assert kinds(labels) == "pppppdpppppp"
    assert anchors(labels) == [5]
    assert Ledger.of(labels).record(labels, WALK).ids == (1, 2)
    labels.redo()
    assert kinds(labels) == "pppppdpppppp"
    assert anchors(labels) == [5]
    for _ in range(2):
        labels.undo()
        kinds(labels)
    assert kinds(labels) == ".....d......"


def test_an_object_that_a_script_writes_on_one_predicted_slice_is_a_prompt(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data[9, 0:3, 0:3] = 7
    assert anchors(labels) == [5, 9]
    run(scene, engine)
    assert (labels.data[11, 0:3, 0:3] == 7).all()


def test_objects_that_a_script_writes_on_many_predicted_slices_are_none(scene, engine):
    _, _, labels = scene
    labels.data[2, 15:18, 0:3] = 9  # as is what lay there before
    labels.data[3, 15:18, 0:3] = 9
    run(scene, engine)
    labels.data[7:, 0:3, 0:3] = 7
    assert anchors(labels) == [5]
    assert kinds(labels) == "pppppdpppppp"


def test_an_object_that_was_painted_along_another_axis_is_a_prompt(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    across = Walk(3, 1)
    Ledger.of(labels).record(labels, across).painted[2] = True  # as the widget notes it
    labels.data[8:11, 1:4, 0:3] = 7  # by a ball
    assert anchors(labels) == [5, 8, 9, 10]
    labels.data[8:11, 1:4, 0:3] = 0
    assert anchors(labels) == [5]
    labels.data[8:11, 2, 0:3] = 7
    assert anchors(labels) == [5], "a line of an object on each of these slices is no prompt"


@pytest.mark.parametrize("new", [7, 0])
def test_an_object_that_the_latest_run_has_not_changed_is_followed_too(scene, engine, new):
    _, _, labels = scene
    run(scene, engine)
    labels.data[9, 0:3, 0:3] = 2
    assert run(scene, engine) == [(6, 12)]
    assert anchors(labels) == [5, 9]
    fill_everywhere(labels, 1, new)
    assert anchors(labels) == [5, 9]
    assert kinds(labels) == "pppppdpppcpp"
    labels.undo()
    assert anchors(labels) == [5, 9]
    assert kinds(labels) == "pppppdpppcpp"


def test_two_objects_that_become_one_stay_predicted(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    before = labels.data.copy()
    fill_everywhere(labels, 2, 1)
    assert kinds(labels) == "pppppdpppppp"
    assert anchors(labels) == [5]
    labels.data[8, 0:2, 0:2] = 1
    assert run(scene, engine) == [(0, 12)], "another object is painted on the prompt now"
    assert (labels.data[11, 0:2, 0:2] == 1).all(), "both go on as one"
    assert not (labels.data == 2).any()
    labels.undo()
    labels.data[8, 0:2, 0:2] = 0
    assert kinds(labels) == "pppppdpppppp"
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    assert kinds(labels) == "pppppdpppppp"
    assert anchors(labels) == [5]
    labels.redo()
    assert kinds(labels) == "pppppdpppppp"
    for _ in range(2):
        labels.undo()
    assert kinds(labels) == ".....d......"


def test_undo_of_a_renaming_with_a_run_in_between(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    fill_everywhere(labels, 1, 7)
    run(scene, engine)
    labels.undo()
    assert kinds(labels) == "pppppdpppppp"
    assert Ledger.of(labels).record(labels, WALK).ids == (1, 2)
    labels.data[8, 0:2, 0:2] = 1
    assert anchors(labels) == [5, 8]
    assert run(scene, engine) == [(6, 12)]
    assert anchors(labels) == [5, 8]


def test_an_object_that_is_renamed_on_one_slice_is_a_correction(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data[8][labels.data[8] == 1] = 7
    assert anchors(labels) == [5, 8]
    assert kinds(labels) == "pppppdppcppp"


@pytest.mark.parametrize("label", [1, 2])
def test_an_object_that_is_taken_away_throughout_locks_nothing(scene, engine, label):
    _, _, labels = scene
    run(scene, engine)
    before = labels.data.copy()
    fill_everywhere(labels, label, 0)
    assert kinds(labels) == "pppppdpppppp"
    assert anchors(labels) == [5]
    other = 3 - label
    labels.data_setitem((np.full(4, 8), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])), other)
    assert run(scene, engine)[0][1] == 12
    assert (labels.data[11, 0:2, 0:2] == other).all(), "the other object goes on"
    assert not (labels.data == label).any()
    for _ in range(3):
        labels.undo()
        kinds(labels)
    np.testing.assert_array_equal(labels.data, before)
    assert kinds(labels) == "pppppdpppppp"
    assert anchors(labels) == [5]


@pytest.mark.parametrize(
    "erased", [range(6, 12), [0, 1, 2, 3, 8, 9, 10], [k for k in range(12) if k not in (4, 5)]]
)
def test_who_erases_most_of_a_run_has_not_taken_it_back(scene, engine, erased):
    _, _, labels = scene
    run(scene, engine)
    for k in erased:
        labels.data[k] = 0
    wanted = "".join("d" if k == 5 else "c" if k in erased else "p" for k in range(12))
    assert kinds(labels) == wanted
    assert anchors(labels) == sorted({5, *erased})
    run(scene, engine)
    assert not labels.data[list(erased)].any()


def test_who_erases_with_a_brush_has_not_taken_a_run_back(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    record = Ledger.of(labels).record(labels, WALK)
    for k in set(range(1, 12)) - {5}:
        record.painted[k] = True  # as the widget notes it
        labels.data[k] = 0
    assert kinds(labels) == "pccccdcccccc"


def test_a_correction_that_lies_over_the_first_run_comes_back_on_redo(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    first = labels.data.copy()
    _, *here = np.nonzero(labels.data[5:6] == 1)
    labels.data_setitem((np.full(len(here[0]), 5), *here), 0)
    corner = (np.full(4, 5), np.array([9, 9, 10, 10]), np.array([9, 10, 9, 10]))
    labels.data_setitem(corner, 1)
    run(scene, engine)
    second, said = labels.data.copy(), kinds(labels)
    assert said == "pppppdpppppp"
    assert (second[:, 9:11, 9:11] == 1).all()
    for _ in range(2):
        labels.undo()
        kinds(labels)
        labels.redo()
        np.testing.assert_array_equal(labels.data, second)
        assert kinds(labels) == said
        assert anchors(labels) == [5]
    for _ in range(3):
        labels.undo()
        kinds(labels)
    np.testing.assert_array_equal(labels.data, first)
    assert kinds(labels) == "pppppdpppppp"
    for _ in range(3):
        labels.redo()
        kinds(labels)
    np.testing.assert_array_equal(labels.data, second)
    assert kinds(labels) == said


def erase(labels, k, label):
    """Take an object off a slice, as one step of undo."""
    _, *here = np.nonzero(labels.data[k : k + 1] == label)
    labels.data_setitem((np.full(len(here[0]), k), *here), 0)


@pytest.mark.parametrize("look", [True, False])
@pytest.mark.parametrize("both", [True, False])
def test_undo_of_a_run_that_only_took_labels_away(scene, engine, look, both):
    _, _, labels = scene
    if not both:
        labels.data[labels.data == 2] = 0
    run(scene, engine)
    for label in (1, 2)[: 1 + both]:
        erase(labels, 8, label)
    run(scene, engine)
    assert not labels.data[8:].any()
    ended = kinds(labels)
    assert ended == "pppppdppcppp"
    for _ in range(2 + both):
        labels.undo()
        if look:
            kinds(labels)
    assert kinds(labels) == "pppppdpppppp"
    labels.undo()
    assert kinds(labels) == ".....d......"
    assert anchors(labels) == [5]
    labels.redo()
    assert kinds(labels) == "pppppdpppppp"
    for _ in range(2 + both):
        labels.redo()
        if look:
            kinds(labels)
    assert kinds(labels) == ended


@pytest.mark.parametrize("count", [3, 4])
def test_all_is_undone_at_once_with_a_run_that_only_took_labels_away(scene, engine, count):
    _, _, labels = scene
    labels.data[labels.data == 2] = 0
    labels.data[5] = 0
    rows, columns = (grid.ravel() for grid in np.mgrid[4:8, 4:8])
    labels.data_setitem((np.full(16, 5), rows, columns), 1)
    run(scene, engine)
    erase(labels, 8, 1)
    run(scene, engine)
    kinds(labels)
    for _ in range(count):
        labels.undo()
    assert kinds(labels) == (".....d......" if count == 3 else "............")
    if count == 3:
        assert anchors(labels) == [5]
        run(scene, engine)
        assert (labels.data == 1).any(axis=(1, 2)).all()


@pytest.mark.parametrize("look", [True, False])
def test_an_object_that_was_erased_throughout_comes_back_with_its_record(scene, engine, look):
    _, _, labels = scene
    labels.data[labels.data == 2] = 0
    run(scene, engine)
    said = kinds(labels)
    fill_everywhere(labels, 1, 0)
    kinds(labels)
    rows, columns = (grid.ravel() for grid in np.mgrid[0:4, 0:4])
    labels.data_setitem((np.full(16, 3), rows, columns), 2)
    run(scene, engine)
    assert (labels.data == 2).any(axis=(1, 2)).all()
    for _ in range(3):
        labels.undo()
        if look:
            kinds(labels)
    assert kinds(labels) == said
    assert anchors(labels) == [5]
    drawn = labels.data[5].copy()
    erase(labels, 9, 1)
    run(scene, engine)
    np.testing.assert_array_equal(labels.data[5], drawn)


def test_a_stroke_that_is_undone_and_done_again_is_a_persons(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    record = Ledger.of(labels).record(labels, WALK)
    record.painted[8] = True
    rows, columns = (grid.ravel() for grid in np.mgrid[9:12, 9:12])
    labels.data_setitem((np.full(9, 8), rows, columns), 6)
    assert anchors(labels) == [5, 8]
    labels.undo()
    assert anchors(labels) == [5]
    labels.redo()
    assert anchors(labels) == [5, 8]


def test_undo_beside_labels_of_another_tool_makes_no_anchors(scene, engine):
    _, _, labels = scene
    labels.data[:, 15:18, 15:18] = 7
    Ledger.of(labels).record(labels, WALK).painted[5] = True
    run(scene, engine)
    said = kinds(labels)
    corner = (np.full(4, 9), np.array([9, 9, 10, 10]), np.array([9, 10, 9, 10]))
    labels.data_setitem(corner, 1)
    Ledger.of(labels).record(labels, WALK).painted[9] = True
    assert anchors(labels) == [5, 9]
    run(scene, engine)
    labels.undo()
    assert anchors(labels) == [5, 9]
    labels.undo()
    assert anchors(labels) == [5]
    assert kinds(labels) == said
    labels.redo()
    labels.redo()
    assert anchors(labels) == [5, 9]


def test_two_runs_are_undone_between_two_looks(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    erase(labels, 9, 1)
    corner = (np.full(4, 9), np.array([9, 9, 10, 10]), np.array([9, 10, 9, 10]))
    labels.data_setitem(corner, 1)
    run(scene, engine)
    said = kinds(labels)
    for _ in range(4):
        labels.undo()
    assert kinds(labels) == ".....d......"
    assert anchors(labels) == [5]
    for _ in range(4):
        labels.redo()
    assert kinds(labels) == said


def test_labels_that_came_from_elsewhere_are_no_anchors_after_a_run_either(scene, engine):
    _, _, labels = scene
    labels.data[:, 4:8, 4:8] = 1  # by another tool, on every slice
    Ledger.of(labels).record(labels, WALK).painted[5] = True
    labels.data[5, 0:2, 0:2] = 1
    assert run(scene, engine) == [(0, 12)]
    assert anchors(labels) == [5]
    assert (labels.data[:, 0:2, 0:2] == 1).all()
    labels.data[9, 0:2, 20:24] = 1
    assert anchors(labels) == [5, 9]
    assert run(scene, engine) == [(6, 12)]
    assert (labels.data[11, 0:2, 20:24] == 1).all()
    assert anchors(labels) == [5, 9]


def test_a_duplicate_has_a_record_of_its_own(scene, engine):
    viewer, image, labels = scene
    run(scene, engine)
    twin = viewer.add_layer(Labels.create(*labels.as_layer_data_tuple()))
    twin.data = labels.data.copy()
    assert anchors(twin) == [5]
    toggle_checked(Ledger.of(twin), twin, WALK, 3)
    twin.data[8, 0:2, 0:2] = 1
    run((viewer, image, twin), engine)
    assert anchors(twin) == [3, 5, 8]
    assert kinds(twin) == "pppkpdppcppp"
    assert anchors(labels) == [5]
    assert kinds(labels) == "pppppdpppppp"


@pytest.mark.parametrize(
    "make", [lambda a: a.max(0), lambda a: a.transpose(2, 0, 1), lambda a: np.stack([a] * 2)]
)
def test_labels_of_another_shape_with_the_same_metadata_begin_anew(scene, engine, make):
    labels = scene[2]
    run(scene, engine)
    other = Labels(make(labels.data), metadata=labels.metadata)
    assert not Ledger.of(other).records
    assert kinds(labels) == "pppppdpppppp"


def test_labels_beyond_the_type_that_a_layer_had_first_are_followed(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data = labels.data.astype(np.uint16)
    labels.data[5, 16, 3] = 300
    run(scene, engine)
    assert kinds(labels) == "pppppdpppppp"
    fill_everywhere(labels, 1, 1000)
    assert kinds(labels) == "pppppdpppppp"
    assert anchors(labels) == [5]


def test_data_of_another_shape_are_another_beginning(scene, engine):
    viewer, image, labels = scene
    run(scene, engine)
    labels.data = labels.data[:7].copy()
    assert Ledger.of(labels).known_anchors(labels, WALK) == []
    assert kinds(labels) == "ddddddd"
    labels.data = np.zeros((7, 20, 24), np.uint8)
    labels.data[2, 4:8, 4:8] = 1
    image.data = image.data[:7]
    viewer.dims.set_point(0, 2)
    assert run(scene, engine) == [(0, 7)]
    assert (labels.data == 1).any(axis=(1, 2)).all()


def test_two_objects_that_become_one_and_two_again(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    fill_everywhere(labels, 1, 2)
    kinds(labels)
    labels.undo()
    assert kinds(labels) == "pppppdpppppp"
    assert anchors(labels) == [5]


def test_undo_of_a_renaming_to_a_label_that_a_person_had_painted(scene, engine):
    _, _, labels = scene
    labels.data[5, 15:18, 0:3] = 7  # on the prompt, but not propagated
    run(scene, engine, labels=[1, 2])
    fill_everywhere(labels, 1, 7)
    assert kinds(labels) == "pppppdpppppp"
    run(scene, engine)
    for _ in range(2):
        labels.undo()
        kinds(labels)
    assert kinds(labels) == "pppppdpppppp"
    assert (labels.data[8] == 1).any()
    assert not (labels.data[8] == 7).any()


def test_a_slice_that_was_checked_is_unlocked_when_what_it_held_is_taken_back(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    toggle_checked(Ledger.of(labels), labels, WALK, 8)
    labels.undo()
    assert anchors(labels) == [5]
    assert not Ledger.of(labels).record(labels, WALK).checked.any()
    labels.redo()
    assert anchors(labels) == [5, 8]


def test_a_slice_that_was_checked_to_be_empty_ends_labels_from_the_first_run_on(scene, engine):
    _, _, labels = scene
    toggle_checked(Ledger.of(labels), labels, WALK, 8)
    stream, _ = open_stream(scene[1], labels, 0, None, {}, scene[0])
    stream.commit()
    assert set(stream.job.prompts) == {5, 8}
    assert stream.job.absent == {1: [8], 2: [8]}
    run(scene, engine)
    assert labels.data[6].any()
    assert not labels.data[8:].any()


def test_a_slice_that_was_erased_and_dropped_is_filled_again(scene, engine):
    _, _, labels = scene
    run(scene, engine)
    labels.data[11] = 0
    toggle_anchor(Ledger.of(labels), labels, WALK, 11)
    labels.data[2] = 0
    assert run(scene, engine) == [(6, 12)]
    assert labels.data[11].any()
    assert not labels.data[:3].any()


def test_the_front_door_for_scripts_is_the_same_loop(scene, engine):
    _, image, labels = scene
    napari_imos.propagate(image, labels, anchors=[5])
    labels.data[9, 0:3, 0:3] = 1
    stream, _ = open_stream(image, labels, 0, None, {}, scene[0])
    stream.commit()
    assert set(stream.job.prompts) == {5, 9}


@pytest.mark.parametrize("near", [True, False])
def test_labels_on_disk_are_looked_at_again(scene, engine, tmp_path, monkeypatch, near):
    viewer, image, labels = scene
    data = zarr.create_array(tmp_path / "a.zarr", data=labels.data, chunks=(4, 8, 8))
    labels = viewer.add_labels(data)
    monkeypatch.setattr(_ledger, "_NEAR", 1e9 if near else 0)
    ledger = Ledger.of(labels)
    corner = (np.full(4, 8), np.array([9, 9, 10, 10]), np.array([9, 10, 9, 10]))
    for k in (5, 8):
        ledger.record(labels, WALK).painted[k] = True
    labels.data_setitem(corner, 1)
    assert anchors(labels) == [5, 8]
    labels.undo()
    for _ in ledger.look(labels, WALK):
        pass
    assert ledger.known_anchors(labels, WALK) == [5], "without a run that asks"
    labels.data_setitem(corner, 1)
    ledger.record(labels, WALK).painted[8] = True
    assert anchors(labels) == [5, 8]
    labels.undo()
    assert anchors(labels) == [5]
    run((viewer, image, labels), engine)
    data[9, 9:11, 9:11] = 6  # a script
    assert anchors(labels) == [5, 9]
    labels.undo()
    for _ in ledger.look(labels, WALK):
        pass
    assert not ledger.record(labels, WALK).runs


def test_a_stroke_that_was_just_undone_on_disk_has_no_label_to_name(scene, tmp_path, monkeypatch):
    viewer, image, labels = scene
    labels = viewer.add_labels(zarr.create_array(tmp_path / "a.zarr", data=labels.data * 0))
    monkeypatch.setattr(_ledger, "_NEAR", 0)
    ledger = Ledger.of(labels)
    ledger.record(labels, WALK).painted[8] = True
    labels.data_setitem((np.full(1, 8), np.ones(1, int), np.ones(1, int)), 1)
    assert ledger.anchors(labels, WALK) == [8]
    labels.undo()
    said = prompt_line(Asked(image, labels, 0, None, None, "both", None), viewer, "", looking=False)
    assert said.startswith("Nothing is painted on slice 8")


@pytest.fixture
def stack(scene):
    """The same, but that both objects came labelled on all slices, and a brush was on slice 5."""
    viewer, image, labels = scene
    labels.data[:] = labels.data[5]
    labels.data[5, 15:18, 15:18] = 7
    Ledger.of(labels).record(labels, WALK).painted[5] = True
    return viewer, image, labels


def test_a_slice_of_a_labelled_stack_that_is_only_shown_is_no_prompt(stack, engine):
    viewer, image, labels = stack
    viewer.dims.set_point(0, 8)
    ledger = Ledger.of(labels)
    for look in (True, False):
        choice = choose_anchors(labels, WALK, viewer, ledger, look=look)
        assert (choice.main, choice.others, choice.ids) == (5, (), (1, 2, 7))
    for looking in (True, False):
        asked = Asked(image, labels, 0, None, None, "both", [7])
        said = prompt_line(asked, viewer, "", looking=looking)
        assert said == "Prompt: slice 5, label 7"
    run(stack, engine, labels=[7])
    assert (labels.data == 7).any((1, 2)).all(), "also on the slice that was shown"
    assert anchors(labels) == [5]


def test_a_slice_of_a_labelled_stack_is_a_prompt_where_nobody_has_made_one(stack, engine):
    viewer, _, labels = stack
    Ledger.of(labels).record(labels, WALK).painted[5] = False
    viewer.dims.set_point(0, 8)
    choice = choose_anchors(labels, WALK, viewer, Ledger.of(labels))
    assert (choice.main, choice.others, choice.ids) == (8, (), (1, 2))


def test_a_painted_slice_on_disk_that_is_shown_is_a_prompt_beside_others(scene, tmp_path):
    viewer, _, labels = scene
    far = zarr.open_array(str(tmp_path / "a.zarr"), mode="w", shape=(12, 20, 24), dtype="u1")
    far[5], far[9, 4:8, 4:8] = labels.data[5], 3
    labels = viewer.add_labels(far)
    record = Ledger.of(labels).record(labels, WALK)
    record.painted[5], record.kind[5] = True, 2
    viewer.dims.set_point(0, 9)
    choice = choose_anchors(labels, WALK, viewer, Ledger.of(labels), look=False)
    assert (choice.main, choice.others) == (9, (5,))
