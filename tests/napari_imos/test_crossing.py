"""Walks along different axes through one layer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ledger import run, scene  # noqa: F401

import napari_imos
from imos_core.boxes import box_of
from imos_core.errors import PromptError
from napari_imos._anchor_choice import choose_anchors
from napari_imos._dock.prompt_line import Asked, prompt_line
from napari_imos._ends import end_before
from napari_imos._engine import Control, segment
from napari_imos._opening import open_stream
from napari_imos._record.crossing import crossed, crosses, meeting
from napari_imos._record.ledger import Ledger
from napari_imos._record.provenance import Kind
from napari_imos._record.said import release, toggle_checked
from napari_imos._record.settled import Settled
from napari_imos._walk import Walk

SHAPE = (3, 4, 5, 6)


@st.composite
def walks(draw):
    """A walk through four axes."""
    axis, fixed = draw(st.sampled_from([(a, f) for a in range(4) for f in range(4) if a != f]))
    return Walk(4, axis, ((fixed, draw(st.integers(0, SHAPE[fixed] - 1))),))


@given(walks(), walks(), st.data())
def test_slices_meet_where_they_share_voxels(walk, other, data):
    index = data.draw(st.integers(0, SHAPE[walk.axis] - 1))
    k = data.draw(st.integers(0, SHAPE[other.axis] - 1))
    numbers = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    plane, theirs = numbers[walk.at(index)], numbers[other.at(k)]
    shared = np.isin(plane, theirs)
    part, found = meeting(walk, index, other, k), np.zeros(plane.shape, bool)
    if part is not None:
        found[part] = True
    np.testing.assert_array_equal(found, shared)
    if shared.any() and walk != other:
        assert crosses(walk, other)
    voxels = np.array(sorted(data.draw(st.sets(st.integers(0, plane.size - 1)))), np.int32)
    touched = plane.reshape(-1)[voxels]
    wanted = [k for k in range(SHAPE[other.axis]) if np.isin(touched, numbers[other.at(k)]).any()]
    assert crossed(walk, index, voxels, SHAPE, other) == wanted


@pytest.mark.parametrize("looked", [True, False])
def test_what_is_settled_on_one_axis_stays_on_another(scene, engine, looked):  # noqa: F811
    """Slices that were checked, and what was erased, whether or not anybody has looked there."""
    viewer, image, labels = scene
    run(scene, engine)
    ledger, along, across = Ledger.of(labels), Walk(3, 0), Walk(3, 1)
    toggle_checked(ledger, labels, along, 9)
    labels.data[2][labels.data[2] == 1] = 0
    if looked:
        assert ledger.anchors(labels, along) == [2, 5, 9]
    record = ledger.record(labels, along)
    y = int(np.flatnonzero((labels.data[5] == 1).any(1))[0])
    ledger.record(labels, across).painted[y] = True
    labels.data[:, y, 0:2] = 1  # also on slice 2 and 9, by hand
    labels.data[2, y] = labels.data[5, y]  # a line of what was erased is painted again
    before, known = labels.data.copy(), record.copy()
    stream, options = open_stream(image, labels, 1, [y], {}, viewer)
    control = Control()
    for item in segment(stream.job, options, control):
        stream.write(item.index, item.labels, control.scores[item.index], item.source)
    stream.commit()
    changed = (labels.data != before).any(axis=(1, 2))
    assert not changed[9], "checked"
    assert not (labels.data[2] != before[2])[before[5] == 1].any(), "what was erased stays so"
    assert changed[[0, 3, 11]].all()
    assert record.checked[9]
    assert np.isnan(record.confidence[changed]).all()
    assert not any(made[changed].any() for made in record.basis.values()), "they are redone"
    assert (record.kind[[0, 3]] == Kind.PREDICTED).all()
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    ledger.settle(labels)
    np.testing.assert_array_equal(record.confidence, known.confidence)
    assert record.basis.keys() == known.basis.keys()
    for label, made in known.basis.items():
        np.testing.assert_array_equal(record.basis[label], made)
    labels.redo()
    ledger.settle(labels)
    assert np.isnan(record.confidence[changed]).all()


@pytest.mark.parametrize("axis", [0, 2])
def test_a_walk_does_not_cross_itself(axis):
    walk = Walk(3, axis)
    assert not crosses(walk, walk)
    assert crosses(walk, Walk(3, 1))
    assert not crosses(Walk(4, 1, ((0, 2),)), Walk(4, 1, ((0, 3),)))
    assert crosses(Walk(4, 1, ((0, 2),)), Walk(4, 0, ((1, 3),)))


def test_a_prompt_stays_as_painted_when_another_axis_is_walked(scene, engine):  # noqa: F811
    """It says all of the objects that it shows, and nothing of others."""
    labels = scene[2]
    run(scene, engine)
    ledger, along, across, y = Ledger.of(labels), Walk(3, 0), Walk(3, 1), 6
    assert ledger.anchors(labels, along) == [5]
    ledger.record(labels, across).painted[y] = True  # as the widget notes it
    labels.data[:, y, 20:22] = 1
    labels.data[:, y, 22:24] = 7
    before = labels.data.copy()
    walk_across(scene, y)
    grown = {k for k in range(12) if (labels.data[k] == 1).sum() > (before[k] == 1).sum()}
    assert grown == set(range(12)) - {5}
    assert all((labels.data[k] == 7).sum() > (before[k] == 7).sum() for k in range(12))


def test_what_is_no_prompt_any_more_holds_nothing_back(scene, engine):  # noqa: F811
    labels = scene[2]
    along, across, y = Walk(3, 0), Walk(3, 1), 6
    Ledger().keep(labels)
    ledger = Ledger.of(labels)
    ledger.record(labels, along).painted[9] = True  # a stroke that was taken back
    for walk in (along, across):
        ledger.anchors(labels, walk)
    labels.data[:, y, 20:22] = 1
    before = labels.data.copy()
    walk_across(scene, y)
    assert all((labels.data[k] == 1).sum() > (before[k] == 1).sum() for k in range(12))


def test_what_was_found_along_one_axis_is_no_prompt_along_another(scene, engine):  # noqa: F811
    viewer, image, labels = scene
    labels.data[5, 6, 20] = 2  # only a line of it is on the slice that is shown later
    run(scene, engine)
    ledger, across, y = Ledger.of(labels), Walk(3, 1), 6
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_point(1, y)
    said = (
        "Slice 6 along axis 1 (-2) only shows what was found along axis 0 (-3): walk axis 0 (-3), "
        "or correct or check this slice (Shift+C) first."
    )
    for look in (False, True):
        assert told(scene, y) == said
        with pytest.raises(PromptError) as refused:
            choose_anchors(labels, across, viewer, ledger, look=look)
        assert str(refused.value) == said
    # from where nothing is, nobody is sent to slices that would be refused like this one
    assert told(scene, 0) == (
        "Nothing is painted on slice 0: paint it, or walk axis 0 (-3), along which something was "
        "found."
    )
    # a slice that was painted along this axis goes on, whatever is shown
    viewer.dims.set_point(1, 8)
    ledger.record(labels, across).painted[2] = True
    labels.data[3:6, 2, 0:3] = 4
    assert choose_anchors(labels, across, viewer, ledger).main == 2
    assert told(scene, 8) == "Prompt: slice 2 along axis 1 (-2), label 4"
    viewer.dims.order = (0, 1, 2)
    assert told(scene, 5, 0).startswith("Prompt: slice 5 along axis 0 (-3)")
    napari_imos.propagate(image, labels, axis=1, anchors=[y])  # whoever names it decides
    assert list(engine.calls[-1]["prompts"]) == [y]


@pytest.mark.parametrize("how", ["checked", "painted", "scripted", "erased"])
def test_a_slice_that_a_person_has_made_counts_along_another_axis(scene, engine, how):  # noqa: F811
    viewer, _, labels = scene
    run(scene, engine)
    ledger, across, y = Ledger.of(labels), Walk(3, 1), 6
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_point(1, y)
    if how == "checked":
        toggle_checked(ledger, labels, across, y)
    else:
        ledger.record(labels, across).painted[y] = how == "painted"
        labels.data[8:10, y, 4:6] = 0 if how == "erased" else 2
    assert choose_anchors(labels, across, viewer, ledger).main == y
    assert told(scene, y).startswith("Prompt: slice 6 along axis 1 (-2), label")


@pytest.mark.parametrize("undone", [False, True])
def test_a_line_of_an_object_is_redone_where_only_another_one_was_painted(scene, engine, undone):  # noqa: F811
    labels = scene[2]
    run(scene, engine)
    made, across, y = labels.data.copy(), Walk(3, 1), 6
    paint_across(labels, y, 7, slice(20, 22))
    walk_across(scene, y)
    ledger = Ledger.of(labels)
    assert ledger.prompts(labels, across) == [y]
    if undone:
        labels.undo()
        ledger.settle(labels)
        assert ledger.prompts(labels, across) == []
        assert (labels.data[labels.data != 7] == made[labels.data != 7]).all()
    said = end_along(labels, 9, 1)
    assert not said.remark
    assert not (labels.data[9:] == 1).any()
    assert (labels.data[:9] == 1)[made[:9] == 1].all()


def test_undone_and_done_again_a_prompt_is_one_again(scene, engine):  # noqa: F811
    labels = scene[2]
    run(scene, engine)
    paint_across(labels, 6, 7, slice(20, 22))
    walk_across(scene, 6)
    labels.data[7:9, 6, 22] = 7
    walk_across(scene, 6)
    ledger, across = Ledger.of(labels), Walk(3, 1)
    found = []
    for step in (labels.undo, labels.undo, labels.redo, labels.redo):
        step()
        ledger.settle(labels)
        found.append(ledger.prompts(labels, across))
    assert found == [[6], [], [6], [6]]


def test_what_stays_of_an_object_that_was_painted_along_another_axis_is_said(scene, engine):  # noqa: F811
    labels = scene[2]
    run(scene, engine)
    along, across, y = Walk(3, 0), Walk(3, 1), 6
    paint_across(labels, y, 1, slice(20, 22))
    line = labels.data[:, y] == 1
    walk_across(scene, y)
    ledger = Ledger.of(labels)
    assert 7 in ledger.anchors(labels, along), "it looks corrected along this one"
    said = end_along(labels, 9, 1)
    left = np.argwhere(labels.data[9:] == 1)
    assert set(left[:, 1]) == {y}
    np.testing.assert_array_equal((labels.data[:, y] == 1)[9:], line[9:])
    assert said.remark == (
        " On 3 slices from there on (9-11) it stays where slices along another axis are painted "
        "or checked: turn the view, give these back to iMOS on the timeline, and press Ends here "
        "again."
    )
    assert not said.takes, "or nobody could say that it goes on"
    release(ledger, labels, across, y)
    assert end_before(labels, along, 9, 1, (5,)).takes
    assert not end_along(labels, 9, 1).remark
    assert not (labels.data[9:] == 1).any()


def test_what_stays_is_looked_for_once_and_where_the_object_is(scene, engine, monkeypatch):  # noqa: F811
    labels = scene[2]
    run(scene, engine)
    paint_across(labels, 6, 1, slice(20, 22))
    walk_across(scene, 6)
    boxes, prompts = [], []
    keep, painted = Settled.keep, Settled._painted

    def note(self, index, plane, box, made):
        boxes.append((index, box))
        return keep(self, index, plane, box, made)

    def read(self, walk, k):
        prompts.append(k)
        return painted(self, walk, k)

    monkeypatch.setattr(Settled, "keep", note)
    monkeypatch.setattr(Settled, "_painted", read)
    end = end_before(labels, Walk(3, 0), 9, 1, (5,))
    assert end.takes
    assert "(9-11) it stays" in end.remark
    assert prompts == [6]
    assert {k for k, _ in boxes} == {9, 10, 11}
    assert all(box == box_of(labels.data[k] == 1) for k, box in boxes)


@pytest.mark.parametrize("beyond", [False, True])
def test_what_has_ended_along_one_axis_does_not_come_back_along_another(scene, engine, beyond):  # noqa: F811
    labels = scene[2]
    run(scene, engine)
    end_along(labels, 9, 1)
    paint_across(labels, 6, 1, slice(20, 22))
    if beyond:  # who paints it there has moved its end
        labels.data[10, 6, 20:22] = 1
    find_across(scene, 6, 1)
    found = np.flatnonzero((labels.data[:, 8, 20:22] == 1).all(1)).tolist()
    # slice 5 was painted along the first axis
    assert found == [0, 1, 2, 3, 4, 6, 7, 8, *([9, 10, 11] if beyond else [])]


def test_an_object_that_ends_along_an_axis_on_which_it_is_not_painted(scene, engine):  # noqa: F811
    labels = scene[2]
    labels.data[:] = 0
    paint_across(labels, 6, 3, slice(20, 22))
    find_across(scene, 6, 3)
    # it is largest on 7 and 8, where it is painted
    end_along(labels, 10, 3, known=[])
    end_along(labels, 4, 3, known=[])
    assert np.flatnonzero((labels.data == 3).any((1, 2))).tolist() == [5, 6, 7, 8, 9]
    find_across(scene, 6, 3)
    assert np.flatnonzero((labels.data == 3).any((1, 2))).tolist() == [5, 6, 7, 8, 9]


def find_across(scene, y, label):  # noqa: F811
    """Propagate along the second axis by two slices: the object is found all along the first."""
    viewer, image, labels = scene
    stream, _ = open_stream(image, labels, 1, [y], {}, viewer)
    found = np.zeros_like(labels.data[:, y])
    found[:, 20:22] = label
    stream.write(y + 2, found, 0.9, "forward")
    stream.commit()


def paint_across(labels, y, label, where):
    """Paint on slices 7 and 8 with a brush, as the widget notes it in a view along another axis."""
    ledger, across = Ledger.of(labels), Walk(3, 1)
    ledger.keep(labels)
    ledger.record(labels, across).painted[y] = True
    labels.data[7:9, y, where] = label
    for _ in ledger.examine_all(labels, across):
        pass


def end_along(labels, index, label, known=(5,)):
    """Say that an object has ended before a slice along the first axis."""
    said = end_before(labels, Walk(3, 0), index, label, known)
    said.note()
    stream = said.open_stream(None)
    for item in segment(stream.job, {"direction": "both"}, Control()):
        stream.write(item.index, item.labels)
    stream.commit()
    return said


def told(scene, k, axis=1):  # noqa: F811
    """What the widget says of a slice."""
    viewer, image, labels = scene
    viewer.dims.set_point(axis, k)
    asked = Asked(image, labels, axis, None, None, "both", None)
    return prompt_line(asked, viewer, "", looking=False)


def walk_across(scene, y):  # noqa: F811
    viewer, image, labels = scene
    stream, options = open_stream(image, labels, 1, [y], {}, viewer)
    control = Control()
    for item in segment(stream.job, options, control):
        stream.write(item.index, item.labels, control.scores[item.index], item.source)
    stream.commit()


def test_labels_from_elsewhere_are_a_prompt_after_an_object_was_mended_along_another_axis(
    scene,  # noqa: F811
    engine,
):
    viewer, image, labels = scene
    labels.data[:] = labels.data[5]
    before = labels.data.copy()
    ledger, across = Ledger.of(labels), Walk(3, 1)
    for k in range(12):
        ledger.examine(labels, Walk(3, 0), k)
    labels.data[:, 6, 4:10] = 0
    for y in range(20):
        ledger.examine(labels, across, y)
    release(ledger, labels, across, 6)
    for y in (5, 7):
        toggle_checked(ledger, labels, across, y)
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_point(1, 7)
    options = {"labels": [1], "start": 6, "stop": 7}
    stream, options = open_stream(image, labels, 1, None, options, viewer)
    for item in segment(stream.job, options, Control()):
        stream.write(item.index, item.labels)
    stream.commit()
    np.testing.assert_array_equal(labels.data, before)
    viewer.dims.order = (0, 1, 2)
    assert choose_anchors(labels, Walk(3, 0), viewer, ledger).main == 5
    assert told(scene, 8, 0) == "Prompt: slice 8 along axis 0 (-3), labels 1-2"
