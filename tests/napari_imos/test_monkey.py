"""A monkey at the widget: random actions, and after each what a person relies on.

What a person painted stays, and nothing else is said to be theirs. One step of undo takes one run
back, to the voxel, and redo brings it again. Whatever comes in between, nothing raises and every
run comes to its end.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from conftest import FakeEngine
from test_widget import click, wait

from napari_imos._record.ledger import Ledger
from napari_imos._record.provenance import Kind
from napari_imos._widget import PropagateWidget

STEPS = 60


class Wandering(FakeEngine):
    """An engine whose masks wander, so that a correction changes what it makes of a slice."""

    def _slices(self, image, prompts, keywords):
        painted = sum(int(plane.sum()) for plane in prompts.values())
        for item in super()._slices(image, prompts, keywords):
            if item.source != "anchor":
                rng = np.random.default_rng([item.index, painted, *sorted(prompts)])
                item.labels = np.roll(item.labels, rng.integers(-2, 3, 2), (0, 1))
                item.confidence[:] = rng.uniform(0.2, 1)
            yield item


class Monkey:
    """Does things at random, and knows which voxels are a person's.

    Parameters
    ----------
    seed : int
        What it does.
    shape : tuple of int
        Shape of the volume.
    """

    def __init__(self, seed, shape, viewer, engine, qtbot):
        self.rng, self.viewer, self.engine, self.qtbot = random.Random(seed), viewer, engine, qtbot
        pixels = np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)
        viewer.add_image(pixels)
        self.labels = viewer.add_labels(np.zeros(shape, self.rng.choice([np.uint8, np.int64])))
        self.widget = PropagateWidget(viewer)
        viewer.window.add_dock_widget(self.widget)
        self.persons = np.zeros(shape, bool)
        self.left = np.full(shape, -1)  # what runs have left; whoever paints just that, agrees
        self.meanwhile = np.full(shape, -1)  # what was painted while the last run was writing
        self.past, self.future = [], []
        self.story = []

    def act(self):
        weights = {
            self.paint: 9, self.erase: 2, self.move: 4, self.run: 6, self.stop_midway: 2,
            self.paint_midway: 2, self.undo: 3, self.redo: 1, self.say: 3, self.choose: 3,
            self.turn: 2, self.others: 1, self.relabel: 2, self.rename: 2, self.end: 2,
            self.hide_midway: 1,
        }  # fmt: skip
        action = self.rng.choices(list(weights), list(weights.values()))[0]
        self.story.append(action.__name__)
        action()
        self.qtbot.wait(self.rng.choice([1, 1, 40]))

    # ---- what it does ----

    def paint(self):
        before = self.state()
        changed = self.stroke()
        if changed.any():
            self.past.append(before)
            self.future.clear()

    def erase(self):
        """Take everything, or one label, off the shown slice."""
        before = self.state()
        where = list(self.viewer.dims.current_step)
        for axis in self.viewer.dims.displayed:
            where[axis] = slice(None)
        plane = self.labels.data[tuple(where)]
        gone = plane != 0 if self.rng.random() < 0.5 else plane == self.rng.choice([1, 2, 3])
        if gone.any():
            inside = iter(np.nonzero(gone))
            indices = tuple(
                next(inside) if isinstance(i, slice) else np.full(gone.sum(), i) for i in where
            )
            self.labels.data_setitem(indices, 0)
            changed = self.labels.data != before[0]
            self.persons = (self.persons | changed) & (self.labels.data != self.left)
            self.past.append(before)
            self.future.clear()

    def relabel(self):
        """Give an object another label on the shown slice, as the fill bucket does."""
        where = list(self.viewer.dims.current_step)
        for axis in self.viewer.dims.displayed:
            where[axis] = slice(None)
        shown = np.zeros(self.labels.data.shape, bool)
        shown[tuple(where)] = True
        before, old, new = self.state(), *self.rng.sample([1, 2, 3], 2)
        if self.fill(shown & (self.labels.data == old), new):
            changed = self.labels.data != before[0]
            self.persons = (self.persons | changed) & (self.labels.data != self.left)
            self.past.append(before)
            self.future.clear()

    def rename(self):
        """Give an object another label throughout, or none: whose they are does not change."""
        before, old, new = self.state(), *self.rng.sample([1, 2, 3], 2)
        new = self.rng.choice([new, new, 0])
        where = self.labels.data == old
        if self.fill(where, new):
            if new:
                self.left = np.where(where & (self.left == old), new, self.left)
            self.persons = self.persons & (self.labels.data != self.left)
            self.past.append(before)
            self.future.clear()

    def fill(self, where, label):
        if where.any():
            self.labels.data_setitem(np.nonzero(where), label)
        return where.any()

    def move(self):
        axis = self.rng.choice(self.viewer.dims.not_displayed)
        self.viewer.dims.set_current_step(axis, self.rng.randrange(self.labels.data.shape[axis]))

    def run(self):
        self.propagate(lambda: None)

    def stop_midway(self):
        self.engine.pause = 0.01
        self.propagate(lambda: (self.pause(), click(self.qtbot, self.widget.stop)))

    def paint_midway(self):
        """What is painted meanwhile joins the step of the run."""
        self.engine.pause = 0.01
        self.propagate(lambda: (self.pause(), self.stroke(), self.pause(), self.stroke()))
        self.past.clear()
        self.future.clear()

    def hide_midway(self):
        """Look at the image alone, and at another slice of it."""
        self.engine.pause = 0.01
        self.propagate(lambda: (self.pause(), setattr(self.labels, "visible", False), self.move()))
        self.labels.visible = True

    def undo(self):
        if self.past:
            self.future.append(self.state())
            self.labels.undo()
            self.be(self.past.pop())

    def redo(self):
        if self.future:
            self.past.append(self.state())
            self.labels.redo()
            self.be(self.future.pop())

    def say(self):
        loop = self.widget.loop
        self.rng.choice([loop.toggle_checked, loop.toggle_anchor, loop.go_to_next])()

    def end(self):
        """Say that an object has ended: that is a step of undo if it takes anything away."""
        self.labels.selected_label = self.rng.choice([1, 2, 3])
        self.propagate(lambda: None, self.widget.loop.ends)

    def choose(self):
        advanced = self.widget.advanced
        advanced._locked_box.value = self.rng.choice(["", "", "2"])
        advanced._empty_box.value = self.rng.random() < 0.2
        advanced._gone_box.value = self.rng.random() < 0.5
        advanced._confidence_box.value = self.rng.random() < 0.2
        for box in (advanced._objects_box, self.widget.choices._direction_box):
            box.value = self.rng.choice(box.choices)
        if self.labels.ndim == 4:
            series = self.widget.choices._series_box
            series.value = self.rng.choice(series.choices)

    def turn(self):
        order = list(range(self.labels.ndim))
        if self.rng.random() < 0.5:
            self.rng.shuffle(order)
        self.viewer.dims.order = tuple(order)

    def others(self):
        self.labels.name = self.rng.choice(["nuclei", "cells"])
        more = self.viewer.add_labels(np.zeros_like(self.labels.data))
        self.viewer.layers.remove(more)
        self.viewer.layers.selection.active = self.labels

    # ---- what must hold ----

    def propagate(self, meanwhile, button=None):
        before, painted = self.state(), self.persons & (self.labels.data != 0)
        self.meanwhile[:] = -1
        click(self.qtbot, button or self.widget.propagate)
        if self.widget._run is not None:
            meanwhile()
        wait(self.qtbot, lambda: self.widget._run is None)
        self.engine.pause = 0.0
        now, changed = self.labels.data, self.labels.data != before[0]
        fresh = self.meanwhile >= 0
        lost = painted & changed & ~fresh
        lost |= (self.meanwhile > 0) & (now != self.meanwhile)
        assert not lost.any(), np.argwhere(lost)[:5]
        if changed.any():
            self.past.append(before)
            self.future.clear()
            self.persons = (self.persons & ~changed) | fresh
            self.left = np.where(changed & ~fresh, now, self.left)

    def stroke(self):
        before = self.labels.data.copy()
        where = list(self.viewer.dims.current_step)
        for axis in self.viewer.dims.displayed:
            where[axis] = self.rng.randrange(before.shape[axis])
        self.labels.brush_size = self.rng.choice([3, 6, 9])
        with self.labels.block_history():
            self.labels.paint(where, self.rng.choice([0, 1, 1, 2, 3]))
        changed = self.labels.data != before
        self.persons = (self.persons | changed) & (self.labels.data != self.left)
        self.meanwhile[changed] = self.labels.data[changed]
        return changed

    def state(self):
        return self.labels.data.copy(), self.persons, self.left

    def be(self, state):
        np.testing.assert_array_equal(self.labels.data, state[0])
        self.persons, self.left = state[1:]

    def look(self):
        """No slice is said to be drawn by a person on which all is as runs have left it."""
        if "rename" in self.story:
            return  # prompts that show the other label, too, are what makes it a renaming or not
        ledger = Ledger.of(self.labels)
        for walk, record in list(ledger.records.items()):
            for k in ledger.examine_all(self.labels, walk):
                where = walk.at(k)
                painted = self.persons[where] & (self.labels.data[where] != 0)
                assert record.kind[k] != Kind.DRAWN or painted.any(), (walk, k)

    def pause(self):
        self.qtbot.wait(self.rng.choice([5, 20, 50]))


@pytest.mark.parametrize(
    ("seed", "shape"),
    [
        (0, (12, 32, 30)),
        (1, (12, 32, 30)),
        (2, (12, 32, 30)),
        (3, (3, 8, 24, 26)),
        (4, (3, 8, 24, 26)),
    ],
)
def test_whatever_a_monkey_does(seed, shape, qtbot, engine, make_napari_viewer, monkeypatch):
    import imos_core

    wandering = Wandering()
    monkeypatch.setitem(vars(imos_core), "propagate", wandering)
    monkey = Monkey(seed, shape, make_napari_viewer(), wandering, qtbot)
    for _ in range(STEPS):
        try:
            monkey.act()
            monkey.look()
        except AssertionError as error:
            error.add_note(" > ".join(monkey.story))
            raise
