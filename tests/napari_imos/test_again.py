"""What a run leaves after corrections is what it would make of everything, done again."""

from __future__ import annotations

import numpy as np
import pytest
import test_ledger
import test_series
from conftest import FakeEngine, FakeSlice
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel

from imos_core.errors import PromptError
from napari_imos._ends import end_before, goes_on
from napari_imos._engine import Control
from napari_imos._record import said as _said
from napari_imos._record.ledger import Ledger
from napari_imos._series.engine import segment_any
from napari_imos._series.stream import open_any

STEPS, SLICES, SIZE = 4, 6, 8
where = st.tuples(st.integers(0, STEPS - 1), st.integers(0, SLICES - 1))
ids = st.integers(1, 2)
saying = st.one_of(
    st.tuples(st.just("paint"), where, ids, st.integers(0, SIZE - 2)),
    st.tuples(st.just("erase"), where, ids),
    st.tuples(st.just("clear"), where),
    st.tuples(st.sampled_from(["toggle_anchor", "toggle_checked", "release"]), where),
    st.tuples(st.just("end"), where, ids),
    st.tuples(st.just("undo")),
    st.tuples(st.just("stop after"), st.integers(1, 5)),
)
rounds = st.lists(st.lists(saying, max_size=4), min_size=1, max_size=3)


class ByLabel(FakeEngine):
    """Fills each label with what its neighbouring anchors show, as the engine's stretches do."""

    def _slices(self, image, prompts, keywords):
        for k in range(keywords.get("start") or 0, keywords.get("stop") or image.shape[0]):
            labels = np.zeros((SIZE, 2 * SIZE), np.uint8)
            for i in (1, 2):
                shown = [a for a in prompts if (prompts[a] == i).any()]
                for near in (
                    max((a for a in shown if a < k), default=None),
                    min((a for a in shown if a > k), default=None),
                ):
                    if near is not None and i in (keywords.get("labels") or (i,)):
                        labels[prompts[near] == i] = i
            if k in prompts:
                through = keywords.get("through") or {}
                goes = np.isin(labels, [i for i in through if k in through[i]])
                there = np.where(goes & (prompts[k] == 0), labels, prompts[k])
                yield FakeSlice(k, there, "anchor")
            else:
                yield FakeSlice(k, labels, "forward", np.full(labels.shape, 0.9, np.float16))


class Person:
    """Says things of a volume, or of a series of volumes, of which both labels have been painted.

    Parameters
    ----------
    steps : int
        Time steps; 0 for a volume without time.
    """

    def __init__(self, steps):
        shape = ((steps,) if steps else ()) + (SLICES, SIZE, 2 * SIZE)
        self.steps, self.viewer = steps, ViewerModel()
        self.image = self.viewer.add_image(np.random.default_rng(0).random(shape))
        self.labels = self.viewer.add_labels(np.zeros(shape, np.uint8))
        self.viewer.dims.set_current_step(range(len(shape) - 2), (1, 3)[-len(shape) + 2 :])
        plane = self.labels.data[(1, 3) if steps else 3]
        plane[2:5, 2:5], plane[2:5, SIZE + 2 : SIZE + 5] = 1, 2

    def walk(self, step):
        return test_series.walk(step) if self.steps else test_ledger.WALK

    @property
    def may_go_on(self):
        """Whether something is painted, and it would not be a first run, which has other rules."""
        ledger = Ledger.of(self.labels)
        ledger.settle(self.labels)
        return any(record.runs for record in ledger.records.values())

    def run(self, most=None):
        stream, options = open_any(
            self.image, self.labels, self.steps and 1, 0 if self.steps else None, None, {},
            self.viewer,
        )  # fmt: skip
        self.write(stream, options, most)

    def write(self, stream, options, most=None):
        for item in segment_any(stream.job, options, Control()):
            stream.write(item.index, item.labels, 0.9, item.source)
            if stream.slices == most:
                break
        stream.commit()

    def end(self, step, k, label):
        walk = self.walk(step)
        if goes_on(self.labels, walk, k, label):
            return
        try:
            known = Ledger.of(self.labels).anchors(self.labels, walk)
            end = end_before(self.labels, walk, k, label, known)
        except PromptError:
            return
        end.note()
        if end.beyond:
            self.write(end.open_stream(None), {})

    def say(self, what, *about):
        match what, *about:
            case ("undo",):
                self.labels.undo()
                return
            case "stop after", most:
                self.run(most)
                return
        (step, k), *about = about
        plane = self.labels.data[(step, k) if self.steps else k]
        if what in ("paint", "erase", "clear"):
            # as the widget notes that a brush was there
            walk = self.walk(step)
            Ledger.of(self.labels).record(self.labels, walk).painted[k] = True
        match what, *about:
            case "end", i:
                self.end(step, k, i)
            case "paint", i, at:
                plane[at : at + 2, (i - 1) * SIZE + at : (i - 1) * SIZE + at + 2] = i
            case "erase", i:
                plane[plane == i] = 0
            case ("clear",):
                plane[:] = 0
            case (name,):
                getattr(_said, name)(Ledger.of(self.labels), self.labels, self.walk(step), k)


@pytest.mark.parametrize("steps", [0, STEPS])
@pytest.mark.filterwarnings("ignore")
@settings(
    # the same examples everywhere: whoever looks for more takes the line away
    derandomize=True,
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rounds=rounds)
# what was found by looking for more
@example(rounds=[[("clear", (2, 2))], [("clear", (3, 2))]])
@example(rounds=[[("paint", (1, 1), 1, 5)], [("toggle_anchor", (1, 1)), ("stop after", 4)]])
@example(rounds=[[("paint", (1, 2), 2, 6), ("toggle_anchor", (1, 2))]])
@example(
    rounds=[
        [("toggle_anchor", (0, 2)), ("toggle_anchor", (0, 3))],
        [("clear", (0, 3)), ("paint", (0, 0), 1, 0)],
    ]
)
@example(rounds=[[("end", (2, 4), 1), ("end", (1, 5), 2)], [("paint", (1, 5), 2, 3)]])
def test_corrections_are_worked_in_as_if_all_were_done_again(steps, rounds, engine, monkeypatch):
    import imos_core

    monkeypatch.setitem(vars(imos_core), "propagate", ByLabel())
    person = Person(steps)
    person.run()
    for sayings in rounds:
        try:
            for what, *about in sayings:
                person.say(what, *about)
            if not person.may_go_on:
                return
            person.run()
        except PromptError:
            return  # nothing is painted any more
        once = person.labels.data.copy()
        person.run()
        np.testing.assert_array_equal(person.labels.data, once)
