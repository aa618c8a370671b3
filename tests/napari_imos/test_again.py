"""What a run leaves after corrections is what it would make of everything, done again."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import FakeEngine, FakeSlice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from test_ledger import WALK, run

from imos_core.errors import ImosError
from napari_imos._engine import Control, segment
from napari_imos._ledger import Ledger
from napari_imos._stream import open_stream

SLICES, SIZE = 10, 8
slices, ids = st.integers(0, SLICES - 1), st.integers(1, 2)
saying = st.one_of(
    st.tuples(st.just("paint"), slices, ids, st.integers(0, SIZE - 2)),
    st.tuples(st.just("erase"), slices, ids),
    st.tuples(st.just("clear"), slices),
    st.tuples(st.sampled_from(["toggle_anchor", "toggle_checked", "release"]), slices),
    st.tuples(st.just("undo")),
    st.tuples(st.just("stop after"), st.integers(1, 5)),
)


class ByLabel(FakeEngine):
    """Fills each label with what its neighbouring anchors show, as the engine's stretches do."""

    def _slices(self, image, prompts, keywords):
        for k in range(keywords.get("start") or 0, keywords.get("stop") or len(image)):
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
                yield FakeSlice(k, prompts[k].copy(), "anchor")
            else:
                yield FakeSlice(k, labels, "forward", np.full(labels.shape, 0.9, np.float16))


@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(saying, max_size=4), min_size=1, max_size=3))
def test_corrections_are_worked_in_as_if_all_were_done_again(monkeypatch, rounds):
    import imos_core

    monkeypatch.setitem(vars(imos_core), "propagate", ByLabel())
    viewer = ViewerModel()
    image = viewer.add_image(np.random.default_rng(0).random((SLICES, SIZE, 2 * SIZE)))
    labels = viewer.add_labels(np.zeros((SLICES, SIZE, 2 * SIZE), np.uint8))
    viewer.dims.set_point(0, 4)
    labels.data[4, 2:5, 2:5], labels.data[4, 2:5, SIZE + 2 : SIZE + 5] = 1, 2
    scene = viewer, image, labels
    run(scene, None)
    for sayings in rounds:
        for what, *about in sayings:
            say(scene, what, *about)
        ledger = Ledger.of(labels)
        anchors = ledger.anchors(labels, WALK)
        if not labels.data[anchors].any() or not ledger.record(labels, WALK).runs:
            return  # nothing to do, or a first run
        run(scene, None)
        once = labels.data.copy()
        run(scene, None)
        np.testing.assert_array_equal(labels.data, once)


def say(scene, what, *about):
    viewer, image, labels = scene
    ledger = Ledger.of(labels)
    match what, *about:
        case "paint", k, i, at:
            labels.data[k, at : at + 2, (i - 1) * SIZE + at : (i - 1) * SIZE + at + 2] = i
        case "erase", k, i:
            labels.data[k][labels.data[k] == i] = 0
        case "clear", k:
            labels.data[k] = 0
        case ("undo",):
            labels.undo()
        case "stop after", n:
            try:
                stream, options = open_stream(image, labels, 0, None, {}, viewer)
            except ImosError:
                return  # nothing is painted any more
            for item, _ in zip(segment(stream.job, options, Control()), range(n), strict=False):
                stream.write(item.index, item.labels, 0.9, item.source)
            stream.commit()
        case name, k:
            getattr(ledger, name)(labels, WALK, k)
