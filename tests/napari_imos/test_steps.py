"""Which steps of a layer's history are runs, whatever else was done and taken back."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from imos_core.errors import PropagationError
from napari_imos._job import Job
from napari_imos._record.ledger import Ledger
from napari_imos._stream import LabelsStream
from napari_imos._walk import Walk

WALK, SHAPE, THEIRS = Walk(3, 0), (6, 12, 14), 9


@pytest.fixture
def layer():
    """Labels with a prompt on slice 2; two strokes were painted before anybody looked."""
    labels = ViewerModel().add_labels(np.zeros(SHAPE, np.uint8))
    labels.data[2, :3, :3], labels.brush_size = 1, 3
    for k in (0, 5):
        labels.paint((k, 9, 9), THEIRS)
    return labels


def run(labels, meanwhile=lambda: None, slices=range(SHAPE[0])):
    """Propagate label 1 to where no brush comes."""
    plane = np.array(labels.data[2])
    stream = LabelsStream(labels, Job(None, {2: plane}, (1,), WALK, SHAPE[0], {}))
    for k in slices:
        stream.write(k, np.where(plane == 1, plane, 0))
        if k == 4:
            meanwhile()
    stream.commit()


def stands(labels):
    """Whether runs are said to stand; that has to be so where they have left something."""
    said = bool(Ledger.of(labels).record(labels, WALK).runs)
    assert said == (labels.data[0, 0, 0] == 1)
    return said


class Hand:
    """Somebody who paints, and takes back, in all the ways that there are."""

    def __init__(self, labels, seed):
        self.labels, self.rng = labels, random.Random(seed)
        self.acts = [self.dot, self.dot, self.stroke, self.bucket, self.polygon, self.ball]
        self.acts += [self.script, self.nothing, self.held, self.taken_back, self.hide, self.lock]
        self.acts += [self.run, self.run, self.run_and_paint, *[self.undo] * 8, *[self.redo] * 6]

    def at(self):
        return self.rng.randrange(6), self.rng.randrange(6, 12), self.rng.randrange(6, 14)

    def dot(self):
        self.labels.paint(self.at(), self.rng.choice([0, THEIRS]))

    def stroke(self):
        with self.labels.block_history():
            for _ in range(3):
                self.dot()

    def bucket(self):
        where = self.at()
        if self.labels.data[where]:  # or it would run out over all of the slice
            self.labels.fill(where, self.rng.randrange(3, 9))

    def polygon(self):
        k = self.rng.randrange(6)
        self.labels.paint_polygon([(k, 7, 7), (k, 7, 11), (k, 11, 11)], THEIRS)

    def ball(self):
        self.labels.n_edit_dimensions = 3
        self.dot()
        self.labels.n_edit_dimensions = 2

    def script(self):
        self.labels.data_setitem(tuple(np.array([i]) for i in self.at()), self.rng.randrange(3, 9))

    def nothing(self):
        k, row, column = self.at()
        self.labels.paint((k, row, column), self.labels.data[k, row, column])

    def held(self):
        """Press Ctrl+Shift+Z with the brush held down: there is nothing to make again."""
        with self.labels.block_history():
            self.dot()
            self.labels.redo()

    def taken_back(self):
        """Press Ctrl+Z with the brush held down: napari can make that step again."""
        with self.labels.block_history():
            self.dot()
            self.labels.undo()
        self.labels.redo()

    def undo(self):
        self.labels.undo()

    def redo(self):
        self.labels.redo()

    def run(self):
        if not stands(self.labels):
            run(self.labels)

    def run_and_paint(self):
        if not stands(self.labels):
            run(self.labels, self.stroke)

    def hide(self):
        self.labels.visible = not self.labels.visible

    def lock(self):
        if self.rng.random() < 0.1:
            self.labels.editable = False
            self.labels.editable = True

    def act(self):
        # nobody paints on what is hidden
        acts = self.acts if self.labels.visible else [self.undo, self.redo, self.hide]
        self.rng.choice(acts)()


@pytest.mark.parametrize("seed", range(4))
def test_runs_stand_while_they_are_there(layer, seed):
    hand, seen = Hand(layer, seed), []
    for _ in range(150):
        hand.act()
        seen.append(stands(layer))
    assert 20 < sum(seen) < 130


def test_more_steps_than_the_layer_keeps(layer):
    run(layer)
    for k in range(120):
        layer.data_setitem(tuple(np.array([i]) for i in (3, 8, 8)), 2 + k % 2)
    for _ in range(130):
        layer.undo()
    assert stands(layer)
    for _ in range(130):
        layer.redo()
    assert stands(layer)


@pytest.mark.filterwarnings("ignore:Pickling a SignalInstance")
@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_a_copy_takes_back_steps_of_its_own(layer, make):
    run(layer)
    other, held = make(layer), layer.data.copy()
    other.undo()
    np.testing.assert_array_equal(layer.data, held)
    assert stands(layer)
    held = other.data.copy()
    layer.undo()
    np.testing.assert_array_equal(other.data, held)
    assert not stands(layer)


def test_no_run_comes_back_while_another_writes(layer):
    run(layer)
    layer.undo()
    run(layer, layer.redo)
    assert stands(layer)
    layer.undo()
    assert not stands(layer)
    layer.redo()
    assert stands(layer)


def test_a_run_that_was_taken_back_comes_back_after_one_that_was_stopped_at_once(layer):
    run(layer)
    layer.undo()
    run(layer, slices=())
    layer.redo()
    assert stands(layer)
    layer.undo()
    assert not stands(layer)


def test_a_step_of_which_nobody_is_told(layer):
    run(layer)
    with layer.events.paint.blocker():
        layer.paint((3, 8, 8), THEIRS)
    for there in (True, False):
        layer.undo()
        assert stands(layer) is there
    layer.redo()
    assert stands(layer)


def test_another_plugin_may_wrap_how_a_layer_is_drawn(layer):
    drawn, refresh = [], layer.refresh
    layer.refresh = lambda *args, **keywords: drawn.append(refresh(*args, **keywords))
    run(layer)
    layer.undo()
    drawn.clear()
    layer.refresh()
    assert drawn


def test_metadata_are_copied_without_the_layer(make_napari_viewer):
    labels = make_napari_viewer().add_labels(np.zeros(SHAPE, np.uint8))
    labels.data[2, :3, :3] = 1
    run(labels)
    metadata = copy.deepcopy(labels.metadata)
    other = Labels(labels.data.copy(), metadata=metadata)
    assert len(pickle.dumps(labels.metadata)) < 1e5
    assert Ledger.of(other).record(other, WALK).runs
    run(other)


def test_a_layer_whose_record_was_thrown_away(layer):
    run(layer)
    layer.metadata = {}
    layer.data[4, :3, :3] = 0
    run(layer)
    for said in (False, True):
        step = layer.redo if said else layer.undo
        step()
        assert bool(Ledger.of(layer).record(layer, WALK).runs) == said
        assert (layer.data[4, 0, 0] == 1) == said
    layer.undo()
    layer.undo()
    assert layer.data[:, 0, 0].tolist() == [0, 0, 1, 0, 0, 0]


def test_a_layer_that_is_taken_out_and_put_into_another_viewer(layer):
    run(layer)
    layers = ViewerModel().layers
    for _ in range(2):
        layers.append(layer)
        for step in (layer.undo, layer.redo):
            step()
            stands(layer)
        layers.remove(layer)


def test_no_run_is_taken_back_while_another_writes(layer):
    run(layer)
    run(layer, layer.undo)
    assert stands(layer)
    layer.undo()
    assert not stands(layer)


def test_a_run_that_is_only_in_part_in_the_history_stands(layer, monkeypatch):
    write, left = Labels.data_setitem, [1, 1]

    def full_soon(*args, **keywords):
        if not left:
            raise OSError(28, "No space left on device")
        left.pop()
        write(*args, **keywords)

    monkeypatch.setattr(Labels, "data_setitem", full_soon)
    with pytest.raises(PropagationError):
        run(layer)
    monkeypatch.undo()
    layer.undo()
    assert np.flatnonzero(layer.data[:, 0, 0]).tolist() == [2, 3, 4, 5]
    assert Ledger.of(layer).record(layer, WALK).runs


def test_nothing_outlives_its_viewer():
    layer = Labels(np.zeros(SHAPE, np.uint8))
    Ledger.of(layer).record(layer, WALK)
    gone = weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None
